// Compiles a model in one piece, runs it with made-up inputs and attributes the times of steps to nodes.
#include "frontend/driver/measure.h"

#include <stdio.h>
#include <string.h>

#include "frontend/driver/parts.h"
#include "runtime/base/thread.h"
#include "runtime/model.h"
#include "runtime/session.h"

enum { MOST_RUNS = 7 };
// Of runs in all; of one that is not made again; estimated, of one that is made.
static const double ENOUGH_SECONDS = 0.15, LONG_SECONDS = 2, LONGEST_RUN = 20;

typedef struct trial {
  sd_compiled *k; // belongs to the model once that is there
  sard_context *ctx;
  sard_model *model;
  sard_session *session;
  sard_tensor **in, **out;
  int n_in, n_out;
  sd_arena *a;
  const sd_isa *isa;
  int64_t batch;
} trial;

// ---- inputs ----

// Numbers that are neither large nor equal; indices, lengths and masks that most models take.
static void fill(sard_tensor *t, int64_t whole) {
  sard_tensor_desc d;
  void *data = sard_tensor_data(t, &d);
  sd_dtype part = sd_dtype_part((sd_dtype)d.dtype);
  uint64_t n = (uint64_t)sd_dtype_parts((sd_dtype)d.dtype);
  for (int i = 0; i < d.rank; i++) n *= (uint64_t)d.dims[i];
  for (uint64_t i = 0; i < n; i++)
    if (sd_dtype_is_float(part)) sd_dtype_set_f64(part, data, i, (double)(i * 2654435761u % 2048) / 1024 - 1);
    else
      sd_dtype_set_i64(part, data, i, whole);
}

static sard_status *make_input(trial *t, int i, int64_t whole) {
  sard_tensor_desc d = {.size = sizeof d};
  const sd_module *m = t->k->module;
  const sd_value *v = m->main->inputs.at[i];
  SD_TRY(sard_model_io(t->model, 0, i, &d));
  if (d.rank < 0 || d.dtype == SARD_STRING || d.dtype >= SARD_SEQUENCE)
    return SD_ERR(UNSUPPORTED, "input '%s' cannot be made up", v->name);
  for (int k = 0; k < d.rank; k++)
    if (d.dims[k] < 0 && !sd_dim_eval(m->dims, v->dims[k], sd_dim_usual, m->dims, &d.dims[k]))
      return SD_ERR(UNSUPPORTED, "no usual size of input '%s' is known", v->name);
  SD_TRY(sard_tensor_new(t->ctx, &d, &t->in[i]));
  fill(t->in[i], whole);
  return NULL;
}

static void drop_inputs(trial *t) {
  for (int i = 0; i < t->n_in; i++) sard_tensor_free(t->in[i]), t->in[i] = NULL;
}

static sard_status *make_inputs(trial *t, int64_t whole) {
  drop_inputs(t);
  for (int i = 0; i < t->n_in; i++) SD_TRY(make_input(t, i, whole));
  return NULL;
}

// ---- runs ----

static sard_status *run(trial *t, double *seconds) {
  memset(t->session->times, 0, sizeof *t->session->times * t->model->art.n_steps);
  int64_t t0 = sd_now_ns();
  sard_status *st = sard_session_run(t->session, t->in, t->n_in, t->out, t->n_out);
  *seconds = (double)(sd_now_ns() - t0) * 1e-9;
  for (int i = 0; i < t->n_out; i++) sard_tensor_free(t->out[i]), t->out[i] = NULL;
  return st;
}

// Whether a run is short enough by what is estimated for it.
static sard_status *check_length(const trial *t) {
  const double *each = sd_driver_seconds(t->k->module, t->isa, t->a);
  double sum = 0;
  for (const sd_node *n = t->k->module->main->first; n; n = n->next) sum += *each++;
  return sum <= LONGEST_RUN ? NULL : SD_ERR(UNSUPPORTED, "a run would take about %.0f s", sum);
}

// The first run touches memory and code. Some models take no index but 0, or no size as large as is usual.
static sard_status *run_first(trial *t, double *seconds, int64_t *size) {
  sard_status *st = NULL;
  for (int64_t s = SD_DIM_USUAL; s > 0; s /= 4)
    for (int64_t whole = 1; whole >= 0; whole--) {
      sard_status_free(st);
      sd_dim_guess_size(t->k->module->dims, s);
      SD_TRY(check_length(t));
      SD_TRY(make_inputs(t, whole));
      st = run(t, seconds);
      if (!st) return *size = s, NULL;
      if (sard_status_code(st) == SARD_E_CANCELLED) return st;
    }
  return st;
}

// Nanoseconds of each step in the fastest run, and what that run took.
static sard_status *run_all(trial *t, double *ns, double *best, int64_t *size) {
  double seconds, sum = 0;
  SD_TRY(run_first(t, &seconds, size));
  for (int i = 0; i < MOST_RUNS && (i == 0 || sum < ENOUGH_SECONDS); i++) {
    if (i > 0 || seconds < LONG_SECONDS) SD_TRY(run(t, &seconds));
    sum += seconds;
    if (i > 0 && seconds >= *best) continue;
    *best = seconds;
    for (uint32_t s = 0; s < t->model->art.n_steps; s++) ns[s] = (double)t->session->times[s].ns;
  }
  return NULL;
}

