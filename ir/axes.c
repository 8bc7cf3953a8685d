// Letters of the iteration spaces of operators, by rules that several rows share.
#include "ir/axes.h"

#include <string.h>

#include "ir/ops/shape.h"

typedef bool (*rule_fn)(const sd_node *n, sd_axes *x);

static bool is_one(const sd_node *n, sd_dim d) { return sd_dim_is(sd_sh_tab(n), d, 1); }

// Letters of the dims of result 0 in order; letter d + 1 for dim d.
static void number(const sd_node *n, sd_axes *x) {
  for (uint32_t i = 0; i < n->n_out; i++)
    for (int d = 0; n->out[i] && d < n->out[i]->rank; d++) x->out[i][d] = (sd_letter)(d + 1);
}

static void align(const sd_node *n, uint32_t operand, int rank, sd_axes *x) {
  const sd_value *v = n->in[operand];
  for (int d = 0; v && d < v->rank && v->rank <= rank; d++)
    if (!is_one(n, v->dims[d])) x->in[operand][d] = (sd_letter)(rank - v->rank + d + 1);
}

static bool rule_aligned(const sd_node *n, sd_axes *x) {
  x->shape = x->sizes;
  number(n, x);
  for (uint32_t i = 0; i < n->n_in; i++)
    if (!(x->sizes >> i & 1)) align(n, i, n->out[0]->rank, x);
  return true;
}

// The same value everywhere.
static bool rule_filled(const sd_node *n, sd_axes *x) {
  number(n, x);
  return true;
}

static void forget(const sd_node *n, sd_letter letter, sd_axes *x) {
  for (uint32_t i = 0; i < n->n_in; i++)
    for (int d = 0; d < SD_MAX_RANK; d++)
      if (x->in[i][d] == letter) x->in[i][d] = 0;
  for (uint32_t i = 0; i < n->n_out; i++)
    for (int d = 0; d < SD_MAX_RANK; d++)
      if (x->out[i][d] == letter) x->out[i][d] = 0;
}

static bool axis_of(const sd_node *n, int64_t absent, int *axis) {
  int64_t at = sd_node_int(n, "axis", absent);
  int rank = n->in[0]->rank;
  *axis = (int)(at < 0 ? at + rank : at);
  return *axis >= 0 && *axis < rank;
}

// Operand 0 and the results have the same axes, and all but one are taken apart. Operands of other ranks are
// whole.
static bool rule_along(const sd_node *n, sd_axes *x) {
  int axis, rank = n->in[0]->rank;
  const sd_attr *decl = sd_node_attr(n, "axis");
  if (!decl || !axis_of(n, 0, &axis)) return false;
  number(n, x);
  align(n, 0, rank, x);
  for (uint32_t i = 1; i < n->n_in; i++)
    if (n->in[i] && n->in[i]->rank == rank) align(n, i, rank, x);
  // Where operand 1 has fewer elements along an axis, those of operand 0 behind them are not read.
  for (int d = 0; n->n_in > 1 && n->in[1] && n->in[1]->rank == rank && d < rank; d++)
    if (sd_dim_eq(sd_sh_tab(n), n->in[0]->dims[d], n->in[1]->dims[d]) != 1) forget(n, (sd_letter)(d + 1), x);
  forget(n, (sd_letter)(axis + 1), x);
  return true;
}

// Along an axis that operand 1 gives.
static bool rule_cumulative(const sd_node *n, sd_axes *x) {
  int64_t axis;
  uint32_t count;
  int rank = n->in[0]->rank;
  if (!sd_sh_try_ints(n, 1, &axis, 1, &count) || count != 1 || axis < -rank || axis >= rank) return false;
  number(n, x), align(n, 0, rank, x);
  forget(n, (sd_letter)((axis < 0 ? axis + rank : axis) + 1), x);
  return true;
}

