// Factors of products that are kept without their zeros (ir/two_of_four.h): found by the expression that unpacks them.
#include "codegen/choose_cuda_nest.h"

#include "ir/two_of_four.h"

// The only load of a word below a condition.
static bool enter_word(void *user, const sd_expr *x) {
  if (x->op == SD_X_LOAD && x->buf->dtype == SD_U16) *(sd_expr **)user = (sd_expr *)x;
  return true;
}

// The flat step of the sum as an affine expression: its axes by what lies inside of each, in units of `per` steps, the last one by
// `times` its quotient. *row: what else an offset has. False: it moves in another way.
static bool split_flat(sd_kernel *k, const sd_expr *sum, const sd_expr *offset, int64_t per, int64_t times, sd_expr **row) {
  const sd_axis *last = sum->axes[sum->n_axes - 1];
  sd_expr *quotient = sd_x_bin(k, SD_X_FLOORDIV, sd_x_axis(k, (sd_axis *)last), sd_x_i(k, SD_I64, per * times));
  sd_dim inside = sd_dim_floordiv(k->dims, last->extent, sd_dim_const(k->dims, per));
  sd_expr *flat = sd_x_mul_dim(k, quotient, sd_dim_const(k->dims, times));
  for (uint32_t i = sum->n_axes - 1; i-- > 0;) {
    flat = sd_x_bin(k, SD_X_ADD, flat, sd_x_mul_dim(k, sd_x_axis(k, sum->axes[i]), inside));
    inside = sd_dim_mul(k->dims, inside, sum->axes[i]->extent);
    if (inside == SD_DIM_NONE) return false;
  }
  *row = sd_x_bin(k, SD_X_SUB, (sd_expr *)offset, flat);
  return !sd_access_uses_any(*row, (const sd_axis *const *)sum->axes, sum->n_axes);
}

// The two loads and the word of an unpacked factor; false: it is none.
static bool unpacked(sd_kernel *k, const sd_expr *sum, const sd_expr *factor, sd_expr **first, sd_expr **word) {
  const sd_expr *other = factor->op == SD_X_SEL ? factor->a[2] : NULL;
  if (!other || other->op != SD_X_SEL || factor->a[1]->op != SD_X_LOAD || other->a[1]->op != SD_X_LOAD) return false;
  *first = factor->a[1], *word = NULL;
  sd_x_walk(k, factor->a[0], enter_word, word);
  if (!*word || (*word)->a[1] || (*first)->a[1] || other->a[1]->buf != (*first)->buf) return false;
  sd_expr *at = sd_x_axis(k, sum->axes[sum->n_axes - 1]);
  if (sd_x_bin(k, SD_X_ADD, (*first)->a[0], sd_x_i(k, SD_I64, 1)) != other->a[1]->a[0]) return false;
  return sd_x_two_of_four(k, at, *word, *first, other->a[1]) == factor; // equal expressions are one
}

bool sd_cuda_two_of_four(const sd_cuda_choice *c, const sd_expr *factor, sd_cuda_places *out) {
  sd_kernel *k = c->k;
  const sd_expr *sum = c->out->sum;
  sd_expr *first, *word, *row, *places;
  int64_t steps;
  if (!unpacked(k, sum, factor, &first, &word)) return false;
  if (!sd_dim_is_const(k->dims, sum->axes[sum->n_axes - 1]->extent, &steps) || steps % SD_PLACES_STEPS) return false;
  if (!split_flat(k, sum, first->a[0], 2, 2, &row) || !split_flat(k, sum, word->a[0], SD_PLACES_STEPS, 1, &places)) return false;
  sd_dim all = sd_dim_const(k->dims, 1);
  for (uint32_t i = 0; i < sum->n_axes && all != SD_DIM_NONE; i++) all = sd_dim_mul(k->dims, all, sum->axes[i]->extent);
  if (all == SD_DIM_NONE) return false;
  sd_axis *kept = sd_kernel_axis(k, "kept", sd_dim_floordiv(k->dims, all, sd_dim_const(k->dims, 2)));
  *out = (sd_cuda_places){.buf = word->buf, .row = places, .kept = kept};
  out->value = sd_x_load(k, first->buf, sd_x_bin(k, SD_X_ADD, row, sd_x_axis(k, kept)), NULL);
  return out->value != NULL;
}
