// Bump allocator: blocks of growing size, large requests in blocks of their own, blocks kept over a reset.
#include "runtime/base/arena.h"

#include <stdio.h>
#include <stdlib.h>

#include "runtime/base/alloc.h"

typedef struct block {
  struct block *next;
  size_t size, used; // payload bytes
} block;

typedef struct deferred {
  struct deferred *next;
  void (*fn)(void *);
  void *p;
} deferred;

struct sd_arena {
  block *blocks; // the first one is open for small requests
  block *spare;  // emptied by a reset
  size_t next_size, bytes;
  deferred *defers;
  jmp_buf *oom;
  sd_arena *parent, *children, *sibling; // scratch arenas
};

// SLACK: bytes behind a block that vector code may read when constants of an arena are run in place.
enum {
  SLACK = 64,
  ALIGN = 16,
  HEAD = (sizeof(block) + ALIGN - 1) / ALIGN * ALIGN,
  FIRST = 16 << 10,
  LARGEST = 1 << 20
};

static char *payload(block *b) { return (char *)b + HEAD; }

sd_arena *sd_arena_new(void) {
  sd_arena *a = sd_calloc(1, sizeof *a);
  if (a) a->next_size = FIRST;
  return a;
}

sd_arena *sd_arena_scratch(sd_arena *parent) {
  sd_arena *a = sd_arena_new();
  if (!a) sd_arena_oom(parent);
  a->parent = parent, a->sibling = parent->children;
  return parent->children = a;
}

static void leave_parent(sd_arena *a) {
  if (!a->parent) return;
  sd_arena **at = &a->parent->children;
  while (*at != a) at = &(*at)->sibling;
  *at = a->sibling;
}

static void run_deferred(sd_arena *a) {
  while (a->defers) {
    deferred *d = a->defers;
    a->defers = d->next;
    d->fn(d->p);
  }
}

static void free_blocks(sd_arena *a, block *b) {
  while (b) {
    block *next = b->next;
    a->bytes -= b->size + HEAD;
    sd_free(b);
    b = next;
  }
}

void sd_arena_free(sd_arena *a) {
  if (!a) return;
  while (a->children) sd_arena_free(a->children);
  leave_parent(a);
  run_deferred(a);
  free_blocks(a, a->blocks);
  free_blocks(a, a->spare);
  sd_free(a);
}

void sd_arena_reset(sd_arena *a) {
  run_deferred(a);
  block *b = a->blocks, *drop = NULL;
  a->blocks = NULL;
  while (b) { // blocks of single large requests go back, the others wait for the next round
    block *next = b->next;
    block **list = b->size <= LARGEST ? &a->spare : &drop;
    b->next = *list;
    b->used = 0;
    *list = b;
    b = next;
  }
  free_blocks(a, drop);
}

size_t sd_arena_bytes(const sd_arena *a) { return a->bytes; }

void sd_arena_set_oom(sd_arena *a, jmp_buf *point) { a->oom = point; }

_Noreturn void sd_arena_oom(sd_arena *a) {
  while (!a->oom && a->parent) a = a->parent;
  // An arena without a recovery point is a bug of its owner; there is no way to return from here.
  if (!a->oom) __builtin_trap(); // a bug: no recovery point was set
  longjmp(*a->oom, 1);
}

static block *take_spare(sd_arena *a, size_t need) {
  for (block **at = &a->spare; *at; at = &(*at)->next)
    if ((*at)->size >= need) {
      block *b = *at;
      *at = b->next;
      return b;
    }
  return NULL;
}

// Room for `need` bytes in a block that becomes the open one; NULL when memory is short.
static block *open_block(sd_arena *a, size_t need) {
  block *b = take_spare(a, need);
  if (!b) {
    size_t size = need > a->next_size ? need : a->next_size;
    b = sd_malloc(HEAD + size + SLACK);
    if (!b) return NULL;
    b->size = size;
    b->used = 0;
    a->bytes += HEAD + size;
    if (a->next_size < LARGEST) a->next_size *= 2;
  }
  b->next = a->blocks;
  a->blocks = b;
  return b;
}

