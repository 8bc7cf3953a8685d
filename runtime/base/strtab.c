// Interned strings: an array by number, an open-addressed index by content, texts in blocks that never move.
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
  uint64_t *index;    // position + 1 in `text`, 0 = free; a power of two of entries
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
  sd_free(t->index);
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

const char *sd_strtab_text(const sd_strtab *t, uint64_t number) {
  while (t && number < t->first) t = t->base;
  return t && number - t->first < t->len ? t->text[number - t->first] : "";
}

// Where a text is or would be in the index of this table alone; NULL without an index.
static uint64_t *find(const sd_strtab *t, const char *text, size_t n, uint64_t h) {
  if (!t->n_index) return NULL;
  uint64_t mask = t->n_index - 1, i = h & mask;
  for (; t->index[i]; i = (i + 1) & mask) {
    uint64_t at = t->index[i] - 1;
    if (t->hash[at] == h && strncmp(t->text[at], text, n) == 0 && !t->text[at][n]) break;
  }
  return &t->index[i];
}

static bool grow(sd_strtab *t) {
  uint64_t cap = t->cap ? t->cap * 2 : FIRST_INDEX / 2, n = cap * 2;
  if (cap > SIZE_MAX / 32) return false;
  const char **text = sd_realloc(t->text, cap * sizeof *text);
  if (text) t->text = text;
  uint64_t *hash = sd_realloc(t->hash, cap * sizeof *hash), *index = sd_calloc(n, sizeof *index);
  if (hash) t->hash = hash;
  if (!text || !hash || !index) {
    sd_free(index);
    return false;
  }
  sd_free(t->index);
  t->bytes += (cap - t->cap) * 16 + (n - t->n_index) * 8;
  t->index = index, t->n_index = n, t->cap = cap;
  for (uint64_t at = 0; at < t->len; at++) {
    uint64_t i = t->hash[at] & (n - 1);
    while (index[i]) i = (i + 1) & (n - 1);
    index[i] = at + 1;
  }
  return true;
}

static const char *keep(sd_strtab *t, const char *text, size_t n) {
  block *b = t->blocks;
  if (!b || b->size - b->used <= n) {
    size_t size = n < BLOCK ? BLOCK : n + 1;
    b = size > n ? sd_malloc(sizeof *b + size) : NULL;
    if (!b) return NULL;
    *b = (block){.next = t->blocks, .size = size};
    t->blocks = b;
    t->bytes += sizeof *b + size;
  }
  char *to = b->text + b->used;
  if (n) memcpy(to, text, n);
  to[n] = 0;
  b->used += n + 1;
  return to;
}

bool sd_strtab_add(sd_strtab *t, const char *text, size_t n, uint64_t *out) {
  uint64_t h = sd_hash_bytes(text, n, 0), *at = NULL;
  for (const sd_strtab *s = t; s; s = s->base) {
    at = find(s, text, n, h);
    if (!at || !*at) continue;
    *out = s->first + *at - 1;
    return true;
  }
  if (t->len == t->cap && !grow(t)) return false;
  const char *kept = keep(t, text, n);
  if (!kept) return false;
  t->text[t->len] = kept, t->hash[t->len] = h;
  *find(t, text, n, h) = ++t->len;
  *out = t->first + t->len - 1;
  return true;
}
