// What is quantized again stays integer:
//
//   Q(move(DQ(x, s, z)), s, z)           = move(x)                          the same scale and zero point on both sides
//   Q(Relu(x), s, z)                     = Q(x, s, z)                       where z is the lowest number
//   Q(Relu?(i32 sums * m + b), s, z)     = Q(Relu?(sums * (m/s) + b/s), 1, z)
//   Unsigned(Q(x, s, z)) of i8           = Q(x, s, z + 128) of u8           where all that reads it can read that
#include "passes/edit.h"

#define MAX_MOVES 8

static bool single(const sd_value *v) { return v && v->data && v->data->count == 1; }

// The value of a single constant.
static double number(const sd_value *v) {
  return sd_dtype_is_float(v->dtype) ? sd_dtype_get_f64(v->dtype, v->data->data, 0) : (double)sd_dtype_get_i64(v->dtype, v->data->data, 0);
}

static sd_value *zero_of(const sd_node *q) { return q->n_in > 2 ? q->in[2] : NULL; }

// One constant positive f32 scale, and one constant zero point or none.
static bool plain(const sd_node *q) {
  const sd_value *z = zero_of(q);
  return single(q->in[1]) && q->in[1]->dtype == SD_F32 && number(q->in[1]) > 0 && (!z || single(z)) && !sd_node_int(q, "block_size", 0);
}

static bool same_numbers(const sd_node *a, const sd_node *b) {
  const sd_value *x = zero_of(a), *y = zero_of(b);
  return number(a->in[1]) == number(b->in[1]) && (x ? number(x) : 0) == (y ? number(y) : 0);
}

static bool quantizes(const sd_node *n) { return sd_edit_is(n, "QuantizeLinear") && plain(n) && n->in[0]->dtype == SD_F32; }

// Removes n and what it alone reads: others would seem to be read twice.
static void remove_unused(sd_node *n) {
  for (int depth = 0; n && depth < MAX_MOVES + 2; depth++) {
    for (uint32_t i = 0; i < n->n_out; i++)
      if (n->out[i] && (n->out[i]->uses.len || sd_value_is_output(n->out[i]))) return;
    sd_node *before = n->n_in && n->in[0] ? n->in[0]->def : NULL;
    sd_node_remove(n);
    n = before;
  }
}

// ---- moves between ----

// Each element of the result is an element of operand 0, or the largest of some.
static bool moves(const sd_node *n) {
  static const char *const others[] = {"MaxPool", "GlobalMaxPool", "Tile", NULL};
  unsigned traits = SD_RENAMES | SD_PERMUTES | SD_REGROUPS | SD_CUTS | SD_REPEATS | SD_LOOKS_UP;
  if (!sd_op_has(n->op, traits) && !sd_edit_one_of(n, others)) return false;
  for (uint32_t i = 1; i < n->n_out; i++)
    if (n->out[i]) return false;
  return true;
}

static bool dequantizes_alike(const sd_node *d, const sd_node *q) {
  return sd_edit_is(d, "DequantizeLinear") && plain(d) && d->in[0]->dtype == q->out[0]->dtype && same_numbers(d, q);
}

static sard_status *take_place(sd_node *q, sd_value *v) {
  sd_node *before = q->in[0]->def;
  if (sd_value_is_output(q->out[0]) && (!v->def || sd_value_is_output(v)))
    SD_TRY(sd_edit_apply(q->graph, q, "Identity", &v, 1, &v));
  if (sd_value_is_output(q->out[0])) v->name = q->out[0]->name;
  sd_value_replace(q->out[0], v);
  sd_node_remove(q);
  remove_unused(before);
  return NULL;
}

static sard_status *through_moves(sd_node *q, bool *done) {
  sd_node *chain[MAX_MOVES], *n = q->in[0]->def;
  uint32_t count = 0;
  while (n && count < MAX_MOVES && moves(n)) chain[count++] = n, n = n->in[0]->def;
  if (!dequantizes_alike(n, q)) return NULL;
  sd_value *v = n->in[0];
  while (count-- > 0) {
    sd_value *in[SD_MAX_RANK];
    if (chain[count]->n_in > SD_MAX_RANK) return NULL;
    memcpy(in, chain[count]->in, chain[count]->n_in * sizeof *in);
    in[0] = v;
    sd_node *c = sd_node_like(q->graph, q, chain[count], in, chain[count]->n_in, 1);
    SD_TRY(sd_node_infer(c));
    v = c->out[0];
  }
  *done = true;
  return take_place(q, v);
}

