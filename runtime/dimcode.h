// Sizes of an artifact: evaluates its DIMS slots.
#pragma once
#include <stdbool.h>

#include "runtime/artifact_read.h"

// Evaluates every slot but late ones (NULL: there are none) from the symbol values sym[n_syms] into out[n_dims].
// SARD_E_USAGE when a size overflows or divides by zero: the inputs given are too large.
sard_status *sd_dimcode_eval(const sd_art *a, const int64_t *sym, const uint8_t *late, int64_t *out);
// Slot i from the slots before it (or its symbol); false on overflow or division by zero.
bool sd_dimcode_slot(const sd_art *a, uint32_t i, const int64_t *sym, int64_t *io);
// The slots that depend on a symbol that a step defines: late[i] = 1, others 0. Those get their values during the run.
void sd_dimcode_late(const sd_art *a, uint8_t *late);
// The slots that depend on no symbol: out[i] and known[i] = 1; others 0. SARD_E_MODEL on overflow or division by zero.
sard_status *sd_dimcode_static(const sd_art *a, int64_t *out, uint8_t *known);
