// Templates of random statements. Shapes are small and odd: 0 and 1, primes, one beyond a vector.
#include "tests/diff/graph_gen.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/alloc.h"

uint64_t gen_random(gen_graph *g, uint64_t below) {
  g->seed += 0x9e3779b97f4a7c15ull;
  uint64_t z = (g->seed ^ g->seed >> 30) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ z >> 27) * 0x94d049bb133111ebull;
  return (z ^ z >> 31) % below;
}

static int pick(gen_graph *g, const int *list, int n) { return list[gen_random(g, (uint64_t)n)]; }
#define PICK(g, ...) pick(g, (const int[]){__VA_ARGS__}, sizeof((int[]){__VA_ARGS__}) / sizeof(int))
static bool chance(gen_graph *g, int percent) { return (int)gen_random(g, 100) < percent; }
static int size(gen_graph *g) { return PICK(g, 1, 1, 2, 3, 4, 5, 7, 8, 13, 16, 17, 33); }

// ---- values ----

static const sd_value *find_in(const sd_graph *main, uint32_t id) {
  for (uint32_t i = 0; i < main->outputs.len; i++)
    if (main->outputs.at[i]->id == id) return main->outputs.at[i];
  return NULL;
}
static const sd_value *value(const gen_graph *g, uint32_t id) { return g->m ? find_in(g->m->main, id) : NULL; }

static int64_t dim(const gen_graph *g, const sd_value *v, int d) { // -1 when symbolic
  int64_t n;
  return sd_dim_is_const(g->m->dims, v->dims[d], &n) ? n : -1;
}

// A float value: exact where asked for, of rank in [least, most]; NULL when there is none.
static const sd_value *any_value(gen_graph *g, int least, int most, bool exact) {
  for (int tries = 0; tries < 30; tries++) {
    // later values more often, so that graphs are deep
    uint64_t a = gen_random(g, g->n), b = gen_random(g, g->n);
    const gen_value *x = &g->at[a > b ? a : b];
    const sd_value *v = value(g, x->id);
    if (!v || v->dtype != SD_F32 || v->rank < least || v->rank > most || (exact && !x->exact) || x->constant) continue;
    return v;
  }
  return NULL;
}

static bool is_exact(const gen_graph *g, uint32_t id) {
  for (uint32_t i = 0; i < g->n; i++)
    if (g->at[i].id == id) return g->at[i].exact;
  return false;
}

// ---- statements ----

static char *text_of(const gen_graph *g, const char *extra, uint32_t only) {
  sd_str s = {0};
  sd_str_put(&s, g->head.p);
  if (g->body.p) sd_str_put(&s, g->body.p);
  if (extra) sd_str_put(&s, extra);
  sd_str_put(&s, "  return ");
  if (only != UINT32_MAX) sd_strf(&s, "%%%u", only);
  else {
    bool first = true;
    for (uint32_t i = 0; i < g->n; i++, first = false) sd_strf(&s, "%s%%%u", first ? "" : ", ", g->at[i].id);
  }
  sd_str_put(&s, "\n}\n");
  return sd_str_take(&s);
}

char *gen_text(const gen_graph *g, uint32_t only) { return text_of(g, NULL, only); }

// Fits every N, and not too large.
static bool sizes_fit(const sd_module *m) {
  const sd_dimnode *n = sd_dim_get(m->dims, sd_dim_sym(m->dims, "N"));
  if (n->min > 0 || n->max < INT64_MAX / 8 || m->requires.len) return false;
  for (uint32_t i = 0; i < m->main->outputs.len; i++) {
    const sd_value *v = m->main->outputs.at[i];
    int64_t n = 1, d;
    if (v->rank < 0) return false;
    for (int k = 0; k < v->rank; k++) n *= sd_dim_is_const(m->dims, v->dims[k], &d) ? d : 33;
    if (n > 60000) return false;
  }
  return true;
}

// Adds the lines of `s` (freed) when they are right; the last `n_new` numbers become values.
static bool add(gen_graph *g, sd_str *s, bool exact, bool constant) {
  uint32_t n_before = g->n;
  sd_module *m = NULL;
  if (g->n >= 60) return sd_str_free(s), false;
  g->at[g->n++] = (gen_value){g->next, exact, constant};
  char *text = text_of(g, s->p, UINT32_MAX);
  sard_status *st = text ? sd_module_parse(text, "random", &m) : NULL;
  bool ok = m && !st && sizes_fit(m);
  sard_status_free(st);
  if (ok) {
    sd_module_free(g->m), sd_free(g->text);
    g->m = m, g->text = text;
    sd_str_put(&g->body, s->p);
    g->next++;
  } else {
    sd_module_free(m), sd_free(text);
    g->n = n_before;
  }
  sd_str_free(s);
  return ok;
}