// Windows one behind the other, where their sizes are known.
static bool rule_split(const sd_node *n, sd_axes *x) {
  int axis;
  int64_t from = 0, size;
  if (!rule_along(n, x) || !axis_of(n, 0, &axis)) return false;
  for (uint32_t i = 0; i < n->n_out; i++, from += size) {
    x->from[i] = from;
    if (!n->out[i] || !sd_dim_is_const(sd_sh_tab(n), n->out[i]->dims[axis], &size)) return true;
  }
  x->windows = axis + 1;
  return true;
}

static bool rule_joined(const sd_node *n, sd_axes *x) {
  int axis;
  if (!axis_of(n, 0, &axis)) return false;
  number(n, x);
  for (uint32_t i = 0; i < n->n_in; i++)
    for (int d = 0; d < n->in[i]->rank; d++) x->in[i][d] = (sd_letter)(d + 1);
  forget(n, (sd_letter)(axis + 1), x);
  return true;
}

// Normalizations over the last dims, from `axis` on.
static bool rule_before(const sd_node *n, sd_axes *x) {
  int axis;
  if (!axis_of(n, -1, &axis)) return false;
  for (int d = 0; d < axis; d++) {
    x->in[0][d] = (sd_letter)(d + 1);
    for (uint32_t i = 0; i < n->n_out; i++)
      if (n->out[i]) x->out[i][d] = (sd_letter)(d + 1);
  }
  return true;
}

static bool rule_first(const sd_node *n, sd_axes *x) {
  if (n->in[0]->rank < 1) return false;
  x->in[0][0] = x->out[0][0] = 1;
  return true;
}

static bool rule_inference(const sd_node *n, sd_axes *x) {
  return !sd_node_int(n, "training_mode", 0) && rule_first(n, x);
}

static bool rule_matmul(const sd_node *n, sd_axes *x) {
  const sd_value *a = n->in[0], *b = n->in[1], *y = n->out[0];
  if (a->rank < 2 || b->rank < 2) return false;
  number(n, x);
  align(n, 0, y->rank, x), align(n, 1, y->rank, x);
  sd_letter k = (sd_letter)(y->rank + 1), row = (sd_letter)(y->rank - 1), column = (sd_letter)y->rank;
  x->in[0][a->rank - 2] = row, x->in[0][a->rank - 1] = k; // of size 1, too: nothing is broadcast there
  int tb = sd_node_int(n, "transB", 0) != 0;
  x->in[1][b->rank - 2 + tb] = k, x->in[1][b->rank - 1 - tb] = column;
  x->sum = k;
  return true;
}

// Weights [N,K] or, with columns, [K,N]; scales and zero points [blocks of K,N], bias [N], scales of rows [.., blocks of K].
static bool rule_bits(const sd_node *n, sd_axes *x) {
  int last = n->in[0]->rank - 1;
  bool columns = sd_node_int(n, "columns", 0) != 0;
  if (last < 0 || n->in[1]->rank != 2) return false;
  sd_letter column = (sd_letter)(last + 1), k = (sd_letter)(last + 2);
  number(n, x), align(n, 0, last + 1, x);
  x->in[0][last] = x->in[1][!columns] = k, x->in[1][columns] = column;
  for (uint32_t i = 2; i < 4 && i < n->n_in; i++)
    if (n->in[i] && n->in[i]->rank == 2) x->in[i][0] = k, x->in[i][1] = column;
  if (n->n_in > 4 && n->in[4] && n->in[4]->rank == 1) x->in[4][0] = column;
  if (n->n_in > 5 && n->in[5] && n->in[5]->rank == last + 1) {
    for (int d = 0; d < last; d++) x->in[5][d] = x->in[0][d];
    x->in[5][last] = k;
  }
  x->sum = k, x->added = 1u << 4;
  return true;
}

