// Wire scanner: checks a protobuf message against its descriptor and copies it without the large data of its tensors.
//
// The copy (the skeleton) is what protobuf-c unpacks. Walking the message first also gives errors with an offset,
// drops unknown fields, bounds nesting before protobuf-c recurses, and refuses a repeated singular message, whose
// merging in protobuf-c takes quadratic time. Lengths of nested messages are written as 5-byte varints so that they
// can be patched when the contents are known: one pass, linear time.
#include "frontend/onnx/wire.h"

#include <string.h>

#include "ir/graph.h"
#include "runtime/base/alloc.h"

enum { WIRE_VARINT = 0, WIRE_I64 = 1, WIRE_LEN = 2, WIRE_I32 = 5 };
enum { FIELD_FLOAT_DATA = 4, FIELD_RAW_DATA = 9, FIELD_DOUBLE_DATA = 10, FIELD_LIFTED = 20001 };

// Bodies nest as graph, node, attribute: three messages a level; types and their shapes need a few more.
#define MAX_NESTING   (3 * SD_MAX_DEPTH + 16)
#define MAX_SKELETON  ((size_t)INT32_MAX)
// protobuf-c needs some hundred bytes for a message that takes two in the file.
#define UNPACK_BASE   ((size_t)16 << 20)
#define UNPACK_FACTOR 64

typedef struct buffer {
  uint8_t *p;
  size_t len, cap;
} buffer;

typedef struct scan {
  sd_arena *arena;
  const uint8_t *begin;
  buffer out;
  sd_spans spans;
} scan;

static void buffer_free(void *b) { sd_free(((buffer *)b)->p); }

bool sd_wire_varint(const uint8_t **p, const uint8_t *end, uint64_t *out) {
  uint64_t v = 0;
  for (int shift = 0; shift < 64 && *p < end; shift += 7) {
    uint8_t byte = *(*p)++;
    if (shift == 63 && byte > 1) return false;
    v |= (uint64_t)(byte & 0x7f) << shift;
    if (!(byte & 0x80)) {
      *out = v;
      return true;
    }
  }
  return false;
}

static sard_status *room(scan *s, size_t extra) {
  buffer *b = &s->out;
  if (extra > MAX_SKELETON || b->len > MAX_SKELETON - extra)
    return SD_ERR(UNSUPPORTED, "the model is larger than 2 GB even without its weights");
  size_t need = b->len + extra;
  if (need <= b->cap) return NULL;
  size_t cap = b->cap * 2 > need ? b->cap * 2 : need;
  uint8_t *p = sd_realloc(b->p, cap);
  if (!p) return SD_ERR(NOMEM, "out of memory: %zu bytes to read the model", cap);
  b->p = p;
  b->cap = cap;
  return NULL;
}

static sard_status *put(scan *s, const void *p, size_t n) {
  SD_TRY(room(s, n));
  if (n) memcpy(s->out.p + s->out.len, p, n);
  s->out.len += n;
  return NULL;
}

static sard_status *put_varint(scan *s, uint64_t v) {
  uint8_t b[10];
  size_t n = 0;
  for (; v >= 0x80; v >>= 7) b[n++] = (uint8_t)(v | 0x80);
  b[n++] = (uint8_t)v;
  return put(s, b, n);
}

static unsigned long long offset_of(const scan *s, const uint8_t *p) { return (unsigned long long)(p - s->begin); }

static int wire_of(ProtobufCType t) {
  switch (t) {
  case PROTOBUF_C_TYPE_SFIXED32:
  case PROTOBUF_C_TYPE_FIXED32:
  case PROTOBUF_C_TYPE_FLOAT: return WIRE_I32;
  case PROTOBUF_C_TYPE_SFIXED64:
  case PROTOBUF_C_TYPE_FIXED64:
  case PROTOBUF_C_TYPE_DOUBLE: return WIRE_I64;
  case PROTOBUF_C_TYPE_STRING:
  case PROTOBUF_C_TYPE_BYTES:
  case PROTOBUF_C_TYPE_MESSAGE: return WIRE_LEN;
  default: return WIRE_VARINT;
  }
}

// A packed list must hold whole elements; checking here gives a better message than a failed unpack.
static bool packed_ok(ProtobufCType t, const uint8_t *p, uint64_t n) {
  int wire = wire_of(t);
  if (wire == WIRE_I32) return n % 4 == 0;
  if (wire == WIRE_I64) return n % 8 == 0;
  const uint8_t *end = p + n;
  uint64_t v;
  while (p < end)
    if (!sd_wire_varint(&p, end, &v)) return false;
  return true;
}

// Length of the valid UTF-8 sequence at p, 0 when there is none.
static size_t utf8_len(const uint8_t *p, size_t left) {
  uint8_t c = p[0];
  if (c < 0x80) return 1;
  size_t n = c >= 0xf0 && c < 0xf5 ? 4 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xc2 && c < 0xe0 ? 2 : 0;
  if (!n || n > left) return 0;
  for (size_t i = 1; i < n; i++)
    if ((p[i] & 0xc0) != 0x80) return 0;
  if ((c == 0xe0 && p[1] < 0xa0) || (c == 0xed && p[1] > 0x9f) || (c == 0xf0 && p[1] < 0x90) ||
      (c == 0xf4 && p[1] > 0x8f))
    return 0;
  return n;
}

