// Points with lanes: where the elements of neighbouring points are neighbours, a thread computes as many as
// make an access of 16 bytes.
#include "codegen/choose_cuda_nest.h"

#define MOST_NODES 2500 // operations of all lanes, which stand side by side in the text of the machine
#define MOST_BYTES 256  // of the loads of a thread

static bool count_node(void *user, const sd_expr *e) {
  *(int *)user += e->dtype != SD_I64;
  return true;
}

static int nodes(const sd_cuda_choice *c) {
  int n = 0;
  for (uint32_t i = 0; i < c->n->stores.len; i++) sd_x_walk(c->k, c->n->stores.at[i].value, count_node, &n);
  return n;
}

// Are there few points, so that each had better have a thread? Where only the run knows, there are many.
static bool few(const sd_cuda_choice *c, int lanes) {
  return sd_cuda_known(c) && sd_cuda_points(c) / lanes < SD_CUDA_FEWEST_THREADS;
}

// As many elements as the narrowest access needs for 16 bytes, where the widest one is not longer than 32.
int sd_cuda_most_lanes(const sd_cuda_choice *c, const sd_axis *a) {
  int narrow = sd_dtype_bits(c->n->stores.at[0].buf->dtype), wide = narrow, bytes = 0;
  for (uint32_t i = 0; i < c->loads.len; i++) {
    const sd_expr *l = c->loads.at[i].load;
    if (sd_access_stride(c->k, l->a[0], a) != SD_STRIDE_ONE) continue;
    int bits = sd_dtype_bits(l->buf->dtype);
    narrow = bits < narrow ? bits : narrow, wide = bits > wide ? bits : wide, bytes += (bits + 7) / 8;
  }
  int v = 128 / narrow;
  while (v > 1 && (v * wide > 256 || v * bytes > MOST_BYTES || v > 16)) v /= 2;
  for (int n = nodes(c); v > 1 && n * v > MOST_NODES;) v /= 2;
  while (v > 1 && v * narrow > 32 && few(c, v)) v /= 2;
  return v;
}

static bool vectors(sd_cuda_choice *c) {
  sd_cuda_nest *o = c->out;
  sd_accesses loads = {0};
  sd_reductions reductions = {0};
  const sd_store *s = o->nest->stores.at;
  if (!sd_cuda_vector_of(c->k, s->buf, s->offset, o->lane, o).count) return false;
  for (uint32_t i = 1; i < o->nest->stores.len; i++)
    sd_cuda_vector_of(c->k, s[i].buf, s[i].offset, o->lane, o);
  sd_access_collect(c->k, o->nest, c->a, &loads, &reductions);
  return sd_cuda_vectors(c, &loads, o->lane);
}

void sd_choose_cuda_points(sd_cuda_choice *c) {
  sd_cuda_nest *o = c->out;
  const sd_cuda_nest plain = *o;
  uint32_t n = c->n->n_axes;
  if (!c->whole || n == 0 || sd_cuda_has_limits(c) || sd_cuda_reads_own(c)) return;
  const sd_axis *a = o->axes[n - 1];
  if (sd_access_stride(c->k, c->n->stores.at[0].offset, a) != SD_STRIDE_ONE) return;
  for (int v = sd_cuda_most_lanes(c, a); v > 1; v /= 2) {
    int64_t extent;
    bool known = sd_dim_is_const(c->k->dims, a->extent, &extent),
         whole = sd_dim_multiple_of(c->k->dims, a->extent, v);
    if (known && (extent < v || (n > 1 && !whole))) continue;
    sd_cuda_make_lanes(c, n - 1, v);
    if (n > 1 && !whole) sd_cuda_test(o, a->extent, v);
    if (vectors(c)) return;
    *o = plain;
  }
}