// Terms without an ellipsis, and a result that is written down. One of the letters that only operands have is
// the sum.
static bool rule_einsum(const sd_node *n, sd_axes *x) {
  const char *p = sd_node_str(n, "equation", ""), *out = strstr(p, "->");
  if (!out || strchr(p, '.')) return false;
  uint32_t term = 0;
  int d = 0;
  for (; *p; p++) {
    bool result = p > out;
    sd_letter *to = result ? x->out[0] : x->in[term < n->n_in ? term : 0];
    if (*p == ',') term++, d = 0;
    else if (p == out)
      p++, d = 0;
    else if (*p != ' ') {
      const sd_value *v = result ? n->out[0] : term < n->n_in ? n->in[term] : NULL;
      if (!v || d >= v->rank) return false;
      if (!is_one(n, v->dims[d])) to[d] = (sd_letter)*p;
      if (!result && !strchr(out, *p)) x->sum = (sd_letter)*p;
      d++;
    }
  }
  return term + 1 == n->n_in;
}

static bool rule_gemm(const sd_node *n, sd_axes *x) {
  bool ta = sd_node_int(n, "transA", 0) != 0, tb = sd_node_int(n, "transB", 0) != 0;
  x->in[0][ta] = x->out[0][0] = 1, x->in[0][!ta] = x->in[1][tb] = 3, x->in[1][!tb] = x->out[0][1] = 2;
  if (n->n_in > 2) align(n, 2, 2, x);
  x->sum = 3, x->added = 1u << 2;
  return true;
}

// x [N,C,...], b [M], y [N,M,...]; w [M,C,...], transposed [C,M,...]: the inner dims of x are worked across.
// Groups of channels belong together.
static bool convolved(const sd_node *n, bool transposed, sd_axes *x) {
  if (n->in[0]->rank < 2 || n->in[1]->rank < 2) return false;
  x->in[0][0] = x->out[0][0] = 1, x->out[0][1] = 2;
  if (n->n_in > 2 && n->in[2]) x->in[2][0] = 2;
  if (sd_node_int(n, "group", 1) != 1) {
    x->in[0][1] = x->in[1][0] = 2;
    x->counted.attr = "group", x->counted.letter = 2;
    return true;
  }
  x->in[1][transposed] = 2, x->in[0][1] = x->in[1][!transposed] = 3;
  x->sum = 3, x->added = 1u << 2;
  return true;
}
static bool rule_conv(const sd_node *n, sd_axes *x) { return convolved(n, false, x); }
static bool rule_conv_transposed(const sd_node *n, sd_axes *x) { return convolved(n, true, x); }

static bool reduced(const sd_node *n, uint32_t axes, sd_axes *x) {
  bool keep = sd_node_int(n, "keepdims", 1) != 0;
  for (int d = 0, to = 0; d < n->in[0]->rank; d++) {
    bool gone = axes >> d & 1;
    x->in[0][d] = (sd_letter)(d + 1);
    if (!gone) x->out[0][to] = (sd_letter)(d + 1);
    to += !gone || keep;
  }
  return true;
}

static bool rule_reduced(const sd_node *n, sd_axes *x) {
  uint32_t axes;
  sard_status *st = sd_sh_reduced_axes(n, &axes);
  sard_status_free(st);
  return !st && reduced(n, axes, x);
}

static bool rule_arg(const sd_node *n, sd_axes *x) {
  int axis;
  return axis_of(n, 0, &axis) && reduced(n, 1u << axis, x);
}

static bool rule_transpose(const sd_node *n, sd_axes *x) {
  int rank = n->in[0]->rank;
  const sd_attr *perm = sd_node_attr(n, "perm");
  bool given = perm && perm->kind == SD_ATTR_INTS && perm->n == (uint32_t)rank;
  for (int d = 0; d < rank; d++) {
    int from = given ? (int)perm->ints[d] : rank - 1 - d;
    if (from < 0 || from >= rank) return false;
    x->in[0][from] = x->out[0][d] = (sd_letter)(d + 1);
  }
  return true;
}