static uint32_t constant(gen_graph *g, const int64_t *dims, int rank, int kind) { // kind 0: multiples of 1/8; 1: positive; UINT32_MAX: refused
  sd_str s = {0};
  int64_t count = 1;
  for (int i = 0; i < rank; i++) count *= dims[i];
  if (count > 5000) return UINT32_MAX;
  sd_strf(&s, "  %%%u = const f32[", g->next);
  for (int i = 0; i < rank; i++) sd_strf(&s, "%s%lld", i ? "," : "", (long long)dims[i]);
  sd_str_put(&s, "] dense<");
  for (int64_t i = 0; i < count; i++) {
    int v = (int)gen_random(g, 25) - 12;
    sd_strf(&s, "%s%g", i ? ", " : "", kind ? 0.25 + (v < 0 ? -v : v) * 0.125 : v * 0.125);
  }
  sd_str_put(&s, ">\n");
  uint32_t id = g->next;
  return add(g, &s, true, true) ? id : UINT32_MAX;
}

static uint32_t ints(gen_graph *g, const int64_t *v, int n) {
  sd_str s = {0};
  sd_strf(&s, "  %%%u = const i64[%d] dense<", g->next, n);
  for (int i = 0; i < n; i++) sd_strf(&s, "%s%lld", i ? ", " : "", (long long)v[i]);
  sd_str_put(&s, ">\n");
  uint32_t id = g->next;
  return add(g, &s, true, true) ? id : UINT32_MAX;
}

// ---- templates: each tries to add one node ----

static bool unary(gen_graph *g) {
  static const char *const exact[] = {"Relu", "Neg", "Abs", "Identity"};
  static const char *const jumps[] = {"Floor", "Ceil", "Round", "Sign"};
  static const char *const smooth[] = {"Sigmoid", "Tanh", "Erf", "Softplus", "HardSwish", "Sin", "Cos", "Softsign", "Elu", "Selu", "Mish",
                                       "HardSigmoid", "Atan", "Gelu", "LeakyRelu {alpha=0.125}", "Celu", "Asinh", "Exp"};
  int kind = PICK(g, 0, 0, 1, 2, 2, 2);
  const sd_value *x = any_value(g, 0, 5, kind == 1);
  sd_str s = {0};
  if (!x) return false;
  const char *op = kind == 0 ? exact[gen_random(g, 4)] : kind == 1 ? jumps[gen_random(g, 4)] : smooth[gen_random(g, 18)];
  const char *brace = strchr(op, ' ');
  int len = brace ? (int)(brace - op) : (int)strlen(op);
  sd_strf(&s, "  %%%u = %.*s(%%%u)%s\n", g->next, len, op, x->id, brace ? brace : "");
  return add(g, &s, kind < 2 && is_exact(g, x->id), false);
}

// A constant or value that broadcasts with x.
static uint32_t partner(gen_graph *g, const sd_value *x) {
  int64_t dims[SD_MAX_RANK];
  int rank = chance(g, 70) ? x->rank : (int)gen_random(g, (uint64_t)x->rank + 1);
  for (int tries = 0; tries < 8; tries++) {
    const sd_value *v = any_value(g, 0, 5, false);
    if (v && v != x && v->rank == x->rank && memcmp(v->dims, x->dims, (size_t)v->rank * sizeof *v->dims) == 0) return v->id;
  }
  for (int i = 0; i < rank; i++) {
    int64_t d = dim(g, x, x->rank - rank + i);
    dims[i] = d < 0 || chance(g, 30) ? 1 : d;
  }
  return constant(g, dims, rank, 0);
}

