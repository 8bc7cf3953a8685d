// sard bench: latency and throughput of repeated runs.
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "frontend/cli/profile.h"
#include "runtime/base/alloc.h"
#include "runtime/base/thread.h"
#include "runtime/collective/mpi.h"
#include "runtime/collective/split.h"
#include "runtime/cuda/program.h"
#include "runtime/session.h"
#include "runtime/trace.h"

typedef struct measuring {
  sd_cli *c;
  sd_cli_model m;
  sard_session *session;
  sd_cli_tensors in, out;
  double *ms; // latency of each run
  size_t n, cap;
  double wall_s;
  double alone_ms; // of devices that share the work: median of the first one alone
} measuring;

// ---- numbers ----

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

// Nearest-rank percentile of sorted numbers.
static double percentile(const double *sorted, size_t n, double p) {
  size_t k = (size_t)ceil(p * (double)n);
  return sorted[k ? k - 1 : 0];
}

static double median(const double *sorted, size_t n) { return (sorted[(n - 1) / 2] + sorted[n / 2]) / 2; }

// ---- runs ----

static bool record(measuring *b, double ms) {
  if (b->n == b->cap) {
    size_t cap = b->cap ? b->cap * 2 : 4096;
    double *more = sd_realloc(b->ms, cap * sizeof *more);
    if (!more) return false;
    b->ms = more, b->cap = cap;
  }
  b->ms[b->n++] = ms;
  return true;
}

// Outputs that only the run can make: sequences, optionals, maps, tensors of any rank.
static void drop_made(measuring *b) {
  for (int i = 0; i < b->out.n; i++) {
    sard_tensor_desc d = {.size = sizeof d};
    sard_status *st = sard_model_io(b->m.model, 1, i, &d);
    bool made = st || d.dtype >= SARD_SEQUENCE || d.rank < 0;
    sard_status_free(st);
    if (!made) continue;
    sard_tensor_free(b->out.at[i]);
    b->out.at[i] = NULL;
  }
}

static sard_status *one_run(measuring *b, double *ms) {
  drop_made(b);
  int64_t t0 = sd_now_ns();
  sard_status *st = sard_session_run(b->session, b->in.at, b->in.n, b->out.at, b->out.n);
  *ms = (double)(sd_now_ns() - t0) * 1e-6;
  return st ? st : sd_stop_check(); // between two runs there is nothing to cancel
}

// ---- on a device, inputs and outputs stay there ----

static bool is_input_symbol(const measuring *b, const char *symbol) {
  bool found = false;
  for (int i = 0; symbol && *symbol && i < b->in.n; i++) {
    sard_tensor_desc d = {.size = sizeof d};
    sard_status_free(sard_model_io(b->m.model, 0, i, &d));
    for (int k = 0; k < d.rank; k++) found |= d.dims[k] < 0 && d.symbols[k] && strcmp(d.symbols[k], symbol) == 0;
  }
  return found;
}

// The run does not decide the shape of output i.
static bool is_sized(const measuring *b, int i) {
  sard_tensor_desc d = {.size = sizeof d};
  sard_status_free(sard_model_io(b->m.model, 1, i, &d));
  bool known = d.rank >= 0 && d.dtype < SARD_SEQUENCE;
  for (int k = 0; k < d.rank; k++) known &= d.dims[k] >= 0 || is_input_symbol(b, d.symbols[k]);
  return known;
}

static sard_status *move_tensor(measuring *b, sard_tensor **t) {
  sard_tensor_desc d;
  sard_tensor *there = NULL;
  sard_tensor_data(*t, &d);
  if (d.dtype >= SARD_SEQUENCE || d.dtype == SARD_STRING) return NULL;
  d.device = SARD_CUDA, d.device_id = b->m.model->cu->device->ordinal;
  SD_TRY(sard_tensor_new(b->m.ctx, &d, &there));
  sard_status *st = sard_tensor_copy(there, *t);
  sard_tensor_free(st ? there : *t);
  if (!st) *t = there;
  return st;
}

