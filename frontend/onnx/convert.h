// ONNX models of f32 written with f16 or bf16 where pass `precision` would have them: the same rules, as far
// as ONNX has the operators. Bodies keep their types, and inputs and outputs unless it is asked for, all values their names.
#pragma once
#include "frontend/onnx/packed.h"
#include "passes/precision/precision.h"

// Where nodes could be of type `to` from a later opset on: *src becomes the model raised to it, in `a`, and
// *opset says to which. 0: it stays as it is. One that cannot be raised does, too, and *why tells what is in
// the way (NULL: nothing).
sard_status *sd_convert_raise(sd_arena *a, sard_source *src, sd_dtype to, int64_t *opset, const char **why);
// Adds a choice of F32 to `p` for each node that ONNX has no form of p->to for.
sard_status *sd_convert_limits(sd_arena *a, const sard_source *src, sd_precision *p);
// The same for nodes of the main graph whose name is `pattern` or matches it; *found: how many did.
sard_status *sd_convert_keep(sd_arena *a, const sard_source *src, const char *pattern, sd_precision *p,
                             uint32_t *found);
// The model, in `a`. *nodes: what became of the nodes of the main graph. *io: how many inputs and outputs
// became narrow, too; NULL: they keep their types.
sard_status *sd_convert_write(sd_arena *a, const sard_source *src, const sd_precision *p,
                              sd_precision_report *nodes, uint32_t *io, const sd_packed **out);
// The model with inputs and outputs of f32 narrow, all else as it is. *io: how many.
sard_status *sd_convert_ends(sd_arena *a, const sard_source *src, sd_dtype to, uint32_t *io, const sd_packed **out);
