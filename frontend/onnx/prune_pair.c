// As many of each: directions of a recurrent layer share `hidden_size`, and states of stacked layers that are
// one input or output of the model share its axis. What nothing else ties together is paired from the least,
// by its weights.
#include <stdlib.h>
#include <string.h>

#include "frontend/onnx/prune_flow.h"
#include "runtime/base/alloc.h"

// Labels in rows that have to lose as many each.
typedef struct rows {
  uint32_t n, each;
  const uint32_t *at; // [n][each], one label for all that goes with it
} rows;

// ---- where a root is ----

typedef struct spot {
  uint32_t root, row;
} spot;

static int by_root(const void *a, const void *b) {
  const spot *x = a, *y = b;
  if (x->root != y->root) return x->root < y->root ? -1 : 1;
  return x->row < y->row ? -1 : x->row > y->row;
}

// A root, and the spots that it has.
typedef struct half {
  double worth;
  const spot *at;
  uint32_t n;
} half;

static int least_first(const void *a, const void *b) {
  const half *x = a, *y = b;
  if (x->at->row != y->at->row) return x->at->row < y->at->row ? -1 : 1;
  if (x->worth != y->worth) return x->worth < y->worth ? -1 : 1;
  return x->at->root < y->at->root ? -1 : x->at->root > y->at->root;
}

static bool as_many_of_each(const spot *at, uint32_t n, uint32_t rows) {
  if (n % rows) return false;
  for (uint32_t i = 0; i < n; i++)
    if (at[i].row != i / (n / rows)) return false;
  return true;
}

static bool once_each(const spot *at, uint32_t n) {
  for (uint32_t i = 1; i < n; i++)
    if (at[i].row == at[i - 1].row) return false;
  return true;
}

static bool same_rows(const half *a, const half *b) {
  if (a->n != b->n) return false;
  for (uint32_t i = 0; i < a->n; i++)
    if (a->at[i].row != b->at[i].row) return false;
  return true;
}

// What the weights that make a label amount to.
static double *worths(sd_following *g) {
  double *worth = SD_NEW_ARRAY(g->a, double, g->c->labels.len);
  for (uint32_t k = 0; k < g->c->cuts.len; k++) {
    const sd_prune_cut *t = &g->c->cuts.at[k];
    for (uint32_t i = 0; t->kind == SD_CUT_OUTPUTS && i < g->units->len; i++) {
      const sd_prune_unit *u = &g->units->at[i];
      if (u->at != t->node || u->operand != (int)t->operand || !u->was || u->rows != t->n) continue;
      for (uint64_t r = 0; r < u->rows; r++)
        for (uint64_t j = 0; j < u->k; j++)
          worth[sd_prune_root(g->c, t->labels[r])] += (double)sd_prune_was(u, r, j) * sd_prune_was(u, r, j);
    }
  }
  return worth;
}

// ---- pairing ----

static void stay(sd_following *g, const half *h) {
  g->c->labels.at[sd_prune_root(g->c, h->at->root)].fixed = true;
}

// Roots that could go and do not have as many of each row. Those that have one of a row more than once stay.
static uint32_t alone(sd_following *g, const rows *r, const double *worth, half *list) {
  uint32_t all = r->n * r->each, n = 0;
  spot *at = SD_NEW_ARRAY(g->a, spot, all + 1);
  for (uint32_t i = 0; i < all; i++) at[i] = (spot){sd_prune_root(g->c, r->at[i]), i / r->each};
  qsort(at, all, sizeof *at, by_root);
  for (uint32_t i = 0, next; i < all; i = next) {
    for (next = i; next < all && at[next].root == at[i].root;) next++;
    half h = {worth[at[i].root], &at[i], next - i};
    if (g->c->labels.at[at[i].root].fixed || as_many_of_each(h.at, h.n, r->n)) continue;
    if (once_each(h.at, h.n)) list[n++] = h;
    else
      stay(g, &h);
  }
  return n;
}

