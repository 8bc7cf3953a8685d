// sard bench --profile, --html: time, speed, share of what the machine reaches and schedule of each kernel.
#include "frontend/cli/profile.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/cuda/session.h"

static double slot(const sard_session *s, uint32_t i) { return i == SARD_ART_NONE ? 0 : (double)s->dim[i]; }

static int by_time(const void *a, const void *b) {
  const sd_profile_row *x = a, *y = b;
  return (x->ns < y->ns) - (x->ns > y->ns);
}

// Time of a step without that of the steps that it runs itself (loops and branches).
static double own_ns(const sard_session *s, uint32_t i) {
  const sard_art_step *steps = s->model->art.steps;
  uint32_t end = i + 1 + steps[i].body + steps[i].other;
  double ns = (double)s->times[i].ns;
  for (uint32_t k = i + 1; k < end; k += 1 + steps[k].body + steps[k].other) ns -= (double)s->times[k].ns;
  return ns > 0 ? ns : 0;
}

// The row of a step: all steps of a kernel share one, so do those of a host function and those of other kinds.
static sd_profile_row *row_of(sd_profile *p, const sd_art *a, const sard_art_step *t, sd_profile_row **of_kernel) {
  bool dispatch = t->kind == SARD_AS_DISPATCH;
  const char *op = sd_art_text(a, t->op),
             *kernel = dispatch ? sd_art_text(a, a->kernels[t->kernel].symbol) : sd_step_text(t->kind);
  if (dispatch && of_kernel[t->kernel]) return of_kernel[t->kernel];
  for (uint32_t i = 0; i < p->n && !dispatch; i++)
    if (p->rows[i].kernel == kernel && (t->kind != SARD_AS_HOST || strcmp(p->rows[i].op, op) == 0)) return &p->rows[i];
  sd_profile_row *r = &p->rows[p->n++];
  *r = (sd_profile_row){.kernel = kernel,
                        .op = op,
                        .name = sd_art_text(a, t->name),
                        .shapes = sd_art_text(a, t->shapes),
                        .schedule = dispatch && !p->device ? sd_art_text(a, a->kernels[t->kernel].schedule) : ""};
  if (dispatch) of_kernel[t->kernel] = r;
  return r;
}

static void collect(sd_cli *c, const sard_session *s, double runs, sd_profile *p) {
  const sd_art *a = &s->model->art;
  p->rows = SD_NEW_ARRAY(c->arena, sd_profile_row, a->n_steps + 1);
  sd_profile_row **of_kernel = SD_NEW_ARRAY(c->arena, sd_profile_row *, a->n_kernels + 1);
  for (uint32_t i = 0; i < a->n_steps; i++) {
    const sard_art_step *t = &a->steps[i];
    sd_profile_row *r = row_of(p, a, t, of_kernel);
    if (s->cu && s->cu->by_library[i]) r->schedule = "cuBLASLt";
    double times = (double)s->times[i].runs / runs; // in loops more than 1
    r->ns += own_ns(s, i) / runs;
    r->flops += slot(s, t->flops) * times, r->bytes += slot(s, t->bytes) * times;
    r->steps++;
  }
  qsort(p->rows, p->n, sizeof *p->rows, by_time);
  for (uint32_t i = 0; i < p->n; i++) p->ns += p->rows[i].ns;
}

double sd_profile_gflops(const sd_profile_row *r) { return r->ns > 0 ? r->flops / r->ns : 0; }
double sd_profile_gbs(const sd_profile_row *r) { return r->ns > 0 ? r->bytes / r->ns : 0; }

static double share(double of, double all) { return all > 0 ? of / all : 0; }

double sd_profile_roof(const sd_profile *p, const sd_profile_row *r, bool *by_memory) {
  double compute = share(sd_profile_gflops(r), p->peak.gflops), memory = share(sd_profile_gbs(r), p->peak.gbs);
  *by_memory = memory > compute;
  return *by_memory ? memory : compute;
}

