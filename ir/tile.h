// The tile level: kernels as loop nests over scalar expressions, one form for interpreter, CPU and CUDA.
//
// A kernel has buffers (parameters and locals), optional grid axes, and items: nests, or sequential loops of items.
// A nest is a set of free axes and stores; each store gives the value of one element as an expression of the axes.
// Expressions are a hash-consed DAG: arithmetic, loads at linear element offsets, reductions over their own axes.
// Fusion is substitution of expressions (ir/lower.h); speed is schedule data on axes and nests (sd_axis, sd_nest),
// never another lowering.
//
// Index arithmetic (I64) is kept in affine canonical form: sum of coefficient (sd_dim) * atom + constant (sd_dim),
// where atoms are axes or non-affine I64 expressions. Strides are thereby read off, div and mod of reshapes simplify
// by the ranges of the axes, and adjacent axes merge.
#pragma once
#include "ir/graph.h"

#define SD_MAX_AXES  12 // free axes of a nest, axes of a reduction
#define SD_MAX_UNROLL 64

typedef struct sd_expr sd_expr;
typedef struct sd_axis sd_axis;
typedef struct sd_buf sd_buf;

// SD_X(enum, text, arity). Unary and binary ones are written name(x) or infix in text.
#define SD_XOPS(X)                                                                                                     \
  X(CONST, "", 0)   /* f or i, by dtype */                                                                             \
  X(AFFINE, "", 0)  /* I64: n terms coef[k]*a[k] + dim; an axis alone is AXIS, a dim alone is n = 0 */                 \
  X(AXIS, "", 0)    /* I64: index along axis */                                                                        \
  X(LOAD, "", 0)    /* buf[a[0]]; a[1] = guard (BOOL) or NULL: where it is false the value is 0 and nothing is read */ \
  X(REDUCE, "", 0)  /* rop over n_axes axes of a[0] */                                                                 \
  X(ADD, "+", 2) X(SUB, "-", 2) X(MUL, "*", 2)                                                                         \
  X(DIV, "/", 2)       /* floats: IEEE; integers: toward zero, division by zero gives 0 */                             \
  X(FLOORDIV, "//", 2) /* integers, toward minus infinity, by zero gives 0 */                                          \
  X(MOD, "%", 2)       /* integers: x - y*floordiv(x,y), sign of y; by zero gives 0 */                                 \
  X(FMOD, "fmod", 2)   /* C fmod for floats and sign of x for integers */                                              \
  X(MIN, "min", 2) X(MAX, "max", 2) /* floats: NaN if either is NaN */                                                 \
  X(POW, "pow", 2)                                                                                                     \
  X(AND, "&", 2) X(OR, "|", 2) X(XOR, "^", 2) /* BOOL or integers, bitwise */                                          \
  X(SHL, "<<", 2) X(SHR, ">>", 2)             /* SHR arithmetic for signed; counts >= bits give 0 (or sign) */         \
  X(EQ, "==", 2) X(NE, "!=", 2) X(LT, "<", 2) X(LE, "<=", 2) /* result BOOL; GT, GE swap operands */                   \
  X(NOT, "!", 1)  /* BOOL; bitwise for integers */                                                                     \
  X(NEG, "neg", 1) X(ABS, "abs", 1) X(SIGN, "sign", 1)                                                                 \
  X(FLOOR, "floor", 1) X(CEIL, "ceil", 1) X(ROUND, "round", 1) /* half to even */ X(TRUNC, "trunc", 1)                 \
  X(SQRT, "sqrt", 1) X(EXP, "exp", 1) X(LOG, "log", 1) X(SIN, "sin", 1) X(COS, "cos", 1) X(TAN, "tan", 1)              \
  X(ASIN, "asin", 1) X(ACOS, "acos", 1) X(ATAN, "atan", 1) X(SINH, "sinh", 1) X(COSH, "cosh", 1) X(TANH, "tanh", 1)    \
  X(ASINH, "asinh", 1) X(ACOSH, "acosh", 1) X(ATANH, "atanh", 1) X(ERF, "erf", 1)                                      \
  X(ISNAN, "isnan", 1) X(ISINF, "isinf", 1) /* BOOL */                                                                 \
  X(SEL, "sel", 3)   /* sel(cond BOOL, x, y); both sides are evaluated */                                              \
  X(CAST, "cast", 1) /* to dtype: float->int truncates (out of range unspecified but no trap), to BOOL is != 0 */     \
  X(BITS, "bits", 1) /* reinterpret as dtype of the same width */                                                      \
  X(FMA, "fma", 3)   /* a*b+c, one rounding */                                                                         \
  X(INDEX, "index", 2) /* I64 x checked against extent y: x if 0 <= x < y, else 0 and the kernel's error flag is set */

typedef enum sd_xop {
#define X(e, t, n) SD_X_##e,
  SD_XOPS(X)
#undef X
  SD_X_COUNT
} sd_xop;

typedef enum sd_rop { SD_R_SUM, SD_R_PROD, SD_R_MAX, SD_R_MIN } sd_rop; // identity 0, 1, -inf/lowest, +inf/highest

