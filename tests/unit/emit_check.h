// Kernels as text, emitted by LLVM for each instruction set of the machine and compared with the tile interpreter.
#pragma once
#include "tests/unit/emit_run.h"

#include <stdatomic.h>

static const sd_isa *isas[8];
static int n_isas;
static sd_arena *arena;
static uint64_t seed = 1;

static inline sd_expr *identity(sd_kernel *k, sd_expr *e, void *user) { return (void)k, (void)user, e; }

// Plain operations of the text become canonical as the constructors would have made them.
static inline void canonical(sd_kernel *k, sd_items *items) {
  for (uint32_t i = 0; i < items->len; i++) {
    if (items->at[i].loop) canonical(k, items->at[i].body);
    for (uint32_t s = 0; items->at[i].nest && s < items->at[i].nest->stores.len; s++) {
      sd_store *st = &items->at[i].nest->stores.at[s];
      st->offset = sd_x_rewrite(k, st->offset, identity, NULL);
      st->value = sd_x_rewrite(k, st->value, identity, NULL);
      if (st->guard) st->guard = sd_x_rewrite(k, st->guard, identity, NULL);
    }
  }
}

static inline sd_kernel *parse(const char *text) {
  sd_kernel *k = NULL;
  sd_dimtab *t = sd_dimtab_new(arena);
  sard_status *st = sd_kernel_parse(arena, t, text, &k);
  if (!st) canonical(k, &k->items);
  if (!st) st = sd_kernel_verify(k);
  if (st) printf("%s\n%s\n", text, sard_status_text(st, SARD_TEXT_MESSAGE));
  CHECK(!st);
  sard_status_free(st);
  return st ? NULL : k;
}

typedef void (*fill_fn)(const sd_buf *b, void *p, uint64_t n);
static inline void fill_random(const sd_buf *b, void *p, uint64_t n) {
  for (uint64_t i = 0; i < n; i++) {
    if (sd_dtype_is_float(b->dtype)) sd_dtype_set_f64(b->dtype, p, i, er_uniform(&seed) * 4 - 2);
    else sd_dtype_set_i64(b->dtype, p, i, b->dtype == SD_BOOL ? (int64_t)(test_random(&seed) & 1) : (int64_t)(test_random(&seed) % 7));
  }
}

static inline bool close_to(const sd_buf *b, const void *x, const void *y, uint64_t i, double rtol, double atol) {
  if (!sd_dtype_is_float(b->dtype)) return sd_dtype_get_i64(b->dtype, x, i) == sd_dtype_get_i64(b->dtype, y, i);
  double u = sd_dtype_get_f64(b->dtype, x, i), v = sd_dtype_get_f64(b->dtype, y, i);
  if (isnan(u) || isnan(v) || isinf(u) || isinf(v)) return (isnan(u) && isnan(v)) || u == v;
  return fabs(u - v) <= atol + rtol * fabs(v);
}

static inline bool compiled(const sd_kernel *k, const sd_isa *isa, int opt, er_code *c) {
  sard_status *st = er_compile(k, isa, opt, c);
  if (st) printf("%s on %s -O%d: %s\n", k->name, isa->name, opt, sard_status_text(st, SARD_TEXT_MESSAGE));
  sard_status_free(st);
  return !st;
}

// Runs the code of k and the interpreter on the same data, compares all outputs.
static inline bool agrees(sd_kernel *k, const er_code *c, const char *isa, const er_sym *syms, fill_fn fill, double rtol, double atol) {
  er_mem mem[32], ref[32];
  void *data[32] = {0}, *want[32] = {0};
  bool ok = true;
  for (uint32_t i = 0; i < k->bufs.len; i++) {
    const sd_buf *b = k->bufs.at[i];
    if (b->kind == SD_BUF_LOCAL) continue;
    uint64_t n = (uint64_t)er_dim(k, b->count, syms), bytes = 0;
    sd_dtype_bytes(b->dtype, n, &bytes);
    mem[i] = er_alloc(bytes), ref[i] = er_alloc(bytes);
    data[i] = mem[i].data, want[i] = ref[i].data;
    (b->kind == SD_BUF_IN ? fill : fill_random)(b, data[i], n);
    memcpy(want[i], data[i], bytes);
  }
  er_run(c, data, syms, 1 + (uint32_t)(test_random(&seed) % 3));
  sard_status *st = sd_kernel_eval(k, want, er_symbol, (void *)(uintptr_t)syms);
  if (st) printf("%s: interpreter: %s\n", k->name, sard_status_text(st, SARD_TEXT_MESSAGE)), ok = false;
  sard_status_free(st);
  for (uint32_t i = 0; i < k->bufs.len && ok; i++) {
    const sd_buf *b = k->bufs.at[i];
    uint64_t n = b->kind == SD_BUF_OUT ? (uint64_t)er_dim(k, b->count, syms) : 0;
    for (uint64_t e = 0; e < n && ok; e++) {
      ok = close_to(b, data[i], want[i], e, rtol, atol);
      if (!ok)
        printf("%s on %s: b%u[%llu] is %.9g, should be %.9g (int %lld, %lld)\n", k->name, isa, i, (unsigned long long)e,
               sd_dtype_get_f64(b->dtype, data[i], e), sd_dtype_get_f64(b->dtype, want[i], e),
               (long long)sd_dtype_get_i64(b->dtype, data[i], e), (long long)sd_dtype_get_i64(b->dtype, want[i], e));
    }
  }
  for (uint32_t i = 0; i < k->bufs.len; i++)
    if (k->bufs.at[i]->kind != SD_BUF_LOCAL) er_release(&mem[i]), er_release(&ref[i]);
  return ok;
}

