/* The reverse step and what surrounds it: one source for GPUs (NVRTC, nvcc) and CPUs (any C++ compiler).
 *
 * Every kernel has the form name(n, ...) and does n independent pieces of work, a thread each on a GPU and a loop on a
 * CPU. No header is included on the GPU, so that NVRTC needs none. Compile with -fmad=false (GPU) or
 * -ffp-contract=off (CPU): the arithmetic is then NumPy's, operation by operation.
 *
 * Arrays: the state y, its q and mu are float32 (B, C, H, W), the size of the picture with the card's margin around it.
 * What the network sees and gives (x, mu_in, eps) is (B, C, PH, PW), padded on the right and at the bottom, float32 or
 * float16.
 */
#ifndef IRSDE_KERNELS_H
#define IRSDE_KERNELS_H

#if defined(__CUDACC__)
#define IRSDE_FUNCTION static __device__ __forceinline__
#else
#include <cmath>
#include <cstring>
#define IRSDE_FUNCTION static inline
#endif

namespace irsde {

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

struct half {
    u16 bits;
};

/* ---- number types: read as float, written from float ---- */

#if defined(__CUDACC__)
IRSDE_FUNCTION float half_to_float(half h) {
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h.bits));
    return f;
}
IRSDE_FUNCTION half float_to_half(float f) {
    half h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h.bits) : "f"(f));
    return h;
}
#else
IRSDE_FUNCTION float half_to_float(half h) {
    u32 sign = (u32)(h.bits & 0x8000u) << 16, magnitude = h.bits & 0x7fffu;
    float f;
    if (magnitude < 0x0400u) { /* zero and subnormals: units of 2^-24 */
        f = (float)magnitude * 5.9604644775390625e-08f;
        u32 bits;
        std::memcpy(&bits, &f, 4);
        bits |= sign;
        std::memcpy(&f, &bits, 4);
        return f;
    }
    u32 bits = sign | (magnitude >= 0x7c00u ? 0x7f800000u | ((magnitude & 0x3ffu) << 13) : (magnitude << 13) + 0x38000000u);
    std::memcpy(&f, &bits, 4);
    return f;
}
IRSDE_FUNCTION half float_to_half(float f) { /* to nearest, ties to even */
    u32 bits;
    std::memcpy(&bits, &f, 4);
    u32 sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
    half h;
    if (magnitude > 0x7f800000u) {
        h.bits = (u16)(sign | 0x7e00u);
    } else if (magnitude >= 0x477ff000u) { /* rounds to 65536 or more */
        h.bits = (u16)(sign | 0x7c00u);
    } else if (magnitude < 0x38800000u) { /* subnormal: let one float addition round */
        float shifted, half_unit = 0.5f;
        std::memcpy(&shifted, &magnitude, 4);
        shifted += half_unit; /* a unit of the last place of 0.5 is 2^-24 */
        std::memcpy(&bits, &shifted, 4);
        h.bits = (u16)(sign | (bits - 0x3f000000u));
    } else {
        u32 odd = (magnitude >> 13) & 1u;
        h.bits = (u16)(sign | ((magnitude - 0x38000000u + 0x0fffu + odd) >> 13));
    }
    return h;
}
#endif

IRSDE_FUNCTION float get(const float* p, i64 i) { return p[i]; }
IRSDE_FUNCTION float get(const half* p, i64 i) { return half_to_float(p[i]); }
IRSDE_FUNCTION void put(float* p, i64 i, float v) { p[i] = v; }
IRSDE_FUNCTION void put(half* p, i64 i, float v) { p[i] = float_to_half(v); }

IRSDE_FUNCTION float clamp(float v, float low, float high) { /* keeps a NaN */
    return v < low ? low : v > high ? high : v;
}
/* Picture types: 8 and 16 bit hold [0, 1] as 0..max; floating point holds it as it is. */
IRSDE_FUNCTION float get(const u8* p, i64 i) { return (float)p[i] / 255.0f; }
IRSDE_FUNCTION float get(const u16* p, i64 i) { return (float)p[i] / 65535.0f; }
IRSDE_FUNCTION void put(u8* p, i64 i, float v) { p[i] = (u8)rintf(clamp(v, 0.0f, 1.0f) * 255.0f); }
IRSDE_FUNCTION void put(u16* p, i64 i, float v) { p[i] = (u16)rintf(clamp(v, 0.0f, 1.0f) * 65535.0f); }

