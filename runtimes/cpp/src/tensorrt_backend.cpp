// TensorRT 10 or later, and TensorRT-RTX: a plan on one GPU. The loop stays on the host, so that x goes to the GPU and
// eps comes back at every step. Written against the API's documentation and tested on a stand-in; no GPU has seen it.
#include <NvInfer.h>
#include <cuda_runtime_api.h>

#include <cstring>
#include <fstream>
#include <mutex>
#include <vector>

#include "backend.h"
#include "failure.h"
#include "kernels.h"

namespace irsde::runtime {

namespace {

constexpr const char* NAME = IRSDE_WITH_TENSORRT;

/// Keeps the last error; nothing of TensorRT's belongs on the host program's output.
class Logger : public nvinfer1::ILogger {
public:
    void log(Severity severity, const char* message) noexcept override {
        if (severity != Severity::kERROR && severity != Severity::kINTERNAL_ERROR) return;
        const std::lock_guard<std::mutex> lock(turn_);
        std::strncpy(message_, message, sizeof message_ - 1);
    }
    std::string last() {
        const std::lock_guard<std::mutex> lock(turn_);
        return message_;
    }

private:
    std::mutex turn_;
    char message_[160] = "";
};

void require(cudaError_t error, const char* what) {
    if (error == cudaSuccess) return;
    const irsde_status status = error == cudaErrorMemoryAllocation ? IRSDE_OUT_OF_MEMORY : IRSDE_ENGINE_FAILED;
    fail(status, "CUDA cannot %s: %s", what, cudaGetErrorString(error));
}

/// The stream that everything is put on.
struct Stream {
    Stream() { require(cudaStreamCreate(&handle), "make a stream"); }
    ~Stream() { cudaStreamDestroy(handle); }
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;
    cudaStream_t handle{};
};

/// Memory of the GPU that grows as needed.
class DeviceBuffer {
public:
    DeviceBuffer() = default;
    DeviceBuffer(const DeviceBuffer&) = delete;
    DeviceBuffer& operator=(const DeviceBuffer&) = delete;
    ~DeviceBuffer() { cudaFree(pointer_); }

    void* of_size(std::size_t bytes) {
        if (bytes > bytes_) {
            cudaFree(pointer_);
            pointer_ = nullptr;
            bytes_ = 0;
            require(cudaMalloc(&pointer_, bytes), "allocate memory");
            bytes_ = bytes;
        }
        return pointer_;
    }

private:
    void* pointer_ = nullptr;
    std::size_t bytes_ = 0;
};

class TensorRtBackend : public Backend {
public:
    TensorRtBackend(const Pack& pack, int gpu) : pack_(pack), gpu_(gpu) {
        require(cudaSetDevice(gpu), "use this GPU");
        stream_ = std::make_unique<Stream>();
        runtime_.reset(nvinfer1::createInferRuntime(logger_));
        require(runtime_ != nullptr, "cannot start");
        const std::vector<char> plan = read_plan();
        engine_.reset(runtime_->deserializeCudaEngine(plan.data(), plan.size()));
        require(engine_ != nullptr, "cannot load the plan, which is for one version of it and one kind of GPU");
        require_tensors();
        context_.reset(engine_->createExecutionContext());
        require(context_ != nullptr, "has no memory for an execution context");
    }

    ~TensorRtBackend() override { cudaSetDevice(gpu_); }  // the members go after this, on their own GPU

    std::string name() const override { return std::string(NAME) + ", GPU " + std::to_string(gpu_); }

    void begin(const float* mu, int height, int width) override {
        require(cudaSetDevice(gpu_), "use this GPU");  // the caller's thread may be another each time
        set_shape(height, width);
        if (pack_.conditional) upload("mu", mu_, mu, values());
    }

    void evaluate(const float* x, float t, float* eps) override {
        require(cudaSetDevice(gpu_), "use this GPU");  // on_step may have chosen another
        upload("x", x_, x, values());
        void* timestep = t_.of_size(sizeof t);
        require(cudaMemcpyAsync(timestep, &t, sizeof t, cudaMemcpyHostToDevice, stream_->handle), "copy to the GPU");
        require(context_->setTensorAddress("t", timestep), "refuses the address of t");
        void* answer = eps_.of_size(values() * element());
        require(context_->setTensorAddress("eps", answer), "refuses the address of eps");
        require(context_->enqueueV3(stream_->handle), "failed");
        download(eps, answer, values());
    }

private:
    void require(bool done, const char* what) {
        if (done) return;
        const std::string why = logger_.last();
        fail(IRSDE_ENGINE_FAILED, "%s: %s %s%s%s%s", shown(pack_.engine()).c_str(), NAME, what, why.empty() ? "" : " (",
             why.c_str(), why.empty() ? "" : ")");
    }
    static void require(cudaError_t error, const char* what) { runtime::require(error, what); }

    std::size_t values() const { return static_cast<std::size_t>(pack_.channels) * height_ * width_; }
    std::size_t element() const { return half_ ? sizeof(irsde::half) : sizeof(float); }

    std::vector<char> read_plan() const {
        std::vector<char> plan(static_cast<std::size_t>(pack_.engine_bytes));
        std::ifstream file(pack_.engine(), std::ios::binary);
        if (!file.read(plan.data(), static_cast<std::streamsize>(plan.size())))
            fail(IRSDE_BAD_PACK, "%s: the file cannot be read: pack the engine again", shown(pack_.engine()).c_str());
        return plan;
    }