// Dims from e on of the result whose product is dim d of the operand.
static void find_digits(const sd_node *n, int d, int e, sd_axes *x) {
  int64_t all, size, product = 1;
  const sd_value *y = n->out[0];
  if (!sd_dim_is_const(sd_sh_tab(n), n->in[0]->dims[d], &all)) return;
  int end = e;
  while (end < y->rank && product < all && sd_dim_is_const(sd_sh_tab(n), y->dims[end], &size) && size > 0 &&
         !__builtin_mul_overflow(product, size, &product))
    end++;
  for (int i = e; product == all && i < end && end > e + 1; i++) x->digit[i] = (uint8_t)(d + 1);
}

// The same elements in the same order: dims with the same number of elements in front of them, where neither
// is 1.
static bool rule_relinear(const sd_node *n, sd_axes *x) {
  sd_dimtab *t = sd_sh_tab(n);
  const sd_value *a = n->in[0], *y = n->out[0];
  x->shape = x->sizes;
  for (int d = 0; d < a->rank; d++)
    for (int e = 0; e < y->rank; e++) {
      sd_dim front = sd_dim_product(t, a->dims, d), other = sd_dim_product(t, y->dims, e);
      if (sd_dim_eq(t, front, other) != 1 || is_one(n, a->dims[d]) || is_one(n, y->dims[e])) continue;
      if (!x->in[0][d] && !x->out[0][e]) x->in[0][d] = x->out[0][e] = (sd_letter)(d + 1);
    }
  for (int d = 0; d < a->rank; d++)
    for (int e = 0; e < y->rank; e++)
      if (x->in[0][d] && x->in[0][d] == x->out[0][e]) find_digits(n, d, e, x);
  return true;
}

// Of a Slice of one axis in steps of 1, where numbers are known.
static void find_window(const sd_node *n, int axis, sd_axes *x) {
  int64_t from, step = 1, all, size;
  uint32_t count;
  sd_dimtab *t = sd_sh_tab(n);
  if (!sd_sh_try_ints(n, 1, &from, 1, &count) || count != 1) return;
  if (sd_sh_in(n, 4) && (!sd_sh_try_ints(n, 4, &step, 1, &count) || count != 1)) return;
  if (step != 1 || axis < 0 || axis >= n->in[0]->rank || !sd_dim_is_const(t, n->in[0]->dims[axis], &all) ||
      !sd_dim_is_const(t, n->out[0]->dims[axis], &size))
    return;
  from = from < 0 ? (from + all > 0 ? from + all : 0) : from;
  if (from > all - size) return; // of no elements
  x->windows = axis + 1, x->from[0] = from;
}

static bool rule_sliced(const sd_node *n, sd_axes *x) {
  int64_t axes[SD_MAX_RANK];
  uint32_t count = 0;
  int rank = n->in[0]->rank;
  number(n, x), align(n, 0, rank, x);
  bool given = sd_sh_in(n, 3) != NULL;
  if (given && !sd_sh_try_ints(n, 3, axes, SD_MAX_RANK, &count)) return false;
  const sd_value *starts = n->in[1];
  int64_t all;
  if (!given && (starts->rank != 1 || !sd_dim_is_const(sd_sh_tab(n), starts->dims[0], &all))) return false;
  for (int64_t i = 0; !given && i < all && i < rank; i++) axes[count++] = i;
  for (uint32_t i = 0; i < count; i++)
    forget(n, (sd_letter)((axes[i] < 0 ? axes[i] + rank : axes[i]) + 1), x);
  if (count == 1) find_window(n, (int)(axes[0] < 0 ? axes[0] + rank : axes[0]), x);
  return true;
}

static bool rule_padded(const sd_node *n, sd_axes *x) {
  int64_t pads[2 * SD_MAX_RANK];
  uint32_t count;
  int rank = n->in[0]->rank;
  if (sd_sh_in(n, 3) || !sd_sh_try_ints(n, 1, pads, 2 * SD_MAX_RANK, &count) || count != 2 * (uint32_t)rank)
    return false;
  number(n, x), align(n, 0, rank, x);
  for (int d = 0; d < rank; d++)
    if (pads[d] || pads[rank + d]) forget(n, (sd_letter)(d + 1), x);
  return true;
}

