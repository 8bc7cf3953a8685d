// Layer by layer: what the inputs of a weight are over samples, which of its elements go, and how the others
// make up for them against the outputs of the original model.
#include <math.h>
#include <string.h>

#include "frontend/cli/prune.h"
#include "passes/prune/select.h"
#include "runtime/base/alloc.h"
#include "runtime/base/thread.h"
#include "runtime/model.h"

enum { MOST_INPUTS = 1 << 14, SAMPLES = 256 };

sard_status *sd_prune_samples(sd_prune *q) {
  int64_t all = sd_data_count(q->judge.data), want = sd_max_i64(1, sd_min_i64(SAMPLES, all / 5));
  SD_TRY(sd_args_int(q->c, "samples", 1, INT64_MAX, &want));
  q->samples = sd_min_i64(want, all);
  return NULL;
}

// ---- sums ----

static sard_status *add(const sd_prune_unit *u, sard_tensor *t, uint64_t n, const sd_batch *b, double *sum) {
  sard_tensor_desc d;
  const float *x = sard_tensor_data(t, &d);
  uint64_t count = 1;
  for (int i = 0; i < d.rank; i++) count *= (uint64_t)d.dims[i];
  if (d.dtype != SARD_F32 || count != n) return SD_ERR(INTERNAL, "sums of '%s' are of another size", u->name);
  for (uint64_t i = 0; i < n; i++) {
    if (!isfinite(x[i]))
      return SD_ERR(
          USAGE,
          "the inputs of '%s' have values that are NaN or infinite in samples %lld to %lld: the data, or the "
          "model, are not fit for calibration",
          u->name, (long long)b->first, (long long)(b->first + b->count - 1));
    sum[i] += x[i];
  }
  return NULL;
}

static sard_status *run_batches(sd_prune *q, sd_judged *m, const sd_prune_unit *u, double *h, double *b) {
  SD_TRY(sd_data_rewind(q->judge.data));
  for (int64_t done = 0; done < q->samples;) {
    sd_batch batch;
    sard_status *st = sd_data_next(q->judge.data, sd_min_i64(q->judge.batch, q->samples - done), &batch);
    if (!st) st = sd_judge_run(&q->judge, m, &batch);
    if (!st) st = add(u, m->out[0], u->groups * u->k * u->k, &batch, h);
    if (!st) st = add(u, m->out[1], u->rows * u->k, &batch, b);
    done += batch.count ? batch.count : 1;
    sd_batch_free(&batch);
    SD_TRY(st);
  }
  return NULL;
}

static sard_status *observe(sd_prune *q, uint32_t i, double *h, double *b) {
  sd_judged m = {.aside = true};
  sd_arena *a = sd_arena_scratch(q->c->arena);
  const sd_packed *packed;
  sard_status *st = sd_prune_watch(a, &q->src, &q->units, i, &packed);
  if (!st) st = sd_model_load_packed(q->c, q->judge.ctx, &packed->src, &m.m);
  if (!st) st = sd_judge_begin(&q->judge, &m);
  if (!st) st = run_batches(q, &m, &q->units.at[i], h, b);
  sd_judged_free(&m);
  sd_arena_free(a);
  return st;
}

// ---- one layer ----

static sd_criterion criterion_of(const sd_prune *q, const sd_prune_unit *u) {
  return u->recurrent ? SD_MAGNITUDE : q->criterion;
}

static bool wants_data(const sd_prune *q, const sd_prune_unit *u) {
  if (u->recurrent) return u->states && q->refit;
  return q->refit || criterion_of(q, u) == SD_WANDA || criterion_of(q, u) == SD_SPARSEGPT;
}

static sard_status *prune_layer(sd_prune *q, uint32_t i, sd_layer *l, double share) {
  const sd_prune_unit *u = &q->units.at[i];
  sd_criterion c = criterion_of(q, u);
  float *before = sd_malloc(l->rows * l->k * sizeof *before + 1);
  double *score = sd_malloc(l->rows * l->k * sizeof *score + 1);
  sard_status *st = before && score ? NULL : SD_ERR(NOMEM, "out of memory for scores");
  if (!st) memcpy(before, l->w, l->rows * l->k * sizeof *before);
  if (!st && c == SD_SPARSEGPT) {
    st = sd_layer_sparsegpt(l, &q->pattern, share, true);
  } else if (!st) {
    st = sd_layer_score(l, c, score);
    if (!st) st = sd_layer_mask(l, &q->pattern, share, c == SD_WANDA, score);
  }
  if (!st && q->refit && l->b) { // from the weights before: what SparseGPT moved is only its mask then
    memcpy(l->w, before, l->rows * l->k * sizeof *before);
    st = sd_layer_refit(l, &q->pattern, q->judge.ctx->pool);
  }
  if (!st) q->layers[i].zeros = sd_layer_apply(l);
  sd_free(before), sd_free(score);
  return st;
}

