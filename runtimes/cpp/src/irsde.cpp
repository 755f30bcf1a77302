// The C boundary: no exception crosses it, and each failed call leaves a sentence for its thread.
#include "irsde.h"

#include <atomic>
#include <cmath>
#include <cstring>
#include <mutex>
#include <new>
#include <thread>

#include "backend.h"
#include "failure.h"
#include "frame.h"
#include "loop.h"
#include "selftest.h"
#include "threads.h"

using irsde::runtime::Backend;
using irsde::runtime::copied;
using irsde::runtime::fail;
using irsde::runtime::Failure;
using irsde::runtime::Frame;
using irsde::runtime::Loop;
using irsde::runtime::Pack;

namespace {

/// Tells handles apart, also those that had the same address one after the other; 0 is none.
std::uint64_t next_serial() {
    static std::atomic<std::uint64_t> last{0};
    return ++last;
}

}  // namespace

struct irsde_handle {
    irsde_handle(Pack read, const irsde_options& options)
        : pack(std::move(read)),
          backend(irsde::runtime::open_backend(pack, options)),
          backend_name(backend->name()),
          loop(pack, *backend, irsde::runtime::wanted_threads(options.threads)) {}

    const std::uint64_t serial = next_serial();
    const Pack pack;
    const std::unique_ptr<Backend> backend;
    const std::string backend_name;
    Loop loop;
    std::mutex turn;
    std::atomic<std::thread::id> owner{};  // the thread whose turn it is
};

namespace {

/// The calling thread's last failure: on which handle, and what. Of fixed size, so that it can always be kept.
struct Last {
    std::uint64_t serial;
    char sentence[512];
};
thread_local Last last{};

std::uint64_t serial_of(const irsde_handle* handle) { return handle == nullptr ? 0 : handle->serial; }

irsde_status remember(const irsde_handle* handle, irsde_status status, const char* sentence) noexcept {
    last.serial = serial_of(handle);
    std::strncpy(last.sentence, sentence, sizeof last.sentence - 1);
    return status;
}

template <class Call>
irsde_status guarded(const irsde_handle* handle, Call call) noexcept {
    try {
        call();
        return IRSDE_OK;
    } catch (const Failure& failure) {
        return remember(handle, failure.status, failure.what());
    } catch (const std::bad_alloc&) {
        return remember(handle, IRSDE_OUT_OF_MEMORY, "there is not enough memory: use smaller pictures");
    } catch (const std::length_error&) {
        return remember(handle, IRSDE_OUT_OF_MEMORY, "there is not enough memory: use smaller pictures");
    } catch (const std::exception& error) {
        return remember(handle, IRSDE_INTERNAL, error.what());
    } catch (...) {
        return remember(handle, IRSDE_INTERNAL, "something went wrong inside the library: please report it");
    }
}

void require_handle(const irsde_handle* handle) {
    if (handle == nullptr) fail(IRSDE_INVALID_VALUE, "the handle is NULL: open a pack with irsde_open first");
}

/// A call's turn with a handle; the others wait. A call from on_step would wait for itself.
class Turn {
public:
    explicit Turn(irsde_handle& handle) : handle_(handle) {
        if (handle.owner.load() == std::this_thread::get_id())
            fail(IRSDE_INVALID_VALUE, "on_step used the handle that is restoring: open another one for that");
        handle.turn.lock();
        handle.owner.store(std::this_thread::get_id());
    }
    ~Turn() {
        handle_.owner.store({});
        handle_.turn.unlock();
    }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

private:
    irsde_handle& handle_;
};

}  // namespace

namespace irsde::runtime {

std::unique_ptr<Backend> open_backend(const Pack& pack, const irsde_options& options) {
    (void)options;  // where there is no backend at all
#if defined(IRSDE_WITH_OPENVINO)
    if (pack.backend == "openvino") return open_openvino(pack, wanted_threads(options.threads));
#endif
#if defined(IRSDE_WITH_TENSORRT)
    if (pack.backend == IRSDE_WITH_TENSORRT) return open_tensorrt(pack, options.gpu);
#endif
    fail(IRSDE_NOT_AVAILABLE, "this pack needs %s, which this library was built without: build it with that",
         pack.backend.c_str());
}

}  // namespace irsde::runtime

irsde_status irsde_open(const char* pack_folder, const irsde_options* options, irsde_handle** out) {
    if (out != nullptr) *out = nullptr;
    return guarded(nullptr, [&] {
        if (pack_folder == nullptr || *pack_folder == '\0' || out == nullptr)
            fail(IRSDE_INVALID_VALUE, "irsde_open needs the folder of a pack, and where to put the handle");
        const irsde_options settings = options == nullptr ? irsde_options{} : copied(options, "options");
        if (settings.threads < 0 || settings.threads > 4096 || settings.gpu < 0)
            fail(IRSDE_INVALID_VALUE, "options.threads must be 0 to 4096 and options.gpu 0 or above, not %d and %d",
                 settings.threads, settings.gpu);
        *out = new irsde_handle(irsde::runtime::read_pack(pack_folder), settings);
    });
}

irsde_status irsde_describe(const irsde_handle* handle, irsde_description* out) {
    return guarded(handle, [&] {
        require_handle(handle);
        const Pack& pack = handle->pack;
        irsde_description filled{};
        filled.channels = pack.channels;
        filled.multiple_of = pack.multiple_of;
        filled.steps = static_cast<int32_t>(pack.steps.size());
        filled.stochastic = pack.stochastic() ? 1 : 0;
        filled.latent = pack.latent ? 1 : 0;
        filled.clip = pack.clip ? 1 : 0;
        filled.seed = pack.seed;
        filled.sampler = pack.sampler.c_str();
        filled.task = pack.task.c_str();
        filled.precision = pack.precision.c_str();
        filled.engine = handle->backend_name.c_str();
        filled.card_json = pack.card_json.c_str();
        irsde::runtime::hand_out(filled, out, "out");
    });
}

irsde_status irsde_restore(irsde_handle* handle, const irsde_frame* in, const irsde_frame* out, const irsde_run* run) {
    return guarded(handle, [&] {
        require_handle(handle);
        const Frame source = irsde::runtime::checked_frame(in, handle->pack, "in");
        const Frame target = irsde::runtime::checked_frame(out, handle->pack, "out");
        if (source.width != target.width || source.height != target.height)
            fail(IRSDE_INVALID_VALUE, "in is %d x %d and out is %d x %d: they must have the same size", source.width,
                 source.height, target.width, target.height);
        const irsde_run settings = run == nullptr ? irsde_run{} : copied(run, "run");
        const Turn turn(*handle);
        handle->loop.restore(source, target, settings);
    });
}

irsde_status irsde_selftest(irsde_handle* handle, irsde_selftest_result* result) {
    return guarded(handle, [&] {
        require_handle(handle);
        if (result != nullptr) copied(result, "result");
        irsde_selftest_result found{};
        {
            const Turn turn(*handle);
            found = irsde::runtime::selftest(handle->pack, handle->loop);
        }
        if (result != nullptr) irsde::runtime::hand_out(found, result, "result");
        irsde::runtime::require_match(found);
    });
}

const char* irsde_last_error(const irsde_handle* handle) {
    return last.sentence[0] != '\0' && last.serial == serial_of(handle) ? last.sentence : "";
}

void irsde_close(irsde_handle* handle) {
    if (handle != nullptr && last.serial == handle->serial) last = Last{};
    delete handle;
}

int irsde_version(void) { return IRSDE_VERSION_MAJOR * 1000 + IRSDE_VERSION_MINOR; }
