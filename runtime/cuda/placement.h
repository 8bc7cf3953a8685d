// Where the steps of a model run, and what is copied between host and device for that.
#pragma once
#include "runtime/model.h"

// One copy of a buffer in front of a step (SARD_ART_NONE: behind the last one), as a run in the order of the steps makes it:
// bodies of loops once, both ways of branches. `bytes`: dim slot.
typedef struct sd_cu_transfer { uint32_t step, buf, bytes; bool to_device; } sd_cu_transfer;

// All copies, in order. The caller frees *out (sd_free). SARD_E_NOMEM.
sard_status *sd_cu_transfers(const sd_art *a, sd_cu_transfer **out, uint32_t *n);
