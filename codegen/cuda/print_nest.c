// Nests: points, rows, and loops in order, over all blocks of a launch or over the threads of one.
#include "codegen/cuda/print.h"

#include "runtime/base/alloc.h"

void sd_print_stores(sd_print *P) {
  for (uint32_t i = 0; i < P->nest->stores.len; i++) sd_print_store(P, &P->nest->stores.at[i]);
}

// "for (q = first; q < count; q += step)"
const char *sd_print_range(sd_print *P, const char *first, const char *count, const char *step, bool small) {
  const char *q = sd_print_fresh(P, "q"), *type = sd_print_index_type(small);
  sd_print_open(P, "for (%s %s = %s; %s < (%s)%s; %s += %s)", type, q, first, q, type, count, q, step);
  return q;
}

// The stores of all points of these axes from `first` on, in steps.
void sd_print_points(sd_print *P, const sd_axis *const *axes, uint32_t n, const char *first, const char *step) {
  bool small;
  const char *count = sd_print_count(P, axes, n, &small);
  if (n == 0) sd_print_open(P, "if (%s == 0)", first);
  else
    sd_print_bind_digits(P, axes, n, sd_print_range(P, first, count, step, small), small);
  const char *limits = sd_print_limits(P, axes, n);
  if (limits) sd_print_open(P, "if (%s)", limits);
  if (P->lane) sd_print_lane_stores(P);
  else
    sd_print_stores(P);
  if (limits) sd_print_close(P);
  sd_print_unbind(P, axes, n);
  sd_print_close(P);
}

void sd_print_with_lanes(sd_print *P, const sd_axis *lane) {
  int64_t n = 1;
  sd_dim_is_const(P->k->dims, lane->extent, &n);
  P->lane = lane, P->lanes = (int)n;
  P->axis[lane->id] = "i";
}

void sd_print_without_lanes(sd_print *P) {
  P->axis[P->lane->id] = NULL;
  P->lane = NULL;
}

// "every size is a multiple"
const char *sd_print_lane_test(sd_print *P, const sd_cuda_nest *n) {
  const char *all = NULL;
  for (uint32_t i = 0; i < n->n_tests; i++) {
    const char *d = sd_print_dim(P, n->tests[i]);
    all = all ? sd_print_text(P, "%s | %s", all, d) : d;
  }
  return sd_print_text(P, "((%s) & %d) == 0", all, n->modulus - 1);
}

// Points without lanes: what an axis of unknown length leaves over, or all of them.
void sd_print_plain_points(sd_print *P, const sd_cuda_nest *n, const char *first, const char *step) {
  const sd_axis *axes[SD_MAX_AXES];
  uint32_t at = 0;
  for (uint32_t i = 0; i < n->plain->n_axes; i++) // neighbouring threads stay at neighbouring elements
    if (n->plain->axes[i] != n->plain_axis) axes[at++] = n->plain->axes[i];
  axes[at] = n->plain_axis;
  P->nest = n->plain;
  sd_print_points(P, axes, n->plain->n_axes, first, step);
}

static void all_points(sd_print *P, const sd_cuda_nest *n, const char *first, const char *step) {
  sd_print_points(P, n->axes, n->nest->n_axes, first, step);
}

// Of the only axis, whose length is not tested: what is no whole vector.
static void left_over(sd_print *P, const sd_cuda_nest *n, const char *first, const char *step) {
  sd_dimtab *t = P->k->dims;
  if (n->nest->n_axes > 1 || sd_dim_multiple_of(t, n->plain_axis->extent, n->vec)) return;
  sd_dim full = sd_dim_mul(t, n->axes[0]->extent, sd_dim_const(t, n->vec));
  sd_print_plain_points(P, n, sd_print_text(P, "%s + %s", sd_print_dim(P, full), first), step);
}

