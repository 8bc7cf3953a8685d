// Kernels whose local buffers are rows in registers (codegen/choose_cuda_fragments.h).
//
// Thread `lane` of a warp has rows quad + 8 h of its 16 (or 32), and of every 8 columns two: 8 j + pair + e. These are
// the results of products on tensor cores; the first factor has the same form once neighbouring columns stand in one
// register. The factor that all rows share is copied to shared memory for the next pass of a loop as soon as the nest
// that needs it is through with the current one.
#include "codegen/cuda/print.h"

#include "runtime/base/alloc.h"

typedef sd_cuda_fragment frag;

static int halves(const sd_print *P) { return P->plan->fragments->rows / 8 / (P->plan->threads / SD_CUDA_WARP); }
static int count_of(const sd_print *P, const sd_axis *a) {
  int64_t v = 0;
  sd_dim_is_const(P->k->dims, a->extent, &v);
  return (int)v;
}
static int blocks_of(int columns) { return (columns + 7) / 8; }
static bool is_half(const frag *f) { return f->mma != SD_MMA_F32; }
static int element(const frag *f) { return is_half(f) ? 2 : 4; }
static int steps_of(const sd_print *P, const frag *f) {
  int k = count_of(P, f->k);
  return is_half(f) ? (k + 15) / 16 : (k + 7) / 8;
}
static bool is_narrow(const sd_buf *b) { return b->dtype != SD_F32; }

// ---- local buffers ----
static const char *place(sd_print *P, const sd_buf *b) {
  if (!P->plan->fragments->columns[b->id]) return sd_print_text(P, "b%u[h]", b->id);
  if (is_narrow(b)) return sd_print_text(P, "b%u[j * %d + h]", b->id, halves(P));
  return sd_print_text(P, "b%u[j * %d + h / 2][h %% 2 * 2 + e]", b->id, halves(P) / 2);
}

const char *sd_print_fragment_load(sd_print *P, const sd_buf *b) {
  const char *at = place(P, b);
  if (!is_narrow(b)) return at;
  return sd_print_widen(P, b->dtype, sd_print_text(P, "(u16)(%s >> 16 * e)", at));
}

static void declare(sd_print *P) {
  for (uint32_t i = 0; i < P->k->bufs.len; i++) {
    const sd_buf *b = P->k->bufs.at[i];
    int columns = P->plan->fragments->columns[i];
    if (b->kind != SD_BUF_LOCAL || columns < 0) continue;
    if (columns == 0) sd_print_line(P, "float b%u[%d] = {};", i, halves(P));
    else if (is_narrow(b))
      sd_print_line(P, "unsigned b%u[%d] = {};", i, (columns + 15) / 16 * 2 * halves(P));
    else
      sd_print_line(P, "float b%u[%d][4] = {};", i, blocks_of(columns) * halves(P) / 2);
  }
}

// ---- loops over what a thread has ----
static void unrolled(sd_print *P, const char *name, int n) {
  sd_print_line(P, "#pragma unroll");
  sd_print_open(P, "for (int %s = 0; %s < %d; %s++)", name, name, n, name);
}

static void bind(sd_print *P, const sd_axis *a, const char *value) {
  const char *name = sd_print_text(P, "a%u", a->id);
  sd_print_line(P, "const int %s = %s;", name, value);
  P->axis[a->id] = name;
}
static void unbind(sd_print *P, const sd_axis *a) { P->axis[a->id] = NULL; }

static void open_row(sd_print *P, const frag *f) {
  unrolled(P, "h", halves(P));
  bind(P, f->row, "row0 + 8 * h");
}
static void close_row(sd_print *P, const frag *f) {
  unbind(P, f->row);
  sd_print_close(P);
}

// Condition under which column a exists, NULL: always.
static const char *column_guard(sd_print *P, const sd_axis *a) {
  int n = count_of(P, a);
  const char *limit = sd_print_limits(P, &a, 1);
  if (n % 8 == 0) return limit;
  const char *below = sd_print_text(P, "%s < %d", P->axis[a->id], n);
  return limit ? sd_print_text(P, "%s && %s", below, limit) : below;
}

