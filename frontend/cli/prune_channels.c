// Whole outputs of layers, and all that depends on them: which go, and how the layers behind make up for
// them.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/cli/prune.h"

enum { LEAST = 8 }; // one of so many channels that go together stays at least

static bool wanted(const sd_prune *q, const sd_prune_label *l) {
  if (q->criterion == SD_TAYLOR && l->unit != SD_NO_UNIT && q->units.at[l->unit].recurrent)
    return false; // no slopes
  return !l->fixed && l->head == (q->pattern.kind == SD_PATTERN_HEADS);
}

// The unit that is cut along its outputs or inputs; NULL: none is.
static sd_prune_unit *unit_of(sd_prune *q, const sd_prune_cut *t, uint32_t *index) {
  for (uint32_t i = 0; i < q->units.len && (t->kind == SD_CUT_OUTPUTS || t->kind == SD_CUT_INPUTS); i++)
    if (q->units.at[i].at == t->node && q->units.at[i].operand == (int)t->operand && q->units.at[i].was)
      return *index = i, &q->units.at[i];
  return NULL;
}

// The label of output r, or of input j of it.
static uint32_t label_of(const sd_prune *q, const sd_prune_cut *t, const sd_prune_unit *u, uint64_t r,
                         uint64_t j) {
  uint64_t each = t->n / t->parts, part = r / (u->rows / t->parts);
  return sd_prune_root(&q->channels, t->labels[t->kind == SD_CUT_OUTPUTS ? r : part * each + j % each]);
}

sard_status *sd_prune_channels_find(sd_prune *q, uint32_t *some) {
  SD_TRY(sd_prune_follow(q->c->arena, &q->src, &q->units, q->resize, &q->channels));
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

static sard_status *measure_inputs(sd_prune *q) {
  q->squares = SD_NEW_ARRAY(q->c->arena, double *, q->units.len + 1);
  for (uint32_t k = 0; k < q->channels.cuts.len; k++) {
    uint32_t i = 0;
    const sd_prune_unit *u = unit_of(q, &q->channels.cuts.at[k], &i);
    if (!u || u->recurrent || q->channels.cuts.at[k].kind != SD_CUT_INPUTS) continue;
    SD_TRY(sd_stop_check());
    sd_judge_progress(q->c, "looking at inputs", i, q->units.len, 0);
    SD_TRY(sd_prune_squares(q, i, &q->squares[i]));
  }
  sd_cli_progress(q->c, NULL);
  return NULL;
}

// By magnitude: the part of the weight's squares that it is, over all weights that make or take it. By
// wanda: what the layers that take it make of it, of all that they give. By taylor: what the weights that
// make it are worth. Recurrent weights count by magnitude in any case.
static void score(sd_prune *q, double *worth) {
  for (uint32_t k = 0; k < q->channels.cuts.len; k++) {
    const sd_prune_cut *t = &q->channels.cuts.at[k];
    uint32_t i = 0;
    const sd_prune_unit *u = unit_of(q, t, &i);
    if (!u || (!u->recurrent && (q->squares ? !q->squares[i] || t->kind == SD_CUT_OUTPUTS
                                            : q->gain && t->kind == SD_CUT_INPUTS)))
      continue;
    const double *gain = q->gain ? q->gain[i] : NULL, *x = q->squares && !u->recurrent ? q->squares[i] : NULL;
    double all = 0;
    for (uint64_t j = 0; j < u->rows * u->k; j++) all += square(u, j) * (x ? x[j % u->k] : 1);
    for (uint64_t j = 0; all > 0 && j < u->rows * u->k; j++)
      worth[label_of(q, t, u, j / u->k, j % u->k)] +=
          gain ? gain[j] : square(u, j) * (x ? x[j % u->k] : 1) / all * t->n;
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

// Inputs of each output of a unit that stay, as a mask: those of one part are the same. How many weights do.
static uint64_t kept(const sd_prune *q, const sd_prune_unit *u, uint8_t *mask, bool *some) {
  const sd_prune_cut *outputs = NULL;
  uint64_t stay = 0;
  memset(mask, 1, u->rows * u->k);
  for (uint32_t k = 0; k < q->channels.cuts.len; k++) {
    const sd_prune_cut *t = &q->channels.cuts.at[k];
    if (t->node != u->at || (int)t->operand != u->operand) continue;
    if (t->kind == SD_CUT_OUTPUTS) outputs = t;
    for (uint64_t j = 0; t->kind == SD_CUT_INPUTS && j < u->rows * u->k; j++)
      if (q->channels.labels.at[label_of(q, t, u, j / u->k, j % u->k)].gone) mask[j] = 0, *some = true;
  }
  for (uint64_t r = 0; r < u->rows; r++) {
    if (outputs && q->channels.labels.at[label_of(q, outputs, u, r, 0)].gone) continue;
    for (uint64_t j = 0; j < u->k; j++) stay += mask[r * u->k + j];
  }
  return stay;
}

// What is left of a layer, fitted without its inputs that go.
static sard_status *less(sd_prune *q, uint32_t i) {
  sd_prune_unit *u = &q->units.at[i];
  sd_arena *a = sd_arena_scratch(q->c->arena);
  uint8_t *mask = sd_arena_alloc(a, u->rows * u->k + 1);
  bool some = false;
  sard_status *st = NULL;
  uint64_t stay = kept(q, u, mask, &some);
  if (some && q->refit && !u->keep) {
    st = sd_stop_check();
    sd_judge_progress(q->c, "fitting", i, q->units.len, 0);
    if (!st) st = sd_prune_fit(q, i, mask);
  }
  q->layers[i].zeros = u->rows * u->k - stay; // not those that an earlier run had
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
