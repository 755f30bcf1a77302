// A stand-in for the part of TensorRT 10's interface that tensorrt_backend.cpp calls. For tests alone: a "plan" is the
// text `stand-in TYPE MIN MAX`, with TYPE float or half and the sides that its two profiles take (MIN..2 MIN and
// MIN..MAX), and its network is eps = x + t mu.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "cuda_runtime_api.h"

namespace nvinfer1 {

enum class DataType : int32_t { kFLOAT = 0, kHALF = 1 };
enum class TensorIOMode : int32_t { kNONE = 0, kINPUT = 1, kOUTPUT = 2 };
enum class OptProfileSelector : int32_t { kMIN = 0, kOPT = 1, kMAX = 2 };

struct Dims {
    int32_t nbDims;
    int64_t d[8];
};
struct Dims4 : Dims {
    Dims4(int64_t d0, int64_t d1, int64_t d2, int64_t d3) : Dims{4, {d0, d1, d2, d3}} {}
};

class ILogger {
public:
    enum class Severity : int32_t { kINTERNAL_ERROR = 0, kERROR = 1, kWARNING = 2, kINFO = 3, kVERBOSE = 4 };
    virtual void log(Severity severity, char const* message) noexcept = 0;
    virtual ~ILogger() = default;
};

class ICudaEngine;

class IExecutionContext {
public:
    explicit IExecutionContext(const ICudaEngine& engine) : engine_(engine) {}
    bool setOptimizationProfileAsync(int32_t profile, cudaStream_t stream) noexcept;
    bool setInputShape(char const* name, Dims const& dims) noexcept;
    bool setTensorAddress(char const* name, void* data) noexcept;
    bool enqueueV3(cudaStream_t stream) noexcept;

private:
    const ICudaEngine& engine_;
    int profile_ = -1;
    std::map<std::string, Dims> shapes_;
    std::map<std::string, void*> addresses_;
};

class ICudaEngine {
public:
    DataType type = DataType::kFLOAT;
    int64_t low = 0, high = 0;
    ILogger* logger = nullptr;

    int32_t getNbIOTensors() const noexcept { return 4; }
    char const* getIOTensorName(int32_t index) const noexcept;
    TensorIOMode getTensorIOMode(char const* name) const noexcept;
    DataType getTensorDataType(char const* name) const noexcept { return *name == 't' ? DataType::kFLOAT : type; }
    Dims getTensorShape(char const* name) const noexcept;
    int32_t getNbOptimizationProfiles() const noexcept { return 2; }
    Dims getProfileShape(char const* name, int32_t profile, OptProfileSelector select) const noexcept;
    IExecutionContext* createExecutionContext() noexcept { return new IExecutionContext(*this); }
};

class IRuntime {
public:
    explicit IRuntime(ILogger& logger) : logger_(logger) {}
    ICudaEngine* deserializeCudaEngine(void const* blob, std::size_t size) noexcept;

private:
    ILogger& logger_;
};

IRuntime* createInferRuntime(ILogger& logger) noexcept;

}  // namespace nvinfer1
