/* The header in C89, and what works without a pack. */
#include <stdio.h>
#include <string.h>

#include "irsde.h"

int main(void) {
    irsde_handle* handle = (irsde_handle*)1;
    irsde_status status = irsde_open("/no/such/folder", NULL, &handle);
    if (status != IRSDE_BAD_PACK || handle != NULL) return 1;
    if (strstr(irsde_last_error(NULL), "/no/such/folder: there is no such folder") == NULL) return 2;
    if (irsde_restore(NULL, NULL, NULL, NULL) != IRSDE_INVALID_VALUE) return 3;
    if (irsde_open(NULL, NULL, &handle) != IRSDE_INVALID_VALUE || irsde_open("x", NULL, NULL) == IRSDE_OK) return 4;
    irsde_close(NULL);
    if (irsde_version() != IRSDE_VERSION_MAJOR * 1000 + IRSDE_VERSION_MINOR) return 5;
    printf("ok\n");
    return 0;
}
