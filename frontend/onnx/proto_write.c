// A packed model as files: one, or its large tensors in another one beside it.
#include "frontend/onnx/proto_write.h"

#include <string.h>
#include <unistd.h>

#include "frontend/onnx/proto.h"
#include "runtime/base/alloc.h"

enum { LEAST_OUTSIDE = 1024, ALIGNMENT = 64 }; // bytes of a tensor that is worth it; of its place in the file

typedef struct outside {
  sd_proto p;
  const char *location; // of the data, as the model names it
  uint64_t at;          // bytes so far
  SD_VEC(sd_piece) pieces;
} outside;

static Onnx__StringStringEntryProto *entry(sd_arena *a, const char *key, const char *value) {
  Onnx__StringStringEntryProto *e = SD_NEW(a, Onnx__StringStringEntryProto);
  onnx__string_string_entry_proto__init(e);
  e->key = (char *)key, e->value = (char *)value;
  return e;
}

// The tensor's data, which lie in the packed bytes, go to the other file.
static void move_out(outside *o, Onnx__TensorProto *t) {
  static const uint8_t zeros[ALIGNMENT];
  sd_arena *a = o->p.a;
  if (!t->lifted || t->lifted > o->p.o.spans.len || o->p.o.spans.at[t->lifted - 1].size < LEAST_OUTSIDE)
    return;
  const sd_span *s = &o->p.o.spans.at[t->lifted - 1];
  uint64_t pad = (ALIGNMENT - o->at % ALIGNMENT) % ALIGNMENT;
  if (pad) sd_vec_push(a, &o->pieces, ((sd_piece){zeros, pad}));
  sd_vec_push(a, &o->pieces, ((sd_piece){s->data, s->size}));
  o->at += pad;
  t->external_data = SD_NEW_ARRAY(a, Onnx__StringStringEntryProto *, 3), t->n_external_data = 3;
  t->external_data[0] = entry(a, "location", o->location);
  t->external_data[1] = entry(a, "offset", sd_arena_printf(a, "%llu", (unsigned long long)o->at));
  t->external_data[2] = entry(a, "length", sd_arena_printf(a, "%llu", (unsigned long long)s->size));
  t->data_location = 1, t->lifted = 0;
  o->at += s->size;
}

static sard_status *write_two(sd_arena *a, const uint8_t *bytes, uint64_t size, const char *path) {
  outside o = {0};
  uint8_t *head;
  uint64_t head_size;
  const sard_source src = {.size = sizeof src, .data = bytes, .bytes = size};
  const char *data = sd_arena_printf(a, "%s.data", path), *slash = strrchr(data, '/');
  o.location = slash ? slash + 1 : data;
  SD_TRY(sd_proto_open(a, &src, &o.p));
  o.p.outside = true;
  for (uint32_t i = 0; i < o.p.initializers.len; i++) move_out(&o, o.p.initializers.at[i]);
  SD_TRY(sd_proto_pack(&o.p, &head, &head_size));
  if (head_size > INT32_MAX)
    return SD_ERR(UNSUPPORTED, "the model is larger than 2 GB even without its weights");
  SD_TRY(sd_file_write(data, o.pieces.at, o.pieces.len));
  sard_status *st = sd_file_write(path, &(sd_piece){head, head_size}, 1);
  if (st) unlink(data);
  return st;
}

sard_status *sd_proto_write(const uint8_t *bytes, uint64_t size, const char *path, bool apart) {
  if (!apart && size <= INT32_MAX) return sd_file_write(path, &(sd_piece){bytes, size}, 1);
  jmp_buf oom;
  sd_arena *a = sd_arena_new();
  if (!a) return SD_ERR(NOMEM, "out of memory");
  sd_arena_set_oom(a, &oom);
  sard_status *st =
      setjmp(oom) ? SD_ERR(NOMEM, "out of memory while writing the model") : write_two(a, bytes, size, path);
  sd_arena_free(a);
  return st;
}