static void show(sd_cli *c, const sd_profile *p, int64_t top) {
  if (p->peak.gflops > 0)
    sd_cli_say(c, "\nmeasured peak of %d thread%s: %.1f GFLOP/s, %.1f GB/s; ", p->threads, p->threads == 1 ? "" : "s",
               p->peak.gflops, p->peak.gbs);
  else
    sd_cli_say(c, "\n");
  sd_cli_say(c, "steps take %.3f ms of a run\n", p->ns * 1e-6);
  sd_cli_say(c, "%9s %6s %6s %9s %8s %6s %6s  %-18s %-34s %s\n", "time us", "share", "steps", "GFLOP/s", "GB/s", "peak",
             "read", "op", "schedule", "node (first)");
  for (uint32_t i = 0; i < p->n && i < (uint64_t)top; i++) {
    const sd_profile_row *r = &p->rows[i];
    sd_cli_say(c, "%9.1f %5.1f%% %6u %9.1f %8.1f %5.0f%% %5.0f%%  %-18.18s %-34s %s\n", r->ns * 1e-3,
               100 * share(r->ns, p->ns), r->steps, sd_profile_gflops(r), sd_profile_gbs(r),
               100 * share(sd_profile_gflops(r), p->peak.gflops), 100 * share(sd_profile_gbs(r), p->peak.gbs), r->op,
               *r->schedule ? r->schedule : r->kernel, r->name);
  }
  if (p->n > (uint64_t)top) sd_cli_say(c, "... and %u more kernels\n", p->n - (uint32_t)top);
  if (p->run_ms > p->ns * 1e-6) sd_cli_say(c, "outside of steps: %.3f ms of a run\n", p->run_ms - p->ns * 1e-6);
}

static void put_json(sd_str *j, const sd_profile *p) {
  sd_strf(j, ",\"peak_gflops\":%.3f,\"peak_gbs\":%.3f,\"kernels\":[", p->peak.gflops, p->peak.gbs);
  for (uint32_t i = 0; i < p->n; i++) {
    const sd_profile_row *r = &p->rows[i];
    bool by_memory;
    double roof = sd_profile_roof(p, r, &by_memory);
    sd_strf(j, "%s{\"kernel\":", i ? "," : ""), sd_str_json(j, r->kernel);
    sd_str_put(j, ",\"op\":"), sd_str_json(j, r->op);
    sd_str_put(j, ",\"name\":"), sd_str_json(j, r->name);
    sd_str_put(j, ",\"shapes\":"), sd_str_json(j, r->shapes);
    sd_str_put(j, ",\"schedule\":"), sd_str_json(j, r->schedule);
    sd_strf(j,
            ",\"steps\":%u,\"time_us\":%.3f,\"flops\":%.0f,\"bytes\":%.0f,\"gflops\":%.3f,\"gbs\":%.3f,\"peak_share\":%"
            ".4f,\"read_share\":%.4f,"
            "\"roof_share\":%.4f,\"limit\":\"%s\"}",
            r->steps, r->ns * 1e-3, r->flops, r->bytes, sd_profile_gflops(r), sd_profile_gbs(r),
            share(sd_profile_gflops(r), p->peak.gflops), share(sd_profile_gbs(r), p->peak.gbs), roof,
            p->peak.gflops <= 0 ? ""
            : by_memory         ? "memory"
                                : "compute");
  }
  sd_str_put(j, "]");
}

sard_status *sd_profile_show(sd_cli *c, const sard_session *s, const sd_cli_model *m, uint64_t runs, double run_ms,
                             sd_profile *out) {
  int64_t top = 30;
  SD_TRY(sd_args_int(c, "top", 1, INT32_MAX, &top));
  out->model = c->operands[0], out->place = m->isa, out->threads = s->workers, out->run_ms = run_ms;
  out->device = s->cu != NULL;
  collect(c, s, runs ? (double)runs : 1, out);
  if (!out->device) out->peak = sd_peak_measure(s->workers); // of a device nothing is measured yet
  if (sd_args_given(c, "profile")) show(c, out, top);
  put_json(&c->json, out);
  return NULL;
}