static bool binary(gen_graph *g) {
  static const char *const ops[] = {"Add", "Sub", "Mul", "Max", "Min", "Add", "Mul", "Div", "Pow"};
  const sd_value *x = any_value(g, 0, 5, false);
  sd_str s = {0};
  if (!x) return false;
  uint32_t xid = x->id, y = partner(g, x);
  if (y == UINT32_MAX) return false;
  int op = (int)gen_random(g, 9);
  if (op >= 7) { // divisors and bases that stay away from zero
    int64_t one[1] = {1};
    y = constant(g, one, 1, 1);
    if (y == UINT32_MAX) return false;
    if (op == 8) sd_strf(&s, "  %%%u = Abs(%%%u)\n", g->next, xid);
    if (op == 8 && !add(g, &s, is_exact(g, xid), false)) return false;
    if (op == 8) xid = g->next - 1;
  }
  bool swap = chance(g, 30) && op < 7;
  sd_strf(&s, "  %%%u = %s(%%%u, %%%u)\n", g->next, ops[op], swap ? y : xid, swap ? xid : y);
  return add(g, &s, op != 2 && op < 6 && is_exact(g, xid) && is_exact(g, y), false);
}

static bool choose(gen_graph *g) { // comparison and Where
  const sd_value *x = any_value(g, 0, 5, true);
  sd_str s = {0};
  static const char *const ops[] = {"Less", "GreaterOrEqual", "Equal"};
  if (!x) return false;
  uint32_t xid = x->id, y = partner(g, x);
  if (y == UINT32_MAX || !is_exact(g, y)) return false;
  sd_strf(&s, "  %%%u = %s(%%%u, %%%u)\n", g->next, ops[gen_random(g, 3)], xid, y);
  if (!add(g, &s, true, false)) return false;
  sd_strf(&s, "  %%%u = Where(%%%u, %%%u, %%%u)\n", g->next, g->next - 1, xid, y);
  return add(g, &s, true, false);
}

static bool transpose(gen_graph *g) {
  const sd_value *x = any_value(g, 1, 5, false);
  int perm[SD_MAX_RANK];
  sd_str s = {0};
  if (!x) return false;
  for (int i = 0; i < x->rank; i++) {
    int at = (int)gen_random(g, (uint64_t)i + 1);
    perm[i] = perm[at], perm[at] = i;
  }
  sd_strf(&s, "  %%%u = Transpose(%%%u) {perm=[", g->next, x->id);
  for (int i = 0; i < x->rank; i++) sd_strf(&s, "%s%d", i ? ", " : "", perm[i]);
  sd_str_put(&s, "]}\n");
  return add(g, &s, is_exact(g, x->id), false);
}

// Merges two neighbours or splits one axis, or flattens all.
static bool reshape(gen_graph *g) {
  const sd_value *x = any_value(g, 1, 4, false);
  int64_t shape[SD_MAX_RANK + 1];
  int n = 0;
  sd_str s = {0};
  if (!x) return false;
  int at = (int)gen_random(g, (uint64_t)x->rank), how = PICK(g, 0, 0, 1, 1, 2);
  for (int i = 0; i < x->rank; i++) {
    int64_t d = dim(g, x, i);
    if (how == 0 && i == at && i + 1 < x->rank) shape[n++] = -1, i++;
    else if (how == 1 && i == at && d > 1) {
      int64_t f = d % 2 == 0 ? 2 : d % 3 == 0 ? 3 : d % 5 == 0 ? 5 : 1;
      shape[n++] = f, shape[n++] = d / f;
    } else shape[n++] = d < 0 ? 0 : d;
  }
  if (how == 2) shape[0] = -1, n = 1;
  uint32_t xid = x->id, id = ints(g, shape, n);
  if (id == UINT32_MAX) return false;
  sd_strf(&s, "  %%%u = Reshape(%%%u, %%%u)\n", g->next, xid, id);
  return add(g, &s, is_exact(g, xid), false);
}

static bool slice(gen_graph *g) {
  const sd_value *x = any_value(g, 1, 5, false);
  sd_str s = {0};
  if (!x) return false;
  int64_t axis = (int64_t)gen_random(g, (uint64_t)x->rank), from = PICK(g, 0, 1, 2, -3, -100), to = PICK(g, 3, 5, -1, 100, 1), step = PICK(g, 1, 1, 2, -1, 3);
  if (step < 0) from = -1, to = PICK(g, 0, -100, 1);
  uint32_t xid = x->id, a = ints(g, &from, 1), b = ints(g, &to, 1), c = ints(g, &axis, 1), d = ints(g, &step, 1);
  if (d == UINT32_MAX) return false;
  sd_strf(&s, "  %%%u = Slice(%%%u, %%%u, %%%u, %%%u, %%%u)\n", g->next, xid, a, b, c, d);
  return add(g, &s, is_exact(g, xid), false);
}

