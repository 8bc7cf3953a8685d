// RotaryEmbedding: pairs of a head's elements rotated by the angle of their position.
#include <string.h>

#include "ir/ops.h"
#include "ir/ops/xbuild.h"

typedef struct rotary {
  bool flat;                // [B,S,H*D] instead of [B,H,S,D]
  uint32_t pos, cos, sin;   // operand numbers
  int64_t heads, size, rot; // of a flat operand; rotated elements of a head
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
  int64_t last, half = 0;
  if (!sd_dim_is_const(sd_sh_tab(n), x->dims[x->rank - 1], &last) ||
      !sd_dim_is_const(sd_sh_tab(n), c->dims[c->rank - 1], &half))
    return SD_SH_ERR(n, UNSUPPORTED, "the head size and the last dim of cos_cache must be numbers");
  r->flat = x->rank == 3;
  r->heads = sd_node_int(n, "num_heads", 0);
  r->rot = sd_node_int(n, "rotary_embedding_dim", 0);
  r->interleaved = sd_node_int(n, "interleaved", 0) != 0;
  if (r->flat && r->heads <= 0 && ms) r->heads = r->rot > 0 ? 0 : last / (half > 0 ? 2 * half : 1);
  if (!r->flat) r->heads = 1;
  if (r->heads < 1 || last % r->heads)
    return SD_SH_ERR(n, MODEL, "num_heads is %lld for a last dim of %lld", (long long)r->heads,
                     (long long)last);
  r->size = last / r->heads;
  if (r->rot <= 0) r->rot = r->size;
  if (r->rot > r->size || r->rot % 2 || half != r->rot / 2)
    return SD_SH_ERR(n, MODEL, "%lld elements of a head are rotated, cos_cache is for %lld",
                     (long long)r->rot, (long long)(2 * half));
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
    head = sd_x_mul_dim(b->k, x_bin(b, SD_X_FLOORDIV, d, x_int(b, r.size)), sd_dim_const(b->dims, r.size));
    d = x_bin(b, SD_X_MOD, d, x_int(b, r.size));
  }
  if (r.interleaved) {
    j = x_bin(b, SD_X_FLOORDIV, d, x_int(b, 2));
    first = x_bin(b, SD_X_EQ, x_bin(b, SD_X_MOD, d, x_int(b, 2)), x_int(b, 0));
    partner = x_add(b, x_sel(b, first, x_int(b, 1), x_int(b, -1)), d);
  } else {
    j = x_bin(b, SD_X_MOD, d, x_int(b, r.rot / 2));
    first = x_bin(b, SD_X_LT, d, x_int(b, r.rot / 2));
    partner = x_add(b, x_sel(b, first, x_int(b, r.rot / 2), x_int(b, -r.rot / 2)), d);
  }
  sd_expr *x = sd_tb_load(b, n, 0, idx), *ix[SD_MAX_RANK], *saved = NULL;
  sd_expr *rotated = r.rot < r.size ? x_bin(b, SD_X_LT, d, x_int(b, r.rot)) : NULL;
  if (rotated) sd_tb_guard_begin(b, rotated, &saved);
  memcpy(ix, idx, (size_t)rank * sizeof *ix);
  ix[rank - 1] = head ? x_add(b, head, partner) : partner;
  sd_expr *other = sd_tb_load(b, n, 0, ix);
  sd_expr *c = table_at(b, n, &r, r.cos, idx[0], s, j), *sin = table_at(b, n, &r, r.sin, idx[0], s, j);
  sd_expr *turn = x_mul(b, other, sin);
  sd_expr *y = x_add(b, x_mul(b, x, c), x_sel(b, first, x_un(b, SD_X_NEG, turn), turn));
  return rotated ? sd_tb_guard_end(b, saved, rotated, y, x) : y;
}
