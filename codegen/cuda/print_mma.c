// Products on tensor cores: slices of both factors run through a ring in shared memory, by asynchronous copies where a
// factor's elements stand in memory as the tensor cores want them, else through registers.
//
// What moves with the rows of the product only (places of rows, patches of an image) is computed once for a tile; what
// moves with the steps only, once for a slice.
#include "codegen/cuda/print.h"

#include "runtime/base/alloc.h"

typedef struct side { // one factor
  const sd_cuda_factor *f;
  const sd_axis *const *axes;
  uint32_t n;
  const char *id, *first, *count; // "x"; first row or column of the tile; all of them
  int size, at;                   // rows or columns of a tile; bytes before the slice in a stage
  int element, piece;             // bytes of an element, of what a thread brings at once
  int rows, per_row, turns;       // of the slice: rows, pieces in a row; pieces of a thread
  int chunks, per;                // of 16 bytes in its steps; of those for one of a slice's
  const char *steps;              // in all
  bool small_k;
} side;

typedef struct product {
  const sd_cuda_nest *n;
  const sd_cuda_tile *t;
  side x, y;
  const char *tile;  // name of its type
  bool small;
  int stage;         // bytes of a slice of both factors
  int places_at;     // in it; 0: there are none
} product;

static int vector(const side *s) { return s->piece / s->element; }
// Of elements in shared memory.
static const char *word(const side *s) { return s->element == 1 ? "u8" : s->element == 2 ? "u16" : "float"; }
static bool whole_slice(const sd_print *P, const side *s) { return s->rows * s->per_row >= P->plan->threads; }

static void place_side(sd_print *P, const sd_cuda_product *p, const sd_cuda_tile *t, side *s) {
  s->chunks = t->chunks * s->per;
  int row = s->f->along_k ? s->chunks * 16 : s->size * p->element;
  s->steps = sd_print_count(P, s->f->steps, s->f->n_steps, &s->small_k);
  s->element = p->element, s->piece = s->f->copy ? s->f->copy : 16;
  s->rows = s->f->along_k ? s->size : t->chunks * 16 / p->element;
  s->per_row = row / s->piece;
  int all = s->rows * s->per_row;
  s->turns = all > P->plan->threads ? all / P->plan->threads : 1;
}

// Position in the ring of the thread's i-th piece, in bytes behind the slice.
static const char *place(sd_print *P, const product *p, const side *s) {
  int chunks = s->f->along_k ? s->chunks : s->size * s->element / 16;
  const char *swizzle = s->f->along_k || s->element == 2 ? "sd_swizzle" : "sd_swizzle_words";
  if (p->t->wide && !s->f->along_k) swizzle = "sd_wide_across", chunks = s->rows;
  const char *row = sd_print_text(P, "%srow + i * %d", s->id, P->plan->threads / s->per_row);
  if (s->piece == 16) return sd_print_text(P, "%s<%d>(%s, %spiece) * 16", swizzle, chunks, row, s->id);
  int per = 16 / s->piece;
  return sd_print_text(P, "%s<%d>(%s, %spiece / %d) * 16 + %spiece %% %d * %d", swizzle, chunks, row, s->id, per,
                       s->id, per, s->piece);
}

// ---- once for a tile ----
// Does the value move with that axis of the rows or columns while steps go on?
static bool kept(const side *s, const sd_axis *a) {
  if (!s->f->copy) return sd_x_uses_axis(s->f->value, a);
  const sd_expr *guard = s->f->load->a[1];
  return sd_x_uses_axis(s->f->moving, a) || (guard && sd_x_uses_axis(guard, a));
}
// Rows or columns of a thread, and which of them is the i-th piece's (and j-th element's).
static int kept_count(const side *s) { return s->f->along_k ? s->turns : s->f->copy ? 1 : vector(s); }
static const char *kept_index(const side *s) { return s->f->along_k ? "i" : s->f->copy ? "0" : "j"; }