static sard_status *through_concat(sd_node *q, bool *done) {
  const sd_node *c = q->in[0]->def;
  if (!sd_edit_is(c, "Concat")) return NULL;
  sd_value **in = SD_NEW_ARRAY(q->graph->module->arena, sd_value *, c->n_in + 1);
  for (uint32_t i = 0; i < c->n_in; i++) {
    if (!dequantizes_alike(c->in[i]->def, q)) return NULL;
    in[i] = c->in[i]->def->in[0];
  }
  sd_node *x = sd_node_like(q->graph, q, c, in, c->n_in, 1);
  SD_TRY(sd_node_infer(x));
  *done = true;
  return take_place(q, x->out[0]);
}

// ---- limits ----

static int64_t lowest(sd_dtype t) { return sd_dtype_kind_of(t) == SD_DK_U ? 0 : -((int64_t)1 << (sd_dtype_bits(t) - 1)); }

static bool cuts_below_zero(const sd_node *q) {
  const sd_value *z = zero_of(q);
  return (z ? (int64_t)number(z) : 0) == lowest(q->out[0]->dtype);
}

static bool drop_relu(sd_node *q) {
  sd_node *r = q->in[0]->def;
  if (!sd_edit_is(r, "Relu") || !cuts_below_zero(q)) return false;
  sd_node_set_input(q, 0, r->in[0]);
  remove_unused(r);
  return true;
}

// ---- sums in the unit of the result ----

// The constant operand of a Mul or Add that alone is read by what comes next; *other: the other operand.
static sd_value *constant_of(const sd_node *n, const char *op, sd_value **other) {
  if (!sd_edit_is(n, op) || !sd_edit_only_use(n->out[0])) return NULL;
  for (int i = 0; i < 2; i++)
    if (n->in[i]->data && n->in[i]->dtype == SD_F32 && !n->in[1 - i]->data) return *other = n->in[1 - i], n->in[i];
  return NULL;
}

static bool is_sum(const sd_value *v) {
  const sd_node *c = v->def;
  return sd_edit_is(c, "Cast") && c->in[0]->dtype == SD_I32 && v->dtype == SD_F32;
}

static sard_status *scale_once(sd_node *q, bool *done) {
  sd_graph *g = q->graph;
  sd_value *s = q->in[1], *sum, *t, *m, *b = NULL, *scaled;
  sd_node *relu = q->in[0]->def, *n = relu;
  if (number(s) == 1) return NULL;
  if (sd_edit_is(relu, "Relu") && sd_edit_only_use(relu->out[0])) n = relu->in[0]->def;
  else relu = NULL;
  if ((b = constant_of(n, "Add", &t))) n = t->def;
  if (!(m = constant_of(n, "Mul", &sum)) || !is_sum(sum)) return NULL;
  SD_TRY(sd_edit_apply(g, q, "Div", (sd_value *[]){m, s}, 2, &m));
  SD_TRY(sd_edit_apply(g, q, "Mul", (sd_value *[]){sum, m}, 2, &scaled));
  if (b) {
    SD_TRY(sd_edit_apply(g, q, "Div", (sd_value *[]){b, s}, 2, &b));
    SD_TRY(sd_edit_apply(g, q, "Add", (sd_value *[]){scaled, b}, 2, &scaled));
  }
  if (relu) SD_TRY(sd_edit_apply(g, q, "Relu", &scaled, 1, &scaled));
  sd_node *before = q->in[0]->def;
  sd_node_set_input(q, 0, scaled);
  sd_node_set_input(q, 1, sd_value_const_f32(g, 1));
  remove_unused(before);
  *done = true;
  return NULL;
}

