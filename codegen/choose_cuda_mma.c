// Products on tensor cores: what multiplies, how the factors come into shared memory, sizes of tiles.
#include "codegen/choose_cuda_nest.h"

#include "runtime/base/alloc.h"

#define PROCESSORS   132  // of a large GPU
#define MORE         64   // times as many rows as guessed are possible
#define FIXED_CYCLES 3000 // of a tile besides its steps: first slices, results
#define FIXED_SHARED 2000 // where another block multiplies meanwhile
#define LEAST_SHARED (64 * 1024) // bytes that a block may have on all GPUs

// ---- units ----
static bool loads(const sd_expr *e, sd_dtype t) { return e->op == SD_X_LOAD && e->buf->dtype == t; }
static bool loads_narrow(const sd_expr *e) { return loads(e, SD_F16) || loads(e, SD_BF16); }

static bool widens_bytes(const sd_expr *e) {
  return e->op == SD_X_CAST && e->dtype == SD_I32 && (e->a[0]->dtype == SD_I8 || e->a[0]->dtype == SD_U8);
}

// False: none for these types.
static bool choose_unit(const sd_cuda_choice *c, const sd_expr *y, sd_cuda_product *p) {
  const sd_expr *x = c->out->x;
  p->element = 1, p->unit = SD_CUDA_BYTES;
  if (c->out->sum->dtype == SD_I32) return widens_bytes(x) && widens_bytes(y);
  if (c->out->sum->dtype != SD_F32) return false;
  p->element = 2;
  if (loads(x, SD_F16) && loads(y, SD_F16)) return p->unit = SD_CUDA_F16, true;
  if (loads(x, SD_BF16) && loads(y, SD_BF16)) return p->unit = SD_CUDA_BF16, true;
  p->element = 4;
  p->unit = c->options->tf32 || (loads_narrow(x) && loads_narrow(y)) ? SD_CUDA_TF32 : SD_CUDA_F32;
  return true;
}

// The unit for a second factor that is kept without its zeros; false: there is none, or it is not.
static bool choose_places(sd_cuda_choice *c, const sd_expr **y, sd_cuda_product *p) {
  bool bytes = widens_bytes(*y);
  sd_cuda_places *places = SD_NEW(c->a, sd_cuda_places);
  if (!sd_cuda_two_of_four(c, bytes ? (*y)->a[0] : *y, places)) return false;
  const sd_expr *value = bytes ? sd_x_cast(c->k, SD_I32, (sd_expr *)places->value) : places->value;
  if (!choose_unit(c, value, p) || p->unit == SD_CUDA_TF32 || p->unit == SD_CUDA_F32) return false;
  *y = value, p->places = places;
  return true;
}

static sd_dtype stored_type(const sd_cuda_product *p, const sd_expr *value) {
  return p->unit == SD_CUDA_BYTES ? value->dtype : p->unit == SD_CUDA_F16 ? SD_F16 : p->unit == SD_CUDA_BF16 ? SD_BF16 : SD_F32;
}

// ---- slices ----
// What is computed without reading memory, and thus for indices out of range too.
static bool enter_pure(void *user, const sd_expr *x) {
  if (x->op == SD_X_LOAD || x->op == SD_X_INDEX || x->op == SD_X_REDUCE) *(bool *)user = false;
  return true;
}
static bool pure(sd_kernel *k, const sd_expr *e) {
  bool yes = true;
  if (e) sd_x_walk(k, e, enter_pure, &yes);
  return yes;
}