static bool concat(gen_graph *g) {
  const sd_value *x = any_value(g, 1, 5, false);
  sd_str s = {0};
  if (!x) return false;
  int axis = (int)gen_random(g, (uint64_t)x->rank), n = PICK(g, 2, 2, 3);
  bool exact = is_exact(g, x->id);
  sd_strf(&s, "  %%%u = Concat(%%%u", g->next, x->id);
  for (int i = 1; i < n; i++) {
    const sd_value *y = any_value(g, x->rank, x->rank, false);
    if (!y || chance(g, 20)) y = x;
    exact &= is_exact(g, y->id);
    sd_strf(&s, ", %%%u", y->id);
  }
  sd_strf(&s, ") {axis=%d}\n", chance(g, 30) ? axis - x->rank : axis);
  return add(g, &s, exact, false);
}

static bool split(gen_graph *g) {
  const sd_value *x = any_value(g, 1, 5, false);
  sd_str s = {0};
  if (!x) return false;
  int axis = (int)gen_random(g, (uint64_t)x->rank);
  bool exact = is_exact(g, x->id);
  if (dim(g, x, axis) < 2) return false;
  g->next++; // the first half gets the number before
  sd_strf(&s, "  %%%u, %%%u = Split(%%%u) {axis=%d, num_outputs=2}\n", g->next - 1, g->next, x->id, axis);
  if (!add(g, &s, exact, false)) return g->next--, false;
  g->at[g->n++] = (gen_value){g->next - 2, exact, false};
  return true;
}

static bool pad(gen_graph *g) {
  const sd_value *x = any_value(g, 1, 5, false);
  int64_t pads[2 * SD_MAX_RANK];
  static const char *const modes[] = {"", " {mode=\"reflect\"}", " {mode=\"edge\"}", "", ""};
  sd_str s = {0};
  if (!x) return false;
  for (int i = 0; i < 2 * x->rank; i++) pads[i] = PICK(g, 0, 0, 0, 1, 2);
  uint32_t xid = x->id, id = ints(g, pads, 2 * x->rank);
  if (id == UINT32_MAX) return false;
  sd_strf(&s, "  %%%u = Pad(%%%u, %%%u)%s\n", g->next, xid, id, modes[gen_random(g, 5)]);
  return add(g, &s, is_exact(g, xid), false);
}

static bool gather(gen_graph *g) {
  const sd_value *x = any_value(g, 1, 4, false);
  int64_t idx[4];
  sd_str s = {0};
  if (!x) return false;
  int axis = (int)gen_random(g, (uint64_t)x->rank);
  int64_t d = dim(g, x, axis);
  if (d < 1) return false;
  int n = 1 + (int)gen_random(g, 4);
  for (int i = 0; i < n; i++) idx[i] = (int64_t)gen_random(g, (uint64_t)d) - (chance(g, 30) ? d : 0);
  uint32_t xid = x->id, id = ints(g, idx, n);
  if (id == UINT32_MAX) return false;
  sd_strf(&s, "  %%%u = Gather(%%%u, %%%u) {axis=%d}\n", g->next, xid, id, axis);
  return add(g, &s, is_exact(g, xid), false);
}

static bool widen(gen_graph *g) { // Expand, Tile, Unsqueeze, Squeeze
  const sd_value *x = any_value(g, 0, 4, false);
  int64_t v[SD_MAX_RANK + 1];
  static const char *const ops[] = {"Expand", "Tile", "Unsqueeze", "Squeeze"};
  int op = (int)gen_random(g, 4), n = x ? x->rank : 0;
  sd_str s = {0};
  if (!x || (op == 3 && n == 0)) return false;
  for (int i = 0; i < n; i++) v[i] = op == 0 ? (dim(g, x, i) == 1 ? size(g) : 1) : PICK(g, 1, 1, 2);
  if (op == 0 && chance(g, 40)) v[n++] = 1; // one dim more than x, aligned at the end: often refused
  if (op >= 2) v[0] = (int64_t)gen_random(g, (uint64_t)n + (op == 2)), n = 1;
  uint32_t xid = x->id, id = ints(g, v, n);
  if (id == UINT32_MAX) return false;
  sd_strf(&s, "  %%%u = %s(%%%u, %%%u)\n", g->next, ops[op], xid, id);
  return add(g, &s, is_exact(g, xid), false);
}

