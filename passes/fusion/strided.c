// Distances of elements through chains of moves, with symbolic sizes.
#include "passes/fusion/strided.h"

void sd_strided_whole(const sd_value *v, sd_strided *s) {
  sd_dimtab *t = v->graph->module->dims;
  sd_dim distance = sd_dim_const(t, 1);
  s->rank = v->rank;
  for (int d = v->rank - 1; d >= 0; d--) {
    s->dims[d] = v->dims[d], s->stride[d] = distance;
    distance = sd_dim_mul(t, distance, v->dims[d]);
  }
}

static bool transpose(const sd_node *n, sd_strided *s) {
  const sd_attr *perm = sd_node_attr(n, "perm");
  sd_strided from = *s;
  if (!perm || perm->kind != SD_ATTR_INTS || (int)perm->n != s->rank) return false;
  for (int i = 0; i < s->rank; i++)
    s->dims[i] = from.dims[perm->ints[i]], s->stride[i] = from.stride[perm->ints[i]];
  return true;
}

// Axes of 1 have no distance.
static void drop_ones(sd_dimtab *t, sd_strided *s) {
  int n = 0;
  for (int i = 0; i < s->rank; i++)
    if (!sd_dim_is(t, s->dims[i], 1)) s->dims[n] = s->dims[i], s->stride[n++] = s->stride[i];
  s->rank = n;
}

// The axes [from, to) of s are one run of elements at the distance of the last one.
static bool is_run(sd_dimtab *t, const sd_strided *s, int from, int to) {
  for (int i = from; i + 1 < to; i++)
    if (s->stride[i] != sd_dim_mul(t, s->stride[i + 1], s->dims[i + 1])) return false;
  return true;
}

// Axes of `from` and of the new shape belong together where the products of their sizes meet: as numpy
// reshapes without copies. Sizes are compared as they stand; two that are equal for another reason do not
// meet.
static bool reshape(const sd_value *y, sd_strided *s) {
  sd_dimtab *t = y->graph->module->dims;
  sd_dim before = sd_dim_const(t, 1), after = before;
  int i = 0, j = 0;
  drop_ones(t, s);
  sd_strided to = {.rank = y->rank};
  memcpy(to.dims, y->dims, (size_t)y->rank * sizeof *y->dims);
  while (j < to.rank) {
    int first = i, start = j;
    sd_dim products[SD_MAX_RANK];
    sd_dim all = before;
    for (int k = i; k < s->rank; k++) products[k] = all = sd_dim_mul(t, all, s->dims[k]);
    for (bool met = false; j < to.rank && !met;) { // one more axis of the result until the products meet
      after = sd_dim_mul(t, after, to.dims[j++]);
      if (after == before) break; // an axis of 1
      for (int k = i; k < s->rank && !met; k++)
        if (products[k] == after && after != SD_DIM_NONE) met = true, i = k + 1;
      if (!met && j == to.rank) return false;
    }
    if (!is_run(t, s, first, i)) return false;
    sd_dim distance = i > first ? s->stride[i - 1] : sd_dim_const(t, 1);
    for (int k = j - 1; k >= start; k--)
      to.stride[k] = distance, distance = sd_dim_mul(t, distance, to.dims[k]);
    before = after;
  }
  *s = to;
  return i == s->rank || before == sd_value_count(y);
}

static bool slice(const sd_node *n, sd_strided *s) {
  sd_dimtab *t = n->graph->module->dims;
  int64_t axes[SD_MAX_RANK], steps[SD_MAX_RANK];
  uint32_t n_axes = 0, n_steps = 0;
  const sd_value *y = n->out[0];
  bool stepped = n->n_in > 4 && n->in[4];
  if (stepped && !sd_edit_ints(n, 4, steps, SD_MAX_RANK, &n_steps)) return false;
  if (n->n_in > 3 && n->in[3]) {
    if (!sd_edit_ints(n, 3, axes, SD_MAX_RANK, &n_axes)) return false;
  } else {
    for (; n_axes < n_steps; n_axes++) axes[n_axes] = n_axes;
  }
  for (uint32_t i = 0; i < n_steps && i < n_axes; i++) {
    int64_t d = axes[i] < 0 ? axes[i] + s->rank : axes[i];
    if (steps[i] < 1 || d < 0 || d >= s->rank) return false;
    s->stride[d] = sd_dim_mul(t, s->stride[d], sd_dim_const(t, steps[i]));
  }
  memcpy(s->dims, y->dims, (size_t)y->rank * sizeof *y->dims);
  return true;
}

// One known position of an axis: a scalar drops the axis, a list of one keeps it.
static bool gather(const sd_node *n, sd_strided *s) {
  int64_t at, axis = sd_node_int(n, "axis", 0);
  uint32_t count;
  if (axis < 0) axis += s->rank;
  if (axis < 0 || axis >= s->rank || n->in[1]->rank > 1 || !sd_edit_ints(n, 1, &at, 1, &count) || count != 1)
    return false;
  if (n->in[1]->rank == 1) {
    s->dims[axis] = n->out[0]->dims[axis];
    return true;
  }
  for (int i = (int)axis; i + 1 < s->rank; i++) s->dims[i] = s->dims[i + 1], s->stride[i] = s->stride[i + 1];
  s->rank--;
  return true;
}

static bool expand(const sd_node *n, sd_strided *s) {
  sd_dimtab *t = n->graph->module->dims;
  const sd_value *y = n->out[0];
  int more = y->rank - s->rank;
  sd_strided to = {.rank = y->rank};
  for (int i = 0; i < y->rank; i++) {
    bool same = i >= more && s->dims[i - more] == y->dims[i];
    if (!same && i >= more && !sd_dim_is(t, s->dims[i - more], 1)) return false;
    to.dims[i] = y->dims[i], to.stride[i] = same ? s->stride[i - more] : sd_dim_const(t, 0);
  }
  *s = to;
  return true;
}

static bool rename_axes(const sd_node *n, sd_strided *s) { return reshape(n->out[0], s); }

typedef bool (*move_fn)(const sd_node *n, sd_strided *s);

static move_fn move_of(const sd_node *n) {
  static const struct { const char *op; move_fn fn; } moves[] = {
      {"Transpose", transpose}, {"Slice", slice}, {"Gather", gather}, {"Expand", expand}};
  for (size_t i = 0; i < sizeof moves / sizeof *moves; i++)
    if (sd_edit_is(n, moves[i].op)) return moves[i].fn;
  return sd_op_has(n->op, SD_RENAMES) ? rename_axes : NULL;
}

bool sd_strided_kind(const sd_node *n) { return n->n_out == 1 && n->n_in && n->in[0] && move_of(n); }

bool sd_strided_move(const sd_node *n, sd_strided *s) {
  if (!sd_strided_kind(n) || n->in[0]->rank < 0 || n->out[0]->rank < 0 || s->rank != n->in[0]->rank)
    return false;
  return move_of(n)(n, s);
}