// offset = fixed + moving
static void split_offset(sd_kernel *k, sd_expr *e, const sd_axis *const *steps, uint32_t n, sd_cuda_factor *f) {
  sd_expr *fixed = sd_x_i(k, SD_I64, 0), *moving = fixed;
  if (e->op != SD_X_AFFINE) {
    *(sd_access_uses_any(e, steps, n) ? &moving : &fixed) = e;
  } else {
    for (uint32_t i = 0; i < e->n; i++) {
      sd_expr **to = sd_access_uses_any(e->a[i], steps, n) ? &moving : &fixed;
      *to = sd_x_bin(k, SD_X_ADD, *to, sd_x_mul_dim(k, e->a[i], e->coef[i]));
    }
    if (e->dim != SD_DIM_NONE) fixed = sd_x_bin(k, SD_X_ADD, fixed, sd_x_dim(k, e->dim));
  }
  f->fixed = fixed, f->moving = moving;
}

// Iterations of the axes, the last one innermost, over which a load runs through neighbouring elements that are guarded
// alike: those of the last `*out_run` axes together. SD_DIM_NONE: the last axis does not move it by one.
static sd_dim run_of(sd_kernel *k, const sd_expr *load, const sd_axis *const *axes, uint32_t n, uint32_t *out_run) {
  sd_dim count = sd_dim_const(k->dims, 1), c;
  uint32_t run = 0;
  for (; run < n; run++) {
    const sd_axis *a = axes[n - 1 - run];
    if (!sd_x_coef(k, load->a[0], a, &c) || c != count || (load->a[1] && sd_x_uses_axis(load->a[1], a))) break;
    sd_dim all = sd_dim_mul(k->dims, count, a->extent);
    if (all == SD_DIM_NONE) break;
    count = all;
  }
  *out_run = run;
  return run ? count : SD_DIM_NONE;
}

// Are the elements of `v` iterations, from each v-th one on, neighbours that begin at a multiple of v?
static bool vector_of(sd_kernel *k, const sd_expr *load, const sd_axis *const *axes, uint32_t n, int v) {
  uint32_t run;
  sd_dim count = run_of(k, load, axes, n, &run);
  if (count == SD_DIM_NONE || !sd_dim_multiple_of(k->dims, count, v)) return false;
  return sd_access_starts_at(k, load->a[0], axes + n - run, run, v);
}

// Bytes of the largest copies along those axes; 0: none.
static int copy_along(sd_kernel *k, const sd_expr *load, const sd_axis *const *axes, uint32_t n, int element) {
  for (int bytes = 16; bytes >= 4 && bytes > element / 2; bytes /= 2)
    if (vector_of(k, load, axes, n, bytes / element)) return bytes;
  return 0;
}

static void choose_factor(sd_cuda_choice *c, const sd_cuda_product *p, const sd_expr *value, const sd_axis *const *axes,
                          uint32_t n, bool along_k, sd_cuda_factor *f) {
  bool bytes = p->unit == SD_CUDA_BYTES, only_k = bytes || p->places; // several steps stand in a register
  if (bytes) value = value->a[0];
  *f = (sd_cuda_factor){.value = value, .along_k = along_k || only_k, .steps = f->steps, .n_steps = f->n_steps};
  if (!loads(value, stored_type(p, value))) return;
  split_offset(c->k, value->a[0], f->steps, f->n_steps, f);
  if (!pure(c->k, f->moving) || !pure(c->k, value->a[1])) return;
  int in_k = copy_along(c->k, value, f->steps, f->n_steps, p->element),
      across = only_k ? 0 : copy_along(c->k, value, axes, n, p->element);
  f->load = value;
  f->copy = in_k > across ? in_k : across;
  if (f->copy) f->along_k = in_k > across || (in_k == across && along_k);
}

// ---- tiles ----
// `rate`: products in a cycle, in 1/16 of what the largest tile does.
typedef struct candidate {
  sd_cuda_tile t;
  int rate;
} candidate;
static const candidate candidates[] = {
    {{128, 128, 4, 2, 4, 1, 4, 0}, 16}, {{128, 64, 4, 4, 2, 1, 4, 0}, 13}, {{64, 128, 4, 2, 4, 1, 4, 0}, 13},
    {{64, 64, 8, 2, 2, 2, 4, 0}, 11},   {{32, 64, 8, 2, 2, 2, 4, 0}, 8},   {{64, 32, 8, 2, 2, 2, 4, 0}, 8},
    {{32, 32, 8, 2, 2, 2, 4, 0}, 6},    {{16, 64, 8, 1, 4, 2, 4, 0}, 6},   {{16, 128, 8, 1, 4, 2, 3, 0}, 8},
    {{128, 64, 8, 8, 1, 1, 4, 1}, 20},  {{128, 128, 8, 8, 1, 1, 3, 1}, 24},
    {{128, 192, 8, 8, 1, 1, 4, 2}, 27}, {{128, 256, 8, 8, 1, 1, 4, 2}, 29},
};

