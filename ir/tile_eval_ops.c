// Instructions of the reference interpreter: one loop over the lanes per operation and type.
#include <math.h>

#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#pragma GCC optimize("O3") // the loops over lanes are to be vectorized
#endif
#include "ir/tile_eval_priv.h"
#include "runtime/base/half.h"

// X(tag, C type)
#define INT_TYPES(X) X(I8, int8_t) X(I16, int16_t) X(I32, int32_t) X(I64, int64_t) X(U8, uint8_t) X(U16, uint16_t)     \
  X(U32, uint32_t) X(U64, uint64_t)
#define FLOAT_TYPES(X) X(F32, float) X(F64, double)
#define BOOL_TYPE(X) X(BOOL, uint8_t)

#define REG(T, r) ((T *)sd_vm_reg(v, (r)))
// The count in a local: stores of bytes could otherwise change v->n. A result register is never an operand.
#define EACH_LANE for (uint32_t l = 0, lanes = v->n; l < lanes; l++)

// Integer arithmetic in uint64_t: wraps without undefined behaviour, the store to T truncates.
#define BIN(name, tag, T, R, expr)                                                                                     \
  static void name##_##tag(sd_vm *v, const sd_inst *i) {                                                               \
    const T *px = REG(T, i->x), *py = REG(T, i->y);                                                                    \
    R *restrict d = REG(R, i->dst);                                                                                    \
    EACH_LANE { T x = px[l], y = py[l]; d[l] = (R)(expr); }                                                            \
  }
#define INT_BIN(tag, T)                                                                                                \
  BIN(add, tag, T, T, (uint64_t)x + (uint64_t)y)                                                                       \
  BIN(sub, tag, T, T, (uint64_t)x - (uint64_t)y)                                                                       \
  BIN(mul, tag, T, T, (uint64_t)x * (uint64_t)y)
#define FLOAT_BIN(tag, T)                                                                                              \
  BIN(add, tag, T, T, x + y) BIN(sub, tag, T, T, x - y) BIN(mul, tag, T, T, x * y) BIN(div, tag, T, T, x / y)          \
  BIN(min, tag, T, T, x != x || y != y ? x + y : x < y ? x : y)                                                        \
  BIN(max, tag, T, T, x != x || y != y ? x + y : x > y ? x : y)
#define ORDER_BIN(tag, T) BIN(min, tag, T, T, x < y ? x : y) BIN(max, tag, T, T, x > y ? x : y)
#define BIT_BIN(tag, T) BIN(and, tag, T, T, x & y) BIN(or, tag, T, T, x | y) BIN(xor, tag, T, T, x ^ y)
#define COMPARE(tag, T)                                                                                                \
  BIN(eq, tag, T, uint8_t, x == y) BIN(ne, tag, T, uint8_t, x != y) BIN(lt, tag, T, uint8_t, x < y)                    \
  BIN(le, tag, T, uint8_t, x <= y)
#define SELECT(tag, T)                                                                                                 \
  static void sel_##tag(sd_vm *v, const sd_inst *i) {                                                                  \
    const uint8_t *c = REG(uint8_t, i->x);                                                                             \
    const T *px = REG(T, i->y), *py = REG(T, i->z);                                                                    \
    T *restrict d = REG(T, i->dst);                                                                                    \
    EACH_LANE d[l] = c[l] ? px[l] : py[l];                                                                             \
  }
INT_TYPES(INT_BIN) FLOAT_TYPES(FLOAT_BIN)
INT_TYPES(ORDER_BIN) BOOL_TYPE(ORDER_BIN)
INT_TYPES(BIT_BIN) BOOL_TYPE(BIT_BIN)
INT_TYPES(COMPARE) FLOAT_TYPES(COMPARE) BOOL_TYPE(COMPARE)
INT_TYPES(SELECT) FLOAT_TYPES(SELECT) BOOL_TYPE(SELECT)

BIN(floordiv, I64, int64_t, int64_t, y == 0 ? 0 : y == -1 ? (int64_t)(0 - (uint64_t)x) : x / y - (x % y != 0 &&
    (x % y < 0) != (y < 0)))