// A block for one large request, put behind the open one. calloc gives fresh zero pages without touching them.
static void *large(sd_arena *a, size_t size) {
  block *b = sd_calloc(1, HEAD + size + SLACK);
  if (!b) return NULL;
  b->size = b->used = size;
  a->bytes += HEAD + size;
  if (a->blocks) {
    b->next = a->blocks->next;
    a->blocks->next = b;
  } else {
    a->blocks = b;
  }
  return payload(b);
}

static void *try_alloc(sd_arena *a, size_t size) {
  if (size > PTRDIFF_MAX / 2 || sd_alloc_injected()) return NULL;
  size = size ? (size + ALIGN - 1) / ALIGN * ALIGN : ALIGN;
  if (size > LARGEST / 4) return large(a, size);
  block *b = a->blocks;
  if (!b || b->size - b->used < size) b = open_block(a, size);
  if (!b) return NULL;
  void *p = payload(b) + b->used;
  b->used += size;
  return memset(p, 0, size);
}

void *sd_arena_alloc(sd_arena *a, size_t size) {
  void *p = try_alloc(a, size);
  if (!p) sd_arena_oom(a);
  return p;
}

void *sd_arena_array(sd_arena *a, size_t count, size_t size) {
  uint64_t bytes;
  if (!sd_ck_mul(count, size, &bytes)) sd_arena_oom(a);
  return sd_arena_alloc(a, bytes);
}

void *sd_arena_aligned(sd_arena *a, size_t size, size_t align) {
  if (align <= ALIGN) return sd_arena_alloc(a, size);
  if (align > 4096 || (align & (align - 1)) || size > PTRDIFF_MAX / 2) sd_arena_oom(a);
  return (void *)sd_align_up((uintptr_t)sd_arena_alloc(a, size + align - ALIGN), align);
}

void *sd_arena_dup(sd_arena *a, const void *p, size_t size) {
  void *q = sd_arena_alloc(a, size);
  return size ? memcpy(q, p, size) : q;
}

char *sd_arena_strdup(sd_arena *a, const char *s) { return s ? sd_arena_dup(a, s, strlen(s) + 1) : NULL; }

char *sd_arena_strndup(sd_arena *a, const char *s, size_t n) {
  n = strnlen(s, n);
  if (n == SIZE_MAX) sd_arena_oom(a);
  char *q = sd_arena_alloc(a, n + 1);
  if (n) memcpy(q, s, n);
  return q;
}

char *sd_arena_printf(sd_arena *a, const char *fmt, ...) {
  va_list ap, again;
  va_start(ap, fmt);
  va_copy(again, ap);
  int n = vsnprintf(NULL, 0, fmt, ap);
  va_end(ap);
  // Allocation can leave by longjmp; va_end of a copy is a no-op on the platforms we run on.
  char *q = n < 0 ? sd_arena_strdup(a, "") : sd_arena_alloc(a, (size_t)n + 1);
  if (n > 0) vsnprintf(q, (size_t)n + 1, fmt, again);
  va_end(again);
  return q;
}

void sd_arena_defer(sd_arena *a, void (*fn)(void *), void *p) {
  deferred *d = try_alloc(a, sizeof *d);
  if (!d) { // the arena has taken `p` over: it must not leak because the note about it found no room
    fn(p);
    sd_arena_oom(a);
  }
  *d = (deferred){a->defers, fn, p};
  a->defers = d;
}

char *sd_arena_keep(sd_arena *a, char *text) {
  if (!text) sd_arena_oom(a);
  sd_arena_defer(a, sd_free, text);
  return text;
}

void *sd_vec_grow_(sd_arena *a, void *at, uint32_t len, uint32_t *cap, size_t size, uint32_t extra) {
  uint64_t need = (uint64_t)len + extra;
  if (need <= *cap) return at;
  if (need > UINT32_MAX) sd_arena_oom(a);
  uint64_t want = (uint64_t)*cap * 2;
  if (want < 8) want = 8;
  if (want < need) want = need;
  if (want > UINT32_MAX) want = UINT32_MAX;
  void *p = sd_arena_array(a, want, size);
  if (len) memcpy(p, at, (size_t)len * size);
  *cap = (uint32_t)want;
  return p;
}
