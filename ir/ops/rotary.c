// RotaryEmbedding: pairs of a head's elements rotated by the angle of their position.
#include <string.h>

#include "ir/ops.h"
#include "ir/ops/xbuild.h"

typedef struct rotary {
  bool flat;                // [B,S,H*D] instead of [B,H,S,D]
  uint32_t pos, cos, sin;   // operand numbers
  sd_dim size, rot;         // of a head; what is rotated of it
  bool interleaved;
} rotary;

// The tables have one form, and rows for all positions: [B,S,half] without position_ids, else one row a
// position.
static sard_status *rotary_tables(const sd_node *n, const rotary *r) {
  const sd_value *x = n->in[0], *c = n->in[r->cos], *s = n->in[r->sin], *pos = sd_sh_in(n, r->pos);
  for (int i = 0; i < c->rank; i++)
    SD_TRY(sd_sh_same(n, c->dims[i], s->dims[i], "cos_cache and sin_cache", NULL));
  const sd_value *rows = pos ? pos : c;
  if (rows->rank < 2) return NULL;
  SD_TRY(sd_sh_same(n, rows->dims[1], x->dims[r->flat ? 1 : 2], "positions and the sequence", NULL));
  if (pos && sd_dim_is(sd_sh_tab(n), pos->dims[0], 1)) return NULL;
  return sd_sh_same(n, rows->dims[0], x->dims[0], "positions and the batch", NULL);
}

static sard_status *rotary_read(const sd_node *n, rotary *r) {
  bool ms = !strncmp(n->op->name, "com.", 4);
  *r = (rotary){.pos = ms ? 1 : 3, .cos = ms ? 2 : 1, .sin = ms ? 3 : 2};
  SD_TRY(sd_sh_rank(n, 0, 3, 4));
  SD_TRY(sd_sh_rank(n, r->cos, 2, 3));
  SD_TRY(sd_sh_rank(n, r->sin, n->in[r->cos]->rank, n->in[r->cos]->rank));
  const sd_value *x = n->in[0], *c = n->in[r->cos];
  sd_dimtab *t = sd_sh_tab(n);
  sd_dim last = x->dims[x->rank - 1], half = c->dims[c->rank - 1], two = sd_dim_const(t, 2);
  int64_t rot = sd_node_int(n, "rotary_embedding_dim", 0), size, half_size, heads = sd_node_int(n, "num_heads", 0);
  r->flat = x->rank == 3;
  r->interleaved = sd_node_int(n, "interleaved", 0) != 0;
  if (r->flat && heads <= 0 && ms && rot <= 0 && sd_dim_is_const(t, last, &size) && sd_dim_is_const(t, half, &half_size))
    heads = size / (half_size > 0 ? 2 * half_size : 1);
  if (!r->flat) heads = 1;
  if (heads < 1 || (sd_dim_is_const(t, last, &size) && size % heads))
    return SD_SH_ERR(n, MODEL, "num_heads is %lld for a last dim of %s", (long long)heads, sd_dim_text(t, last, n->graph->module->arena));
  r->size = sd_dim_floordiv(t, last, sd_dim_const(t, heads));
  r->rot = rot > 0 ? sd_dim_const(t, rot) : r->size;
  if (sd_dim_lt(t, r->size, r->rot) == 1 || rot % 2 || sd_dim_eq(t, r->rot, sd_dim_mul(t, half, two)) == 0)
    return SD_SH_ERR(n, MODEL, "%s elements of a head are rotated, cos_cache is for %s", sd_dim_text(t, r->rot, n->graph->module->arena),
                     sd_dim_text(t, sd_dim_mul(t, half, two), n->graph->module->arena));
  if (heads > 1) SD_TRY(sd_sh_same(n, sd_dim_mul(t, r->size, sd_dim_const(t, heads)), last, "heads and the last dim", NULL));
  SD_TRY(sd_sh_same(n, r->rot, sd_dim_mul(t, half, two), "rotated elements and cos_cache", NULL));
  if (sd_sh_in(n, r->pos)) SD_TRY(sd_sh_rank(n, r->pos, 0, 2));
  if (!sd_sh_in(n, r->pos) != (c->rank == 3))
    return SD_SH_ERR(n, MODEL, "cos_cache has rank %d, which does not fit %s position_ids", c->rank,
                     sd_sh_in(n, r->pos) ? "given" : "missing");
  return rotary_tables(n, r);
}

