// Whole outputs of layers, and all that depends on them: which go, and how the layers behind make up for
// them.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/cli/prune.h"

enum { LEAST = 8 }; // one of so many channels that go together stays at least

static bool wanted(const sd_prune *q, const sd_prune_label *l) {
  return !l->fixed && l->head == (q->pattern.kind == SD_PATTERN_HEADS);
}

static sd_prune_unit *unit_at(sd_prune *q, uint32_t node, uint32_t *index) {
  for (uint32_t i = 0; i < q->units.len; i++)
    if (q->units.at[i].at == node && !q->units.at[i].recurrent && q->units.at[i].was)
      return *index = i, &q->units.at[i];
  return NULL;
}

sard_status *sd_prune_channels_find(sd_prune *q, uint32_t *some) {
  SD_TRY(sd_prune_follow(q->c->arena, &q->src, &q->units, &q->channels));
  *some = 0;
  for (uint32_t i = 1; i < q->channels.labels.len; i++)
    *some += q->channels.labels.at[i].same == i && wanted(q, &q->channels.labels.at[i]);
  return NULL;
}

// Of element j of [rows][k], as it was.
static double square(const sd_prune_unit *u, uint64_t j) {
  double w = sd_prune_was(u, j / u->k, j % u->k);
  return w * w;
}

// By wanda: what the layers that take it make of it, of all that they give.
static void score_inputs(sd_prune *q, double *worth) {
  for (uint32_t k = 0; k < q->channels.cuts.len; k++) {
    const sd_prune_cut *t = &q->channels.cuts.at[k];
    uint32_t index = 0;
    const sd_prune_unit *u = t->kind == SD_CUT_INPUTS ? unit_at(q, t->node, &index) : NULL;
    const double *x = u ? q->squares[index] : NULL;
    double all = 0;
    for (uint64_t j = 0; x && j < u->rows * u->k; j++) all += square(u, j) * x[j % u->k];
    for (uint64_t j = 0; x && all > 0 && j < u->rows * u->k; j++)
      worth[sd_prune_root(&q->channels, t->labels[j % u->k % t->n])] +=
          square(u, j) * x[j % u->k] / all * t->n;
  }
}

static sard_status *measure_inputs(sd_prune *q) {
  q->squares = SD_NEW_ARRAY(q->c->arena, double *, q->units.len + 1);
  for (uint32_t k = 0; k < q->channels.cuts.len; k++) {
    uint32_t i = 0;
    if (q->channels.cuts.at[k].kind != SD_CUT_INPUTS || !unit_at(q, q->channels.cuts.at[k].node, &i))
      continue;
    SD_TRY(sd_stop_check());
    sd_judge_progress(q->c, "looking at inputs", i, q->units.len, 0);
    SD_TRY(sd_prune_squares(q, i, &q->squares[i]));
  }
  sd_cli_progress(q->c, NULL);
  return NULL;
}

// By magnitude: the part of the weight's squares that it is, over all weights that make or take it. By
// taylor: what the weights that make it are worth.
static void score(sd_prune *q, double *worth) {
  for (uint32_t k = 0; k < q->channels.cuts.len; k++) {
    const sd_prune_cut *t = &q->channels.cuts.at[k];
    uint32_t index = 0;
    bool counts = t->kind == SD_CUT_OUTPUTS || (t->kind == SD_CUT_INPUTS && !q->gain);
    const sd_prune_unit *u = counts ? unit_at(q, t->node, &index) : NULL;
    const double *gain = u && q->gain ? q->gain[index] : NULL;
    double all = 0;
    for (uint64_t j = 0; u && j < u->rows * u->k; j++) all += square(u, j);
    for (uint64_t j = 0; u && all > 0 && j < u->rows * u->k; j++) {
      uint64_t at = t->kind == SD_CUT_OUTPUTS ? j / u->k : j % u->k % t->n;
      worth[sd_prune_root(&q->channels, t->labels[at])] += gain ? gain[j] : square(u, j) / all * t->n;
    }
  }
}

// Heads have sizes of their own: they are compared by what an element of them is worth.
static void by_size(const sd_prune *q, sd_arena *a, double *worth) {
  uint64_t *elements = SD_NEW_ARRAY(a, uint64_t, q->channels.labels.len + 1);
  for (uint32_t k = 0; k < q->channels.cuts.len; k++) {
    const sd_prune_cut *t = &q->channels.cuts.at[k];
    bool counts = t->kind == SD_CUT_OUTPUTS || t->kind == SD_CUT_INPUTS;
    for (uint32_t i = 0; counts && i < t->n; i++) elements[sd_prune_root(&q->channels, t->labels[i])]++;
  }
  for (uint32_t i = 1; i < q->channels.labels.len; i++)
    if (elements[i]) worth[i] /= (double)elements[i];
}

typedef struct entry {
  double worth;
  uint32_t root, unit;
} entry;

static int least_first(const void *a, const void *b) {
  const entry *x = a, *y = b;
  if (x->worth != y->worth) return x->worth < y->worth ? -1 : 1;
  return x->root < y->root ? -1 : x->root > y->root;
}

