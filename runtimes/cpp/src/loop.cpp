#include "loop.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <thread>

#include "threads.h"

namespace irsde::runtime {

namespace {

constexpr float FLOAT_LIMIT = 2.0f;  // as irsde_deploy/core/pixels.py
constexpr int NEVER = std::numeric_limits<int>::max();
constexpr int MAX_THREADS = 16;
constexpr irsde::i64 LEAST_FOURS = 1 << 13;  // that are worth a thread: about a millisecond of noise

/// A step as the kernel takes it, rounded to float32 once.
/// k and a - k p as StepTable (core/samplers.py) computes them: steps.txt has the six columns that they follow from.
irsde::Row row_of(const Step& step) {
    const double k = step.r != 0 ? step.c / step.r : 0.0;
    const auto f = [](double value) { return static_cast<float>(value); };
    return {f(step.a), f(step.c), f(step.d), f(step.s), f(step.p), f(step.r), f(step.a - k * step.p), f(k)};
}

irsde::Control control_of(const irsde_run& run, const Pack& pack) {
    const std::uint64_t seed = run.has_seed ? run.seed : pack.seed;
    return {NEVER, static_cast<irsde::u32>(seed), static_cast<irsde::u32>(seed >> 32), {run.frame}};
}

/// The size of the state of a picture, which has the margin around it, and of what the network sees of that.
irsde::Size size_for(const Pack& pack, int height, int width) {
    const int rows = height + 2 * pack.margin, columns = width + 2 * pack.margin;
    const auto padded = [m = pack.multiple_of](int side) { return (side + m - 1) / m * m; };
    return {pack.channels, rows, columns, padded(rows), padded(columns)};
}

void require_noise(const irsde_run& run, std::size_t expected, int margin) {
    if (run.has_seed != 0 && run.noise != nullptr)
        fail(IRSDE_INVALID_VALUE, "run has a seed and noise, which is drawn from one: leave one out");
    if (run.has_seed == 0 && run.seed != 0)
        fail(IRSDE_INVALID_VALUE, "run.seed is set and run.has_seed is not: set it to 1, or leave the pack's seed");
    if (run.noise == nullptr) return;
    if (run.noise_count != expected)
        fail(IRSDE_INVALID_VALUE,
             "run.noise_count is %zu and must be %zu: (steps + 1) x channels x height x width values%s", run.noise_count,
             expected, margin > 0 ? ", with the margin around the picture" : "");
    for (std::size_t i = 0; i < expected; ++i)
        if (!irsde::finite(run.noise[i]))
            fail(IRSDE_INVALID_VALUE, "run.noise must be finite, and has NaN or infinite values");
}

}  // namespace

Loop::Loop(const Pack& pack, Backend& backend, int threads)
    : pack_(pack),
      backend_(backend),
      threads_(std::min(MAX_THREADS, threads > 0 ? threads : static_cast<int>(std::thread::hardware_concurrency()))) {}

void Loop::restore(const Frame& in, const Frame& out, const irsde_run& run) {
    set_size(in.height, in.width);
    const int steps = static_cast<int>(pack_.steps.size());
    require_noise(run, static_cast<std::size_t>(steps + 1) * static_cast<std::size_t>(values_), pack_.margin);
    load(in);
    require_values(in);
    irsde::Control control = control_of(run, pack_);
    const auto given = [&](int k) { return run.noise == nullptr ? nullptr : run.noise + k * values_; };
    start(given(0), control);
    backend_.begin(mu_in_.data(), size_.padded_height, size_.padded_width);
    for (int k = 0; k < steps; ++k) {
        backend_.evaluate(x_.data(), static_cast<float>(pack_.steps[k].t), eps_.data());
        step(k, given(k + 1), control);
        require_finite(control);
        if (run.on_step != nullptr && run.on_step(k + 1, steps, run.user) != 0)
            fail(IRSDE_CANCELLED, "stopped by on_step after step %d of %d", k + 1, steps);
    }
    store(out);
}

std::vector<float> Loop::noise(int height, int width, std::uint64_t seed, std::uint32_t frame, int step) const {
    const irsde::Size size = size_for(pack_, height, width);
    std::vector<float> field(static_cast<std::size_t>(pack_.channels) * size.height * size.width);
    const irsde::i64 fours = irsde::i64{pack_.channels} * size.height * ((size.width + 3) / 4);
    for (irsde::i64 i = 0; i < fours; ++i) {
        const irsde::Four f = irsde::four(i, size);
        float z[4];
        irsde::normals(z, f.x4, f.y, step, f.channel, frame, static_cast<irsde::u32>(seed),
                       static_cast<irsde::u32>(seed >> 32));
        for (int j = 0; j < 4 && 4 * f.x4 + j < size.width; ++j) field[irsde::inner(f, 4 * f.x4 + j, size)] = z[j];
    }
    return field;
}

void Loop::set_size(int height, int width) {
    size_ = size_for(pack_, height, width);
    values_ = irsde::i64{size_.channels} * size_.height * size_.width;
    padded_values_ = irsde::i64{size_.channels} * size_.padded_height * size_.padded_width;
    fours_ = irsde::i64{size_.channels} * size_.height * ((size_.width + 3) / 4);
    for (std::vector<float>* state : {&y_, &q_, &mu_}) state->resize(values_);
    for (std::vector<float>* padded : {&x_, &mu_in_, &eps_}) padded->resize(padded_values_);
    std::fill(q_.begin(), q_.end(), 0.0f);
}

void Loop::load(const Frame& in) {
    const auto from = [&](const auto* pixels) {
        for (irsde::i64 i = 0; i < values_; ++i) irsde::load_at(i, pixels, mu_.data(), mu_in_.data(), in.layout, size_);
    };
    if (in.type == IRSDE_U8)
        from(static_cast<const irsde::u8*>(in.pixels));
    else if (in.type == IRSDE_U16)
        from(static_cast<const irsde::u16*>(in.pixels));
    else
        from(static_cast<const float*>(in.pixels));
    pad(mu_in_);
}

void Loop::store(const Frame& out) const {
    const auto to = [&](auto* pixels) {
        for (irsde::i64 i = 0; i < values_; ++i) irsde::store_at(i, pixels, mu_.data(), y_.data(), out.layout, size_);
    };
    if (out.type == IRSDE_U8)
        to(static_cast<irsde::u8*>(out.pixels));
    else if (out.type == IRSDE_U16)
        to(static_cast<irsde::u16*>(out.pixels));
    else
        to(static_cast<float*>(out.pixels));
}

void Loop::require_values(const Frame& in) const {
    if (in.type != IRSDE_F32) return;
    float largest = 0;
    for (const float value : mu_) {
        if (!irsde::finite(value))
            fail(IRSDE_INVALID_VALUE, "the picture has NaN or infinite values: every value must be finite");
        largest = std::max(largest, std::fabs(value));
    }
    if (!pack_.latent && largest > FLOAT_LIMIT)
        fail(IRSDE_INVALID_VALUE,
             "floating-point pictures are in [0, 1], and this one goes to %g: divide by its white value first",
             static_cast<double>(largest));
}

void Loop::pad(std::vector<float>& padded) const {
    if (padded_values_ == values_) return;
    for (irsde::i64 i = 0; i < padded_values_; ++i) irsde::pad_at(i, padded.data(), pack_.reflect ? 1 : 0, size_);
}

/// kernel(i, control) for every four neighbours; each thread has a control of its own, and they are joined afterwards.
template <class Kernel>
void Loop::for_each_four(irsde::Control& control, Kernel kernel) const {
    irsde::Control controls[MAX_THREADS];
    std::fill(std::begin(controls), std::end(controls), control);
    const int parts = in_parallel(threads_, fours_, LEAST_FOURS, [&](int part, irsde::i64 first, irsde::i64 last) {
        for (irsde::i64 i = first; i < last; ++i) kernel(i, &controls[part]);
    });
    for (int part = 0; part < parts; ++part)
        control.not_finite_at = std::min(control.not_finite_at, controls[part].not_finite_at);
}

void Loop::start(const float* given, irsde::Control& control) {
    const auto deviation = static_cast<float>(pack_.start);
    for_each_four(control, [&](irsde::i64 i, irsde::Control* own) {
        irsde::start_at(i, y_.data(), x_.data(), mu_.data(), given, own, &deviation, size_);
    });
    pad(x_);
}

void Loop::step(int k, const float* given, irsde::Control& control) {
    const irsde::Row row = row_of(pack_.steps[k]);
    for_each_four(control, [&](irsde::i64 i, irsde::Control* own) {
        irsde::step_at(i, y_.data(), q_.data(), x_.data(), eps_.data(), mu_.data(), given, own, &row, k + 1,
                       pack_.clip ? 1 : 0, size_);
    });
    pad(x_);
}

void Loop::require_finite(const irsde::Control& control) const {
    if (control.not_finite_at == NEVER) return;
    const int step = control.not_finite_at;
    if (step == 0) fail(IRSDE_INVALID_VALUE, "the picture has NaN or infinite values: every value must be finite");
    const bool half = pack_.precision != "fp32";
    fail(IRSDE_NOT_FINITE, "after step %d of %zu (t = %d) the state is not finite (NaN or infinity), in %s on %s: %s",
         step, pack_.steps.size(), pack_.steps[step - 1].t, pack_.precision.c_str(), backend_.name().c_str(),
         half ? "pack an FP32 engine, or build one with more nodes in FP32" : "the weights or the engine are damaged");
}

}  // namespace irsde::runtime
