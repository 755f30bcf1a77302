#include "NvInfer.h"

#include <cstdio>
#include <cstdlib>
#include <sstream>

#define IRSDE_NO_ENTRY_POINTS
#include "irsde_kernels.h"

struct stand_in_stream {};

namespace {

/// Bytes that went to the GPU; at the program's end they are in the file that IRSDE_STAND_IN_UPLOADS names. Of the
/// two libraries that are made of this file one does the copies.
struct Uploads {
    size_t bytes = 0;
    ~Uploads() {
        const char* path = std::getenv("IRSDE_STAND_IN_UPLOADS");
        std::FILE* file = path == nullptr || bytes == 0 ? nullptr : std::fopen(path, "w");
        if (file == nullptr) return;
        std::fprintf(file, "%zu", bytes);
        std::fclose(file);
    }
} uploads;

}  // namespace

extern "C" {
const char* cudaGetErrorString(cudaError_t) { return "of the stand-in"; }
cudaError_t cudaGetDeviceCount(int* count) {
    *count = 1;
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaStreamCreate(cudaStream_t* stream) {
    *stream = new stand_in_stream;
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    delete stream;
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaMalloc(void** pointer, size_t bytes) {
    *pointer = std::malloc(bytes);
    return *pointer == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
}
cudaError_t cudaFree(void* pointer) {
    std::free(pointer);
    return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t) {
    if (kind == cudaMemcpyHostToDevice) uploads.bytes += bytes;
    std::memcpy(to, from, bytes);
    return cudaSuccess;
}
}

namespace nvinfer1 {

namespace {

constexpr const char* NAMES[] = {"x", "mu", "t", "eps"};

template <class Io>
void network(const void* x, const void* mu, float t, void* eps, int64_t count) {
    for (int64_t i = 0; i < count; ++i)
        irsde::put(static_cast<Io*>(eps), i,
                   irsde::get(static_cast<const Io*>(x), i) + t * irsde::get(static_cast<const Io*>(mu), i));
}

}  // namespace

bool IExecutionContext::setOptimizationProfileAsync(int32_t profile, cudaStream_t) noexcept {
    profile_ = profile;
    shapes_.clear();
    return true;
}

bool IExecutionContext::setInputShape(char const* name, Dims const& dims) noexcept {
    shapes_[name] = dims;
    if (dims.nbDims == 1) return true;
    const Dims low = engine_.getProfileShape(name, profile_, OptProfileSelector::kMIN);
    const Dims high = engine_.getProfileShape(name, profile_, OptProfileSelector::kMAX);
    for (int i = 2; i < 4; ++i)
        if (dims.d[i] < low.d[i] || dims.d[i] > high.d[i]) return false;
    return true;
}

bool IExecutionContext::setTensorAddress(char const* name, void* data) noexcept {
    addresses_[name] = data;
    return data != nullptr;
}

bool IExecutionContext::enqueueV3(cudaStream_t) noexcept {
    if (shapes_.size() != 3 || addresses_.size() != 4) {
        engine_.logger->log(ILogger::Severity::kERROR, "shapes or addresses are missing");
        return false;
    }
    const Dims& shape = shapes_["x"];
    const int64_t count = shape.d[0] * shape.d[1] * shape.d[2] * shape.d[3];
    const float t = *static_cast<const float*>(addresses_["t"]);
    const auto compute = engine_.type == DataType::kHALF ? network<irsde::half> : network<float>;
    compute(addresses_["x"], addresses_["mu"], t, addresses_["eps"], count);
    return true;
}

char const* ICudaEngine::getIOTensorName(int32_t index) const noexcept { return NAMES[index]; }

TensorIOMode ICudaEngine::getTensorIOMode(char const* name) const noexcept {
    return *name == 'e' ? TensorIOMode::kOUTPUT : TensorIOMode::kINPUT;
}

Dims ICudaEngine::getTensorShape(char const*) const noexcept { return Dims4{-1, 3, -1, -1}; }

Dims ICudaEngine::getProfileShape(char const*, int32_t profile, OptProfileSelector select) const noexcept {
    const int64_t top = profile == 0 ? 2 * low : high;
    return select == OptProfileSelector::kMIN ? Dims4{1, 3, low, low} : Dims4{1, 3, top, top};
}

ICudaEngine* IRuntime::deserializeCudaEngine(void const* blob, std::size_t size) noexcept {
    std::istringstream text(std::string(static_cast<const char*>(blob), size));
    std::string word, type;
    auto engine = std::make_unique<ICudaEngine>();
    if (!(text >> word >> type >> engine->low >> engine->high) || word != "stand-in") {
        logger_.log(ILogger::Severity::kERROR, "this is no plan");
        return nullptr;
    }
    engine->type = type == "half" ? DataType::kHALF : DataType::kFLOAT;
    engine->logger = &logger_;
    return engine.release();
}

IRuntime* createInferRuntime(ILogger& logger) noexcept { return new IRuntime(logger); }

}  // namespace nvinfer1