// Such that a multiple of --multiple is left: the nearest one. Layers that have few take what they should.
static uint32_t whole(const sd_prune *q, uint32_t all, uint32_t go) {
  uint64_t step = (uint64_t)q->multiple, left = (all - go + step / 2) / step * step;
  if (q->pattern.kind != SD_PATTERN_CHANNELS || go == 0 || all < 4 * step) return go;
  return left >= all ? 0 : left < step ? (uint32_t)(all - step) : (uint32_t)(all - left);
}

// Those of least worth go: a share of each layer's, or of all.
static void choose(sd_prune *q, const double *factor, double part) {
  sd_arena *a = sd_arena_scratch(q->c->arena);
  sd_prune_channels *c = &q->channels;
  double *worth = SD_NEW_ARRAY(a, double, c->labels.len + 1);
  entry *list = SD_NEW_ARRAY(a, entry, c->labels.len + 1);
  uint32_t *all = SD_NEW_ARRAY(a, uint32_t, q->units.len + 1),
           *go = SD_NEW_ARRAY(a, uint32_t, q->units.len + 1), n = 0;
  if (q->squares) score_inputs(q, worth);
  else
    score(q, worth);
  if (q->pattern.kind == SD_PATTERN_HEADS) by_size(q, a, worth);
  for (uint32_t i = 1; i < c->labels.len; i++) {
    sd_prune_label *l = &c->labels.at[i];
    l->gone = false;
    if (l->same == i && wanted(q, l)) list[n++] = (entry){worth[i], i, l->unit}, all[l->unit]++;
  }
  qsort(list, n, sizeof *list, least_first);
  double share = q->pattern.share * part;
  for (uint32_t i = 0; q->global && i < (uint32_t)llround(share * n); i++) go[list[i].unit]++;
  for (uint32_t i = 0; i < q->units.len; i++) {
    double want = (q->global ? go[i] : share * all[i]) * (factor ? factor[i] : 1);
    uint32_t most = all[i] - (all[i] + LEAST - 1) / LEAST;
    go[i] = whole(q, all[i], (uint32_t)llround(want) < most ? (uint32_t)llround(want) : most);
  }
  for (uint32_t i = 0; i < n; i++)
    if (go[list[i].unit]) c->labels.at[list[i].root].gone = true, go[list[i].unit]--;
  sd_arena_free(a);
}

static bool is_gone(const sd_prune *q, const sd_prune_cut *t, uint64_t i) {
  return q->channels.labels.at[sd_prune_root(&q->channels, t->labels[i])].gone;
}

// Inputs and outputs of a unit that stay, as masks; how many of the inputs go.
static uint64_t kept(const sd_prune *q, const sd_prune_unit *u, uint8_t *inputs, uint8_t *outputs) {
  uint64_t gone = 0;
  memset(inputs, 1, u->k), memset(outputs, 1, u->rows);
  for (uint32_t k = 0; k < q->channels.cuts.len; k++) {
    const sd_prune_cut *t = &q->channels.cuts.at[k];
    if (t->node != u->at) continue;
    for (uint64_t j = 0; t->kind == SD_CUT_INPUTS && j < u->k; j++) inputs[j] &= !is_gone(q, t, j % t->n);
    for (uint64_t r = 0; t->kind == SD_CUT_OUTPUTS && r < u->rows; r++) outputs[r] &= !is_gone(q, t, r);
  }
  for (uint64_t j = 0; j < u->k; j++) gone += !inputs[j];
  return gone;
}

// What is left of a layer, fitted without its inputs that go.
static sard_status *less(sd_prune *q, uint32_t i) {
  sd_prune_unit *u = &q->units.at[i];
  sd_arena *a = sd_arena_scratch(q->c->arena);
  uint8_t *inputs = sd_arena_alloc(a, u->k + 1), *outputs = sd_arena_alloc(a, u->rows + 1);
  sard_status *st = NULL;
  uint64_t gone = kept(q, u, inputs, outputs), stay = 0;
  for (uint64_t r = 0; r < u->rows; r++) stay += outputs[r];
  if (gone && q->refit && !u->keep) {
    st = sd_stop_check();
    sd_judge_progress(q->c, "fitting", i, q->units.len, 0);
    if (!st) st = sd_prune_fit(q, i, inputs);
  }
  q->layers[i].zeros = u->rows * u->k - stay * (u->k - gone);
  sd_arena_free(a);
  return st;
}

// The layers behind what goes are fitted without it. What an excluded layer takes goes, too; its other
// weights stay.
sard_status *sd_prune_channels_all(sd_prune *q, const double *factor, double part) {
  if (q->criterion == SD_WANDA && !q->squares) SD_TRY(measure_inputs(q)); // nothing is pruned yet
  choose(q, factor, part);
  for (uint32_t i = 0; i < q->units.len; i++)
    if (q->units.at[i].was) SD_TRY(less(q, i));
  return NULL;
}
