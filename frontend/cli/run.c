// sard run: one run of a model; outputs are shown, saved and compared.
#include <math.h>
#include <string.h>

#include "frontend/cli/cli.h"
#include "runtime/base/dtype.h"
#include "runtime/base/thread.h"
#include "runtime/collective/mpi.h"
#include "runtime/io/tensor_io.h"
#include "runtime/trace.h"

typedef struct running {
  sd_cli *c;
  sd_cli_model m;
  sard_session *session;
  sd_cli_tensors in, out;
  double run_s;
} running;

static const char *output_name(running *r, int i) {
  sard_tensor_desc d = {.size = sizeof d};
  sard_status *st = sard_model_io(r->m.model, 1, i, &d);
  if (!st) return d.name ? d.name : "";
  sard_status_free(st);
  return "";
}

// ---- showing ----

static void put_element(sd_str *s, sd_dtype t, const void *data, uint64_t i) {
  sd_dtype part = sd_dtype_part(t);
  if (t == SD_STRING) sd_str_json(s, ((const char *const *)data)[i]);
  else if (part != t)
    sd_strf(s, "%.6g%+.6gj", sd_dtype_get_f64(part, data, 2 * i), sd_dtype_get_f64(part, data, 2 * i + 1));
  else if (sd_dtype_is_float(t)) sd_strf(s, "%.6g", sd_dtype_get_f64(t, data, i));
  else if (t == SD_U64)
    sd_strf(s, "%llu", (unsigned long long)sd_dtype_get_i64(t, data, i));
  else
    sd_strf(s, "%lld", (long long)sd_dtype_get_i64(t, data, i));
}

// Strings and complex numbers have no order.
static bool ordered(int32_t t) { return t != SARD_STRING && t != SARD_C64 && t != SARD_C128; }

// Least, mean and largest element, leaving NaN out.
static void measure(sd_dtype t, const void *data, uint64_t n, double *least, double *mean, double *most,
                    uint64_t *nans) {
  double sum = 0;
  if (!ordered((int32_t)t)) n = 0;
  *least = INFINITY, *most = -INFINITY, *nans = 0;
  for (uint64_t i = 0; i < n; i++) {
    double v = sd_dtype_is_float(t) ? sd_dtype_get_f64(t, data, i) : (double)sd_dtype_get_i64(t, data, i);
    if (isnan(v)) {
      ++*nans;
      continue;
    }
    sum += v;
    *least = fmin(*least, v), *most = fmax(*most, v);
  }
  *mean = sum / (double)(n - *nans ? n - *nans : 1);
  if (n == *nans) *least = *most = NAN;
}

// Type, extremes and the first elements of a tensor; the items of a value, a line each.
static void show_value(running *r, sd_str *s, sard_tensor *t, int64_t print, int depth) {
  sard_tensor_desc d;
  const void *data = sard_tensor_data(t, &d);
  uint64_t n = 1, nans;
  double least, mean, most;
  sd_str_put(s, sd_model_type(r->c, &d));
  if (d.dtype >= SARD_SEQUENCE) {
    int64_t items = sard_value_count(t);
    sd_strf(s, " of %lld", (long long)items);
    for (int64_t i = 0; i < items && i < print; i++) {
      sd_strf(s, "\n%*s[%lld] ", 2 * depth + 2, "", (long long)i);
      show_value(r, s, sard_value_item(t, i), print, depth + 1);
    }
    if (items > print) sd_strf(s, "\n%*s...", 2 * depth + 2, "");
    return;
  }
  for (int k = 0; k < d.rank; k++) n *= (uint64_t)d.dims[k];
  measure((sd_dtype)d.dtype, data, n, &least, &mean, &most, &nans);
  if (n > 1 && ordered(d.dtype)) sd_strf(s, "  min %.6g  mean %.6g  max %.6g", least, mean, most);
  if (nans) sd_strf(s, "  NaN %llu", (unsigned long long)nans);
  for (uint64_t k = 0; k < n && k < (uint64_t)print; k++) {
    if (k) sd_str_put(s, " ");
    else sd_strf(s, "\n%*s", 2 * depth + 2, "");
    put_element(s, (sd_dtype)d.dtype, data, k);
  }
  if (print && n > (uint64_t)print) sd_str_put(s, " ...");
}

