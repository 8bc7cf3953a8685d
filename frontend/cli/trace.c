// run --trace, bench --trace: what each thread did when, in the format of chrome://tracing and Perfetto
// (ui.perfetto.dev). Row 0 has the steps with what they compute; the rows behind it the threads, with the steps whose
// tiles they had; of a GPU its launches. Of several devices each has such rows, as a process of its own.
#include "runtime/trace.h"

#include <string.h>

#include "frontend/cli/cli.h"
#include "runtime/collective/split.h"

typedef struct tracing {
  const sard_session *s; // of the device at hand
  int pid;
  int64_t zero;      // time of the first slice
  sd_str text;
} tracing;

static double value(const sard_session *s, uint32_t slot) { return slot == SARD_ART_NONE ? 0 : (double)s->dim[slot]; }

static bool is_launches(const tracing *t, int row) { return row == t->s->trace->workers + 1; }

static void put_name(tracing *t, int row) {
  sd_strf(&t->text, ",\n{\"ph\":\"M\",\"pid\":%d,\"name\":\"thread_name\",\"tid\":", t->pid);
  sd_strf(&t->text, "%d,\"args\":{\"name\":", row);
  if (row == 0) sd_str_put(&t->text, "\"steps\"");
  else if (is_launches(t, row))
    sd_str_put(&t->text, "\"launches\"");
  else
    sd_strf(&t->text, "\"thread %d\"", row - 1);
  sd_strf(&t->text,
          "}},\n{\"ph\":\"M\",\"pid\":%d,\"name\":\"thread_sort_index\",\"tid\":%d,\"args\":{\"sort_index\":%d}}", t->pid,
          row, row);
}

static void put_symbols(tracing *t) {
  const sd_art *a = &t->s->model->art;
  sd_str_put(&t->text, ",\"sizes\":{");
  for (uint32_t i = 0; i < a->n_syms; i++) {
    if (i) sd_str_put(&t->text, ",");
    sd_str_json(&t->text, sd_art_text(a, a->syms[i].name)), sd_strf(&t->text, ":%lld", (long long)t->s->sym[i]);
  }
  sd_str_put(&t->text, "}");
}

// What a step is: its nodes, types, kernel, and how much it takes.
static void put_step(tracing *t, const sd_trace_slice *x) {
  const sd_art *a = &t->s->model->art;
  const sard_art_step *s = &a->steps[x->step];
  bool dispatch = s->kind == SARD_AS_DISPATCH;
  double ns = x->end > x->begin ? (double)(x->end - x->begin) : 1, flops = value(t->s, s->flops),
         bytes = value(t->s, s->bytes);
  sd_str_put(&t->text, ",\"nodes\":"), sd_str_json(&t->text, sd_art_text(a, s->name));
  sd_str_put(&t->text, ",\"op\":"), sd_str_json(&t->text, sd_art_text(a, s->op));
  sd_str_put(&t->text, ",\"shapes\":"), sd_str_json(&t->text, sd_art_text(a, s->shapes));
  sd_str_put(&t->text, ",\"kernel\":"),
      sd_str_json(&t->text, dispatch ? sd_art_text(a, a->kernels[s->kernel].symbol) : sd_step_text(s->kind));
  if (dispatch)
    sd_str_put(&t->text, ",\"schedule\":"), sd_str_json(&t->text, sd_art_text(a, a->kernels[s->kernel].schedule));
  sd_strf(&t->text, ",\"flops\":%.0f,\"bytes\":%.0f,\"gflops\":%.3f,\"gbs\":%.3f", flops, bytes, flops / ns,
          bytes / ns);
  put_symbols(t);
}

static void put_slice(tracing *t, int row, const sd_trace_slice *x) {
  const sd_art *a = &t->s->model->art;
  sd_strf(&t->text, ",\n{\"ph\":\"X\",\"pid\":%d,\"tid\":%d,\"ts\":%.3f,\"dur\":%.3f,\"name\":", t->pid, row,
          (double)(x->begin - t->zero) * 1e-3, (double)(x->end - x->begin) * 1e-3);
  sd_str_json(&t->text, sd_art_text(a, a->steps[x->step].op));
  sd_strf(&t->text, ",\"args\":{\"step\":%u", x->step);
  if (row && !is_launches(t, row)) sd_strf(&t->text, ",\"tiles\":%u", x->tiles);
  else
    put_step(t, x);
  sd_str_put(&t->text, "}}");
}

static int64_t first_begin(const struct sd_trace *t) {
  int64_t first = INT64_MAX;
  for (int r = 0; r < t->workers + 2; r++)
    if (t->row[r].n && t->row[r].at[0].begin < first) first = t->row[r].at[0].begin;
  return first;
}

// The rows of a session; returns how many slices they lack.
static uint64_t put_session(tracing *t, const char *model, const char *device) {
  uint64_t lost = 0;
  sd_strf(&t->text, "%s{\"ph\":\"M\",\"pid\":%d,\"name\":\"process_name\",\"args\":{\"name\":", t->pid > 1 ? ",\n" : "", t->pid);
  sd_str_json(&t->text, device ? device : model), sd_str_put(&t->text, "}}");
  for (int r = 0; r < t->s->trace->workers + 2; r++) {
    if (is_launches(t, r) && !t->s->cu) continue;
    put_name(t, r);
    for (size_t i = 0; i < t->s->trace->row[r].n; i++) put_slice(t, r, &t->s->trace->row[r].at[i]);
    lost += t->s->trace->row[r].lost;
  }
  return lost;
}

// The rows of each device.
static uint64_t put_devices(tracing *t, const sard_session *s) {
  uint64_t lost = 0;
  int n = sd_split_devices(s);
  t->zero = INT64_MAX;
  for (int i = 0; i < n; i++) {
    int64_t begin = first_begin(sd_split_session(s, i)->trace);
    if (begin < t->zero) t->zero = begin;
  }
  for (int i = 0; i < n; i++) {
    sd_split_report r = sd_split_report_of(s, i);
    t->s = sd_split_session(s, i), t->pid = i + 1;
    lost += put_session(t, NULL, r.device);
  }
  return lost;
}

sard_status *sd_trace_write(sd_cli *c, const sard_session *s, const char *path) {
  tracing t = {.s = s, .pid = 1};
  bool split = sd_split_devices(s) > 0;
  sd_str_put(&t.text, "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n");
  if (!split) t.zero = first_begin(s->trace);
  uint64_t lost = split ? put_devices(&t, s) : put_session(&t, c->operands[0], NULL);
  sd_str_put(&t.text, "\n]}\n");
  sard_status *st =
      t.text.failed ? SD_ERR(NOMEM, "out of memory for the trace") : sd_files_write(path, t.text.p, t.text.len);
  sd_str_free(&t.text);
  if (!st && lost) sd_cli_note(c, "the trace lacks %llu slices, there was no room for them", (unsigned long long)lost);
  return st;
}
