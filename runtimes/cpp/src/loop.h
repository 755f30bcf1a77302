// The reverse SDE: a step table executed around a backend, with the kernels that the Python runtime has.
#pragma once

#include <vector>

#include "backend.h"
#include "frame.h"

namespace irsde::runtime {

/// The loop of one handle and its buffers, which are kept from frame to frame. One thread at a time calls it.
class Loop {
public:
    /// threads: of the step's arithmetic; 0: one a core.
    Loop(const Pack& pack, Backend& backend, int threads);

    /// Restore a checked frame into another of the same size, which may be the same memory. Throws Failure, and then
    /// nothing has been written.
    void restore(const Frame& in, const Frame& out, const irsde_run& run);

    /// The noise of a seed for a picture of (height, width) and its margin: step 0 for the initial state, then one field
    /// a step.
    std::vector<float> noise(int height, int width, std::uint64_t seed, std::uint32_t frame, int step) const;

private:
    void set_size(int height, int width);
    void load(const Frame& in);
    void store(const Frame& out) const;
    void require_values(const Frame& in) const;
    void pad(std::vector<float>& padded) const;
    void start(const float* given, irsde::Control& control);
    void step(int k, const float* given, irsde::Control& control);
    template <class Kernel>
    void for_each_four(irsde::Control& control, Kernel kernel) const;
    void require_finite(const irsde::Control& control) const;

    const Pack& pack_;
    Backend& backend_;
    const int threads_;
    irsde::Size size_{};
    irsde::i64 values_ = 0, padded_values_ = 0, fours_ = 0;
    std::vector<float> y_, q_, mu_, x_, mu_in_, eps_;
};

}  // namespace irsde::runtime
