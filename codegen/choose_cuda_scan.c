// Recognizes kernels that walk along an axis, y[p] = y[p - 1] op x[p].
#include "codegen/choose_cuda_nest.h"

#include "runtime/base/alloc.h"

static bool is_zero(const sd_expr *e) {
  int64_t v;
  return sd_x_const_value(e, NULL, &v) && v == 0;
}

// x + y, also in the form that sums of i64 have.
static bool is_sum(const sd_kernel *k, const sd_expr *e) {
  if (e->op == SD_X_ADD) return true;
  bool two = e->op == SD_X_AFFINE && e->n == 2 && (e->dim == SD_DIM_NONE || sd_dim_is(k->dims, e->dim, 0));
  return two && sd_dim_is(k->dims, e->coef[0], 1) && sd_dim_is(k->dims, e->coef[1], 1);
}

// sel(0 < run, y[p - 1], first)
static bool is_before(sd_kernel *k, const sd_store *s, sd_axis *run, const sd_expr *e, sd_cuda_scan *out) {
  if (e->op != SD_X_SEL || e->a[1]->op != SD_X_LOAD || e->a[1]->buf != s->buf ) return false;
  const sd_expr *started = e->a[0], *load = e->a[1];
  int64_t first;
  if (started->op != SD_X_LT || !is_zero(started->a[0]) || started->a[1]->op != SD_X_AXIS || started->a[1]->axis != run) return false;
  sd_expr *back = sd_x_bin(k, SD_X_SUB, sd_x_axis(k, run), sd_x_i(k, SD_I64, 1));
  if (e->a[2]->op != SD_X_CONST && !sd_x_const_value(e->a[2], NULL, &first)) return false;
  if (load->a[1] != started || sd_x_subst(k, s->offset, run, back) != load->a[0]) return false;
  out->first = e->a[2];
  return true;
}

static bool reads(sd_kernel *k, const sd_nest *n, const sd_buf *b, const sd_expr *but, sd_arena *a) {
  sd_accesses loads = {0};
  sd_reductions reductions = {0};
  sd_access_collect(k, n, a, &loads, &reductions);
  for (uint32_t i = 0; i < loads.len; i++)
    if (loads.at[i].load->buf == b && loads.at[i].load != but) return true;
  return reductions.len > 0;
}

static bool match(sd_kernel *k, const sd_nest *n, sd_axis *run, sd_arena *a, sd_cuda_scan *out) {
  const sd_store *s = n->stores.at;
  if (n->stores.len != 1 || s->guard || run->limit || sd_dtype_bits(s->buf->dtype) < 8) return false;
  const sd_expr *v = s->value;
  bool sum = is_sum(k, v);
  if (!sum && v->op != SD_X_MUL) return false;
  int at = is_before(k, s, run, v->a[0], out) ? 0 : 1;
  if (at == 1 && !is_before(k, s, run, v->a[1], out)) return false;
  if (reads(k, n, s->buf, v->a[at]->a[1], a)) return false;
  out->nest = n, out->run = run, out->x = v->a[1 - at], out->op = sum ? SD_R_SUM : SD_R_PROD;
  return true;
}

const sd_cuda_scan *sd_choose_cuda_scan(sd_kernel *k, sd_arena *a) {
  const sd_item *it = k->items.len == 1 ? k->items.at : NULL;
  const sd_nest *n = it && it->loop ? (it->body->len == 1 ? it->body->at[0].nest : NULL) : it ? it->nest : NULL;
  if (!n || n->n_axes != 1 || n->sequential == (it->loop != NULL)) return NULL;
  sd_cuda_scan *s = SD_NEW(a, sd_cuda_scan);
  if (!match(k, n, it->loop ? it->loop : n->axes[0], a, s)) return NULL;
  s->column = it->loop ? n->axes[0] : NULL;
  sd_dtype t = n->stores.at[0].buf->dtype;
  bool rounds = sd_dtype_is_float(t) && sd_dtype_bits(t) < 32; // each step, so that steps have an order
  s->by_thread = rounds || (s->column && sd_access_stride(k, n->stores.at[0].offset, s->column) == SD_STRIDE_ONE);
  return s;
}
