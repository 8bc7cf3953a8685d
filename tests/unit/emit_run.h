// Compiles one kernel, loads it and runs it on buffers that end at an inaccessible page: for the tests of the emitter.
#pragma once
#include <math.h>
#include <sys/mman.h>

#include "codegen/codegen.h"
#include "ir/tile.h"
#include "runtime/artifact.h"
#include "runtime/base/alloc.h"
#include "runtime/code_elf.h"
#include "tests/unit/test.h"

typedef struct er_sym { const char *name; int64_t value; } er_sym;
typedef struct er_code {
  sd_machine_code o;
  sd_code code;
  sard_kernel_fn fn;
  const sd_kernel *k;
  double compile_ms;
} er_code;

static inline bool er_symbol(void *user, const char *name, int64_t *v) {
  for (const er_sym *s = user; s && s->name; s++)
    if (!strcmp(s->name, name)) return *v = s->value, true;
  return false;
}

static inline int64_t er_dim(const sd_kernel *k, sd_dim d, const er_sym *syms) {
  int64_t v = 0;
  return sd_dim_eval(k->dims, d, er_symbol, (void *)(uintptr_t)syms, &v) ? v : -1;
}

static inline sard_status *er_compile(const sd_kernel *k, const sd_isa *isa, int opt, er_code *c) {
  memset(c, 0, sizeof *c);
  c->k = k;
  double t = test_seconds();
  SD_TRY(sd_emit_llvm(k, isa, "kernel", opt, k->arena, &c->o));
  c->compile_ms = (test_seconds() - t) * 1e3;
  sd_code_object ob = {.data = c->o.data, .size = c->o.size, .name = "kernel"};
  SD_TRY(sd_code_load(&ob, 1, &c->code));
  union { void *p; sard_kernel_fn f; } u = {ob.entry};
  c->fn = u.f;
  return NULL;
}

// Memory of `bytes` that ends at a page that must not be touched.
typedef struct er_mem { void *map; size_t map_size; uint8_t *data; size_t bytes; } er_mem;
static inline er_mem er_alloc(size_t bytes) {
  size_t pages = (bytes + 4095) / 4096 * 4096;
  er_mem m = {.map_size = pages + 4096, .bytes = bytes};
  m.map = mmap(NULL, m.map_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (m.map == MAP_FAILED) abort();
  mprotect((char *)m.map + pages, 4096, PROT_NONE);
  m.data = (uint8_t *)m.map + pages - bytes;
  return m;
}
static inline void er_release(er_mem *m) { munmap(m->map, m->map_size); }

// Runs all tiles, in `parts` calls. data: one pointer per buffer of the kernel (LOCAL ones are skipped).
static inline uint32_t er_run(const er_code *c, void *const *data, const er_sym *syms, uint32_t parts) {
  void *bufs[32];
  int64_t dims[64];
  uint32_t n = 0, error = 0;
  for (uint32_t i = 0; i < c->k->bufs.len; i++)
    if (c->k->bufs.at[i]->kind != SD_BUF_LOCAL) bufs[n++] = data[i];
  for (uint32_t i = 0; i < c->o.n_dims && i < 64; i++) dims[i] = er_dim(c->k, c->o.dims[i], syms);
  int64_t scratch = er_dim(c->k, c->o.scratch, syms), tiles = er_dim(c->k, c->o.tiles, syms);
  void *s = scratch > 0 ? sd_alloc_aligned((size_t)scratch) : NULL;
  sard_dispatch d = {bufs, dims, s, &error};
  for (uint32_t p = 0; p < parts; p++) c->fn(&d, (uint32_t)(tiles * p / parts), (uint32_t)(tiles * (p + 1) / parts));
  sd_free_aligned(s);
  return error;
}

static inline double er_uniform(uint64_t *s) { return (double)(test_random(s) >> 11) / 9007199254740992.0; }