enum { N_CANDIDATES = sizeof candidates / sizeof *candidates };

static double tiles_along(double x, int size) {
  double q = x / size;
  return (double)(int64_t)q < q ? (double)(int64_t)q + 1 : (double)(int64_t)q;
}

static double count_tiles(const candidate *t, double m, double n, double batch) {
  return tiles_along(m, t->t.bm) * tiles_along(n, t->t.bn) * batch;
}

// Sums of a thread.
static int sums(const sd_cuda_tile *t) { return t->bm * t->bn / (t->wm * t->wn * SD_CUDA_WARP); }

// Of a processor at once, as registers and shared memory allow.
static int blocks_of(const sd_cuda_product *p, const sd_cuda_tile *t) {
  bool long_copies = p->x.copy == 16 && p->y.copy == 16;
  // places in an image need registers of their own
  bool places = (p->x.load && p->x.load->a[1]) || (p->y.load && p->y.load->a[1]);
  if (places && sums(t) > (t->wide ? 32 : 16) && (t->wide || (p->many_products && p->unit == SD_CUDA_F32))) return 1;
  if (t->wide) return sums(t) <= 64 && long_copies ? 2 : 1;
  return sums(t) <= 16 || long_copies ? 2 : 1;
}

static double cycles(const sd_cuda_product *p, const candidate *t, double m, double n, double batch, double steps) {
  double tiles = count_tiles(t, m, n, batch);
  // products of a processor
  double cycle = p->unit == SD_CUDA_F32 ? 200 : p->unit == SD_CUDA_TF32 ? 600 : p->unit == SD_CUDA_BYTES ? 2400 : 1200;
  if (p->places) cycle *= 2;
  double multiply = t->t.bm * (double)t->t.bn / (cycle * t->rate / 16);
  double bring = (t->t.bm + t->t.bn * (p->places ? 0.5 : 1)) * (double)p->element / (t->t.wide ? 60 : 40); // bytes from the second cache in a cycle
  bool alone = !t->t.wide || blocks_of(p, &t->t) == 1;
  return tiles_along(tiles, PROCESSORS) * ((alone ? FIXED_CYCLES : FIXED_SHARED) + steps * (multiply > bring ? multiply : bring));
}

// Four warps at once read slices that copies bring; all but 16-bit elements along the steps only.
static bool can_be_wide(const sd_cuda_choice *c, const sd_cuda_product *p, const sd_cuda_tile *t) {
  bool along = p->x.along_k && p->y.along_k;
  if (!c->options->wide || p->unit == SD_CUDA_F32 || (p->element != 2 && !along)) return false;
  bool whole = p->y.along_k || (t->bn & (t->bn - 1)) == 0; // threads fill rows of a slice
  return p->x.copy >= 8 && p->y.copy >= 8 && whole;
}

// `beside`: another tile's form stands in the same kernel, whose blocks shall find room too.
static bool fits(const sd_cuda_choice *c, const sd_cuda_product *p, const candidate *t, bool beside) {
  if (t == candidates && p->unit == SD_CUDA_F32) return false; // three products for one need the registers
  if (t->t.wide && p->places) return false;
  return !t->t.wide || (can_be_wide(c, p, &t->t) && (!beside || blocks_of(p, &t->t) > 1));
}

