/* Checks a pack in one call: irsde_selftest FOLDER.
 * Exit codes, as irsde-deploy's: 0 equal, 3 not equal, 2 wrong use, 1 anything else. */
#include <stdio.h>

#include "irsde.h"

int main(int count, char** arguments) {
    irsde_handle* handle;
    irsde_description pack = {0};
    irsde_selftest_result result = {0};
    irsde_status status;
    if (count != 2) {
        fprintf(stderr, "usage: irsde_selftest FOLDER\n");
        return 2;
    }
    if (irsde_open(arguments[1], NULL, &handle) != IRSDE_OK) {
        fprintf(stderr, "irsde_selftest: %s\n", irsde_last_error(NULL));
        return 1;
    }
    pack.struct_size = sizeof pack;
    result.struct_size = sizeof result;
    irsde_describe(handle, &pack);
    status = irsde_selftest(handle, &result);
    if (status == IRSDE_OK || status == IRSDE_MISMATCH)
        printf("%s: %s, %d steps: largest error %.3g (%.3g is allowed), of the noise %.3g\n", pack.engine, pack.sampler,
               (int)pack.steps, result.output_error, result.tolerance, result.noise_error);
    if (status != IRSDE_OK) fprintf(stderr, "irsde_selftest: %s\n", irsde_last_error(handle));
    irsde_close(handle);
    return status == IRSDE_OK ? 0 : status == IRSDE_MISMATCH ? 3 : 1;
}
