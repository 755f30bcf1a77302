#include "frame.h"

#include <cstdlib>

namespace irsde::runtime {

namespace {

constexpr std::int64_t MAX_PIXELS = 100'000'000;  // as irsde_deploy/images.py
constexpr std::int64_t MAX_STRIDE = std::int64_t{1} << 40;

std::int64_t element_size(const irsde_frame& frame, const Pack& pack, const char* name) {
    const bool known = frame.type == IRSDE_U8 || frame.type == IRSDE_U16 || frame.type == IRSDE_F32;
    if (!known || (pack.latent && frame.type != IRSDE_F32))
        fail(IRSDE_INVALID_VALUE, "%s.type is %d: %s", name, frame.type,
             pack.latent ? "a latent must be IRSDE_F32" : "a picture must be IRSDE_U8, IRSDE_U16 or IRSDE_F32");
    return frame.type == IRSDE_U8 ? 1 : frame.type == IRSDE_U16 ? 2 : 4;
}

/// A stride in elements; `usual` where the caller leaves it out.
std::int64_t stride(std::int64_t given, std::int64_t usual, std::int64_t element, const char* name, const char* which) {
    if (given == 0) return usual;
    if (given % element != 0 || std::llabs(given) > MAX_STRIDE)
        fail(IRSDE_INVALID_VALUE, "%s.%s_stride is %lld bytes and must be a multiple of a value's %lld bytes", name,
             which, static_cast<long long>(given), static_cast<long long>(element));
    return given / element;
}

void require_size(const irsde_frame& frame, const char* name) {
    if (frame.width < 1 || frame.height < 1 || std::int64_t{frame.width} * frame.height > MAX_PIXELS)
        fail(IRSDE_INVALID_VALUE, "%s is %d x %d and must have 1 to %lld pixels", name, frame.width, frame.height,
             static_cast<long long>(MAX_PIXELS));
}

/// Distances smaller than what lies between them are a mistake in the caller's arithmetic.
void require_no_overlap(const irsde::Layout& layout, const irsde_frame& frame, int channels, const char* name) {
    const bool interleaved = layout.channel == 1;
    const std::int64_t a_pixel = interleaved ? channels : 1;
    const std::int64_t a_row = (frame.width - 1) * layout.pixel + a_pixel;
    if (layout.pixel < a_pixel || std::llabs(layout.row) < a_row || layout.channel < 1)
        fail(IRSDE_INVALID_VALUE,
             "%s has pixels or rows that overlap: its strides are too small for %d channels and a width of %d", name,
             channels, frame.width);
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
    layout.channel = stride(frame.channel_stride, 1, element, name, "channel");
    layout.pixel = stride(frame.pixel_stride, layout.channel == 1 ? pack.channels : 1, element, name, "pixel");
    layout.row = stride(frame.row_stride, frame.width * layout.pixel, element, name, "row");
    layout.reversed = frame.order == IRSDE_BGR ? 1 : 0;
    require_no_overlap(layout, frame, pack.channels, name);
    return {frame.pixels, static_cast<irsde_pixel_type>(frame.type), frame.height, frame.width, layout};
}

}  // namespace irsde::runtime