// ---- nodes ----

// Steps inside of branches and loops are part of their step.
static void attribute(const trial *t, const double *ns, double run_seconds, sd_measured *out) {
  const sd_module *m = t->k->module;
  const sard_art_step *steps = t->model->art.steps;
  out->run_seconds = run_seconds, out->n = m->next_id + 1;
  out->ops = SD_NEW_ARRAY(t->a, const sd_op *, out->n), out->seconds = SD_NEW_ARRAY(t->a, double, out->n);
  for (const sd_node *n = m->main->first; n; n = n->next)
    if (n->n_out && n->out[0]) out->ops[n->out[0]->id] = n->op;
  for (uint32_t s = 0; s < t->k->report.code.step_nodes.len; s += 1 + steps[s].body + steps[s].other) {
    const sd_node *n = t->k->report.code.step_nodes.at[s];
    if (n->graph == m->main && n->n_out && n->out[0]) out->seconds[n->out[0]->id] += ns[s] * 1e-9;
  }
}

static sard_status *open(trial *t, const sard_source *src, const sd_driver_options *o, int threads) {
  char text[16];
  sard_options *options = sard_options_new();
  if (!options) return SD_ERR(NOMEM, "out of memory");
  snprintf(text, sizeof text, "%d", threads);
  sard_status *st = sard_options_set(options, "threads", text);
  if (!st) st = sard_context_new(options, &t->ctx);
  sard_options_free(options);
  SD_TRY(st);
  SD_TRY(sd_driver_compile(src, o, &t->k));
  SD_TRY(sd_model_from_bytes(t->ctx, t->k->pieces, t->k->n_pieces, sd_compiled_free, t->k, &t->model));
  options = sard_options_new();
  if (!options) return SD_ERR(NOMEM, "out of memory");
  st = sard_options_set(options, "profile", "1");
  if (!st) st = sard_session_new(t->model, options, &t->session);
  sard_options_free(options);
  return st;
}

static sard_status *measure(trial *t, const sard_source *src, const sd_driver_options *o, int threads,
                            sd_measured *out) {
  double seconds = 0;
  SD_TRY(sd_driver_target(o->target, &t->isa));
  SD_TRY(open(t, src, o, threads));
  t->n_in = sard_model_io_count(t->model, 0), t->n_out = sard_model_io_count(t->model, 1);
  t->in = SD_NEW_ARRAY(t->a, sard_tensor *, t->n_in + 1),
  t->out = SD_NEW_ARRAY(t->a, sard_tensor *, t->n_out + 1);
  if (t->n_in != (int)t->k->module->main->inputs.len)
    return SD_ERR(UNSUPPORTED, "its inputs are others when compiled");
  double *ns = SD_NEW_ARRAY(t->a, double, t->model->art.n_steps + 1);
  sd_module *m = t->k->module;
  if (m->batch) sd_dim_guess(m->dims, m->batch, t->batch);
  out->batch = m->batch ? (double)t->batch : 1;
  SD_TRY(run_all(t, ns, &seconds, &out->size));
  attribute(t, ns, seconds, out);
  return NULL;
}

static void close(trial *t) {
  if (t->in) drop_inputs(t);
  sard_session_free(t->session);
  sard_model_free(t->model);
  sard_context_free(t->ctx);
}

// `a` may run out of memory: what is open then is closed all the same.
static sard_status *measure_guarded(trial *t, const sard_source *src, const sd_driver_options *o, int threads,
                                    sd_measured *out) {
  jmp_buf oom;
  if (setjmp(oom)) return SD_ERR(NOMEM, "out of memory");
  sd_arena_set_oom(t->a, &oom);
  return measure(t, src, o, threads, out);
}

sard_status *sd_measure_nodes(const sard_source *src, const sd_driver_options *o, int threads, int64_t batch, sd_arena *a,
                              sd_measured *out) {
  sd_driver_options own = *o;
  trial *t = SD_NEW(a, trial);
  sd_measured found = {0};
  *out = found;
  if (o->progress.fn) SD_TRY(o->progress.fn(o->progress.user, 2, 3, "measure"));
  own.devices = (sd_devices){0}, own.device = NULL, own.tuning = NULL, own.keep_ir = own.verify = false;
  own.dump = own.dump_dir = NULL, own.progress = (sd_driver_progress){0};
  t->a = sd_arena_new(), t->batch = batch;
  if (!t->a) return SD_ERR(NOMEM, "out of memory");
  sard_status *st = measure_guarded(t, src, &own, threads, &found);
  close(t);
  if (!st) {
    *out = found;
    out->ops = sd_arena_dup(a, found.ops, found.n * sizeof *out->ops);
    out->seconds = sd_arena_dup(a, found.seconds, found.n * sizeof *out->seconds);
  } else {
    out->why = sd_arena_strdup(a, sard_status_text(st, SARD_TEXT_MESSAGE));
  }
  sd_arena_free(t->a);
  sard_status_free(st);
  return NULL;
}