// Each list has roots of the same rows, and the lists all rows between them: the first ones of all lists go
// together, and so on. What is left over stays.
static void pair(sd_following *g, const rows *r, const double *worth) {
  half *list = SD_NEW_ARRAY(g->a, half, r->n * r->each + 1);
  uint32_t *first = SD_NEW_ARRAY(g->a, uint32_t, r->n + 1), *len = SD_NEW_ARRAY(g->a, uint32_t, r->n + 1);
  uint32_t n = alone(g, r, worth, list), lists = 0, covered = 0, most = UINT32_MAX, kept = 0;
  if (n == 0) return;
  qsort(list, n, sizeof *list, least_first);
  for (uint32_t i = 0; i < n; i++) {
    bool begins = kept == 0 || list[i].at->row != list[first[lists - 1]].at->row;
    if (!begins && !same_rows(&list[i], &list[first[lists - 1]])) {
      stay(g, &list[i]);
      continue;
    }
    if (begins) first[lists] = kept, len[lists++] = 0, covered += list[i].n;
    len[lists - 1]++, list[kept++] = list[i];
  }
  for (uint32_t l = 0; l < lists; l++) most = len[l] < most ? len[l] : most;
  if (covered != r->n) most = 0;
  for (uint32_t l = 0; l < lists; l++)
    for (uint32_t i = 0; i < len[l]; i++) {
      const half *h = &list[first[l] + i];
      if (i < most) sd_strand_unite(g, list[first[0] + i].at->root, h->at->root);
      else
        stay(g, h);
    }
}

static uint32_t step_of(const sd_strand *f, int piece) {
  uint32_t step = 1;
  for (int j = f->k - 1; j > piece; j--) step *= f->of[j].n;
  return step;
}

int sd_strand_losing(const sd_following *g, const sd_strand *f) {
  for (int j = f->k - 1; j >= 0; j--) {
    uint32_t step = step_of(f, j);
    for (uint32_t i = 0; i < f->n; i++)
      if (sd_prune_root(g->c, f->at[i]) != sd_prune_root(g->c, f->at[i - i / step % f->of[j].n * step]))
        return j;
  }
  return -1;
}

static void pair_outside(sd_following *g, const sd_strand *f, const double *worth) {
  int m = sd_strand_losing(g, f);
  if (m < 0) sd_strand_fix(g, f);
  if (m < 0) return;
  uint32_t step = step_of(f, m), n = f->n / step;
  uint32_t *at = SD_NEW_ARRAY(g->a, uint32_t, n);
  for (uint32_t i = 0; i < n; i++) at[i] = f->at[i * step];
  pair(g, &(rows){n / f->of[m].n, f->of[m].n, at}, worth);
}

static bool of_hidden_units(const sd_following *g, const sd_strand *f) {
  for (uint32_t i = 0; i < f->n; i++) {
    uint32_t unit = g->c->labels.at[sd_prune_root(g->c, f->at[i])].unit;
    if (unit != SD_NO_UNIT && g->units->at[unit].recurrent) return true;
  }
  return false;
}

// Those of most layers first: what they pair has as many of each direction, too.
static int most_first(const void *a, const void *b) {
  const sd_outside *x = a, *y = b;
  return x->f->n != y->f->n ? (x->f->n < y->f->n ? 1 : -1) : x->v->id < y->v->id ? -1 : x->v->id > y->v->id;
}

void sd_strand_pair(sd_following *g) {
  double *worth = g->hidden.len || g->outside.len ? worths(g) : NULL;
  if (g->outside.len) qsort(g->outside.at, g->outside.len, sizeof *g->outside.at, most_first);
  for (uint32_t k = 0; k < g->outside.len; k++)
    if (of_hidden_units(g, g->outside.at[k].f)) pair_outside(g, g->outside.at[k].f, worth);
  for (uint32_t k = 0; k < g->hidden.len; k++)
    pair(g, &(rows){g->hidden.at[k].parts, g->hidden.at[k].n, g->hidden.at[k].at}, worth);
}

void sd_strand_pair_outside(sd_following *g) {
  double *worth = g->outside.len ? worths(g) : NULL;
  for (uint32_t k = 0; k < g->outside.len; k++) pair_outside(g, g->outside.at[k].f, worth);
}
