// The form of sums over constants of 2 and 4 bits, see words.h.
#include "codegen/words.h"

#include "codegen/blocks.h"
#include "codegen/dot.h"
#include "runtime/base/alloc.h"

static int64_t per_word(sd_dtype t) {
  int bits = sd_dtype_bits(t);
  return sd_dtype_is_int(t) && (bits == 2 || bits == 4) ? 32 / bits : 1;
}

int64_t sd_words_side(sd_kernel *k, const sd_expr *r, const sd_expr *load) {
  if (!r || load->op != SD_X_LOAD) return 1;
  sd_blocks b;
  bool blocks = sd_blocks_is(k, r, &b) && b.w == load;
  int64_t per = blocks ? 32 / b.bits : per_word(load->buf->dtype);
  const sd_axis *side = r->axes[r->n_axes - 1];
  sd_dim d;
  bool apart = per > 1 && r->n_axes > 1 && side->unroll == 0 && sd_dim_is(k->dims, side->extent, per) && !side->limit;
  return apart && sd_x_coef(k, load->a[0], side, &d) && !sd_dim_is(k->dims, d, 0) ? per : 1;
}

static sd_expr *masked(sd_kernel *k, sd_expr *word, sd_expr *at, int bits) {
  return sd_x_bin(k, SD_X_AND, sd_x_bin(k, SD_X_SHR, word, sd_x_cast(k, SD_I32, at)), sd_x_i(k, SD_I32, (1 << bits) - 1));
}

sd_expr *sd_words_slice(sd_kernel *k, sd_expr *word, sd_axis *side, int bits) {
  sd_expr *s = sd_x_axis(k, side), *four = sd_x_i(k, SD_I64, 4);
  sd_expr *byte = sd_x_mul_dim(k, sd_x_bin(k, SD_X_MOD, s, four), sd_dim_const(k->dims, 8));
  return masked(k, word, sd_x_bin(k, SD_X_ADD, byte, sd_x_mul_dim(k, sd_x_bin(k, SD_X_FLOORDIV, s, four), sd_dim_const(k->dims, bits))), bits);
}

sd_expr *sd_words_element(sd_kernel *k, const sd_expr *load, sd_expr *offset, sd_axis *side, bool sliced) {
  sd_dtype t = load->buf->dtype, compute = load->dtype;
  int bits = sd_dtype_bits(t);
  load->buf->dtype = SD_I32;
  sd_expr *word = sd_x_load(k, load->buf, offset, NULL), *at = sd_x_mul_dim(k, sd_x_axis(k, side), sd_dim_const(k->dims, bits));
  if (sliced) return sd_x_cast(k, compute, sd_words_slice(k, word, side, bits));
  if (sd_dtype_kind_of(t) != SD_DK_I) return sd_x_cast(k, compute, masked(k, word, at, bits));
  at = sd_x_cast(k, SD_I32, at);
  sd_expr *left = sd_x_bin(k, SD_X_SUB, sd_x_i(k, SD_I32, 32 - bits), at); // the sign goes to the top
  return sd_x_cast(k, compute, sd_x_bin(k, SD_X_SHR, sd_x_bin(k, SD_X_SHL, word, left), sd_x_i(k, SD_I32, 32 - bits)));
}

// ---- choosing ----

// Steps of a word that r reads along its last axis, 1: none.
static int64_t steps_of(sd_choice *c, const sd_expr *r) {
  const sd_axis *k = r->axes[r->n_axes - 1];
  int64_t steps, per = 1;
  if (r->dtype != SD_F32 || k->limit || !sd_dim_is_const(c->k->dims, k->extent, &steps)) return 1;
  for (uint32_t l = 0; l < c->loads.len; l++) {
    const sd_access *x = &c->loads.at[l];
    int64_t n = x->reduce == r ? per_word(x->load->buf->dtype) : 1;
    sd_pack p;
    if (n == 1 || steps <= n || steps % n || !sd_x_uses_axis(x->load, c->n->axes[c->vaxis]) || !sd_x_uses_axis(x->load, k)) continue;
    if (per > 1 || !sd_choose_loaded_once(c, x->load->buf) || !sd_choose_pack_plan(c, x, (uint32_t)c->vaxis, c->lanes, &p)) return 1;
    per = n;
  }
  return per;
}

sard_status *sd_words_choose(sd_choice *c) {
  if (c->vaxis < 0 || !c->packs || !sd_dot_take_apart(c, steps_of)) return NULL;
  sd_dot_registers(c, c->isa->registers - SD_DOT_SPARE);
  sd_choose_collect(c);
  return NULL;
}