static sard_status *move_to_device(measuring *b) {
  double ms;
  if (!b->m.model->cu) return NULL;
  for (int i = 0; i < b->in.n; i++) SD_TRY(move_tensor(b, &b->in.at[i]));
  SD_TRY(one_run(b, &ms)); // makes the outputs
  for (int i = 0; i < b->out.n; i++)
    if (b->out.at[i] && is_sized(b, i)) SD_TRY(move_tensor(b, &b->out.at[i]));
  return NULL;
}

// ---- sessions: of each device that shares the work, else the one ----

static int session_count(const measuring *b) {
  return sd_split_devices(b->session) ? sd_split_devices(b->session) : 1;
}

static sard_session *session_at(const measuring *b, int i) {
  return sd_split_devices(b->session) ? sd_split_session(b->session, i) : b->session;
}

static void forget_times(measuring *b) {
  for (int i = 0; i < session_count(b); i++) {
    sard_session *s = session_at(b, i);
    if (s->profile && s->times) memset(s->times, 0, sizeof *s->times * s->model->art.n_steps);
  }
}

static void set_profile(measuring *b, bool on) {
  for (int i = 0; i < session_count(b); i++) session_at(b, i)->profile = on;
}

// ---- measuring ----

static sard_status *measure(measuring *b) {
  int64_t warmup = 5, iterations = INT64_MAX;
  double duration = 3, ms;
  SD_TRY(sd_args_int(b->c, "warmup", 0, 1000000, &warmup));
  SD_TRY(sd_args_int(b->c, "iterations", 1, 100000000, &iterations));
  SD_TRY(sd_args_number(b->c, "duration", 0, 86400, &duration));
  if (iterations != INT64_MAX && !sd_args_given(b->c, "duration")) duration = 86400;
  for (int64_t i = 0; i < warmup; i++) SD_TRY(one_run(b, &ms));
  forget_times(b); // the profile is about the measured runs only
  sd_split_forget(b->session);
  if (sd_mpi_group()) sd_mpi_group()->bytes = 0;
  int64_t t0 = sd_now_ns(), end = t0 + (int64_t)(duration * 1e9);
  bool more = true;
  for (int64_t i = 0; i < iterations && more; i++) {
    SD_TRY(one_run(b, &ms));
    if (!record(b, ms)) return SD_ERR(NOMEM, "out of memory for the measured times");
    more = sd_now_ns() < end;
    SD_TRY(sd_mpi_agree(&more)); // processes make the same runs
  }
  b->wall_s = (double)(sd_now_ns() - t0) * 1e-9;
  return NULL;
}

// The first device alone, a third as long, for what the others add.
static sard_status *measure_alone(measuring *b) {
  enum { MOST = 101 };
  double ms[MOST];
  size_t n = 0;
  int64_t begin = sd_now_ns(), t0, end = begin + (int64_t)(b->wall_s * 1e9 / 3);
  if (!sd_split_devices(b->session)) return NULL;
  for (; n < MOST && (n < 3 || sd_now_ns() < end); n++) {
    drop_made(b);
    t0 = sd_now_ns();
    SD_TRY(sd_split_alone(b->session, b->in.at, b->in.n, b->out.at, b->out.n));
    SD_TRY(sd_stop_check());
    ms[n] = (double)(sd_now_ns() - t0) * 1e-6;
  }
  qsort(ms, n, sizeof *ms, by_value);
  b->alone_ms = median(ms, n);
  return NULL;
}

// A few runs behind those that are measured, so that recording them costs nothing there.
static sard_status *record_trace(measuring *b) {
  enum { RUNS = 5 };
  const double most_ms = 2000;
  bool profile = b->session->profile;
  SD_TRY(sd_trace_start(b->session));
  set_profile(b, false);
  sard_status *st = NULL;
  double ms, sum = 0;
  bool more = true;
  for (int i = 0; i < RUNS && more && !st; i++) {
    st = one_run(b, &ms);
    more = (sum += ms) < most_ms;
    if (!st) st = sd_mpi_agree(&more);
  }
  set_profile(b, profile);
  return st;
}

