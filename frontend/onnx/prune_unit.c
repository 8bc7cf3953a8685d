// The weights that can be pruned, as matrices; and the model with other numbers in them.
#include "frontend/onnx/prune_internal.h"

#include <math.h>
#include <string.h>

#include "frontend/onnx/quant_internal.h"
#include "runtime/base/alloc.h"

enum { LEAST_TABLE = 4096 }; // elements of a table that is worth it

// ---- order of elements ----

uint64_t sd_prune_place(const sd_prune_unit *u, uint64_t r, uint64_t j) {
  if (u->turned) return j * u->rows + r;
  if (u->rank < 3 || u->recurrent) return r * u->k + j;
  uint64_t channels = (uint64_t)u->dims[1], spots = u->k / channels; // [outputs][channels][kernel]
  return r * u->k + j % channels * spots + j / channels;
}

// Data of files may lie at any byte.
static float element(const void *from, uint64_t i) {
  float x;
  memcpy(&x, (const char *)from + i * sizeof x, sizeof x);
  return x;
}

float sd_prune_was(const sd_prune_unit *u, uint64_t r, uint64_t j) {
  return element(u->was, sd_prune_place(u, r, j));
}

void sd_prune_load(const sd_prune_unit *u, float *out) {
  const void *from = u->changed ? u->w : u->was;
  for (uint64_t r = 0; r < u->rows; r++)
    for (uint64_t j = 0; j < u->k; j++) out[r * u->k + j] = element(from, sd_prune_place(u, r, j));
}

void sd_prune_room(sd_arena *a, sd_prune_unit *u) {
  if (!u->w) u->w = SD_NEW_ARRAY(a, float, u->rows * u->k);
}

void sd_prune_compare(sd_prune_unit *u) {
  u->changed = memcmp(u->w, u->was, u->rows * u->k * sizeof *u->w) != 0;
}

void sd_prune_store(sd_prune_unit *u, const float *rows) {
  for (uint64_t r = 0; r < u->rows; r++)
    for (uint64_t j = 0; j < u->k; j++) u->w[sd_prune_place(u, r, j)] = rows[r * u->k + j];
  sd_prune_compare(u);
}

static sard_status *find(sd_proto *p, sd_prune_unit *u) {
  sd_const *c = NULL;
  SD_TRY(sd_proto_const(p, sd_proto_weight(p, u->weight), &c));
  for (uint64_t i = 0; i < u->rows * u->k; i++)
    if (!isfinite(element(c->data, i)))
      return SD_ERR(MODEL, "element %llu of the weight '%s' is NaN or infinite", (unsigned long long)i, u->weight);
  u->was = c->data;
  return NULL;
}

// ---- what is possible ----

static const char *obstacle(sd_proto *p, const Onnx__NodeProto *n, const sd_quant_op *op,
                            const Onnx__TensorProto *w, uint32_t readers, unsigned also) {
  bool conv = sd_proto_is(n, "", "Conv");
  if (!w) return "its weight is no constant";
  if (w->data_type != SD_F32) return "its weight is not f32";
  if (w->n_dims > SD_MAX_RANK) return "its rank is too large";
  for (size_t i = 0; i < w->n_dims; i++)
    if (w->dims[i] < 1) return "its weight is empty";
  if (op->role == SD_ROLE_STATES) return w->n_dims == 3 ? NULL : "its weight is no matrix";
  if (op->role == SD_ROLE_TABLE && !(also & SD_PRUNE_TABLES)) return "it is a table, which --also embeddings prunes";
  if (!conv && w->n_dims != 2) return "its weight is no matrix";
  if (conv && w->n_dims < 3) return "its weight has no kernel";
  if (sd_proto_weight(p, sd_quant_operand(n, op->x))) return "it is all constant";
  if (sd_proto_is(n, "", "Gemm") && sd_proto_get_int(n, "transA", 0)) return "it transposes its input";
  if (readers > 1) return "its weight serves other nodes, too";
  int64_t groups = conv ? sd_proto_get_int(n, "group", 1) : 1;
  if (groups < 1 || w->dims[0] % groups) return "its groups do not divide its outputs";
  if (conv && groups > 1 && w->dims[1] == 1 && !(also & SD_PRUNE_DEPTHWISE))
    return "each of its channels has a kernel of its own, which --also depthwise prunes";
  return NULL;
}

