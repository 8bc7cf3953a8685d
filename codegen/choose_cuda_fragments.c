// Recognizes kernels whose local buffers are rows in registers, and schedules their products.
#include "codegen/choose_cuda_fragments.h"

#include "codegen/access.h"
#include "runtime/base/alloc.h"

#define GRAIN        16 // rows of a warp, steps of a product of 16-bit factors
#define MOST_ROWS    128
#define MOST_COLUMNS 256
#define SHARED       (44 << 10) // bytes for factors; with what else a kernel needs below 48 KiB
#define REGISTERS    176        // numbers of a thread in local buffers, sums and factors that stay

typedef struct choice {
  sd_kernel *k;
  sd_arena *a;
  sd_cuda_fragments *out;
  const sd_axis *loop;
  int64_t shared, registers;
  uint32_t products;
} choice;

static int64_t constant(const choice *c, sd_dim d) {
  int64_t v;
  return sd_dim_is_const(c->k->dims, d, &v) ? v : 0;
}

// ---- loads below expressions ----
typedef struct look {
  bool local, global;
} look;
static bool look_at(void *user, const sd_expr *x) {
  look *l = user;
  if (x->op == SD_X_LOAD) *(x->buf->kind == SD_BUF_LOCAL ? &l->local : &l->global) = true;
  return true;
}
static look loads_of(const choice *c, const sd_expr *e) {
  look l = {false, false};
  if (e) sd_x_walk(c->k, e, look_at, &l);
  return l;
}

// A limit that all threads of a block share.
static bool uniform(const choice *c, const sd_axis *a, const sd_cuda_fragment *f) {
  if (!a->limit) return true;
  if (loads_of(c, a->limit).local) return false;
  return !f || (!sd_x_uses_axis(a->limit, f->row) && !(f->col && sd_x_uses_axis(a->limit, f->col)));
}

// ---- local buffers ----
static bool is_axis(const sd_expr *e, const sd_axis *a) { return e->op == SD_X_AXIS && e->axis == a; }

// The offset is the row, or columns * row + `col`.
static bool place(choice *c, const sd_buf *b, const sd_expr *offset, const sd_axis *row, const sd_axis *col) {
  int64_t count = constant(c, b->count), columns = 0, one, many;
  sd_dim cr, cc;
  if (!is_axis(offset, row)) {
    if (!col || offset->op != SD_X_AFFINE || offset->n != 2 || !sd_dim_is(c->k->dims, offset->dim, 0)) return false;
    if (!sd_x_coef(c->k, offset, row, &cr) || !sd_x_coef(c->k, offset, col, &cc)) return false;
    if (!sd_dim_is_const(c->k->dims, cr, &many) || !sd_dim_is_const(c->k->dims, cc, &one) || one != 1) return false;
    columns = many;
    if (columns < 2 || columns > MOST_COLUMNS || constant(c, col->extent) > columns) return false;
  }
  if (count != c->out->rows * (columns ? columns : 1)) return false;
  int *known = &c->out->columns[b->id];
  if (*known < 0) *known = (int)columns, c->registers += columns ? columns / 2 : 2;
  return *known == columns;
}

static bool is_narrow(sd_dtype t) { return t == SD_F16 || t == SD_BF16; }

static bool stores_fit(choice *c, const sd_cuda_fragment *f) {
  for (uint32_t i = 0; i < f->nest->stores.len; i++) {
    const sd_store *s = &f->nest->stores.at[i];
    if (s->buf->kind != SD_BUF_LOCAL) continue;
    if (!place(c, s->buf, s->offset, f->row, f->col) || s->guard) return false;
    if (s->buf->dtype != SD_F32 && !(is_narrow(s->buf->dtype) && c->out->columns[s->buf->id])) return false;
    if ((c->out->columns[s->buf->id] != 0) != (f->col != NULL)) return false;
  }
  return true;
}