BIN(mod, I64, int64_t, int64_t, y == 0 || y == -1 ? 0 : x % y + (x % y != 0 && (x % y < 0) != (y < 0) ? y : 0))

#define FLOAT_FN(tag, T, field)                                                                                        \
  static void un_##tag(sd_vm *v, const sd_inst *i) {                                                                   \
    const T *x = REG(T, i->x);                                                                                         \
    T *restrict d = REG(T, i->dst);                                                                                    \
    T (*f)(T) = ((const sd_float_fns *)i->data)->field;                                                                \
    EACH_LANE d[l] = f(x[l]);                                                                                          \
  }                                                                                                                    \
  static void bin_##tag(sd_vm *v, const sd_inst *i) {                                                                  \
    const T *x = REG(T, i->x), *y = REG(T, i->y);                                                                      \
    T *restrict d = REG(T, i->dst);                                                                                    \
    T (*f)(T, T) = ((const sd_float_fns2 *)i->data)->field;                                                            \
    EACH_LANE d[l] = f(x[l], y[l]);                                                                                    \
  }
FLOAT_FN(F32, float, f)
FLOAT_FN(F64, double, d)

// Conversions. From floats to integers through sd_scalar_from_float, which never traps.
#define CONVERT(from, F, to, T, expr)                                                                                  \
  static void cast_##from##_##to(sd_vm *v, const sd_inst *i) {                                                         \
    const F *px = REG(F, i->x);                                                                                        \
    T *restrict d = REG(T, i->dst);                                                                                    \
    EACH_LANE { F x = px[l]; d[l] = (T)(expr); }                                                                       \
  }
#define FROM_INT(from, F)                                                                                              \
  CONVERT(from, F, I8, int8_t, x) CONVERT(from, F, I16, int16_t, x) CONVERT(from, F, I32, int32_t, x)                  \
  CONVERT(from, F, I64, int64_t, x) CONVERT(from, F, F32, float, x) CONVERT(from, F, F64, double, x)
#define FROM_FLOAT(from, F)                                                                                            \
  CONVERT(from, F, I32, int32_t, sd_scalar_from_float(SD_I32, x))                                                      \
  CONVERT(from, F, I64, int64_t, sd_scalar_from_float(SD_I64, x)) CONVERT(from, F, F32, float, x)                      \
  CONVERT(from, F, F64, double, x)
INT_TYPES(FROM_INT) BOOL_TYPE(FROM_INT) FLOAT_TYPES(FROM_FLOAT)

sd_scalar sd_eval_lane(const sd_vm *v, uint32_t reg, sd_dtype t, uint32_t lane) {
  sd_scalar s = {0};
  const void *p = sd_vm_reg(v, reg);
  if (sd_dtype_is_float(t)) s.f = sd_dtype_get_f64(t, p, lane);
  else s.i = sd_dtype_get_i64(t, p, lane);
  return s;
}

static void set_lane(sd_vm *v, uint32_t reg, sd_dtype t, uint32_t lane, sd_scalar s) {
  if (sd_dtype_is_float(t)) sd_dtype_set_f64(t, sd_vm_reg(v, reg), lane, s.f);
  else sd_dtype_set_i64(t, sd_vm_reg(v, reg), lane, s.i);
}

void sd_eval_splat(sd_vm *v, uint32_t reg, sd_dtype t, sd_scalar s) {
  switch (t) {
  case SD_F32: { float *p = REG(float, reg); for (uint32_t l = 0; l < SD_LANES; l++) p[l] = (float)s.f; return; }
  case SD_F64: { double *p = REG(double, reg); for (uint32_t l = 0; l < SD_LANES; l++) p[l] = s.f; return; }
  case SD_I64: { int64_t *p = REG(int64_t, reg); for (uint32_t l = 0; l < SD_LANES; l++) p[l] = s.i; return; }
  default: for (uint32_t l = 0; l < SD_LANES; l++) set_lane(v, reg, t, l, s);
  }
}