static bool rule_gather(const sd_node *n, sd_axes *x) {
  const sd_value *a = n->in[0], *at = n->in[1];
  int axis;
  if (!axis_of(n, 0, &axis)) return false;
  number(n, x);
  for (int d = 0; d < a->rank; d++)
    if (d != axis) x->in[0][d] = (sd_letter)((d < axis ? d : d - 1 + at->rank) + 1);
  for (int d = 0; d < at->rank; d++) x->in[1][d] = (sd_letter)(axis + d + 1);
  int64_t index, size;
  uint32_t count;
  if (at->rank || !sd_sh_try_ints(n, 1, &index, 1, &count) || count != 1) return true;
  if (!sd_dim_is_const(sd_sh_tab(n), a->dims[axis], &size) || index < -size || index >= size) return true;
  x->windows = axis + 1, x->dropped = true, x->from[0] = index < 0 ? index + size : index;
  return true;
}

// Scales and zero points: one for all, one for each position of an axis, or one for each block of one.
static bool rule_quantize(const sd_node *n, sd_axes *x) {
  int axis, rank = n->in[0]->rank;
  number(n, x), align(n, 0, rank, x);
  if (n->in[1]->rank == 0 || sd_value_is_single(n->in[1])) return true;
  if ((n->in[1]->rank > 1 && n->in[1]->rank != rank) || !axis_of(n, 1, &axis)) return false;
  for (uint32_t i = 1; i < n->n_in && i < 3; i++) {
    if (!n->in[i]) continue;
    if (n->in[i]->rank == 1) x->in[i][0] = (sd_letter)(axis + 1);
    else
      align(n, i, rank, x);
  }
  return true;
}

// X [T,B,I], lengths [B], states [1 or 2,B,H]; Y [T,1 or 2,B,H], last states as the first ones.
static bool rule_recurrent(const sd_node *n, sd_axes *x) {
  if (sd_node_int(n, "layout", 0)) return false;
  x->in[0][1] = 1;
  for (uint32_t i = 4; i < n->n_in && i < 7; i++) x->in[i][i > 4] = 1;
  for (uint32_t i = 0; i < n->n_out; i++) x->out[i][i == 0 ? 2 : 1] = 1;
  return true;
}

// q, k, v, y [B,H,S,D], in the order of their layout, mask broadcast to [B,H,S,T], lengths [B], one more score
// [H], scores [B,H,S,T]. Heads of keys may be fewer: the same part of them belongs to a part of the others.
static bool rule_attention(const sd_node *n, sd_axes *x) {
  const sd_value *mask = sd_sh_in(n, 3);
  const sd_attr *layout = sd_node_attr(n, "layout");
  if (sd_sh_in(n, 5) || !layout || layout->kind != SD_ATTR_INTS || layout->n != 4) return false;
  for (uint32_t i = 0; i < 4; i++) {
    int64_t l = layout->ints[i];
    sd_letter *to = i < 3 ? x->in[i] : x->out[0];
    to[l == 2] = 1, to[l == 0 ? 1 : 2] = 2;
  }
  for (int d = 0; mask && d < 2; d++) {
    int at = mask->rank - 4 + d;
    if (at >= 0 && !is_one(n, mask->dims[at])) x->in[3][at] = (sd_letter)(d + 1);
  }
  if (sd_sh_in(n, 4) && sd_sh_in(n, 4)->rank == 1) x->in[4][0] = 1;
  if (sd_sh_in(n, 6) && sd_sh_in(n, 6)->rank == 1) x->in[6][0] = 2;
  for (uint32_t i = 1; i < n->n_out; i++)
    if (n->out[i]) x->out[i][0] = 1, x->out[i][1] = 2;
  return true;
}

