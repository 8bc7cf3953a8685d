// 3x3 convolutions of stride 1 that gain from it become sard.WinogradConv, with weights transformed in f64; those of
// volumes sum over the images of their depth. Those of bytes become sard.WinogradConv8 where bytes are multiplied by two instructions.
#include "passes/simplify/winograd.h"

#include "ir/ops/winograd.h"

#include "passes/edit.h"
#include "runtime/base/alloc.h"

#define LEAST_CHANNELS 8
#define LEAST_GAIN     0.9 // of the estimates, which think of models that do not fit the caches

// Taps of the window in front of the 3x3: 1 for images.
static bool taps_of(const sd_value *w, int64_t *depth) {
  const sd_dimtab *t = w->graph->module->dims;
  int first = w->rank - 4;
  *depth = 1;
  if (first != 0 && (first != 1 || !sd_dim_is_const(t, w->dims[0], depth))) return false;
  return sd_dim_is(t, w->dims[first], 3) && sd_dim_is(t, w->dims[first + 1], 3);
}

// Of f32, or of bytes as sd_product8 leaves them.
static bool of_type(const sd_node *n, const sd_pass_target *target) {
  const sd_value *x = n->in[0], *w = n->in[1];
  if (!w->data || w->dtype != w->data->dtype || x->data) return false;
  if (sd_edit_is(n, "Conv")) return w->dtype == SD_F32;
  return target->sparse && target->sparse->words8 > 0 && w->dtype == SD_I8 && x->dtype == SD_U8;
}

static bool fits(const sd_node *n, const sd_pass_target *target, sd_winograd_shape *s) {
  const sd_value *x, *w, *y = n->out[0];
  sd_dimtab *t = n->graph->module->dims;
  int64_t ic, oc, depth;
  bool bytes = sd_edit_is(n, "sard.Conv8");
  if ((!bytes && !sd_edit_is(n, "Conv")) || !sd_node_int(n, "channels_last", 0) || sd_node_int(n, "group", 1) != 1) return false;
  x = n->in[0], w = n->in[1];
  if (!of_type(n, target) || x->rank != w->rank || !taps_of(w, &depth)) return false;
  if (!sd_edit_all_are(n, "strides", 1) || !sd_edit_all_are(n, "dilations", 1) || !sd_edit_all_are(n, "pads", 0)) return false;
  const char *pad = sd_node_str(n, "auto_pad", "NOTSET");
  if (strcmp(pad, "NOTSET") != 0 && strcmp(pad, "VALID") != 0) return false;
  int rank = w->rank;
  if (!sd_dim_is_const(t, w->dims[rank - 2], &ic) || !sd_dim_is_const(t, w->dims[rank - 1], &oc)) return false;
  if (y->dims[rank - 4] == SD_DIM_NONE || y->dims[rank - 3] == SD_DIM_NONE || y->dims[rank - 2] == SD_DIM_NONE) return false;
  *s = sd_winograd_shape_of(t, y->dims[rank - 4], y->dims[rank - 3], y->dims[rank - 2], depth, ic, oc);
  if (target->lanes) s->lanes = target->lanes, s->registers = target->registers;
  if (bytes) s->words = target->sparse->words8 / target->sparse->dense;
  return !bytes || depth * ic <= SD_WINO_BYTES;
}

static double direct(const sd_winograd_shape *s, const sd_pass_target *target) {
  double rate = s->words > 0 ? target->sparse->dense / target->sparse->dense8 : 1;
  return sd_winograd_direct(s) * rate;
}

// The cheaper of the tile sizes when it gains enough.
static bool gains(const sd_winograd_shape *s, const sd_pass_target *target, sd_winograd_plan *best) {
  if (s->depth * s->ic < LEAST_CHANNELS || s->oc < LEAST_CHANNELS) return false;
  *best = sd_winograd_choose(2, s);
  if (s->words <= 0) { // more bits than i16 has
    sd_winograd_plan four = sd_winograd_choose(4, s);
    if (four.cost <= best->cost) *best = four;
  }
  return sd_winograd_cost(best, s) * LEAST_GAIN < direct(s, target);
}

double sd_winograd_speedup(const sd_node *n, const sd_pass_target *target) {
  sd_winograd_shape s;
  sd_winograd_plan p;
  return fits(n, target, &s) && gains(&s, target, &p) ? direct(&s, target) / sd_winograd_cost(&p, &s) : 1;
}

// ---- weights ----

#define LANES 16 // output channels at a time: a cache line of the result

typedef struct weights {
  const void *w; // [depth][3][3][ic][oc] of f32, perhaps not aligned, or of i8
  void *u;       // [points^2][depth * ic][oc] of f32, or four times that of i16
  bool bytes;
  int64_t depth, ic, oc;
  int points;
  double g[SD_WINO_MAX][3];
} weights;

static void read_line(const weights *t, int64_t at, int64_t lanes, double *out) {
  float line[LANES] = {0};
  if (!t->bytes) memcpy(line, (const float *)t->w + at, (size_t)lanes * sizeof *line);
  for (int l = 0; l < LANES; l++) out[l] = t->bytes && l < lanes ? ((const int8_t *)t->w)[at + l] : line[l];
}

