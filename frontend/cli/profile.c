// sard bench --profile: time, speed and share of the machine's peak for each kernel; --trace writes the steps as a
// trace.
#include <stdlib.h>
#include <string.h>

#include "frontend/cli/cli.h"
#include "runtime/base/alloc.h"
#include "runtime/session.h"

typedef struct row {
  const char *kernel, *op, *name;
  double ns, flops, bytes; // per run of the model
  uint32_t steps;
} row;

static double slot(const sard_session *s, uint32_t i) { return i == SARD_ART_NONE ? 0 : (double)s->dim[i]; }

static int by_time(const void *a, const void *b) {
  const row *x = a, *y = b;
  return (x->ns < y->ns) - (x->ns > y->ns);
}

// One row per kernel, over all steps that use it.
static uint32_t collect(const sard_session *s, row *rows, uint32_t *of_kernel) {
  const sd_art *a = &s->model->art;
  uint32_t n = 0, copies = SARD_ART_NONE;
  for (uint32_t i = 0; i < a->n_kernels; i++) of_kernel[i] = SARD_ART_NONE;
  for (uint32_t i = 0; i < a->n_steps; i++) {
    const sard_art_step *t = &a->steps[i];
    bool dispatch = t->kind == SARD_AS_DISPATCH;
    uint32_t *at = dispatch ? &of_kernel[t->kernel] : &copies;
    if (*at == SARD_ART_NONE) {
      *at = n++;
      rows[*at] = (row){.kernel = dispatch ? sd_art_text(a, a->kernels[t->kernel].symbol) : "copy",
                        .op = sd_art_text(a, t->op),
                        .name = sd_art_text(a, t->name)};
    }
    row *r = &rows[*at];
    double runs = s->times[i].runs ? (double)s->times[i].runs : 1;
    r->ns += (double)s->times[i].ns / runs;
    r->flops += slot(s, t->flops);
    r->bytes += slot(s, t->bytes);
    r->steps++;
  }
  qsort(rows, n, sizeof *rows, by_time);
  return n;
}

static double share_of_peak(const row *r, const sd_peak *p) {
  return r->ns > 0 && p->gflops > 0 ? r->flops / r->ns / p->gflops : 0;
}

static void show_rows(sd_cli *c, const row *rows, uint32_t n, const sd_peak *peak, double total, int64_t top) {
  if (peak->gflops > 0) sd_cli_say(c, "\nmeasured peak: %.1f GFLOP/s, %.1f GB/s; ", peak->gflops, peak->gbs);
  else sd_cli_say(c, "\n");
  sd_cli_say(c, "steps take %.3f ms of a run\n", total * 1e-6);
  sd_cli_say(c, "%9s %6s %6s %9s %8s %6s  %-28s %s\n", "time us", "share", "steps", "GFLOP/s", "GB/s", "peak", "op",
             "node (first)");
  sd_strf(&c->json, ",\"peak_gflops\":%.3f,\"peak_gbs\":%.3f,\"kernels\":[", peak->gflops, peak->gbs);
  for (uint32_t i = 0; i < n; i++) {
    const row *r = &rows[i];
    double s = r->ns > 0 ? r->ns * 1e-9 : 1e-9;
    if (i < (uint64_t)top)
      sd_cli_say(c, "%9.1f %5.1f%% %6u %9.1f %8.1f %5.0f%%  %-28.28s %s\n", r->ns * 1e-3,
                 total > 0 ? 100 * r->ns / total : 0, r->steps, r->flops / 1e9 / s, r->bytes / 1e9 / s,
                 100 * share_of_peak(r, peak), r->op, r->name);
    sd_strf(&c->json, "%s{\"kernel\":", i ? "," : ""), sd_str_json(&c->json, r->kernel);
    sd_str_put(&c->json, ",\"op\":"), sd_str_json(&c->json, r->op);
    sd_str_put(&c->json, ",\"name\":"), sd_str_json(&c->json, r->name);
    sd_strf(&c->json, ",\"steps\":%u,\"time_us\":%.3f,\"gflops\":%.3f,\"gbs\":%.3f,\"peak_share\":%.4f}", r->steps,
            r->ns * 1e-3, r->flops / 1e9 / s, r->bytes / 1e9 / s, share_of_peak(r, peak));
  }
  sd_str_put(&c->json, "]");
  if (n > (uint64_t)top) sd_cli_say(c, "... and %u more kernels\n", n - (uint32_t)top);
}

// Steps one after the other with their mean times.
static sard_status *write_trace(const sard_session *s, const char *path) {
  const sd_art *a = &s->model->art;
  sd_str t = {0};
  double at = 0;
  sd_str_put(&t, "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[");
  for (uint32_t i = 0; i < a->n_steps; i++) {
    double us = s->times[i].runs ? (double)s->times[i].ns / (double)s->times[i].runs * 1e-3 : 0;
    sd_strf(&t, "%s{\"ph\":\"X\",\"pid\":1,\"tid\":1,\"ts\":%.3f,\"dur\":%.3f,\"name\":", i ? "," : "", at, us);
    sd_str_json(&t, sd_art_text(a, a->steps[i].op));
    sd_str_put(&t, ",\"args\":{\"node\":"), sd_str_json(&t, sd_art_text(a, a->steps[i].name));
    sd_strf(&t, ",\"flops\":%.0f,\"bytes\":%.0f}}", slot(s, a->steps[i].flops), slot(s, a->steps[i].bytes));
    at += us;
  }
  sd_str_put(&t, "]}\n");
  sard_status *st = t.failed ? SD_ERR(NOMEM, "out of memory for the trace") : sd_files_write(path, t.p, t.len);
  sd_str_free(&t);
  return st;
}

sard_status *sd_profile_show(sd_cli *c, sard_session *s, int threads, double mean_ms) {
  const sd_art *a = &s->model->art;
  const char *trace = sd_args_get(c, "trace");
  int64_t top = 30;
  SD_TRY(sd_args_int(c, "top", 1, INT32_MAX, &top));
  if (trace) SD_TRY(write_trace(s, trace));
  if (!sd_args_given(c, "profile")) return NULL;
  row *rows = SD_NEW_ARRAY(c->arena, row, a->n_kernels + 1);
  uint32_t *of_kernel = SD_NEW_ARRAY(c->arena, uint32_t, a->n_kernels + 1), n = collect(s, rows, of_kernel);
  double total = 0;
  for (uint32_t i = 0; i < n; i++) total += rows[i].ns;
  sd_peak peak = s->cu ? (sd_peak){0} : sd_peak_measure(threads); // of a device nothing is measured yet
  show_rows(c, rows, n, &peak, total, top);
  if (mean_ms > total * 1e-6) sd_cli_say(c, "outside of steps: %.3f ms of a run\n", mean_ms - total * 1e-6);
  return NULL;
}
