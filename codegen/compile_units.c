// Kernels compiled by a crew of threads; results come back as bytes and dim texts.
#include "codegen/compile_units.h"

#include <string.h>

#include "codegen/crew.h"
#include "runtime/base/alloc.h"

#define FUNCTION "kernel" // of every object, so that equal texts give equal ones
#define STACK    (16u << 20) // LLVM recurses deeply on large basic blocks

typedef struct result {
  void *object;
  uint64_t bytes;
  char *dims;        // dims, tiles, scratch as texts separated by ';'
  uint32_t n_dims;
} result;

typedef struct work {
  const sd_unit *units;
  result *results;
  const sd_isa *isa;
  int opt;
} work;

static sd_kernel_store *kept;

void sd_units_keep(sd_kernel_store *s) { kept = s; }

static sard_status *take(const sd_kernel_code *c, result *r) {
  r->n_dims = c->n_dims, r->bytes = c->bytes;
  r->dims = sd_strdup(c->dims);
  r->object = sd_malloc(c->bytes ? c->bytes : 1);
  if (!r->dims || !r->object) return SD_ERR(NOMEM, "out of memory while compiling a kernel");
  memcpy(r->object, c->object, c->bytes);
  return NULL;
}

static sard_status *compile_text(const sd_unit *u, const sd_isa *isa, int opt, sd_arena *a, result *r) {
  const sd_kernel_key key = {u->text, isa->name, opt};
  sd_kernel_code code;
  if (kept && sd_kernel_store_find(kept, &key, &code)) return take(&code, r);
  sd_dimtab *dims = sd_dimtab_new(a);
  sd_kernel *k;
  sd_machine_code o = {0};
  sd_str s = {0};
  SD_TRY(sd_kernel_parse(a, dims, u->text, &k));
  SD_TRY(sd_emit_llvm(k, isa, FUNCTION, opt, a, &o));
  for (uint32_t i = 0; i < o.n_dims; i++) sd_dim_print(dims, o.dims[i], &s), sd_str_put(&s, ";");
  sd_dim_print(dims, o.tiles, &s), sd_str_put(&s, ";");
  sd_dim_print(dims, o.scratch, &s), sd_str_put(&s, ";");
  const char *text = sd_arena_keep(a, sd_str_take(&s));
  code = (sd_kernel_code){.object = o.data, .bytes = o.size, .dims = text, .n_dims = o.n_dims};
  if (kept) sd_kernel_store_add(kept, &key, &code);
  return take(&code, r);
}

static sard_status *compile_guarded(const sd_unit *u, const sd_isa *isa, int opt, result *r) {
  sd_arena *volatile a = sd_arena_new();
  jmp_buf oom;
  if (!a) return SD_ERR(NOMEM, "out of memory while compiling a kernel");
  if (setjmp(oom)) {
    sd_arena_free(a);
    return SD_ERR(NOMEM, "out of memory while compiling a kernel");
  }
  sd_arena_set_oom(a, &oom);
  sard_status *st = compile_text(u, isa, opt, a, r);
  sd_arena_free(a);
  return st;
}

static sard_status *compile_job(void *user, uint32_t i) {
  const work *w = user;
  return compile_guarded(&w->units[i], w->isa, w->opt, &w->results[i]);
}

static sard_status *collect(sd_arena *a, sd_dimtab *dims, sd_unit *u, const result *r) {
  const char *p = r->dims;
  u->object = memcpy(sd_arena_aligned(a, r->bytes ? r->bytes : 1, 64), r->object, r->bytes);
  u->object_bytes = r->bytes, u->n_dims = r->n_dims;
  u->dims = SD_NEW_ARRAY(a, sd_dim, r->n_dims + 1);
  for (uint32_t i = 0; i < r->n_dims + 2; i++) {
    sd_dim d = sd_dim_parse(dims, &p);
    if (d == SD_DIM_NONE || *p++ != ';') return SD_ERR(INTERNAL, "kernel %s reports a malformed size '%s'", u->symbol, r->dims);
    if (i < r->n_dims) u->dims[i] = d;
    else *(i == r->n_dims ? &u->tiles : &u->scratch) = d;
  }
  return NULL;
}

typedef struct results { result *at; uint32_t n; } results;
static void drop_results(void *p) {
  results *r = p;
  for (uint32_t i = 0; i < r->n; i++) sd_free(r->at[i].object), sd_free(r->at[i].dims);
  sd_free(r->at);
  *r = (results){0};
}

sard_status *sd_units_compile(sd_arena *a, sd_dimtab *dims, sd_unit *units, uint32_t n, const sd_isa *isa, int opt, int threads) {
  work w = {.units = units, .isa = isa, .opt = opt};
  uint32_t which = 0;
  if (n == 0) return NULL;
  sard_status **errors = SD_NEW_ARRAY(a, sard_status *, n);
  results *r = SD_NEW(a, results); // goes with the arena when collecting runs out of memory
  sd_arena_defer(a, drop_results, r);
  r->at = w.results = sd_calloc(n, sizeof *w.results);
  if (!w.results) return SD_ERR(NOMEM, "out of memory for %u kernels", n);
  r->n = n;
  sard_status *st = sd_crew_run(n, threads, STACK, compile_job, &w, errors, &which);
  if (st) st = sd_status_context(st, "while compiling kernel %s", units[which].symbol);
  for (uint32_t i = 0; i < n && !st; i++) st = collect(a, dims, &units[i], &w.results[i]);
  drop_results(r);
  return st;
}
