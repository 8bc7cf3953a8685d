// The tree of a TEXT body.
#pragma once
#include "ir/op_internal.h"

typedef enum text_kind {
  TEXT_NUMBER,    // number
  TEXT_BOOL,      // number 0 or 1
  TEXT_LOWEST, TEXT_HIGHEST,
  TEXT_OPERAND,   // index
  TEXT_ATTR,      // index
  TEXT_STRING_IS, // attribute `index` equals `text`
  TEXT_OP,        // op over a[]
  TEXT_CAST,      // a[0] to dtype, or to the type of operand `index`
  TEXT_OPT,       // operand or attribute `index`, a[0] where it is absent
  TEXT_GIVEN, TEXT_COUNT,
  TEXT_FOLD,      // op over the variadic operand `index`
} text_kind;

typedef struct text_node {
  text_kind kind;
  sd_xop op;
  int index;
  bool is_attr, negate;
  sd_dtype dtype;
  double number;
  const char *text;
  struct text_node *a[3];
} text_node;