static sard_status *fit_layer(sd_prune *q, sd_layer *l, const uint8_t *mask) {
  memcpy(l->mask, mask, l->rows * l->k);
  if (l->h) SD_TRY(sd_layer_refit(l, &q->pattern, q->judge.ctx->pool));
  sd_layer_apply(l);
  return NULL;
}

static sard_status *with_moments(sd_prune *q, uint32_t i, sd_layer *l, double share, const uint8_t *mask) {
  const sd_prune_unit *u = &q->units.at[i];
  if (mask && u->recurrent && !u->states) return fit_layer(q, l, mask);
  if (!mask && !wants_data(q, u)) return prune_layer(q, i, l, share);
  if (u->k > MOST_INPUTS)
    return SD_ERR(UNSUPPORTED, "'%s' has %llu inputs, too many for their second moments: --exclude it",
                  u->name, (unsigned long long)u->k);
  uint64_t n = u->groups * u->k * u->k;
  double *h = sd_calloc(n, sizeof *h), *b = sd_calloc(u->rows * u->k, sizeof *b);
  sard_status *st = h && b ? observe(q, i, h, b) : SD_ERR(NOMEM, "out of memory for second moments");
  l->h = h, l->b = b;
  if (!st) st = mask ? fit_layer(q, l, mask) : prune_layer(q, i, l, share);
  sd_free(h), sd_free(b);
  return st;
}

// Prunes a layer, or, where there is a mask, fits it. Only here it is there as rows.
static sard_status *one(sd_prune *q, uint32_t i, double share, const uint8_t *mask) {
  sd_prune_unit *u = &q->units.at[i];
  uint64_t n = u->rows * u->k;
  sd_layer l = {.rows = u->rows, .k = u->k, .groups = u->groups, .check = sd_stop_check};
  l.gain = q->gain ? q->gain[i] : NULL;
  l.w = sd_malloc(n * sizeof *l.w + 1), l.mask = sd_malloc(n + 1);
  sard_status *st = l.w && l.mask ? NULL : SD_ERR(NOMEM, "out of memory for %llu weights", (unsigned long long)n);
  if (!st) sd_prune_load(u, l.w), memset(l.mask, 1, n);
  if (!st) st = with_moments(q, i, &l, share, mask);
  if (!st) sd_prune_store(u, l.w);
  sd_free(l.w), sd_free(l.mask);
  return st;
}

// ---- what an earlier run did ----

enum { PRUNED, SQUARES, KINDS };

static sard_status *one_or_earlier(sd_prune *q, uint32_t i, double share, const uint8_t *mask) {
  sd_prune_unit *u = &q->units.at[i];
  sd_prune_room(q->c->arena, u);
  const sd_piece p[] = {{u->w, u->rows * u->k * sizeof *u->w}, {&q->layers[i].zeros, sizeof q->layers[i].zeros}};
  const uint64_t what = (uint64_t)i * KINDS + PRUNED;
  if (q->keeps && sd_prune_recalled(q, what, p, 2)) {
    sd_prune_compare(u);
    return NULL;
  }
  SD_TRY(one(q, i, share, mask));
  return q->keeps ? sd_prune_remember(q, what, p, 2) : NULL;
}

sard_status *sd_prune_squares(sd_prune *q, uint32_t i, double **out) {
  sd_prune_unit *u = &q->units.at[i];
  if (u->k > MOST_INPUTS)
    return SD_ERR(UNSUPPORTED,
                  "'%s' has %llu inputs, too many for their second moments: --criterion magnitude", u->name,
                  (unsigned long long)u->k);
  *out = SD_NEW_ARRAY(q->c->arena, double, u->groups * u->k);
  const sd_piece p = {*out, u->groups * u->k * sizeof **out};
  const uint64_t what = (uint64_t)i * KINDS + SQUARES;
  if (q->keeps && sd_prune_recalled(q, what, &p, 1)) return NULL;
  double *h = sd_calloc(u->groups * u->k * u->k, sizeof *h), *b = sd_calloc(u->rows * u->k, sizeof *b);
  sard_status *st = h && b ? observe(q, i, h, b) : SD_ERR(NOMEM, "out of memory for second moments");
  for (uint64_t j = 0; !st && j < u->groups * u->k; j++) (*out)[j] = h[j * u->k + j % u->k];
  sd_free(h), sd_free(b);
  return st || !q->keeps ? st : sd_prune_remember(q, what, &p, 1);
}

sard_status *sd_prune_fit(sd_prune *q, uint32_t i, const uint8_t *mask) {
  return one_or_earlier(q, i, 0, mask);
}

// ---- shares of layers ----

// LAMP (Lee et al. 2021): the square of each weight over the sum of those that are not smaller makes layers
// comparable. The magnitudes are sorted, the least first.
static double lamp(float w, double *rest) {
  double square = (double)w * w;
  *rest += square;
  return *rest > 0 ? square / *rest : 0;
}

