// GatherBlockQuantized: rows of a table of numbers of few bits, dequantized with one scale for each block of
// an axis.
#include "ir/ops.h"
#include "ir/ops/xgraph.h"

typedef struct gather {
  int gather, quantize; // axes
  int64_t block, bits;
  bool packed; // elements below a byte in bytes, along the last axis
} gather;

enum { DATA, INDICES, SCALES, ZEROS };

static sard_status *gather_read(const sd_node *n, gather *q) {
  SD_TRY(sd_sh_rank(n, DATA, 1, SD_MAX_RANK - 1));
  const sd_value *x = n->in[DATA], *s = n->in[SCALES], *z = sd_sh_in(n, ZEROS);
  SD_TRY(sd_sh_rank(n, SCALES, x->rank, x->rank));
  SD_TRY(sd_sh_axis(n, sd_node_int(n, "gather_axis", 0), x->rank, &q->gather));
  SD_TRY(sd_sh_axis(n, sd_node_int(n, "quantize_axis", 1), x->rank, &q->quantize));
  q->block = sd_node_int(n, "block_size", 128), q->bits = sd_node_int(n, "bits", 4);
  q->packed = x->dtype == SD_U8 && q->bits != 8;
  if (q->gather == q->quantize)
    return SD_SH_ERR(n, MODEL, "gather_axis and quantize_axis are both %d", q->gather);
  if (x->dtype == SD_U8 && ((q->bits != 2 && q->bits != 4 && q->bits != 8) || q->gather))
    return SD_SH_ERR(n, MODEL, "%lld bits, gather_axis %d of bytes", (long long)q->bits, q->gather);
  bool low = sd_dtype_is_float(x->dtype);
  if (q->block < (low ? 0 : 1) || q->block > 1 << 30)
    return SD_SH_ERR(n, MODEL, "block_size is %lld", (long long)q->block);
  if (z && (low || z->dtype != x->dtype))
    return SD_SH_ERR(n, MODEL, "zero_points of type %s", sd_dtype_name(z->dtype));
  if (!low) SD_TRY(sd_sh_same(n, s->dims[q->gather], x->dims[q->gather], "rows of data and of scales", NULL));
  return z ? sd_sh_rank(n, ZEROS, x->rank, x->rank) : NULL;
}

// Values of few bits as f32; `last`: the size of the last axis, of which the bytes may hold more.
static sd_value *widened(xg *g, const gather *q, sd_value *v, sd_dim last) {
  if (!q->packed) return sd_xg_cast(g, SD_F32, v);
  v = XG(g, sd_xg_fmt(g, "sard.UnpackBits bits=%lld", (long long)q->bits), v);
  if (v && v->dims[v->rank - 1] != last) {
    sd_dim zero = sd_dim_const(sd_sh_tab(g->at), 0);
    int64_t axis = v->rank - 1;
    v = XG(g, "Slice", v, sd_xg_dims(g, &zero, 1), sd_xg_dims(g, &last, 1), sd_xg_ints(g, &axis, 1));
  }
  return v ? sd_xg_cast(g, SD_F32, v) : NULL;
}

// A value by block as one by element of axis `axis`, which has `size` elements.
static sd_value *repeated(xg *g, const gather *q, sd_value *v, int axis, sd_dim size) {
  sd_dimtab *t = sd_sh_tab(g->at);
  if (!v || sd_dim_is(t, v->dims[axis], 1)) return v;
  sd_dim block = sd_dim_const(t, q->block), zero = sd_dim_const(t, 0), one = sd_dim_const(t, 1);
  sd_value *at = XG(g, "Range", sd_xg_dims(g, &zero, -1), sd_xg_dims(g, &size, -1), sd_xg_dims(g, &one, -1));
  at = XG(g, "Div", at, sd_xg_dims(g, &block, -1));
  return XG(g, sd_xg_fmt(g, "Gather axis=%d", axis), v, at);
}

sard_status *sd_rewrite_ms_gather(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  gather q;
  SD_TRY(gather_read(n, &q));
  sd_dimtab *t = sd_sh_tab(n);
  sd_value *x = n->in[DATA], *s = n->in[SCALES], *z = sd_xg_in(&g, ZEROS),
           *index = sd_xg_cast(&g, SD_I64, n->in[INDICES]);
  int64_t per = q.packed ? 8 / q.bits : 1;
  sd_dim last = sd_dim_mul(t, x->dims[x->rank - 1], sd_dim_const(t, per));
  sd_dim size = q.quantize == x->rank - 1 ? last : x->dims[q.quantize], rows = x->dims[q.gather];
  int to = q.gather < q.quantize ? q.quantize + index->rank - 1 : q.quantize;
  const char *pick = sd_xg_fmt(&g, "Gather axis=%d", q.gather);
  // an index out of range gives zeros
  sd_value *count = sd_xg_dims(&g, &rows, -1), *none = sd_xg_num(&g, SD_I64, 0);
  index = XG(&g, "Where", XG(&g, "Less", index, none), XG(&g, "Add", index, count), index);
  sd_value *inside = XG(&g, "And", XG(&g, "GreaterOrEqual", index, none), XG(&g, "Less", index, count));
  index = XG(&g, "Where", inside, index, none);
  sd_value *y = widened(&g, &q, XG(&g, pick, x, index), last);
  sd_value *of_scale =
      sd_dim_is(t, s->dims[q.gather], 1) && !sd_dim_is(t, rows, 1) ? XG(&g, "Mul", index, none) : index;
  sd_value *scale = repeated(&g, &q, sd_xg_cast(&g, SD_F32, XG(&g, pick, s, of_scale)), to, size);
  if (z) {
    z = widened(&g, &q, XG(&g, pick, z, index), q.quantize == x->rank - 1 ? s->dims[x->rank - 1] : last);
    y = XG(&g, "Sub", y, repeated(&g, &q, z, to, size));
  } else if (x->dtype == SD_U8) {
    y = XG(&g, "Sub", y, sd_xg_f32(&g, (double)(1 << (q.bits - 1))));
  }
  y = XG(&g, "Mul", y, scale);
  sd_dim ones[SD_MAX_RANK];
  if (g.st) return sd_xg_take(&g);
  for (int d = 0; d < y->rank; d++) ones[d] = sd_dim_const(t, 1);
  for (int d = 0; d < index->rank; d++) ones[q.gather + d] = index->dims[d];
  y = XG(&g, "Where", sd_xg_reshape(&g, inside, ones, y->rank), y, sd_xg_f32(&g, 0));
  y = sd_xg_cast(&g, s->dtype, y);
  return sd_xg_finish(&g, &y, 1);
}
