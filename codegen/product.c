// Kernels of one nest, and products among them.
#include "codegen/product.h"

#include "codegen/access.h"

sd_nest *sd_lone_nest(const sd_kernel *k) {
  if (k->items.len != 1 || k->grid.len || !k->items.at[0].nest) return NULL;
  sd_nest *n = k->items.at[0].nest;
  if (n->sequential || !n->stores.len) return NULL;
  for (uint32_t i = 0; i < n->stores.len; i++)
    if (n->stores.at[i].buf->readwrite) return NULL;
  for (uint32_t i = 0; i < n->n_axes; i++)
    if (n->axes[i]->limit) return NULL;
  return n;
}

static bool constant(const sd_expr *e) {
  const sd_value *v = e->buf->value;
  return e->buf->invariant && v && v->data && v->data->data && v->data->dtype == SD_F32;
}

static bool plain_load(const sd_expr *e) { return e->op == SD_X_LOAD && e->buf->dtype == SD_F32 && !e->a[1]; }

bool sd_product_find(sd_kernel *k, const sd_nest *n, sd_arena *a, sd_product *p) {
  sd_accesses loads = {0};
  sd_reductions sums = {0};
  *p = (sd_product){0};
  sd_access_collect(k, n, a, &loads, &sums);
  const sd_expr *sum = sums.len == 1 ? sums.at[0].expr : NULL;
  if (!sum || sum->rop != SD_R_SUM || sum->dtype != SD_F32) return false;
  const sd_expr *body = sum->a[0];
  if (body->op != SD_X_MUL || !plain_load(body->a[0]) || !plain_load(body->a[1])) return false;
  bool first = constant(body->a[0]);
  p->sum = sum, p->w = body->a[!first], p->x = body->a[first];
  for (uint32_t i = 0; i < loads.len; i++) p->w_loads += loads.at[i].load->buf == p->w->buf;
  return constant(p->w);
}

typedef struct change {
  const sd_expr *from;
  sd_expr *to;
} change;
static sd_expr *replaced(sd_kernel *k, sd_expr *e, void *user) {
  const change *c = user;
  (void)k;
  return e == c->from ? c->to : e;
}

void sd_product_stores(sd_kernel *k, sd_nest *to, const sd_nest *from, const sd_expr *sum, sd_expr *by) {
  change c = {sum, by};
  for (uint32_t i = 0; i < from->stores.len; i++) {
    const sd_store *s = &from->stores.at[i];
    sd_nest_store(k, to, s->buf, s->offset, sd_x_rewrite(k, s->value, replaced, &c), s->guard);
  }
}
