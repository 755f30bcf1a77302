// How many threads work, and independent work shared among them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <thread>
#include <vector>

namespace irsde::runtime {

/// What was asked for, else what OMP_NUM_THREADS says; 0 where neither says anything.
inline int wanted_threads(int asked) {
    const char* text = std::getenv("OMP_NUM_THREADS");
    if (asked > 0 || text == nullptr || *text == '\0') return asked;
    char* end = nullptr;
    const long threads = std::strtol(text, &end, 10);
    return *end == '\0' && threads > 0 && threads <= 4096 ? static_cast<int>(threads) : 0;
}

/// Do work(part, first, last) for the parts of 0..count, at most `threads` at a time and of `least` each; returns how
/// many parts there were. `work` must not throw. Where there are no more threads, or no memory for one, the caller's
/// does the rest.
template <class Work>
int in_parallel(int threads, std::int64_t count, std::int64_t least, Work work) {
    const auto parts = static_cast<int>(std::max<std::int64_t>(1, std::min<std::int64_t>(threads, count / least)));
    const auto bound = [=](int part) { return count * part / parts; };
    std::vector<std::thread> helpers;
    helpers.reserve(static_cast<std::size_t>(parts));
    int next = 1;
    try {
        for (; next < parts; ++next) helpers.emplace_back(work, next, bound(next), bound(next + 1));
    } catch (const std::exception&) {  // std::system_error, std::bad_alloc
    }
    work(0, bound(0), bound(1));
    for (int part = next; part < parts; ++part) work(part, bound(part), bound(part + 1));
    for (std::thread& helper : helpers) helper.join();
    return parts;
}

}  // namespace irsde::runtime
