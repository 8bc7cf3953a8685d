// The table of objects of a session: entries by number, memory in blocks that live until the table is reset.
#include "runtime/objects.h"

#include <string.h>

#include "runtime/base/alloc.h"

typedef struct block { struct block *next; } block; // contents behind it, 64-byte aligned

// Items of sequences: several sequences may share the first items of one array. `used`: how many are taken; a sequence
// that ends there can grow in place.
typedef struct items { uint64_t used, cap; uint64_t at[]; } items;

typedef struct entry { sd_object object; items *shared; } entry;

struct sd_objects {
  entry **at;
  uint64_t len, cap;
  block *blocks;
  uint64_t bytes, limit;
};

sd_objects *sd_objects_new(void) { return sd_calloc(1, sizeof(sd_objects)); }

void sd_objects_reset(sd_objects *o) {
  for (block *b = o->blocks, *next; b; b = next) {
    next = b->next;
    sd_free_aligned(b);
  }
  sd_free(o->at);
  *o = (sd_objects){.limit = o->limit};
}

void sd_objects_free(sd_objects *o) {
  if (!o) return;
  sd_objects_reset(o);
  sd_free(o);
}

uint64_t sd_objects_bytes(const sd_objects *o) { return o->bytes; }
void sd_objects_limit(sd_objects *o, uint64_t bytes) { o->limit = bytes; }

const char *sd_object_kind_text(sd_object_kind k) {
  static const char *const names[] = {"nothing", "a tensor", "a sequence", "an optional", "a map"};
  return names[k];
}

static sard_status *take(sd_objects *o, uint64_t size, void **out) {
  uint64_t all, total;
  if (!sd_ck_add(size, 64 + 64, &all) || !sd_ck_add(o->bytes, all, &total))
    return SD_ERR(NOMEM, "an object of %llu bytes", (unsigned long long)size);
  if (o->limit && total > o->limit)
    return SD_ERR(NOMEM, "sequences and other objects need %llu bytes, the memory-limit leaves %llu", (unsigned long long)total,
                  (unsigned long long)o->limit);
  block *b = sd_alloc_aligned(all);
  if (!b) return SD_ERR(NOMEM, "out of memory for an object of %llu bytes", (unsigned long long)size);
  b->next = o->blocks;
  o->blocks = b;
  o->bytes = total;
  *out = (char *)b + 64;
  return NULL;
}

static sard_status *add(sd_objects *o, entry **out, uint64_t *number) {
  void *p;
  if (o->len == o->cap) {
    uint64_t cap = o->cap ? o->cap * 2 : 64;
    entry **grown = sd_realloc(o->at, cap * sizeof *grown);
    if (!grown) return SD_ERR(NOMEM, "out of memory for %llu objects", (unsigned long long)cap);
    o->at = grown, o->cap = cap;
  }
  SD_TRY(take(o, sizeof **out, &p));
  *out = p;
  **out = (entry){0};
  o->at[o->len] = *out;
  *number = ++o->len;
  return NULL;
}

sard_status *sd_objects_tensor(sd_objects *o, sd_dtype t, int rank, const int64_t *dims, uint64_t *out, void **out_data) {
  uint64_t count = 1, bytes;
  entry *e;
  if (rank < 0 || rank > SD_OBJECT_RANK) return SD_ERR(MODEL, "a tensor of rank %d", rank);
  for (int i = 0; i < rank; i++)
    if (dims[i] < 0 || !sd_ck_mul(count, (uint64_t)dims[i], &count)) return SD_ERR(MODEL, "dim %d of a tensor is %lld", i, (long long)dims[i]);
  if (!sd_dtype_bytes(t, count, &bytes)) return SD_ERR(MODEL, "a tensor of %llu elements of type %s", (unsigned long long)count, sd_dtype_name(t));
  SD_TRY(add(o, &e, out));
  e->object = (sd_object){.kind = SD_OBJ_TENSOR, .dtype = t, .rank = rank, .count = count, .bytes = bytes};
  if (rank) memcpy(e->object.dims, dims, (size_t)rank * sizeof *dims);
  SD_TRY(take(o, bytes, &e->object.data));
  if (out_data) *out_data = e->object.data;
  return NULL;
}

static sard_status *make_items(sd_objects *o, uint64_t cap, items **out) {
  uint64_t size;
  void *p;
  if (!sd_ck_mul(cap, 8, &size) || !sd_ck_add(size, sizeof **out, &size)) return SD_ERR(NOMEM, "a sequence of %llu items", (unsigned long long)cap);
  SD_TRY(take(o, size, &p));
  *out = p;
  **out = (items){0, cap};
  return NULL;
}

sard_status *sd_objects_list(sd_objects *o, sd_object_kind kind, const uint64_t *list, uint64_t n, uint64_t *out) {
  entry *e;
  items *s;
  SD_TRY(add(o, &e, out));
  SD_TRY(make_items(o, n, &s));
  if (n) memcpy(s->at, list, n * sizeof *list);
  s->used = n;
  e->shared = s;
  e->object = (sd_object){.kind = kind, .items = s->at, .n = n};
  return NULL;
}

sard_status *sd_objects_append(sd_objects *o, uint64_t sequence, uint64_t item, uint64_t *out) {
  const entry *from = sequence && sequence <= o->len ? o->at[sequence - 1] : NULL;
  items *s = from ? from->shared : NULL;
  uint64_t n = from ? from->object.n : 0;
  entry *e;
  SD_TRY(add(o, &e, out));
  if (!s || s->used != n || n == s->cap) { // someone else has grown it, or it is full
    items *grown;
    SD_TRY(make_items(o, n < 4 ? 8 : 2 * n, &grown));
    if (n) memcpy(grown->at, from->object.items, n * sizeof *grown->at);
    s = grown;
  }
  s->at[n] = item;
  s->used = n + 1;
  e->shared = s;
  e->object = (sd_object){.kind = SD_OBJ_SEQUENCE, .items = s->at, .n = n + 1};
  return NULL;
}

const sd_object *sd_objects_get(const sd_objects *o, uint64_t number) {
  static const sd_object nothing;
  return number && number <= o->len ? &o->at[number - 1]->object : &nothing;
}

sard_status *sd_objects_need(const sd_objects *o, uint64_t number, sd_object_kind kind, const sd_object **out) {
  *out = sd_objects_get(o, number);
  if ((*out)->kind == kind || ((*out)->kind == SD_OBJ_NONE && kind != SD_OBJ_TENSOR)) return NULL;
  return SD_ERR(MODEL, "%s is expected, the value is %s", sd_object_kind_text(kind), sd_object_kind_text((*out)->kind));
}