IRSDE_FUNCTION bool finite(float v) { return v - v == 0.0f; }

/* ---- noise: Philox 4x32-10 and Box-Muller, addressed as irsde_deploy/core/noise.py says ---- */

struct Words {
    u32 w[4];
};

IRSDE_FUNCTION Words philox(u32 c0, u32 c1, u32 c2, u32 c3, u32 k0, u32 k1) {
    for (int round = 0; round < 10; ++round) {
        u64 product0 = (u64)0xD2511F53u * c0, product1 = (u64)0xCD9E8D57u * c2;
        c0 = (u32)(product1 >> 32) ^ c1 ^ k0;
        c2 = (u32)(product0 >> 32) ^ c3 ^ k1;
        c1 = (u32)product1;
        c3 = (u32)product0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    Words words = {{c0, c1, c2, c3}};
    return words;
}

/* Four neighbours in x, from x = 4 * x4: float64, rounded once. */
IRSDE_FUNCTION void normals(float z[4], u32 x4, u32 y, u32 step, u32 channel, u32 frame, u32 seed0, u32 seed1) {
    Words words = philox(x4, y, step * 256u + channel, frame, seed0, seed1);
    for (int i = 0; i < 4; i += 2) {
        double radius = sqrt(-2.0 * log(((double)words.w[i] + 0.5) * 0x1p-32));
        double angle = (double)words.w[i + 1] * (6.283185307179586 * 0x1p-32);
        z[i] = (float)(radius * cos(angle));
        z[i + 1] = (float)(radius * sin(angle));
    }
}

/* ---- addresses ---- */

struct Size {
    int channels, height, width, padded_height, padded_width;
};

/* Work of one thread where noise is drawn: four neighbours in x of one row. */
struct Four {
    i64 entry; /* of the batch */
    int channel, y, x4;
};

IRSDE_FUNCTION Four four(i64 i, const Size& size) {
    int fours = (size.width + 3) / 4;
    Four f;
    f.x4 = (int)(i % fours);
    i /= fours;
    f.y = (int)(i % size.height);
    i /= size.height;
    f.channel = (int)(i % size.channels);
    f.entry = i / size.channels;
    return f;
}

IRSDE_FUNCTION i64 inner(const Four& f, int x, const Size& size) {
    return ((f.entry * size.channels + f.channel) * size.height + f.y) * size.width + x;
}

IRSDE_FUNCTION i64 padded(const Four& f, int x, const Size& size) {
    return ((f.entry * size.channels + f.channel) * size.padded_height + f.y) * size.padded_width + x;
}

/* What a run sets anew: first step whose state was not finite (0: the picture; none: the largest int), seed, frames. */
struct Control {
    int not_finite_at;
    u32 seed0, seed1;
    u32 frames[1];
};

IRSDE_FUNCTION void draw(float z[4], const Four& f, int step, const float* given, const Control* control,
                         const Size& size) {
    if (!given) {
        normals(z, (u32)f.x4, (u32)f.y, (u32)step, (u32)f.channel, control->frames[f.entry], control->seed0,
                control->seed1);
        return;
    }
    for (int j = 0; j < 4 && 4 * f.x4 + j < size.width; ++j) z[j] = given[inner(f, 4 * f.x4 + j, size)];
}

IRSDE_FUNCTION void report_not_finite(Control* control, int step) {
#if defined(__CUDACC__)
    atomicMin(&control->not_finite_at, step);
#else
    if (step < control->not_finite_at) control->not_finite_at = step;
#endif
}

/* ---- the loop ---- */

/* y = start * z_0;  x = y + mu */
template <class Io>
IRSDE_FUNCTION void start_at(i64 i, float* y, Io* x, const float* mu, const float* given, Control* control,
                             const float* start, const Size& size) {
    Four f = four(i, size);
    float z[4];
    draw(z, f, 0, given, control, size);
    for (int j = 0; j < 4 && 4 * f.x4 + j < size.width; ++j) {
        int column = 4 * f.x4 + j;
        i64 at = inner(f, column, size);
        y[at] = *start * z[j];
        if (!finite(y[at] + mu[at])) report_not_finite(control, 0);
        put(x, padded(f, column, size), y[at] + mu[at]);
    }
}

/* One row of a step table: q = p y + r eps;  y' = a y + c eps + d q_prev + s z;  clipped: y' = a_clip y + k q + ... */
struct Row {
    float a, c, d, s, p, r, a_clip, k;
};

/* The fused update of step `step` = 1..N: q, clip, y', and the next x. */
template <class Io>
IRSDE_FUNCTION void step_at(i64 i, float* y, float* q_prev, Io* x, const Io* eps, const float* mu, const float* given,
                            Control* control, const Row* row, int step, int clip, const Size& size) {
    Four f = four(i, size);
    float z[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    if (row->s != 0.0f) draw(z, f, step, given, control, size);
    for (int j = 0; j < 4 && 4 * f.x4 + j < size.width; ++j) {
        int column = 4 * f.x4 + j;
        i64 at = inner(f, column, size), at_padded = padded(f, column, size);
        float e = get(eps, at_padded);
        float q = row->p * y[at] + row->r * e;
        float next;
        if (clip) {
            q = clamp(q, -mu[at], 1.0f - mu[at]);
            next = row->a_clip * y[at] + row->k * q;
        } else {
            next = row->a * y[at] + row->c * e;
        }
        if (row->d != 0.0f) next += row->d * q_prev[at];
        if (row->s != 0.0f) next += row->s * z[j];
        if (!finite(next)) report_not_finite(control, step);
        q_prev[at] = q;
        y[at] = next;
        put(x, at_padded, next + mu[at]);
    }
}

/* Fill what lies beyond (height, width) from what lies within; modes: 0 zero, 1 reflect without the edge, which
 * becomes the edge itself where a side is too short. A thread a padded pixel; those within do nothing. */
IRSDE_FUNCTION int source(int i, int side, int padded_side) {
    if (i < side) return i;
    return side > padded_side - side ? 2 * (side - 1) - i : side - 1;
}

template <class Io>
IRSDE_FUNCTION void pad_at(i64 i, Io* x, int mode, const Size& size) {
    int column = (int)(i % size.padded_width), row = (int)(i / size.padded_width % size.padded_height);
    if (row < size.height && column < size.width) return;
    i64 plane = i / size.padded_width / size.padded_height * size.padded_height;
    if (mode == 0) {
        put(x, i, 0.0f);
        return;
    }
    int y = source(row, size.height, size.padded_height), x0 = source(column, size.width, size.padded_width);
    x[i] = x[(plane + y) * size.padded_width + x0];
}

/* ---- tiles: windows of what the network sees; the padded size of `size` is the whole's ---- */

struct Window {
    int top, left, height, width;
};

/* Where work item i of a window's (B, C, height, width) is in the whole. */
IRSDE_FUNCTION i64 in_whole(i64 i, const Window& window, const Size& size) {
    i64 x = i % window.width, y = i / window.width % window.height, plane = i / window.width / window.height;
    return (plane * size.padded_height + window.top + y) * size.padded_width + window.left + x;
}

template <class Io>
IRSDE_FUNCTION void cut_at(i64 i, const Io* whole, Io* tile, const Window& window, const Size& size) {
    tile[i] = whole[in_whole(i, window, size)];
}

/* whole += weight * tile, with the tile's weights along its rows (height,) and columns (width,). */
template <class Io>
IRSDE_FUNCTION void blend_at(i64 i, const Io* tile, float* whole, const float* rows, const float* columns,
                             const Window& window, const Size& size) {
    i64 at = in_whole(i, window, size);
    float weight = rows[i / window.width % window.height] * columns[i % window.width];
    whole[at] = whole[at] + weight * get(tile, i);
}

IRSDE_FUNCTION void clear_at(i64 i, float* sum) { sum[i] = 0.0f; }
IRSDE_FUNCTION void to_half_at(i64 i, const float* sum, half* eps) { put(eps, i, sum[i]); }

/* ---- pictures: any strides (in elements), channels reversed (BGR) on request, a margin around them ---- */

struct Layout {
    i64 batch, row, pixel, channel;
    int reversed;
    int margin; /* on each side, within the height and width of a Size: the picture is smaller by twice as much */
};

/* The line of a picture that a line around it is mirrored to, again and again where it is far away: core/margin.py. */
IRSDE_FUNCTION i64 mirrored(i64 line, i64 side) {
    if (line >= 0 && line < side) return line;
    if (side == 1) return 0;
    i64 period = 2 * (side - 1), place = line % period;
    if (place < 0) place += period;
    return place < side ? place : period - place;
}

/* Where value i of the state is in the picture. */
IRSDE_FUNCTION i64 in_layout(i64 i, const Layout& layout, const Size& size) {
    i64 x = mirrored(i % size.width - layout.margin, size.width - 2 * layout.margin);
    i64 y = mirrored(i / size.width % size.height - layout.margin, size.height - 2 * layout.margin);
    i64 channel = i / size.width / size.height % size.channels, entry = i / size.width / size.height / size.channels;
    if (layout.reversed) channel = size.channels - 1 - channel;
    return entry * layout.batch + y * layout.row + x * layout.pixel + channel * layout.channel;
}

/* picture -> mu, and the padded input (its inner part) */
template <class T, class Io>
IRSDE_FUNCTION void load_at(i64 i, const T* picture, float* mu, Io* mu_in, const Layout& layout, const Size& size) {
    mu[i] = get(picture, in_layout(i, layout, size));
    i64 x = i % size.width, y = i / size.width % size.height, plane = i / size.width / size.height;
    put(mu_in, (plane * size.padded_height + y) * size.padded_width + x, mu[i]);
}

IRSDE_FUNCTION bool in_margin(i64 i, const Layout& layout, const Size& size) {
    i64 x = i % size.width, y = i / size.width % size.height;
    bool beside = x < layout.margin || x >= size.width - layout.margin;
    return beside || y < layout.margin || y >= size.height - layout.margin;
}

/* mu + y -> picture, without the margin */
template <class T>
IRSDE_FUNCTION void store_at(i64 i, T* picture, const float* mu, const float* y, const Layout& layout,
                             const Size& size) {
    if (in_margin(i, layout, size)) return;
    put(picture, in_layout(i, layout, size), mu[i] + y[i]);
}

}  // namespace irsde

/* ---- entry points: plain C names, scalars and pointers only; C++ that calls the functions above leaves them out ---- */

#if !defined(IRSDE_NO_ENTRY_POINTS)

#if defined(__CUDACC__)
#define IRSDE_KERNEL(name, parameters, body)                                        \
    extern "C" __global__ void name(long long n, IRSDE_UNPACK parameters) {         \
        long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;             \
        if (i < n) body;                                                            \
    }
#elif defined(_WIN32)
#define IRSDE_KERNEL(name, parameters, body)                                                \
    extern "C" __declspec(dllexport) void name(long long n, IRSDE_UNPACK parameters) {      \
        for (long long i = 0; i < n; ++i) body;                                             \
    }
#else
#define IRSDE_KERNEL(name, parameters, body)                            \
    extern "C" void name(long long n, IRSDE_UNPACK parameters) {        \
        for (long long i = 0; i < n; ++i) body;                         \
    }
#endif
#define IRSDE_UNPACK(...) __VA_ARGS__
#define IRSDE_SIZE int channels, int height, int width, int padded_height, int padded_width
#define IRSDE_SIZE_GIVEN irsde::Size{channels, height, width, padded_height, padded_width}
#define IRSDE_LAYOUT long long batch, long long row, long long pixel, long long channel, int reversed, int margin
#define IRSDE_LAYOUT_GIVEN irsde::Layout{batch, row, pixel, channel, reversed, margin}

#define IRSDE_WINDOW int top, int left, int window_height, int window_width
#define IRSDE_WINDOW_GIVEN irsde::Window{top, left, window_height, window_width}

#define IRSDE_LOOP_KERNELS(suffix, Io)                                                                              \
    IRSDE_KERNEL(irsde_start_##suffix,                                                                              \
                 (float* y, Io* x, const float* mu, const float* given, irsde::Control* control,                    \
                  const float* start, IRSDE_SIZE),                                                                  \
                 irsde::start_at(i, y, x, mu, given, control, start, IRSDE_SIZE_GIVEN))                             \
    IRSDE_KERNEL(irsde_step_##suffix,                                                                               \
                 (float* y, float* q_prev, Io* x, const Io* eps, const float* mu, const float* given,               \
                  irsde::Control* control, const irsde::Row* row, int step, int clip, IRSDE_SIZE),                  \
                 irsde::step_at(i, y, q_prev, x, eps, mu, given, control, row, step, clip, IRSDE_SIZE_GIVEN))       \
    IRSDE_KERNEL(irsde_pad_##suffix, (Io* x, int mode, IRSDE_SIZE), irsde::pad_at(i, x, mode, IRSDE_SIZE_GIVEN))    \
    IRSDE_KERNEL(irsde_cut_##suffix, (const Io* whole, Io* tile, IRSDE_WINDOW, IRSDE_SIZE),                         \
                 irsde::cut_at(i, whole, tile, IRSDE_WINDOW_GIVEN, IRSDE_SIZE_GIVEN))                               \
    IRSDE_KERNEL(irsde_blend_##suffix,                                                                              \
                 (const Io* tile, float* sum, const float* rows, const float* columns, IRSDE_WINDOW, IRSDE_SIZE),   \
                 irsde::blend_at(i, tile, sum, rows, columns, IRSDE_WINDOW_GIVEN, IRSDE_SIZE_GIVEN))

#define IRSDE_PICTURE_KERNELS(suffix, T)                                                                            \
    IRSDE_KERNEL(irsde_load_##suffix##_f32, (const T* picture, float* mu, float* mu_in, IRSDE_LAYOUT, IRSDE_SIZE),  \
                 irsde::load_at(i, picture, mu, mu_in, IRSDE_LAYOUT_GIVEN, IRSDE_SIZE_GIVEN))                       \
    IRSDE_KERNEL(irsde_load_##suffix##_f16,                                                                         \
                 (const T* picture, float* mu, irsde::half* mu_in, IRSDE_LAYOUT, IRSDE_SIZE),                       \
                 irsde::load_at(i, picture, mu, mu_in, IRSDE_LAYOUT_GIVEN, IRSDE_SIZE_GIVEN))                       \
    IRSDE_KERNEL(irsde_store_##suffix, (T* picture, const float* mu, const float* y, IRSDE_LAYOUT, IRSDE_SIZE),     \
                 irsde::store_at(i, picture, mu, y, IRSDE_LAYOUT_GIVEN, IRSDE_SIZE_GIVEN))

IRSDE_KERNEL(irsde_clear, (float* sum), irsde::clear_at(i, sum))
IRSDE_KERNEL(irsde_to_half, (const float* sum, irsde::half* eps), irsde::to_half_at(i, sum, eps))
IRSDE_LOOP_KERNELS(f32, float)
IRSDE_LOOP_KERNELS(f16, irsde::half)
IRSDE_PICTURE_KERNELS(u8, irsde::u8)
IRSDE_PICTURE_KERNELS(u16, irsde::u16)
IRSDE_PICTURE_KERNELS(f16, irsde::half)
IRSDE_PICTURE_KERNELS(f32, float)

#endif /* IRSDE_NO_ENTRY_POINTS */

#endif /* IRSDE_KERNELS_H */
