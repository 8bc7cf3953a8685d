// Which kernels a library of matrix products could compute: found by what is summed and stored, with all
// operands at fixed distances, and nothing behind the sum that such a library has no epilogue for.
#include "codegen/choose_cuda_matrix.h"

#include "codegen/access.h"

enum { ROWS, COLUMNS, BATCH, STEPS, N_ROLES };
typedef struct roles {
  const sd_axis *axis[N_ROLES]; // BATCH may be NULL
} roles;

// offset = first + the coefficients of the axes, and nothing else.
static bool is_linear(sd_kernel *k, const sd_expr *offset, const roles *r, sd_dim *first,
                      sd_dim coef[N_ROLES]) {
  *first = offset->op == SD_X_AFFINE ? offset->dim : sd_dim_const(k->dims, 0);
  if (*first == SD_DIM_NONE || (offset->op != SD_X_AFFINE && offset->op != SD_X_AXIS)) return false;
  for (uint32_t i = 0; offset->op == SD_X_AFFINE && i < offset->n; i++)
    if (offset->a[i]->op != SD_X_AXIS) return false;
  for (int i = 0; i < N_ROLES; i++) {
    coef[i] = sd_dim_const(k->dims, 0);
    if (r->axis[i] && (!sd_x_coef(k, offset, r->axis[i], &coef[i]) || coef[i] == SD_DIM_NONE)) return false;
  }
  return true;
}

static bool is(const sd_kernel *k, sd_dim d, int64_t v) { return sd_dim_is(k->dims, d, v); }

static void set_buf(const sd_kernel *k, const sd_buf *b, sd_cuda_place *p) {
  p->buf = b, p->param = 0;
  for (uint32_t i = 0; k->bufs.at[i] != b; i++) p->param += k->bufs.at[i]->kind != SD_BUF_LOCAL;
}

// A factor: rows (or columns) of the product, and the steps of the sum.
static bool place_factor(sd_kernel *k, const sd_expr *load, const roles *r, int side, sd_cuda_place *p) {
  sd_dim coef[N_ROLES];
  if (load->buf->kind != SD_BUF_IN || !is_linear(k, load->a[0], r, &p->first, coef)) return false;
  set_buf(k, load->buf, p);
  p->batch = coef[BATCH];
  p->along_k = is(k, coef[STEPS], 1);
  p->step = p->along_k ? coef[side] : coef[STEPS];
  return p->along_k || is(k, coef[side], 1);
}

// The results, or what is added to them.
static bool place_result(sd_kernel *k, const sd_buf *b, const sd_expr *offset, const roles *r,
                         sd_cuda_place *p) {
  sd_dim coef[N_ROLES];
  if (b->kind == SD_BUF_LOCAL || !is_linear(k, offset, r, &p->first, coef)) return false;
  set_buf(k, b, p);
  p->batch = coef[BATCH], p->step = coef[ROWS];
  return is(k, coef[COLUMNS], 1);
}

// ---- what is stored ----
typedef struct parts {
  const sd_expr *sum, *added[2];
  int n_added;
  float scale;
} parts;

static bool number(const sd_expr *e, double *v) {
  int64_t i;
  return sd_x_const_value(e, v, &i);
}

static bool take_sum(const sd_expr *e, float scale, parts *p) {
  bool first = !p->sum;
  p->sum = e, p->scale = scale;
  return first;
}

// Takes a sum of terms apart: the reduction, once, perhaps scaled, and loads; a bias may be 0.
static bool take_apart(const sd_expr *e, parts *p) {
  double v;
  if (number(e, &v)) return v == 0;
  if (e->op == SD_X_ADD) return take_apart(e->a[0], p) && take_apart(e->a[1], p);
  if (e->op == SD_X_REDUCE) return take_sum(e, 1, p);
  for (int i = 0; e->op == SD_X_MUL && i < 2; i++)
    if (e->a[i]->op == SD_X_REDUCE && number(e->a[!i], &v)) return take_sum(e->a[i], (float)v, p);
  if (e->op != SD_X_LOAD || e->a[1] || p->n_added == 2) return false;
  p->added[p->n_added++] = e;
  return true;
}

// max(x, 0): *out is x.
static bool is_relu(const sd_expr *e, const sd_expr **out) {
  double v;
  for (int i = 0; e->op == SD_X_MAX && i < 2; i++)
    if (number(e->a[i], &v) && v == 0) return *out = e->a[!i], true;
  return false;
}