sard_status *sd_shape_rotary(sd_node *n) {
  rotary r;
  SD_TRY(rotary_read(n, &r));
  return sd_sh_like(n, 0, 0);
}

// Element j of the table row for batch entry `b` and row `s`.
static sd_expr *table_at(sd_tb *b, const sd_node *n, const rotary *r, uint32_t operand, sd_expr *batch,
                         sd_expr *s, sd_expr *j) {
  const sd_value *pos = sd_tb_has(n, r->pos) ? n->in[r->pos] : NULL;
  if (!pos) return sd_tb_load(b, n, operand, (sd_expr *[]){batch, s, j});
  sd_expr *p;
  if (pos->rank == 2)
    p = x_load_over(b, n, r->pos, (sd_expr *[]){batch, s}, 2, (sd_dim[]){n->in[0]->dims[0], pos->dims[1]});
  else
    p = x_add(b, sd_tb_load(b, n, r->pos, (sd_expr *[]){x_int(b, 0)}), s); // one offset for all
  if (!p) return NULL;
  p = sd_x_index(b->k, x_cast(b, SD_I64, p), n->in[operand]->dims[0]);
  return sd_tb_load(b, n, operand, (sd_expr *[]){p, j});
}

sd_expr *sd_pull_rotary(sd_tb *b, const sd_node *n, uint32_t out, sd_expr *const *idx) {
  (void)out;
  rotary r;
  sard_status *st = rotary_read(n, &r);
  if (st) return sd_tb_fail(b, st);
  int rank = n->in[0]->rank;
  sd_expr *s = idx[rank - 2], *d = idx[rank - 1], *head = NULL, *j, *partner, *first;
  if (r.flat) {
    s = idx[1];
    head = sd_x_mul_dim(b->k, x_bin(b, SD_X_FLOORDIV, d, x_dim(b, r.size)), r.size);
    d = x_bin(b, SD_X_MOD, d, x_dim(b, r.size));
  }
  if (r.interleaved) {
    j = x_bin(b, SD_X_FLOORDIV, d, x_int(b, 2));
    first = x_bin(b, SD_X_EQ, x_bin(b, SD_X_MOD, d, x_int(b, 2)), x_int(b, 0));
    partner = x_add(b, x_sel(b, first, x_int(b, 1), x_int(b, -1)), d);
  } else {
    sd_dim half = sd_dim_floordiv(b->dims, r.rot, sd_dim_const(b->dims, 2));
    j = x_bin(b, SD_X_MOD, d, x_dim(b, half));
    first = x_bin(b, SD_X_LT, d, x_dim(b, half));
    partner = x_add(b, x_sel(b, first, x_dim(b, half), x_dim(b, sd_dim_sub(b->dims, sd_dim_const(b->dims, 0), half))), d);
  }
  sd_expr *x = sd_tb_load(b, n, 0, idx), *ix[SD_MAX_RANK], *saved = NULL;
  sd_expr *rotated = r.rot != r.size && sd_dim_eq(b->dims, r.rot, r.size) != 1 ? x_bin(b, SD_X_LT, d, x_dim(b, r.rot)) : NULL;
  if (rotated) sd_tb_guard_begin(b, rotated, &saved);
  memcpy(ix, idx, (size_t)rank * sizeof *ix);
  ix[rank - 1] = head ? x_add(b, head, partner) : partner;
  sd_expr *other = sd_tb_load(b, n, 0, ix);
  sd_expr *c = table_at(b, n, &r, r.cos, idx[0], s, j), *sin = table_at(b, n, &r, r.sin, idx[0], s, j);
  sd_expr *turn = x_mul(b, other, sin);
  sd_expr *y = x_add(b, x_mul(b, x, c), x_sel(b, first, x_un(b, SD_X_NEG, turn), turn));
  return rotated ? sd_tb_guard_end(b, saved, rotated, y, x) : y;
}