static void json_tensor(sd_str *j, sard_tensor *t, const sard_tensor_desc *d) {
  const void *data = sard_tensor_data(t, NULL);
  uint64_t n = 1, nans;
  double least, mean, most;
  for (int k = 0; k < d->rank; k++) n *= (uint64_t)d->dims[k];
  sd_strf(j, ",\"dtype\":\"%s\",\"dims\":[", sd_dtype_name((sd_dtype)d->dtype));
  for (int k = 0; k < d->rank; k++) sd_strf(j, "%s%lld", k ? "," : "", (long long)d->dims[k]);
  sd_str_put(j, "]");
  if (!ordered(d->dtype)) return;
  measure((sd_dtype)d->dtype, data, n, &least, &mean, &most, &nans);
  sd_str_put(j, ",\"min\":"), sd_str_json_number(j, least);
  sd_str_put(j, ",\"mean\":"), sd_str_json_number(j, mean);
  sd_str_put(j, ",\"max\":"), sd_str_json_number(j, most);
  sd_strf(j, ",\"nans\":%llu", (unsigned long long)nans);
}

static void show_output(running *r, int i, int64_t print) {
  sd_cli *c = r->c;
  sard_tensor_desc d;
  const char *name = output_name(r, i);
  sd_str s = {0};
  sard_tensor_data(r->out.at[i], &d);
  show_value(r, &s, r->out.at[i], print, 0);
  sd_cli_say(c, "%s %s\n", name, s.p ? s.p : "");
  sd_str_free(&s);
  sd_strf(&c->json, "%s{\"name\":", i ? "," : ""), sd_str_json(&c->json, name);
  if (d.dtype >= SARD_SEQUENCE)
    sd_strf(&c->json, ",\"type\":\"%s\",\"items\":%lld", sd_model_type(c, &d), (long long)sard_value_count(r->out.at[i]));
  else json_tensor(&c->json, r->out.at[i], &d);
  sd_str_put(&c->json, "}");
}

static sard_status *show(running *r) {
  int64_t print = 8;
  SD_TRY(sd_args_int(r->c, "print", 0, INT32_MAX, &print));
  sd_strf(&r->c->json, ",\"isa\":\"%s\",\"compile_ms\":%.3f,\"load_ms\":%.3f,\"run_ms\":%.3f,\"outputs\":[", r->m.isa,
          r->m.compile_s * 1e3, r->m.load_s * 1e3, r->run_s * 1e3);
  for (int i = 0; i < r->out.n; i++) show_output(r, i, print);
  sd_str_put(&r->c->json, "]");
  sd_cli_detail(r->c, "isa %s, compiled in %.1f ms, loaded in %.1f ms, ran in %.3f ms", r->m.isa,
                r->m.compile_s * 1e3, r->m.load_s * 1e3, r->run_s * 1e3);
  return NULL;
}

// ---- saving and comparing ----

static sard_status *save(running *r) {
  const char *dir = sd_args_get(r->c, "outputs");
  sard_status *st = NULL;
  if (!dir) return NULL;
  for (int i = 0; i < r->out.n && !st; i++) {
    sd_stop_hold();
    st = sd_pb_write(sd_files_path(r->c, dir, "output_%d.pb", i), r->out.at[i], output_name(r, i));
    sd_stop_release();
  }
  return st;
}

static void show_diff(running *r, int i, const sd_diff *d) {
  sd_cli *c = r->c;
  const char *name = output_name(r, i);
  if (d->reason) sd_cli_say(c, "%s: %s FAILED\n", name, d->reason);
  else if (d->passed)
    sd_cli_say(c, "%s: max abs error %.3g, max rel error %.3g, rel rms %.3g PASSED\n", name, d->max_abs, d->max_rel,
               d->rel_rms);
  else
    sd_cli_say(c,
               "%s: max abs error %.3g, max rel error %.3g, rel rms %.3g, %llu of %llu beyond the tolerance, first "
               "at %llu: %.9g instead of %.9g FAILED\n",
               name, d->max_abs, d->max_rel, d->rel_rms, (unsigned long long)d->wrong, (unsigned long long)d->count,
               (unsigned long long)d->first_wrong, d->got, d->want);
  sd_strf(&c->json, "%s{\"name\":", i ? "," : ""), sd_str_json(&c->json, name);
  sd_str_put(&c->json, ",\"max_abs\":"), sd_str_json_number(&c->json, d->max_abs);
  sd_str_put(&c->json, ",\"max_rel\":"), sd_str_json_number(&c->json, d->max_rel);
  sd_str_put(&c->json, ",\"rel_rms\":"), sd_str_json_number(&c->json, d->rel_rms);
  sd_strf(&c->json, ",\"wrong\":%llu,\"passed\":%s}", (unsigned long long)d->wrong, d->passed ? "true" : "false");
}