// Values of a row that its columns share, before their loop.
static void print_shared(sd_print *P, const sd_expr *e) {
  if (e->op == SD_X_CONST || e->op == SD_X_AXIS || e->op == SD_X_REDUCE || P->info[e->id].name) return;
  if (sd_print_ready(P, e)) {
    sd_print_value(P, e);
    return;
  }
  for (uint32_t i = 0; i < e->n; i++)
    if (e->a[i] && e->a[i]->op != SD_X_AFFINE) print_shared(P, e->a[i]);
}

// ---- nests over rows ----
static void reduce_row(sd_print *P, const sd_expr *e) {
  const sd_axis *k = e->axes[0];
  const char *acc = sd_print_fresh(P, "r");
  sd_print_line(P, "%s %s = %s;", sd_print_ctype(e->dtype), acc, sd_print_identity(P, e));
  unrolled(P, "j", blocks_of(count_of(P, k)));
  unrolled(P, "e", 2);
  bind(P, k, "j * 8 + pair + e");
  const char *guard = column_guard(P, k);
  if (guard) sd_print_open(P, "if (%s)", guard);
  sd_print_line(P, "%s = %s;", acc, sd_print_combine(P, e, acc, sd_print_value(P, e->a[0])));
  if (guard) sd_print_close(P);
  unbind(P, k);
  sd_print_close(P);
  sd_print_close(P);
  sd_print_line(P, "%s = sd_quad_reduce<%s>(%s);", acc, sd_print_group_op(e), acc);
  sd_print_keep(P, e, acc);
}

static void reduce_below(sd_print *P, const sd_expr *e) {
  if (e->op == SD_X_REDUCE) {
    if (!P->info[e->id].name) reduce_row(P, e);
    return;
  }
  for (uint32_t i = 0; i < e->n; i++)
    if (e->a[i]) reduce_below(P, e->a[i]);
}

static void store(sd_print *P, const sd_store *s) {
  if (s->buf->kind != SD_BUF_LOCAL) {
    sd_print_store(P, s);
    return;
  }
  const char *v = sd_print_value(P, s->value);
  if (P->plan->fragments->columns[s->buf->id] && is_narrow(s->buf)) sd_print_line(P, "w%u[e] = %s;", s->buf->id, v);
  else
    sd_print_line(P, "%s = %s;", place(P, s->buf), v);
  sd_print_forget_written(P);
}

static void over_rows(sd_print *P, const frag *f) {
  open_row(P, f);
  for (uint32_t i = 0; i < f->nest->stores.len; i++) reduce_below(P, f->nest->stores.at[i].value);
  const char *limit = sd_print_limits(P, &f->row, 1);
  if (limit) sd_print_open(P, "if (%s)", limit);
  for (uint32_t i = 0; i < f->nest->stores.len; i++) {
    const sd_store *s = &f->nest->stores.at[i];
    if (s->buf->kind != SD_BUF_LOCAL) sd_print_open(P, "if (pair == 0)");
    store(P, s);
    if (s->buf->kind != SD_BUF_LOCAL) sd_print_close(P);
  }
  if (limit) sd_print_close(P);
  close_row(P, f);
}

// ---- nests over rows and columns ----
// Pairs of narrow elements are put together when both are computed.
static void pairs(sd_print *P, const frag *f, bool begin) {
  for (uint32_t i = 0; i < f->nest->stores.len; i++) {
    const sd_buf *b = f->nest->stores.at[i].buf;
    if (b->kind != SD_BUF_LOCAL || !is_narrow(b)) continue;
    if (begin) sd_print_line(P, "float w%u[2] = {};", b->id);
    else
      sd_print_line(P, "%s = sd_pack_%s(w%u[0], w%u[1]);", place(P, b), sd_dtype_name(b->dtype), b->id, b->id);
  }
}

