/* Checks packs, one after another: the folder's path in a line of stdin, `STATUS SENTENCE` in a line of stdout.
 * A program of its own, so that address and undefined-behaviour sanitizers can watch the whole library. */
#include <stdio.h>
#include <string.h>

#include "irsde.h"

static irsde_status check(const char* folder, const char** sentence) {
    irsde_handle* handle;
    irsde_options options = {0};
    irsde_status status;
    static char kept[600];
    options.struct_size = sizeof options;
    options.threads = 1;
    status = irsde_open(folder, &options, &handle);
    if (status != IRSDE_OK) {
        *sentence = irsde_last_error(NULL);
        return status;
    }
    status = irsde_selftest(handle, NULL);
    strncpy(kept, status == IRSDE_OK ? "" : irsde_last_error(handle), sizeof kept - 1);
    *sentence = kept;
    irsde_close(handle);
    return status;
}

int main(void) {
    char folder[4096];
    while (fgets(folder, sizeof folder, stdin) != NULL) {
        const char* sentence = "";
        irsde_status status;
        folder[strcspn(folder, "\n")] = '\0';
        status = check(folder, &sentence);
        printf("%d %s\n", (int)status, sentence);
        fflush(stdout);
    }
    return 0;
}
