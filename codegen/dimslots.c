// Flattens dim expressions into slots, each computed from earlier ones; equal dims share a slot.
#include "codegen/dimslots.h"

#include <string.h>

static uint32_t emit(sd_dimslots *s, uint32_t op, uint32_t a, uint32_t b, int64_t value) {
  for (uint32_t i = 0; i < s->dims.len; i++) { // few hundred slots: a scan is enough
    const sard_art_dim *d = &s->dims.at[i];
    if (d->op == op && d->a == a && d->b == b && d->value == value) return i;
  }
  sd_vec_push(s->arena, &s->dims, ((sard_art_dim){op, a, b, 0, value}));
  return s->dims.len - 1;
}

uint32_t sd_dimslots_const(sd_dimslots *s, int64_t v) { return emit(s, SARD_AD_CONST, 0, 0, v); }

uint32_t sd_dimslots_symbol(sd_dimslots *s, const char *name) {
  for (uint32_t i = 0; i < s->symbols.len; i++)
    if (strcmp(s->symbols.at[i], name) == 0) return i;
  sd_vec_push(s->arena, &s->symbols, name);
  return s->symbols.len - 1;
}

static uint32_t build(sd_dimslots *s, const sd_dimnode *n) {
  static const uint32_t binary[] = {[SD_DIM_FLOORDIV] = SARD_AD_FLOORDIV, [SD_DIM_CEILDIV] = SARD_AD_CEILDIV, [SD_DIM_MOD] = SARD_AD_MOD,
                                    [SD_DIM_MIN] = SARD_AD_MIN, [SD_DIM_MAX] = SARD_AD_MAX};
  switch (n->op) {
  case SD_DIM_CONST: return sd_dimslots_const(s, n->value);
  case SD_DIM_SYM: return emit(s, SARD_AD_SYM, sd_dimslots_symbol(s, n->name), 0, 0);
  case SD_DIM_SUM: {
    uint32_t sum = SARD_ART_NONE;
    for (uint32_t i = 0; i < n->n; i++) {
      uint32_t t = sd_dimslots_get(s, n->args[i]);
      if (n->coef[i] != 1) t = emit(s, SARD_AD_MUL, t, sd_dimslots_const(s, n->coef[i]), 0);
      sum = sum == SARD_ART_NONE ? t : emit(s, SARD_AD_ADD, sum, t, 0);
    }
    if (sum == SARD_ART_NONE) return sd_dimslots_const(s, n->value);
    return n->value ? emit(s, SARD_AD_ADD, sum, sd_dimslots_const(s, n->value), 0) : sum;
  }
  case SD_DIM_PROD: {
    uint32_t p = sd_dimslots_get(s, n->args[0]);
    for (uint32_t i = 1; i < n->n; i++) p = emit(s, SARD_AD_MUL, p, sd_dimslots_get(s, n->args[i]), 0);
    return p;
  }
  case SD_DIM_BCAST: { // max(a, b) * min(1, a, b)
    uint32_t a = sd_dimslots_get(s, n->args[0]), b = sd_dimslots_get(s, n->args[1]);
    uint32_t some = emit(s, SARD_AD_MIN, emit(s, SARD_AD_MIN, a, b, 0), sd_dimslots_const(s, 1), 0);
    return emit(s, SARD_AD_MUL, emit(s, SARD_AD_MAX, a, b, 0), some, 0);
  }
  default: {
    uint32_t r = sd_dimslots_get(s, n->args[0]); // min and max may have several arguments
    for (uint32_t i = 1; i < n->n; i++) r = emit(s, binary[n->op], r, sd_dimslots_get(s, n->args[i]), 0);
    return r;
  }
  }
}

uint32_t sd_dimslots_get(sd_dimslots *s, sd_dim d) {
  if (d >= s->memo_cap) {
    uint32_t cap = d + 256;
    uint32_t *memo = SD_NEW_ARRAY(s->arena, uint32_t, cap);
    if (s->memo) memcpy(memo, s->memo, s->memo_cap * sizeof *memo);
    s->memo = memo, s->memo_cap = cap;
  }
  if (!s->memo[d]) {
    uint32_t slot = build(s, sd_dim_get(s->tab, d));
    s->memo[d] = slot + 1;
  }
  return s->memo[d] - 1;
}
