// What runs the network: one class for each library, behind one call.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "irsde.h"
#include "pack.h"

namespace irsde::runtime {

/// A score network (x, mu, t) -> eps on arrays in host memory. One thread at a time calls it.
class Backend {
public:
    virtual ~Backend() = default;

    /// Library, version and device, for people.
    virtual std::string name() const = 0;

    /// A frame begins: mu (1, channels, height, width) float32, height and width multiples of the network's, stays as
    /// it is during the evaluations that follow. It is not looked at where the network does not see it. Throws Failure.
    virtual void begin(const float* mu, int height, int width) = 0;

    /// One evaluation; x and eps are of mu's shape. Throws Failure.
    virtual void evaluate(const float* x, float t, float* eps) = 0;
};

/// The backend that runs a pack's engine. Throws Failure: IRSDE_NOT_AVAILABLE where this build has none for it.
std::unique_ptr<Backend> open_backend(const Pack& pack, const irsde_options& options);

#if defined(IRSDE_WITH_OPENVINO)
std::unique_ptr<Backend> open_openvino(const Pack& pack, int threads);
#endif
#if defined(IRSDE_WITH_TENSORRT)
std::unique_ptr<Backend> open_tensorrt(const Pack& pack, int gpu);
#endif

}  // namespace irsde::runtime
