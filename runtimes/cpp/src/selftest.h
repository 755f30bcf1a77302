// A pack compared with what it holds for that: reference input, noise and output.
#pragma once

#include "loop.h"

namespace irsde::runtime {

/// Restore the reference input with the pack's noise, and draw that noise from the seed. Throws Failure.
irsde_selftest_result selftest(const Pack& pack, Loop& loop);

/// Throws Failure (IRSDE_MISMATCH) where the numbers are not the pack's.
void require_match(const irsde_selftest_result& result);

}  // namespace irsde::runtime
