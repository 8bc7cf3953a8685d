// The model without the channels and heads that are gone: constants, attributes and shapes that depend on
// them.
#include <string.h>

#include "frontend/onnx/prune_internal.h"
#include "runtime/base/alloc.h"

static bool is_gone(const sd_prune_channels *c, uint32_t label) {
  return c->labels.at[sd_prune_root(c, label)].gone;
}

static uint32_t left(const sd_prune_channels *c, const sd_prune_cut *t) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < t->n; i++) n += !is_gone(c, t->labels[i]);
  return n;
}

// Whether `stay` of the `each` are left of each part.
static bool even(const sd_prune_channels *c, const sd_prune_cut *t, uint32_t each, uint32_t stay) {
  for (uint32_t p = 0; p < t->parts; p++) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < each; i++) n += !is_gone(c, t->labels[p * each + i]);
    if (n != stay) return false;
  }
  return true;
}

// The operand without the slices that are gone, as a tensor of the node's own.
static sard_status *slice(sd_proto *p, const sd_prune_channels *c, const sd_prune_cut *t) {
  Onnx__NodeProto *n = p->nodes.at[t->node];
  sd_const *from = NULL;
  SD_TRY(sd_proto_const(p, sd_proto_weight(p, n->input[t->operand]), &from));
  uint32_t each = t->n / t->parts, stay = left(c, t) / t->parts;
  if (t->axis >= from->rank || from->dims[t->axis] != (int64_t)each || sd_dtype_bits(from->dtype) % 8 ||
      (t->parts > 1 && (t->axis == 0 || from->dims[0] != t->parts)) || !even(c, t, each, stay))
    return SD_ERR(INTERNAL, "the tensor '%s' does not fit its labels", n->input[t->operand]);
  uint64_t inner = (uint64_t)sd_dtype_bits(from->dtype) / 8, outer = 1, done = 0;
  for (int i = 0; i < from->rank; i++)
    *(i < t->axis ? &outer : &inner) *= i == t->axis ? 1 : (uint64_t)from->dims[i];
  int64_t *dims = sd_arena_dup(p->a, from->dims, (size_t)from->rank * sizeof *dims);
  dims[t->axis] = stay;
  uint8_t *to = sd_arena_alloc(p->a, outer * (uint64_t)dims[t->axis] * inner + 1);
  for (uint64_t o = 0; o < outer; o++)
    for (uint32_t i = 0; i < each; i++)
      if (!is_gone(c, t->labels[o / (outer / t->parts) * each + i]))
        memcpy(to + done++ * inner, (const uint8_t *)from->data + (o * each + i) * inner, inner);
  n->input[t->operand] = (char *)sd_proto_tensor(p, n->input[t->operand], from->dtype, from->rank, dims, to);
  return NULL;
}

// A Split of equal parts says from now on what they are.
static void give_sizes(sd_proto *p, Onnx__NodeProto *n, const sd_prune_cut *t) {
  int64_t dims[1] = {t->rank};
  char **in = sd_arena_alloc(p->a, 2 * sizeof *in);
  in[0] = n->input[0], in[1] = (char *)sd_proto_tensor(p, n->input[0], SD_I64, 1, dims, t->sizes);
  n->input = in, n->n_input = 2;
  sd_proto_drop(p, n, "num_outputs");
}

static sard_status *resize(sd_proto *p, const sd_prune_channels *c, const sd_prune_cut *t) {
  Onnx__NodeProto *n = p->nodes.at[t->node];
  sd_const *from = NULL;
  if (t->kind == SD_CUT_PART && n->n_input < 2) give_sizes(p, n, t);
  SD_TRY(sd_proto_const(p, sd_proto_weight(p, n->input[t->operand]), &from));
  if (from->dtype != SD_I64 || (uint64_t)t->axis >= from->count)
    return SD_ERR(INTERNAL, "a shape has no such size");
  int64_t *sizes = sd_arena_dup(p->a, from->data, from->bytes);
  sizes[t->axis] = left(c, t);
  n->input[t->operand] =
      (char *)sd_proto_tensor(p, n->input[t->operand], SD_I64, from->rank, from->dims, sizes);
  return NULL;
}

