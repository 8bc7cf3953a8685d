// Runs graph texts with control flow: interpreted, and compiled at -O0 and -O3, on the same inputs; the results must agree.
#pragma once
#include <math.h>

#include "frontend/driver/driver.h"
#include "ir/eval.h"
#include "runtime/base/alloc.h"
#include "runtime/model.h"
#include "tests/unit/test.h"

enum { FLOW_MAX = 8 };

typedef struct flow_data { sd_evalue in[FLOW_MAX]; uint32_t n_in; } flow_data;
typedef struct flow_result { sd_evalue out[FLOW_MAX]; uint32_t n_out; } flow_result;

static inline sd_evalue flow_tensor(sd_dtype t, int rank, const int64_t *dims, void *data) {
  sd_evalue e = {.dtype = t, .rank = rank, .data = data};
  uint64_t count = 1;
  for (int i = 0; i < rank; i++) e.dims[i] = dims[i], count *= (uint64_t)dims[i];
  sd_dtype_bytes(t, count, &e.bytes);
  return e;
}

static inline sard_source flow_source(const char *text) { return (sard_source){.size = sizeof(sard_source), .data = text, .bytes = strlen(text)}; }

static inline void flow_free(flow_result *r) {
  for (uint32_t i = 0; i < r->n_out; i++) sd_eval_free(&r->out[i]);
  r->n_out = 0;
}

static inline void flow_interpret(const char *text, const flow_data *d, uint32_t n_out, flow_result *r) {
  sard_source src = flow_source(text);
  sd_driver_options o;
  sd_module *m = NULL;
  sd_driver_defaults(&o);
  r->n_out = 0;
  CHECK_OK(sd_driver_load(&src, &o, &m));
  if (!m) return;
  sard_status *st = sd_module_verify(m);
  sd_pass_options po = {.bisect = -1};
  if (!st) st = sd_passes_run(m, &po, NULL, "rewrite", NULL, NULL); // the interpreter knows no SD_REWRITE rows
  if (!st) st = sd_module_verify(m);
  if (!st) st = sd_eval_module(m, d->in, d->n_in, r->out, n_out, NULL, NULL);
  if (!st) r->n_out = n_out;
  CHECK_OK(st);
  sd_module_free(m);
}

static inline void flow_take(sard_tensor *t, sd_evalue *out) {
  sard_tensor_desc d = {.size = sizeof d};
  void *p = sard_tensor_data(t, &d);
  *out = flow_tensor((sd_dtype)d.dtype, d.rank, d.dims, NULL);
  out->data = sd_alloc_aligned(out->bytes + 64);
  if (out->bytes) memcpy(out->data, p, out->bytes);
}

// The tensors of a run are given to the next one, with other contents; those that only a run can make are dropped.
static inline void flow_reuse(sard_model *m, sard_tensor **out, uint32_t n_out) {
  for (uint32_t i = 0; i < n_out; i++) {
    sard_tensor_desc d = {.size = sizeof d};
    CHECK_OK(sard_model_io(m, 1, (int)i, &d));
    if (d.dtype >= SARD_SEQUENCE || d.rank < 0) sard_tensor_free(out[i]), out[i] = NULL;
    else if (out[i] && d.dtype != SARD_STRING && out[i]->bytes) memset(out[i]->data, 0x5a, out[i]->bytes);
  }
}

// Runs a session `times` times on the same inputs; the results are those of the last run, which gets the
// tensors of the one before.
static inline sard_status *flow_session(sard_context *ctx, sard_model *m, const flow_data *d, uint32_t n_out, int times, flow_result *r) {
  sard_session *s = NULL;
  sard_tensor *in[FLOW_MAX] = {0}, *out[FLOW_MAX] = {0};
  sard_status *st = sard_session_new(m, NULL, &s);
  for (uint32_t i = 0; i < d->n_in && !st; i++) {
    sard_tensor_desc t = {.size = sizeof t, .dtype = (int32_t)d->in[i].dtype, .rank = d->in[i].rank};
    memcpy(t.dims, d->in[i].dims, sizeof t.dims);
    st = sard_tensor_new(ctx, &t, &in[i]);
    if (!st && d->in[i].bytes) memcpy(sard_tensor_data(in[i], NULL), d->in[i].data, d->in[i].bytes);
  }
  for (int k = 0; k < times && !st; k++) {
    if (k == 2) flow_reuse(m, out, n_out);
    for (uint32_t i = 0; i < n_out && k < 2; i++) sard_tensor_free(out[i]), out[i] = NULL;
    if (k == 1) st = sard_session_reset(s);
    if (!st) st = sard_session_run(s, in, (int)d->n_in, out, (int)n_out);
  }
  for (uint32_t i = 0; i < n_out && !st; i++) flow_take(out[i], &r->out[i]);
  r->n_out = st ? 0 : n_out;
  for (uint32_t i = 0; i < FLOW_MAX; i++) sard_tensor_free(in[i]), sard_tensor_free(out[i]);
  sard_session_free(s);
  return st;
}

