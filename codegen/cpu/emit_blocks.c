// Sums of products of bytes in blocks (codegen/blocks.h): those of a block in integers, and once for each
// block the scales.
#include "codegen/blocks.h"
#include "codegen/cpu/emit.h"
#include "runtime/base/alloc.h"

enum { MOST_SLICES = 4 };

typedef struct blocks {
  sd_blocks b;
  const sd_axis *turns, *side;
  uint32_t slots, a_slots, w_slots;
  int slices;    // of a word
  uint32_t sums; // sums of a stand behind those of products
} blocks;

static bool fits(sd_emit *E, const sd_expr *r, blocks *x, int64_t *turns) {
  if (!E->lane.axis || r->n_axes < 2 || !sd_blocks_is(E->k, r, &x->b) || x->b.w->buf->dtype != SD_I32 ||
      !sd_blocks_on(E->isa, x->b.bits))
    return false;
  x->turns = r->axes[r->n_axes - 2], x->side = r->axes[r->n_axes - 1];
  if (x->turns->limit || x->side->limit || !sd_dim_is_const(E->k->dims, x->turns->extent, turns) ||
      *turns < 1)
    return false;
  if (!sd_emit_ready(E, x->b.row) || !sd_emit_ready(E, x->b.scale) || !sd_emit_ready(E, x->b.zero))
    return false;
  x->slices = 8 / x->b.bits;
  x->a_slots = sd_emit_info_of(E, x->b.a)->slots, x->w_slots = sd_emit_info_of(E, x->b.w)->slots;
  return !sd_x_uses_axis(x->b.a, E->lane.axis) && sd_x_uses_axis(x->b.w, E->lane.axis) &&
         x->slices <= MOST_SLICES;
}

// The words of w at hand, each as slices of four bytes a lane.
static sd_ll *slices_of(sd_emit *E, const blocks *x) {
  LLVMTypeRef t = LLVMVectorType(E->i32, (unsigned)E->lanes_full);
  sd_ll *all = SD_NEW_ARRAY(E->a, sd_ll, sd_emit_coords(E, x->w_slots) * (uint32_t)x->slices),
        mask = sd_emit_splat_i(t, 0x01010101u * ((1u << x->b.bits) - 1));
  sd_emit_first(E, x->slots);
  do {
    sd_ll *to = all + sd_emit_project(E, x->w_slots) * (uint32_t)x->slices,
          word = sd_emit_load_at(E, x->b.w, 0, t);
    for (int j = 0; j < x->slices; j++) {
      to[j] = j ? LLVMBuildLShr(E->b, word, sd_emit_splat_i(t, x->b.bits * j), "") : word;
      if (x->slices > 1) to[j] = LLVMBuildAnd(E->b, to[j], mask, "");
    }
  } while (sd_emit_next(E, x->w_slots));
  return all;
}

static void turn(sd_emit *E, const blocks *x, sd_ll base, sd_emit_carry *acc) {
  sd_emit_scope_open(E);
  sd_emit_bind_point(E, x->turns, base, 0);
  sd_emit_bind_point(E, x->side, NULL, 0);
  sd_ll *w = slices_of(E, x),
        ones = sd_emit_splat_i(LLVMVectorType(E->i32, (unsigned)E->lanes_full), 0x01010101);
  sd_emit_first(E, x->slots);
  do {
    sd_ll *sum = &acc->v[x->sums + sd_emit_project(E, x->a_slots)], a[MOST_SLICES];
    for (int j = 0; j < x->slices; j++) {
      a[j] = sd_emit_splat(E, sd_emit_load_at(E, x->b.a, 4 * j, E->i32));
      *sum = sd_emit_add_bytes(E, *sum, ones, a[j]);
    }
    do {
      sd_ll *v = &acc->v[sd_emit_project(E, x->slots)],
            *q = w + sd_emit_project(E, x->w_slots) * (uint32_t)x->slices;
      for (int j = 0; j < x->slices; j++) *v = sd_emit_add_bytes(E, *v, q[j], a[j]);
    } while (sd_emit_next(E, x->slots & ~x->a_slots));
  } while (sd_emit_next(E, x->a_slots));
  sd_emit_unbind(E, x->side);
  sd_emit_unbind(E, x->turns);
  sd_emit_scope_close(E);
}

static void scale(sd_emit *E, const blocks *x, const sd_emit_carry *ints, sd_emit_carry *acc) {
  LLVMTypeRef t = sd_emit_vtype(E, E->f32, true);
  sd_emit_first(E, x->slots);
  do {
    uint32_t k = sd_emit_project(E, x->slots);
    sd_ll products = LLVMBuildSIToFP(E->b, ints->v[k], t, ""),
          sum = LLVMBuildSIToFP(E->b, ints->v[x->sums + sd_emit_project(E, x->a_slots)], t, "");
    sd_ll row = sd_emit_value_lanes(E, x->b.row, true);
    sd_ll v = sd_emit_fma(E, products, LLVMBuildFMul(E->b, row, sd_emit_value_lanes(E, x->b.scale, true), ""),
                          acc->v[k]);
    acc->v[k] = sd_emit_fma(E, LLVMBuildFMul(E->b, row, sum, ""), sd_emit_value_lanes(E, x->b.zero, true), v);
  } while (sd_emit_next(E, x->slots));
}

bool sd_emit_blocks(sd_emit *E, const sd_expr *r, uint32_t slots, sd_emit_carry *acc) {
  blocks x = {.slots = slots};
  int64_t turns;
  sd_emit_carry ints;
  sd_emit_loop l;
  sd_emit_panel panel;
  if (!fits(E, r, &x, &turns)) return false;
  x.sums = sd_emit_coords(E, slots);
  sd_emit_carry_init(E, &ints, x.sums + sd_emit_coords(E, x.a_slots));
  for (uint32_t i = 0; i < ints.n; i++)
    ints.v[i] = LLVMConstNull(LLVMVectorType(E->i32, (unsigned)E->lanes_full));
  bool ahead = sd_emit_panel_open(E, r, r->n_axes - 2, &panel);
  sd_emit_loop_open(E, &l, sd_emit_i64(E, 0), sd_emit_i64(E, turns - 1), 1, true, &ints);
  if (ahead) sd_emit_panel_ask(E, &panel, l.iv, 0, panel.lines);
  turn(E, &x, l.iv, &ints);
  sd_emit_loop_close(E, &l);
  scale(E, &x, &ints, acc);
  return true;
}