static void measure(sd_prune_unit *u, const Onnx__NodeProto *n, const Onnx__TensorProto *w) {
  uint64_t count = 1;
  u->rank = (int)w->n_dims, u->dims = w->dims, u->groups = 1;
  for (size_t i = 0; i < w->n_dims; i++) count *= (uint64_t)w->dims[i];
  u->turned = !u->recurrent && u->rank == 2 && sd_quant_axis(n, 2) == 1;
  u->rows = u->recurrent && u->rank == 3 ? count / (uint64_t)w->dims[2] : (uint64_t)w->dims[u->turned];
  u->k = count / u->rows;
  if (sd_proto_is(n, "", "Conv")) u->groups = (uint64_t)sd_proto_get_int(n, "group", 1);
  if (u->states && u->operand > 1) u->groups = (uint64_t)w->dims[0]; // each direction has states of its own
}

// How many operands of nodes, bodies included, are each constant.
static void count_readers(sd_proto *p, const Onnx__NodeProto *n, sd_names *count, int depth) {
  for (size_t i = 0; i < n->n_input; i++) {
    const Onnx__TensorProto *t = sd_proto_weight(p, n->input[i]);
    if (!t || sd_proto_is(n, "", "Identity")) continue;
    uint32_t *had = sd_names_get(count, t->name && *t->name ? t->name : n->input[i]);
    if (!had)
      had = SD_NEW(p->a, uint32_t), sd_names_add(count, t->name && *t->name ? t->name : n->input[i], had);
    ++*had;
  }
  for (size_t i = 0; i < n->n_attribute && depth < SD_MAX_DEPTH; i++)
    for (size_t k = 0; n->attribute[i]->g && k < n->attribute[i]->g->n_node; k++)
      count_readers(p, n->attribute[i]->g->node[k], count, depth + 1);
}

static uint32_t readers_of(const sd_proto *p, const sd_names *count, const char *name) {
  const Onnx__TensorProto *t = sd_proto_weight(p, name);
  const uint32_t *n = t ? sd_names_get(count, t->name && *t->name ? t->name : name) : NULL;
  return n ? *n : 0;
}

// The only node of the graph that reads a value; NONE_SUCH: none, or several.
#define NONE_SUCH UINT32_MAX
static uint32_t only_reader(const sd_proto *p, const char *value) {
  uint32_t found = NONE_SUCH;
  for (uint32_t i = 0; i < p->nodes.len; i++)
    for (size_t k = 0; k < p->nodes.at[i]->n_input; k++) {
      if (strcmp(p->nodes.at[i]->input[k], value) != 0) continue;
      if (found != NONE_SUCH && found != i) return NONE_SUCH;
      found = i;
    }
  return found;
}

static void follow(sd_arena *a, const sd_proto *p, const Onnx__NodeProto *n, sd_prune_unit *u) {
  for (int i = 0; i < SD_PRUNE_BEHIND && n->n_output; i++) {
    uint32_t next = only_reader(p, n->output[0]);
    if (next == NONE_SUCH) return;
    n = p->nodes.at[next], u->behind[i] = sd_quant_node_name(a, n, next);
  }
}

static sard_status *add_unit(sd_arena *a, sd_proto *p, uint32_t i, int operand, const sd_names *count, unsigned also,
                             sd_prune_units *out) {
  const Onnx__NodeProto *n = p->nodes.at[i];
  const sd_quant_op *op = sd_quant_op_of(n);
  const char *weight = sd_quant_operand(n, operand);
  const Onnx__TensorProto *w = sd_proto_weight(p, weight);
  sd_prune_unit u = {.name = sd_quant_node_name(a, n, i),
                     .op = n->op_type,
                     .x = sd_quant_operand(n, op->x),
                     .weight = weight,
                     .at = i,
                     .operand = operand,
                     .recurrent = op->role != SD_ROLE_PRODUCT,
                     .states = op->role == SD_ROLE_STATES};
  if (!*weight) return NULL;
  u.why = obstacle(p, n, op, w, readers_of(p, count, weight), also);
  u.keep = u.why != NULL;
  if (!u.keep) measure(&u, n, w), follow(a, p, n, &u);
  if (!u.keep) SD_TRY(find(p, &u));
  sd_vec_push(a, out, u);
  return NULL;
}

