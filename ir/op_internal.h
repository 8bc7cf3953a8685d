// Shared by the reader of the operator table and the TEXT bodies.
#pragma once
#include "ir/ops.h"
#include "runtime/base/str.h"

// Parses a TEXT body against the operands and attributes of `op`. NULL after appending a message to `error`.
const void *sd_text_parse(sd_arena *a, const sd_op *op, const char *text, sd_str *error);
// NULL, or the messages about malformed rows.
sard_status *sd_ops_table_error(void);
