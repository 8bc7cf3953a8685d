// Evaluates the sizes of an artifact; all arithmetic is checked for overflow.
#include "runtime/dimcode.h"

#include "runtime/base/alloc.h"

// Division that rounds down; false for zero and for the one quotient that overflows.
static bool floor_div(int64_t a, int64_t b, int64_t *out) {
  if (b == 0 || (a == INT64_MIN && b == -1)) return false;
  *out = a / b - (a % b != 0 && (a < 0) != (b < 0));
  return true;
}

static bool ceil_div(int64_t a, int64_t b, int64_t *out) {
  if (b == 0 || (a == INT64_MIN && b == -1)) return false;
  *out = a / b + (a % b != 0 && (a < 0) == (b < 0));
  return true;
}

// The binary operations; a and b are slot values.
static bool apply(uint32_t op, int64_t a, int64_t b, int64_t *out) {
  switch (op) {
  case SARD_AD_ADD: return sd_ck_add_i64(a, b, out);
  case SARD_AD_MUL: return sd_ck_mul_i64(a, b, out);
  case SARD_AD_FLOORDIV: return floor_div(a, b, out);
  case SARD_AD_CEILDIV: return ceil_div(a, b, out);
  case SARD_AD_MOD:
    if (b == 0) return false;
    *out = b == -1 ? 0 : a % b; // C's remainder has the sign of a; ours has that of b
    if (*out && (*out < 0) != (b < 0)) *out += b;
    return true;
  case SARD_AD_MIN: *out = sd_min_i64(a, b); return true;
  case SARD_AD_MAX: *out = sd_max_i64(a, b); return true;
  default: return false;
  }
}

static const char *op_text(uint32_t op) {
  static const char *const names[] = {"const", "sym", "+", "*", "floordiv", "ceildiv", "mod", "min", "max"};
  return op < sizeof names / sizeof *names ? names[op] : "?";
}

bool sd_dimcode_slot(const sd_art *a, uint32_t i, const int64_t *sym, int64_t *io) {
  const sard_art_dim *d = &a->dims[i];
  if (d->op == SARD_AD_CONST) io[i] = d->value;
  else if (d->op == SARD_AD_SYM) io[i] = sym[d->a];
  else return apply(d->op, io[d->a], io[d->b], &io[i]);
  return true;
}

sard_status *sd_dimcode_eval(const sd_art *a, const int64_t *sym, const uint8_t *late, int64_t *out) {
  for (uint32_t i = 0; i < a->n_dims; i++) {
    const sard_art_dim *d = &a->dims[i];
    if (late && late[i]) out[i] = 0;
    else if (!sd_dimcode_slot(a, i, sym, out))
      return SD_ERR(USAGE, "the inputs are too large: a size computed from their dims overflows (%lld %s %lld)",
                    (long long)out[d->a], op_text(d->op), (long long)out[d->b]);
  }
  return NULL;
}

void sd_dimcode_late(const sd_art *a, uint8_t *late) {
  for (uint32_t i = 0; i < a->n_dims; i++) {
    const sard_art_dim *d = &a->dims[i];
    late[i] = d->op == SARD_AD_SYM ? a->syms[d->a].input == SARD_ART_NONE : d->op != SARD_AD_CONST && (late[d->a] || late[d->b]);
  }
}

sard_status *sd_dimcode_static(const sd_art *a, int64_t *out, uint8_t *known) {
  for (uint32_t i = 0; i < a->n_dims; i++) {
    const sard_art_dim *d = &a->dims[i];
    out[i] = 0;
    known[i] = d->op == SARD_AD_CONST || (d->op != SARD_AD_SYM && known[d->a] && known[d->b]);
    if (!known[i]) continue;
    if (d->op == SARD_AD_CONST)
      out[i] = d->value;
    else if (!apply(d->op, out[d->a], out[d->b], &out[i]))
      return SD_ERR(MODEL, "the artifact is damaged: size %u overflows (%lld %s %lld)", i, (long long)out[d->a],
                    op_text(d->op), (long long)out[d->b]);
  }
  return NULL;
}
