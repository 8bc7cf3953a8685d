// The form of products of bytes in blocks, see blocks.h.
#include "codegen/blocks.h"

#include "codegen/dot.h"
#include "codegen/words.h"

#define REGISTERS_BESIDES 6 // what is neither a sum of integers nor one of f32

static bool still(const sd_expr *e, const sd_expr *r, uint32_t axes) {
  for (uint32_t i = r->n_axes - axes; i < r->n_axes; i++)
    if (sd_x_uses_axis(e, r->axes[i])) return false;
  return true;
}

static const sd_expr *widened(const sd_expr *e) {
  return e->op == SD_X_CAST && e->dtype == SD_F32 ? e->a[0] : NULL;
}

// a * row, in any order.
static bool row_of(const sd_expr *e, sd_blocks *b) {
  if (e->op != SD_X_MUL) return false;
  for (int i = 0; i < 2; i++) {
    const sd_expr *l = widened(e->a[i]);
    if (!l || l->op != SD_X_LOAD || l->buf->dtype != SD_I8 || l->a[1]) continue;
    b->a = l, b->row = e->a[1 - i];
    return true;
  }
  return false;
}

// The weight as it was lowered, or as the steps of a word give it.
static bool weight_of(sd_kernel *k, const sd_expr *e, const sd_expr *r, sd_blocks *b) {
  const sd_expr *q = widened(e), *load = q;
  if (!q) return false;
  if (q->op == SD_X_AND && q->a[0]->op == SD_X_SHR) load = q->a[0]->a[0];
  if (load->op != SD_X_LOAD || load->a[1]) return false;
  b->w = load, b->bits = sd_dtype_bits(load->buf->dtype);
  if (load == q) return sd_dtype_kind_of(load->buf->dtype) == SD_DK_U && b->bits <= 8;
  int64_t steps;
  sd_axis *side = r->axes[r->n_axes - 1];
  if (load->buf->dtype != SD_I32 || !sd_dim_is_const(k->dims, side->extent, &steps) || steps < 4 ||
      32 % steps)
    return false;
  b->bits = (int)(32 / steps);
  return q == sd_words_slice(k, (sd_expr *)load, side, b->bits);
}

bool sd_blocks_is(sd_kernel *k, const sd_expr *r, sd_blocks *b) {
  const sd_expr *body = r && r->op == SD_X_REDUCE ? r->a[0] : NULL;
  if (!body || r->rop != SD_R_SUM || r->dtype != SD_F32 || body->op != SD_X_MUL) return false;
  const sd_expr *m = body->a[body->a[0]->op != SD_X_FMA], *x = body->a[body->a[0]->op == SD_X_FMA];
  if (m->op != SD_X_FMA || !row_of(x, b) || !weight_of(k, m->a[0], r, b)) return false;
  b->scale = m->a[1], b->zero = m->a[2];
  uint32_t inner = r->axes[r->n_axes - 1]->unroll == 0 && r->n_axes > 1 ? 2 : 1;
  sd_dim by;
  if (!still(b->row, r, inner) || !still(b->scale, r, inner) || !still(b->zero, r, inner)) return false;
  return sd_x_coef(k, b->a->a[0], r->axes[r->n_axes - 1], &by) && sd_dim_is(k->dims, by, 1);
}

bool sd_blocks_on(const sd_isa *isa, int bits) {
  return isa->vector_bytes >= 32 && (isa->dot >= 4 || (isa->dot >= 2 && bits <= 4));
}

// Steps of a word, 1: r is no such sum.
static int64_t steps_of(sd_choice *c, const sd_expr *r) {
  const sd_axis *k = r->axes[r->n_axes - 1];
  int64_t steps, per;
  sd_blocks b;
  if (!sd_blocks_is(c->k, r, &b) || b.w->buf->dtype == SD_I32 || k->limit || k->unroll == 0 ||
      !sd_blocks_on(c->isa, b.bits))
    return 1;
  per = 32 / b.bits;
  if (!sd_dim_is_const(c->k->dims, k->extent, &steps) || steps < 2 * per || steps % per) return 1;
  if (sd_x_uses_axis(b.a, c->n->axes[c->vaxis]) || !sd_choose_loaded_once(c, b.w->buf)) return 1;
  for (uint32_t l = 0; l < c->loads.len; l++) {
    sd_pack p;
    if (c->loads.at[l].load == b.w)
      return sd_choose_pack_plan(c, &c->loads.at[l], (uint32_t)c->vaxis, c->lanes, &p) ? per : 1;
  }
  return 1;
}

sard_status *sd_blocks_choose(sd_choice *c) {
  if (c->vaxis < 0 || !c->packs || !sd_dot_take_apart(c, steps_of)) return NULL;
  sd_dot_registers(c, (c->isa->registers - REGISTERS_BESIDES) / 2); // each sum has two registers
  sd_choose_collect(c);
  return NULL;
}
