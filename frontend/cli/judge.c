// Models over data sets: batches run through one model, or two side by side, and are scored.
#include "frontend/cli/judge.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/base/dtype.h"
#include "runtime/base/thread.h"

enum { MOST_LABELS = 4096 }; // that are looked at together

sard_status *sd_judge_flags(sd_judge *j) {
  const char *metric = sd_args_get(j->c, "metric"), *drop = sd_args_get(j->c, "max-drop");
  double unused;
  j->limit = INT64_MAX, j->batch = 16, j->ignore = -1;
  if (metric) SD_TRY(sd_metric_find(metric, &j->metric));
  if (metric && drop) SD_TRY(sd_judge_drop(j->metric, "max-drop", drop, 1, &unused)); // its form
  SD_TRY(sd_args_int(j->c, "limit", 1, INT64_MAX, &j->limit));
  SD_TRY(sd_args_int(j->c, "batch", 1, 1 << 20, &j->batch));
  SD_TRY(sd_args_int(j->c, "skip", 0, INT64_MAX, &j->skip));
  return sd_args_int(j->c, "ignore", 0, INT32_MAX, &j->ignore);
}

// ---- models ----

static sard_status *find_output(sd_judge *j, const sd_judged *m, int *out) {
  const char *name = sd_args_get(j->c, "judged");
  sd_str names = {0};
  *out = 0;
  if (!name) return m->n_out ? NULL : SD_ERR(USAGE, "the model has no output");
  for (int i = 0; i < m->n_out; i++) {
    sard_tensor_desc d = {.size = sizeof d};
    SD_TRY(sard_model_io(m->m.model, 1, i, &d));
    if (strcmp(d.name, name) == 0) return sd_str_free(&names), *out = i, NULL;
    sd_strf(&names, "%s%s", i ? ", " : "", d.name);
  }
  sard_status *st = sd_status_field(SD_ERR(USAGE, "--judged: the model has no output '%s'", name), SARD_TEXT_HINT,
                                    "its outputs: %s", names.p ? names.p : "none");
  sd_str_free(&names);
  return st;
}

static sard_status *inputs_of(sd_judge *j, const sd_cli_model *m, sard_tensor_desc **out, int *n) {
  *n = sard_model_io_count(m->model, 0);
  *out = SD_NEW_ARRAY(j->c->arena, sard_tensor_desc, *n + 1);
  for (int i = 0; i < *n; i++) {
    (*out)[i].size = sizeof **out;
    SD_TRY(sard_model_io(m->model, 0, i, &(*out)[i]));
    sard_tensor_desc *d = &(*out)[i]; // the texts are the model's, the data outlives it
    d->name = sd_arena_strdup(j->c->arena, d->name);
    for (int k = 0; k < d->rank; k++) d->symbols[k] = sd_arena_strdup(j->c->arena, d->symbols[k]);
  }
  return NULL;
}

sard_status *sd_judge_begin(sd_judge *j, sd_judged *m) {
  sard_tensor_desc *in;
  int n, n_data;
  const sard_tensor_desc *given = sd_data_inputs(j->data, &n_data);
  SD_TRY(inputs_of(j, &m->m, &in, &n));
  m->order = SD_NEW_ARRAY(j->c->arena, int, n + 1);
  m->in = SD_NEW_ARRAY(j->c->arena, sard_tensor *, n + 1);
  for (int i = 0; i < n; i++) {
    int k = 0;
    while (k < n_data && strcmp(given[k].name, in[i].name) != 0) k++;
    if (k == n_data || n != n_data)
      return SD_ERR(USAGE, "the two models do not have the same inputs (%d and %d, '%s')", n_data, n, in[i].name);
    m->order[i] = k;
  }
  m->n_out = sard_model_io_count(m->m.model, 1);
  m->out = SD_NEW_ARRAY(j->c->arena, sard_tensor *, m->n_out + 1);
  m->fitted = SD_NEW_ARRAY(j->c->arena, sard_tensor *, n + 1), m->n_in = n;
  if (!m->aside) SD_TRY(find_output(j, m, &j->output));
  if (j->metric) sd_score_init(&m->score, j->metric);
  return sard_session_new(m->m.model, NULL, &m->session);
}