// Where a part begins or ends.
static void move(sd_proto *p, const sd_prune_channels *c, const sd_prune_cut *t) {
  Onnx__NodeProto *n = p->nodes.at[t->node];
  int64_t dims[1] = {1}, *at = sd_arena_alloc(p->a, sizeof *at);
  *at = left(c, t);
  n->input[t->operand] = (char *)sd_proto_tensor(p, n->input[t->operand], SD_I64, 1, dims, at);
}

// The nodes that make a value go where nothing else reads them.
static void spare(sd_proto *p, const char *name) {
  if (!*name || sd_names_get(&p->spare, name)) return;
  for (uint32_t i = 0; i < p->nodes.len; i++) {
    const Onnx__NodeProto *n = p->nodes.at[i];
    if (n->n_output != 1 || strcmp(n->output[0], name) != 0) continue;
    sd_names_set(&p->spare, name, p);
    for (size_t k = 0; k < n->n_input; k++) spare(p, n->input[k]);
  }
}

static void start_at_zero(sd_proto *p, const sd_prune_cut *t) {
  char **operand = &p->nodes.at[t->node]->input[t->operand];
  spare(p, *operand);
  *operand = "";
}

// What goes in front of a node of the file, or behind it.
typedef struct added {
  uint32_t at;
  bool behind;
  Onnx__NodeProto *n;
} added;
typedef SD_VEC(added) additions;

// The known sizes, and in between what `from` says.
static Onnx__NodeProto *mixed(sd_proto *p, const char *from, const int64_t *sizes, int rank,
                              const char *out) {
  uint8_t *known = sd_arena_alloc(p->a, (size_t)rank + 1);
  int64_t dims[1] = {rank};
  for (int i = 0; i < rank; i++) known[i] = sizes[i] != SD_SIZE_AS_COMPUTED;
  const char *in[] = {sd_proto_tensor(p, out, SD_BOOL, 1, dims, known),
                      sd_proto_tensor(p, out, SD_I64, 1, dims, sizes), from};
  return sd_proto_node(p, out, "", "Where", in, 3, out);
}

// A computed shape whose element `at` is `stay` of `all` parts.
static const char *scaled(sd_proto *p, const char *from, int rank, int at, int64_t stay, int64_t all, uint32_t node,
                          additions *more) {
  static const char *const ops[] = {"Mul", "Div"};
  int64_t dims[1] = {rank};
  for (int k = 0; k < 2; k++) {
    int64_t *by = SD_NEW_ARRAY(p->a, int64_t, rank + 1);
    for (int i = 0; i < rank; i++) by[i] = i != at ? 1 : k ? all : stay;
    const char *in[] = {from, sd_proto_tensor(p, from, SD_I64, 1, dims, by)}, *out = sd_proto_name(p, from);
    sd_vec_push(p->a, more, ((added){node, false, sd_proto_node(p, out, "", ops[k], in, 2, out)}));
    from = out;
  }
  return from;
}

// A shape that nodes compute.
static void reshape(sd_proto *p, const sd_prune_channels *c, const sd_prune_cut *t, additions *more) {
  Onnx__NodeProto *n = p->nodes.at[t->node];
  int64_t *sizes = sd_arena_dup(p->a, t->sizes, (size_t)t->rank * sizeof *sizes), dims[1] = {t->rank};
  bool known = true;
  if (sizes[t->axis] >= 0) sizes[t->axis] = left(c, t);
  for (int i = 0; i < t->rank; i++) known &= sizes[i] >= -1;
  const char *from = n->input[t->operand];
  if (known) {
    n->input[t->operand] = (char *)sd_proto_tensor(p, from, SD_I64, 1, dims, sizes);
    return;
  }
  if (sizes[t->axis] == SD_SIZE_SCALED) {
    sizes[t->axis] = SD_SIZE_AS_COMPUTED;
    from = scaled(p, from, t->rank, t->axis, left(c, t), t->n, t->node, more);
  }
  n->input[t->operand] = (char *)sd_proto_name(p, from);
  sd_vec_push(p->a, more, ((added){t->node, false, mixed(p, from, sizes, t->rank, n->input[t->operand])}));
}

