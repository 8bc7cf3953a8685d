// Columns: a block computes a strip of neighbouring results; its threads split the steps of the reductions.
#include "codegen/cuda/print.h"

#include "runtime/base/alloc.h"

static const sd_axis *along(const sd_cuda_nest *n) { return n->axes[n->n_rows - 1]; }

static sd_dim strips(sd_print *P, const sd_cuda_nest *n) { // also what is computed without lanes needs blocks
  return sd_dim_ceildiv(P->k->dims, n->plain_axis->extent, sd_dim_const(P->k->dims, n->strip * n->vec));
}

sd_dim sd_print_column_blocks(sd_print *P, const sd_cuda_nest *n) {
  return sd_dim_mul(P->k->dims, sd_print_product(P, n->axes, n->n_rows - 1), strips(P, n));
}

// The steps of this thread, with all of its results; then all parts together.
static void reduce(sd_print *P, const sd_cuda_nest *n, const sd_expr *e) {
  const sd_axis *const *axes = (const sd_axis *const *)e->axes;
  const char *acc = sd_print_fresh(P, "r"), *type = sd_print_ctype(e->dtype);
  const char *one = sd_print_text(P, n->many ? "%s[u * %d + i]" : "%s[i]", acc, n->vec);
  sd_print_line(P, "%s %s[%d];", type, acc, sd_print_many(P, n) * n->vec);
  sd_print_open_many(P, n);
  sd_print_lane_open(P);
  sd_print_line(P, "%s = %s;", one, sd_print_identity(P, e));
  sd_print_close(P);
  sd_print_close_many(P, n);
  sd_print_steps loop =
      sd_print_open_steps(P, sd_print_product(P, axes, e->n_axes),
                          sd_print_text(P, "threadIdx.x / %d", n->strip), P->plan->threads / n->strip, 8);
  sd_print_bind_digits(P, axes, e->n_axes, loop.index, loop.small);
  sd_print_lane_inputs(P, e->a[0]); // what serves all of `many`
  sd_print_open_many(P, n);
  sd_print_lane_inputs(P, e->a[0]);
  sd_print_lane_open(P);
  const char *next = sd_print_accumulate(P, e, e->a[0], one);
  sd_print_line(P, "%s = %s;", one, next);
  sd_print_close(P);
  sd_print_close_many(P, n);
  sd_print_unbind(P, axes, e->n_axes);
  sd_print_close_steps(P, loop);
  sd_print_open_many(P, n);
  sd_print_line(P, "sd_column_reduce<%s, %d, %d, %d, %s>(%s%s, exchange);", sd_print_group_op(e),
                P->plan->threads, n->strip, n->vec, type, acc,
                n->many ? sd_print_text(P, " + u * %d", n->vec) : "");
  sd_print_close_many(P, n);
  sd_print_hold(P, e, one);
}

static void stores(sd_print *P, const sd_cuda_nest *n, const char *inside) {
  const sd_axis *const *columns = n->axes + n->n_rows;
  bool small;
  if (n->n_columns) {
    const char *count = sd_print_count(P, columns, n->n_columns, &small);
    sd_print_open(P, "if (%s)", inside);
    const char *q = sd_print_range(P, sd_print_text(P, "threadIdx.x / %d", n->strip), count,
                                   sd_print_text(P, "%d", P->plan->threads / n->strip), small);
    sd_print_bind_digits(P, columns, n->n_columns, q, small);
  } else {
    sd_print_open(P, "if (%s && threadIdx.x < %d)", inside, n->strip);
  }
  sd_print_open_many(P, n);
  sd_print_lane_stores(P);
  sd_print_close_many(P, n);
  sd_print_unbind(P, columns, n->n_columns);
  if (n->n_columns) sd_print_close(P);
  sd_print_close(P);
}

// What the stores load besides (bias, residual) is under way while the reductions are made.
static void early_inputs(sd_print *P) {
  P->no_reductions = true;
  for (uint32_t i = 0; i < P->nest->stores.len; i++) sd_print_lane_inputs(P, P->nest->stores.at[i].value);
  P->no_reductions = false;
}

static void strip_of(sd_print *P, const sd_cuda_nest *n) {
  const sd_axis *a = along(n);
  sd_dim last = sd_dim_sub(P->k->dims, a->extent, sd_dim_const(P->k->dims, 1)),
         tiles = sd_print_column_blocks(P, n);
  int64_t v;
  bool small =
      sd_dim_is_const(P->k->dims, tiles, &v) && v <= INT32_MAX / n->strip &&
      sd_dim_is_const(P->k->dims, sd_dim_mul(P->k->dims, a->extent, sd_dim_const(P->k->dims, 2)), &v) &&
      v <= INT32_MAX;
  const char *t = sd_print_index_type(small), *across = sd_print_dim(P, strips(P, n));
  sd_print_open(P, "for (%s tile = blockIdx.x; tile < (%s)%s; tile += gridDim.x)", t, t,
                sd_print_dim(P, tiles));
  sd_print_line(P, "const %s above = tile / (%s)%s;", t, t, across);
  sd_print_line(P, "const %s at = (tile - above * (%s)%s) * %d + threadIdx.x %% %d;", t, t, across, n->strip,
                n->strip);
  sd_print_line(P, "const bool inside = at < (%s)%s;", t,
                sd_print_dim(P, a->extent)); // others help: all come to the barriers
  sd_print_bind_digits(P, n->axes, n->n_rows - 1, "above", small);
  sd_print_bind_digits(P, &a, 1, sd_print_text(P, "inside ? at : (%s)%s", t, sd_print_dim(P, last)), small);
  sd_print_with_lanes(P, n->lane);
  if (!n->n_columns) early_inputs(P);
  sd_print_phases(P, n, reduce);
  stores(P, n, "inside");
  sd_print_without_lanes(P);
  sd_print_unbind(P, n->axes, n->n_rows);
  sd_print_close(P);
}

void sd_print_columns(sd_print *P, const sd_cuda_nest *n) {
  int threads = P->plan->threads;
  sd_print_line(P, "SD_SHARED(u64, exchange, %d);", threads / SD_CUDA_WARP * n->strip * n->vec);
  if (n->n_tests) sd_print_open(P, "if (%s)", sd_print_lane_test(P, n));
  strip_of(P, n);
  if (!n->n_tests) return;
  sd_print_close(P);
  sd_print_open(P, "else");
  sd_print_line(P, "const unsigned first = blockIdx.x * %d + threadIdx.x;", threads);
  sd_print_plain_points(P, n, "first", sd_print_text(P, "gridDim.x * %d", threads));
  sd_print_close(P);
}
