// Turned: a tile of what is contiguous along another axis goes through shared memory.
#include "codegen/cuda/print.h"

#include "runtime/base/alloc.h"

enum { ACROSS = 32, DOWN = 8 }; // threads of a block along the contiguous axis and along the other one

static sd_dim parts(sd_print *P, const sd_axis *outer) {
  return sd_dim_ceildiv(P->k->dims, outer->extent, sd_dim_const(P->k->dims, ACROSS));
}

// The axes but the two of the tile.
static uint32_t others(const sd_cuda_nest *n, const sd_axis **out) {
  uint32_t count = 0;
  for (uint32_t i = 0; i + 1 < n->nest->n_axes; i++)
    if (n->axes[i] != n->turn) out[count++] = n->axes[i];
  return count;
}

sd_dim sd_print_turned_blocks(sd_print *P, const sd_cuda_nest *n) {
  const sd_axis *rest[SD_MAX_AXES];
  sd_dim p = sd_dim_mul(P->k->dims, parts(P, n->axes[n->nest->n_axes - 1]), parts(P, n->turn_outer));
  return sd_dim_mul(P->k->dims, p, sd_print_product(P, rest, others(n, rest)));
}

// Elements from one row of a tile to the next: both ways, neighbouring threads are in different banks.
static int pitch_of(const sd_cuda_nest *n, const sd_expr *load) {
  int bytes = sd_dtype_bits(load->buf->dtype) / 8;
  return ACROSS * n->vec + (bytes < 4 ? 4 / bytes : 1);
}

static void bind_one(sd_print *P, const sd_axis *a, const char *value, bool small) {
  sd_print_bind_digits(P, &a, 1, value, small);
}

// Reads along the turned axis into registers, then all of it into shared memory.
static void fetch(sd_print *P, const sd_cuda_nest *n, uint32_t which, bool small) {
  const sd_expr *e = n->turned[which].outside;
  const sd_axis *across = n->plain_axis;
  const char *l = sd_print_fresh(P, "l"), *t = sd_print_index_type(small);
  int turns = ACROSS * n->vec / DOWN;
  sd_print_with_lanes(P, n->turn_lane);
  sd_cuda_vector v = sd_cuda_vector_of(P->k, e->buf, e->a[0], n->turn_lane, NULL);
  sd_print_line(P, "%s %s[%d] = {};", sd_print_storage(e->buf->dtype), l, turns * n->vec);
  for (int pass = 0; pass < 2; pass++) {
    sd_print_line(P, "#pragma unroll");
    sd_print_open(P, "for (int j = 0; j < %d; j++)", turns);
    sd_print_line(P, "const %s across = s0 * %d + j * %d + ty, turn = t0 + tx;", t, n->vec, DOWN);
    sd_print_open(P, "if (across < (%s)%s && turn < (%s)%s)", t, sd_print_dim(P, across->extent), t,
                  sd_print_dim(P, n->turn_outer->extent));
    if (pass == 0) {
      bind_one(P, across, "across", small), bind_one(P, n->turn_outer, "turn", small);
      const char *guard = e->a[1] && !sd_print_uses(P, e->a[1], P->lane) ? sd_print_value(P, e->a[1]) : NULL;
      if (v.per == 1 && (!e->a[1] || guard)) {
        sd_print_load_vector(P, e, v, sd_print_text(P, "%s + j * %d", l, n->vec));
      } else {
        sd_print_lane_open(P);
        sd_print_line(P, "%s[j * %d + i] = %s;", l, n->vec, sd_print_raw(P, e));
        sd_print_close(P);
      }
      sd_print_unbind(P, &across, 1), sd_print_unbind(P, &n->turn_outer, 1);
    } else {
      sd_print_lane_open(P);
      sd_print_line(P, "SD_ST(turn%u, (tx * %d + i) * %d + j * %d + ty, %s[j * %d + i]);", which, n->vec,
                    pitch_of(n, e), DOWN, l, n->vec);
      sd_print_close(P);
    }
    sd_print_close(P);
    sd_print_close(P);
  }
  sd_print_without_lanes(P);
}

static void store(sd_print *P, const sd_cuda_nest *n, bool small) {
  const sd_axis *along = n->axes[n->nest->n_axes - 1];
  const char *t = sd_print_index_type(small);
  sd_print_line(P, "#pragma unroll");
  sd_print_open(P, "for (int j = 0; j < %d; j++)", ACROSS * n->vec / DOWN);
  sd_print_line(P, "const %s turn = t0 * %d + j * %d + ty, along = s0 + tx;", t, n->vec, DOWN);
  sd_print_open(P, "if (turn < (%s)%s && along < (%s)%s)", t, sd_print_dim(P, n->turn->extent), t,
                sd_print_dim(P, along->extent));
  bind_one(P, n->turn, "turn", small), bind_one(P, along, "along", small);
  sd_print_with_lanes(P, n->lane);
  for (uint32_t i = 0; i < n->n_turned; i++) {
    const sd_expr *e = n->turned[i].inside;
    sd_print_hold(
        P, e,
        sd_print_text(P, "SD_LD(turn%u, (j * %d + ty) * %d + tx * %d + i)", i, DOWN, pitch_of(n, e), n->vec));
  }
  sd_print_lane_stores(P);
  sd_print_without_lanes(P);
  sd_print_unbind(P, &n->turn, 1), sd_print_unbind(P, &along, 1);
  sd_print_close(P);
  sd_print_close(P);
}

void sd_print_turned(sd_print *P, const sd_cuda_nest *n) {
  const sd_axis *rest[SD_MAX_AXES], *along = n->axes[n->nest->n_axes - 1];
  uint32_t n_rest = others(n, rest);
  bool small;
  sd_print_count(P, (const sd_axis *const *)n->plain->axes, n->plain->n_axes, &small);
  const char *t = sd_print_index_type(small);
  for (uint32_t i = 0; i < n->n_turned; i++) {
    const sd_expr *e = n->turned[i].inside;
    sd_print_line(P, "SD_SHARED(%s, turn%u, %d);", sd_print_storage(e->buf->dtype), i,
                  ACROSS * n->vec * pitch_of(n, e));
  }
  sd_print_line(P, "const int tx = threadIdx.x %% %d, ty = threadIdx.x / %d;", ACROSS, ACROSS);
  const char *across = sd_print_dim(P, parts(P, along)), *down = sd_print_dim(P, parts(P, n->turn_outer));
  sd_print_open(P, "for (%s tile = blockIdx.x; tile < (%s)%s; tile += gridDim.x)", t, t,
                sd_print_dim(P, sd_print_turned_blocks(P, n)));
  sd_print_line(P, "const %s above = tile / (%s)%s, rest = above / (%s)%s;", t, t, across, t, down);
  sd_print_line(P, "const %s s0 = (tile - above * (%s)%s) * %d, t0 = (above - rest * (%s)%s) * %d;", t, t,
                across, ACROSS, t, down, ACROSS);
  sd_print_bind_digits(P, rest, n_rest, "rest", small);
  for (uint32_t i = 0; i < n->n_turned; i++) fetch(P, n, i, small);
  sd_print_line(P, "__syncthreads();");
  store(P, n, small);
  sd_print_line(P, "__syncthreads();");
  sd_print_unbind(P, rest, n_rest);
  sd_print_close(P);
}
