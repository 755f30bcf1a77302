// Work shared among threads where there is no memory for the n-th of them: all of it is done, by those that there are.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <vector>

#include "threads.h"

namespace {

std::atomic<int> allocations_left{1 << 30};

}  // namespace

void* operator new(std::size_t size) {
    void* memory = --allocations_left < 0 ? nullptr : std::malloc(size);
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

int main() {
    constexpr int COUNT = 4000, THREADS = 8;
    int failures = 0;
    for (int allowed = 1; allowed < 12; ++allowed) {  // the first is for the list of helpers
        std::vector<int> done(COUNT, 0);
        allocations_left = allowed;
        const int parts = irsde::runtime::in_parallel(THREADS, COUNT, 1, [&done](int part, auto first, auto last) {
            for (auto i = first; i < last; ++i) done[static_cast<std::size_t>(i)] += part + 1;
        });
        allocations_left = 1 << 30;
        int wrong = parts == THREADS ? 0 : 1;
        for (int i = 0; i < COUNT; ++i) wrong += done[static_cast<std::size_t>(i)] != i / (COUNT / THREADS) + 1;
        if (wrong > 0) std::printf("memory for %d allocations: %d values are wrong\n", allowed, wrong), ++failures;
    }
    return failures;
}
