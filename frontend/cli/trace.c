// run --trace, bench --trace: what each thread did when, in the format of chrome://tracing and Perfetto
// (ui.perfetto.dev). Row 0 has the steps with what they compute; the rows behind it the threads, with the steps whose
// tiles they had.
#include "runtime/trace.h"

#include <string.h>

#include "frontend/cli/cli.h"

typedef struct tracing {
  const sard_session *s;
  const char *model; // its file
  int64_t zero;      // time of the first slice
  sd_str text;
} tracing;

static double value(const sard_session *s, uint32_t slot) { return slot == SARD_ART_NONE ? 0 : (double)s->dim[slot]; }

static void put_name(tracing *t, int row) {
  sd_str_put(&t->text, ",\n{\"ph\":\"M\",\"pid\":1,\"name\":\"thread_name\",\"tid\":");
  sd_strf(&t->text, "%d,\"args\":{\"name\":", row);
  if (row == 0) sd_str_put(&t->text, "\"steps\"");
  else
    sd_strf(&t->text, "\"thread %d\"", row - 1);
  sd_strf(&t->text,
          "}},\n{\"ph\":\"M\",\"pid\":1,\"name\":\"thread_sort_index\",\"tid\":%d,\"args\":{\"sort_index\":%d}}", row,
          row);
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
  sd_strf(&t->text, ",\n{\"ph\":\"X\",\"pid\":1,\"tid\":%d,\"ts\":%.3f,\"dur\":%.3f,\"name\":", row,
          (double)(x->begin - t->zero) * 1e-3, (double)(x->end - x->begin) * 1e-3);
  sd_str_json(&t->text, sd_art_text(a, a->steps[x->step].op));
  sd_strf(&t->text, ",\"args\":{\"step\":%u", x->step);
  if (row) sd_strf(&t->text, ",\"tiles\":%u", x->tiles);
  else
    put_step(t, x);
  sd_str_put(&t->text, "}}");
}

static int64_t first_begin(const struct sd_trace *t) {
  int64_t first = INT64_MAX;
  for (int r = 0; r <= t->workers; r++)
    if (t->row[r].n && t->row[r].at[0].begin < first) first = t->row[r].at[0].begin;
  return first;
}

sard_status *sd_trace_write(sd_cli *c, const sard_session *s, const char *path) {
  tracing t = {.s = s, .model = c->operands[0], .zero = first_begin(s->trace)};
  uint64_t lost = 0;
  sd_str_put(&t.text, "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n{\"ph\":\"M\",\"pid\":1,\"name\":\"process_"
                      "name\",\"args\":{\"name\":");
  sd_str_json(&t.text, t.model), sd_str_put(&t.text, "}}");
  for (int r = 0; r <= s->trace->workers; r++) {
    put_name(&t, r);
    for (size_t i = 0; i < s->trace->row[r].n; i++) put_slice(&t, r, &s->trace->row[r].at[i]);
    lost += s->trace->row[r].lost;
  }
  sd_str_put(&t.text, "\n]}\n");
  sard_status *st =
      t.text.failed ? SD_ERR(NOMEM, "out of memory for the trace") : sd_files_write(path, t.text.p, t.text.len);
  sd_str_free(&t.text);
  if (!st && lost) sd_cli_note(c, "the trace lacks %llu slices, there was no room for them", (unsigned long long)lost);
  return st;
}