// Emits k for the ISA and compares.
static inline bool same(sd_kernel *k, const sd_isa *isa, int opt, const er_sym *syms, fill_fn fill, double rtol, double atol) {
  er_code c;
  if (!compiled(k, isa, opt, &c)) return false;
  bool ok = agrees(k, &c, isa->name, syms, fill, rtol, atol);
  sd_code_unload(&c.code);
  return ok;
}

// Code of a text with symbols, for each ISA: made once, as it has to serve all sizes.
typedef struct served {
  char *text;
  sd_kernel *k;
  er_code code[8];
} served;
static served kept[32];
static int n_kept;
static sd_arena *kept_arena;

static inline served *served_by(const char *text) {
  for (int i = 0; i < n_kept; i++)
    if (!strcmp(kept[i].text, text)) return &kept[i];
  if (n_kept == (int)(sizeof kept / sizeof *kept)) return NULL;
  sd_arena *of_one = arena;
  arena = kept_arena;
  served *s = &kept[n_kept];
  s->k = parse(text);
  arena = of_one;
  for (int i = 0; i < n_isas; i++)
    if (!s->k || !compiled(s->k, isas[i], 1, &s->code[i])) return NULL;
  s->text = strdup(text);
  n_kept++;
  return s;
}

static inline void drop_served(void) {
  for (int i = 0; i < n_kept; i++) {
    for (int j = 0; j < n_isas; j++) sd_code_unload(&kept[i].code[j].code);
    free(kept[i].text);
  }
}

static inline void check_sizes(const char *text, const er_sym *syms, double rtol, double atol) {
  served *s = served_by(text);
  CHECK(s != NULL);
  for (int i = 0; s && i < n_isas; i++) {
    bool ok = agrees(s->k, &s->code[i], isas[i]->name, syms, fill_random, rtol, atol);
    CHECK(ok);
    for (const er_sym *v = syms; !ok && v->name; v++) printf("%s %lld\n", v->name, (long long)v->value);
    if (!ok) printf("%s", text);
  }
}

static inline void check_all(const char *text, const er_sym *syms, double rtol, double atol) {
  if (syms) {
    check_sizes(text, syms, rtol, atol);
    return;
  }
  for (int i = 0; i < n_isas; i++) {
    sd_arena_reset(arena);
    sd_kernel *k = parse(text);
    if (!k) return;
    bool ok = same(k, isas[i], 1, NULL, fill_random, rtol, atol);
    CHECK(ok);
    if (!ok) printf("%s", text);
  }
}

static inline char *text(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static inline char *text(const char *fmt, ...) {
  static char bufs[4][4096];
  static int turn;
  char *buf = bufs[turn = (turn + 1) % 4];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(buf, sizeof bufs[0], fmt, ap);
  va_end(ap);
  return buf;
}

// All rows that the machine has; short tests take the last one.
static inline bool emit_check_open(void) {
  const sd_isa *r;
  arena = sd_arena_new(), kept_arena = sd_arena_new();
  if (!arena || !kept_arena) return false;
  for (int i = 0; (r = sd_isa_at(i)); i++) {
    if (r->dot == 4) continue; // differs in products only, which are dot_test's and dot_bf16_test's
    sard_status *st = sd_isa_host(r->name, &isas[n_isas]);
    n_isas += !st;
    sard_status_free(st);
  }
  if (check_short()) isas[0] = isas[n_isas - 1], n_isas = 1;
  return true;
}

static inline int emit_check_close(void) {
  drop_served();
  sd_arena_free(kept_arena);
  sd_arena_free(arena);
  return check_end();
}