static sard_status *expect_one(running *r, const char *dir, int i, bool *passed) {
  double rtol = 1e-3, atol = 1e-5;
  sard_tensor *want;
  sd_diff d;
  SD_TRY(sd_args_number(r->c, "rtol", 0, 1e30, &rtol));
  SD_TRY(sd_args_number(r->c, "atol", 0, 1e30, &atol));
  sard_tensor_desc kind;
  sard_tensor_data(r->out.at[i], &kind);
  SD_TRY(sd_value_read(r->m.ctx, sd_files_path(r->c, dir, "output_%d.pb", i), kind.dtype, &want));
  sd_diff_tensors(r->c, r->out.at[i], want, rtol, atol, &d);
  sard_tensor_free(want);
  show_diff(r, i, &d);
  *passed &= d.passed;
  return NULL;
}

static sard_status *expect(running *r) {
  const char *dir = sd_args_get(r->c, "expect");
  bool passed = true;
  if (!dir) return NULL;
  sd_str_put(&r->c->json, ",\"expect\":[");
  for (int i = 0; i < r->out.n; i++) SD_TRY(expect_one(r, dir, i, &passed));
  sd_strf(&r->c->json, "],\"passed\":%s", passed ? "true" : "false");
  sd_cli_say(r->c, "%s\n", passed ? "PASSED" : "FAILED");
  r->c->failed |= !passed;
  return NULL;
}

// ---- running ----

static sard_status *run_once(running *r) {
  r->out.n = sard_model_io_count(r->m.model, 1);
  r->out.at = SD_NEW_ARRAY(r->c->arena, sard_tensor *, r->out.n + 1);
  int64_t t0 = sd_now_ns();
  sd_stop_session(r->session);
  sard_status *st = sard_session_run(r->session, r->in.at, r->in.n, r->out.at, r->out.n);
  sd_stop_session(NULL);
  r->run_s = (double)(sd_now_ns() - t0) * 1e-9;
  return st;
}

static sard_status *steps(running *r) {
  const char *outputs = sd_args_get(r->c, "outputs"), *trace = sd_args_get(r->c, "trace");
  if (trace) SD_TRY(sd_files_can_write(trace));
  const sd_cli_compiler *compiler = r->c->program->compiler;
  if (outputs) {
    SD_TRY(sd_files_make_dir(outputs));
    SD_TRY(sd_files_can_write(sd_files_path(r->c, outputs, "output_0.pb")));
  }
  SD_TRY(sd_model_load_with(r->c, &r->m, &r->in));
  SD_TRY(sd_model_session(r->c, r->m.model, false, &r->session));
  if (trace) SD_TRY(sd_trace_start(r->session));
  SD_TRY(run_once(r));
  if (sd_mpi_rank()) return NULL; // rank 0 has the same outputs, and tells
  if (trace) SD_TRY(sd_trace_write(r->c, r->session, trace));
  SD_TRY(show(r));
  sd_cli_show_devices(r->c, r->session, r->run_s);
  SD_TRY(save(r));
  SD_TRY(expect(r));
  if (!sd_args_given(r->c, "check")) return NULL;
  if (!compiler || r->m.artifact)
    return SD_ERR(UNSUPPORTED, "--check needs the model itself (an .onnx or a dump)%s, not a compiled artifact",
                  compiler ? "" : " and the full program");
  return compiler->check(r->c, r->m.ctx, &r->in, &r->out);
}

sard_status *sd_verb_run(sd_cli *c) {
  running r = {.c = c};
  sard_status *st = steps(&r);
  sd_inputs_free(&r.in);
  sd_inputs_free(&r.out);
  sard_session_free(r.session);
  sd_model_unload(&r.m);
  return st;
}
