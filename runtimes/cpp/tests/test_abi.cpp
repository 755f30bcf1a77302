// The C interface on a real pack: test_abi FOLDER. Numbers are compared with each other here, and with Python's by
// tests/embedding/test_cpp.py.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "irsde.h"

namespace {

int failures = 0;

#define CHECK(condition)                                                          \
    do {                                                                          \
        if (!(condition)) {                                                       \
            std::printf("%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
            ++failures;                                                           \
        }                                                                         \
    } while (false)

constexpr int HEIGHT = 37, WIDTH = 53;
using Floats = std::vector<float>;

template <class Struct>
Struct sized() {
    Struct empty{};
    empty.struct_size = sizeof empty;
    return empty;
}

irsde_frame frame_of(void* pixels, int type = IRSDE_F32, int height = HEIGHT, int width = WIDTH) {
    auto frame = sized<irsde_frame>();
    frame.pixels = pixels;
    frame.type = type;
    frame.height = height;
    frame.width = width;
    return frame;
}

irsde_handle* open(const std::string& folder) {
    irsde_handle* handle = nullptr;
    if (irsde_open(folder.c_str(), nullptr, &handle) != IRSDE_OK) {
        std::printf("cannot open: %s\n", irsde_last_error(nullptr));
        std::exit(1);
    }
    return handle;
}

Floats picture(int height = HEIGHT, int width = WIDTH) {
    Floats pixels(std::size_t{3} * height * width);
    for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = 0.5f + 0.4f * std::sin(0.37f * i);
    return pixels;
}

irsde_run seeded(std::uint64_t seed, std::uint32_t frame = 0) {
    auto run = sized<irsde_run>();
    run.has_seed = 1;
    run.seed = seed;
    run.frame = frame;
    return run;
}

Floats restored(irsde_handle* handle, Floats pixels, const irsde_run& run) {
    const irsde_frame frame = frame_of(pixels.data());
    CHECK(irsde_restore(handle, &frame, &frame, &run) == IRSDE_OK);
    return pixels;
}

bool fails(irsde_handle* handle, irsde_status status, const char* message, const irsde_frame* in,
           const irsde_frame* out, const irsde_run* run = nullptr) {
    const irsde_status found = irsde_restore(handle, in, out, run);
    const bool as_expected = found == status && std::strstr(irsde_last_error(handle), message) != nullptr;
    if (!as_expected) std::printf("status %d: %s\n", found, irsde_last_error(handle));
    return as_expected;
}

void layouts_and_types(irsde_handle* handle) {
    const Floats given = picture();
    const Floats expected = restored(handle, given, seeded(1));
    const irsde_run run = seeded(1);
    // planes of BGR, the rows from the bottom up, with a gap after each row
    constexpr int ROW = WIDTH + 5, PLANE = ROW * HEIGHT;
    Floats planes(std::size_t{3} * PLANE, -7.0f);
    const auto at = [](int y, int x, int c) { return (2 - c) * PLANE + (HEIGHT - 1 - y) * ROW + x; };
    for (int y = 0; y < HEIGHT; ++y)
        for (int x = 0; x < WIDTH; ++x)
            for (int c = 0; c < 3; ++c) planes[at(y, x, c)] = given[(y * WIDTH + x) * 3 + c];
    irsde_frame frame = frame_of(&planes[(HEIGHT - 1) * ROW]);
    frame.order = IRSDE_BGR;
    frame.row_stride = -ROW * 4;
    frame.pixel_stride = 4;
    frame.channel_stride = PLANE * 4;
    CHECK(irsde_restore(handle, &frame, &frame, &run) == IRSDE_OK);
    bool same = true;
    for (int y = 0; y < HEIGHT; ++y)
        for (int x = 0; x < WIDTH; ++x)
            for (int c = 0; c < 3; ++c) same = same && planes[at(y, x, c)] == expected[(y * WIDTH + x) * 3 + c];
    CHECK(same);
    CHECK(std::count(planes.begin(), planes.end(), -7.0f) == 3 * 5 * HEIGHT);
    // float32 in, 8-bit RGBA out: rounded and saturated, alpha left alone
    std::vector<std::uint8_t> rgba(std::size_t{4} * HEIGHT * WIDTH, 99);
    Floats copy = given;
    const irsde_frame in = frame_of(copy.data());
    irsde_frame out = frame_of(rgba.data(), IRSDE_U8);
    out.pixel_stride = 4;
    CHECK(irsde_restore(handle, &in, &out, &run) == IRSDE_OK);
    CHECK(copy == given);
    same = true;
    for (int i = 0; i < HEIGHT * WIDTH; ++i) {
        for (int c = 0; c < 3; ++c) {
            const float value = std::min(1.0f, std::max(0.0f, expected[3 * i + c])) * 255.0f;
            same = same && rgba[4 * i + c] == static_cast<std::uint8_t>(std::rint(value));
        }
        same = same && rgba[4 * i + 3] == 99;
    }
    CHECK(same);
}

void sixteen_bits(irsde_handle* handle) {
    std::vector<std::uint16_t> wide(std::size_t{3} * HEIGHT * WIDTH);
    for (std::size_t i = 0; i < wide.size(); ++i) wide[i] = static_cast<std::uint16_t>(i * 977u);
    Floats same_values(wide.size());
    for (std::size_t i = 0; i < wide.size(); ++i) same_values[i] = wide[i] / 65535.0f;
    const Floats expected = restored(handle, same_values, seeded(1));
    const irsde_frame in = frame_of(wide.data(), IRSDE_U16);
    Floats result(wide.size());
    const irsde_frame out = frame_of(result.data());
    const irsde_run run = seeded(1);
    CHECK(irsde_restore(handle, &in, &out, &run) == IRSDE_OK);
    CHECK(result == expected);
    CHECK(irsde_restore(handle, &in, &in, &run) == IRSDE_OK);
    bool same = true;
    for (std::size_t i = 0; i < wide.size(); ++i)
        same = same && wide[i] == std::rint(std::min(1.0f, std::max(0.0f, expected[i])) * 65535.0f);
    CHECK(same);
}

void seeds_and_noise(irsde_handle* handle, const irsde_description& pack) {
    const Floats given = picture();
    const Floats first = restored(handle, given, seeded(1));
    CHECK(first == restored(handle, given, seeded(1)));
    CHECK(first != restored(handle, given, seeded(2)));
    CHECK(first != restored(handle, given, seeded(1, 1)));
    CHECK(restored(handle, given, sized<irsde_run>()) == restored(handle, given, seeded(pack.seed)));
    Floats noise(given.size() * (pack.steps + 1), 0.25f);
    auto run = sized<irsde_run>();
    run.noise = noise.data();
    run.noise_count = noise.size();
    CHECK(first != restored(handle, given, run));
    Floats pixels = given;
    const irsde_frame frame = frame_of(pixels.data());
    run.has_seed = 1;
    CHECK(fails(handle, IRSDE_INVALID_VALUE, "run has a seed and noise", &frame, &frame, &run));
    run.has_seed = 0;
    run.seed = 1;
    CHECK(fails(handle, IRSDE_INVALID_VALUE, "run.has_seed is not", &frame, &frame, &run));
    run.seed = 0;
    run.noise_count -= 1;
    CHECK(fails(handle, IRSDE_INVALID_VALUE, "run.noise_count is", &frame, &frame, &run));
    run.noise_count += 1;
    noise[5] = std::numeric_limits<float>::infinity();
    CHECK(fails(handle, IRSDE_INVALID_VALUE, "run.noise must be finite", &frame, &frame, &run));
    noise[5] = 3e38f;  // finite, and too large for any network
    noise[6] = -3e38f;
    CHECK(fails(handle, IRSDE_NOT_FINITE, "the state is not finite (NaN or infinity)", &frame, &frame, &run));
    CHECK(pixels == given);
}

void cancelling(irsde_handle* handle, const irsde_description& pack) {
    struct Count {
        static int up(int done, int steps, void* user) {
            static_cast<std::vector<int>*>(user)->push_back(done * 1000 + steps);
            return 0;
        }
        static int stop(int done, int, void*) { return done == 2; }
    };
    Floats pixels = picture();
    const Floats before = pixels;
    const irsde_frame frame = frame_of(pixels.data());
    std::vector<int> calls;
    auto run = sized<irsde_run>();
    run.on_step = Count::stop;
    CHECK(fails(handle, IRSDE_CANCELLED, "stopped by on_step after step 2", &frame, &frame, &run));
    CHECK(pixels == before);
    run.on_step = Count::up;
    run.user = &calls;
    CHECK(irsde_restore(handle, &frame, &frame, &run) == IRSDE_OK);
    CHECK(static_cast<int>(calls.size()) == pack.steps && calls.back() == pack.steps * 1001);
}

void wrong_input(irsde_handle* handle) {
    Floats pixels = picture();
    const Floats before = pixels;
    const irsde_frame good = frame_of(pixels.data());
    const auto refused = [&](const char* message, auto change) {
        irsde_frame bad = good;
        change(bad);
        return fails(handle, IRSDE_INVALID_VALUE, message, &bad, &good);
    };
    CHECK(fails(handle, IRSDE_INVALID_VALUE, "in is NULL", nullptr, &good));
    CHECK(fails(handle, IRSDE_INVALID_VALUE, "out is NULL", &good, nullptr));
    CHECK(refused("in.struct_size is 8", [](irsde_frame& f) { f.struct_size = 8; }));
    CHECK(refused("in is 0 x 37", [](irsde_frame& f) { f.width = 0; }));
    CHECK(refused("in is 53 x -1", [](irsde_frame& f) { f.height = -1; }));
    CHECK(refused("must have 1 to", [](irsde_frame& f) { f.height = f.width = 2147483647; }));
    CHECK(refused("same size", [](irsde_frame& f) { f.width = 52; }));
    CHECK(refused("in.type is 7", [](irsde_frame& f) { f.type = 7; }));
    CHECK(refused("in.order is 2", [](irsde_frame& f) { f.order = 2; }));
    CHECK(refused("in.pixels must point", [](irsde_frame& f) { f.pixels = nullptr; }));
    CHECK(refused("aligned", [](irsde_frame& f) { f.pixels = static_cast<char*>(f.pixels) + 1; }));
    CHECK(refused("in.row_stride is 637", [](irsde_frame& f) { f.row_stride = 637; }));
    CHECK(refused("overlap", [](irsde_frame& f) { f.row_stride = 4; }));
    CHECK(refused("overlap", [](irsde_frame& f) { f.pixel_stride = 4; }));
    CHECK(refused("overlap", [](irsde_frame& f) { f.channel_stride = -4; }));
    constexpr auto LEAST = std::numeric_limits<std::int64_t>::min();
    CHECK(refused("multiple", [](irsde_frame& f) { f.row_stride = std::int64_t{1} << 62; }));
    CHECK(refused("multiple", [](irsde_frame& f) { f.row_stride = LEAST; }));
    CHECK(refused("multiple", [](irsde_frame& f) { f.pixel_stride = LEAST; }));
    CHECK(refused("multiple", [](irsde_frame& f) { f.channel_stride = LEAST; }));
    CHECK(refused("in.pixel_stride is", [](irsde_frame& f) {  // rows of 2^66 bytes
        f.width = 100000000;
        f.height = 1;
        f.pixel_stride = std::int64_t{1} << 40;
    }));
    CHECK(refused("in.row_stride is", [](irsde_frame& f) {  // rows of 2^54 bytes, where none is given
        f.width = f.height = 10000;
        f.pixel_stride = std::int64_t{1} << 46;
    }));
    pixels[100] = std::numeric_limits<float>::quiet_NaN();
    CHECK(fails(handle, IRSDE_INVALID_VALUE, "NaN or infinite values", &good, &good));
    pixels[100] = 255.0f;
    CHECK(fails(handle, IRSDE_INVALID_VALUE, "this one goes to 255", &good, &good));
    pixels[100] = before[100];
    CHECK(pixels == before);
    CHECK(std::strcmp(irsde_last_error(nullptr), "") == 0);  // the last failure was on the handle
    struct {
        irsde_frame frame;
        std::int64_t later;
    } longer{good, 0};
    longer.frame.struct_size = sizeof longer;
    CHECK(irsde_restore(handle, &longer.frame, &longer.frame, nullptr) == IRSDE_OK);
    longer.later = 1;
    CHECK(fails(handle, IRSDE_INVALID_VALUE, "does not know yet", &longer.frame, &longer.frame));
}

/// Strides in values: planes, interleaved channels and channels that take turns by rows fit; what overlaps does not.
void strides(irsde_handle* handle) {
    constexpr int H = 5, W = 7;
    struct Case {
        const char* message;  // nullptr: fits
        int height, width, row, pixel, channel;
    };
    const Case cases[] = {
        {nullptr, H, W, 3 * W, 3, 1},       {nullptr, H, W, W, 1, W * H},
        {nullptr, H, W, 3 * W, 1, W},       {nullptr, H, W, 3 * W + 5, 1, W + 1},
        {nullptr, H, W, 1, H, H * W},       {nullptr, H, 1, 3, 3, 1},
        {nullptr, 1, W, W, 1, W},           {"overlap", 2, 2, 2, 1, 2},
        {"overlap", H, W, 3 * W - 1, 3, 1}, {"overlap", H, W, W, 1, W * H - 1},
        {"overlap", H, W, 3 * W - 1, 1, W}, {"overlap", H, W, 3 * W, 1, W - 1},
        {"overlap", H, W, 3 * W, 2, 1},     {"overlap", H, W, 3 * W, -3, 1},
    };
    Floats given = picture(H, W);
    for (const Case& c : cases) {
        Floats pixels(std::size_t{4} * H * W);
        irsde_frame out = frame_of(pixels.data(), IRSDE_F32, c.height, c.width);
        const irsde_frame in = frame_of(given.data(), IRSDE_F32, c.height, c.width);
        out.row_stride = c.row * 4;
        out.pixel_stride = c.pixel * 4;
        out.channel_stride = c.channel * 4;
        if (c.message != nullptr) {
            CHECK(fails(handle, IRSDE_INVALID_VALUE, c.message, &in, &out));
            continue;
        }
        CHECK(irsde_restore(handle, &in, &out, nullptr) == IRSDE_OK);
        Floats expected = given;
        const irsde_frame usual = frame_of(expected.data(), IRSDE_F32, c.height, c.width);
        CHECK(irsde_restore(handle, &usual, &usual, nullptr) == IRSDE_OK);
        bool same = true;
        for (int i = 0; i < 3 * c.height * c.width; ++i)
            same =
                same && expected[i] == pixels[i / 3 / c.width * c.row + i / 3 % c.width * c.pixel + i % 3 * c.channel];
        CHECK(same);
    }
}

/// on_step may use other handles; its own would be waiting for itself.
void calls_from_on_step(irsde_handle* handle) {
    struct Nested {
        irsde_handle* handle;
        irsde_frame frame;
        int refused;
        static int call(int, int, void* user) {
            auto* nested = static_cast<Nested*>(user);
            nested->refused += fails(nested->handle, IRSDE_INVALID_VALUE, "on_step used the handle that is restoring",
                                     &nested->frame, &nested->frame);
            nested->refused += irsde_selftest(nested->handle, nullptr) == IRSDE_INVALID_VALUE;
            return 0;
        }
    };
    Floats pixels = picture(), others = pixels;
    const Floats expected = restored(handle, pixels, seeded(1));
    const irsde_frame frame = frame_of(pixels.data());
    Nested nested{handle, frame_of(others.data()), 0};
    irsde_run run = seeded(1);
    run.on_step = Nested::call;
    run.user = &nested;
    CHECK(irsde_restore(handle, &frame, &frame, &run) == IRSDE_OK);
    CHECK(pixels == expected && others == picture() && nested.refused >= 4 && nested.refused % 2 == 0);
    CHECK(restored(handle, picture(), seeded(1)) == expected);  // and its turn is over
}

/// A handle at the address of one that another thread closed: its sentence is not the old one's.
void errors_of_closed_handles(const std::string& folder) {
    for (int attempt = 0; attempt < 3; ++attempt) {
        irsde_handle* handle = open(folder);
        CHECK(fails(handle, IRSDE_INVALID_VALUE, "in is NULL", nullptr, nullptr));
        std::thread([&] {
            irsde_close(handle);
            handle = open(folder);
        }).join();
        CHECK(std::strcmp(irsde_last_error(handle), "") == 0);
        irsde_close(handle);
    }
}

void sizes(irsde_handle* handle) {
    for (const auto& [height, width] : {std::pair{1, 1}, {1, 50}, {33, 7}, {37, 53}}) {
        Floats pixels = picture(height, width);
        const irsde_frame frame = frame_of(pixels.data(), IRSDE_F32, height, width);
        CHECK(irsde_restore(handle, &frame, &frame, nullptr) == IRSDE_OK);
        CHECK(std::all_of(pixels.begin(), pixels.end(), [](float value) { return std::isfinite(value); }));
    }
}

/// Several threads on one handle, each with its seed and some with wrong input, and several handles: the same bits.
void threads(irsde_handle* handle, const std::string& folder) {
    constexpr int THREADS = 3;
    const Floats given = picture();
    std::vector<Floats> expected, on_one(THREADS), on_several(THREADS);
    for (int i = 0; i < THREADS; ++i) expected.push_back(restored(handle, given, seeded(i)));
    std::vector<std::string> errors(THREADS);
    const auto work = [&](irsde_handle* shared, Floats& result, int i) {
        result = given;
        irsde_frame frame = frame_of(result.data());
        const irsde_run run = seeded(i);
        irsde_status status = irsde_restore(shared, &frame, &frame, &run);
        if (status != IRSDE_OK) result.clear();
        frame.width = -i;
        irsde_restore(shared, &frame, &frame, &run);
        errors[i] = irsde_last_error(shared);
    };
    std::vector<std::thread> running;
    for (int i = 0; i < THREADS; ++i) running.emplace_back(work, handle, std::ref(on_one[i]), i);
    for (std::thread& thread : running) thread.join();
    for (int i = 0; i < THREADS; ++i)
        CHECK(errors[i].find("in is " + std::to_string(-i) + " x 37") != std::string::npos);  // each thread its own
    running.clear();
    for (int i = 0; i < THREADS; ++i)
        running.emplace_back([&, i] {
            irsde_handle* own = open(folder);
            work(own, on_several[i], i);
            irsde_close(own);
        });
    for (std::thread& thread : running) thread.join();
    CHECK(on_one == expected);
    CHECK(on_several == expected);
}

/// With more threads the same picture, but for the order of the network's additions; each looks for infinities.
void threads_of_the_step(irsde_handle* handle, const irsde_description& pack, const std::string& folder) {
    constexpr int SIDE = 450;  // enough for more parts than there are ever threads
    auto options = sized<irsde_options>();
    options.threads = 32;
    irsde_handle* other = nullptr;
    CHECK(irsde_open(folder.c_str(), &options, &other) == IRSDE_OK);
    Floats results[] = {picture(SIDE, SIDE), picture(SIDE, SIDE)};
    const Floats given = results[0];
    for (int i = 0; i < 2; ++i) {
        const irsde_frame frame = frame_of(results[i].data(), IRSDE_F32, SIDE, SIDE);
        const irsde_run run = seeded(3);
        CHECK(irsde_restore(i == 0 ? handle : other, &frame, &frame, &run) == IRSDE_OK);
    }
    Floats noise(given.size() * (pack.steps + 1), 0.25f);
    noise[given.size() - 1] = 3e38f;  // in the last part
    noise[given.size() - 2] = -3e38f;
    auto run = sized<irsde_run>();
    run.noise = noise.data();
    run.noise_count = noise.size();
    Floats pixels = given;
    const irsde_frame frame = frame_of(pixels.data(), IRSDE_F32, SIDE, SIDE);
    CHECK(fails(other, IRSDE_NOT_FINITE, "after step 1 of", &frame, &frame, &run));
    irsde_close(other);
    CHECK(results[0] != given);
    float largest = 0, difference = 0;
    for (std::size_t i = 0; i < given.size(); ++i) {
        largest = std::max(largest, std::fabs(results[0][i]));
        difference = std::max(difference, std::fabs(results[0][i] - results[1][i]));
    }
    CHECK(difference <= 1e-5f * std::max(1.0f, largest));
}

void description(irsde_handle* handle, irsde_description& pack) {
    pack = sized<irsde_description>();
    CHECK(irsde_describe(handle, &pack) == IRSDE_OK);
    CHECK(pack.struct_size == sizeof pack && pack.channels == 3 && pack.steps > 2 && pack.latent == 0);
    CHECK(std::strchr(pack.card_json, '{') != nullptr && std::strlen(pack.engine) > 5);
    irsde_description wrong{};
    CHECK(irsde_describe(handle, &wrong) == IRSDE_INVALID_VALUE && irsde_describe(handle, nullptr) != IRSDE_OK);
    auto options = sized<irsde_options>();
    options.threads = -1;
    irsde_handle* none = handle;
    CHECK(irsde_open(".", &options, &none) == IRSDE_INVALID_VALUE && none == nullptr);
    CHECK(std::strstr(irsde_last_error(nullptr), "options.threads must be") != nullptr);
}

void selftest(irsde_handle* handle) {
    auto result = sized<irsde_selftest_result>();
    CHECK(irsde_selftest(handle, &result) == IRSDE_OK && irsde_selftest(handle, nullptr) == IRSDE_OK);
    CHECK(result.output_error <= 1e-5 && result.noise_error <= 1e-6 && result.tolerance >= 1e-5);
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 2) return 2;
    irsde_handle* handle = open(arguments[1]);
    irsde_description pack;
    description(handle, pack);
    selftest(handle);
    layouts_and_types(handle);
    sixteen_bits(handle);
    seeds_and_noise(handle, pack);
    cancelling(handle, pack);
    wrong_input(handle);
    strides(handle);
    calls_from_on_step(handle);
    errors_of_closed_handles(arguments[1]);
    sizes(handle);
    threads(handle, arguments[1]);
    threads_of_the_step(handle, pack, arguments[1]);
    irsde_close(handle);
    std::printf(failures == 0 ? "ok\n" : "%d failed\n", failures);
    return failures == 0 ? 0 : 1;
}
