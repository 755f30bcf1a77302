/* A stand-in for NVIDIA's driver library, NOT a GPU: it lets a CPU run the Python that talks to libcuda.so.1.
 *
 * Device memory is host memory, and the kernels are those of irsde_kernels.h compiled for the host; of a cubin only the
 * names inside are looked at. It says nothing about a GPU's arithmetic, speed or races. What it shows is misuse, and it
 * is as strict about that as it cheaply can be:
 *
 * - work on a stream runs as late as a device could: when somebody waits for it;
 * - new memory holds NaN, and its ends are guarded; a use of memory that was given back is ILLEGAL_ADDRESS, also when
 *   the same address was allocated again, which catches graphs that outlive their buffers;
 * - such a fault stays: every later call answers with it, as on a GPU;
 * - a call that a capture forbids spoils the capture;
 * - handles are never used twice, so that a stale one is always known.
 *
 * Each refusal is explained on stderr. One context, and one calling thread at a time.
 */
#include <dlfcn.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "irsde_kernels.h"

namespace {

#define RESULTS(R)                                                                                                 \
    R(INVALID_VALUE, 1) R(NOT_INITIALIZED, 3) R(INVALID_DEVICE, 101) R(INVALID_IMAGE, 200) R(INVALID_CONTEXT, 201)  \
    R(INVALID_HANDLE, 400) R(NOT_FOUND, 500) R(NOT_READY, 600) R(ILLEGAL_ADDRESS, 700) R(MISALIGNED_ADDRESS, 716)   \
    R(STREAM_CAPTURE_UNSUPPORTED, 900) R(STREAM_CAPTURE_INVALIDATED, 901)
#define AS_ENUM(name, code) name = code,
#define AS_PAIR(name, code) {code, "CUDA_ERROR_" #name},
enum Result { SUCCESS = 0, RESULTS(AS_ENUM) };
const std::map<int, const char*> NAMES = {{SUCCESS, "CUDA_SUCCESS"}, RESULTS(AS_PAIR)};

using Address = std::uintptr_t;

/* ---- memory: [guard][what was asked for][guard] ---- */

struct Allocation {
    std::size_t size;
    long long id;
};
std::map<Address, Allocation> memory;
constexpr std::size_t GUARD = 256;
constexpr unsigned char GUARD_BYTE = 0xA5, FRESH_BYTE = 0xFF; /* FF..FF is a NaN in every width */

/* The number of the allocation that holds [address, address + size); 0 where there is none. */
long long owner(Address address, std::size_t size = 1) {
    auto next = memory.upper_bound(address);
    if (next == memory.begin()) return 0;
    auto [start, allocation] = *--next;
    return address - start + size <= allocation.size ? allocation.id : 0;
}

bool guards_intact() {
    for (auto& [start, allocation] : memory)
        for (std::size_t i = 0; i < GUARD; ++i)
            if (((unsigned char*)start)[-1 - (long)i] != GUARD_BYTE ||
                ((unsigned char*)start)[allocation.size + i] != GUARD_BYTE)
                return false;
    return true;
}

/* ---- work, and who holds it ---- */

struct Work {
    std::function<void()> run;
    std::vector<std::pair<Address, long long>> uses; /* device memory, and whose it was when the work was given */
};
struct Stream {
    std::vector<Work> pending, captured;
    bool capturing = false, spoilt = false;
};
using Graph = std::vector<Work>;
struct Event {
    Stream* stream = nullptr;
    bool done = false;
    std::chrono::steady_clock::time_point at;
};
using Module = std::string; /* the image, up to the table of its sections */

/* Handles of one kind; what is taken away is never freed, so that no handle is given twice. */
template <class T>
struct Handles {
    std::set<void*> live;
    T* add(T value) { return (T*)*live.insert(new T(std::move(value))).first; }
    T* find(void* handle) { return live.count(handle) ? (T*)handle : nullptr; }
};
Handles<Stream> streams;
Handles<Graph> graphs, executables;
Handles<Event> events;
Handles<Module> modules;

Stream default_streams[3]; /* handles 0 and 1: the legacy one, as itself; 2: the thread's own */
bool initialized = false;
int retained = 0, fault = SUCCESS;
char context; /* its address is the handle of the one context */
thread_local std::vector<void*> current;

int refuse(int code, const char* function, const char* why) {
    std::fprintf(stderr, "fake libcuda: %s: %s: not so: %s\n", function, NAMES.at(code), why);
    return code;
}
#define REQUIRE(condition, code) \
    if (!(condition)) return refuse(code, __func__, #condition)
#define REQUIRE_CONTEXT()                      \
    REQUIRE(initialized, NOT_INITIALIZED);     \
    REQUIRE(!fault, fault);                    \
    REQUIRE(!current.empty(), INVALID_CONTEXT); \
    REQUIRE(retained > 0, INVALID_CONTEXT)

Stream* stream_of(void* handle) {
    return (Address)handle < 3 ? &default_streams[(Address)handle] : streams.find(handle);
}

/* For calls that no capture may contain: spoils those that are going on. */
bool nobody_captures() {
    bool nobody = true;
    for (void* handle : streams.live) {
        Stream* stream = (Stream*)handle;
        if (stream->capturing) stream->spoilt = true, nobody = false;
    }
    return nobody;
}

void give(Stream* stream, Work work) { (stream->capturing ? stream->captured : stream->pending).push_back(work); }

int finish(Stream* stream) {
    for (Work& work : std::exchange(stream->pending, {})) {
        for (auto& [address, id] : work.uses)
            if (!fault && (!id || owner(address) != id)) fault = refuse(ILLEGAL_ADDRESS, "work", "its memory is live");
        if (!fault) work.run();
        if (!fault && !guards_intact()) fault = refuse(ILLEGAL_ADDRESS, "work", "it writes inside its memory");
    }
    return fault;
}

int finish_everything() {
    for (Stream& stream : default_streams) finish(&stream);
    for (void* stream : streams.live) finish((Stream*)stream);
    return fault;
}

/* ---- kernels: name -> how to unpack the arguments, whose types are those of the header ---- */

/* CU_LAUNCH_PARAM_BUFFER_POINTER (1), buffer, CU_LAUNCH_PARAM_BUFFER_SIZE (2), size, CU_LAUNCH_PARAM_END (0) */
template <class... T>
bool unpack_buffer(void** extra, void** values) {
    if ((Address)extra[0] != 1 || (Address)extra[2] != 2 || extra[4]) return false;
    std::size_t at = 0, i = 0;
    ((at = (at + alignof(T) - 1) / alignof(T) * alignof(T), values[i++] = (char*)extra[1] + at, at += sizeof(T)), ...);
    return at == *(std::size_t*)extra[3];
}

template <class T>
int note(Work& work, T* pointer) { /* what a kernel is not to read is null */
    if (pointer) work.uses.emplace_back((Address)pointer, owner((Address)pointer));
    return (Address)pointer % alignof(T) ? MISALIGNED_ADDRESS : SUCCESS;
}
template <class T>
int note(Work&, T) {
    return SUCCESS;
}

template <class... T, std::size_t... I>
int prepare(void (*kernel)(T...), void** values, unsigned long long threads, Work& work, std::index_sequence<I...>) {
    std::tuple<T...> arguments(*(T*)values[I]...);
    auto n = std::get<0>(arguments);
    REQUIRE(n > 0 && threads >= (unsigned long long)n, INVALID_VALUE);
    int misaligned = SUCCESS;
    ((misaligned |= note(work, std::get<I>(arguments))), ...);
    REQUIRE(!misaligned, MISALIGNED_ADDRESS);
    work.run = [kernel, arguments] { std::apply(kernel, arguments); };
    return SUCCESS;
}

using Binder = std::function<int(void** parameters, void** extra, unsigned long long threads, Work& work)>;

template <class... T>
Binder binder(void (*kernel)(T...)) {
    return [kernel](void** parameters, void** extra, unsigned long long threads, Work& work) {
        void* values[sizeof...(T)];
        REQUIRE(!parameters != !extra, INVALID_VALUE);
        REQUIRE(!extra || unpack_buffer<T...>(extra, values), INVALID_VALUE);
        return prepare(kernel, extra ? values : parameters, threads, work, std::index_sequence_for<T...>());
    };
}

#define KERNEL(name) {#name, binder(name)}
#define LOOP(io)                                                                                  \
    KERNEL(irsde_start_##io), KERNEL(irsde_step_##io), KERNEL(irsde_pad_##io), KERNEL(irsde_cut_##io), \
        KERNEL(irsde_blend_##io)
#define PICTURE(type) \
    KERNEL(irsde_load_##type##_f32), KERNEL(irsde_load_##type##_f16), KERNEL(irsde_store_##type)
const std::map<std::string, Binder> KERNELS = {
    LOOP(f32),    LOOP(f16),    PICTURE(u8),         PICTURE(u16),
    PICTURE(f16), PICTURE(f32), KERNEL(irsde_clear), KERNEL(irsde_to_half)};

}  // namespace

/* ---- the driver's functions, under the names that its header gives them ---- */

extern "C" {

int cuInit(unsigned flags) {
    REQUIRE(flags == 0, INVALID_VALUE);
    initialized = true;
    return SUCCESS;
}
int cuDriverGetVersion(int* version) { return *version = 13000, SUCCESS; }
int cuGetProcAddress_v2(const char* name, void** function, int, unsigned long long, int* status) {
    Dl_info here;
    dladdr((void*)&cuInit, &here);
    void* library = dlopen(here.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    *function = dlsym(library, (std::string(name) + "_v2").c_str());
    if (!*function) *function = dlsym(library, name);
    if (status) *status = *function ? 0 : 1; /* found, or there is no such symbol */
    return *function ? SUCCESS : NOT_FOUND;
}
int cuGetExportTable(const void** table, const void*) { return *table = nullptr, NOT_FOUND; } /* NVRTC asks */
int cuGetErrorName(int code, const char** name) {
    *name = NAMES.count(code) ? NAMES.at(code) : nullptr;
    return *name ? SUCCESS : INVALID_VALUE;
}
int cuGetErrorString(int code, const char** text) { return cuGetErrorName(code, text); }

int cuDeviceGetCount(int* count) { return *count = 1, SUCCESS; }
int cuDeviceGet(int* device, int index) {
    REQUIRE(initialized, NOT_INITIALIZED);
    REQUIRE(index == 0, INVALID_DEVICE);
    return *device = 0, SUCCESS;
}
int cuDeviceGetName(char* name, int size, int) { return std::snprintf(name, size, "a CPU in a GPU's place"), SUCCESS; }
int cuDeviceGetAttribute(int* value, int attribute, int) {
    REQUIRE(attribute == 75 || attribute == 76, INVALID_VALUE); /* compute capability, major and minor */
    return *value = attribute == 75 ? 9 : 0, SUCCESS;
}

int cuDevicePrimaryCtxRetain(void** handle, int device) {
    REQUIRE(initialized, NOT_INITIALIZED);
    REQUIRE(device == 0, INVALID_DEVICE);
    ++retained;
    return *handle = &context, SUCCESS;
}
int cuDevicePrimaryCtxRelease_v2(int) {
    REQUIRE(retained > 0, INVALID_CONTEXT);
    return --retained, SUCCESS;
}
int cuCtxPushCurrent_v2(void* handle) {
    REQUIRE(handle == &context, INVALID_CONTEXT);
    return current.push_back(handle), SUCCESS;
}
int cuCtxPopCurrent_v2(void** handle) {
    REQUIRE(!current.empty(), INVALID_CONTEXT);
    if (handle) *handle = current.back();
    return current.pop_back(), SUCCESS;
}
int cuCtxSetCurrent(void* handle) { /* in place of the topmost */
    if (!current.empty()) current.pop_back();
    return handle ? cuCtxPushCurrent_v2(handle) : SUCCESS;
}

int cuMemAlloc_v2(Address* pointer, std::size_t size) {
    REQUIRE_CONTEXT();
    REQUIRE(size > 0, INVALID_VALUE);
    REQUIRE(nobody_captures(), STREAM_CAPTURE_UNSUPPORTED);
    static long long count = 0;
    *pointer = (Address)std::aligned_alloc(GUARD, (size + 3 * GUARD - 1) / GUARD * GUARD) + GUARD;
    std::memset((void*)(*pointer - GUARD), GUARD_BYTE, size + 2 * GUARD);
    std::memset((void*)*pointer, FRESH_BYTE, size);
    memory[*pointer] = {size, ++count};
    return SUCCESS;
}
int cuMemFree_v2(Address pointer) { /* waits for everything first, as the driver does */
    REQUIRE_CONTEXT();
    REQUIRE(memory.count(pointer), INVALID_VALUE);
    REQUIRE(nobody_captures(), STREAM_CAPTURE_UNSUPPORTED);
    int result = finish_everything();
    std::memset((void*)pointer, FRESH_BYTE, memory.at(pointer).size);
    memory.erase(pointer);
    std::free((void*)(pointer - GUARD));
    return result;
}

static int copy(Address device, std::size_t size, void* stream, std::function<void()> run) {
    REQUIRE_CONTEXT();
    REQUIRE(stream_of(stream), INVALID_HANDLE);
    REQUIRE(owner(device, size), INVALID_VALUE);
    return give(stream_of(stream), {run, {{device, owner(device)}}}), SUCCESS;
}
int cuMemcpyHtoDAsync_v2(Address to, const void* from, std::size_t size, void* stream) {
    REQUIRE(from, INVALID_VALUE);
    return copy(to, size, stream, [=] { std::memcpy((void*)to, from, size); });
}
int cuMemcpyDtoHAsync_v2(void* to, Address from, std::size_t size, void* stream) {
    REQUIRE(to, INVALID_VALUE);
    return copy(from, size, stream, [=] { std::memcpy(to, (void*)from, size); });
}

int cuStreamCreate(void** stream, unsigned flags) {
    REQUIRE_CONTEXT();
    REQUIRE(flags <= 1, INVALID_VALUE);
    return *stream = streams.add({}), SUCCESS;
}
int cuStreamDestroy_v2(void* stream) {
    REQUIRE_CONTEXT();
    REQUIRE(streams.find(stream), INVALID_HANDLE);
    finish((Stream*)stream);
    return streams.live.erase(stream), SUCCESS;
}
int cuStreamSynchronize(void* stream) {
    REQUIRE_CONTEXT();
    REQUIRE(stream_of(stream), INVALID_HANDLE);
    REQUIRE(!stream_of(stream)->capturing || nobody_captures(), STREAM_CAPTURE_UNSUPPORTED);
    return finish(stream_of(stream));
}
int cuStreamBeginCapture_v2(void* stream, int mode) {
    REQUIRE_CONTEXT();
    REQUIRE(streams.find(stream), STREAM_CAPTURE_UNSUPPORTED); /* the default stream cannot be captured */
    REQUIRE(mode >= 0 && mode <= 2 && !streams.find(stream)->capturing, INVALID_VALUE);
    streams.find(stream)->capturing = true;
    return SUCCESS;
}
int cuStreamEndCapture(void* stream, void** graph) {
    REQUIRE_CONTEXT();
    REQUIRE(streams.find(stream) && streams.find(stream)->capturing, INVALID_VALUE);
    Stream ended = std::exchange(*streams.find(stream), {streams.find(stream)->pending, {}});
    *graph = nullptr;
    REQUIRE(!ended.spoilt, STREAM_CAPTURE_INVALIDATED);
    return *graph = graphs.add(ended.captured), SUCCESS;
}

int cuGraphInstantiateWithFlags(void** executable, void* graph, unsigned long long) {
    REQUIRE_CONTEXT();
    REQUIRE(graphs.find(graph), INVALID_VALUE);
    return *executable = executables.add(*graphs.find(graph)), SUCCESS;
}
int cuGraphDestroy(void* graph) {
    REQUIRE_CONTEXT();
    REQUIRE(graphs.live.erase(graph), INVALID_VALUE);
    return SUCCESS;
}
int cuGraphLaunch(void* executable, void* stream) {
    REQUIRE_CONTEXT();
    REQUIRE(executables.find(executable), INVALID_VALUE);
    REQUIRE(stream_of(stream), INVALID_HANDLE);
    for (Work& work : *executables.find(executable)) give(stream_of(stream), work);
    return SUCCESS;
}
int cuGraphExecDestroy(void* executable) {
    REQUIRE_CONTEXT();
    REQUIRE(executables.live.erase(executable), INVALID_VALUE);
    return SUCCESS;
}

int cuEventCreate(void** event, unsigned) {
    REQUIRE_CONTEXT();
    return *event = events.add({}), SUCCESS;
}
int cuEventDestroy_v2(void* event) {
    REQUIRE_CONTEXT();
    REQUIRE(events.live.erase(event), INVALID_HANDLE);
    return SUCCESS;
}
int cuEventRecord(void* handle, void* stream) {
    REQUIRE_CONTEXT();
    Event* event = events.find(handle);
    REQUIRE(event && stream_of(stream), INVALID_HANDLE);
    *event = {stream_of(stream), false, {}};
    give(event->stream, {[event] { event->done = true, event->at = std::chrono::steady_clock::now(); }, {}});
    return SUCCESS;
}
int cuEventSynchronize(void* event) {
    REQUIRE_CONTEXT();
    REQUIRE(events.find(event), INVALID_HANDLE);
    return events.find(event)->stream ? finish(events.find(event)->stream) : SUCCESS;
}
int cuEventElapsedTime_v2(float* milliseconds, void* start, void* end) {
    REQUIRE_CONTEXT();
    Event *first = events.find(start), *second = events.find(end);
    REQUIRE(first && second && first->stream && second->stream, INVALID_HANDLE);
    REQUIRE(first->done && second->done, NOT_READY);
    *milliseconds = std::chrono::duration<float, std::milli>(second->at - first->at).count();
    return SUCCESS;
}

int cuModuleLoadData(void** module, const void* image) {
    REQUIRE_CONTEXT();
    REQUIRE(image && std::memcmp(image, "\x7f" "ELF", 4) == 0, INVALID_IMAGE);
    const char* elf = (const char*)image;
    return *module = modules.add(Module(elf, *(const unsigned long long*)(elf + 40))), SUCCESS;
}
int cuModuleLoadDataEx(void** module, const void* image, unsigned, void*, void*) {
    return cuModuleLoadData(module, image);
}
int cuModuleUnload(void* module) {
    REQUIRE_CONTEXT();
    REQUIRE(modules.live.erase(module), INVALID_HANDLE);
    return SUCCESS;
}
int cuModuleGetFunction(void** function, void* module, const char* name) {
    REQUIRE_CONTEXT();
    REQUIRE(modules.find(module), INVALID_HANDLE);
    REQUIRE(KERNELS.count(name), NOT_FOUND);
    REQUIRE(modules.find(module)->find(std::string(name) + '\0') != std::string::npos, NOT_FOUND);
    return *function = (void*)&*KERNELS.find(name), SUCCESS;
}
int cuFuncSetBlockShape(void*, int, int, int) { return SUCCESS; } /* PyCUDA's, of no effect on cuLaunchKernel */
int cuLaunchKernel(void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                   unsigned block_y, unsigned block_z, unsigned, void* stream, void** parameters, void** extra) {
    REQUIRE_CONTEXT();
    REQUIRE(function && stream_of(stream), INVALID_HANDLE);
    REQUIRE(grid_x && block_x && block_x <= 1024 && grid_x <= 0x7fffffffu, INVALID_VALUE);
    REQUIRE(grid_y == 1 && grid_z == 1 && block_y == 1 && block_z == 1, INVALID_VALUE); /* ours count along x */
    Work work;
    auto* kernel = (decltype(KERNELS)::value_type*)function;
    int result = kernel->second(parameters, extra, (unsigned long long)grid_x * block_x, work);
    return result ? result : (give(stream_of(stream), work), SUCCESS);
}

}  // extern "C"