// Any operation through its scalar meaning.
static void any_op(sd_vm *v, const sd_inst *i) {
  const sd_expr *e = i->e;
  EACH_LANE {
    sd_scalar s[3] = {{.f = 0, .i = 0}}, out;
    const uint32_t regs[3] = {i->x, i->y, i->z};
    for (uint32_t k = 0; k < e->n; k++) s[k] = sd_eval_lane(v, regs[k], e->a[k]->dtype, l);
    sd_scalar_eval(e->op, e->a[0]->dtype, e->dtype, s, &out);
    set_lane(v, i->dst, e->dtype, l, out);
  }
}

#define PICK(tag, T) case SD_##tag: return PICKED(tag);
#define BY_TYPE(types, t) switch (t) { types(PICK) default: return any_op; }

static sd_inst_fn pick_arith(sd_xop op, sd_dtype t) {
#define ALL(X) INT_TYPES(X) FLOAT_TYPES(X)
  switch (op) {
#define PICKED(tag) add_##tag
  case SD_X_ADD: BY_TYPE(ALL, t)
#undef PICKED
#define PICKED(tag) sub_##tag
  case SD_X_SUB: BY_TYPE(ALL, t)
#undef PICKED
#define PICKED(tag) mul_##tag
  case SD_X_MUL: BY_TYPE(ALL, t)
#undef PICKED
#define PICKED(tag) div_##tag
  case SD_X_DIV: BY_TYPE(FLOAT_TYPES, t)
#undef PICKED
#undef ALL
#define ALL(X) INT_TYPES(X) FLOAT_TYPES(X) BOOL_TYPE(X)
#define PICKED(tag) min_##tag
  case SD_X_MIN: BY_TYPE(ALL, t)
#undef PICKED
#define PICKED(tag) max_##tag
  case SD_X_MAX: BY_TYPE(ALL, t)
#undef PICKED
  case SD_X_FLOORDIV: return t == SD_I64 ? floordiv_I64 : any_op;
  case SD_X_MOD: return t == SD_I64 ? mod_I64 : any_op;
  default: return any_op;
  }
}

static sd_inst_fn pick_logic(sd_xop op, sd_dtype t) {
#define BITS(X) INT_TYPES(X) BOOL_TYPE(X)
  switch (op) {
#define PICKED(tag) and_##tag
  case SD_X_AND: BY_TYPE(BITS, t)
#undef PICKED
#define PICKED(tag) or_##tag
  case SD_X_OR: BY_TYPE(BITS, t)
#undef PICKED
#define PICKED(tag) xor_##tag
  case SD_X_XOR: BY_TYPE(BITS, t)
#undef PICKED
#define PICKED(tag) eq_##tag
  case SD_X_EQ: BY_TYPE(ALL, t)
#undef PICKED
#define PICKED(tag) ne_##tag
  case SD_X_NE: BY_TYPE(ALL, t)
#undef PICKED
#define PICKED(tag) lt_##tag
  case SD_X_LT: BY_TYPE(ALL, t)
#undef PICKED
#define PICKED(tag) le_##tag
  case SD_X_LE: BY_TYPE(ALL, t)
#undef PICKED
#define PICKED(tag) sel_##tag
  case SD_X_SEL: BY_TYPE(ALL, t)
#undef PICKED
  default: return any_op;
  }
}

static sd_inst_fn pick_cast(sd_dtype from, sd_dtype to) {
  switch (to) {
#define PICKED(tag) cast_##tag##_F32
  case SD_F32: BY_TYPE(ALL, from)
#undef PICKED
#define PICKED(tag) cast_##tag##_F64
  case SD_F64: BY_TYPE(ALL, from)
#undef PICKED
#define PICKED(tag) cast_##tag##_I32
  case SD_I32: BY_TYPE(ALL, from)
#undef PICKED
#define PICKED(tag) cast_##tag##_I64
  case SD_I64: BY_TYPE(ALL, from)
#undef PICKED
#define PICKED(tag) cast_##tag##_I16
  case SD_I16: BY_TYPE(BITS, from)
#undef PICKED
#define PICKED(tag) cast_##tag##_I8
  case SD_I8: BY_TYPE(BITS, from)
#undef PICKED
  default: return any_op;
  }
}

