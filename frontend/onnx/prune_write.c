// Labels through what writes parts of a value, as keys and values of a step into caches of a fixed length.
// The axes that places are found along stay whole; along the others what is written goes with what was there.
#include <string.h>

#include "frontend/onnx/prune_flow.h"

typedef struct writing {
  const char *op;
  uint32_t updates, indices;
  bool in_front; // an index has elements for axes in front, instead of one for the attribute `axis`
  bool batch;    // each place of axis 0 has an index of its own
  bool each;     // each element of the updates has
} writing;

static const writing writings[] = {
    {"ScatterND", 2, 1, .in_front = true},
    {"ScatterElements", 2, 1, .each = true},
    {"TensorScatter", 1, 2, .batch = true},
};

static const writing *writing_of(const sd_node *n) {
  for (size_t i = 0; i < sizeof writings / sizeof *writings; i++)
    if (strcmp(n->op->name, writings[i].op) == 0) return &writings[i];
  return NULL;
}

bool sd_strand_writes(const sd_node *n) { return writing_of(n) != NULL; }

// The pieces of operand i that lie along axes of which no places are found, on the axes that these are of the
// result: there, its own are `shift` further on. NULL: there are none, and labels are fixed.
static sd_strand *others(sd_following *g, const sd_node *n, uint32_t i, const bool *whole, int shift) {
  const sd_value *v = n->in[i], *y = n->out[0];
  sd_strand *x = sd_strand_of(g, v);
  unsigned keep = 0;
  for (int j = 0; x && j < x->k; j++) {
    int axis = x->of[j].axis + shift;
    if (axis >= 0 && axis < y->rank && !whole[axis] && y->dims[axis] == v->dims[x->of[j].axis])
      keep |= 1U << j;
  }
  x = x ? sd_strand_keep(g, x, keep) : NULL;
  for (int j = 0; x && j < x->k; j++) x->of[j].axis += shift;
  return x;
}

// The axes of the result along which places are found, and by how many its axes lie behind those of the
// updates; false: it is not known.
static bool places(const sd_following *g, const sd_node *n, const writing *w, bool *whole, int *shift) {
  const sd_value *at = w->indices < n->n_in ? n->in[w->indices] : NULL, *y = n->out[0];
  int64_t depth = w->in_front && at && at->rank > 0 ? sd_strand_dim(g, at, at->rank - 1) : 0;
  int64_t axis = sd_node_int(n, "axis", w->batch ? -2 : 0);
  axis += axis < 0 ? y->rank : 0;
  for (int i = 0; i < y->rank; i++) whole[i] = w->in_front ? i < depth : i == axis || (i == 0 && w->batch);
  *shift = w->in_front && at ? (int)depth - (at->rank - 1) : 0;
  return n->in[w->updates]->rank == y->rank - *shift && (!w->in_front || depth > 0);
}

unsigned sd_strand_whole(const sd_following *g, const sd_node *n) {
  bool whole[SD_MAX_RANK] = {false};
  unsigned bits = 0;
  int shift;
  if (!places(g, n, writing_of(n), whole, &shift)) return 0;
  for (int i = 0; i < n->out[0]->rank; i++) bits |= whole[i] ? 1U << i : 0;
  return bits;
}

void sd_strand_written(sd_following *g, const sd_node *n) {
  const writing *w = writing_of(n);
  bool whole[SD_MAX_RANK] = {false};
  int shift = 0;
  bool good = places(g, n, w, whole, &shift);
  sd_strand *x = good ? others(g, n, 0, whole, 0) : NULL,
            *u = x ? others(g, n, w->updates, whole, shift) : NULL;
  x = u ? sd_strand_agree(g, x, u) : NULL;
  if (x && w->each) u = others(g, n, w->indices, whole, 0), x = u ? sd_strand_agree(g, x, u) : NULL;
  for (uint32_t i = 0; i < n->n_in; i++)
    if (!x || (i == w->indices && !w->each)) sd_strand_fix(g, sd_strand_of(g, n->in[i]));
  if (x) sd_strand_put(g, n->out[0], x);
}
