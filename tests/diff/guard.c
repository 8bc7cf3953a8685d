#include "tests/diff/guard.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { CANARY = 0xC5 };

guard guard_new(uint64_t bytes, uint64_t align) {
  uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), room = (bytes + align - 1) / align * align;
  uint64_t inner = (room + 64 + page - 1) / page * page;
  guard g = {.bytes = bytes, .map_bytes = inner + 2 * page};
  void *p = mmap(NULL, g.map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) return (guard){0};
  g.map = p;
  if (mprotect(g.map + page, inner, PROT_READ | PROT_WRITE)) return guard_free(&g), (guard){0};
  memset(g.map + page, CANARY, inner);
  g.data = g.map + page + inner - room;
  return g;
}

bool guard_broken(const guard *g) {
  uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
  const uint8_t *end = g->map + g->map_bytes - page;
  for (const uint8_t *p = g->map + page; p < g->data; p++)
    if (*p != CANARY) return true;
  for (const uint8_t *p = g->data + g->bytes; p < end; p++)
    if (*p != CANARY) return true;
  return false;
}

void guard_lock(guard *g) {
  uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
  if (g->map) mprotect(g->map + page, g->map_bytes - 2 * page, PROT_READ);
}

void guard_free(guard *g) {
  if (g->map) munmap(g->map, g->map_bytes);
  *g = (guard){0};
}