static void print_kept(sd_print *P, const product *p, const side *s) {
  const char *t = sd_print_index_type(p->small), *id = s->id;
  int count = kept_count(s);
  for (uint32_t i = 0; i < s->n; i++)
    if (kept(s, s->axes[i]))
      sd_print_line(P, "%s %sa%u[%d];", sd_print_axis_type(P, s->axes[i]), id, s->axes[i]->id, count);
  sd_print_line(P, "bool %sin[%d];", id, count);
  if (s->f->copy) sd_print_line(P, "%s %sfixed[%d];", sd_print_small(P, s->f->fixed) ? "int" : "i64", id, count);
  sd_print_line(P, "#pragma unroll");
  sd_print_open(P, "for (int i = 0; i < %d; i++)", count);
  if (s->f->along_k)
    sd_print_line(P, "const %s at = %s + %srow + i * %d;", t, s->first, id, P->plan->threads / s->per_row);
  else
    sd_print_line(P, "const %s at = %s + %spiece * %d + i;", t, s->first, id, vector(s));
  sd_print_line(P, "%sin[i] = at < (%s)%s;", id, t, s->count);
  for (uint32_t i = 0; i < s->n; i++)
    if (kept(s, s->axes[i])) sd_print_line(P, "%sa%u[i] = 0;", id, s->axes[i]->id);
  if (s->f->copy) sd_print_line(P, "%sfixed[i] = 0;", id);
  sd_print_open(P, "if (%sin[i])", id);
  sd_print_bind_digits(P, s->axes, s->n, "at", p->small);
  for (uint32_t i = 0; i < s->n; i++)
    if (kept(s, s->axes[i])) sd_print_line(P, "%sa%u[i] = %s;", id, s->axes[i]->id, P->axis[s->axes[i]->id]);
  if (s->f->copy) sd_print_line(P, "%sfixed[i] = %s;", id, sd_print_value(P, s->f->fixed));
  sd_print_unbind(P, s->axes, s->n);
  sd_print_close(P);
  sd_print_close(P);
}

static void bind_kept(sd_print *P, const side *s) {
  for (uint32_t i = 0; i < s->n; i++)
    if (kept(s, s->axes[i]))
      P->axis[s->axes[i]->id] = sd_print_text(P, "%sa%u[%s]", s->id, s->axes[i]->id, kept_index(s));
}

// ---- once for a slice ----
static void bind_steps(sd_print *P, const side *s, const char *index) {
  sd_print_bind_digits(P, s->f->steps, s->f->n_steps, index, s->small_k);
}
static void unbind_steps(sd_print *P, const side *s) { sd_print_unbind(P, s->f->steps, s->f->n_steps); }

// "const k = ..." of the i-th piece's first element.
static void print_step(sd_print *P, const side *s) {
  const char *t = sd_print_index_type(s->small_k);
  if (s->f->along_k) sd_print_line(P, "const %s k = (%s)first%s + %spiece * %d;", t, t, s->per == 2 ? " * 2" : "", s->id, vector(s));
  else
    sd_print_line(P, "const %s k = (%s)first + %srow + i * %d;", t, t, s->id, P->plan->threads / s->per_row);
}

static void print_copy(sd_print *P, const product *p, const side *s, const char *from, const char *some) {
  if (!whole_slice(P, s)) sd_print_open(P, "if (threadIdx.x < %d)", s->rows * s->per_row);
  sd_print_line(P, "sd_cp<%d>(ring, into + %d + %s, b%u, %s, %s);", s->piece, s->at, place(P, p, s), s->f->load->buf->id, from, some);
  if (!whole_slice(P, s)) sd_print_close(P);
}

