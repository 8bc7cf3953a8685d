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
  int turns; // vectors of a thread whose operands are loaded at once
  const char *m, *columns, *type; // of the product: rows, columns; type of their indices
  bool small;
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

// Arrays for operands of the columns, for each turn.
static void print_arrays(sd_print *P, const results *r, operands *out) {
  sd_accesses loads = {0};
  sd_reductions reductions = {0};
  sd_access_collect(P->k, r->n->nest, P->a, &loads, &reductions);
  for (uint32_t i = 0; i < loads.len; i++) {
    const sd_expr *e = loads.at[i].load;
    if (loads.at[i].reduce || !is_vector(P, r, e)) continue;
    const char *name = sd_print_fresh(P, "w");
    sd_print_line(P, "%s %s[%d][%d]%s;", sd_print_storage(e->buf->dtype), name, r->turns, r->width, e->a[1] ? " = {}" : "");
    sd_vec_push(P->a, out, ((operand){e, name}));
  }
}

static void print_operands(sd_print *P, const results *r, const operands *all) {
  for (uint32_t i = 0; i < all->len; i++) {
    const sd_expr *e = all->at[i].load;
    const char *guard = e->a[1] ? sd_print_value(P, e->a[1]) : NULL;
    if (guard) sd_print_open(P, "if (%s)", guard);
    sd_print_line(P, "sd_load_vector<%d>(%s[turn], b%u, %s);", r->width, all->at[i].name, e->buf->id, sd_print_value(P, e->a[0]));
    if (guard) sd_print_close(P);
  }
}

static void print_columns(sd_print *P, const results *r, const operands *all) {
  const sd_nest *n = r->n->nest;
  const char *base = P->axis[r->last->id];
  const char **to = SD_NEW_ARRAY(P->a, const char *, n->stores.len + 1),
             **at = SD_NEW_ARRAY(P->a, const char *, n->stores.len + 1);
  for (uint32_t i = 0; i < n->stores.len; i++) {
    to[i] = sd_print_fresh(P, "out"), at[i] = sd_print_value(P, n->stores.at[i].offset);
    sd_print_line(P, "%s %s[%d];", sd_print_storage(n->stores.at[i].buf->dtype), to[i], r->width);
  }
  sd_print_forget_axis(P, r->last);
  sd_print_line(P, "#pragma unroll");
  sd_print_open(P, "for (int j = 0; j < %d; j++)", r->width);
  P->axis[r->last->id] = sd_print_text(P, "(%s + j)", base);
  for (uint32_t i = 0; i < all->len; i++)
    sd_print_hold(P, all->at[i].load, sd_print_text(P, "%s[turn][j]", all->at[i].name));
  sd_print_keep(P, r->n->sum, "sums[j]");
  for (uint32_t i = 0; i < n->stores.len; i++) {
    const sd_store *s = &n->stores.at[i];
    sd_print_line(P, "%s[j] = %s;", to[i], sd_print_narrow(P, s->buf->dtype, sd_print_value(P, s->value)));
  }
  sd_print_close(P);
  for (uint32_t i = 0; i < n->stores.len; i++)
    sd_print_line(P, "sd_store_vector<%d>(b%u, %s, %s);", r->width, n->stores.at[i].buf->id, at[i], to[i]);
}

// Opens the block of the vector of a turn, with its row and column bound.
static void open_turn(sd_print *P, const results *r, const sd_cuda_tile *t) {
  int per_row = t->bn / r->width, all = t->bm * per_row;
  sd_print_line(P, "#pragma unroll");
  sd_print_open(P, "for (int turn = 0; turn < %d; turn++)", r->turns);
  sd_print_line(P, "const int e = first + turn * %d, row = e / %d, left = e %% %d * %d;", P->plan->threads, per_row, per_row, r->width);
  sd_print_line(P, "const %s m = m0 + row, n = n0 + left;", r->type);
  sd_print_open(P, "if (m < (%s)%s && n < (%s)%s%s)", r->type, r->m, r->type, r->columns,
                all % (r->turns * P->plan->threads) ? sd_print_text(P, " && e < %d", all) : "");
  sd_print_bind_digits(P, r->n->axes + r->n->n_rows, r->n->n_m, "m", r->small);
  sd_print_bind_digits(P, r->an, r->nn, "n", r->small);
}
static void close_turn(sd_print *P, const results *r) {
  sd_print_unbind(P, r->n->axes + r->n->n_rows, r->n->n_m);
  sd_print_unbind(P, r->an, r->nn);
  sd_print_close(P);
  sd_print_close(P);
}

// Few warps are there to wait in turns: a thread asks for all that several vectors need before it stores the first.
static int choose_turns(const sd_print *P, const results *r, const sd_cuda_tile *t) {
  int vectors = t->bm * t->bn / r->width / P->plan->threads;
  if (r->width == 1 || !t->wide) return 1;
  return vectors < 2 ? 1 : 2;
}

void sd_print_results(sd_print *P, const sd_cuda_nest *n, const sd_cuda_tile *t, const char *tile, bool small) {
  const sd_axis *const *am = n->axes + n->n_rows, *const *an = am + n->n_m;
  results r = {.n = n, .an = an, .nn = n->nest->n_axes - n->n_rows - n->n_m, .small = small};
  operands all = {0};
  bool ignored;
  r.last = an[r.nn - 1], r.width = choose_width(P, &r), r.turns = choose_turns(P, &r, t);
  r.type = sd_print_index_type(small), r.m = sd_print_count(P, am, n->n_m, &ignored), r.columns = sd_print_count(P, an, r.nn, &ignored);
  sd_print_line(P, "#pragma unroll 1");
  sd_print_open(P, "for (int first = (int)threadIdx.x; first < %d; first += %d)", t->bm * t->bn / r.width, P->plan->threads * r.turns);
  if (r.width > 1) print_arrays(P, &r, &all);
  open_turn(P, &r, t);
  print_operands(P, &r, &all);
  if (r.turns > 1) close_turn(P, &r), open_turn(P, &r, t);
  sd_print_line(P, "%s sums[%d];", sd_print_ctype(n->sum->dtype), r.width);
  sd_print_line(P, "sd_staged<%s>(sums, ring, row, left);", tile);
  if (r.width > 1) {
    print_columns(P, &r, &all);
  } else {
    sd_print_keep(P, n->sum, "sums[0]");
    sd_print_stores(P);
  }
  close_turn(P, &r);
  sd_print_close(P);
}