struct sd_expr {
  sd_xop op;
  sd_dtype dtype; // compute types: f32 f64, i8..i64, u8..u64, bool. Narrow floats exist only in buffers: see sd_x_load
  uint32_t id;    // unique in the kernel, operands have smaller ids
  uint32_t n;     // number of entries in a
  sd_expr **a;
  const sd_dim *coef; // AFFINE: n coefficients
  sd_dim dim;         // AFFINE: constant term
  union {
    double f;      // CONST of float dtype
    int64_t i;     // CONST of integer dtype and BOOL
    sd_axis *axis; // AXIS
    sd_buf *buf;   // LOAD
    sd_rop rop;    // REDUCE
  };
  uint32_t n_axes; // REDUCE
  sd_axis **axes;  // REDUCE, outer to inner
  uint64_t axis_mask; // bit (axis id % 64) of every axis that occurs below: a clear bit proves absence
  sd_dim lo, hi;      // cache of sd_x_bounds (I64), valid when `bounded`; SD_DIM_NONE = not known
  bool bounded;
  bool number; // AFFINE without terms whose dim is a constant: the value is in i
};

// An axis, with its schedule.
struct sd_axis {
  uint32_t id;        // unique in the kernel
  const char *name;
  sd_dim extent;      // iterations are 0 <= x < extent
  sd_expr *limit;     // NULL, or an I64 expression of outer axes: iterations are 0 <= x < min(extent, limit)
  // Schedule. Free axes: `block` iterations of it make one tile of the grid (0: not split over the grid);
  // `vec` > 0: vectorized with that many vectors side by side (at most one axis of a nest); `unroll` > 1: that many
  // iterations side by side in registers. Reduction axes: `vec` > 0: vectorized with that many accumulators and one
  // horizontal step at the end; `unroll` > 1: that many iterations per loop turn (0 = fully, constant extent).
  int64_t block;
  int32_t vec, unroll;
};

typedef enum sd_bufkind { SD_BUF_IN, SD_BUF_OUT, SD_BUF_LOCAL } sd_bufkind;

struct sd_buf {
  uint32_t id;       // position in kernel->bufs
  sd_bufkind kind;   // LOCAL: scratch of the worker that runs the tile, undefined at the start of a tile
  sd_dtype dtype;    // storage type
  sd_dim count;      // elements; of a complex value its parts
  sd_value *value;   // the graph value bound to a parameter (of the enclosing graph), NULL for LOCAL
  bool invariant;    // never written during a run (weights)
  bool readwrite;    // OUT that the kernel also reads (after having written it)
};

typedef struct sd_store {
  sd_buf *buf;
  sd_expr *offset; // I64
  sd_expr *value;  // cast to the buffer's dtype by the store
  sd_expr *guard;  // BOOL, NULL = always
} sd_store;

typedef struct sd_nest {
  uint32_t n_axes;
  sd_axis *axes[SD_MAX_AXES];   // in loop order, outer to inner: reordering the array is a schedule step
  SD_VEC(sd_store) stores;      // executed in order for each point
  bool sequential;              // points must run in loop order, one by one (scatter with duplicates, recurrences)
} sd_nest;

typedef struct sd_item sd_item;
typedef SD_VEC(sd_item) sd_items;
struct sd_item {   // exactly one of nest, loop
  sd_nest *nest;
  sd_axis *loop;   // sequential loop around `body`
  sd_items *body;
};

typedef struct sd_kernel {
  sd_arena *arena;
  sd_dimtab *dims;
  const char *name;
  SD_VEC(sd_buf *) bufs;
  SD_VEC(sd_axis *) grid; // explicit grid axes, one tile per point; only then may a kernel have several items
  sd_items items;
  uint32_t n_expr, n_axis;
  struct sd_expr **table; // hash-consing
  uint32_t table_cap, table_len;
  uint32_t nesting;       // private: depth of index simplification
  void *memo;             // private: scratch of walks over expressions
  uint32_t memo_cap;
  bool rows_apart; // sd_node_rows_apart of its node
} sd_kernel;

// ---- building (all results are owned by the kernel's arena) ----
sd_kernel *sd_kernel_new(sd_arena *a, sd_dimtab *dims, const char *name);
sd_buf *sd_kernel_buf(sd_kernel *k, sd_bufkind kind, sd_dtype t, sd_dim count, sd_value *v);
sd_axis *sd_kernel_axis(sd_kernel *k, const char *name, sd_dim extent);
sd_nest *sd_kernel_nest(sd_kernel *k, sd_items *into); // appended to `into` (NULL: k->items)
sd_items *sd_kernel_loop(sd_kernel *k, sd_items *into, sd_axis *axis); // appends a sequential loop, returns its body
void sd_nest_axis(sd_nest *n, sd_axis *a);
void sd_nest_store(sd_kernel *k, sd_nest *n, sd_buf *b, sd_expr *offset, sd_expr *value, sd_expr *guard);

