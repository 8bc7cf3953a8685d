// Models packed without their large data, and written from where those lie.
#include "frontend/onnx/packed.h"

#include <string.h>
#include <unistd.h>

#include "frontend/onnx/proto.h"
#include "runtime/base/alloc.h"
#include "runtime/base/hash.h"

#define LENT "sard"                                            // the location of data that are lent
enum { OUTSIDE = 1, LEAST = 1024, ALIGNMENT = 64, BLOCK = 1 << 16 }; // bytes of data worth it; of a place in a file; of small pieces together

// ---- packing ----

// Data that were lifted out, or that lie in other files, become part of the message.
static sard_status *restore(sd_proto *e, Onnx__TensorProto *p) {
  if (p->lifted) {
    if (p->lifted > e->o.spans.len) return SD_ERR(INTERNAL, "a tensor without its data");
    const sd_span *s = &e->o.spans.at[p->lifted - 1];
    p->raw_data = (ProtobufCBinaryData){s->size, (uint8_t *)s->data}; // packed floats are the same bytes
    p->lifted = 0;
  }
  if (p->n_external_data == 0 || p->data_location != OUTSIDE) return NULL;
  const void *data;
  uint64_t bytes;
  SD_TRY(sd_tensor_proto_outside(&e->tensors, p, "weight", &data, &bytes));
  p->raw_data = (ProtobufCBinaryData){bytes, (uint8_t *)data};
  p->n_external_data = 0, p->data_location = 0;
  return NULL;
}

static sard_status *restore_graph(sd_proto *e, Onnx__GraphProto *g, int depth);
static sard_status *restore_node(sd_proto *e, Onnx__NodeProto *n, int depth) {
  if (depth > SD_MAX_DEPTH) return SD_ERR(MODEL, "the model nests too deeply");
  for (size_t i = 0; i < n->n_attribute; i++) {
    Onnx__AttributeProto *a = n->attribute[i];
    if (a->t) SD_TRY(restore(e, a->t));
    for (size_t k = 0; k < a->n_tensors; k++) SD_TRY(restore(e, a->tensors[k]));
    if (a->sparse_tensor && a->sparse_tensor->values) SD_TRY(restore(e, a->sparse_tensor->values));
    if (a->sparse_tensor && a->sparse_tensor->indices) SD_TRY(restore(e, a->sparse_tensor->indices));
    if (a->g) SD_TRY(restore_graph(e, a->g, depth + 1));
    for (size_t k = 0; k < a->n_graphs; k++) SD_TRY(restore_graph(e, a->graphs[k], depth + 1));
  }
  return NULL;
}
static sard_status *restore_graph(sd_proto *e, Onnx__GraphProto *g, int depth) {
  for (size_t i = 0; i < g->n_initializer; i++) SD_TRY(restore(e, g->initializer[i]));
  for (size_t i = 0; i < g->n_sparse_initializer; i++) {
    Onnx__SparseTensorProto *s = g->sparse_initializer[i];
    if (s->values) SD_TRY(restore(e, s->values));
    if (s->indices) SD_TRY(restore(e, s->indices));
  }
  for (size_t i = 0; i < g->n_node; i++) SD_TRY(restore_node(e, g->node[i], depth));
  return NULL;
}

static sard_status *restore_all(sd_proto *e) {
  SD_TRY(restore_graph(e, e->graph, 0));
  for (size_t i = 0; i < e->model->n_functions; i++)
    for (size_t k = 0; k < e->model->functions[i]->n_node; k++)
      SD_TRY(restore_node(e, e->model->functions[i]->node[k], 0));
  return NULL;
}

static void put_entry(sd_arena *a, Onnx__TensorProto *t, const char *key, const char *value) {
  Onnx__StringStringEntryProto *e = SD_NEW(a, Onnx__StringStringEntryProto);
  onnx__string_string_entry_proto__init(e);
  e->key = (char *)key, e->value = (char *)value;
  t->external_data[t->n_external_data++] = e;
}

// The data of a tensor are at an offset of the other file from now on.
static void move_out(sd_arena *a, Onnx__TensorProto *t, const char *location, uint64_t offset, uint64_t size) {
  t->external_data = SD_NEW_ARRAY(a, Onnx__StringStringEntryProto *, 3), t->n_external_data = 0;
  put_entry(a, t, "location", location);
  put_entry(a, t, "offset", sd_arena_printf(a, "%llu", (unsigned long long)offset));
  put_entry(a, t, "length", sd_arena_printf(a, "%llu", (unsigned long long)size));
  t->data_location = OUTSIDE, t->raw_data = (ProtobufCBinaryData){0};
}