// ---- the product ----
static bool is_plain_load(const sd_expr *e) { return e->op == SD_X_LOAD && !e->a[1]; }

static bool is_sum_of_products(const sd_expr *s) {
  if (s->rop != SD_R_SUM || s->dtype != SD_F32 || s->n_axes != 1 || s->axes[0]->limit) return false;
  const sd_expr *b = s->a[0];
  return b->op == SD_X_MUL && is_plain_load(b->a[0]) && is_plain_load(b->a[1]);
}

// Which axis is what: the results lie along the columns. One more axis, of one factor or of both, numbers the
// products; of the rows that is the outer one.
static bool find_roles(const sd_nest *n, const sd_axis *along, const sd_expr *x, const sd_expr *y, roles *r) {
  r->axis[COLUMNS] = along;
  for (uint32_t i = n->n_axes; i-- > 0;) {
    const sd_axis *a = n->axes[i];
    bool by_x = sd_x_uses_axis(x, a), by_y = sd_x_uses_axis(y, a);
    if (a->limit || (!by_x && !by_y)) return false;
    if (a == along) continue;
    const sd_axis **at = &r->axis[by_y || r->axis[ROWS] ? BATCH : ROWS];
    if (*at) return false;
    *at = a;
  }
  return r->axis[ROWS] && sd_x_uses_axis(y, along) && !sd_x_uses_axis(x, along);
}

static bool take_types(sd_cuda_matrix *o, bool tf32) {
  sd_dtype in = o->in = o->x.buf->dtype, out = o->to = o->out.buf->dtype;
  if (o->y.buf->dtype != in || (out != in && out != SD_F32)) return false;
  if (o->c.buf && o->c.buf->dtype != out) return false;
  o->of_bias = o->bias.buf ? o->bias.buf->dtype : out;
  if (o->of_bias != out && (o->of_bias != in || !o->bias.buf->invariant))
    return false; // weights can be widened once
  return in == SD_F16 || in == SD_BF16 || (in == SD_F32 && tf32);
}

static bool place_added(sd_kernel *k, const sd_expr *e, const roles *r, sd_cuda_matrix *o) {
  sd_cuda_place p = {0};
  if (!place_result(k, e->buf, e->a[0], r, &p)) return false;
  sd_cuda_place *to = is(k, p.step, 0) ? &o->bias : &o->c;
  if (to->buf) return false;
  *to = p;
  return true;
}

static bool place_all(sd_kernel *k, const sd_store *s, const roles *r, const parts *p, const sd_expr *x,
                      const sd_expr *y, sd_cuda_matrix *o) {
  if (!place_factor(k, x, r, ROWS, &o->x) || !place_factor(k, y, r, COLUMNS, &o->y)) return false;
  if (!place_result(k, s->buf, s->offset, r, &o->out)) return false;
  for (int i = 0; i < p->n_added; i++)
    if (!place_added(k, p->added[i], r, o)) return false;
  return true;
}

bool sd_choose_cuda_matrix(sd_kernel *k, bool tf32, sd_cuda_matrix *out) {
  *out = (sd_cuda_matrix){0};
  const sd_nest *n = k->items.len == 1 && k->grid.len == 0 ? k->items.at[0].nest : NULL;
  if (!n || n->sequential || n->stores.len != 1 || n->stores.at[0].guard) return false;
  const sd_store *s = &n->stores.at[0];
  const sd_expr *value = s->value;
  parts p = {0};
  out->relu = is_relu(value, &value);
  if (!take_apart(value, &p) || !p.sum || !is_sum_of_products(p.sum)) return false;
  const sd_expr *const *f = (const sd_expr *const *)p.sum->a[0]->a;
  int along = sd_access_store_axis(k, n); // the second factor moves with it
  if (along < 0) return false;
  bool turned = !sd_x_uses_axis(f[1], n->axes[along]);
  roles r = {.axis = {[STEPS] = p.sum->axes[0]}};
  if (!find_roles(n, n->axes[along], f[turned], f[!turned], &r) ||
      !place_all(k, s, &r, &p, f[turned], f[!turned], out))
    return false;
  sd_dim one = sd_dim_const(k->dims, 1);
  out->m = r.axis[ROWS]->extent, out->n = r.axis[COLUMNS]->extent, out->k = p.sum->axes[0]->extent;
  out->batch = r.axis[BATCH] ? r.axis[BATCH]->extent : one;
  out->scale = p.scale;
  return take_types(out, tf32);
}