sard_status *sd_judge_data(sd_judge *j, const sd_cli_model *m) {
  sd_data_options o = {.path = sd_args_get(j->c, "data"),
                       .label = sd_args_get(j->c, "label"),
                       .preprocess = sd_args_get(j->c, "preprocess")};
  sard_tensor_desc *in;
  if (!o.path) return SD_ERR(USAGE, "--data is missing: an .npz, a folder of .npy or of test data sets");
  SD_TRY(inputs_of(j, m, &in, &o.n_inputs));
  o.inputs = in;
  SD_TRY(sd_data_open(j->c->arena, j->ctx, &o, &j->data));
  if (j->skip >= sd_data_count(j->data))
    return SD_ERR(USAGE, "'%s' has %lld samples, and --skip leaves out %lld", o.path,
                  (long long)sd_data_count(j->data), (long long)j->skip);
  if (j->metric && j->metric->labels && !sd_data_has_labels(j->data))
    return sd_status_field(SD_ERR(USAGE, "the metric %s needs labels, and '%s' (%s) has none", j->metric->name, o.path,
                                  sd_data_kind_name(j->data)),
                           SARD_TEXT_HINT, "labels are an array y or label, or what --label names");
  return NULL;
}

static void drop_outputs(sd_judged *m) {
  for (int i = 0; i < m->n_out; i++) sard_tensor_free(m->out[i]), m->out[i] = NULL;
}

static sard_status *give(sd_judged *m, const sd_batch *b) {
  for (int i = 0; i < b->n_in; i++) {
    m->in[i] = b->in[m->order[i]];
    if (!m->fit) continue;
    sard_tensor_free(m->fitted[i]), m->fitted[i] = NULL;
    SD_TRY(m->fit(m->by, m, i, m->in[i], &m->fitted[i]));
    if (m->fitted[i]) m->in[i] = m->fitted[i];
  }
  return NULL;
}

sard_status *sd_judge_run(sd_judge *j, sd_judged *m, const sd_batch *b) {
  (void)j;
  drop_outputs(m);
  SD_TRY(give(m, b));
  int64_t t0 = sd_now_ns();
  sd_stop_session(m->session);
  sard_status *st = sd_stop_check();
  if (!st) st = sard_session_run(m->session, m->in, b->n_in, m->out, m->n_out);
  sd_stop_session(NULL);
  m->seconds += (double)(sd_now_ns() - t0) * 1e-9;
  return st;
}

void sd_judged_free(sd_judged *m) {
  drop_outputs(m);
  for (int i = 0; i < m->n_in; i++) sard_tensor_free(m->fitted[i]);
  sd_score_free(&m->score);
  sd_free(m->sample.at);
  sard_session_free(m->session);
  sard_model_free(m->m.model);
  *m = (sd_judged){0};
}

void sd_judge_free(sd_judge *j) {
  sd_judged_free(&j->a), sd_judged_free(&j->b);
  sd_free(j->want.at), sd_free(j->seen.at), sd_free(j->right);
  for (uint32_t i = 0; i < j->marks.len; i++) sd_score_free(&j->marks.at[i]);
  sd_data_close(j->data);
}

// ---- scores ----

static uint64_t elements(sard_tensor *t) {
  sard_tensor_desc d;
  uint64_t n = 1;
  sard_tensor_data(t, &d);
  for (int i = 0; i < d.rank; i++) n *= (uint64_t)d.dims[i];
  return n;
}

// Metrics of numbers take labels that are as many: those of classes are for others.
static bool label_fits(const sd_judge *j, const sd_batch *b) {
  if (!b->label || j->metric->labels || (!b->expected && !j->two)) return b->label != NULL;
  return elements(j->a.out[j->output]) == elements(b->label);
}

// What the outputs of sample i are compared with: its labels, recorded outputs, or the baseline's outputs.
static sard_status *wanted(sd_judge *j, const sd_batch *b, int64_t i) {
  if (label_fits(j, b)) return sd_sample_take(b->label, i, &j->want);
  if (b->expected && j->output < b->n_expected)
    return sd_sample_take(b->expected[j->output], b->whole ? -1 : i, &j->want);
  if (j->two) return sd_sample_take(j->a.out[j->output], b->whole ? -1 : i, &j->want);
  return sd_status_field(SD_ERR(USAGE, "the metric %s has nothing to compare the outputs with", j->metric->name),
                         SARD_TEXT_HINT, "give data with labels or recorded outputs, or --baseline MODEL");
}

static bool all_finite(const sd_sample *s) {
  for (uint64_t i = 0; i < s->n; i++)
    if (!isfinite(s->at[i])) return false;
  return true;
}

// Counts inputs of sample i that are no numbers: a model may be made for them, but mostly the data are damaged.
static sard_status *look_at_inputs(sd_judge *j, const sd_batch *b, int64_t i) {
  bool good = true;
  for (int k = 0; good && k < b->n_in; k++) {
    sard_tensor_desc d;
    sard_tensor_data(b->in[k], &d);
    if (!sd_dtype_is_float((sd_dtype)d.dtype) || (!b->whole && (d.rank == 0 || d.dims[0] <= i))) continue;
    SD_TRY(sd_sample_take(b->in[k], b->whole ? -1 : i, &j->seen));
    good = all_finite(&j->seen);
  }
  if (!good && j->wild.inputs++ == 0) j->wild.first = b->first + i;
  return NULL;
}

