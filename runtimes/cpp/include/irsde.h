/* irsde: image restoration with mean-reverting SDEs, from a folder that `irsde-deploy pack` wrote.
 *
 *     irsde_handle *handle;
 *     irsde_frame frame = {0};
 *     if (irsde_open("derain.pack", NULL, &handle)) die(irsde_last_error(NULL));
 *     frame.struct_size = sizeof frame;
 *     frame.pixels = pixels;  frame.width = 640;  frame.height = 480;
 *     if (irsde_restore(handle, &frame, &frame, NULL)) die(irsde_last_error(handle));
 *     irsde_close(handle);
 *
 * Every function may be called from any thread. Calls that restore with one handle take turns, so that on_step must not
 * wait for one: called from there on the same handle, irsde_restore and irsde_selftest are IRSDE_INVALID_VALUE. Several
 * handles work side by side. No function throws, exits or prints. Structures start with their size, which the caller
 * sets; fields that are zero have their default, so that later versions can add fields: start from {0}.
 */
#ifndef IRSDE_H
#define IRSDE_H

#include <stddef.h>
#include <stdint.h>

#if defined(IRSDE_STATIC)
#define IRSDE_API
#elif defined(_WIN32)
#if defined(IRSDE_BUILDING)
#define IRSDE_API __declspec(dllexport)
#else
#define IRSDE_API __declspec(dllimport)
#endif
#else
#define IRSDE_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define IRSDE_VERSION_MAJOR 1
#define IRSDE_VERSION_MINOR 0

/* A pack that is open: its engine, step table and buffers. */
typedef struct irsde_handle irsde_handle;

typedef enum irsde_status {
    IRSDE_OK = 0,
    IRSDE_INVALID_VALUE = 1, /* an argument or a pixel is outside what is allowed */
    IRSDE_BAD_PACK = 2,      /* the pack's folder is missing, incomplete or damaged */
    IRSDE_NOT_AVAILABLE = 3, /* this build of the library, or this machine, cannot run the pack's engine */
    IRSDE_ENGINE_FAILED = 4, /* the engine cannot be loaded, or failed while it ran */
    IRSDE_NOT_FINITE = 5,    /* a state became NaN or infinite: the engine is damaged, or its precision too low */
    IRSDE_OUT_OF_MEMORY = 6,
    IRSDE_CANCELLED = 7, /* on_step asked for it */
    IRSDE_MISMATCH = 8,  /* irsde_selftest: the numbers are not the pack's */
    IRSDE_INTERNAL = 9   /* a defect of this library */
} irsde_status;

typedef enum irsde_pixel_type {
    IRSDE_U8 = 0,  /* 0..255 is 0..1 */
    IRSDE_U16 = 1, /* 0..65535 is 0..1, in the machine's byte order */
    IRSDE_F32 = 2  /* 0..1 as it is; a latent's values have no fixed range, and are IRSDE_F32 alone */
} irsde_pixel_type;

typedef enum irsde_channel_order {
    IRSDE_RGB = 0,
    IRSDE_BGR = 1 /* the reverse of what the network takes, whatever its number of channels */
} irsde_channel_order;

/* A picture in the caller's memory. All strides are in bytes and multiples of a value's size; 0 stands for what is
 * usual in an interleaved picture without gaps. Every value has a place of its own: no stride is smaller than what lies
 * within it (a pixel's channels, a row's pixels, a plane's rows, or channels that take turns by rows). */
typedef struct irsde_frame {
    size_t struct_size;
    void* pixels; /* the first value of the top row; what comes in is only read */
    int32_t width, height;
    int32_t type;           /* irsde_pixel_type */
    int32_t order;          /* irsde_channel_order */
    int64_t row_stride;     /* from a row to the one below: negative where the picture is stored bottom row first */
    int64_t pixel_stride;   /* from a pixel to its right neighbour: 4 for 8-bit RGBA, whose alpha is left alone */
    int64_t channel_stride; /* from a channel to the next: a plane's size where channels lie in planes */
} irsde_frame;