static void write_line(const weights *t, int64_t at, int64_t lanes, const double *v) {
  for (int64_t l = 0; l < lanes; l++)
    if (t->bytes) ((int16_t *)t->u)[at + l] = (int16_t)(4 * v[l]);
    else ((float *)t->u)[at + l] = (float)v[l];
}

// G g Gt for `lanes` output channels from `o` on of input channel c, counted through all images of the depth.
static void transform_block(const weights *t, int64_t c, int64_t o, int64_t lanes) {
  double taps[3][3][LANES], half[SD_WINO_MAX][3][LANES], line[LANES];
  for (int k = 0; k < 9; k++) read_line(t, ((c / t->ic * 9 + k) * t->ic + c % t->ic) * t->oc + o, lanes, taps[k / 3][k % 3]);
  for (int p = 0; p < t->points; p++)
    for (int k = 0; k < 3; k++)
      for (int l = 0; l < LANES; l++)
        half[p][k][l] = t->g[p][0] * taps[0][k][l] + t->g[p][1] * taps[1][k][l] + t->g[p][2] * taps[2][k][l];
  for (int p = 0; p < t->points; p++)
    for (int q = 0; q < t->points; q++) {
      for (int l = 0; l < LANES; l++)
        line[l] = t->g[q][0] * half[p][0][l] + t->g[q][1] * half[p][1][l] + t->g[q][2] * half[p][2][l];
      write_line(t, ((p * t->points + q) * t->depth * t->ic + c) * t->oc + o, lanes, line);
    }
}

// U [points^2, depth * IC, OC] from HWIO or DHWIO weights.
static sard_status *transform(sd_graph *g, const sd_value *w, int m, sd_value **out) {
  const int64_t *size = w->data->dims + w->rank - 4;
  weights t = {.w = w->data->data, .depth = w->rank > 4 ? size[-1] : 1, .ic = size[2], .oc = size[3], .points = m + 2,
               .bytes = w->dtype == SD_I8};
  int64_t dims[3] = {t.points * t.points, t.depth * t.ic, t.oc};
  uint64_t bytes;
  if (!sd_ck_mul((uint64_t)dims[0] * (t.bytes ? sizeof(int16_t) : sizeof(float)), w->data->count / 9, &bytes)) return SD_ERR(NOMEM, "transformed weights are too large");
  t.u = sd_arena_aligned(g->module->arena, bytes, 64);
  for (int i = 0; i < t.points; i++)
    for (int j = 0; j < 3; j++) t.g[i][j] = sd_winograd_g(m, i, j);
  for (int64_t c = 0; c < dims[1]; c++)
    for (int64_t o = 0; o < t.oc; o += LANES) transform_block(&t, c, o, sd_min_i64(LANES, t.oc - o));
  *out = sd_value_const(g, w->name, t.bytes ? SD_I16 : SD_F32, 3, dims, t.u);
  return *out ? NULL : SD_ERR(NOMEM, "transformed weights are too large");
}

// ---- borders ----

#define MOST_PADS 10 // numbers for each of the five axes of volumes

static sd_value *pad_value(const sd_node *pad) { return pad->n_in > 2 ? pad->in[2] : NULL; }

// A Pad of all sides, known in numbers, with zeros, or with bytes of one value: results do not depend on what stands behind the borders.
static bool plain_pad(const sd_node *n, int64_t *pads) {
  uint32_t count, all = 2 * (uint32_t)n->out[0]->rank;
  if (!sd_edit_is(n, "Pad") || strcmp(sd_node_str(n, "mode", "constant"), "constant") != 0 || (n->n_in > 3 && n->in[3])) return false;
  const sd_value *v = pad_value(n);
  if (v && (!v->data || v->data->count != 1)) return false;
  if (v && !sd_dtype_is_int(v->dtype) && sd_dtype_get_f64(v->dtype, v->data->data, 0) != 0) return false;
  if (!sd_edit_ints(n, 1, pads, MOST_PADS, &count) || count != all) return false;
  for (uint32_t i = 0; i < all; i++)
    if (pads[i] < 0) return false;
  return true;
}

static sard_status *pads_value(sd_graph *g, sd_node *before, const sd_dim *pads, uint32_t count, sd_value **out) {
  int64_t numbers[MOST_PADS];
  const char **texts = SD_NEW_ARRAY(g->module->arena, const char *, count);
  bool constant = true;
  for (uint32_t i = 0; i < count; i++) {
    constant &= sd_dim_is_const(g->module->dims, pads[i], &numbers[i]);
    texts[i] = sd_dim_text(g->module->dims, pads[i], g->module->arena);
  }
  if (constant) {
    *out = sd_value_const_i64(g, numbers, (int)count);
    return NULL;
  }
  const sd_op *op = sd_op_find("sard.Dims");
  if (!op) return SD_ERR(INTERNAL, "the operator table has no sard.Dims");
  sd_node *d = sd_node_new(g, before, op, NULL, 0, 1);
  *sd_node_attr(d, "dims") = (sd_attr){.kind = SD_ATTR_STRINGS, .n = count, .strings = texts};
  *out = d->out[0];
  return sd_node_infer(d);
}