sard_status *sd_proto_pack(sd_proto *e, const sd_packed **out) {
  sd_packed *p = SD_NEW(e->a, sd_packed);
  e->graph->node = e->nodes.at, e->graph->n_node = e->nodes.len;
  e->graph->initializer = e->initializers.at, e->graph->n_initializer = e->initializers.len;
  e->graph->output = e->outputs.at, e->graph->n_output = e->outputs.len;
  SD_TRY(restore_all(e));
  p->size = onnx__model_proto__get_packed_size(e->model);
  for (uint32_t i = 0; i < e->initializers.len; i++) {
    Onnx__TensorProto *t = e->initializers.at[i];
    if (t->raw_data.len < LEAST) continue;
    sd_vec_push(e->a, &p->data, ((sd_piece){t->raw_data.data, t->raw_data.len}));
    move_out(e->a, t, LENT, p->data.len - 1, t->raw_data.len);
  }
  size_t n = onnx__model_proto__get_packed_size(e->model);
  if (n > INT32_MAX) return SD_ERR(UNSUPPORTED, "the model is larger than 2 GB even without its weights");
  uint8_t *head = sd_arena_alloc(e->a, n + 1);
  p->src = (sard_source){.size = sizeof p->src,
                         .data = head,
                         .bytes = onnx__model_proto__pack(e->model, head),
                         .read_external = sd_packed_read,
                         .user = p};
  *out = p;
  return NULL;
}

sard_status *sd_packed_read(void *user, const char *location, uint64_t offset, uint64_t length, const void **out) {
  const sd_packed *p = user;
  if (strcmp(location, LENT) != 0 || offset >= p->data.len || p->data.at[offset].size != length)
    return SD_ERR(INTERNAL, "the packed model has no data %llu of '%s'", (unsigned long long)offset, location);
  *out = p->data.at[offset].data;
  return NULL;
}

uint64_t sd_packed_hash(const sd_packed *p, uint64_t seed) {
  uint64_t hash = sd_hash_bytes(p->src.data, p->src.bytes, seed);
  for (uint32_t i = 0; i < p->data.len; i++) hash = sd_hash_bytes(p->data.at[i].data, p->data.at[i].size, hash);
  return hash;
}

// ---- writing ----

typedef struct chunks { // where protobuf-c appends to
  ProtobufCBuffer base;
  sd_arena *a;
  sd_pieces *to;
  uint8_t *at;  // room for small ones
  size_t left;
} chunks;

// What is large stays where it is, what is small is copied: protobuf-c's own buffers end with the call.
static void append(ProtobufCBuffer *b, size_t n, const uint8_t *data) {
  chunks *c = (chunks *)b;
  sd_piece *last = c->to->len ? &c->to->at[c->to->len - 1] : NULL;
  if (n >= LEAST) {
    sd_vec_push(c->a, c->to, ((sd_piece){data, n}));
    return;
  }
  if (n > c->left) c->at = sd_arena_alloc(c->a, BLOCK), c->left = BLOCK, last = NULL;
  memcpy(c->at, data, n);
  if (last && (const uint8_t *)last->data + last->size == c->at) last->size += n;
  else
    sd_vec_push(c->a, c->to, ((sd_piece){c->at, n}));
  c->at += n, c->left -= n;
}

static void put_data(sd_arena *a, Onnx__TensorProto *t, const char *location, uint64_t *at, sd_pieces *data) {
  static const uint8_t zeros[ALIGNMENT];
  uint64_t pad = (ALIGNMENT - *at % ALIGNMENT) % ALIGNMENT, size = t->raw_data.len;
  if (pad) sd_vec_push(a, data, ((sd_piece){zeros, pad}));
  sd_vec_push(a, data, ((sd_piece){t->raw_data.data, size}));
  move_out(a, t, location, *at + pad, size);
  *at += pad + size;
}

sard_status *sd_packed_pieces(sd_arena *a, const sd_packed *p, const char *location, sd_pieces *model, sd_pieces *data) {
  sd_proto e;
  uint64_t at = 0, size = 0;
  SD_TRY(sd_proto_open(a, &p->src, &e));
  SD_TRY(restore_all(&e));
  for (uint32_t i = 0; i < e.initializers.len && location; i++)
    if (e.initializers.at[i]->raw_data.len >= LEAST) put_data(a, e.initializers.at[i], location, &at, data);
  chunks c = {.base = {append}, .a = a, .to = model};
  onnx__model_proto__pack_to_buffer(e.model, &c.base);
  for (uint32_t i = 0; i < model->len; i++) size += model->at[i].size;
  return size > INT32_MAX ? SD_ERR(UNSUPPORTED, "the model is larger than 2 GB, which ends what others read") : NULL;
}

static sard_status *write_files(sd_arena *a, const sd_packed *p, const char *path, bool apart) {
  sd_pieces model = {0}, data = {0};
  const char *other = sd_arena_printf(a, "%s.data", path), *slash = strrchr(other, '/');
  SD_TRY(sd_packed_pieces(a, p, apart ? (slash ? slash + 1 : other) : NULL, &model, &data));
  if (apart) SD_TRY(sd_file_write(other, data.at, data.len));
  sard_status *st = sd_file_write(path, model.at, model.len);
  if (st && apart) unlink(other);
  return st;
}

sard_status *sd_packed_write(const sd_packed *p, const char *path, bool apart) {
  jmp_buf oom;
  sd_arena *a = sd_arena_new();
  if (!a) return SD_ERR(NOMEM, "out of memory");
  sd_arena_set_oom(a, &oom);
  sard_status *st = setjmp(oom) ? SD_ERR(NOMEM, "out of memory while writing the model")
                                : write_files(a, p, path, apart || p->size > INT32_MAX);
  sd_arena_free(a);
  return st;
}