typedef struct irsde_options {
    size_t struct_size;
    int32_t threads; /* of the CPU; 0: as OMP_NUM_THREADS says, else one a core */
    int32_t gpu;     /* number of the CUDA device that a plan runs on */
} irsde_options;

/* How one frame is restored; NULL for the pack's seed, frame 0. */
typedef struct irsde_run {
    size_t struct_size;
    int32_t has_seed; /* 1: seed counts; 0: the pack's own */
    uint32_t frame;   /* number of the frame: other frames have other noise; 0 for pictures and for noise that stands */
    uint64_t seed;
    const float* noise; /* standard normals in place of a seed's, (steps + 1) x channels x height x width: first the
                         * initial state's, then one field a step. Where card_json names a margin, height and width are
                         * the frame's and twice as much, since what is around it is restored with it and cut off */
    size_t noise_count; /* how many values; 0 with NULL */
    int (*on_step)(int done, int steps, void* user); /* called after each of the steps; not 0: stop */
    void* user;
} irsde_run;

/* What a pack holds. Texts live as long as the handle. */
typedef struct irsde_description {
    size_t struct_size;
    int32_t channels;
    int32_t multiple_of; /* the network sees pictures padded to multiples of it */
    int32_t steps;       /* network evaluations a frame */
    int32_t stochastic;  /* 1: steps draw noise of their own */
    int32_t latent;      /* 1: works on latents, not on pictures */
    int32_t clip;        /* 1: the predicted picture is kept within 0..1 at each step */
    uint64_t seed;       /* that a run without one of its own uses */
    const char *sampler, *task, *precision;
    const char* engine;    /* library, version and device that run it */
    const char* card_json; /* the model card */
} irsde_description;

typedef struct irsde_selftest_result {
    size_t struct_size;
    double noise_error;  /* largest difference between the seed's noise and the pack's */
    double output_error; /* largest difference between the restored reference and the pack's, relative to the largest
                          * value where that is above 1 */
    double tolerance;    /* what output_error may be */
} irsde_selftest_result;

/* Open a pack. options: NULL for the defaults. *out is NULL where it fails; irsde_last_error(NULL) says why. */
IRSDE_API irsde_status irsde_open(const char* pack_folder, const irsde_options* options, irsde_handle** out);

/* Fill in what the pack holds; the caller sets out->struct_size before. */
IRSDE_API irsde_status irsde_describe(const irsde_handle* handle, irsde_description* out);

/* Restore one frame. `in` and `out` have the same width and height; their types, orders and strides may differ, and
 * they may share their memory. Where it fails nothing is written to out. Restoring is as exact as in Python: the
 * engine's numbers are the only ones that can differ, by the order of float32 additions. */
IRSDE_API irsde_status irsde_restore(irsde_handle* handle, const irsde_frame* in, const irsde_frame* out,
                                     const irsde_run* run);

/* Restore the pack's reference input and compare with its reference output, and the seed's noise with the pack's.
 * result: filled in where both could be compared, also on IRSDE_MISMATCH; may be NULL. */
IRSDE_API irsde_status irsde_selftest(irsde_handle* handle, irsde_selftest_result* result);

/* One sentence about the calling thread's last failed call on this handle (NULL: on none, as irsde_open's): what was
 * wrong, what was expected, what to do. "" where the thread's last failure was on another. Valid until the thread's
 * next failed call. */
IRSDE_API const char* irsde_last_error(const irsde_handle* handle);

/* Give everything back. NULL is allowed; no call with the handle may be under way. */
IRSDE_API void irsde_close(irsde_handle* handle);

/* IRSDE_VERSION_MAJOR * 1000 + IRSDE_VERSION_MINOR of the library. A program runs with a library of the same major
 * number and the same or a higher minor one. */
IRSDE_API int irsde_version(void);

#ifdef __cplusplus
}
#endif

#endif /* IRSDE_H */