// past, fresh [B,H,S,D], at [B], rows.
static bool rule_cache(const sd_node *n, sd_axes *x) {
  for (int d = 0; d < 2; d++) x->in[0][d] = x->in[1][d] = x->out[0][d] = (sd_letter)(d + 1);
  if (n->in[2] && n->in[2]->rank == 1) x->in[2][0] = 1;
  return n->in[0]->rank == 4 && n->in[1] && n->in[1]->rank == 4;
}

// X [B,H,S,D] or [B,S,H*D]; positions [B,S], else caches [B,S,D].
static bool rule_rotary(const sd_node *n, sd_axes *x) {
  int heads = n->in[0]->rank == 4 ? 1 : 2;
  if (n->in[0]->rank < 3) return false;
  x->in[0][0] = x->out[0][0] = 1;
  bool counted = heads == 2 && sd_node_int(n, "num_heads", 0) > 0;
  if (counted) x->counted.attr = "num_heads", x->counted.letter = 2;
  if (counted || heads == 1) x->in[0][heads] = x->out[0][heads] = 2;
  for (uint32_t i = 1; i < n->n_in; i++)
    if (n->in[i] && n->in[i]->rank == (n->in[i]->dtype == SD_I64 ? 2 : 3)) x->in[i][0] = 1;
  return true;
}

// All axes but the last one; operands are broadcast.
static bool rule_rows(const sd_node *n, sd_axes *x) {
  int rank = n->out[0]->rank;
  rule_aligned(n, x);
  forget(n, (sd_letter)rank, x);
  return true;
}

// Axes whose size stays; with `grown`, also those that were 1 and have the same elements everywhere now.
static bool kept(const sd_node *n, bool grown, sd_axes *x) {
  const sd_value *a = n->in[0], *y = n->out[0];
  if (a->rank != y->rank) return false;
  for (int d = 0; d < y->rank; d++) {
    bool same = sd_dim_eq(sd_sh_tab(n), a->dims[d], y->dims[d]) == 1, one = is_one(n, a->dims[d]);
    if (same && !one) x->in[0][d] = (sd_letter)(d + 1);
    if (same || (grown && one)) x->out[0][d] = (sd_letter)(d + 1);
  }
  return true;
}
static bool rule_tile(const sd_node *n, sd_axes *x) { return kept(n, true, x); }
static bool rule_resize(const sd_node *n, sd_axes *x) { return !sd_sh_in(n, 1) && kept(n, false, x); }

typedef struct axes_row {
  const char *name;
  rule_fn rule;
  uint32_t sizes;
} axes_row;
static const axes_row table[] = {
#define SD_AXES(name, rule, sizes) {name, rule_##rule, sizes},
#include "ir/ops/axes.def"
#undef SD_AXES
};

static const axes_row *row_of(const sd_op *op) {
  static const axes_row plain = {"", rule_aligned, 0};
  for (size_t i = 0; i < sizeof table / sizeof *table; i++)
    if (strcmp(table[i].name, op->name) == 0) return &table[i];
  return op->kind == SD_MAP && op->text ? &plain : NULL;
}

bool sd_axes_of(const sd_node *n, sd_arena *a, sd_axes *out) {
  const axes_row *row = row_of(n->op);
  if (!row || !n->n_out || !n->out[0] || n->out[0]->rank < 0) return false;
  for (uint32_t i = 0; i < n->n_in; i++)
    if (n->in[i] ? n->in[i]->rank < 0 : i == 0) return false;
  *out = (sd_axes){.sizes = row->sizes};
  out->in = sd_arena_array(a, n->n_in + 1, sizeof *out->in);
  out->out = sd_arena_array(a, n->n_out + 1, sizeof *out->out);
  out->from = SD_NEW_ARRAY(a, int64_t, n->n_out + 1);
  out->digit = SD_NEW_ARRAY(a, uint8_t, SD_MAX_RANK);
  return row->rule(n, out);
}