bool sd_prune_moves(const char *op, const char *const *also) {
  static const char *const names[] = {"Slice", "Squeeze", "Unsqueeze", "Reshape", "Transpose", "Gather"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (strcmp(op, names[i]) == 0) return true;
  for (; *also; also++)
    if (strcmp(op, *also) == 0) return true;
  return false;
}

uint64_t sd_prune_parameters(const sd_proto *p) {
  uint64_t all = 0;
  for (uint32_t i = 0; i < p->initializers.len; i++) {
    const Onnx__TensorProto *t = p->initializers.at[i];
    uint64_t n = sd_dtype_of_tensors(t->data_type) && sd_dtype_is_float((sd_dtype)t->data_type) ? 1 : 0;
    for (size_t k = 0; k < t->n_dims; k++) n *= t->dims[k] > 0 ? (uint64_t)t->dims[k] : 0;
    all += n;
  }
  for (uint32_t i = 0; i < p->nodes.len; i++) {
    const Onnx__NodeProto *node = p->nodes.at[i];
    const Onnx__TensorProto *t =
        sd_proto_is(node, "", "Constant") && node->n_output == 1 ? sd_proto_weight(p, node->output[0]) : NULL;
    uint64_t n = t && sd_dtype_of_tensors(t->data_type) && sd_dtype_is_float((sd_dtype)t->data_type) ? 1 : 0;
    for (size_t k = 0; t && k < t->n_dims; k++) n *= t->dims[k] > 0 ? (uint64_t)t->dims[k] : 0;
    all += n;
  }
  return all;
}

// Rows of floats, and enough of them; else it is a Gather of shapes or of activations.
static bool is_table(const sd_proto *p, const Onnx__NodeProto *n, const sd_quant_op *op) {
  const Onnx__TensorProto *w = op->role == SD_ROLE_TABLE ? sd_proto_weight(p, sd_quant_operand(n, op->weight)) : NULL;
  return w && w->data_type == SD_F32 && w->n_dims == 2 && w->dims[0] > 0 && w->dims[1] > 0 &&
         w->dims[0] >= LEAST_TABLE / w->dims[1] && sd_proto_get_int(n, "axis", 0) == 0;
}

sard_status *sd_prune_find(sd_arena *a, const sard_source *src, unsigned also, sd_prune_units *out, uint64_t *parameters) {
  sd_proto p;
  sd_names count;
  SD_TRY(sd_proto_open(a, src, &p));
  sd_names_init(&count, a);
  for (uint32_t i = 0; i < p.nodes.len; i++) count_readers(&p, p.nodes.at[i], &count, 0);
  for (uint32_t i = 0; i < p.nodes.len; i++) {
    const sd_quant_op *op = sd_quant_op_of(p.nodes.at[i]);
    if (!op || p.nodes.at[i]->n_output == 0) continue;
    if (op->role == SD_ROLE_PRODUCT || op->role == SD_ROLE_STATES || is_table(&p, p.nodes.at[i], op))
      SD_TRY(add_unit(a, &p, i, op->weight, &count, also, out));
    if (op->role == SD_ROLE_STATES) SD_TRY(add_unit(a, &p, i, op->weight + 1, &count, also, out)); // of the states
  }
  *parameters = sd_prune_parameters(&p);
  return NULL;
}

// ---- writing ----

void sd_prune_replace(Onnx__TensorProto *t, uint64_t count, const float *values) {
  t->raw_data = (ProtobufCBinaryData){count * sizeof *values, (uint8_t *)values};
  t->lifted = 0, t->n_float_data = 0, t->n_external_data = 0, t->data_location = 0;
}

void sd_prune_put(sd_proto *p, const sd_prune_units *units) {
  for (uint32_t i = 0; i < units->len; i++) {
    const sd_prune_unit *u = &units->at[i];
    if (u->keep || !u->changed) continue;
    sd_prune_replace((Onnx__TensorProto *)sd_proto_weight(p, u->weight), u->rows * u->k, u->w);
  }
}

sard_status *sd_prune_write(sd_arena *a, const sard_source *src, const sd_prune_units *units, const sd_packed **out) {
  sd_proto p;
  SD_TRY(sd_proto_open(a, src, &p));
  sd_prune_put(&p, units);
  return sd_proto_pack(&p, out);
}