static bool reduce(gen_graph *g) {
  static const char *const ops[] = {"ReduceMax", "ReduceMin", "ReduceSum", "ReduceMean", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp", "ReduceL1"};
  const sd_value *x = any_value(g, 1, 5, false);
  int64_t axes[SD_MAX_RANK];
  int n = 0, op = (int)gen_random(g, 8);
  sd_str s = {0};
  if (!x) return false;
  bool tail = chance(g, 50), exact = is_exact(g, x->id) && g->batch > 0;
  for (int i = 0; i < x->rank; i++) exact &= dim(g, x, i) != 0;
  for (int i = x->rank; i-- > 0;)
    if (tail ? n < 1 : chance(g, 45)) axes[n++] = chance(g, 30) ? i - x->rank : i;
  if (n == 0) axes[n++] = -1;
  uint32_t xid = x->id, id = ints(g, axes, n);
  if (id == UINT32_MAX) return false;
  sd_strf(&s, "  %%%u = %s(%%%u, %%%u) {keepdims=%d}\n", g->next, ops[op], xid, id, chance(g, 60));
  return add(g, &s, op < 2 && exact, false); // of no elements: infinite
}

static bool rows(gen_graph *g) { // softmax and normalizations, running sums
  const sd_value *x = any_value(g, 1, 5, false);
  sd_str s = {0};
  if (!x) return false;
  int axis = chance(g, 60) ? -1 : (int)gen_random(g, (uint64_t)x->rank), kind = PICK(g, 0, 0, 1, 2, 3, 4);
  int64_t last = dim(g, x, x->rank - 1), zero = axis < 0 ? x->rank - 1 : axis;
  uint32_t xid = x->id, a, b;
  if (kind < 2) sd_strf(&s, "  %%%u = %s(%%%u) {axis=%d}\n", g->next, kind ? "LogSoftmax" : "Softmax", xid, axis);
  if (kind == 2 && last > 0) {
    a = constant(g, &last, 1, 1), b = constant(g, &last, 1, 0);
    if (a == UINT32_MAX || b == UINT32_MAX) return false;
    sd_strf(&s, "  %%%u = LayerNormalization(%%%u, %%%u, %%%u)\n", g->next, xid, a, b);
  }
  if (kind == 3 && x->rank >= 2) {
    int64_t c = dim(g, x, 1);
    if (c < 1) return false;
    a = constant(g, &c, 1, 1), b = constant(g, &c, 1, 0);
    if (a == UINT32_MAX || b == UINT32_MAX) return false;
    if (chance(g, 50)) sd_strf(&s, "  %%%u = BatchNormalization(%%%u, %%%u, %%%u, %%%u, %%%u)\n", g->next, xid, a, b, b, a);
    else sd_strf(&s, "  %%%u = InstanceNormalization(%%%u, %%%u, %%%u)\n", g->next, xid, a, b);
  }
  if (kind == 4) {
    a = ints(g, &zero, 1);
    if (a == UINT32_MAX) return false;
    sd_strf(&s, "  %%%u = CumSum(%%%u, %%%u) {exclusive=%d, reverse=%d}\n", g->next, xid, a, chance(g, 30), chance(g, 30));
  }
  return s.p && add(g, &s, false, false);
}

static bool matmul(gen_graph *g) {
  const sd_value *x = any_value(g, 1, 4, false);
  sd_str s = {0};
  if (!x) return false;
  int64_t k = dim(g, x, x->rank - 1), w[2] = {k, size(g)};
  int rank = x->rank; // x is gone when a constant was added
  uint32_t xid = x->id, id;
  if (chance(g, 25)) { // two values
    const sd_value *y = any_value(g, 1, 4, false);
    if (!y) return false;
    id = y->id;
  } else {
    if (k < 0) return false;
    id = constant(g, w, 2, 0);
  }
  if (id == UINT32_MAX) return false;
  if (rank == 2 && chance(g, 30)) sd_strf(&s, "  %%%u = Gemm(%%%u, %%%u) {alpha=0.5}\n", g->next, xid, id);
  else sd_strf(&s, "  %%%u = MatMul(%%%u, %%%u)\n", g->next, xid, id);
  return add(g, &s, false, false);
}

static bool conv(gen_graph *g) {
  const sd_value *x = any_value(g, 3, 4, false);
  sd_str s = {0};
  if (!x || dim(g, x, 1) < 1) return false;
  int64_t c = dim(g, x, 1), w[4], b;
  int group = chance(g, 30) ? (int)c : chance(g, 20) && c % 2 == 0 ? 2 : 1, k = PICK(g, 1, 2, 3, 3), spatial = x->rank - 2;
  bool transposed = chance(g, 15);
  w[0] = group * PICK(g, 1, 1, 2, 5), w[1] = c / group;
  b = w[0];
  if (transposed) w[0] = c, w[1] = PICK(g, 1, 2, 3), b = w[1] * group;
  for (int i = 0; i < spatial; i++) w[2 + i] = k;
  uint32_t xid = x->id, wid = constant(g, w, x->rank, 0), bid = constant(g, &b, 1, 0);
  if (wid == UINT32_MAX || bid == UINT32_MAX) return false;
  sd_strf(&s, "  %%%u = %s(%%%u, %%%u", g->next, transposed ? "ConvTranspose" : "Conv", xid, wid);
  if (chance(g, 60)) sd_strf(&s, ", %%%u", bid);
  sd_strf(&s, ") {group=%d", group);
  int p = PICK(g, 0, 0, 1), stride = PICK(g, 1, 1, 2), dilation = PICK(g, 1, 1, 1, 2);
  sd_strf(&s, spatial == 1 ? ", pads=[%d, %d], strides=[%d], dilations=[%d]}\n" : ", pads=[%d, %d, %d, 0], strides=[%d, %d], dilations=[%d, 1]}\n", p, p,
          spatial == 1 ? stride : p, spatial == 1 ? dilation : stride, stride, dilation);
  return add(g, &s, false, false);
}

static bool pool(gen_graph *g) {
  const sd_value *x = any_value(g, 4, 4, false);
  sd_str s = {0};
  if (!x) return false;
  int k = PICK(g, 1, 2, 3), stride = PICK(g, 1, 2), p = k > 1 ? PICK(g, 0, 1) : 0, kind = PICK(g, 0, 1, 2, 3);
  if (kind < 2)
    sd_strf(&s, "  %%%u = %s(%%%u) {kernel_shape=[%d, %d], strides=[%d, %d], pads=[%d, 0, %d, %d], ceil_mode=%d}\n", g->next, kind ? "MaxPool" : "AveragePool",
            x->id, k, k, stride, stride, p, p, p, chance(g, 30));
  else sd_strf(&s, "  %%%u = %s(%%%u)\n", g->next, kind == 2 ? "GlobalAveragePool" : "GlobalMaxPool", x->id);
  return add(g, &s, kind % 2 == 1 && is_exact(g, x->id), false);
}

static bool narrow(gen_graph *g) { // through f16, or through integers where exact
  const sd_value *x = any_value(g, 0, 5, true);
  sd_str s = {0};
  if (!x) return false;
  bool exact = is_exact(g, x->id);
  sd_strf(&s, "  %%%u = Cast(%%%u) {to=%d}\n", g->next, x->id, PICK(g, 10, 6, 7, 3, 16, 11));
  if (!add(g, &s, exact, false)) return false;
  sd_strf(&s, "  %%%u = Cast(%%%u) {to=1}\n", g->next, g->next - 1);
  return add(g, &s, exact, false);
}

static bool arg(gen_graph *g) {
  const sd_value *x = any_value(g, 1, 4, true);
  sd_str s = {0};
  if (!x || dim(g, x, x->rank - 1) < 1) return false;
  sd_strf(&s, "  %%%u = %s(%%%u) {axis=-1, keepdims=%d}\n", g->next, chance(g, 50) ? "ArgMax" : "ArgMin", x->id, chance(g, 50));
  if (!add(g, &s, true, false)) return false;
  sd_strf(&s, "  %%%u = Cast(%%%u) {to=1}\n", g->next, g->next - 1);
  return add(g, &s, true, false);
}

static bool attention(gen_graph *g) { // softmax(q k^T) v over one value
  const sd_value *x = any_value(g, 4, 4, false);
  sd_str s = {0};
  if (!x || dim(g, x, 3) < 1) return false;
  uint32_t q = x->id;
  bool exact = false;
  sd_strf(&s, "  %%%u = Transpose(%%%u) {perm=[0, 1, 3, 2]}\n", g->next, q);
  if (!add(g, &s, exact, false)) return false;
  sd_strf(&s, "  %%%u = MatMul(%%%u, %%%u)\n", g->next, q, g->next - 1);
  if (!add(g, &s, exact, false)) return false;
  uint32_t scale = constant(g, NULL, 0, 1);
  sd_strf(&s, "  %%%u = Mul(%%%u, %%%u)\n", g->next, g->next - 2, scale);
  if (scale == UINT32_MAX || !add(g, &s, exact, false)) return false;
  sd_strf(&s, "  %%%u = Softmax(%%%u)\n", g->next, g->next - 1);
  if (!add(g, &s, exact, false)) return false;
  sd_strf(&s, "  %%%u = MatMul(%%%u, %%%u)\n", g->next, g->next - 1, q);
  return add(g, &s, exact, false);
}

static bool recurrence(gen_graph *g) {
  static const char *const ops[] = {"LSTM", "GRU", "RNN"};
  static const int gates[] = {4, 3, 1};
  const sd_value *x = any_value(g, 3, 3, false);
  sd_str s = {0};
  if (!x || dim(g, x, 2) < 1) return false;
  int op = (int)gen_random(g, 3), both = chance(g, 30);
  int64_t h = PICK(g, 1, 3, 8), w[3] = {1 + both, gates[op] * h, dim(g, x, 2)}, r[3] = {1 + both, gates[op] * h, h};
  uint32_t xid = x->id, wid = constant(g, w, 3, 0), rid = constant(g, r, 3, 0);
  if (wid == UINT32_MAX || rid == UINT32_MAX) return false;
  sd_strf(&s, "  %%%u = %s(%%%u, %%%u, %%%u) {hidden_size=%lld%s}\n", g->next, ops[op], xid, wid, rid, (long long)h, both ? ", direction=\"bidirectional\"" : "");
  return add(g, &s, false, false);
}

// ---- graphs ----

static void input(gen_graph *g, uint32_t id) {
  static const int ranks[] = {1, 2, 2, 3, 3, 4, 4, 4};
  int rank = ranks[gen_random(g, 8)];
  sd_strf(&g->head, "%s%%%u \"x%u\": f32[", id ? ", " : "", id, id);
  for (int i = 0; i < rank; i++) {
    if (i) sd_str_put(&g->head, ",");
    if (i == 0 && chance(g, 50)) sd_str_put(&g->head, "N");
    else sd_strf(&g->head, "%d", chance(g, 3) ? 0 : size(g) > 17 && rank > 2 ? 5 : size(g));
  }
  sd_str_put(&g->head, "]");
}

void gen_begin(gen_graph *g, uint64_t seed) {
  *g = (gen_graph){.seed = seed * 1000003};
  g->batch = PICK(g, 0, 1, 1, 2, 3, 5, 8, 17);
  int n = 1 + (int)gen_random(g, 3);
  sd_str_put(&g->head, "module\nsymbol N\ngraph \"main\" (");
  for (int i = 0; i < n; i++) input(g, (uint32_t)i);
  sd_str_put(&g->head, ") {\n");
  g->next = (uint32_t)n;
  for (int i = 0; i < n; i++) g->at[g->n++] = (gen_value){(uint32_t)i, true, false};
  g->text = text_of(g, NULL, UINT32_MAX);
  sard_status_free(sd_module_parse(g->text, "random", &g->m));
}

void gen_grow(gen_graph *g, int nodes) {
  static bool (*const templates[])(gen_graph *) = {unary, unary, unary, binary, binary, binary, binary, choose, transpose, transpose, reshape, reshape, slice, concat, concat,
                                                   split, pad, gather, widen, reduce, reduce, rows, rows, matmul, matmul, matmul, conv, conv, conv, conv, pool, narrow, arg,
                                                   attention, recurrence};
  for (int made = 0, tries = 0; made < nodes && tries < 400 && g->n < 50; tries++) made += templates[gen_random(g, sizeof templates / sizeof *templates)](g);
}

void gen_end(gen_graph *g) {
  sd_module_free(g->m);
  sd_str_free(&g->head), sd_str_free(&g->body);
  sd_free(g->text);
  *g = (gen_graph){0};
}