// Names end up in messages and JSON: bytes that are no text become '?'.
static void clean_text(uint8_t *p, size_t n) {
  for (size_t i = 0; i < n;) {
    size_t len = utf8_len(p + i, n - i);
    if (len == 0 || (len == 1 && (p[i] < 0x20 || p[i] == 0x7f))) {
      p[i] = '?';
      len = 1;
    }
    i += len;
  }
}

static sard_status *scan_message(scan *s, const ProtobufCMessageDescriptor *d, const uint8_t *p, const uint8_t *end,
                                 int depth);

static sard_status *scan_nested(scan *s, const ProtobufCFieldDescriptor *f, const uint8_t *p, uint64_t n, int depth) {
  SD_TRY(put_varint(s, (uint64_t)f->id << 3 | WIRE_LEN));
  size_t at = s->out.len;
  SD_TRY(put(s, (const uint8_t[5]){0}, 5));
  SD_TRY(scan_message(s, f->descriptor, p, p + n, depth + 1));
  size_t len = s->out.len - at - 5;
  for (int i = 0; i < 5; i++) s->out.p[at + i] = (uint8_t)((len >> (7 * i) & 0x7f) | (i < 4 ? 0x80 : 0));
  return NULL;
}

static sard_status *scan_text(scan *s, const ProtobufCMessageDescriptor *d, const ProtobufCFieldDescriptor *f,
                              const uint8_t *p, uint64_t n) {
  if (memchr(p, 0, n))
    return SD_ERR(MODEL, "malformed model: the text %s.%s at byte %llu contains a NUL", d->short_name, f->name,
                  offset_of(s, p));
  SD_TRY(put_varint(s, (uint64_t)f->id << 3 | WIRE_LEN));
  SD_TRY(put_varint(s, n));
  SD_TRY(put(s, p, n));
  clean_text(s->out.p + s->out.len - n, n);
  return NULL;
}

static bool lifts(const ProtobufCMessageDescriptor *d, uint32_t id, uint64_t n) {
  return d == &onnx__tensor_proto__descriptor && n >= SD_WIRE_LIFT_BYTES &&
         (id == FIELD_RAW_DATA || id == FIELD_FLOAT_DATA || id == FIELD_DOUBLE_DATA);
}

// What one message has shown so far.
typedef struct seen {
  uint64_t singular; // bit per field id of messages that may occur once
  bool lifted, data; // lifted data; raw_data or typed data
} seen;

static sard_status *scan_len(scan *s, const ProtobufCMessageDescriptor *d, const ProtobufCFieldDescriptor *f,
                             const uint8_t *p, uint64_t n, int depth, seen *seen) {
  bool repeated = f->label == PROTOBUF_C_LABEL_REPEATED;
  if (d == &onnx__tensor_proto__descriptor &&
      (f->id == FIELD_RAW_DATA || f->id == FIELD_FLOAT_DATA || f->id == FIELD_DOUBLE_DATA)) {
    if (seen->lifted || (seen->data && lifts(d, f->id, n)))
      return SD_ERR(MODEL, "malformed model: a tensor's data is given twice (second at byte %llu)", offset_of(s, p));
    seen->data = true;
  }
  if (f->type == PROTOBUF_C_TYPE_MESSAGE) {
    if (!repeated && f->id < 64) {
      if (seen->singular >> f->id & 1)
        return SD_ERR(MODEL, "malformed model: %s.%s occurs twice (second at byte %llu)", d->short_name, f->name,
                      offset_of(s, p));
      seen->singular |= 1ull << f->id;
    }
    return scan_nested(s, f, p, n, depth);
  }
  if (f->type == PROTOBUF_C_TYPE_STRING) return scan_text(s, d, f, p, n);
  if (f->type != PROTOBUF_C_TYPE_BYTES && !packed_ok(f->type, p, n))
    return SD_ERR(MODEL, "malformed model: the packed list %s.%s at byte %llu holds no whole number of elements",
                  d->short_name, f->name, offset_of(s, p));
  if (lifts(d, f->id, n)) {
    sd_vec_push(s->arena, &s->spans, ((sd_span){p, n, f->id}));
    seen->lifted = true;
    SD_TRY(put_varint(s, (uint64_t)FIELD_LIFTED << 3 | WIRE_VARINT));
    return put_varint(s, s->spans.len);
  }
  SD_TRY(put_varint(s, (uint64_t)f->id << 3 | WIRE_LEN));
  SD_TRY(put_varint(s, n));
  return put(s, p, n);
}

