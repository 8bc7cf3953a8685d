// What follows the sums of a tile: each thread takes vectors of neighbouring sums from shared memory, computes, and
// stores whole vectors, with the operands that lie side by side read as vectors too.
#include "codegen/cuda/print.h"

#include "codegen/access.h"
#include "runtime/base/alloc.h"

typedef struct results {
  const sd_cuda_nest *n;
  const sd_axis *const *an, *last; // axes of the columns
  uint32_t nn;
  int width; // columns of a vector
} results;

// Do iterations of the last axis move the offset over neighbours that begin at a multiple of `at`, every `at` of them?
static bool side_by_side(sd_print *P, const results *r, const sd_expr *e, int at) {
  return sd_access_stride(P->k, e, r->last) == SD_STRIDE_ONE && sd_access_starts_at(P->k, e, &r->last, 1, at);
}

// Of an element; 0: below a byte, or of several parts.
static int bytes_of(const sd_buf *b) {
  bool single = sd_dtype_is_float(b->dtype) || sd_dtype_is_int(b->dtype);
  return single ? sd_dtype_bits(b->dtype) / 8 : 0;
}

static bool fits(sd_print *P, const results *r, int width) {
  const sd_nest *n = r->n->nest;
  for (uint32_t i = 0; i < n->stores.len; i++) {
    const sd_store *s = &n->stores.at[i];
    int size = bytes_of(s->buf);
    if (s->guard || size == 0 || sd_print_rw(P, s->value)) return false;
    int at = size * width > 16 ? 16 / size : width;
    if (!side_by_side(P, r, s->offset, at)) return false;
    for (uint32_t j = 0; j < i; j++)
      if (n->stores.at[j].buf == s->buf) return false;
  }
  return sd_dim_multiple_of(P->k->dims, r->last->extent, width);
}

// As many as 16 bytes of the narrowest result hold; 1: columns one by one.
static int choose_width(sd_print *P, const results *r) {
  int least = 8;
  for (uint32_t i = 0; i < r->n->nest->stores.len; i++) {
    int size = bytes_of(r->n->nest->stores.at[i].buf);
    if (size && size < least) least = size;
  }
  int width = 16 / least > 8 ? 8 : 16 / least;
  while (width > 1 && !fits(P, r, width)) width /= 2;
  return width;
}

// ---- operands ----
typedef struct operand {
  const sd_expr *load;
  const char *name;
} operand;
typedef SD_VEC(operand) operands;

static bool is_vector(sd_print *P, const results *r, const sd_expr *e) {
  int size = bytes_of(e->buf);
  if (size == 0 || (e->a[1] && sd_x_uses_axis(e->a[1], r->last))) return false;
  return side_by_side(P, r, e->a[0], size * r->width > 16 ? 16 / size : r->width);
}

// Operands of the columns from the first one on, into arrays.
static void print_operands(sd_print *P, const results *r, operands *out) {
  sd_accesses loads = {0};
  sd_reductions reductions = {0};
  sd_access_collect(P->k, r->n->nest, P->a, &loads, &reductions);
  for (uint32_t i = 0; i < loads.len; i++) {
    const sd_expr *e = loads.at[i].load;
    if (loads.at[i].reduce || !is_vector(P, r, e)) continue;
    const char *name = sd_print_fresh(P, "w"), *guard = e->a[1] ? sd_print_value(P, e->a[1]) : NULL;
    sd_print_line(P, "%s %s[%d] = {};", sd_print_storage(e->buf->dtype), name, r->width);
    if (guard) sd_print_open(P, "if (%s)", guard);
    sd_print_line(P, "sd_load_vector<%d>(%s, b%u, %s);", r->width, name, e->buf->id, sd_print_value(P, e->a[0]));
    if (guard) sd_print_close(P);
    sd_vec_push(P->a, out, ((operand){e, name}));
  }
}

static void print_columns(sd_print *P, const results *r, const char *base) {
  const sd_nest *n = r->n->nest;
  operands all = {0};
  const char **to = SD_NEW_ARRAY(P->a, const char *, n->stores.len + 1),
             **at = SD_NEW_ARRAY(P->a, const char *, n->stores.len + 1);
  print_operands(P, r, &all);
  for (uint32_t i = 0; i < n->stores.len; i++) {
    to[i] = sd_print_fresh(P, "out"), at[i] = sd_print_value(P, n->stores.at[i].offset);
    sd_print_line(P, "%s %s[%d];", sd_print_storage(n->stores.at[i].buf->dtype), to[i], r->width);
  }
  sd_print_forget_axis(P, r->last);
  sd_print_line(P, "#pragma unroll");
  sd_print_open(P, "for (int j = 0; j < %d; j++)", r->width);
  P->axis[r->last->id] = sd_print_text(P, "(%s + j)", base);
  for (uint32_t i = 0; i < all.len; i++)
    sd_print_hold(P, all.at[i].load, sd_print_text(P, "%s[j]", all.at[i].name));
  sd_print_keep(P, r->n->sum, "sums[j]");
  for (uint32_t i = 0; i < n->stores.len; i++) {
    const sd_store *s = &n->stores.at[i];
    sd_print_line(P, "%s[j] = %s;", to[i], sd_print_narrow(P, s->buf->dtype, sd_print_value(P, s->value)));
  }
  sd_print_close(P);
  for (uint32_t i = 0; i < n->stores.len; i++)
    sd_print_line(P, "sd_store_vector<%d>(b%u, %s, %s);", r->width, n->stores.at[i].buf->id, at[i], to[i]);
}

void sd_print_results(sd_print *P, const sd_cuda_nest *n, const sd_cuda_tile *t, const char *tile, bool small) {
  const sd_axis *const *am = n->axes + n->n_rows, *const *an = am + n->n_m;
  results r = {.n = n, .an = an, .nn = n->nest->n_axes - n->n_rows - n->n_m};
  bool ignored;
  r.last = an[r.nn - 1], r.width = choose_width(P, &r);
  const char *type = sd_print_index_type(small), *m = sd_print_count(P, am, n->n_m, &ignored),
             *columns = sd_print_count(P, an, r.nn, &ignored);
  // what a thread waits for at once: few warps are there to wait in turns
  sd_print_line(P, "#pragma unroll %d", !t->wide ? 1 : P->plan->blocks > 1 ? 2 : 4);
  sd_print_open(P, "for (int e = (int)threadIdx.x; e < %d; e += %d)", t->bm * t->bn / r.width, P->plan->threads);
  sd_print_line(P, "const int row = e / %d, left = e %% %d * %d;", t->bn / r.width, t->bn / r.width, r.width);
  sd_print_line(P, "const %s m = m0 + row, n = n0 + left;", type);
  sd_print_open(P, "if (m < (%s)%s && n < (%s)%s)", type, m, type, columns);
  sd_print_line(P, "%s sums[%d];", sd_print_ctype(n->sum->dtype), r.width);
  sd_print_line(P, "sd_staged<%s>(sums, ring, row, left);", tile);
  sd_print_bind_digits(P, am, n->n_m, "m", small);
  sd_print_bind_digits(P, an, r.nn, "n", small);
  if (r.width > 1) {
    print_columns(P, &r, P->axis[r.last->id]);
  } else {
    sd_print_keep(P, n->sum, "sums[0]");
    sd_print_stores(P);
  }
  sd_print_unbind(P, am, n->n_m);
  sd_print_unbind(P, an, r.nn);
  sd_print_close(P);
  sd_print_close(P);
}