static void tell_wild(sd_judge *j) {
  if (j->wild.inputs)
    sd_cli_note(j->c, "inputs of %lld samples are NaN or infinite in places (the first: sample %lld)",
                (long long)j->wild.inputs, (long long)j->wild.first);
  if (j->wild.outputs)
    sd_cli_note(j->c, "outputs of %lld samples are NaN or infinite in places", (long long)j->wild.outputs);
}

static sard_status *score(sd_judge *j, sd_judged *m, const sd_batch *b, int64_t i) {
  sd_metric_case k = {&m->sample, &j->want, j->ignore, b->first + i};
  SD_TRY(sd_sample_take(m->out[j->output], b->whole ? -1 : i, &m->sample));
  j->wild.outputs += (m == &j->b || !j->two) && !all_finite(&m->sample);
  return sd_score_add(&m->score, &k);
}

static sard_status *remember(sd_judge *j) {
  if (j->n_right == j->room) {
    int64_t room = j->room ? j->room * 2 : 1024;
    uint8_t *more = sd_realloc(j->right, (size_t)room);
    if (!more) return SD_ERR(NOMEM, "out of memory for the metric");
    j->right = more, j->room = room;
  }
  j->right[j->n_right++] = j->a.score.right;
  return NULL;
}

// `known`: a is scored already.
static sard_status *take_batch(sd_judge *j, const sd_batch *b, bool known) {
  if (!known) SD_TRY(sd_judge_run(j, &j->a, b));
  if (j->two) SD_TRY(sd_judge_run(j, &j->b, b));
  for (int64_t i = 0; i < b->count; i++) {
    SD_TRY(look_at_inputs(j, b, i));
    SD_TRY(wanted(j, b, i));
    if (!known) SD_TRY(score(j, &j->a, b, i));
    if (!known) SD_TRY(remember(j));
    if (!j->two) continue;
    SD_TRY(score(j, &j->b, b, i));
    sd_paired_add(&j->paired, j->right[j->b.score.samples - 1], j->b.score.right);
  }
  return NULL;
}

void sd_judge_progress(sd_cli *c, const char *doing, int64_t done, int64_t of, double seconds) {
  char bar[21];
  for (int i = 0; i < 20; i++) bar[i] = of > 0 && done * 20 >= (i + 1) * of ? '#' : '.';
  bar[20] = 0;
  sd_cli_progress(c, sd_arena_printf(c->arena, "%s [%s] %lld/%lld, %.4g/s", doing, bar, (long long)done, (long long)of,
                                     seconds > 0 ? (double)done / seconds : 0));
}

sard_status *sd_judge_leave(sd_judge *j, int64_t n) {
  for (int64_t done = 0; done < n;) {
    sd_batch b;
    sard_status *st = sd_data_next(j->data, sd_min_i64(j->batch, n - done), &b);
    done += b.count;
    sd_batch_free(&b);
    SD_TRY(st);
  }
  return NULL;
}

sard_status *sd_judge_finite(sd_judge *j, int64_t n) {
  sard_status *st = sd_data_rewind(j->data);
  j->wild.inputs = 0;
  for (int64_t done = 0; !st && done < n;) {
    sd_batch b;
    st = sd_data_next(j->data, sd_min_i64(j->batch, n - done), &b);
    for (int64_t i = 0; !st && i < b.count; i++) st = look_at_inputs(j, &b, i);
    done += b.count;
    sd_batch_free(&b);
  }
  if (st || !j->wild.inputs) return st;
  return SD_ERR(USAGE,
                "inputs of %lld samples are NaN or infinite in places (the first: sample %lld): the data are not "
                "fit for calibration",
                (long long)j->wild.inputs, (long long)j->wild.first);
}

static sard_status *fit_all(sd_judge *j, sd_score *s, const sd_sample *out) {
  int64_t all = sd_data_count(j->data), end = j->limit < all - j->skip ? j->skip + j->limit : all;
  sard_status *st = NULL;
  for (int64_t done = 0; !st && done < end;) {
    sd_batch b;
    st = sd_data_next(j->data, sd_min_i64(MOST_LABELS, end - done), &b);
    for (int64_t i = 0; !st && i < b.count; i++) {
      st = sd_sample_take(b.label, i, &j->want);
      if (!st) st = sd_score_add(s, &(sd_metric_case){out, &j->want, j->ignore, b.first + i});
    }
    done += b.count;
    sd_batch_free(&b);
  }
  return st;
}