static const candidate *best_tile(const sd_cuda_choice *c, const sd_cuda_product *p, bool beside, double m, double n, double batch,
                                  double steps) {
  const candidate *best = NULL;
  double least = 0;
  for (int i = 0; i < N_CANDIDATES; i++) {
    if (!fits(c, p, &candidates[i], beside)) continue;
    double t = cycles(p, &candidates[i], m, n, batch, steps);
    if (!best || t < least) best = &candidates[i], least = t;
  }
  return best;
}

// The row that was asked for, or the next one before it that fits; NULL: none was.
static const candidate *asked_tile(const sd_cuda_choice *c, const sd_cuda_product *p) {
  int i = c->options->tile;
  if (i == 0) return NULL;
  if (i > N_CANDIDATES) i = N_CANDIDATES;
  for (; i > 1; i--)
    if (fits(c, p, &candidates[i - 1], false)) return &candidates[i - 1];
  return fits(c, p, candidates, false) ? candidates : &candidates[1];
}

// Tiles of the form for many rows from which on it is the faster one.
static double many_tiles(const sd_cuda_product *p, const candidate *few, const candidate *many, double m, double n,
                         double batch, double steps) {
  double most = m * MORE;
  while (m < most && cycles(p, few, m, n, batch, steps) <= cycles(p, many, m, n, batch, steps)) m *= 1.25;
  return count_tiles(many, m, n, batch);
}

int sd_cuda_stage_bytes(const sd_cuda_product *p, const sd_cuda_tile *t) {
  int row = t->chunks * 16, steps = row / p->element;
  return p->places ? t->bm * 2 * row + t->bn * (row + steps / 4) : (t->bm + t->bn) * row;
}

// Slices of the first factor are twice as long.
static void fewer_stages(const sd_cuda_product *p, sd_cuda_tile *t) {
  while (t->stages > 2 && t->stages * sd_cuda_stage_bytes(p, t) > LEAST_SHARED) t->stages--;
}

static void choose_tiles(const sd_cuda_choice *c, sd_cuda_product *p, double m, double n, double batch) {
  double steps = sd_access_steps(c->k->dims, c->out->sum);
  bool both = !sd_cuda_known(c);
  const candidate *few = asked_tile(c, p), *many = few;
  if (!few) {
    few = best_tile(c, p, false, m, n, batch, steps);
    many = both ? best_tile(c, p, !few->t.wide, m * MORE, n, batch, steps) : few;
  }
  p->tile[0] = few->t, p->tile[1] = many->t;
  for (int i = 0; i < 2 && p->places; i++) fewer_stages(p, &p->tile[i]);
  p->n_tiles = few == many ? 1 : 2;
  p->many = p->n_tiles == 2 ? (int64_t)many_tiles(p, few, many, m, n, batch, steps) : 0;
  p->blocks = blocks_of(p, &p->tile[0]);
  if (p->n_tiles == 2 && blocks_of(p, &p->tile[1]) < p->blocks) p->blocks = 1;
}

const sd_cuda_product *sd_choose_cuda_product(sd_cuda_choice *c, double m, double n, double batch) {
  sd_cuda_nest *o = c->out;
  sd_cuda_product *p = SD_NEW(c->a, sd_cuda_product);
  const sd_expr *y = o->y;
  if (!choose_places(c, &y, p) && !choose_unit(c, y, p)) return NULL;
  p->many_products = o->n_rows > 0;
  const sd_axis *const *am = o->axes + o->n_rows, *const *an = am + o->n_m;
  p->x.steps = p->y.steps = (const sd_axis *const *)o->sum->axes, p->x.n_steps = p->y.n_steps = o->sum->n_axes;
  if (p->places) p->y.steps = &p->places->kept, p->y.n_steps = 1;
  choose_factor(c, p, o->x, am, o->n_m, o->x_along_k, &p->x);
  choose_factor(c, p, y, an, c->n->n_axes - o->n_rows - o->n_m, o->y_along_k, &p->y);
  choose_tiles(c, p, m, n, batch);
  return p;
}