// Mul(Mul(sums, m), n) of constants is one Mul.
static sard_status *merge_scales(sd_node *n, bool *done) {
  sd_value *inner, *sum, *m, *k = NULL;
  for (int i = 0; i < 2 && !k; i++)
    if (n->in[i]->data && n->in[i]->dtype == SD_F32) k = n->in[i], inner = n->in[1 - i];
  if (!k || !(m = constant_of(inner->def, "Mul", &sum)) || !is_sum(sum)) return NULL;
  SD_TRY(sd_edit_apply(n->graph, n, "Mul", (sd_value *[]){m, k}, 2, &m));
  sd_node_set_input(n, 0, sum);
  sd_node_set_input(n, 1, m);
  *done = true;
  return NULL;
}

// ---- signs ----

// z + 128 as u8; NULL: none was given.
static sd_value *raised(sd_graph *g, const sd_value *z) {
  uint8_t *v = SD_NEW_ARRAY(g->module->arena, uint8_t, 16);
  *v = (uint8_t)((z ? number(z) : 0) + 128);
  return sd_value_const(g, z ? z->name : "", SD_U8, 0, NULL, v);
}

static bool reads_unsigned(const sd_node *n) {
  return sd_edit_is(n, "sard.Unsigned") || (sd_edit_is(n, "DequantizeLinear") && plain(n));
}

// An i8 result that a product wants as u8 is made as u8, also for what dequantizes it. *next: where to go on.
static sard_status *become_unsigned(sd_node *q, sd_node **next, bool *done) {
  sd_value *y = q->out[0], *u;
  bool wanted = false;
  *next = q->next;
  if (y->dtype != SD_I8 || sd_value_is_output(y)) return NULL;
  for (uint32_t i = 0; i < y->uses.len; i++) {
    if (y->uses.at[i].operand != 0 || !reads_unsigned(y->uses.at[i].node)) return NULL;
    wanted |= sd_edit_is(y->uses.at[i].node, "sard.Unsigned");
  }
  if (!wanted) return NULL;
  SD_TRY(sd_edit_apply(q->graph, q, "QuantizeLinear", (sd_value *[]){q->in[0], q->in[1], raised(q->graph, zero_of(q))}, 3, &u));
  u->name = y->name;
  while (y->uses.len) {
    sd_node *n = y->uses.at[0].node;
    if (sd_edit_is(n, "sard.Unsigned")) {
      sd_value_replace(n->out[0], u);
      sd_node_remove(n);
      continue;
    }
    sd_value *in[3] = {u, n->in[1], raised(q->graph, zero_of(n))};
    sd_node *d = sd_node_like(n->graph, n, n, in, 3, 1);
    SD_TRY(sd_node_infer(d));
    d->out[0]->name = n->out[0]->name;
    sd_value_replace(n->out[0], d->out[0]);
    sd_node_remove(n);
  }
  sd_node_remove(q);
  *next = u->def->next;
  *done = true;
  return NULL;
}

// ---- the pass ----

static sard_status *rewrite(sd_node *n, bool *done) {
  if (sd_edit_is(n, "Mul")) return merge_scales(n, done);
  if (!quantizes(n)) return NULL;
  bool moved = false;
  *done = drop_relu(n);
  SD_TRY(through_moves(n, &moved));
  if (!moved) SD_TRY(through_concat(n, &moved));
  *done |= moved;
  return moved ? NULL : scale_once(n, done);
}

typedef struct work {
  const sd_pass_options *o;
  sd_pass_report *r;
} work;

static sard_status *signs(sd_graph *g, void *user) {
  const work *w = user;
  for (sd_node *n = g->first, *next; n; n = next) {
    next = n->next;
    if (w->o->bisect >= 0 && w->r->rewrites >= w->o->bisect) return NULL;
    bool done = false;
    sard_status *st = quantizes(n) ? become_unsigned(n, &next, &done) : NULL;
    if (st) return sd_node_error(n, st);
    w->r->rewrites += done;
  }
  return NULL;
}

sard_status *sd_pass_requantize(sd_module *m, const sd_pass_options *o, sd_arena *scratch, sd_pass_report *r) {
  (void)scratch;
  SD_TRY(sd_edit_nodes(m, o, r, rewrite));
  work w = {o, r};
  return sd_edit_graphs(m, signs, &w);
}