static void see_all(const sd_prune *q, sd_select *s) {
  for (uint32_t i = 0; i < q->units.len; i++) {
    const sd_prune_unit *u = &q->units.at[i];
    double rest = 0;
    for (uint64_t j = u->keep ? 0 : u->rows * u->k; j-- > 0;) sd_select_see(s, lamp(u->w[j], &rest));
  }
}

// How many of each layer are below what was selected; of those that are equal the first layers have the first.
static void count_shares(sd_prune *q, const sd_select *s) {
  uint64_t equal = s->rank + 1;
  for (uint32_t i = 0; i < q->units.len; i++) {
    const sd_prune_unit *u = &q->units.at[i];
    uint64_t all = u->keep ? 0 : u->rows * u->k, gone = 0, same = 0;
    double rest = 0;
    for (uint64_t j = all; j-- > 0;) {
      double x = lamp(u->w[j], &rest);
      gone += sd_select_below(s, x), same += sd_select_equal(s, x);
    }
    same = same < equal ? same : equal, equal -= same;
    if (all) q->layers[i].share = (double)(gone + same) / (double)all;
  }
}

// The room of the weights to come serves for the sorted magnitudes: nothing else is as large.
static sard_status *share_out(sd_prune *q) {
  uint64_t all = 0, most = 0;
  for (uint32_t i = 0; i < q->units.len; i++) {
    const sd_prune_unit *u = &q->units.at[i];
    q->layers[i].share = u->keep ? 0 : q->pattern.share;
    if (!u->keep) all += u->rows * u->k, most = u->rows * u->k > most ? u->rows * u->k : most;
  }
  if (!q->global || q->pattern.kind == SD_PATTERN_NM || sd_pattern_removes(q->pattern.kind)) return NULL;
  uint64_t go = (uint64_t)llround(q->pattern.share * (double)all);
  float *room = sd_malloc(most * sizeof *room + 1);
  sd_select *s = sd_malloc(sizeof *s);
  sard_status *st = room && s ? NULL : SD_ERR(NOMEM, "out of memory for scores of %llu weights", (unsigned long long)most);
  for (uint32_t i = 0; !st && i < q->units.len; i++) {
    sd_prune_unit *u = &q->units.at[i];
    st = sd_stop_check();
    if (u->keep || st) continue;
    sd_prune_room(q->c->arena, u);
    memcpy(u->w, u->was, u->rows * u->k * sizeof *u->w);
    for (uint64_t j = 0; j < u->rows * u->k; j++) u->w[j] = fabsf(u->w[j]);
    sd_select_sort(u->w, room, u->rows * u->k);
  }
  if (!st && go) {
    sd_select_begin(s, go - 1);
    do see_all(q, s);
    while (sd_select_again(s));
    count_shares(q, s);
  }
  for (uint32_t i = 0; !st && !go && i < q->units.len; i++) q->layers[i].share = 0;
  sd_free(room), sd_free(s);
  return st;
}

// ---- all of them ----

static void start(sd_prune *q) {
  for (uint32_t i = 0; i < q->units.len; i++) {
    sd_prune_unit *u = &q->units.at[i];
    u->changed = false, q->layers[i].zeros_before = 0;
    for (uint64_t r = 0; u->was && r < u->rows; r++)
      for (uint64_t j = 0; j < u->k; j++) q->layers[i].zeros_before += sd_prune_was(u, r, j) == 0;
    q->layers[i].zeros = q->layers[i].zeros_before;
  }
}

sard_status *sd_prune_all(sd_prune *q, const double *factor) {
  int64_t t0 = sd_now_ns();
  q->keeps = !q->pruned && !factor;
  SD_TRY(share_out(q));
  start(q);
  for (int64_t s = 1; s <= q->steps; s++) {
    double left = 1 - (double)s / (double)q->steps, part = 1 - left * left * left; // slower towards the end
    if (sd_pattern_removes(q->pattern.kind)) SD_TRY(sd_prune_channels_all(q, factor, part));
    for (uint32_t i = 0; i < q->units.len && !sd_pattern_removes(q->pattern.kind); i++) {
      double f = factor ? factor[i] : 1, share = q->layers[i].share * f * part;
      if (q->units.at[i].keep || !(share > 0)) continue;
      if (q->pattern.kind == SD_PATTERN_NM && f < 1) continue; // all or nothing
      SD_TRY(sd_stop_check());
      sd_judge_progress(q->c, "pruning", (s - 1) * q->units.len + i, q->steps * q->units.len,
                        (double)(sd_now_ns() - t0) * 1e-9);
      SD_TRY(one_or_earlier(q, i, share, NULL));
    }
  }
  sd_cli_progress(q->c, NULL);
  q->pruned = true, q->keeps = false;
  return NULL;
}
