// Products with few outputs (the last layers of networks for images, heads): vectors of outputs would be
// mostly empty. Lanes are then steps of the sum, inputs side by side, which are added up at its end.
//
//   y[row, out] = sum(window, in: x[row + window, in] * w[out, window, in])    in: lanes;  row, out: the
//   register tile
#include "codegen/choose_nest.h"
#include "codegen/dot.h"
#include "runtime/base/alloc.h"

#define ADD_UP    9    // operations that add the lanes of a sum up
#define GAIN      1.25 // of the estimates, so that the other way gains
#define CHAINS    8    // sums that begin before the first one is there
#define MOST_ROWS 7    // of a single output: further apart than the sets of the first cache may be

// What is known of a sum: the axis whose steps are lanes, and the constant that is to be packed so that they
// lie side by side.
typedef struct few {
  sd_axis *a;
  const sd_access *pack; // NULL: none has to be
  bool shared;           // something does not move with the axis `j`
} few;

static bool read_sum(sd_choice *c, const sd_expr *r, int j, few *f) {
  sd_pack p;
  *f = (few){.a = r->axes[r->n_axes - 1]};
  if (r->rop != SD_R_SUM || r->dtype != SD_F32 || r->a[0]->op != SD_X_MUL || c->reductions.len != 1)
    return false;
  if (f->a->limit || !sd_choose_known(c, f->a) || sd_dot_parts(c->k, r) > 1) return false;
  for (uint32_t l = 0; l < c->loads.len; l++) {
    const sd_access *x = &c->loads.at[l];
    if (x->reduce != r) continue;
    if (x->load->buf->dtype != SD_F32) return false;
    f->shared |= !sd_x_uses_axis(x->load, c->n->axes[j]);
    if (sd_access_stride(c->k, x->load->a[0], f->a) == SD_STRIDE_ONE) continue;
    if (f->pack || c->n->n_axes >= SD_MAX_AXES || !sd_choose_loaded_once(c, x->load->buf)) return false;
    if (!sd_choose_pack_plan(c, x, (uint32_t)j, 1, &p)) return false;
    f->pack = x;
  }
  return true;
}

static bool count_op(void *user, const sd_expr *e) {
  if (e->op == SD_X_REDUCE || e->op == SD_X_LOAD) return false;
  *(int *)user += e->dtype != SD_I64;
  return true;
}

// Operations of a result behind its sum: these are scalar where lanes are steps.
static int behind(const sd_choice *c) {
  int n = 0;
  for (uint32_t i = 0; i < c->n->stores.len; i++) sd_x_walk(c->k, c->n->stores.at[i].value, count_op, &n);
  return n;
}

// Operations of a row: of vectors of steps against those of vectors of outputs.
static bool gains(const sd_choice *c, const sd_expr *r, const few *f, int64_t outputs) {
  double steps = sd_access_steps(c->k->dims, r), of_axis = (double)sd_choose_guess(c, f->a), more = behind(c);
  double vectors = steps / of_axis * (double)sd_ceil_div((int64_t)of_axis, c->lanes);
  return GAIN * (double)outputs * (vectors + ADD_UP + more) <
         (double)sd_ceil_div(outputs, c->lanes) * (steps + more);
}

// The outputs are one: j are rows, which read the same weights. Were these rows constants, they would be
// packed to vectors.
static bool single(const sd_choice *c, const sd_expr *r, int j) {
  for (uint32_t l = 0; l < c->loads.len; l++) {
    const sd_access *x = &c->loads.at[l];
    if (x->reduce != r || !sd_x_uses_axis(x->load, c->n->axes[j])) continue;
    if (x->load->buf->invariant || sd_access_stride(c->k, x->load->a[0], c->n->axes[j]) == SD_STRIDE_ONE)
      return false;
  }
  return true;
}

sard_status *sd_choose_few(sd_choice *c, const sd_expr *r, int j, int u, bool *out_done) {
  few f;
  sd_nest *n = c->n;
  bool one = u < 0 && single(c, r, j);
  int64_t outputs = one ? 1 : sd_choose_guess(c, n->axes[j]);
  if ((u < 0 && !one) || (!one && !sd_choose_known(c, n->axes[j]))) return NULL;
  if (!read_sum(c, r, j, &f) || !gains(c, r, &f, outputs) || (one && (f.pack || !f.shared))) return NULL;
  sd_axis *ua = n->axes[one ? j : u];
  if (one && sd_choose_guess(c, ua) < MOST_ROWS) return NULL; // a row alone has several sums of its own
  double flops = 2 * sd_choose_points(c) * sd_choose_reduce_work(c);
  sd_register_tile t = sd_choose_rows(c, ua, outputs, one ? MOST_ROWS : SD_LARGEST_ROWS);
  f.a->vec =
      (int32_t)sd_min_i64(sd_ceil_div(CHAINS, t.mr * t.nv), sd_ceil_div(sd_choose_guess(c, f.a), c->lanes));
  if (f.pack) SD_TRY(sd_choose_pack(c, f.pack, (uint32_t)j, 1));
  if (!one) n->axes[j]->unroll = t.nv; // of the outer part where it was packed
  ua->unroll = t.mr;
  *out_done = true;
  if (c->grid) sd_choose_grid_outer(c, sd_min_i64((int64_t)(flops / SD_TILE_FLOPS), SD_MAX_TILES));
  return NULL;
}
