// The option "precision": a type, or a plan that says it node by node.
#pragma once
#include "passes/precision/precision.h"

// "f32", "tf32" (sets *tf32), "f16", "bf16", "@FILE", or a plan's text, which begins with '{'. *out: NULL for
// f32 and tf32, else in `a`. Errors: SARD_E_USAGE, SARD_E_MODEL for a plan that is malformed.
sard_status *sd_precision_read(sd_arena *a, const char *text, bool *tf32, const sd_precision **out);
// The plan as text: what sd_precision_read takes.
void sd_precision_print(const sd_precision *p, sd_str *out);