sd_inst_fn sd_eval_fn(const sd_expr *e) {
  sd_dtype t = e->a[0]->dtype;
  bool f32 = t == SD_F32, f = sd_dtype_is_float(t);
  if (e->op == SD_X_CAST) return pick_cast(t, e->dtype);
  if (e->op == SD_X_SEL) return pick_logic(e->op, e->dtype);
  sd_inst_fn fn = pick_arith(e->op, t);
  if (fn == any_op) fn = pick_logic(e->op, t);
  if (fn == any_op && f && sd_scalar_float_fns(e->op)) return f32 ? un_F32 : un_F64;
  if (fn == any_op && f && sd_scalar_float_fns2(e->op)) return f32 ? bin_F32 : bin_F64;
  return fn;
}

// ---- memory ----
static bool in_bounds(sd_vm *v, const sd_inst *i, int64_t at) {
  if ((uint64_t)at < (uint64_t)i->imm) return true;
  if (!v->bad_buf && !v->bad) {
    v->bad_buf = i->e->buf;
    v->bad_value = at;
    v->bad_extent = i->imm;
    v->bad = i->e;
  }
  return false;
}

// True when every lane is on and within the buffer: the plain loops may run.
static bool all_plain(const sd_vm *v, const sd_inst *i, const int64_t *at) {
  uint32_t out = 0;
  if (i->y != UINT32_MAX || v->mask) return false;
  EACH_LANE out |= (uint64_t)at[l] >= (uint64_t)i->imm;
  return !out;
}

// For guarded loads: positions with 0 in place of those that are off. False when a lane that is on is out of bounds.
static bool guarded_positions(const sd_vm *v, const sd_inst *i, const int64_t *at, const uint8_t *on,
    int64_t *restrict pos) {
  uint32_t out = v->mask || i->imm <= 0;
  EACH_LANE {
    pos[l] = at[l] & -(int64_t)on[l];
    out |= (uint64_t)pos[l] >= (uint64_t)i->imm;
  }
  return !out;
}

#define LOAD(name, S, T, expr)                                                                                         \
  static void load_##name(sd_vm *v, const sd_inst *i) {                                                                \
    const int64_t *at = REG(int64_t, i->x);                                                                            \
    const uint8_t *on = i->y == UINT32_MAX ? NULL : REG(uint8_t, i->y);                                                \
    const S *p = i->data;                                                                                              \
    T *restrict d = REG(T, i->dst);                                                                                    \
    int64_t pos[SD_LANES];                                                                                             \
    if (all_plain(v, i, at)) {                                                                                         \
      EACH_LANE { S x = p[at[l]]; d[l] = (expr); }                                                                     \
      return;                                                                                                          \
    }                                                                                                                  \
    if (on && guarded_positions(v, i, at, on, pos)) {                                                                  \
      EACH_LANE { S x = p[pos[l]]; d[l] = on[l] ? (expr) : 0; }                                                        \
      return;                                                                                                          \
    }                                                                                                                  \
    EACH_LANE {                                                                                                        \
      bool ok = (!on || on[l]) && sd_vm_on(v, l) && in_bounds(v, i, at[l]);                                            \
      if (ok) { S x = p[at[l]]; d[l] = (expr); } else d[l] = 0;                                                        \
    }                                                                                                                  \
  }
#define STORE(name, S, T, expr)                                                                                        \
  static void store_##name(sd_vm *v, const sd_inst *i) {                                                               \
    const int64_t *at = REG(int64_t, i->x);                                                                            \
    const uint8_t *on = i->y == UINT32_MAX ? NULL : REG(uint8_t, i->y);                                                \
    const T *px = REG(T, i->z);                                                                                        \
    S *p = i->data;                                                                                                    \
    if (all_plain(v, i, at)) {                                                                                         \
      EACH_LANE { T x = px[l]; p[at[l]] = (expr); }                                                                    \
      return;                                                                                                          \
    }                                                                                                                  \
    EACH_LANE {                                                                                                        \
      T x = px[l];                                                                                                     \
      if ((!on || on[l]) && sd_vm_on(v, l) && in_bounds(v, i, at[l])) p[at[l]] = (expr);                               \
    }                                                                                                                  \
  }
