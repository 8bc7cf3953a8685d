// Where integers begin and end in a graph: which activations become integers, which nodes compute on them, and which
// values share a scale.
#include <string.h>

#include "frontend/onnx/moments.h"
#include "frontend/onnx/quant_internal.h"
#include "runtime/base/hash.h"

// ---- values ----

static sd_flow *flow_of(sd_places *s, const char *name) {
  sd_flow *f = sd_names_get(&s->flows, name);
  if (f) return f;
  f = SD_NEW(s->p->a, sd_flow);
  f->name = name;
  sd_names_add(&s->flows, name, f);
  sd_vec_push(s->p->a, &s->order, f);
  return f;
}

static void pin_body(sd_places *s, const Onnx__GraphProto *g, int depth) {
  for (size_t i = 0; i < g->n_node && depth < SD_MAX_DEPTH; i++) {
    const Onnx__NodeProto *n = g->node[i];
    for (size_t k = 0; k < n->n_input; k++)
      if (*n->input[k]) flow_of(s, n->input[k])->pinned = true;
    for (size_t k = 0; k < n->n_attribute; k++)
      if (n->attribute[k]->g) pin_body(s, n->attribute[k]->g, depth + 1);
  }
  for (size_t i = 0; i < g->n_output; i++) flow_of(s, g->output[i]->name)->pinned = true;
}

static void list_flows(sd_places *s) {
  sd_proto *p = s->p;
  for (uint32_t i = 0; i < p->nodes.len; i++) {
    Onnx__NodeProto *n = p->nodes.at[i];
    for (size_t k = 0; k < n->n_input; k++) {
      if (!*n->input[k]) continue;
      sd_flow *f = flow_of(s, n->input[k]);
      f->uses++, f->user = n;
    }
    for (size_t k = 0; k < n->n_output; k++)
      if (*n->output[k]) flow_of(s, n->output[k])->from = n;
    for (size_t k = 0; k < n->n_attribute; k++)
      if (n->attribute[k]->g) pin_body(s, n->attribute[k]->g, 0);
  }
  for (uint32_t i = 0; i < p->outputs.len; i++) flow_of(s, p->outputs.at[i]->name)->pinned = true;
}

const sd_flow *sd_quant_root(const sd_flow *f) {
  while (f->same) f = f->same;
  return f;
}

// ---- nodes ----

// The value that shows what a node computes: that behind a Relu or Clip which alone reads it.
static sd_flow *seen(sd_places *s, sd_flow *y) {
  const sd_quant_op *op = y->uses == 1 && !y->pinned ? sd_quant_op_of(y->user) : NULL;
  if (!op || op->role != SD_ROLE_CLIP || y->user->n_output != 1 || strcmp(y->user->input[0], y->name) != 0) return y;
  return flow_of(s, y->user->output[0]);
}

// What a node computes on integers becomes integers.
static void force(sd_places *s, sd_flow *y) {
  sd_flow *f = seen(s, y);
  y->lineage = f->lineage = true;
  if (!f->pinned) f->quantized = f->forced = true;
}

// Kernels of integers give integers; of float8 there are none.
static void place_product(sd_places *s, Onnx__NodeProto *n, uint32_t index, const sd_quant_unit *u,
                          bool integers) {
  bool conv = integers && (sd_proto_is(n, "", "Conv") || sd_proto_is(n, "", "ConvTranspose"));
  s->integer[index] = !u->keep;
  if (u->keep) return;
  flow_of(s, u->x)->quantized = true;
  if (conv) force(s, flow_of(s, n->output[0]));
}

static bool all_integers(sd_places *s, const Onnx__NodeProto *n, size_t count) {
  for (size_t k = 0; k < count && k < n->n_input; k++) {
    const sd_flow *f = flow_of(s, n->input[k]);
    if (!f->lineage || !f->quantized) return false;
  }
  return n->n_input > 0;
}