static void copy_piece(sd_print *P, const product *p, const side *s) {
  const sd_cuda_factor *f = s->f;
  const char *k = sd_print_text(P, "k < (%s)%s && %sin[%s]", sd_print_index_type(s->small_k), s->steps, s->id, kept_index(s));
  sd_print_line(P, "int some = 0;");
  sd_print_line(P, "i64 from = 0;");
  sd_print_open(P, "if (%s)", k);
  bind_kept(P, s);
  const char *guard = f->load->a[1] ? sd_print_value(P, f->load->a[1]) : NULL;
  sd_print_line(P, guard ? "some = %s ? %d : 0;" : "some = %s%d;", guard ? guard : "", s->piece);
  sd_print_line(P, "from = (i64)%sfixed[%s] + %s;", s->id, kept_index(s), sd_print_value(P, f->moving));
  sd_print_unbind(P, s->axes, s->n);
  sd_print_close(P);
  print_copy(P, p, s, sd_print_text(P, "some > 0 ? from * %d : 0", s->element), "some");
}

// The same without branches, for all steps: where a thread copies many pieces at once, and what is computed reads no memory.
static void copy_plainly(sd_print *P, const product *p, const side *s) {
  const sd_cuda_factor *f = s->f;
  sd_print_block(P); // where k is out of range too: what is computed here reads no memory
  bind_kept(P, s);
  const char *guard = f->load->a[1] ? sd_print_value(P, f->load->a[1]) : NULL;
  sd_print_line(P, "const bool in = k < (%s)%s && %sin[%s]%s%s;", sd_print_index_type(s->small_k), s->steps, s->id, kept_index(s),
                guard ? " && " : "", guard ? guard : "");
  sd_print_line(P, "const i64 from = (i64)%sfixed[%s] + %s;", s->id, kept_index(s), sd_print_value(P, f->moving));
  print_copy(P, p, s, sd_print_text(P, "from * %d", s->element), sd_print_text(P, "in ? %d : 0", s->piece));
  sd_print_unbind(P, s->axes, s->n);
  sd_print_close(P);
}

static void print_copies(sd_print *P, const product *p, const side *s) {
  sd_print_block(P);
  if (s->f->along_k) print_step(P, s), bind_steps(P, s, "k");
  if (s->f->along_k && sd_print_ready(P, s->f->moving)) sd_print_value(P, s->f->moving);
  sd_print_line(P, "#pragma unroll");
  sd_print_open(P, "for (int i = 0; i < %d; i++)", s->turns);
  if (!s->f->along_k) print_step(P, s), bind_steps(P, s, "k");
  if (p->t->wide) copy_plainly(P, p, s);
  else copy_piece(P, p, s);
  sd_print_close(P);
  unbind_steps(P, s);
  sd_print_close(P);
}

// The element as it stands in shared memory.
static const char *element(sd_print *P, const side *s) {
  return s->element == 2 ? sd_print_raw(P, s->f->value) : sd_print_value(P, s->f->value);
}

// Elements into registers, before the slice at hand is multiplied.
static void print_loads(sd_print *P, const side *s) {
  const char *t = sd_print_index_type(s->small_k);
  sd_print_line(P, "#pragma unroll");
  sd_print_open(P, "for (int i = 0; i < %d; i++)", s->turns);
  print_step(P, s);
  sd_print_line(P, "#pragma unroll");
  sd_print_open(P, "for (int j = 0; j < %d; j++)", vector(s));
  const char *k = s->f->along_k ? "k + j" : "k";
  sd_print_line(P, "%spieces[i][j] = 0;", s->id);
  sd_print_open(P, "if (%s < (%s)%s && %sin[%s]%s)", k, t, s->steps, s->id, kept_index(s),
                whole_slice(P, s) ? "" : sd_print_text(P, " && threadIdx.x < %d", s->rows * s->per_row));
  sd_print_line(P, "const %s step = %s;", t, k);
  bind_steps(P, s, "step");
  bind_kept(P, s);
  sd_print_line(P, "%spieces[i][j] = %s;", s->id, element(P, s));
  sd_print_unbind(P, s->axes, s->n);
  unbind_steps(P, s);
  sd_print_close(P);
  sd_print_close(P);
  sd_print_close(P);
}

