#include "frame.h"

#include <algorithm>
#include <cstdlib>

namespace irsde::runtime {

namespace {

constexpr std::int64_t MAX_PIXELS = 100'000'000;            // as irsde_deploy/pictures/files.py
constexpr std::int64_t MAX_EXTENT = std::int64_t{1} << 60;  // bytes along one axis: the sum of three is an int64

std::int64_t element_size(const irsde_frame& frame, const Pack& pack, const char* name) {
    const bool known = frame.type == IRSDE_U8 || frame.type == IRSDE_U16 || frame.type == IRSDE_F32;
    if (!known || (pack.latent && frame.type != IRSDE_F32))
        fail(IRSDE_INVALID_VALUE, "%s.type is %d: %s", name, frame.type,
             pack.latent ? "a latent must be IRSDE_F32" : "a picture must be IRSDE_U8, IRSDE_U16 or IRSDE_F32");
    return frame.type == IRSDE_U8 ? 1 : frame.type == IRSDE_U16 ? 2 : 4;
}

/// A stride in elements, of an axis with `count` places; `usual` where the caller leaves it out.
std::int64_t stride(std::int64_t given, std::int64_t usual, std::int64_t element, std::int64_t count, const char* name,
                    const char* which) {
    const std::int64_t bytes = given == 0 ? usual * element : given, limit = MAX_EXTENT / count;
    if (bytes % element != 0 || bytes > limit || bytes < -limit)
        fail(IRSDE_INVALID_VALUE,
             "%s.%s_stride is %lld bytes and must be a multiple of a value's %lld bytes, of at most %lld at this size",
             name, which, static_cast<long long>(bytes), static_cast<long long>(element),
             static_cast<long long>(limit));
    return bytes / element;
}

void require_size(const irsde_frame& frame, const char* name) {
    if (frame.width < 1 || frame.height < 1 || std::int64_t{frame.width} * frame.height > MAX_PIXELS)
        fail(IRSDE_INVALID_VALUE, "%s is %d x %d and must have 1 to %lld pixels", name, frame.width, frame.height,
             static_cast<long long>(MAX_PIXELS));
}

/// Every value has a place of its own: from the smallest stride to the largest, each goes beyond all that lies within.
/// That holds for interleaved pixels, for planes, and for channels that take turns by rows.
void require_no_overlap(const irsde::Layout& layout, const irsde_frame& frame, int channels, const char* name) {
    struct Axis {
        std::int64_t stride, count;
    } axes[] = {{layout.channel, channels}, {layout.pixel, frame.width}, {std::llabs(layout.row), frame.height}};
    std::sort(std::begin(axes), std::end(axes), [](const Axis& a, const Axis& b) { return a.stride < b.stride; });
    bool apart = layout.channel >= 1 && layout.pixel >= 1;
    std::int64_t within = 1;
    for (const Axis& axis : axes) {
        if (axis.count == 1) continue;
        apart = apart && axis.stride >= within;
        within += (axis.count - 1) * axis.stride;
    }
    if (!apart)
        fail(IRSDE_INVALID_VALUE,
             "%s has values that overlap: its strides are too small for %d channels and %d x %d pixels", name, channels,
             frame.width, frame.height);
}

}  // namespace

Frame checked_frame(const irsde_frame* given, const Pack& pack, const char* name) {
    const irsde_frame frame = copied(given, name);
    const std::int64_t element = element_size(frame, pack, name);
    require_size(frame, name);
    if (frame.order != IRSDE_RGB && frame.order != IRSDE_BGR)
        fail(IRSDE_INVALID_VALUE, "%s.order is %d and must be IRSDE_RGB or IRSDE_BGR", name, frame.order);
    if (frame.pixels == nullptr || reinterpret_cast<std::uintptr_t>(frame.pixels) % element != 0)
        fail(IRSDE_INVALID_VALUE, "%s.pixels must point to values of %lld bytes, aligned to as many", name,
             static_cast<long long>(element));
    irsde::Layout layout{};
    layout.channel = stride(frame.channel_stride, 1, element, pack.channels, name, "channel");
    const int usual = layout.channel == 1 ? pack.channels : 1;
    layout.pixel = stride(frame.pixel_stride, usual, element, frame.width, name, "pixel");
    layout.row = stride(frame.row_stride, frame.width * layout.pixel, element, frame.height, name, "row");
    layout.reversed = frame.order == IRSDE_BGR ? 1 : 0;
    require_no_overlap(layout, frame, pack.channels, name);
    layout.margin = pack.margin;
    return {frame.pixels, static_cast<irsde_pixel_type>(frame.type), frame.height, frame.width, layout};
}

}  // namespace irsde::runtime