static void begin_profile(measuring *b, int i, sd_profile *out) {
  sd_split_report r = sd_split_report_of(b->session, i);
  out->name = sd_arena_strdup(b->c->arena, r.device), out->busy = (double)r.busy_ns * 1e-9 / b->wall_s;
  sd_cli_say(b->c, "\n%s", r.device);
  sd_strf(&b->c->json, "%s{\"device\":\"%s\"", i ? "," : ",\"profiles\":[", r.device);
}

static sard_status *show_profiles(measuring *b) {
  double run_ms = b->wall_s * 1e3 / (double)(b->n ? b->n : 1);
  bool split = sd_split_devices(b->session) > 0;
  const char *html = sd_args_get(b->c, "html");
  sd_profile *p = SD_NEW_ARRAY(b->c->arena, sd_profile, (size_t)session_count(b));
  for (int i = 0; i < session_count(b); i++) {
    if (split) begin_profile(b, i, &p[i]);
    SD_TRY(sd_profile_show(b->c, session_at(b, i), &b->m, b->n, run_ms, &p[i]));
    if (split) sd_str_put(&b->c->json, i + 1 < session_count(b) ? "}" : "}]");
  }
  return html ? sd_roofline_write(p, session_count(b), html) : NULL;
}

// ---- result ----

static void report(measuring *b) {
  sd_cli *c = b->c;
  double sum = 0;
  for (size_t i = 0; i < b->n; i++) sum += b->ms[i];
  qsort(b->ms, b->n, sizeof *b->ms, by_value);
  double mean = sum / (double)b->n, mid = median(b->ms, b->n), p90 = percentile(b->ms, b->n, 0.9),
         p99 = percentile(b->ms, b->n, 0.99);
  double rate = (double)b->n / b->wall_s, peak = sd_peak_memory_mb(), weights = (double)b->m.weight_bytes * 1e-6,
         arena = (double)b->session->memory_size * 1e-6;
  int threads = b->session->workers;
  for (int i = 0; i < sd_split_devices(b->session); i++) {
    sd_split_report r = sd_split_report_of(b->session, i);
    arena += (double)r.memory_bytes * 1e-6;
    threads = i ? threads + r.threads : r.threads;
  }
  sd_cli_say(c, "latency    min %.4g  mean %.4g  median %.4g  p90 %.4g  p99 %.4g  max %.4g ms\n", b->ms[0], mean, mid,
             p90, p99, b->ms[b->n - 1]);
  sd_cli_say(c, "throughput %.4g runs/s (%zu runs in %.2f s, %d thread%s, %s)\n", rate, b->n, b->wall_s,
             threads, threads == 1 ? "" : "s", b->m.isa);
  const char *cached = b->m.model->cache.state && strcmp(b->m.model->cache.state, "hit") == 0 ? " (from the cache)" : "";
  sd_cli_say(c, "start      compile %.1f ms%s, load %.1f ms\n", b->m.compile_s * 1e3, cached, b->m.load_s * 1e3);
  sd_cli_say(c, "memory     peak %.1f MB, weights %.1f MB, activations %.1f MB\n", peak, weights, arena);
  sd_strf(&c->json,
          ",\"latency_ms\":{\"min\":%.6f,\"mean\":%.6f,\"median\":%.6f,\"p90\":%.6f,\"p99\":%.6f,\"max\":%.6f}",
          b->ms[0], mean, mid, p90, p99, b->ms[b->n - 1]);
  sd_strf(&c->json, ",\"throughput_per_s\":%.6f,\"iterations\":%zu,\"threads\":%d,\"isa\":\"%s\"", rate, b->n,
          threads, b->m.isa);
  sd_strf(&c->json,
          ",\"compile_ms\":%.3f,\"load_ms\":%.3f,\"peak_rss_mb\":%.3f,\"weights_mb\":%.3f,\"arena_mb\":%.3f",
          b->m.compile_s * 1e3, b->m.load_s * 1e3, peak, weights, arena);
}