// Behind it, they go to the slice that everybody is done with.
static void print_puts(sd_print *P, const product *p, const side *s) {
  sd_print_line(P, "#pragma unroll");
  sd_print_open(P, "for (int i = 0; i < %d; i++)", s->turns);
  if (!whole_slice(P, s)) sd_print_open(P, "if (threadIdx.x < %d)", s->rows * s->per_row);
  sd_print_line(P, "sd_store_vector<%d>((%s *)(ring + into + %d), (%s) / %d, %spieces[i]);", vector(s),
                word(s), s->at, place(P, p, s), s->element, s->id);
  if (!whole_slice(P, s)) sd_print_close(P);
  sd_print_close(P);
}

static const char *with(sd_print *P, const product *p) {
  static const char *const floats[] = {[SD_CUDA_F16] = "f16", [SD_CUDA_BF16] = "bf16", [SD_CUDA_TF32] = "tf32"};
  if (p->n->product->unit != SD_CUDA_BYTES) return floats[p->n->product->unit];
  bool xs = p->x.f->value->dtype == SD_I8, ys = p->y.f->value->dtype == SD_I8;
  return sd_print_text(P, "bytes<%s, %s>", xs ? "true" : "false", ys ? "true" : "false");
}

static const char *multiply(sd_print *P, const product *p) {
  if (p->n->product->places) return sd_print_text(P, "sd_step_places<%s, sd_with_%s, %d>", p->tile, with(P, p), p->x.element);
  if (p->n->product->unit == SD_CUDA_F32) return sd_print_text(P, "sd_step_f32<%s>", p->tile);
  return sd_print_text(P, "sd_step%s<%s, sd_with_%s, %d>", p->t->wide ? "_wide" : "", p->tile, with(P, p), p->x.element);
}

static void print_slices(sd_print *P, const product *p) {
  int stages = p->t->stages, bk = p->t->chunks * 16 / p->x.element;
  const char *type = p->y.small_k ? "int" : "i64";
  const side *sides[] = {&p->x, &p->y};
  sd_print_line(P, "const %s slices = (%s)(((u64)%s + %d) / %d);", type, type, p->y.steps, bk - 1, bk);
  sd_print_line(P, "int into = 0;");
  sd_print_open(P, "for (%s it = slices ? %d : 0; it < slices; it++)", type, 1 - stages);
  sd_print_open(P, "if (it >= 0)");
  sd_print_line(P, "sd_cp_wait<%d>();", stages - 2);
  sd_print_line(P, "__syncthreads();");
  sd_print_close(P);
  sd_print_line(P, "const int out_of = into == %d ? 0 : into + %d;", (stages - 1) * p->stage, p->stage);
  sd_print_line(P, "const %s first = (it + %d) * %d;", type, stages - 1, bk);
  for (int i = 0; i < 2; i++) {
    const side *s = sides[i];
    if (s->f->copy) {
      print_copies(P, p, s);
      continue;
    }
    sd_print_line(P, "%s %spieces[%d][%d];", word(s), s->id, s->turns, vector(s));
    print_loads(P, s);
  }
  if (p->n->product->places) sd_print_places(P, p->n, p->t, p->places_at);
  sd_print_line(P, "sd_cp_commit();");
  const char *places = p->places_at ? sd_print_text(P, ", out_of + %d", p->places_at) : "";
  sd_print_line(P, "if (it >= 0) %s(acc, ring, out_of, out_of + %d%s);", multiply(P, p), p->y.at, places);
  for (int i = 0; i < 2; i++)
    if (!sides[i]->f->copy) print_puts(P, p, sides[i]);
  sd_print_line(P, "into = out_of;");
  sd_print_close(P);
  sd_print_line(P, "sd_cp_wait<0>();");
  sd_print_line(P, "__syncthreads();");
}