static void lane_points(sd_print *P, const sd_cuda_nest *n, const char *first, const char *step) {
  if (n->n_tests) sd_print_open(P, "if (%s)", sd_print_lane_test(P, n));
  sd_print_with_lanes(P, n->lane);
  sd_print_points(P, n->axes, n->nest->n_axes, first, step);
  sd_print_without_lanes(P);
  left_over(P, n, first, step);
  if (!n->n_tests) return;
  sd_print_close(P);
  sd_print_open(P, "else");
  sd_print_plain_points(P, n, first, step);
  sd_print_close(P);
}

static void serial(sd_print *P, const sd_cuda_nest *n) {
  bool small;
  int threads = P->plan->threads;
  if (n->n_rows) {
    const char *count = sd_print_count(P, n->axes, n->n_rows, &small);
    sd_print_bind_digits(P, n->axes, n->n_rows, sd_print_range(P, "threadIdx.x", count, sd_print_text(P, "%d", threads), small), small);
  } else if (!n->owned) {
    sd_print_open(P, "if (threadIdx.x == 0)");
  }
  for (uint32_t i = n->n_rows; i < n->nest->n_axes; i++) sd_print_loop(P, n->axes[i]);
  if (n->owned) // every thread comes to all of them
    sd_print_open(P, "if ((u64)%s %% %d == threadIdx.x)", sd_print_value(P, n->nest->stores.at[0].offset), threads);
  sd_print_stores(P);
  if (n->owned) sd_print_close(P);
  for (uint32_t i = n->nest->n_axes; i-- > n->n_rows;) sd_print_loop_end(P, n->axes[i]);
  if (n->n_rows) sd_print_unbind(P, n->axes, n->n_rows);
  if (!n->owned) sd_print_close(P);
}

static void begin(sd_print *P, const sd_cuda_nest *n) {
  P->nest = n->nest;
  P->nest_stamp++;
}

void sd_print_whole(sd_print *P, const sd_cuda_nest *n) {
  int threads = P->plan->threads;
  begin(P, n);
  switch (n->form) {
  case SD_CUDA_TILES:
    if (n->product) sd_print_product_tiles(P, n);
    else
      sd_print_tiles(P, n);
    break;
  case SD_CUDA_COLUMNS:
    sd_print_columns(P, n);
    break;
  case SD_CUDA_TURNED:
    sd_print_turned(P, n);
    break;
  case SD_CUDA_ROWS:
    if (n->group == threads) {
      sd_print_line(P, "const unsigned lane = threadIdx.x;");
      sd_print_rows(P, n, "blockIdx.x", "gridDim.x");
    } else {
      int groups = threads / n->group, warp = n->group < SD_CUDA_WARP ? SD_CUDA_WARP / n->group : 1; // rows of a warp
      const char *first = sd_print_text(P, "blockIdx.x * %d + threadIdx.x / %d", groups, n->group * warp);
      if (warp > 1) first = sd_print_text(P, "%s * %d", first, warp);
      sd_print_line(P, "const unsigned lane = threadIdx.x %% %d;", n->group);
      sd_print_rows(P, n, first, sd_print_text(P, "gridDim.x * %d", groups));
    }
    break;
  default:
    sd_print_line(P, "const unsigned first = blockIdx.x * %d + threadIdx.x;", threads);
    (n->vec ? lane_points : all_points)(P, n, "first", sd_print_text(P, "gridDim.x * %d", threads));
  }
}

void sd_print_in_block(sd_print *P, const sd_cuda_nest *n) {
  int threads = P->plan->threads;
  begin(P, n);
  sd_print_block(P);
  switch (n->form) {
  case SD_CUDA_SERIAL:
    serial(P, n);
    break;
  case SD_CUDA_ROWS:
    sd_print_line(P, "const unsigned lane = threadIdx.x %% %d;", n->group);
    sd_print_rows(P, n, sd_print_text(P, "threadIdx.x / %d", n->group), sd_print_text(P, "%d", threads / n->group));
    break;
  default:
    sd_print_points(P, n->axes, n->nest->n_axes, "threadIdx.x", sd_print_text(P, "%d", threads));
  }
  sd_print_close(P);
  sd_print_line(P, "__syncthreads();");
  P->nest = NULL;
}
