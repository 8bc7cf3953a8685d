// Sparse weights as tables: outputs of a part sorted by what they have in a block, so that those of a group
// have about as many.
#include "passes/simplify/sparse_tables.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/alloc.h"

#define SAMPLE 1021 // elements

static float weight(const sd_sparse_weight *w, int64_t k, int64_t n) {
  float v = 0;
  if (n < w->n) memcpy(&v, (const char *)w->data + (k * w->by_k + n * w->by_n) * (int64_t)sizeof v, sizeof v);
  return v;
}

static int64_t count_each(const sd_sparse_weight *w, int64_t step, int64_t most) { // stops behind `most`
  int64_t count = 0;
  for (int64_t i = 0; i < w->k * w->n && count <= most; i += step) {
    float v;
    memcpy(&v, (const char *)w->data + i * (int64_t)sizeof v, sizeof v);
    count += v != 0;
  }
  return count;
}

// Some elements first: weights that are dense are not read for this, they may lie in a file.
bool sd_sparse_few(const sd_sparse_weight *w, int64_t most) {
  int64_t step = w->k * w->n / SAMPLE | 1;
  double share = (double)most / ((double)w->k * (double)w->n);
  int64_t some = (int64_t)((share + (1 - share) / 2) * (double)(w->k * w->n / step + 1));
  return count_each(w, step, some) <= some && count_each(w, 1, most) <= most;
}

sd_sparse_counts sd_sparse_count(const sd_sparse_weight *w, int64_t block, sd_arena *a) {
  int64_t quads = sd_ceil_div(w->n, SD_SPARSE_SHARE), blocks = sd_ceil_div(w->k, block);
  sd_sparse_counts c = {.block = block, .blocks = blocks};
  c.own = SD_NEW_ARRAY(a, uint16_t, (size_t)(blocks * w->n));
  c.shared = SD_NEW_ARRAY(a, uint16_t, (size_t)(blocks * quads));
  for (int64_t k = 0; k < w->k; k++) {
    uint16_t *own = c.own + k / block * w->n, *shared = c.shared + k / block * quads;
    for (int64_t q = 0; q < quads; q++) {
      bool any = false;
      for (int64_t n = q * SD_SPARSE_SHARE; n < sd_min_i64(w->n, (q + 1) * SD_SPARSE_SHARE); n++) {
        bool one = weight(w, k, n) != 0;
        own[n] = (uint16_t)(own[n] + one), c.nonzeros += one, any |= one;
      }
      shared[q] = (uint16_t)(shared[q] + any);
    }
  }
  return c;
}

// ---- groups ----
typedef struct groups {
  const sd_sparse_weight *w;
  const sd_sparse_counts *c;
  int64_t part, parts;
  bool shared;
  int width;        // outputs of a unit of the order: 1, or those that share
  int64_t units;    // of a part
  uint32_t *sorted; // [units]: count << 16 | unit, most first
} groups;

static groups groups_of(const sd_sparse_weight *w, const sd_sparse_counts *c, int64_t part, bool shared,
                        sd_arena *a) {
  groups g = {.w = w,
              .c = c,
              .part = part,
              .parts = sd_ceil_div(w->n, part),
              .shared = shared,
              .width = shared ? SD_SPARSE_SHARE : 1};
  g.units = part / g.width;
  g.sorted = SD_NEW_ARRAY(a, uint32_t, (size_t)g.units);
  return g;
}

static int more(const void *a, const void *b) { // equal counts: in the order of the outputs
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  if (x >> 16 != y >> 16) return x >> 16 < y >> 16 ? 1 : -1;
  return x < y ? -1 : x > y;
}

static void sort_units(groups *g, int64_t part, int64_t block) {
  int64_t row = g->shared ? sd_ceil_div(g->w->n, SD_SPARSE_SHARE) : g->w->n, first = part * g->units;
  const uint16_t *counts = (g->shared ? g->c->shared : g->c->own) + block * row;
  for (int64_t i = 0; i < g->units; i++) {
    uint32_t count = first + i < row ? counts[first + i] : 0;
    g->sorted[i] = count << 16 | (uint32_t)i;
  }
  qsort(g->sorted, (size_t)g->units, sizeof *g->sorted, more);
}

int64_t sd_sparse_steps(const sd_sparse_weight *w, const sd_sparse_counts *c, int64_t part, bool shared,
                        sd_arena *a) {
  groups g = groups_of(w, c, part, shared, a);
  int64_t steps = 0, each = shared ? 1 : SD_SPARSE_OWN;
  for (int64_t p = 0; p < g.parts; p++)
    for (int64_t kb = 0; kb < c->blocks; kb++) {
      sort_units(&g, p, kb);
      for (int64_t i = 0; i < g.units; i += each) steps += g.sorted[i] >> 16;
    }
  return steps;
}

