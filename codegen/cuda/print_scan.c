// Walks along an axis: a thread has one and keeps what it comes to; or a warp has one, and takes so many positions at once.
#include "codegen/cuda/print.h"

#define SIDE 4 // positions of a thread whose operands are under way at once

// The walk's value, for which `text` stands, to memory.
static void store(sd_print *P, const sd_cuda_scan *s, const char *text) {
  sd_print_keep(P, s->nest->stores.at[0].value, text);
  sd_print_store(P, &s->nest->stores.at[0]);
}

static const char *functor(const sd_cuda_scan *s) { return s->op == SD_R_SUM ? "sd_op_sum" : "sd_op_prod"; }

static void print_column(sd_print *P, const sd_cuda_scan *s, const char *type) {
  sd_dtype t = s->nest->stores.at[0].buf->dtype;
  sd_print_line(P, "%s sum = %s;", type, sd_print_value(P, s->first));
  sd_print_loop(P, s->run);
  const char *x = sd_print_value(P, s->x);
  sd_print_line(P, "sum = %s::of<%s>(sum, %s);", functor(s), type, x);
  // the next one begins with what memory has
  if (sd_dtype_is_float(t) && sd_dtype_bits(t) < 32) sd_print_line(P, "sum = %s;", sd_print_widen(P, t, sd_print_narrow(P, t, "sum")));
  store(P, s, "sum");
  sd_print_loop_end(P, s->run);
}

static void print_row(sd_print *P, const sd_cuda_scan *s, const char *type) {
  const char *index = sd_print_axis_type(P, s->run), *at = sd_print_text(P, "a%u", s->run->id);
  const char *end = sd_print_dim(P, s->run->extent);
  sd_print_line(P, "%s sum = %s;", type, sd_print_value(P, s->first));
  sd_print_open(P, "for (%s base = 0; base < %s; base += %d)", index, end, SIDE * SD_CUDA_WARP);
  sd_print_line(P, "%s parts[%d];", type, SIDE);
  sd_print_line(P, "#pragma unroll");
  sd_print_open(P, "for (int i = 0; i < %d; i++)", SIDE);
  sd_print_line(P, "const %s %s = base + i * %d + (int)threadIdx.x %% %d;", index, at, SD_CUDA_WARP, SD_CUDA_WARP);
  sd_print_line(P, "parts[i] = %s;", sd_print_value(P, s->first));
  sd_print_open(P, "if (%s < %s)", at, end);
  P->axis[s->run->id] = at;
  sd_print_line(P, "parts[i] = %s;", sd_print_value(P, s->x));
  sd_print_close(P);
  sd_print_close(P);
  sd_print_line(P, "#pragma unroll");
  sd_print_open(P, "for (int i = 0; i < %d; i++)", SIDE);
  sd_print_line(P, "const %s %s = base + i * %d + (int)threadIdx.x %% %d;", index, at, SD_CUDA_WARP, SD_CUDA_WARP);
  sd_print_line(P, "const %s here = %s::of<%s>(sum, sd_scan<%s, %s>(parts[i]));", type, functor(s), type, functor(s), type);
  sd_print_open(P, "if (%s < %s)", at, end);
  store(P, s, "here");
  sd_print_close(P);
  sd_print_line(P, "sum = sd_of_lane<%s>(here, %d);", type, SD_CUDA_WARP - 1);
  sd_print_close(P);
  P->axis[s->run->id] = NULL;
  sd_print_close(P);
}

void sd_print_scan(sd_print *P) {
  const sd_cuda_scan *s = P->plan->scan;
  const char *type = sd_print_ctype(s->nest->stores.at[0].value->dtype), *limits = NULL;
  int warps = P->plan->threads / SD_CUDA_WARP;
  P->nest = s->nest, P->nest_stamp++;
  if (s->column) {
    bool small;
    const char *count = sd_print_count(P, &s->column, 1, &small);
    const char *first = s->by_thread ? "threadIdx.x" : "threadIdx.x / 32", *step = sd_print_text(P, "%d", s->by_thread ? P->plan->threads : warps);
    sd_print_bind_digits(P, &s->column, 1, sd_print_range(P, first, count, step, small), small);
    limits = sd_print_limits(P, &s->column, 1);
  }
  if (!s->column) limits = s->by_thread ? "threadIdx.x == 0" : "threadIdx.x < 32";
  sd_print_open(P, "if (%s)", limits ? limits : "true");
  (s->by_thread ? print_column : print_row)(P, s, type);
  sd_print_close(P);
  if (s->column) sd_print_unbind(P, &s->column, 1), sd_print_close(P);
  P->nest = NULL;
}
