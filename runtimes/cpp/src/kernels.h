// The arithmetic of the loop, which is the Python runtime's own header, as functions.
#pragma once

#define IRSDE_NO_ENTRY_POINTS
#include "irsde_kernels.h"