// ---- sums of products ----
static bool factors(choice *c, sd_cuda_fragment *f) {
  const sd_expr *body = f->sum->a[0];
  if (f->sum->rop != SD_R_SUM || f->sum->n_axes != 1 || body->op != SD_X_MUL || f->sum->dtype != SD_F32) return false;
  f->k = f->sum->axes[0];
  int64_t steps = constant(c, f->k->extent);
  if (steps < 2 || steps > MOST_COLUMNS || !uniform(c, f->k, f)) return false;
  for (int i = 0; i < 2; i++) {
    const sd_expr *x = body->a[i], *y = body->a[1 - i];
    if (!sd_x_uses_axis(x, f->row) || sd_x_uses_axis(x, f->col) || sd_x_uses_axis(y, f->row) ||
        !sd_x_uses_axis(y, f->col))
      continue;
    f->a = x, f->b = y;
  }
  if (!f->a || !sd_x_uses_axis(f->a, f->k) || !sd_x_uses_axis(f->b, f->k) || loads_of(c, f->b).local) return false;
  if (f->a->op == SD_X_LOAD && f->a->buf->kind == SD_BUF_LOCAL) {
    f->local = f->a->buf;
    return !f->a->a[1] && place(c, f->local, f->a->a[0], f->row, f->k) && c->out->columns[f->local->id] == steps;
  }
  return !loads_of(c, f->a).local;
}

// The type of a factor as it stands in memory.
static sd_dtype stored(const sd_expr *x) {
  return x->op == SD_X_LOAD && is_narrow(x->buf->dtype) ? x->buf->dtype : SD_F32;
}

// Elements of 16 bytes lie together and begin at a multiple of them, wherever the buffer begins.
static int vector_of(const choice *c, const sd_cuda_fragment *f, const sd_axis *inner, int size) {
  const sd_expr *l = f->b;
  int per = 16 / size;
  if (l->op != SD_X_LOAD || l->a[1] || (f->mma == SD_MMA_F32) != (l->buf->dtype == SD_F32)) return 0;
  if (l->buf->kind != SD_BUF_IN || constant(c, inner->extent) % per || inner->limit) return 0;
  bool along = sd_access_stride(c->k, l->a[0], inner) == SD_STRIDE_ONE;
  return along && sd_access_starts_at(c->k, l->a[0], &inner, 1, per) ? per : 0;
}

static int up(int64_t x, int to) { return (int)((x + to - 1) / to * to); }

// Lines of the factor in shared memory: padded, so that the threads of a warp meet all banks.
static void lay_out(choice *c, sd_cuda_fragment *f) {
  f->b_along_k = f->b->op != SD_X_LOAD || sd_access_stride(c->k, f->b->a[0], f->col) != SD_STRIDE_ONE;
  const sd_axis *inner = f->b_along_k ? f->k : f->col, *outer = f->b_along_k ? f->col : f->k;
  int64_t in = constant(c, inner->extent), lines = constant(c, outer->extent);
  int size = f->mma == SD_MMA_F32 ? 4 : 2;
  if (size == 2) f->b_stride = up(in, 16) + 8, f->b_count = up(lines, 16) * f->b_stride;
  else if (f->b_along_k)
    f->b_stride = up(in, 8) + (up(in, 8) / 8 % 2 ? 0 : 8), f->b_count = up(lines, 8) * f->b_stride;
  else
    f->b_stride = up(in, 8) + 4, f->b_count = up(lines, 8) * f->b_stride;
  f->b_vec = vector_of(c, f, inner, size);
  c->shared += (int64_t)f->b_count * size;
}

typedef struct look_for {
  const sd_buf *buf;
  bool found;
} look_for;
static bool is_load_of(void *user, const sd_expr *x) {
  look_for *l = user;
  if (x->op == SD_X_LOAD && x->buf == l->buf) l->found = true;
  return true;
}
static bool loads_buffer(const choice *c, const sd_expr *e, const sd_buf *b) {
  look_for l = {b, false};
  sd_x_walk(c->k, e, is_load_of, &l);
  return l.found;
}

// Where the results of the product go.
static void aim(choice *c, sd_cuda_fragment *f) {
  const sd_store *s = &f->nest->stores.at[0];
  const sd_expr *v = s->value;
  if (f->nest->stores.len == 1 && s->buf->kind == SD_BUF_LOCAL && s->buf->dtype == SD_F32 && s->buf != f->local) {
    f->in_place = true;
    if (v->op == SD_X_ADD && (v->a[0] == f->sum) != (v->a[1] == f->sum)) {
      const sd_expr *x = v->a[0] == f->sum ? v->a[1] : v->a[0];
      look l = loads_of(c, x);
      if (!l.global) f->begin = x;
    }
    if (f->begin || !loads_buffer(c, v, s->buf)) return;
    f->in_place = false;
  }
  c->registers += constant(c, f->col->extent) / 2;
}

