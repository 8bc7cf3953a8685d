// Nests: points, rows, and loops in order, over all blocks of a launch or over the threads of one.
#include "codegen/cuda/print.h"

#include "runtime/base/alloc.h"

void sd_print_stores(sd_print *P) {
  for (uint32_t i = 0; i < P->nest->stores.len; i++) sd_print_store(P, &P->nest->stores.at[i]);
}

static void reductions(sd_print *P) {
  for (uint32_t i = 0; i < P->nest->stores.len; i++) {
    const sd_store *s = &P->nest->stores.at[i];
    if (s->guard) sd_print_reductions(P, s->guard);
    sd_print_reductions(P, s->offset);
    sd_print_reductions(P, s->value);
  }
}

// "for (q = first; q < count; q += step)"
static const char *open_range(sd_print *P, const char *first, const char *count, const char *step,
                              bool small) {
  const char *q = sd_print_fresh(P, "q"), *type = sd_print_index_type(small);
  sd_print_open(P, "for (%s %s = %s; %s < (%s)%s; %s += %s)", type, q, first, q, type, count, q, step);
  return q;
}

// The stores of all points of these axes, point q to thread q of the range.
static void points(sd_print *P, const sd_axis *const *axes, uint32_t n, const char *first, const char *step) {
  bool small;
  const char *count = sd_print_count(P, axes, n, &small);
  if (n == 0) sd_print_open(P, "if (%s == 0)", first);
  else
    sd_print_bind_digits(P, axes, n, open_range(P, first, count, step, small), small);
  const char *limits = sd_print_limits(P, axes, n);
  if (limits) sd_print_open(P, "if (%s)", limits);
  sd_print_stores(P);
  if (limits) sd_print_close(P);
  sd_print_unbind(P, axes, n);
  sd_print_close(P);
}

static void rows(sd_print *P, const sd_cuda_nest *n, const char *first, const char *step) {
  bool small, columns_small;
  int64_t columns;
  const char *count = sd_print_count(P, n->axes, n->n_rows, &small);
  const sd_axis *const *rest = n->axes + n->n_rows;
  uint32_t n_rest = n->nest->n_axes - n->n_rows;
  const char *wide = sd_print_count(P, rest, n_rest, &columns_small);
  bool some = sd_dim_is_const(P->k->dims, sd_print_product(P, rest, n_rest), &columns) && columns > 0;
  if (!some) sd_print_open(P, "if (%s > 0)", wide); // of rows without points nothing may be read
  sd_print_bind_digits(P, n->axes, n->n_rows, open_range(P, first, count, step, small), small);
  const char *limits = sd_print_limits(P, n->axes, n->n_rows);
  if (limits) sd_print_open(P, "if (%s)", limits);
  P->group = n->group;
  reductions(P);
  P->group = 0;
  points(P, rest, n_rest, "lane", sd_print_text(P, "%d", n->group));
  if (limits) sd_print_close(P);
  sd_print_unbind(P, n->axes, n->n_rows);
  sd_print_close(P);
  if (!some) sd_print_close(P);
}

static void serial(sd_print *P, const sd_nest *n) {
  sd_print_open(P, "if (threadIdx.x == 0)");
  for (uint32_t i = 0; i < n->n_axes; i++) sd_print_loop(P, n->axes[i]);
  sd_print_stores(P);
  for (uint32_t i = n->n_axes; i-- > 0;) sd_print_loop_end(P, n->axes[i]);
  sd_print_close(P);
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
    sd_print_tiles(P, n);
    break;
  case SD_CUDA_ROWS:
    if (n->group == threads) {
      sd_print_line(P, "const unsigned lane = threadIdx.x;");
      rows(P, n, "blockIdx.x", "gridDim.x");
    } else {
      int groups = threads / n->group;
      sd_print_line(P, "const unsigned lane = threadIdx.x %% %d;", n->group);
      rows(P, n, sd_print_text(P, "blockIdx.x * %d + threadIdx.x / %d", groups, n->group),
           sd_print_text(P, "gridDim.x * %d", groups));
    }
    break;
  default:
    sd_print_line(P, "const unsigned first = blockIdx.x * %d + threadIdx.x;", threads);
    points(P, n->axes, n->nest->n_axes, "first", sd_print_text(P, "gridDim.x * %d", threads));
  }
}

void sd_print_in_block(sd_print *P, const sd_cuda_nest *n) {
  int threads = P->plan->threads;
  begin(P, n);
  sd_print_block(P);
  switch (n->form) {
  case SD_CUDA_SERIAL:
    serial(P, n->nest);
    break;
  case SD_CUDA_ROWS:
    sd_print_line(P, "const unsigned lane = threadIdx.x %% %d;", n->group);
    rows(P, n, sd_print_text(P, "threadIdx.x / %d", n->group), sd_print_text(P, "%d", threads / n->group));
    break;
  default:
    points(P, n->axes, n->nest->n_axes, "threadIdx.x", sd_print_text(P, "%d", threads));
  }
  sd_print_close(P);
  sd_print_line(P, "__syncthreads();");
  P->nest = NULL;
}