sd_expr *sd_x_f(sd_kernel *k, sd_dtype t, double v);  // constant of a float type (any compute type: converts)
sd_expr *sd_x_i(sd_kernel *k, sd_dtype t, int64_t v); // constant of an integer type or BOOL (any: converts)
sd_expr *sd_x_dim(sd_kernel *k, sd_dim d);            // I64
sd_expr *sd_x_axis(sd_kernel *k, sd_axis *a);         // I64
// Arithmetic with constant folding, algebraic identities that are exact for floats too, and affine canonical form for
// I64 ADD, SUB, MUL by a dim, FLOORDIV, MOD. Operands of binary operations must have equal dtypes (use sd_x_cast);
// comparisons give BOOL.
sd_expr *sd_x_un(sd_kernel *k, sd_xop op, sd_expr *x);
sd_expr *sd_x_bin(sd_kernel *k, sd_xop op, sd_expr *x, sd_expr *y);
sd_expr *sd_x_sel(sd_kernel *k, sd_expr *c, sd_expr *x, sd_expr *y);
sd_expr *sd_x_fma(sd_kernel *k, sd_expr *x, sd_expr *y, sd_expr *z);
sd_expr *sd_x_cast(sd_kernel *k, sd_dtype t, sd_expr *x); // t a compute type; no-op when equal
sd_expr *sd_x_bits(sd_kernel *k, sd_dtype t, sd_expr *x);
sd_expr *sd_x_index(sd_kernel *k, sd_expr *x, sd_dim extent);
sd_expr *sd_x_mul_dim(sd_kernel *k, sd_expr *x, sd_dim d); // I64
sd_expr *sd_x_reduce(sd_kernel *k, sd_rop r, sd_axis *const *axes, uint32_t n, sd_expr *body);
// Value of a buffer element in the compute type of its dtype (f16, bf16, f8 load as f32; others as themselves).
sd_expr *sd_x_load(sd_kernel *k, sd_buf *b, sd_expr *offset, sd_expr *guard);
sd_dtype sd_compute_type(sd_dtype t); // of a complex type: that of its parts
bool sd_x_const_value(const sd_expr *e, double *f, int64_t *i); // CONST, or AFFINE that is a number

// ---- analysis ----
// Coefficient of axis `a` in I64 expression e: true and the coefficient (const 0 when absent) where e is affine in a;
// false when a occurs inside a non-affine atom.
bool sd_x_coef(sd_kernel *k, const sd_expr *e, const sd_axis *a, sd_dim *out);
bool sd_x_uses_axis(const sd_expr *e, const sd_axis *a); // anywhere below
// Proven bounds of an I64 expression from the extents of its axes; false when unbounded.
bool sd_x_bounds(sd_kernel *k, const sd_expr *e, sd_dim *out_min, sd_dim *out_max);
// Rebuilds e with axis `a` replaced by I64 expression `by`. Reductions below are rebuilt as well.
sd_expr *sd_x_subst(sd_kernel *k, sd_expr *e, const sd_axis *a, sd_expr *by);
// Rebuilds e bottom-up through `fn` (given the rebuilt expression; returns it or a replacement).
sd_expr *sd_x_rewrite(sd_kernel *k, sd_expr *e, sd_expr *(*fn)(sd_kernel *k, sd_expr *e, void *user), void *user);
// Calls enter(user, x) for e and what stands below it, once each, operands after what uses them; what stands below an
// expression for which it is false is not entered from there. Expressions are shared: a recursion would meet them again and again.
void sd_x_walk(sd_kernel *k, const sd_expr *e, bool (*enter)(void *user, const sd_expr *x), void *user);

// ---- transformations that keep the meaning (steps of schedules) ----
// Drops axes of extent 1 and merges neighbours that are contiguous in every access, in nests and reductions.
void sd_kernel_simplify(sd_kernel *k);
// Splits free axis `index` of the nest into an outer (extent ceil(extent/factor)) and an inner one (extent `factor`,
// with a limit when factor does not divide); the inner one takes the next position.
sard_status *sd_nest_split(sd_kernel *k, sd_nest *n, uint32_t index, int64_t factor);

// ---- text, checks, reference execution ----
sard_status *sd_kernel_print(const sd_kernel *k, sd_str *out); // includes the schedule
sard_status *sd_kernel_parse(sd_arena *a, sd_dimtab *t, const char *text, sd_kernel **out);
sard_status *sd_kernel_verify(const sd_kernel *k);
// Structural hash of the kernel with schedule but without value bindings and names: equal hashes share code.
uint64_t sd_kernel_hash(const sd_kernel *k);

// Runs a kernel in the reference interpreter. `data[i]` is the memory of bufs[i] (NULL for LOCAL ones, which are
// allocated here); `sym` gives symbol values. Slow, exact about guards and bounds: an access outside of a buffer is
// SARD_E_INTERNAL. Floats are computed in the compute type (f32 as float), transcendentals by the C library.
typedef bool (*sd_symfn)(void *user, const char *name, int64_t *v);
sard_status *sd_kernel_eval(const sd_kernel *k, void *const *data, sd_symfn sym, void *user);
