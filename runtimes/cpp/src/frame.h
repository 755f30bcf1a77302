// Pictures in the caller's memory, and the structures that describe them: checked before anything is read.
#pragma once

#include <cstdint>
#include <cstring>

#include "failure.h"
#include "kernels.h"
#include "pack.h"

namespace irsde::runtime {

/// A checked frame, ready for the kernels: strides in elements.
struct Frame {
    void* pixels;
    irsde_pixel_type type;
    int height, width;
    irsde::Layout layout;
};

/// The frame, if the pack's network can take it; `name` is what the caller calls it. Throws Failure.
Frame checked_frame(const irsde_frame* given, const Pack& pack, const char* name);

/// A copy of a caller's structure. One that is longer than this library knows must be zero beyond that.
template <class Struct>
Struct copied(const Struct* given, const char* name) {
    if (given == nullptr) fail(IRSDE_INVALID_VALUE, "%s is NULL: give a structure", name);
    const std::size_t size = given->struct_size;
    if (size < sizeof(Struct) || size > 4096)
        fail(IRSDE_INVALID_VALUE, "%s.struct_size is %zu and must be %zu: start from {0}, then set it to sizeof", name,
             size, sizeof(Struct));
    const auto* bytes = reinterpret_cast<const unsigned char*>(given);
    for (std::size_t at = sizeof(Struct); at < size; ++at)
        if (bytes[at] != 0)
            fail(IRSDE_INVALID_VALUE, "%s has a field that this library does not know yet: install a newer one", name);
    return *given;
}

/// Hand out a structure, as much of it as the caller has room for.
template <class Struct>
void hand_out(Struct filled, Struct* out, const char* name) {
    filled.struct_size = copied(out, name).struct_size;
    std::memcpy(static_cast<void*>(out), &filled, sizeof(Struct));
}

}  // namespace irsde::runtime