static bool choose_product(choice *c, sd_cuda_fragment *f) {
  if (!factors(c, f)) return false;
  sd_dtype ta = f->local ? f->local->dtype : stored(f->a), tb = stored(f->b);
  f->mma = ta == tb && ta == SD_F16 ? SD_MMA_F16 : ta == tb && ta == SD_BF16 ? SD_MMA_BF16 : SD_MMA_F32;
  if (f->local && is_narrow(ta) && f->mma == SD_MMA_F32) return false; // its registers hold pairs
  lay_out(c, f);
  aim(c, f);
  if (!f->local && (!c->loop || !sd_x_uses_axis(f->a, c->loop))) {
    int64_t keep = constant(c, f->k->extent) / (f->mma == SD_MMA_F32 ? 2 : 4);
    f->before = c->registers + keep <= REGISTERS;
    if (f->before) c->registers += keep;
  }
  c->products++;
  return true;
}

// ---- nests ----
static bool loads_fit(choice *c, const sd_cuda_fragment *f, const sd_accesses *loads) {
  for (uint32_t i = 0; i < loads->len; i++) {
    const sd_expr *l = loads->at[i].load;
    const sd_expr *r = loads->at[i].reduce;
    if (r && r == f->sum) continue; // looked at with the factors
    if (l->buf->kind != SD_BUF_LOCAL) {
      if (r) return false;
      continue;
    }
    if (l->a[1] || !place(c, l->buf, l->a[0], f->row, r ? r->axes[0] : f->col)) return false;
    if (!r && !f->col && c->out->columns[l->buf->id]) return false;
  }
  return true;
}

static bool choose_nest(choice *c, const sd_nest *n) {
  sd_cuda_fragment f = {.nest = n, .loop = c->loop};
  sd_accesses loads = {0};
  sd_reductions reductions = {0};
  if (n->sequential || n->n_axes < 1 || n->n_axes > 2 || n->stores.len == 0) return false;
  f.row = n->axes[0], f.col = n->n_axes == 2 ? n->axes[1] : NULL;
  if (constant(c, f.row->extent) != c->out->rows || !uniform(c, f.row, &f)) return false;
  if (f.col && (constant(c, f.col->extent) < 2 || constant(c, f.col->extent) > MOST_COLUMNS || !uniform(c, f.col, &f)))
    return false;
  sd_access_collect(c->k, n, c->a, &loads, &reductions);
  for (uint32_t i = 0; i < reductions.len; i++) {
    const sd_expr *r = reductions.at[i].expr;
    if (reductions.at[i].parent || r->n_axes != 1 || (f.col && i > 0)) return false;
    if (f.col) f.sum = r;
    else if (!uniform(c, r->axes[0], &f) || r->dtype != SD_F32 || constant(c, r->axes[0]->extent) < 2)
      return false;
  }
  if (!stores_fit(c, &f) || (f.sum && !choose_product(c, &f)) || !loads_fit(c, &f, &loads)) return false;
  sd_vec_push(c->a, &c->out->nests, f);
  return true;
}

static bool choose_items(choice *c, const sd_items *items) {
  for (uint32_t i = 0; i < items->len; i++) {
    const sd_item *it = &items->at[i];
    if (it->nest ? !choose_nest(c, it->nest) : c->loop || !uniform(c, it->loop, NULL)) return false;
    if (it->nest) continue;
    c->loop = it->loop;
    if (!choose_items(c, it->body)) return false;
    c->loop = NULL;
  }
  return true;
}

const sd_cuda_fragments *sd_choose_cuda_fragments(sd_kernel *k, sd_arena *a) {
  const sd_nest *first = k->items.len ? k->items.at[0].nest : NULL;
  if (!k->grid.len || !first || !first->n_axes) return NULL;
  sd_cuda_fragments *out = SD_NEW(a, sd_cuda_fragments);
  choice c = {.k = k, .a = a, .out = out};
  int64_t rows = constant(&c, first->axes[0]->extent);
  if (rows < GRAIN || rows % (rows > 4 * GRAIN ? 4 * GRAIN : GRAIN) || rows > MOST_ROWS) return NULL;
  *out = (sd_cuda_fragments){.rows = (int)rows, .columns = SD_NEW_ARRAY(a, int, k->bufs.len + 1)};
  for (uint32_t i = 0; i < k->bufs.len; i++) out->columns[i] = -1;
  bool fits = choose_items(&c, &k->items) && c.products && c.shared <= SHARED && c.registers <= REGISTERS;
  return fits ? out : NULL;
}