// `acc`: registers of the sum; `begin`: only the value where the sum begins is stored.
static void over_points(sd_print *P, const frag *f, const char *acc, const sd_expr *begin) {
  open_row(P, f);
  const char *limit = sd_print_limits(P, &f->row, 1);
  if (limit) sd_print_open(P, "if (%s)", limit);
  for (uint32_t i = 0; i < f->nest->stores.len; i++) print_shared(P, begin ? begin : f->nest->stores.at[i].value);
  unrolled(P, "j", blocks_of(count_of(P, f->col)));
  pairs(P, f, true);
  unrolled(P, "e", 2);
  bind(P, f->col, "j * 8 + pair + e");
  const char *guard = column_guard(P, f->col);
  if (guard) sd_print_open(P, "if (%s)", guard);
  if (acc) sd_print_keep(P, f->sum, sd_print_text(P, "%s[j * %d + h / 2][h %% 2 * 2 + e]", acc, halves(P) / 2));
  if (begin) sd_print_line(P, "%s = %s;", place(P, f->nest->stores.at[0].buf), sd_print_value(P, begin));
  for (uint32_t i = 0; !begin && i < f->nest->stores.len; i++) store(P, &f->nest->stores.at[i]);
  if (guard) sd_print_close(P);
  unbind(P, f->col);
  sd_print_close(P);
  pairs(P, f, false);
  sd_print_close(P);
  if (limit) sd_print_close(P);
  close_row(P, f);
}

// ---- the factor that all rows share ----
static void fill_line(sd_print *P, const frag *f, int padded, int lines) {
  int per = f->b_vec ? f->b_vec : 1;
  sd_print_line(P, "#pragma unroll sd_copies");
  sd_print_open(P, "for (int q = threadIdx.x; q < %d; q += %d)", lines * (padded / per), P->plan->threads);
  sd_print_line(P, "const int line = q / %d, part = q %% %d * %d;", padded / per, padded / per, per);
}

static void fill(sd_print *P, const frag *f, const char *slice) {
  const sd_axis *in = f->b_along_k ? f->k : f->col, *out = f->b_along_k ? f->col : f->k;
  int inner = count_of(P, in), padded = is_half(f) ? (inner + 15) / 16 * 16 : (inner + 7) / 8 * 8;
  fill_line(P, f, padded, f->b_count / f->b_stride);
  bind(P, out, "line");
  bind(P, in, "part");
  const char *lo = sd_print_limits(P, &out, 1), *li = sd_print_limits(P, &in, 1);
  sd_print_line(P, "const bool exists = line < %d && part < %d%s%s%s%s;", count_of(P, out), inner, lo ? " && " : "",
                lo ? lo : "", li ? " && " : "", li ? li : "");
  const char *at = sd_print_text(P, "(line * %d + part)", f->b_stride);
  if (f->b_vec) {
    sd_print_line(P, "i64 from = 0;");
    sd_print_open(P, "if (exists)");
    sd_print_line(P, "from = %s;", sd_print_value(P, f->b->a[0]));
    sd_print_close(P);
    sd_print_line(P, "sd_cp<16>(slices, %s + %s * %d, b%u, from * %d, exists ? 16 : 0);", slice, at, element(f),
                  f->b->buf->id, element(f));
  } else {
    const char *type = is_half(f) ? "u16" : "float";
    sd_print_line(P, "%s x = 0;", type);
    sd_print_open(P, "if (exists)");
    sd_print_line(P, "x = %s;", is_half(f) ? sd_print_raw(P, f->b) : sd_print_value(P, f->b));
    sd_print_close(P);
    sd_print_line(P, "SD_ST((%s *)(slices + %s), %s, x);", type, slice, at);
  }
  unbind(P, in), unbind(P, out);
  sd_print_close(P);
}

