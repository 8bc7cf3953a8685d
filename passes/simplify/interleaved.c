// Transposed convolutions of dequantized bytes become convolutions, which multiply bytes. With stride s a place q of a convolution of
// ceil(K / s) taps makes all s results of an axis that begin there:
//
//   y[m, s q + r - p] = sum x[c, q - j] w[c, m, r + s j]
//
// They stand as channels (r, m) until moves put them side by side, and what the pads p take away is sliced off. A QuantizeLinear behind goes in
// front of the moves, so that these are of bytes.
#include "ir/ops/xgraph.h"
#include "passes/edit.h"
#include "runtime/base/alloc.h"

enum { MOST = SD_MAX_RANK / 2 - 2, MOST_WASTE = 2 }; // axes; products with taps that are filled up with zeros, over those without

typedef struct interleaved {
  xg *g;
  sd_node *n;
  const sd_node *x, *w, *b;               // DequantizeLinear; b NULL: no bias, or one that is constant
  int axes;
  int64_t groups, ins, outs, phases;      // channels of a group
  int64_t kernel[MOST], stride[MOST], taps[MOST], pads[2 * MOST]; // pads: of the convolution
  int64_t from[MOST], left[MOST];         // what is sliced off
} interleaved;

// Constant numbers without a zero point, with a scale, or one for each of `count` channels on the axis.
static bool plain(const sd_node *d, int axis, int64_t count) {
  const sd_value *s = d->in[1];
  int64_t a = sd_node_int(d, "axis", 1);
  if (!d->in[0]->data || !s->data || (d->n_in > 2 && !sd_value_is_zero(d->in[2]))) return false;
  return sd_value_is_single(s) || (s->rank == 1 && s->data->count == (uint64_t)count && (a < 0 ? a + d->in[0]->rank : a) == axis);
}

static bool sizes(interleaved *p) {
  const sd_node *n = p->n;
  const sd_const *w = p->w->in[0]->data;
  int64_t all = 1, needed = 1;
  p->axes = w->rank - 2, p->groups = sd_node_int(n, "group", 1), p->phases = 1;
  if (p->axes < 1 || p->axes > MOST || p->groups < 1 || w->count == 0 || w->dims[0] % p->groups) return false;
  p->ins = w->dims[0] / p->groups, p->outs = w->dims[1];
  for (int i = 0; i < p->axes; i++) {
    int64_t k = w->dims[2 + i], s = sd_edit_entry(n, "strides", i, 1), begin = sd_edit_entry(n, "pads", i, 0),
            more = sd_edit_entry(n, "output_padding", i, 0), end = sd_edit_entry(n, "pads", p->axes + i, 0);
    if (s < 1 || s > 64 || k > 1 << 16 || begin < 0 || end < 0 || begin > 1 << 16 || end > 1 << 16 || more < 0 || more > 1 << 16) return false;
    int64_t first = begin / s, last = k + more - end; // places before the first that is kept, results from the last input on
    p->kernel[i] = k, p->stride[i] = s, p->taps[i] = (k + s - 1) / s, p->phases *= s;
    p->pads[i] = p->taps[i] - 1 - first, p->pads[p->axes + i] = (last + s - 1) / s - 1;
    p->from[i] = begin - first * s, p->left[i] = (last + s - 1) / s * s - last;
    if (last < 1 || p->pads[i] < 0 || p->phases > 1 << 12) return false;
    all *= p->taps[i] * s, needed *= k;
  }
  return all <= MOST_WASTE * needed;
}

static bool fits(interleaved *p) {
  const sd_node *n = p->n;
  const sd_attr *shape = sd_node_attr(n, "output_shape");
  if (!sd_edit_is(n, "ConvTranspose") || sd_node_int(n, "channels_last", 0) || (shape && shape->n)) return false;
  if (!sd_edit_all_are(n, "dilations", 1) || strcmp(sd_node_str(n, "auto_pad", "NOTSET"), "NOTSET") != 0) return false;
  p->x = sd_edit_dequantized(n, 0), p->w = sd_edit_dequantized(n, 1), p->b = sd_edit_dequantized(n, 2);
  if (!p->x || !p->w || !sd_edit_of_bytes(p->x->in[0]) || !sd_edit_of_bytes(p->w->in[0]) || !p->w->in[0]->data || !sd_value_is_single(p->x->in[1])) return false;
  if (p->w->in[0]->rank != p->x->in[0]->rank || !sizes(p) || !plain(p->w, 1, p->outs)) return false;
  return n->n_in < 3 || !n->in[2] || (p->b ? plain(p->b, 0, p->groups * p->outs) : n->in[2]->data != NULL);
}