// A Pad with that value of exactly these sides.
static bool same_pads(const sd_node *p, const sd_value *value, const sd_dim *pads, uint32_t n) {
  sd_dim have[MOST_PADS];
  uint32_t count;
  if (!sd_edit_is(p, "Pad") || p->n_in > 3 || pad_value(p) != value || strcmp(sd_node_str(p, "mode", "constant"), "constant") != 0) return false;
  return sd_value_elems(p->in[1], have, MOST_PADS, &count) && count == n && memcmp(have, pads, n * sizeof *have) == 0;
}

// x with more at the end of rows and columns, up to the given sizes; a Pad that makes x is made anew instead of padding twice.
static sard_status *extend(sd_node *n, sd_value *x, const sd_dim *size, sd_value **out) {
  sd_graph *g = n->graph;
  sd_dimtab *t = g->module->dims;
  int64_t old[MOST_PADS] = {0};
  sd_dim pads[MOST_PADS];
  sd_value *from = x, *value = NULL;
  int rows = x->rank - 3;
  uint32_t count = 2 * (uint32_t)x->rank;
  bool same = true;
  if (x->def && x->def->graph == g && plain_pad(x->def, old)) from = x->def->in[0], value = pad_value(x->def);
  else memset(old, 0, sizeof old);
  for (uint32_t i = 0; i < count; i++) pads[i] = sd_dim_const(t, old[i]);
  for (int d = rows; d < rows + 2; d++) {
    pads[x->rank + d] = sd_dim_add(t, pads[x->rank + d], sd_dim_sub(t, size[d - rows], x->dims[d]));
    same &= x->dims[d] == size[d - rows];
  }
  *out = x;
  if (same) return NULL;
  for (uint32_t i = 0; i < from->uses.len; i++) { // made before for another convolution
    sd_node *p = from->uses.at[i].node;
    if (p == x->def || p->graph != g || !same_pads(p, value, pads, count)) continue;
    *out = p->out[0];
    return NULL;
  }
  sd_node *before = from != x ? x->def : n;
  sd_value *amount = NULL;
  SD_TRY(pads_value(g, before, pads, count, &amount));
  return sd_edit_apply(g, before, "Pad", (sd_value *[]){from, amount, value}, value ? 3 : 2, out);
}

static sard_status *replace(sd_node *n, const sd_winograd_plan *p) {
  sd_value *in[3] = {NULL, NULL, n->n_in > 2 ? n->in[2] : NULL};
  const char *name = sd_edit_is(n, "Conv") ? "sard.WinogradConv" : "sard.WinogradConv8";
  const sd_op *op = sd_op_find(name);
  if (!op) return SD_ERR(INTERNAL, "the operator table has no %s", name);
  sd_module *m = n->graph->module;
  const sd_value *w = n->in[1];
  const sd_dim *y = n->out[0]->dims + n->out[0]->rank - 3;
  int64_t depth, blocks[4] = {p->block_n, p->block_r, p->block_c, p->groups};
  sd_dim size[2] = {sd_winograd_padded(m->dims, p->m, p->block_r, y[0]), sd_winograd_padded(m->dims, p->m, p->block_c, y[1])};
  const char **texts = SD_NEW_ARRAY(m->arena, const char *, 2);
  texts[0] = sd_dim_text(m->dims, y[0], m->arena), texts[1] = sd_dim_text(m->dims, y[1], m->arena);
  taps_of(w, &depth);
  SD_TRY(extend(n, n->in[0], size, &in[0]));
  SD_TRY(transform(n->graph, w, p->m, &in[1]));
  if (!sd_edit_read_elsewhere(w, n)) sd_const_release(m, w->data, true);
  sd_node *c = sd_node_new(n->graph, n, op, in, in[2] ? 3 : 2, 1);
  c->name = n->name, c->onnx_index = n->onnx_index;
  sd_node_set_int(c, "tile", p->m), sd_node_set_int(c, "depth", depth);
  sd_node_set_ints(c, "blocks", blocks, 4);
  *sd_node_attr(c, "size") = (sd_attr){.kind = SD_ATTR_STRINGS, .n = 2, .strings = texts};
  SD_TRY(sd_node_infer(c));
  c->out[0]->name = n->out[0]->name;
  sd_value_replace(n->out[0], c->out[0]);
  sd_node_remove(n);
  return NULL;
}

static sard_status *rewrite(sd_node *n, const sd_pass_target *target, bool *done) {
  sd_winograd_shape s;
  sd_winograd_plan p;
  *done = fits(n, target, &s) && gains(&s, target, &p);
  return *done ? replace(n, &p) : NULL;
}

sard_status *sd_pass_winograd(sd_module *m, const sd_pass_options *o, sd_arena *scratch, sd_pass_report *r) {
  (void)scratch;
  return o->target.winograd ? sd_edit_nodes_for(m, o, r, rewrite) : NULL;
}