// ---- the factor that moves with the row ----
// Registers of steps 16 s .. or 8 s .. of the factor into `to`, an array of four for each 16 rows.
static void load_factor(sd_print *P, const frag *f, const char *to) {
  int n = count_of(P, f->k), wide = is_half(f) ? 2 : 1;
  open_row(P, f);
  const char *limit = sd_print_limits(P, &f->row, 1);
  if (wide == 2) unrolled(P, "u", 2), sd_print_line(P, "unsigned both = 0;");
  unrolled(P, "e", 2);
  bind(P, f->k, wide == 2 ? "s * 16 + u * 8 + pair + e" : "s * 8 + pair + e");
  const char *last = sd_print_limits(P, &f->k, 1);
  const char *type = wide == 2 ? "u16" : "float";
  sd_print_line(P, "%s y = 0;", type);
  sd_print_open(P, "if (a%u < %d%s%s%s%s)", f->k->id, n, limit ? " && " : "", limit ? limit : "", last ? " && " : "",
                last ? last : "");
  sd_print_line(P, "y = %s;", wide == 2 ? sd_print_raw(P, f->a) : sd_print_value(P, f->a));
  sd_print_close(P);
  if (wide == 2) sd_print_line(P, "both |= (unsigned)y << 16 * e;");
  else
    sd_print_line(P, "%s[h / 2][h %% 2 + 2 * e] = y;", to);
  unbind(P, f->k);
  sd_print_close(P);
  if (wide == 2) sd_print_line(P, "%s[h / 2][h %% 2 + 2 * u] = both;", to), sd_print_close(P);
  close_row(P, f);
}

// The same from a local buffer. Columns beyond the limit count as 0.
static void take_factor(sd_print *P, const frag *f, const char *to, const char *limit) {
  int h = halves(P);
  unrolled(P, "h", h);
  unrolled(P, "u", 2);
  if (is_half(f)) {
    const char *v = sd_print_text(P, "b%u[(s * 2 + u) * %d + h]", f->local->id, h);
    if (limit) v = sd_print_text(P, "%s & sd_pair_below((s * 2 + u) * 8 + pair, %s)", v, limit);
    sd_print_line(P, "%s[h / 2][h %% 2 + 2 * u] = %s;", to, v);
  } else {
    const char *v = sd_print_text(P, "b%u[s * %d + h / 2][h %% 2 * 2 + u]", f->local->id, h / 2);
    if (limit) v = sd_print_text(P, "s * 8 + pair + u < %s ? %s : 0.0f", limit, v);
    sd_print_line(P, "%s[h / 2][h %% 2 + 2 * u] = %s;", to, v);
  }
  sd_print_close(P);
  sd_print_close(P);
}

static const char *before_name(sd_print *P, const frag *f) {
  return sd_print_text(P, "factor%u", (unsigned)(f - P->plan->fragments->nests.at));
}

// f32 numbers that stay: where there are registers for them.
static void load_before(sd_print *P, const frag *f) {
  const char *name = before_name(P, f);
  if (!is_half(f)) sd_print_line(P, "#ifdef SD_ROOMY");
  sd_print_line(P, "%s %s[%d][%d][4];", is_half(f) ? "unsigned" : "float", name, steps_of(P, f), halves(P) / 2);
  unrolled(P, "s", steps_of(P, f));
  load_factor(P, f, sd_print_text(P, "%s[s]", name));
  sd_print_close(P);
  if (!is_half(f)) sd_print_line(P, "#endif");
}

// What is made of them does not stay as well. Else they are loaded anew: the text goes on with that.
static void take_before(sd_print *P, const char *from) {
  sd_print_line(P, "#ifdef SD_ROOMY");
  sd_print_line(P, "#pragma unroll");
  sd_print_line(P, "for (int i = 0; i < %d; i++) x[i / 4][i %% 4] = sd_opaque(%s[i / 4][i %% 4]);", halves(P) * 2,
                from);
  sd_print_line(P, "#else");
}