// Where tap `tap` of the convolution for phase r stands in the window, both counted over all axes; -1: nowhere.
static int64_t source(const interleaved *p, int64_t r, int64_t tap) {
  int64_t at = 0, unit = 1;
  for (int i = p->axes - 1; i >= 0; i--) {
    int64_t k = r % p->stride[i] + p->stride[i] * (p->taps[i] - 1 - tap % p->taps[i]);
    if (k >= p->kernel[i]) return -1;
    at += k * unit, unit *= p->kernel[i], r /= p->stride[i], tap /= p->taps[i];
  }
  return at;
}

// [groups * ins, outs, window] as [groups, phases, outs, ins, taps].
static sd_value *weights(const interleaved *p) {
  const sd_value *v = p->w->in[0];
  int64_t dims[SD_MAX_RANK] = {p->groups * p->phases * p->outs, p->ins}, taps = 1, window = 1, at = 0;
  for (int i = 0; i < p->axes; i++) dims[2 + i] = p->taps[i], taps *= p->taps[i], window *= p->kernel[i];
  uint8_t *to = sd_arena_aligned(p->n->graph->module->arena, (uint64_t)(dims[0] * dims[1] * taps) + 64, 64);
  const uint8_t *from = v->data->data;
  for (int64_t row = 0; row < dims[0]; row++)
    for (int64_t c = 0; c < p->ins; c++)
      for (int64_t t = 0; t < taps; t++, at++) {
        int64_t group = row / (p->phases * p->outs), k = source(p, row / p->outs % p->phases, t);
        if (k >= 0) to[at] = from[((group * p->ins + c) * p->outs + row % p->outs) * window + k];
      }
  return sd_value_const(p->n->graph, v->name, v->dtype, v->data->rank, dims, to);
}

// A vector over the outputs of a group (`each`), or over all outputs, as one over those of the convolution; a scalar stays.
static sd_value *over_phases(const interleaved *p, sd_value *v, bool each) {
  if (!v || v->rank == 0) return v;
  int64_t count = p->groups * p->phases * p->outs;
  size_t size = (size_t)sd_dtype_bits(v->dtype) / 8;
  uint8_t *to = sd_arena_aligned(p->n->graph->module->arena, (uint64_t)count * size + 64, 64);
  for (int64_t i = 0; i < count; i++) {
    int64_t group = i / (p->phases * p->outs), at = (each ? 0 : group * p->outs) + i % p->outs;
    if (v->data->count == 1) at = 0;
    memcpy(to + (size_t)i * size, (const uint8_t *)v->data->data + (size_t)at * size, size);
  }
  return sd_value_const(p->n->graph, v->name, v->dtype, 1, &count, to);
}

static sd_value *bias(interleaved *p) {
  if (!p->b) return p->n->n_in > 2 ? over_phases(p, p->n->in[2], false) : NULL;
  return XG(p->g, "DequantizeLinear axis=0", over_phases(p, p->b->in[0], false), over_phases(p, p->b->in[1], false));
}

static sd_value *convolution(interleaved *p) {
  const char *pads = "";
  for (int i = 0; i < 2 * p->axes; i++) pads = sd_xg_fmt(p->g, "%s%s%lld", pads, i ? "," : "", (long long)p->pads[i]);
  sd_value *w = XG(p->g, "DequantizeLinear axis=0", weights(p), over_phases(p, p->w->in[1], true));
  return XG(p->g, sd_xg_fmt(p->g, "Conv group=%lld pads=%s", (long long)p->groups, pads), p->n->in[0], w, bias(p));
}