#define PLAIN(tag, T) LOAD(tag, T, T, x) STORE(tag, T, T, x)
INT_TYPES(PLAIN) FLOAT_TYPES(PLAIN) BOOL_TYPE(PLAIN)
LOAD(F16, uint16_t, float, sd_f16_to_f32(x)) LOAD(BF16, uint16_t, float, sd_bf16_to_f32(x))
STORE(F16, uint16_t, float, sd_f32_to_f16(x)) STORE(BF16, uint16_t, float, sd_f32_to_bf16(x))

// Sub-byte and 8-bit float storage.
static const sd_buf *inst_buf(const sd_inst *i) { return i->e->buf; }
static void load_any(sd_vm *v, const sd_inst *i) {
  const int64_t *at = REG(int64_t, i->x);
  const uint8_t *on = i->y == UINT32_MAX ? NULL : REG(uint8_t, i->y);
  sd_dtype s = inst_buf(i)->dtype, t = sd_compute_type(s);
  EACH_LANE {
    sd_scalar x = {0};
    if ((!on || on[l]) && sd_vm_on(v, l) && in_bounds(v, i, at[l])) {
      if (sd_dtype_is_float(s)) x.f = sd_dtype_get_f64(s, i->data, (uint64_t)at[l]);
      else x.i = sd_dtype_get_i64(s, i->data, (uint64_t)at[l]);
    }
    set_lane(v, i->dst, t, l, x);
  }
}
static void store_any(sd_vm *v, const sd_inst *i) {
  const int64_t *at = REG(int64_t, i->x);
  const uint8_t *on = i->y == UINT32_MAX ? NULL : REG(uint8_t, i->y);
  sd_dtype s = inst_buf(i)->dtype, t = sd_compute_type(s);
  EACH_LANE {
    if (!((!on || on[l]) && sd_vm_on(v, l) && in_bounds(v, i, at[l]))) continue;
    sd_scalar x = sd_eval_lane(v, i->z, t, l);
    if (sd_dtype_is_float(s)) sd_dtype_set_f64(s, i->data, (uint64_t)at[l], x.f);
    else sd_dtype_set_i64(s, i->data, (uint64_t)at[l], x.i);
  }
}

sd_inst_fn sd_eval_load_fn(sd_dtype t) {
  switch (t) {
#define PICK_LOAD(tag, T) case SD_##tag: return load_##tag;
  INT_TYPES(PICK_LOAD) FLOAT_TYPES(PICK_LOAD) BOOL_TYPE(PICK_LOAD) PICK_LOAD(F16, ) PICK_LOAD(BF16, )
  default: return load_any;
  }
}
sd_inst_fn sd_eval_store_fn(sd_dtype t) {
  switch (t) {
#define PICK_STORE(tag, T) case SD_##tag: return store_##tag;
  INT_TYPES(PICK_STORE) FLOAT_TYPES(PICK_STORE) BOOL_TYPE(PICK_STORE) PICK_STORE(F16, ) PICK_STORE(BF16, )
  default: return store_any;
  }
}

// ---- indices ----
void sd_eval_scale_add(sd_vm *v, const sd_inst *i) {
  const int64_t *x = i->x == UINT32_MAX ? NULL : REG(int64_t, i->x), *y = REG(int64_t, i->y);
  int64_t *restrict d = REG(int64_t, i->dst);
  uint64_t c = (uint64_t)i->imm;
  if (!x) EACH_LANE d[l] = (int64_t)(c * (uint64_t)y[l]);
  else if (c == 1) EACH_LANE d[l] = (int64_t)((uint64_t)x[l] + (uint64_t)y[l]);
  else EACH_LANE d[l] = (int64_t)((uint64_t)x[l] + c * (uint64_t)y[l]);
}