// ---- tables ----
typedef struct tables {
  float *value;
  uint8_t *index;
  int32_t *start;
  uint16_t *order;
  int64_t at; // next step
} tables;

// The steps of one output with inputs of its own; those that others of the group have more stay 0.
static void own_steps(const groups *g, tables *t, int64_t block, int64_t output, int u) {
  int64_t to = t->at, end = sd_min_i64((block + 1) * g->c->block, g->w->k);
  for (int64_t k = block * g->c->block; k < end; k++) {
    float v = weight(g->w, k, output);
    if (v == 0) continue;
    t->value[to * SD_SPARSE_OWN + u] = v;
    t->index[to++ * SD_SPARSE_OWN + u] = (uint8_t)(k - block * g->c->block);
  }
}

static void shared_steps(const groups *g, tables *t, int64_t block, int64_t output) {
  int64_t to = t->at, end = sd_min_i64((block + 1) * g->c->block, g->w->k);
  for (int64_t k = block * g->c->block; k < end; k++) {
    float v[SD_SPARSE_SHARE];
    bool any = false;
    for (int u = 0; u < SD_SPARSE_SHARE; u++) v[u] = weight(g->w, k, output + u), any |= v[u] != 0;
    if (!any) continue;
    memcpy(t->value + to * SD_SPARSE_SHARE, v, sizeof v);
    t->index[to++] = (uint8_t)(k - block * g->c->block);
  }
}

static void fill(groups *g, tables *t, int64_t part, int64_t block) {
  int each = g->shared ? 1 : SD_SPARSE_OWN;
  sort_units(g, part, block);
  for (int64_t i = 0; i < g->units; i += each) {
    for (int u = 0; u < each; u++) {
      int64_t unit = g->sorted[i + u] & 0xffff, output = part * g->part + unit * g->width;
      for (int v = 0; v < g->width; v++) *t->order++ = (uint16_t)(unit * g->width + v);
      if (g->shared) shared_steps(g, t, block, output);
      else
        own_steps(g, t, block, output, u);
    }
    t->at += g->sorted[i] >> 16;
    *t->start++ = (int32_t)t->at;
  }
}

static void *room(sd_graph *g, uint64_t count, size_t size) { // zeros
  void *p = sd_arena_aligned(g->module->arena, count * size, 64);
  memset(p, 0, count * size);
  return p;
}

sard_status *sd_sparse_tables(sd_graph *graph, const char *name, const sd_sparse_weight *w,
                              const sd_sparse_counts *c, int64_t part, bool shared, sd_arena *scratch,
                              sd_value **out) {
  groups g = groups_of(w, c, part, shared, scratch);
  int64_t group = shared ? SD_SPARSE_SHARE : SD_SPARSE_OWN,
          steps = sd_sparse_steps(w, c, part, shared, scratch);
  if (steps > INT32_MAX / group)
    return SD_ERR(UNSUPPORTED, "a sparse weight of %lld steps", (long long)steps);
  if (steps < 1) steps = 1; // nothing but 0
  int64_t value[2] = {steps, group}, index[2] = {steps, shared ? 1 : group};
  int64_t order[4] = {g.parts, c->blocks, part / group, group},
          start[1] = {order[0] * order[1] * order[2] + 1};
  tables t = {.value = room(graph, (uint64_t)(steps * group), sizeof(float)),
              .index = room(graph, (uint64_t)(steps * index[1]), 1),
              .start = room(graph, (uint64_t)start[0], sizeof(int32_t)),
              .order = room(graph, (uint64_t)(g.parts * c->blocks * part), sizeof(uint16_t))};
  out[0] = sd_value_const(graph, name, SD_F32, 2, value, t.value);
  out[1] = sd_value_const(graph, "", SD_U8, 2, index, t.index);
  out[2] = sd_value_const(graph, "", SD_I32, 1, start, t.start);
  out[3] = sd_value_const(graph, "", SD_U16, 4, order, t.order);
  t.start++;
  for (int64_t p = 0; p < g.parts; p++)
    for (int64_t kb = 0; kb < c->blocks; kb++) fill(&g, &t, p, kb);
  return out[0] && out[1] && out[2] && out[3] ? NULL
                                              : SD_ERR(NOMEM, "tables of sparse weights are too large");
}