// The same where four warps multiply at once: what follows the copies of slice `it` begins before its products end, and the
// slice they read is not written before all warps have waited for them.
static void print_wide_slices(sd_print *P, const product *p) {
  int stages = p->t->stages, ahead = stages - p->t->wide, bk = p->t->chunks * 16 / p->x.element;
  const char *type = p->y.small_k ? "int" : "i64", *next = "%s = %s == %d ? 0 : %s + %d;";
  int last = (stages - 1) * p->stage;
  sd_print_line(P, "const %s slices = (%s)(((u64)%s + %d) / %d);", type, type, p->y.steps, bk - 1, bk);
  sd_print_line(P, "int into = 0, out_of = 0;");
  sd_print_open(P, "auto bring = [&](const %s slice)", type);
  sd_print_line(P, "const %s first = slice * %d;", type, bk);
  print_copies(P, p, &p->x);
  print_copies(P, p, &p->y);
  sd_print_line(P, "sd_cp_commit();");
  sd_print_line(P, next, "into", "into", last, "into", p->stage);
  sd_print_close(P);
  sd_print_line(P, ";");
  sd_print_line(P, "#pragma unroll 1");
  sd_print_line(P, "for (int i = 0; i < %d; i++) bring(i);", ahead);
  sd_print_line(P, "#pragma unroll 1");
  sd_print_open(P, "for (%s it = 0; it < slices; it++)", type);
  sd_print_line(P, "sd_cp_wait<%d>();", ahead - 1);
  sd_print_line(P, "sd_wide_fence();");
  sd_print_line(P, "__syncthreads();");
  sd_print_line(P, "%s(acc, ring, out_of, out_of + %d);", multiply(P, p), p->y.at);
  sd_print_line(P, "bring(it + %d);", ahead);
  sd_print_line(P, "sd_wide_wait<%d>(acc);", p->t->wide - 1);
  sd_print_line(P, next, "out_of", "out_of", last, "out_of", p->stage);
  sd_print_close(P);
  sd_print_line(P, "sd_wide_wait<0>(acc);");
  sd_print_line(P, "sd_cp_wait<0>();");
  sd_print_line(P, "__syncthreads();");
}

// ---- tiles ----
static int ring_bytes(const sd_cuda_product *p, const sd_cuda_tile *t) {
  int slices = t->stages * sd_cuda_stage_bytes(p, t), sums = t->bm * t->bn * 4;
  return slices > sums ? slices : sums;
}

// "batch", "m0", "n0" of `tile`: eight rows of tiles together, so that neighbours in time read the same columns.
static void print_position(sd_print *P, const product *p, const char *down, const char *across) {
  const char *t = sd_print_index_type(p->small);
  sd_print_line(P, "const %s down = (%s)%s, across = (%s)%s;", t, t, down, t, across);
  sd_print_line(P, "const %s batch = tile / (down * across), in_batch = tile - batch * (down * across);", t);
  sd_print_line(P, "const %s above = in_batch / (8 * across) * 8, in_group = in_batch - above * across;", t);
  sd_print_line(P, "const %s high = down - above < 8 ? down - above : 8, column = in_group / high;", t);
  sd_print_line(P, "const %s m0 = (above + in_group - column * high) * %d, n0 = column * %d;", t, p->t->bm, p->t->bn);
}

