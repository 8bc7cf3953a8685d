// Sums that matrix registers made of f32 in parts (codegen/triple.h) and that are not finite: parts of what
// is infinite, and products of parts, may give what no product of the whole gives. So vectors make them
// again, row after row; the code is reached by such numbers only.
#include "codegen/cpu/emit.h"

// Of any vector in memory: x * 0 is 0 for finite numbers, else NaN.
static sd_ll some_not_finite(sd_emit *E, sd_ll sums, int64_t n) {
  LLVMTypeRef t = sd_emit_vtype(E, E->f32, true);
  sd_ll zero = LLVMConstNull(t), acc = zero;
  sd_emit_carry c;
  sd_emit_loop l;
  int64_t side = n % 4 ? 1 : 4;
  sd_emit_carry_init(E, &c, 1);
  c.v[0] = zero;
  sd_emit_loop_open(E, &l, sd_emit_i64(E, 0), sd_emit_i64(E, n - side), side, true, &c);
  for (int64_t i = 0; i < side; i++) {
    sd_ll at = LLVMBuildAdd(E->b, l.iv, sd_emit_i64(E, i), "");
    acc = sd_emit_fma(E, LLVMBuildLoad2(E->b, t, LLVMBuildGEP2(E->b, t, sums, &at, 1, ""), ""), zero, c.v[0]);
    c.v[0] = acc;
  }
  sd_emit_loop_close(E, &l);
  return sd_emit_any(E, LLVMBuildFCmp(E->b, LLVMRealUNO, c.v[0], c.v[0], ""));
}

void sd_emit_again(sd_emit *E, const sd_expr *r, const sd_axis *row, uint32_t slots) {
  sd_emit_info *x = sd_emit_info_of(E, r);
  LLVMTypeRef t = sd_emit_vtype(E, E->f32, true);
  uint32_t n = sd_emit_coords(E, slots), vectors = n / E->count[sd_emit_bind_of(E, row)->slot];
  sd_ll sums = x->sums, *v = SD_NEW_ARRAY(E->a, sd_ll, n);
  sd_emit_if f;
  sd_emit_if_open(E, &f, some_not_finite(E, sums, n), NULL);
  x->sums = NULL;
  sd_emit_rows *rows = sd_emit_rows_open(E, row);
  sd_emit_reduce_at(E, r, v);
  for (uint32_t i = 0; i < vectors; i++) {
    sd_ll at = LLVMBuildAdd(E->b, LLVMBuildMul(E->b, sd_emit_rows_at(rows), sd_emit_i64(E, vectors), ""),
                            sd_emit_i64(E, i), "");
    LLVMBuildStore(E->b, v[i], LLVMBuildGEP2(E->b, t, sums, &at, 1, ""));
  }
  sd_emit_rows_close(E, rows);
  sd_emit_if_close(E, &f);
  x->sums = sums;
}