static inline sard_status *flow_run(const char *text, int opt, const flow_data *d, uint32_t n_out, flow_result *r) {
  sard_source src = flow_source(text);
  sd_driver_options o;
  sd_compiled *c = NULL;
  sard_context *ctx = NULL;
  sard_model *m = NULL;
  sd_driver_defaults(&o);
  o.opt = opt, o.verify = true;
  r->n_out = 0;
  sard_status *st = sard_context_new(NULL, &ctx);
  if (!st) st = sd_driver_compile(&src, &o, &c);
  if (!st) st = sd_model_from_bytes(ctx, c->pieces, c->n_pieces, sd_compiled_free, c, &m);
  if (!st) st = flow_session(ctx, m, d, n_out, 3, r);
  sard_model_free(m);
  sard_context_free(ctx);
  return st;
}

static inline bool flow_same(const sd_evalue *a, const sd_evalue *b) {
  if (a->dtype != b->dtype || a->rank != b->rank || a->bytes != b->bytes) return false;
  sd_dtype t = sd_dtype_part(a->dtype);
  uint64_t count = sd_dtype_parts(a->dtype);
  for (int i = 0; i < a->rank; i++) {
    if (a->dims[i] != b->dims[i]) return false;
    count *= (uint64_t)a->dims[i];
  }
  for (uint64_t i = 0; i < count; i++) {
    double x = sd_dtype_get_f64(t, a->data, i), y = sd_dtype_get_f64(t, b->data, i);
    if (!(fabs(x - y) <= 1e-5 + 1e-5 * fabs(y)) && !(isnan(x) && isnan(y))) return false;
  }
  return true;
}

static inline void flow_show(const char *what, const sd_evalue *e) {
  sd_dtype t = sd_dtype_part(e->dtype);
  uint64_t count = sd_dtype_parts(e->dtype);
  printf("  %s: %s[", what, sd_dtype_name(e->dtype));
  for (int i = 0; i < e->rank; i++) printf(i ? ",%lld" : "%lld", (long long)e->dims[i]), count *= (uint64_t)e->dims[i];
  printf("]");
  for (uint64_t i = 0; i < count && i < 16; i++) printf(" %g", sd_dtype_get_f64(t, e->data, i));
  printf("\n");
}

// Interprets and runs; r holds the interpreter's results (flow_free).
static inline void flow_check(const char *text, const flow_data *d, uint32_t n_out, flow_result *r) {
  flow_interpret(text, d, n_out, r);
  for (int opt = 0; opt <= 3; opt += 3) {
    flow_result got;
    sard_status *st = flow_run(text, opt, d, n_out, &got);
    if (st) printf("at -O%d: ", opt);
    CHECK_OK(st);
    for (uint32_t i = 0; i < got.n_out && i < r->n_out; i++) {
      bool same = flow_same(&got.out[i], &r->out[i]);
      CHECK(same);
      if (same) continue;
      printf("output %u at -O%d\n", i, opt);
      flow_show("compiled", &got.out[i]);
      flow_show("interpreted", &r->out[i]);
    }
    flow_free(&got);
  }
}

static inline void flow_expect(const flow_result *r, uint32_t i, const double *want, uint64_t n) {
  const sd_evalue *e = &r->out[i];
  CHECK(i < r->n_out);
  if (i >= r->n_out) return;
  sd_dtype t = sd_dtype_part(e->dtype);
  uint64_t count = sd_dtype_parts(e->dtype);
  for (int d = 0; d < e->rank; d++) count *= (uint64_t)e->dims[d];
  bool ok = count == n;
  for (uint64_t k = 0; k < n && ok; k++) ok = fabs(sd_dtype_get_f64(t, e->data, k) - want[k]) <= 1e-4;
  CHECK(ok);
  if (!ok) flow_show("got", e);
}