// ---- products ----
static void multiply_half(sd_print *P, const frag *f, const char *acc, const char *x, const char *slice) {
  int n = blocks_of(count_of(P, f->col)), m = halves(P) / 2;
  const char *fn = f->mma == SD_MMA_F16 ? "sd_mma_f16" : "sd_mma_bf16";
  unrolled(P, "j", (n + 1) / 2);
  sd_print_line(P, "unsigned y[4];");
  if (f->b_along_k)
    sd_print_line(
        P, "sd_ldmatrix(y, slices, %s + ((j * 16 + lane %% 8 + lane / 16 * 8) * %d + s * 16 + lane / 8 %% 2 * 8) * 2);",
        slice, f->b_stride);
  else
    sd_print_line(P, "sd_ldmatrix_t(y, slices, %s + ((s * 16 + lane %% 16) * %d + j * 16 + lane / 16 * 8) * 2);", slice,
                  f->b_stride);
  unrolled(P, "i", m);
  sd_print_line(P, "%s(%s[j * %d + i], %s[i], y[0], y[1]);", fn, acc, 2 * m, x);
  sd_print_line(P, "%s%s(%s[j * %d + %d + i], %s[i], y[2], y[3]);",
                n % 2 ? sd_print_text(P, "if (j < %d) ", n / 2) : "", fn, acc, 2 * m, m, x);
  sd_print_close(P);
  sd_print_close(P);
}

static void multiply_single(sd_print *P, const frag *f, const char *acc, const char *x, const char *slice) {
  int m = halves(P) / 2;
  const char *base = sd_print_text(P, "(const float *)(slices + %s)", slice);
  unrolled(P, "j", blocks_of(count_of(P, f->col)));
  sd_print_line(P, "float y[2];");
  if (f->b_along_k) sd_print_line(P, "sd_ld_pair(y, %s, (j * 8 + quad) * %d + s * 8 + pair);", base, f->b_stride);
  else
    sd_print_line(P, "for (int e = 0; e < 2; e++) y[e] = SD_LD(%s, (s * 8 + pair + e) * %d + j * 8 + quad);", base,
                  f->b_stride);
  unrolled(P, "i", m);
  sd_print_line(P, "sd_mma_f32(%s[j * %d + i], %s[i], y[0], y[1]);", acc, m, x);
  sd_print_close(P);
  sd_print_close(P);
}

static void multiply(sd_print *P, const frag *f, const char *acc, const char *slice) {
  const char *limit = NULL, *x = sd_print_text(P, "%s[s]", before_name(P, f));
  if (f->local && f->k->limit) {
    limit = sd_print_fresh(P, "limit");
    sd_print_line(P, "const i64 %s = %s;", limit, sd_print_value(P, f->k->limit));
  }
  if (f->before || f->local) unrolled(P, "s", steps_of(P, f));
  else { // what is loaded ahead needs registers
    sd_print_line(P, "#pragma unroll 2");
    sd_print_open(P, "for (int s = 0; s < %d; s++)", steps_of(P, f));
  }
  if (!f->before || !is_half(f)) {
    sd_print_line(P, "%s x[%d][4];", is_half(f) ? "unsigned" : "float", halves(P) / 2);
    if (f->before) take_before(P, x);
    if (f->local) take_factor(P, f, "x", limit);
    else
      load_factor(P, f, "x");
    if (f->before) sd_print_line(P, "#endif");
    x = "x";
  }
  if (is_half(f)) multiply_half(P, f, acc, x, slice);
  else
    multiply_single(P, f, acc, x, slice);
  sd_print_close(P);
}

// The factor is on its way: `later` groups that were issued behind it may still be.
static void product(sd_print *P, const frag *f, int later, const char *slice) {
  const sd_buf *to = f->nest->stores.at[0].buf;
  const char *acc = sd_print_text(P, f->in_place ? "b%u" : "sum%u", f->in_place ? to->id : f->sum->id);
  int n = blocks_of(count_of(P, f->col)) * halves(P) / 2;
  if (!f->in_place) sd_print_line(P, "float %s[%d][4] = {};", acc, n);
  else if (f->begin)
    over_points(P, f, NULL, f->begin);
  else {
    unrolled(P, "i", n * 4);
    sd_print_line(P, "%s[i / 4][i %% 4] = 0;", acc);
    sd_print_close(P);
  }
  sd_print_line(P, "sd_cp_wait<%d>();", later);
  sd_print_line(P, "__syncthreads();");
  multiply(P, f, acc, slice);
  sd_print_line(P, "__syncthreads();");
  if (!f->begin) over_points(P, f, acc, NULL);
}

