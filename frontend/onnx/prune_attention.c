// Labels through attention as one operator. Heads of queries may share keys and values: then a head of these
// goes with all queries that it serves, or, where keys and values stay, as many queries of each group.
#include <string.h>

#include "frontend/onnx/prune_flow.h"
#include "runtime/base/alloc.h"

enum { Q, K, V };

typedef struct form {
  const char *op, *heads, *shared;    // attributes: of queries, of keys and values
  uint32_t past, mask, sinks, scales; // operands: keys of before, values are behind them; 0: it has none
} form;

static const form forms[] = {
    {"Attention", "q_num_heads", "kv_num_heads", 4, 3, 0, 0},
    {"com.microsoft.GroupQueryAttention", "num_heads", "kv_num_heads", 3, 10, 11, 12},
};

typedef struct looking {
  sd_following *g;
  const sd_node *n;
  const form *f;
  int64_t heads, shared; // of queries, of keys and values
} looking;

static const sd_value *operand(const looking *l, uint32_t i) { return i < l->n->n_in ? l->n->in[i] : NULL; }

// ---- heads as places ----

// Elements of each of `heads` along the axis that they are on; 0: they are not even.
static int64_t each_of(const looking *l, const sd_value *v, int64_t heads) {
  if (v->rank == 4) return sd_strand_dim(l->g, v, 1) == heads ? 1 : 0;
  int64_t d = v->rank == 3 ? sd_strand_dim(l->g, v, 2) : 0;
  return d > 0 && d % heads == 0 ? d / heads : 0;
}

// Pieces of `unit` elements and more along the axis, on axis 0 and counted in units; what is within goes in
// whole.
static sd_strand *in_units(sd_following *g, const sd_strand *x, int axis, int64_t unit) {
  sd_strand *f = sd_arena_dup(g->a, x, sizeof *x);
  unsigned keep = 0;
  int64_t inner[SD_PIECES] = {0};
  sd_strand_part(g, f, axis, unit);
  for (int j = 0; j < f->k; j++)
    if (f->of[j].axis == axis && sd_dim_is_const(g->m->dims, f->of[j].inner, &inner[j]) && inner[j] >= unit)
      keep |= 1U << j;
  f = sd_strand_keep(g, f, keep);
  for (int j = 0, i = 0; f && j < SD_PIECES; j++)
    if (keep >> j & 1) f->of[i].axis = 0, f->of[i++].inner = sd_dim_const(g->m->dims, inner[j] / unit);
  return f;
}

// The other way round.
static void put_units(sd_following *g, const sd_value *v, const sd_strand *x, int64_t unit) {
  sd_strand f = *x;
  for (int j = 0; j < f.k; j++) {
    f.of[j].axis = v->rank == 4 ? 1 : 2;
    f.of[j].inner = sd_dim_mul(g->m->dims, f.of[j].inner, sd_dim_const(g->m->dims, unit));
  }
  sd_strand_put(g, v, &f);
}

static sd_strand *heads_of(const looking *l, const sd_value *v, int64_t heads) {
  const sd_strand *x = v ? sd_strand_of(l->g, v) : NULL;
  int64_t each = x ? each_of(l, v, heads) : 0;
  return each ? in_units(l->g, x, v->rank == 4 ? 1 : 2, each) : NULL;
}

// Queries, keys and values that one product made lie side by side.
static sd_strand *heads_within(const looking *l, int part) {
  const sd_value *v = l->n->in[Q];
  const sd_strand *x = sd_strand_of(l->g, v);
  int64_t all = l->heads + 2 * l->shared, each = x && v->rank == 3 ? each_of(l, v, all) : 0;
  uint32_t *at = each ? sd_strand_along(l->g, x, v, 2) : NULL;
  int64_t from = part == Q ? 0 : (l->heads + (part - 1) * l->shared) * each,
          n = (part == Q ? l->heads : l->shared) * each;
  if (!at) return NULL;
  sd_strand f = {1, {{0, (uint32_t)n, sd_dim_const(l->g->m->dims, 1)}}, (uint32_t)n, at + from};
  return in_units(l->g, &f, 0, each);
}

// ---- what goes together ----

// Heads of keys and values, those of before among them. NULL: some stay, and so do all.
static sd_strand *shared(const looking *l) {
  uint32_t list[] = {K, V, l->f->past, l->f->past + 1};
  bool packed = !operand(l, K), all = true;
  sd_strand *both = NULL;
  for (int i = 0; i < 4; i++) {
    const sd_value *v = operand(l, list[i]);
    if (!v && (i > 1 || !packed)) continue;
    sd_strand *f = i < 2 && packed ? heads_within(l, list[i]) : heads_of(l, v, l->shared);
    if (!f && v) sd_strand_fix(l->g, sd_strand_of(l->g, v));
    if (all && f) both = both ? sd_strand_agree(l->g, both, f) : f;
    all = all && f && both;
    if (!all) sd_strand_fix(l->g, f), sd_strand_fix(l->g, both);
  }
  return all ? both : NULL;
}