    /// Inputs x, mu and t and output eps, all of one type but t, which is float32.
    void require_tensors() {
        int found = 0;
        const auto type = [this](const char* name) { return engine_->getTensorDataType(name); };
        for (int i = 0; i < engine_->getNbIOTensors(); ++i) {
            const std::string name = engine_->getIOTensorName(i);
            const bool input = engine_->getTensorIOMode(name.c_str()) == nvinfer1::TensorIOMode::kINPUT;
            const bool known =
                input ? name == "x" || name == "t" || (name == "mu" && pack_.conditional) : name == "eps";
            found = known ? found + 1 : -100;
        }
        bool fits = found == (pack_.conditional ? 4 : 3) && type("t") == nvinfer1::DataType::kFLOAT;
        if (fits) {
            half_ = type("x") == nvinfer1::DataType::kHALF;
            fits = (half_ || type("x") == nvinfer1::DataType::kFLOAT) && type("eps") == type("x") &&
                   (!pack_.conditional || type("mu") == type("x")) && engine_->getTensorShape("x").nbDims == 4;
        }
        if (!fits)
            fail(IRSDE_BAD_PACK, "%s: the plan must map x%s and t to eps, float32 or float16: pack it again",
                 shown(pack_.engine()).c_str(), pack_.conditional ? ", mu" : "");
    }

    /// Tell the context the size, with the first profile that takes it.
    void set_shape(int height, int width) {
        if (height == height_ && width == width_) return;
        height_ = width_ = 0;
        const nvinfer1::Dims4 shape{1, pack_.channels, height, width};
        require(context_->setOptimizationProfileAsync(profile_for(shape), stream_->handle), "refuses the profile");
        require(cudaStreamSynchronize(stream_->handle), "wait for the GPU");
        bool set = context_->setInputShape("x", shape);
        set = set && (!pack_.conditional || context_->setInputShape("mu", shape));
        nvinfer1::Dims one{};
        one.nbDims = 1;
        one.d[0] = 1;
        require(set && context_->setInputShape("t", one), "refuses the size of this picture");
        height_ = height;
        width_ = width;
    }

    int profile_for(const nvinfer1::Dims4& shape) {
        using nvinfer1::OptProfileSelector;
        for (int i = 0; i < engine_->getNbOptimizationProfiles(); ++i) {
            const nvinfer1::Dims low = engine_->getProfileShape("x", i, OptProfileSelector::kMIN);
            const nvinfer1::Dims high = engine_->getProfileShape("x", i, OptProfileSelector::kMAX);
            bool takes = low.nbDims == 4 && high.nbDims == 4;
            for (int d = 0; d < 4 && takes; ++d) takes = low.d[d] <= shape.d[d] && shape.d[d] <= high.d[d];
            if (takes) return i;
        }
        fail(IRSDE_ENGINE_FAILED, "the plan takes no picture of %d x %d (padded, width x height): build one that does",
             static_cast<int>(shape.d[3]), static_cast<int>(shape.d[2]));
    }

    void upload(const char* name, DeviceBuffer& buffer, const float* values, std::size_t count) {
        void* pointer = buffer.of_size(count * element());
        const void* source = values;
        if (half_) {
            std::vector<irsde::half>& staging = name[0] == 'x' ? x_staging_ : mu_staging_;
            staging.resize(count);
            for (std::size_t i = 0; i < count; ++i) irsde::put(staging.data(), i, values[i]);
            source = staging.data();
        }
        require(cudaMemcpyAsync(pointer, source, count * element(), cudaMemcpyHostToDevice, stream_->handle),
                "copy to the GPU");
        require(context_->setTensorAddress(name, pointer), "refuses an address");
    }

    void download(float* values, const void* pointer, std::size_t count) {
        if (half_) x_staging_.resize(count);  // x has been read by then: the stream works in order
        void* target = half_ ? static_cast<void*>(x_staging_.data()) : values;
        require(cudaMemcpyAsync(target, pointer, count * element(), cudaMemcpyDeviceToHost, stream_->handle),
                "copy from the GPU");
        require(cudaStreamSynchronize(stream_->handle), "finish an evaluation");
        for (std::size_t i = 0; half_ && i < count; ++i) values[i] = irsde::get(x_staging_.data(), i);
    }

    const Pack& pack_;
    const int gpu_;
    bool half_ = false;
    int height_ = 0, width_ = 0;
    Logger logger_;
    std::unique_ptr<Stream> stream_;
    DeviceBuffer x_, mu_, t_, eps_;
    std::vector<irsde::half> x_staging_, mu_staging_;
    std::unique_ptr<nvinfer1::IRuntime> runtime_;
    std::unique_ptr<nvinfer1::ICudaEngine> engine_;
    std::unique_ptr<nvinfer1::IExecutionContext> context_;
};

}  // namespace

std::unique_ptr<Backend> open_tensorrt(const Pack& pack, int gpu) {
    int count = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess || gpu >= count)
        fail(IRSDE_NOT_AVAILABLE, "this pack needs an NVIDIA GPU, and GPU %d is not there: CUDA sees %d", gpu, count);
    return std::make_unique<TensorRtBackend>(pack, gpu);
}

}  // namespace irsde::runtime