static void place_other(sd_places *s, Onnx__NodeProto *n, uint32_t index, const sd_quant_op *op) {
  sd_flow *x = flow_of(s, n->input[0]), *y = flow_of(s, n->output[0]);
  if (op->role == SD_ROLE_CLIP) {
    y->lineage |= x->lineage;
    if (!x->quantized || !x->lineage || y->pinned) return; // it vanished, or computes on floats
  }
  if (!all_integers(s, n, op->role == SD_ROLE_JOIN ? n->n_input : 1) || seen(s, y)->pinned) return;
  for (size_t k = 1; k < n->n_output; k++)
    if (*n->output[k] && flow_of(s, n->output[k])->uses) return; // indices of MaxPool
  s->integer[index] = true;
  y->lineage = true;
  if (op->role != SD_ROLE_SAME) {
    force(s, y);
    return;
  }
  y->quantized = y->forced = true;
  y->same = x;
}

void sd_quant_flows(sd_proto *p, sd_places *s) {
  *s = (sd_places){.p = p};
  sd_names_init(&s->flows, p->a);
  s->integer = SD_NEW_ARRAY(p->a, bool, p->nodes.len + 1);
  list_flows(s);
}

sard_status *sd_quant_places(sd_proto *p, const sd_quant_options *o, const sd_quant_units *u, sd_places *s) {
  uint32_t next = 0;
  sd_quant_flows(p, s);
  for (uint32_t i = 0; i < p->nodes.len; i++) {
    Onnx__NodeProto *n = p->nodes.at[i];
    const sd_quant_op *op = sd_quant_op_of(n);
    const sd_quant_unit *unit = sd_quant_unit_of(u, &next, n);
    if (!op || n->n_output == 0 || n->n_input == 0) continue;
    if (unit && (op->role == SD_ROLE_PRODUCT || op->role == SD_ROLE_TURNED))
      place_product(s, n, i, unit, o->type == SD_I8);
    else if (!unit && op->role != SD_ROLE_PRODUCT && op->role < SD_ROLE_TABLE)
      place_other(s, n, i, op);
  }
  return next == u->len ? NULL : SD_ERR(INTERNAL, "%u of %u nodes were found again", next, u->len);
}

// ---- what has to be observed ----

static sard_status *place_static(sd_proto *p, const sd_quant_options *o, const sd_quant_units *u,
                                 sd_quant_tensors *out) {
  sd_places s;
  SD_TRY(sd_quant_places(p, o, u, &s));
  // Those that share a scale, too: with fewer nodes on integers they may have one of their own.
  for (uint32_t i = 0; i < s.order.len; i++)
    if (s.order.at[i]->quantized)
      sd_vec_push(p->a, out, ((sd_quant_tensor){.name = s.order.at[i]->name, .integer = true}));
  return NULL;
}

// Whether the rounding of a unit asks for the second moments of its inputs.
static bool wants_sums(const sd_quant_options *o, const sd_quant_op *op, const sd_quant_unit *u) {
  bool clips = o->clip && o->bits < 8 && u->rank == 2;
  return (o->rounding || clips) && o->type == SD_I8 && op->role == SD_ROLE_PRODUCT && !u->keep && u->groups;
}

// What the rows of a product's inputs depend on: nodes that agree in it share their second moments.
static const char *rows_of(sd_arena *a, const Onnx__NodeProto *n, const sd_quant_unit *u) {
  uint64_t hash = 0;
  if (u->rank == 2) return u->x;
  hash = sd_hash_bytes(u->dims + 1, (size_t)(u->rank - 1) * sizeof *u->dims, hash);
  for (size_t i = 0; i < n->n_attribute; i++) {
    uint8_t *text = sd_arena_alloc(a, onnx__attribute_proto__get_packed_size(n->attribute[i]) + 1);
    hash = sd_hash_bytes(text, onnx__attribute_proto__pack(n->attribute[i], text), hash);
  }
  return sd_arena_printf(a, "%s\x1f%016llx", u->x, (unsigned long long)hash);
}

sd_quant_tensor sd_quant_sums_of(const sd_quant_units *u, uint32_t unit) {
  const sd_quant_unit *at = &u->at[unit];
  return (sd_quant_tensor){.name = at->x, .by_moments = true, .unit = unit, .groups = at->groups, .k = at->k};
}

