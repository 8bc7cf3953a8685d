// Sizes of an artifact: evaluates its DIMS slots.
#pragma once
#include "runtime/artifact_read.h"

// Evaluates every slot from the symbol values sym[n_syms] into out[n_dims]. SARD_E_USAGE when a size overflows or
// divides by zero: the inputs given are too large.
sard_status *sd_dimcode_eval(const sd_art *a, const int64_t *sym, int64_t *out);
// The slots that depend on no symbol: out[i] and known[i] = 1; others 0. SARD_E_MODEL on overflow or division by zero.
sard_status *sd_dimcode_static(const sd_art *a, int64_t *out, uint8_t *known);