// ---- items ----
// Bytes of the slices in front of that of f.
static int bytes_before(const sd_print *P, const frag *f) {
  int at = 0;
  for (const frag *g = P->plan->fragments->nests.at; g < f; g++) at += (g->b_count * element(g) + 15) / 16 * 16;
  return at;
}

static const char *slice_of(sd_print *P, const frag *f) { return sd_print_text(P, "%d", bytes_before(P, f)); }

static void nest(sd_print *P, const frag *f, int later) {
  P->nest = f->nest;
  P->nest_stamp++;
  if (f->sum) product(P, f, later, slice_of(P, f));
  else if (f->col)
    over_points(P, f, NULL, NULL);
  else
    over_rows(P, f);
  P->nest = NULL;
}

static void copy_next(sd_print *P, const frag *f, const char *type, const char *name, const char *pass,
                      const char *stop) {
  sd_print_open(P, "if (%s + 1 < %s)", pass, stop);
  sd_print_line(P, "const %s %s = %s + 1;", type, name, pass);
  fill(P, f, slice_of(P, f));
  sd_print_close(P);
  sd_print_line(P, "sd_cp_commit();");
}

// A nest of pass a is followed by the copies that it needs in pass a + 1; a pass -1 only copies. So each part is
// printed, and has to be fetched as instructions, once.
static void loop(sd_print *P, const sd_axis *a, const frag *f, uint32_t n) {
  int64_t count;
  const char *type = sd_dim_is_const(P->k->dims, a->extent, &count) && count <= INT32_MAX ? "int" : "i64",
             *end = sd_print_dim(P, a->extent), *name = sd_print_text(P, "a%u", a->id),
             *stop = sd_print_fresh(P, "end"), *pass = sd_print_fresh(P, "pass");
  int products = 0;
  if (a->limit) end = sd_print_text(P, "(%s)sd_min<i64>(%s, %s)", type, end, sd_print_value(P, a->limit));
  sd_print_line(P, "const %s %s = %s;", type, stop, end);
  for (uint32_t i = 0; i < n; i++) products += f[i].sum != NULL;
  sd_print_line(P, "#pragma unroll 1");
  sd_print_open(P, "for (%s %s = -1; %s < %s; %s++)", type, pass, pass, stop, pass);
  P->axis[a->id] = name;
  for (uint32_t i = 0; i < n; i++) {
    if (i == 0 || f[i - 1].sum) {
      sd_print_open(P, "if (%s >= 0)", pass);
      sd_print_line(P, "const %s %s = %s;", type, name, pass);
    }
    nest(P, &f[i], products - 1);
    if (i + 1 < n && !f[i].sum) continue;
    sd_print_close(P);
    if (f[i].sum) copy_next(P, &f[i], type, name, pass, stop);
  }
  P->axis[a->id] = NULL;
  sd_print_close(P);
}

static void items(sd_print *P, const sd_items *all) {
  const frag *f = P->plan->fragments->nests.at;
  for (uint32_t i = 0; i < all->len; i++) {
    const sd_item *it = &all->at[i];
    if (it->loop) {
      loop(P, it->loop, f, it->body->len);
      f += it->body->len;
      continue;
    }
    sd_print_block(P);
    if (f->sum) fill(P, f, slice_of(P, f)), sd_print_line(P, "sd_cp_commit();");
    nest(P, f++, 0);
    sd_print_close(P);
  }
}

int sd_print_fragment_bytes(sd_print *P) {
  return bytes_before(P, P->plan->fragments->nests.at + P->plan->fragments->nests.len);
}

void sd_print_fragments(sd_print *P) {
  const sd_cuda_fragments *all = P->plan->fragments;
  sd_print_line(P, "const int lane = threadIdx.x %% 32, quad = lane / 4, pair = lane %% 4 * 2;");
  sd_print_line(P, "const int row0 = threadIdx.x / 32 * %d + quad;", halves(P) * 8);
  declare(P);
  for (uint32_t i = 0; i < all->nests.len; i++)
    if (all->nests.at[i].before) load_before(P, &all->nests.at[i]);
  items(P, &P->k->items);
}