// [batch, (groups, phases, outs), places] to [batch, (groups, outs), (places, phases)].
static sd_value *side_by_side(interleaved *p, sd_value *y) {
  sd_dimtab *t = sd_sh_tab(p->n);
  sd_dim split[SD_MAX_RANK], joined[SD_MAX_RANK];
  if (p->phases == 1 || p->g->st) return y;
  int many = p->groups > 1, phase = 1 + many, out = phase + p->axes, place = out + 1, rank = place + p->axes;
  split[0] = joined[0] = y->dims[0], split[1] = sd_dim_const(t, p->groups), split[out] = sd_dim_const(t, p->outs);
  joined[1] = sd_dim_const(t, p->groups * p->outs);
  const char *perm = sd_xg_fmt(p->g, many ? "Transpose perm=0,1,%d" : "Transpose perm=0,%d", out);
  for (int i = 0; i < p->axes; i++) {
    split[phase + i] = sd_dim_const(t, p->stride[i]), split[place + i] = y->dims[2 + i];
    joined[2 + i] = sd_dim_mul(t, y->dims[2 + i], split[phase + i]);
    perm = sd_xg_fmt(p->g, "%s,%d,%d", perm, place + i, phase + i);
  }
  return sd_xg_reshape(p->g, XG(p->g, perm, sd_xg_reshape(p->g, y, split, rank)), joined, 2 + p->axes);
}

static sard_status *replace(interleaved *p) {
  sd_value *y = side_by_side(p, convolution(p));
  for (int i = 0; i < p->axes; i++)
    if (p->from[i] || p->left[i]) y = sd_xg_slice(p->g, y, 2 + i, p->from[i], p->left[i] ? -p->left[i] : INT64_MAX);
  return sd_xg_finish(p->g, &y, 1);
}

// ---- QuantizeLinear ----

static const char *const moves[] = {"Reshape", "Transpose", "Slice", NULL}, *const maps[] = {"Relu", "LeakyRelu", "Clip", NULL};
enum { LONGEST = 16 };

// The nodes between a QuantizeLinear and the convolution in front of it, which nothing else reads, from the last on; 0: there are none.
static int between(const sd_node *n, const sd_node **chain) {
  int count = 0;
  bool moved = false;
  if (!sd_edit_is(n, "QuantizeLinear") || !sd_value_is_single(n->in[1]) || !n->in[1]->data || (n->n_in > 2 && n->in[2] && !n->in[2]->data)) return 0;
  for (const sd_value *v = n->in[0]; v->def && sd_edit_only_use(v) && count < LONGEST; v = chain[count++]->in[0]) {
    if (sd_edit_is(v->def, "Conv")) return moved && sd_edit_dequantized(v->def, 0) && sd_edit_dequantized(v->def, 1) ? count : 0;
    if (!sd_edit_one_of(v->def, moves) && !sd_edit_one_of(v->def, maps)) return 0;
    moved |= sd_edit_one_of(v->def, moves);
    chain[count] = v->def;
  }
  return 0;
}

static sd_value *again(xg *g, const sd_node *n, sd_value *x) {
  sd_value *in[SD_MAX_RANK] = {x};
  if (g->st) return NULL;
  for (uint32_t i = 1; i < n->n_in; i++) in[i] = n->in[i];
  sd_node *c = sd_node_like(n->graph, g->at, n, in, n->n_in, 1);
  sd_xg_fail(g, sd_node_infer(c));
  return g->st ? NULL : c->out[0];
}

static sard_status *forward(xg *g, const sd_node *n, const sd_node *const *chain, int count) {
  sd_value *y = chain[count - 1]->in[0];
  for (int i = count - 1; i >= 0; i--)
    if (sd_edit_one_of(chain[i], maps)) y = again(g, chain[i], y);
  y = again(g, n, y);
  for (int i = count - 1; i >= 0; i--)
    if (sd_edit_one_of(chain[i], moves)) y = again(g, chain[i], y);
  return sd_xg_finish(g, &y, 1);
}

static sard_status *rewrite(sd_node *n, bool *done) {
  XG_SCOPE xg g = {.at = n};
  const sd_node *chain[LONGEST];
  interleaved p = {.g = &g, .n = n};
  int count = between(n, chain);
  *done = count > 0 || fits(&p);
  if (count > 0) return forward(&g, n, chain, count);
  return *done ? replace(&p) : NULL;
}

sard_status *sd_pass_interleaved(sd_module *m, const sd_pass_options *o, sd_arena *scratch, sd_pass_report *r) {
  (void)scratch;
  return o->target.byte_products ? sd_edit_nodes(m, o, r, rewrite) : NULL;
}