static void keep_asked(sd_proto *p, const sd_prune_cut *t, additions *more) {
  Onnx__NodeProto *n = p->nodes.at[t->node];
  const char *out = n->output[0];
  for (uint32_t i = 0; i < more->len; i++)
    if (more->at[i].at == t->node && more->at[i].behind) return;
  n->output[0] = (char *)sd_proto_name(p, out);
  sd_vec_push(p->a, more, ((added){t->node, true, mixed(p, n->output[0], t->sizes, t->rank, out)}));
}

static sard_status *apply(sd_proto *p, const sd_prune_channels *c, const sd_prune_cut *t, additions *more) {
  if (left(c, t) == t->n) return NULL;
  if (left(c, t) == 0 && t->kind != SD_CUT_PLACE) return SD_ERR(INTERNAL, "node %u would lose all of an axis", t->node);
  if (t->kind == SD_CUT_SHAPE) reshape(p, c, t, more);
  else if (t->kind == SD_CUT_ASKED)
    keep_asked(p, t, more);
  else if (t->kind == SD_CUT_ATTRIBUTE)
    sd_proto_int(p, p->nodes.at[t->node], t->attribute, left(c, t));
  else if (t->kind == SD_CUT_PLACE)
    move(p, c, t);
  else if (t->kind == SD_CUT_START)
    start_at_zero(p, t);
  else
    return t->kind == SD_CUT_SIZE || t->kind == SD_CUT_PART ? resize(p, c, t) : slice(p, c, t);
  return NULL;
}

// ---- inputs and outputs ----

uint32_t sd_prune_io_left(const sd_prune_channels *c, const sd_prune_io *io) {
  uint32_t stay = 0;
  for (uint32_t part = 0; part < io->parts; part++) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < io->each; i++) n += !is_gone(c, io->labels[part * io->each + i]);
    if (part && n != stay) return UINT32_MAX;
    stay = n;
  }
  return stay;
}

static sard_status *declare(sd_proto *p, const sd_prune_channels *c, const sd_prune_io *io) {
  uint32_t stay = sd_prune_io_left(c, io);
  size_t n = io->input ? p->graph->n_input : p->outputs.len;
  if (stay == 0 || stay > io->each) return SD_ERR(INTERNAL, "'%s' does not fit its labels", io->name);
  for (size_t i = 0; i < n && stay < io->each; i++) {
    Onnx__ValueInfoProto *v = io->input ? p->graph->input[i] : p->outputs.at[i];
    Onnx__TypeProto__Tensor *t = strcmp(v->name, io->name) == 0 && v->type ? v->type->tensor_type : NULL;
    if (!t || !t->shape || t->shape->n_dim <= (size_t)io->axis) continue;
    Onnx__TensorShapeProto__Dimension *d = t->shape->dim[io->axis];
    if (d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE) d->dim_value = d->dim_value / io->each * stay;
  }
  return NULL;
}

static void put_in(sd_proto *p, const additions *more) {
  uint32_t n = p->nodes.len, next = 0;
  Onnx__NodeProto **was = sd_arena_dup(p->a, p->nodes.at, n * sizeof *was);
  p->nodes.len = 0;
  for (uint32_t i = 0; i < n; i++) {
    for (int behind = 0; behind < 2; behind++) {
      for (next = 0; next < more->len; next++)
        if (more->at[next].at == i && more->at[next].behind == behind)
          sd_vec_push(p->a, &p->nodes, more->at[next].n);
      if (!behind) sd_vec_push(p->a, &p->nodes, was[i]);
    }
  }
}

sard_status *sd_prune_write_less(sd_arena *a, const sard_source *src, const sd_prune_units *units,
                                 const sd_prune_channels *c, const sd_packed **out, uint64_t *parameters) {
  sd_proto p;
  additions more = {0};
  SD_TRY(sd_proto_open(a, src, &p));
  sd_prune_put(&p, units);
  for (uint32_t i = 0; i < c->cuts.len; i++) SD_TRY(apply(&p, c, &c->cuts.at[i], &more));
  for (uint32_t i = 0; i < c->io.len; i++) SD_TRY(declare(&p, c, &c->io.at[i]));
  put_in(&p, &more);
  p.graph->n_value_info = 0; // sizes of before
  sd_proto_sweep(&p);
  *parameters = sd_prune_parameters(&p);
  return sd_proto_pack(&p, out);
}
