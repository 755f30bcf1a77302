#include "selftest.h"

#include <algorithm>
#include <cmath>

namespace irsde::runtime {

namespace {

constexpr double NOISE_TOLERANCE = 1e-6;  // two neighbouring float32 values of the largest size that noise has

/// Largest difference; infinite where one is not a number.
double difference(const float* a, const float* b, std::size_t count) {
    double largest = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const double distance = std::fabs(static_cast<double>(a[i]) - b[i]);
        if (!(distance <= largest)) largest = std::isfinite(distance) ? distance : HUGE_VAL;
    }
    return largest;
}

double largest_value(const std::vector<float>& values) {
    double largest = 0;
    for (const float value : values) largest = std::max(largest, std::fabs(static_cast<double>(value)));
    return largest;
}

}  // namespace

irsde_selftest_result selftest(const Pack& pack, Loop& loop) {
    const int height = pack.reference_height, width = pack.reference_width;
    const std::size_t values = static_cast<std::size_t>(pack.channels) * height * width, fields = pack.steps.size() + 1;
    const std::size_t around_rows = static_cast<std::size_t>(height) + 2 * pack.margin,
                      around_columns = static_cast<std::size_t>(width) + 2 * pack.margin;
    const std::size_t noise_values = static_cast<std::size_t>(pack.channels) * around_rows * around_columns;
    const std::size_t rows = static_cast<std::size_t>(height), columns = static_cast<std::size_t>(width),
                      channels = static_cast<std::size_t>(pack.channels);
    std::vector<float> input = read_array(pack, "reference_input.npy", {rows, columns, channels});
    const std::vector<float> noise =
        read_array(pack, "reference_noise.npy", {fields, channels, around_rows, around_columns});
    const std::vector<float> expected = read_array(pack, "reference_output.npy", {rows, columns, channels});
    irsde_selftest_result result{};
    result.tolerance = pack.tolerance;
    for (std::size_t k = 0; k < fields; ++k) {
        const std::vector<float> drawn = loop.noise(height, width, pack.seed, 0, static_cast<int>(k));
        result.noise_error = std::max(result.noise_error, difference(drawn.data(), &noise[k * noise_values], noise_values));
    }
    irsde_frame given{};
    given.struct_size = sizeof given;
    given.pixels = input.data();
    given.height = height;
    given.width = width;
    given.type = IRSDE_F32;
    const Frame frame = checked_frame(&given, pack, "the reference input");
    irsde_run run{};
    run.noise = noise.data();
    run.noise_count = noise.size();
    try {
        loop.restore(frame, frame, run);
    } catch (const Failure& failure) {
        if (failure.status != IRSDE_INVALID_VALUE) throw;
        fail(IRSDE_BAD_PACK, "%s: %s", shown(pack.folder / "reference_input.npy").c_str(), failure.what());
    }
    const double scale = std::max(1.0, largest_value(expected));
    result.output_error = difference(input.data(), expected.data(), values) / scale;
    return result;
}

void require_match(const irsde_selftest_result& result) {
    if (result.noise_error > NOISE_TOLERANCE)
        fail(IRSDE_MISMATCH, "the seed's noise differs from the pack's by %.3g, which may be %.3g: one is damaged",
             result.noise_error, NOISE_TOLERANCE);
    if (!(result.output_error <= result.tolerance))
        fail(IRSDE_MISMATCH,
             "the restored reference differs from the pack's by %.3g, which may be %.3g: the engine or its library is "
             "not the one that the pack was made with",
             result.output_error, result.tolerance);
}

}  // namespace irsde::runtime
