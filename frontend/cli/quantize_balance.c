// Scales of channels before anything is rounded: the model that is quantized then computes the same.
#include <math.h>
#include <string.h>

#include "frontend/cli/quantize.h"
#include "runtime/base/alloc.h"

#define NEWS 0.9 // of the error, what a Mul that is put in has to leave at most

// AWQ is of weights in groups.
static bool is_scaled(const sd_quantize *q, const sd_quant_site *s) { return !q->awq || !s->conv; }

// What the sites' activations are on samples, in the order of the sites; behind them their second moments, for AWQ.
static sard_status *look(sd_quantize *q, const sd_quant_sites *sites, sd_quant_tensors *t) {
  sd_arena *a = q->c->arena;
  for (uint32_t i = 0; i < sites->len; i++)
    sd_vec_push(a, t, ((sd_quant_tensor){.name = sites->at[i].x, .by_channel = true}));
  for (uint32_t i = 0; q->awq && i < sites->len; i++) {
    uint32_t u = 0;
    if (!is_scaled(q, &sites->at[i])) continue;
    while (strcmp(q->units.at[u].x, sites->at[i].x) != 0 || q->units.at[u].keep) u++; // a site has a reader that is quantized
    sd_vec_push(a, t, sd_quant_sums_of(&q->units, u));
  }
  sd_range *ranges = SD_NEW_ARRAY(a, sd_range, t->len + 1);
  for (uint32_t i = 0; i < t->len; i++) sd_range_init(&ranges[i], NULL);
  return sd_quantize_look(q, t, ranges);
}

static sard_status *smooth(sd_quantize *q, sd_quant_site *s, const sd_quant_tensor *t) {
  float *weights = SD_NEW_ARRAY(q->c->arena, float, s->k + 1);
  for (uint32_t i = 0; i < s->n_of; i++) sd_matrix_input_max(&s->of[i], weights);
  s->t = SD_NEW_ARRAY(q->c->arena, float, s->k + 1);
  sd_balance_smooth(t->largest, weights, s->k, q->alpha, s->t);
  return NULL;
}

static sard_status *awq(sd_quantize *q, sd_quant_site *s, const sd_quant_tensor *t, const double *moments) {
  double gain = 1;
  sd_awq p = {.k = s->k,
              .x = t->typical,
              .moments = moments,
              .of = s->of,
              .n_of = s->n_of,
              .group = (uint64_t)q->o.group,
              .bits = q->o.bits,
              .symmetric = q->o.symmetric};
  s->t = SD_NEW_ARRAY(q->c->arena, float, s->k + 1);
  SD_TRY(sd_balance_awq(&p, s->t, &gain));
  sd_cli_detail(q->c, "%s: %.1f %% of the error of outputs is left", s->x, 100 * gain);
  if (!(gain < (s->folded ? 1 : NEWS))) s->t = NULL; // a Mul has to be worth it
  return NULL;
}

static sard_status *scale(sd_quantize *q, sd_quant_sites *sites) {
  sd_quant_tensors t = {0};
  uint32_t sums = sites->len;
  SD_TRY(look(q, sites, &t));
  for (uint32_t i = 0; i < sites->len; i++) {
    sd_quant_site *s = &sites->at[i];
    SD_TRY(sd_stop_check());
    sd_judge_progress(q->c, "scaling channels", i, sites->len, 0);
    if (!is_scaled(q, s)) continue;
    const double *moments = q->awq ? t.at[sums++].moments : NULL;
    if (!t.at[i].largest) continue; // it has no elements
    SD_TRY(q->awq ? awq(q, s, &t.at[i], moments) : smooth(q, s, &t.at[i]));
    q->balanced += s->t != NULL, q->inserted += s->t != NULL && !s->folded;
  }
  sd_cli_progress(q->c, NULL);
  return NULL;
}

sard_status *sd_quantize_balance(sd_quantize *q, bool equalize) {
  sd_quant_balance *b;
  sd_quant_sites *sites;
  const sd_packed *packed;
  sd_arena *a = q->c->arena;
  SD_TRY(sd_quant_balance_open(a, &q->src, &q->o, &q->units, &b, &sites));
  if (equalize) {
    int rounds;
    SD_TRY(sd_quant_balance_equalize(b, &rounds));
    for (uint32_t i = 0; i < sites->len; i++) q->equalized += sites->at[i].pair;
    sd_cli_detail(q->c, "%u pairs of layers equalized in %d rounds", q->equalized, rounds);
  } else {
    SD_TRY(scale(q, sites));
  }
  SD_TRY(sd_quant_balance_write(b, &packed));
  q->src = packed->src;
  q->units = (sd_quant_units){0};
  return NULL;
}
