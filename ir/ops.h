// Declarations of the functions that the rows of ir/ops.def name, generated from the rows; plus what TEXT bodies need.
#pragma once
#include "ir/op.h"

#define SD_DECL_TEXT(text)
#define SD_DECL_NONE
#define SD_DECL_PULL(fn)    sd_expr *sd_pull_##fn(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx);
#define SD_DECL_NESTS(fn)   sard_status *sd_nests_##fn(sd_tb *b, const sd_node *n);
#define SD_DECL_REWRITE(fn) sard_status *sd_rewrite_##fn(sd_node *n);
#define SD_OP(id, name, sig, attrs, shapefn, kind, body)                                                               \
  sard_status *sd_shape_##shapefn(sd_node *n);                                                                         \
  SD_DECL_##body
#include "ir/ops.def"
#undef SD_OP
#undef SD_DECL_TEXT
#undef SD_DECL_NONE
#undef SD_DECL_PULL
#undef SD_DECL_NESTS
#undef SD_DECL_REWRITE

sard_status *sd_shape_none(sd_node *n);

// Expands the TEXT body of n's row (map = op->map). operands[i] is the element of operand i in its compute type, NULL
// for an omitted one; n_operands = n->n_in. The result has the compute type of n's first output. NULL after sd_tb_fail.
sd_expr *sd_text_expand(sd_tb *b, const sd_node *n, const void *map, sd_expr *const *operands, uint32_t n_operands);