void sd_eval_add_uniform(sd_vm *v, const sd_inst *i) {
  const int64_t *x = REG(int64_t, i->x);
  int64_t *restrict d = REG(int64_t, i->dst);
  uint64_t c = (uint64_t)i->imm * (uint64_t)*REG(int64_t, i->y);
  EACH_LANE d[l] = (int64_t)((uint64_t)x[l] + c);
}

void sd_eval_index(sd_vm *v, const sd_inst *i) {
  const int64_t *x = REG(int64_t, i->x), *y = REG(int64_t, i->y);
  int64_t *restrict d = REG(int64_t, i->dst);
  EACH_LANE {
    bool ok = x[l] >= 0 && x[l] < y[l];
    d[l] = ok ? x[l] : 0;
    if (ok || v->bad || !sd_vm_on(v, l)) continue;
    v->bad = i->e;
    v->bad_value = x[l];
    v->bad_extent = y[l];
  }
}

// ---- reductions ----
#define ACC(name, tag, A, T, expr)                                                                                     \
  static void acc_##name##_##tag(sd_vm *v, const sd_inst *i) {                                                         \
    const T *px = REG(T, i->x);                                                                                        \
    A *acc = REG(A, i->dst);                                                                                           \
    EACH_LANE {                                                                                                        \
      T x = px[l];                                                                                                     \
      A y = acc[l];                                                                                                    \
      if (sd_vm_on(v, l)) acc[l] = (A)(expr);                                                                          \
    }                                                                                                                  \
  }
#define ACC_INT(tag, T)                                                                                                \
  ACC(sum, tag, T, T, (uint64_t)x + (uint64_t)y) ACC(prod, tag, T, T, (uint64_t)x * (uint64_t)y)                       \
  ACC(min, tag, T, T, x < y ? x : y) ACC(max, tag, T, T, x > y ? x : y)
#define ACC_FLOAT(tag, T)                                                                                              \
  ACC(sum, tag, double, T, x + y) ACC(prod, tag, double, T, x * y)                                                     \
  ACC(min, tag, T, T, x != x || y != y ? x + y : x < y ? x : y)                                                        \
  ACC(max, tag, T, T, x != x || y != y ? x + y : x > y ? x : y)
INT_TYPES(ACC_INT) FLOAT_TYPES(ACC_FLOAT)

sd_inst_fn sd_eval_accumulate_fn(sd_rop r, sd_dtype t) {
#undef ALL
#define ALL(X) INT_TYPES(X) FLOAT_TYPES(X)
#undef BY_TYPE
#define BY_TYPE(types, t) switch (t) { types(PICK) default: return NULL; }
  switch (r) {
#define PICKED(tag) acc_sum_##tag
  case SD_R_SUM: BY_TYPE(ALL, t)
#undef PICKED
#define PICKED(tag) acc_prod_##tag
  case SD_R_PROD: BY_TYPE(ALL, t)
#undef PICKED
#define PICKED(tag) acc_max_##tag
  case SD_R_MAX: BY_TYPE(ALL, t)
#undef PICKED
#define PICKED(tag) acc_min_##tag
  case SD_R_MIN: BY_TYPE(ALL, t)
#undef PICKED
  }
  return NULL;
}

sd_scalar sd_eval_identity(sd_rop r, sd_dtype t) {
  sd_scalar s = {0};
  int bits = sd_dtype_bits(t);
  bool u = sd_dtype_kind_of(t) != SD_DK_I;
  int64_t highest = u ? (int64_t)(UINT64_MAX >> (64 - bits)) : (int64_t)(INT64_MAX >> (64 - bits));
  switch (r) {
  case SD_R_SUM: break;
  case SD_R_PROD: s.f = 1; s.i = 1; break;
  case SD_R_MAX: s.f = -INFINITY; s.i = u ? 0 : -highest - 1; break;
  case SD_R_MIN: s.f = INFINITY; s.i = highest; break;
  }
  return s;
}
