/* Restores a picture with a pack: restore_c FOLDER IN OUT, where IN is a binary PPM (8 bit, "P6") or a colour PFM
 * (float32, "PF"), and OUT becomes the same. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "irsde.h"

typedef struct picture {
    char magic[3];
    char scale[24]; /* as the file has it: a PPM's white value, a PFM's byte order */
    int width, height;
    size_t bytes;
    void* pixels;
} picture;

static int read_picture(const char* path, picture* p) {
    FILE* file = fopen(path, "rb");
    int understood;
    if (!file) return 0;
    understood = fscanf(file, "%2s %d %d %23s", p->magic, &p->width, &p->height, p->scale) == 4 && fgetc(file) != EOF;
    understood = understood && p->width > 0 && p->height > 0 && p->width <= 65536 && p->height <= 65536;
    understood = understood && ((!strcmp(p->magic, "P6") && !strcmp(p->scale, "255")) ||
                                (!strcmp(p->magic, "PF") && p->scale[0] == '-'));
    if (understood) {
        p->bytes = (size_t)p->width * (size_t)p->height * 3 * (p->magic[1] == 'F' ? sizeof(float) : 1);
        p->pixels = malloc(p->bytes);
        understood = p->pixels && fread(p->pixels, 1, p->bytes, file) == p->bytes;
    }
    fclose(file);
    return understood;
}

static int write_picture(const char* path, const picture* p) {
    FILE* file = fopen(path, "wb");
    int written;
    if (!file) return 0;
    fprintf(file, "%s\n%d %d\n%s\n", p->magic, p->width, p->height, p->scale);
    written = fwrite(p->pixels, 1, p->bytes, file) == p->bytes;
    return fclose(file) == 0 && written;
}

/* The picture as irsde wants to be told of it. A PFM begins with the bottom row. */
static irsde_frame frame_of(const picture* p) {
    irsde_frame frame = {0};
    int64_t row = (int64_t)(p->bytes / (size_t)p->height);
    frame.struct_size = sizeof frame;
    frame.width = p->width;
    frame.height = p->height;
    frame.pixels = p->pixels;
    if (p->magic[1] == 'F') {
        frame.type = IRSDE_F32;
        frame.pixels = (char*)p->pixels + row * (p->height - 1);
        frame.row_stride = -row;
    }
    return frame;
}

static int say(const char* what, int code) {
    fprintf(stderr, "restore_c: %s\n", what);
    return code;
}

int main(int count, char** arguments) {
    irsde_handle* handle;
    irsde_frame frame;
    picture p = {0};
    int code = 0;
    if (count != 4) return say("usage: restore_c FOLDER IN OUT", 2);
    if (!read_picture(arguments[2], &p)) return say("IN must be a binary 8-bit PPM or a colour PFM", 1);
    if (irsde_open(arguments[1], NULL, &handle) != IRSDE_OK) {
        free(p.pixels);
        return say(irsde_last_error(NULL), 1);
    }
    frame = frame_of(&p);
    if (irsde_restore(handle, &frame, &frame, NULL) != IRSDE_OK)
        code = say(irsde_last_error(handle), 1);
    else if (!write_picture(arguments[3], &p))
        code = say("OUT cannot be written", 1);
    irsde_close(handle);
    free(p.pixels);
    return code;
}