sard_status *sd_judge_labels(sd_judge *j, sd_judged *m) {
  sd_batch b;
  sd_score s;
  if (j->fits || !j->metric || !j->metric->labels) return NULL;
  SD_TRY(sd_data_rewind(j->data));
  sard_status *st = sd_data_next(j->data, j->batch, &b);
  if (!st) st = sd_judge_run(j, m, &b);
  if (!st) st = sd_sample_take(m->out[j->output], b.whole ? -1 : 0, &m->sample);
  sd_batch_free(&b);
  SD_TRY(st);
  sd_score_init(&s, j->metric);
  st = sd_data_labels(j->data, true);
  if (!st) st = fit_all(j, &s, &m->sample);
  sd_score_free(&s);
  sard_status *back = sd_data_labels(j->data, false);
  j->fits = !st && !back;
  if (!st) return back;
  sard_status_free(back);
  return st;
}

// ---- a drop that is too large for sure ----

enum { FIRST_MARK = 64 };

// Each time twice as many samples are scored: few looks, so that hardly one of them misleads.
static bool is_mark(int64_t samples, int64_t added) {
  int64_t mark = FIRST_MARK;
  while (mark <= samples - added) mark *= 2;
  return mark <= samples;
}

static sard_status *set_mark(sd_judge *j) {
  sd_score s;
  SD_TRY(sd_score_copy(&j->a.score, &s));
  sd_vec_push(j->c->arena, &j->marks, s);
  return NULL;
}

// Compares with what a had after as many samples.
static sard_status *look(sd_judge *j, int64_t added, bool *hopeless) {
  sd_paired p = j->paired;
  uint32_t i = 0;
  *hopeless = false;
  if (!(j->give_up > 0)) return NULL;
  if (!j->two) return is_mark(j->a.score.samples, added) ? set_mark(j) : NULL;
  if (!is_mark(j->b.score.samples, added)) return NULL;
  while (i < j->marks.len && j->marks.at[i].samples != j->b.score.samples) i++;
  bool beside = j->a.score.samples == j->b.score.samples;
  if (!beside && i == j->marks.len) return NULL;
  sd_paired_finish(&p, beside ? &j->a.score : &j->marks.at[i], &j->b.score);
  if (p.least > j->give_up) *hopeless = true, j->paired = p;
  return NULL;
}

sard_status *sd_judge_all(sd_judge *j, const char *doing) {
  int64_t all = sd_min_i64(j->limit, sd_data_count(j->data) - j->skip), t0 = sd_now_ns(), shown = t0;
  bool hopeless = false, known = j->two && j->metric->labels && j->n_right == all;
  sard_status *st = sd_data_rewind(j->data);
  if (!st) st = sd_judge_leave(j, j->skip);
  if (!known) sd_score_free(&j->a.score), sd_score_init(&j->a.score, j->metric), j->n_right = 0;
  sd_score_free(&j->b.score), sd_score_init(&j->b.score, j->metric);
  j->paired = (sd_paired){0}, j->wild.inputs = j->wild.outputs = 0;
  for (int64_t done = 0; !st && done < all && !hopeless;) {
    sd_batch b;
    st = sd_data_next(j->data, sd_min_i64(j->batch, all - done), &b);
    if (!st && b.count > all - done) b.count = all - done; // the model fixes the batch
    if (!st) st = take_batch(j, &b, known);
    if (!st) st = look(j, b.count, &hopeless);
    done += b.count;
    sd_batch_free(&b);
    int64_t now = sd_now_ns();
    if (now - shown > 100000000) sd_judge_progress(j->c, doing, done, all, (double)(now - t0) * 1e-9), shown = now;
  }
  sd_cli_progress(j->c, NULL);
  if (j->two && j->b.score.samples && !hopeless) sd_paired_finish(&j->paired, &j->a.score, &j->b.score);
  tell_wild(j);
  return st;
}

sard_status *sd_judge_drop(const sd_metric *m, const char *flag, const char *text, double baseline, double *out) {
  char *end;
  double v = strtod(text, &end);
  bool percent = *end == '%';
  if (end == text || end[percent] || !(v >= 0 && v < 1e9))
    return SD_ERR(USAGE, "--%s: '%s' is no drop such as 0.5%% or 0.005", flag, text);
  *out = !percent ? v : m->unit == SD_METRIC_PERCENT ? v / 100 : v / 100 * fabs(baseline);
  return NULL;
}