static void place_value(sd_arena *a, const char *name, sd_quant_tensors *out) {
  for (uint32_t i = 0; i < out->len; i++)
    if (!out->at[i].by_moments && strcmp(out->at[i].name, name) == 0) return;
  sd_vec_push(a, out, ((sd_quant_tensor){.name = name}));
}

static void place_sums(sd_proto *p, const sd_quant_options *o, sd_quant_units *u, sd_quant_tensors *out) {
  sd_names known;
  uint32_t next = 0;
  sd_names_init(&known, p->a);
  for (uint32_t i = 0; i < p->nodes.len; i++) {
    const Onnx__NodeProto *n = p->nodes.at[i];
    sd_quant_unit *unit = sd_quant_unit_of(u, &next, n);
    if (!unit) continue;
    unit->sums = 0;
    if (!wants_sums(o, sd_quant_op_of(n), unit)) continue;
    const char *key = rows_of(p->a, n, unit);
    if (!sd_names_get(&known, key)) {
      place_value(p->a, unit->x, out); // its range tells when samples have shown all there is
      sd_vec_push(p->a, out, sd_quant_sums_of(u, (uint32_t)(unit - u->at)));
      sd_names_add(&known, key, (void *)(uintptr_t)out->len);
    }
    unit->sums = (uint32_t)(uintptr_t)sd_names_get(&known, key);
  }
}

sard_status *sd_quant_place(sd_arena *a, const sard_source *src, const sd_quant_options *o, sd_quant_units *u,
                            sd_quant_tensors *out) {
  sd_proto p;
  *out = (sd_quant_tensors){0};
  SD_TRY(sd_quant_open(a, src, o, &p));
  if (o->mode == SD_QUANT_STATIC) SD_TRY(place_static(&p, o, u, out));
  place_sums(&p, o, u, out);
  return NULL;
}

// The sums of tensor t, which unit `n` reads.
static const char *sums(sd_proto *p, const Onnx__NodeProto *n, const sd_quant_unit *u, const sd_quant_tensor *t) {
  const char *left, *right;
  sd_moments m = sd_moments_of(p, n, u->rank, u->dims, u->rows, t->k, t->groups, false);
  sd_moments_inputs(&m, t->name, &left, &right);
  const char *product = sd_moments_product(&m, left, right);
  for (uint32_t i = 0; i < m.nodes.len; i++) sd_vec_push(p->a, &p->nodes, m.nodes.at[i]);
  return product;
}

// An input or output as another output needs a node between: an Identity of its own for each.
static const char *identity(sd_proto *p, const char *x) {
  const char *name = sd_proto_name(p, "sard_watched");
  sd_vec_push(p->a, &p->nodes, sd_proto_node(p, name, "", "Identity", &x, 1, name));
  return name;
}

sard_status *sd_quant_watch(sd_arena *a, const sard_source *src, const sd_quant_options *o, const sd_quant_units *u,
                            const sd_quant_tensors *t, const sd_packed **out) {
  sd_proto p;
  const Onnx__NodeProto **at = SD_NEW_ARRAY(a, const Onnx__NodeProto *, u->len + 1);
  bool some = false;
  uint32_t next = 0;
  for (uint32_t i = 0; i < t->len; i++) some |= t->at[i].by_moments;
  SD_TRY(some ? sd_quant_open(a, src, o, &p) : sd_proto_open(a, src, &p)); // units are those of the former
  for (uint32_t i = 0; i < p.nodes.len && some; i++) {
    const sd_quant_unit *unit = sd_quant_unit_of(u, &next, p.nodes.at[i]);
    if (unit) at[unit - u->at] = p.nodes.at[i];
  }
  for (uint32_t i = 0; i < t->len; i++) {
    const sd_quant_tensor *one = &t->at[i];
    sd_proto_show(&p, one->by_moments ? sums(&p, at[one->unit], &u->at[one->unit], one) : identity(&p, one->name));
  }
  return sd_proto_pack(&p, out);
}