// Reads the payload of a field: sets *p behind it and *from to its start (behind the length of a WIRE_LEN one).
static sard_status *payload(const scan *s, const ProtobufCMessageDescriptor *d, uint64_t tag, const uint8_t **p,
                            const uint8_t *end, const uint8_t **from, uint64_t *n) {
  const uint8_t *at = *p;
  unsigned wire = tag & 7;
  *from = at;
  if (wire == WIRE_VARINT) {
    if (!sd_wire_varint(p, end, n))
      return SD_ERR(MODEL, "malformed model: broken number at byte %llu (in %s)", offset_of(s, at), d->short_name);
    return NULL;
  }
  if (wire == WIRE_I32 || wire == WIRE_I64) {
    *n = wire == WIRE_I32 ? 4 : 8;
  } else if (wire == WIRE_LEN) {
    if (!sd_wire_varint(p, end, n))
      return SD_ERR(MODEL, "malformed model: broken length at byte %llu (in %s)", offset_of(s, at), d->short_name);
    *from = *p;
  } else {
    return SD_ERR(MODEL, "malformed model: field %llu of %s at byte %llu has wire type %u",
                  (unsigned long long)(tag >> 3), d->short_name, offset_of(s, at), wire);
  }
  if (*n > (uint64_t)(end - *p))
    return SD_ERR(MODEL, "malformed or truncated model: field %llu of %s at byte %llu needs %llu bytes, %llu are left",
                  (unsigned long long)(tag >> 3), d->short_name, offset_of(s, at), (unsigned long long)*n,
                  (unsigned long long)(end - *p));
  *p += *n;
  return NULL;
}

static sard_status *scan_message(scan *s, const ProtobufCMessageDescriptor *d, const uint8_t *p, const uint8_t *end,
                                 int depth) {
  seen seen = {0};
  if (depth > MAX_NESTING)
    return SD_ERR(MODEL, "the model nests deeper than %d levels of subgraphs (at byte %llu)", SD_MAX_DEPTH,
                  offset_of(s, p));
  while (p < end) {
    const uint8_t *tag_at = p, *from = p;
    uint64_t tag, n = 0;
    if (!sd_wire_varint(&p, end, &tag) || tag >> 3 == 0 || tag >> 3 > 0x1fffffff)
      return SD_ERR(MODEL, "malformed model: broken field tag at byte %llu (in %s)", offset_of(s, tag_at),
                    d->short_name);
    SD_TRY(payload(s, d, tag, &p, end, &from, &n));
    const ProtobufCFieldDescriptor *f = protobuf_c_message_descriptor_get_field(d, (unsigned)(tag >> 3));
    if (!f || f->id == FIELD_LIFTED) continue;
    int wire = (int)(tag & 7), want = wire_of(f->type);
    bool packed = wire == WIRE_LEN && want != WIRE_LEN && f->label == PROTOBUF_C_LABEL_REPEATED;
    if (wire != want && !packed)
      return SD_ERR(MODEL, "malformed model: %s.%s at byte %llu has wire type %d instead of %d", d->short_name, f->name,
                    offset_of(s, tag_at), wire, want);
    if (wire == WIRE_LEN) {
      SD_TRY(scan_len(s, d, f, from, n, depth, &seen));
      continue;
    }
    if (d == &onnx__tensor_proto__descriptor && (f->id == FIELD_FLOAT_DATA || f->id == FIELD_DOUBLE_DATA)) {
      if (seen.lifted)
        return SD_ERR(MODEL, "malformed model: a tensor's data is given twice (second at byte %llu)",
                      offset_of(s, from));
      seen.data = true;
    }
    SD_TRY(put(s, tag_at, (size_t)(p - tag_at)));
  }
  return NULL;
}

// protobuf-c allocates from the arena under a budget; nothing is freed singly.
typedef struct budget {
  sd_arena *arena;
  size_t left;
  bool exceeded;
} budget;

static void *budget_alloc(void *user, size_t n) {
  budget *b = user;
  if (n > b->left) {
    b->exceeded = true;
    return NULL;
  }
  b->left -= n;
  return sd_arena_alloc(b->arena, n ? n : 1);
}

static void budget_free(void *user, void *p) { (void)user, (void)p; }

sard_status *sd_wire_read(sd_arena *a, const void *data, uint64_t size, const ProtobufCMessageDescriptor *root,
                          ProtobufCMessage **out, sd_spans *out_spans) {
  scan *s = SD_NEW(a, scan);
  s->arena = a;
  s->begin = data;
  sd_arena_defer(a, buffer_free, &s->out);
  if (size == 0) return SD_ERR(MODEL, "the file is empty");
  SD_TRY(scan_message(s, root, s->begin, s->begin + size, 0));
  budget b = {a, UNPACK_BASE + s->out.len * UNPACK_FACTOR, false};
  ProtobufCAllocator allocator = {budget_alloc, budget_free, &b};
  *out = protobuf_c_message_unpack(root, &allocator, s->out.len, s->out.p ? s->out.p : (const uint8_t *)"");
  buffer_free(&s->out);
  s->out = (buffer){0};
  if (!*out && b.exceeded) return SD_ERR(NOMEM, "the model's structure needs more memory than a sane one of its size");
  if (!*out) return SD_ERR(MODEL, "malformed model: %s cannot be unpacked", root->short_name);
  *out_spans = s->spans;
  return NULL;
}