// Those of `kv` once for each query that they serve, or the queries of each group.
static sd_strand *queries(const looking *l, sd_strand *kv) {
  sd_dimtab *t = l->g->m->dims;
  int64_t ratio = l->heads / l->shared, inner = 0;
  sd_strand *q = operand(l, K) ? heads_of(l, operand(l, Q), l->heads) : heads_within(l, Q), *many = NULL;
  unsigned keep = 0;
  if (!q) {
    sd_strand_fix(l->g, kv), sd_strand_fix(l->g, sd_strand_of(l->g, operand(l, Q)));
    return NULL;
  }
  if (kv) {
    many = sd_arena_dup(l->g->a, kv, sizeof *kv);
    for (int j = 0; j < many->k; j++)
      many->of[j].inner = sd_dim_mul(t, many->of[j].inner, sd_dim_const(t, ratio));
    return sd_strand_agree(l->g, q, many);
  }
  sd_strand_part(l->g, q, 0, ratio);
  for (int j = 0; j < q->k; j++)
    if (sd_dim_is_const(t, q->of[j].inner, &inner) && inner < ratio) keep |= 1U << j;
  return sd_strand_keep(l->g, q, keep);
}

// ---- what changes ----

static uint32_t *each_head(const looking *l, const sd_strand *f, int64_t heads) {
  uint32_t *at = SD_NEW_ARRAY(l->g->a, uint32_t, heads);
  for (int64_t h = 0; h < heads; h++) {
    uint32_t place = 0;
    for (int j = 0; j < f->k; j++) {
      int64_t inner = 1;
      sd_dim_is_const(l->g->m->dims, f->of[j].inner, &inner);
      place = place * f->of[j].n + (uint32_t)(h / inner % f->of[j].n);
    }
    at[h] = f->at[place];
  }
  return at;
}

// Nothing but them is for each head, or it goes with them.
static bool all_else(const looking *l, const sd_strand *q) {
  const sd_value *mask = operand(l, l->f->mask);
  bool good = !mask || (!sd_strand_of(l->g, mask) &&
                        (mask->rank < 3 || sd_strand_dim(l->g, mask, mask->rank - 3) == 1));
  for (uint32_t i = 3; i < l->n->n_out; i++) good = good && (!l->n->out[i] || l->n->out[i]->uses.len == 0);
  for (uint32_t i = 0; i < 2 && l->f->scales; i++) good = good && !operand(l, l->f->scales + i);
  if (good && l->f->sinks && operand(l, l->f->sinks))
    good = sd_strand_cut(l->g, l->n, l->f->sinks, 0, each_head(l, q, l->heads), (uint32_t)l->heads,
                         SD_CUT_OTHER);
  return good;
}

static void give(const looking *l, const sd_strand *q, const sd_strand *kv) {
  for (uint32_t i = 0; i < 3 && i < l->n->n_out; i++) {
    const sd_value *v = l->n->out[i];
    const sd_strand *f = i ? kv : q;
    int64_t each = v && f ? each_of(l, v, i ? l->shared : l->heads) : 0;
    if (each) put_units(l->g, v, f, each);
    else if (v)
      sd_strand_fix(l->g, f);
  }
  if (l->n->in[Q]->rank != 3) return; // Reshapes say it
  sd_strand_count(l->g, l->n, l->f->heads, each_head(l, q, l->heads), (uint32_t)l->heads);
  if (kv) sd_strand_count(l->g, l->n, l->f->shared, each_head(l, kv, l->shared), (uint32_t)l->shared);
  for (uint32_t i = 0; i < q->n; i++) l->g->c->labels.at[sd_prune_root(l->g->c, q->at[i])].head = true;
  l->g->c->runs = true;
}

static bool look(looking *l, sd_following *g, const sd_node *n) {
  *l = (looking){.g = g, .n = n};
  for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
    if (strcmp(n->op->name, forms[i].op) == 0) l->f = &forms[i];
  const sd_value *q = n->in[Q], *k = n->n_in > K ? n->in[K] : NULL;
  l->heads = q->rank == 4 ? sd_strand_dim(g, q, 1) : sd_node_int(n, l->f->heads, 0);
  l->shared = k && k->rank == 4 ? sd_strand_dim(g, k, 1) : sd_node_int(n, l->f->shared, 0);
  return l->heads > 0 && l->shared > 0 && l->heads % l->shared == 0 && l->heads <= UINT16_MAX &&
         n->out[0]->rank == q->rank;
}

void sd_strand_attention(sd_following *g, const sd_node *n) {
  looking l;
  bool good = look(&l, g, n);
  sd_strand *kv = good ? shared(&l) : NULL, *q = good ? queries(&l, kv) : NULL;
  good = q && all_else(&l, q);
  if (good) give(&l, q, kv);
  for (uint32_t i = 0; i < n->n_in; i++)
    if (!good || (i > V && i != l.f->past && i != l.f->past + 1)) sd_strand_fix(g, sd_strand_of(g, n->in[i]));
}