static void print_tile(sd_print *P, const product *p) {
  const sd_cuda_nest *n = p->n;
  sd_dimtab *d = P->k->dims;
  const sd_cuda_tile *t = p->t;
  const side *sides[] = {&p->x, &p->y};
  sd_print_line(P, "typedef sd_tile<%d, %d, %d, %d, %d, %d, %s, %s> %s;", t->bm, t->bn, t->chunks, t->wm, t->wn, t->wk,
                p->x.f->along_k ? "true" : "false", p->y.f->along_k ? "true" : "false", p->tile);
  for (int i = 0; i < 2; i++)
    sd_print_line(P, "const int %srow = (int)threadIdx.x / %d, %spiece = (int)threadIdx.x %% %d;", sides[i]->id,
                  sides[i]->per_row, sides[i]->id, sides[i]->per_row);
  const char *type = sd_print_index_type(p->small);
  sd_dim down = sd_dim_ceildiv(d, sd_print_product(P, p->x.axes, p->x.n), sd_dim_const(d, t->bm)),
         across = sd_dim_ceildiv(d, sd_print_product(P, p->y.axes, p->y.n), sd_dim_const(d, t->bn));
  const char *count = sd_print_dim(P, sd_print_tile_count(P, n, t->bm, t->bn));
  sd_print_open(P, "for (%s tile = blockIdx.x; tile < (%s)%s; tile += gridDim.x)", type, type, count);
  print_position(P, p, sd_print_dim(P, down), sd_print_dim(P, across));
  sd_print_bind_digits(P, n->axes, n->n_rows, "batch", p->small);
  for (int i = 0; i < 2; i++) print_kept(P, p, sides[i]);
  if (n->product->places) sd_print_places_row(P, n, t, p->small);
  sd_print_line(P, "%s acc[%s::MI * %s::NI][4] = {};", sd_print_ctype(n->sum->dtype), p->tile, p->tile);
  if (t->wide) print_wide_slices(P, p);
  else print_slices(P, p);
  const char *stage = n->product->places ? "sd_stage<%s, false, true>(acc, ring);" : "sd_stage<%s, false>(acc, ring);";
  sd_print_line(P, n->product->unit == SD_CUDA_F32 ? "sd_stage_f32<%s>(acc, ring);" : stage, p->tile);
  sd_print_results(P, n, t, p->tile, p->small);
  sd_print_line(P, "__syncthreads();");
  sd_print_unbind(P, n->axes, n->n_rows);
  sd_print_close(P);
}

static void print_form(sd_print *P, const sd_cuda_nest *n, int which) {
  const sd_cuda_product *q = n->product;
  const sd_cuda_tile *t = &q->tile[which];
  const sd_axis *const *am = n->axes + n->n_rows, *const *an = am + n->n_m;
  uint32_t nn = n->nest->n_axes - n->n_rows - n->n_m;
  bool ignored;
  product p = {.n = n, .t = t, .tile = sd_print_text(P, "tile%d", which)};
  p.x = (side){.f = &q->x, .axes = am, .n = n->n_m, .id = "x", .first = "m0", .size = t->bm, .per = q->places ? 2 : 1};
  p.y = (side){.f = &q->y, .axes = an, .n = nn, .id = "y", .first = "n0", .size = t->bn, .per = 1};
  sd_print_count(P, n->axes, n->nest->n_axes, &p.small);
  p.x.count = sd_print_count(P, am, n->n_m, &ignored), p.y.count = sd_print_count(P, an, nn, &ignored);
  place_side(P, q, t, &p.x), place_side(P, q, t, &p.y);
  p.y.at = t->bm * p.x.chunks * 16, p.stage = sd_cuda_stage_bytes(q, t);
  p.places_at = q->places ? p.y.at + t->bn * p.y.chunks * 16 : 0;
  print_tile(P, &p);
}

void sd_print_product_tiles(sd_print *P, const sd_cuda_nest *n) {
  const sd_cuda_product *q = n->product;
  for (int i = 0; i < q->n_tiles; i++)
    if (ring_bytes(q, &q->tile[i]) > P->dynamic) P->dynamic = ring_bytes(q, &q->tile[i]);
  sd_print_line(P, "SD_DYNAMIC(ring, %d);", P->dynamic);
  if (q->n_tiles == 1) {
    print_form(P, n, 0);
    return;
  }
  const char *large = sd_print_wide_dim(P, sd_print_tile_count(P, n, q->tile[1].bm, q->tile[1].bn));
  sd_print_open(P, "if (%s < %lld)", large, (long long)q->many);
  print_form(P, n, 0);
  sd_print_close(P);
  sd_print_open(P, "else");
  print_form(P, n, 1);
  sd_print_close(P);
}

sd_dim sd_print_product_blocks(sd_print *P, const sd_cuda_nest *n) {
  const sd_cuda_product *q = n->product;
  sd_dim b = sd_print_tile_count(P, n, q->tile[0].bm, q->tile[0].bn);
  if (q->n_tiles == 1) return b;
  return sd_dim_max(P->k->dims, b, sd_print_tile_count(P, n, q->tile[1].bm, q->tile[1].bn));
}
