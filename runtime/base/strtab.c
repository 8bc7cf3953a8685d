// Interned strings: an array by number, an open-addressed index by content, texts in blocks that never move,
// each behind its length.
#include "runtime/base/strtab.h"

#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/base/hash.h"

enum { BLOCK = 1 << 15, FIRST_INDEX = 64 };

typedef struct block {
  struct block *next;
  size_t used, size;
  char text[];
} block;

struct sd_strtab {
  const sd_strtab *base;
  uint64_t first;     // number of the first text of its own
  const char **text;  // text[i] has the number first + i
  uint64_t *hash;     // parallel to text
  uint64_t len, cap;
  uint64_t *index;    // position + 1 in `text` and 16 bits of the hash, 0 = free; a power of two of entries
  uint64_t n_index;
  block *blocks;
  uint64_t bytes;
};

sd_strtab *sd_strtab_new(const sd_strtab *base) {
  sd_strtab *t = sd_calloc(1, sizeof *t);
  uint64_t empty;
  if (!t) return NULL;
  t->base = base;
  t->first = base ? sd_strtab_count(base) : 0;
  if (base || sd_strtab_add(t, "", 0, &empty)) return t;
  sd_strtab_free(t);
  return NULL;
}

static void drop_blocks(sd_strtab *t) {
  for (block *b = t->blocks, *next; b; b = next) {
    next = b->next;
    sd_free(b);
  }
  t->blocks = NULL;
}

void sd_strtab_free(sd_strtab *t) {
  if (!t) return;
  drop_blocks(t);
  sd_free(t->text);
  sd_free(t->hash);
  sd_free_aligned(t->index);
  sd_free(t);
}

void sd_strtab_reset(sd_strtab *t) {
  uint64_t empty;
  if (t->len == (t->base ? 0 : 1)) return;
  drop_blocks(t);
  if (t->index) memset(t->index, 0, t->n_index * sizeof *t->index);
  t->len = 0;
  t->bytes = t->cap * 16 + t->n_index * 8;
  if (!t->base) (void)!sd_strtab_add(t, "", 0, &empty); // fits in what it has
}

uint64_t sd_strtab_count(const sd_strtab *t) { return t->first + t->len; }
uint64_t sd_strtab_bytes(const sd_strtab *t) { return t->bytes; }

static size_t length_of(const char *kept) {
  size_t n;
  memcpy(&n, kept - sizeof n, sizeof n);
  return n;
}

const char *sd_strtab_get(const sd_strtab *t, uint64_t number, size_t *n) {
  while (t && number < t->first) t = t->base;
  const char *kept = t && number - t->first < t->len ? t->text[number - t->first] : NULL;
  *n = kept ? length_of(kept) : 0;
  return kept ? kept : "";
}

const char *sd_strtab_text(const sd_strtab *t, uint64_t number) {
  while (t && number < t->first) t = t->base;
  return t && number - t->first < t->len ? t->text[number - t->first] : "";
}

static uint64_t entry_of(uint64_t at, uint64_t h) { return (at + 1) << 16 | h >> 48; }

static bool same(const char *kept, const char *text, size_t n) {
  uint64_t a[2], b[2];
  if (length_of(kept) != n) return false;
  if (n < 8 || n > 16) return memcmp(kept, text, n) == 0;
  memcpy(&a[0], kept, 8), memcpy(&a[1], kept + n - 8, 8);
  memcpy(&b[0], text, 8), memcpy(&b[1], text + n - 8, 8);
  return a[0] == b[0] && a[1] == b[1];
}

// Where a text is or would be in the index of this table alone; NULL without an index.
static uint64_t *find(const sd_strtab *t, const char *text, size_t n, uint64_t h) {
  if (!t->n_index) return NULL;
  uint64_t mask = t->n_index - 1, i = h & mask;
  for (; t->index[i]; i = (i + 1) & mask)
    if ((t->index[i] & 0xffff) == h >> 48 && same(t->text[(t->index[i] >> 16) - 1], text, n)) break;
  return &t->index[i];
}

// In this table or what it continues.
static bool look_up(const sd_strtab *t, const char *text, size_t n, uint64_t h, uint64_t *out) {
  for (const sd_strtab *s = t; s; s = s->base) {
    const uint64_t *at = find(s, text, n, h);
    if (!at || !*at) continue;
    *out = s->first + (*at >> 16) - 1;
    return true;
  }
  return false;
}

bool sd_strtab_find(const sd_strtab *t, const char *text, size_t n, uint64_t *out) {
  return look_up(t, text, n, sd_hash_text(text, n), out);
}

static bool grow(sd_strtab *t) {
  uint64_t cap = t->cap ? t->cap * 2 : FIRST_INDEX / 2, n = cap * 2;
  if (cap > SIZE_MAX / 32) return false;
  const char **text = sd_realloc(t->text, cap * sizeof *text);
  if (text) t->text = text;
  uint64_t *hash = sd_realloc(t->hash, cap * sizeof *hash), *index = sd_alloc_aligned(n * sizeof *index);
  if (hash) t->hash = hash;
  if (!text || !hash || !index) {
    sd_free_aligned(index);
    return false;
  }
  memset(index, 0, n * sizeof *index);
  sd_free_aligned(t->index);
  t->bytes += (cap - t->cap) * 16 + (n - t->n_index) * 8;
  t->index = index, t->n_index = n, t->cap = cap;
  for (uint64_t at = 0; at < t->len; at++) {
    uint64_t i = t->hash[at] & (n - 1);
    while (index[i]) i = (i + 1) & (n - 1);
    index[i] = entry_of(at, t->hash[at]);
  }
  return true;
}

static const char *keep(sd_strtab *t, const char *text, size_t n) {
  block *b = t->blocks;
  uint64_t need;
  if (!sd_ck_add(n, sizeof n + 1, &need)) return NULL;
  if (!b || b->size - b->used < need) {
    size_t size = need < BLOCK ? BLOCK : need;
    b = size < SIZE_MAX / 2 ? sd_malloc(sizeof *b + size) : NULL;
    if (!b) return NULL;
    *b = (block){.next = t->blocks, .size = size};
    t->blocks = b;
    t->bytes += sizeof *b + size;
  }
  char *to = b->text + b->used + sizeof n;
  memcpy(to - sizeof n, &n, sizeof n);
  if (n) memcpy(to, text, n);
  to[n] = 0;
  b->used += need;
  return to;
}

bool sd_strtab_add(sd_strtab *t, const char *text, size_t n, uint64_t *out) {
  uint64_t h = sd_hash_text(text, n);
  if (look_up(t, text, n, h, out)) return true;
  if (t->len == t->cap && !grow(t)) return false;
  const char *kept = keep(t, text, n);
  if (!kept) return false;
  t->text[t->len] = kept, t->hash[t->len] = h;
  *find(t, text, n, h) = entry_of(t->len, h);
  *out = t->first + t->len++;
  return true;
}