// Runs that overlap, where a run by itself leaves all devices but one without work.
static sard_status *report_overlap(measuring *b) {
  enum { RUNS = 16, TIMES = 3 };
  double best = INFINITY;
  if (!sd_split_overlaps(b->session)) return NULL;
  for (int i = 0; i < TIMES; i++) {
    drop_made(b);
    int64_t t0 = sd_now_ns();
    SD_TRY(sd_split_repeat(b->session, b->in.at, b->in.n, b->out.at, b->out.n, RUNS));
    SD_TRY(sd_stop_check());
    best = fmin(best, (double)(sd_now_ns() - t0) * 1e-9);
  }
  double rate = RUNS / best, speedup = rate * b->alone_ms * 1e-3;
  sd_cli_say(b->c, "overlap    %.4g runs/s when %d runs overlap, %.2fx, efficiency %.0f %%\n", rate, RUNS, speedup,
             100 * speedup / sd_split_devices(b->session));
  sd_strf(&b->c->json, ",\"overlap_per_s\":%.6f,\"overlap_speedup\":%.4f", rate, speedup);
  return NULL;
}

static sard_status *report_devices(measuring *b) {
  int n = sd_split_devices(b->session);
  if (!n && !sd_mpi_group()) return NULL;
  sd_cli_show_devices(b->c, b->session, b->wall_s); // before the first device runs the whole, which takes more memory
  if (b->m.model->devices.split == SD_SPLIT_TENSOR) return NULL; // no part runs without the others
  sd_stop_session(b->session);
  sard_status *st = measure_alone(b);
  if (!st) st = report_overlap(b);
  sd_stop_session(NULL);
  SD_TRY(st);
  double speedup = b->alone_ms / median(b->ms, b->n);
  sd_cli_say(b->c, "scaling    %.2fx of %s (median %.4g ms), efficiency %.0f %%, through %s\n", speedup,
             b->m.model->parts ? "the parts one after the other" : "the first device alone", b->alone_ms,
             100 * speedup / n, sd_split_transport(b->session, NULL));
  sd_strf(&b->c->json, ",\"alone_ms\":%.6f,\"speedup\":%.4f,\"efficiency\":%.4f", b->alone_ms, speedup, speedup / n);
  return NULL;
}

static sard_status *steps(measuring *b) {
  const char *trace = sd_args_get(b->c, "trace"), *html = sd_args_get(b->c, "html");
  if (trace) SD_TRY(sd_files_can_write(trace));
  if (html) SD_TRY(sd_files_can_write(html));
  SD_TRY(sd_model_load_with(b->c, &b->m, &b->in));
  bool profile = sd_args_given(b->c, "profile") || html;
  SD_TRY(sd_model_session(b->c, b->m.model, profile, &b->session));
  b->out.n = sard_model_io_count(b->m.model, 1);
  b->out.at = SD_NEW_ARRAY(b->c->arena, sard_tensor *, b->out.n + 1);
  sd_cli_progress(b->c, "measuring ...");
  sd_stop_session(b->session);
  sard_status *st = move_to_device(b);
  if (!st) st = measure(b);
  sd_stop_session(NULL);
  sd_cli_progress(b->c, NULL);
  SD_TRY(st);
  if (b->n && !sd_mpi_rank()) { // rank 0 tells
    report(b);
    if (profile) SD_TRY(show_profiles(b)); // before devices run alone
    SD_TRY(report_devices(b));
  }
  if (!trace) return NULL;
  sd_stop_session(b->session);
  st = record_trace(b); // what it adds is not reported
  sd_stop_session(NULL);
  SD_TRY(st);
  return sd_mpi_rank() ? NULL : sd_trace_write(b->c, b->session, trace);
}

sard_status *sd_verb_bench(sd_cli *c) {
  measuring b = {.c = c};
  sard_status *st = steps(&b);
  sd_inputs_free(&b.in);
  sd_inputs_free(&b.out);
  sd_free(b.ms);
  sard_session_free(b.session);
  sd_model_unload(&b.m);
  return st;
}
