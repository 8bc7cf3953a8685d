// Formulas of derivatives (ir/ops/grad.def) become nodes.
#include <stdlib.h>
#include <string.h>

#include "ir/ops/grad.h"

enum { MAX_ARGS = 4, MAX_NAME = 64 };

typedef struct formula {
  sd_grad *r;
  const char *at;
  sd_value *dy, *y, *count;
} formula;

static sd_value *bad(formula *f) {
  sd_xg_fail(f->r->g, SD_SH_ERR(f->r->g->at, INTERNAL, "a derivative of %s cannot be read at '%.20s'", f->r->n->op->name, f->at));
  return NULL;
}

static void skip_spaces(formula *f) { f->at += strspn(f->at, " "); }
static bool accept(formula *f, char c) {
  skip_spaces(f);
  if (*f->at != c) return false;
  f->at++;
  return true;
}

static sd_value *expression(formula *f);

static sd_value *call(formula *f, const char *name) {
  sd_value *in[MAX_ARGS];
  uint32_t n = 0;
  do {
    if (n == MAX_ARGS) return bad(f);
    in[n] = expression(f);
    if (!in[n++]) return NULL;
  } while (accept(f, ','));
  if (!accept(f, ')')) return bad(f);
  if (strcmp(name, "like") == 0) return n == 2 ? sd_xg_cast(f->r->g, in[0]->dtype, in[1]) : bad(f); // like(x, v): v as x
  return sd_xg_op(f->r->g, name, in, n);
}

static sd_value *operand(formula *f, const char *name) {
  sd_grad *r = f->r;
  if (name[1] == 0 && name[0] >= 'a' && name[0] <= 'c') {
    sd_value *v = sd_sh_in(r->n, (uint32_t)(name[0] - 'a'));
    return v ? v : bad(f);
  }
  if (strcmp(name, "dy") == 0) return f->dy;
  if (strcmp(name, "y") == 0) return f->y;
  return strcmp(name, "count") == 0 && f->count ? f->count : bad(f);
}

static sd_value *expression(formula *f) {
  char name[MAX_NAME];
  skip_spaces(f);
  bool attribute = accept(f, '@');
  size_t len = strspn(f->at, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_.0123456789-");
  if (!len || len >= sizeof name || f->r->g->st) return f->r->g->st ? NULL : bad(f);
  memcpy(name, f->at, len);
  name[len] = 0;
  f->at += len;
  sd_dtype t = f->dy->dtype;
  if (attribute) return sd_xg_num(f->r->g, t, sd_node_float(f->r->n, name, 0));
  if (strchr("0123456789-", *name)) return sd_xg_num(f->r->g, t, strtod(name, NULL));
  return accept(f, '(') ? call(f, name) : operand(f, name);
}

static void run(formula *f) {
  sd_grad *r = f->r;
  for (uint32_t i = 0; i < r->n->n_in && *f->at; i++) {
    size_t len = strcspn(f->at, ";");
    const char *next = f->at + len;
    skip_spaces(f);
    if (r->wants[i] && *f->at != '_') r->dx[i] = expression(f);
    f->at = *next ? next + 1 : next;
  }
}

void sd_grad_text(sd_grad *r, const char *text) {
  formula f = {r, text, r->dy[0], r->n->out[0], NULL};
  if (f.dy) run(&f);
}

// ---- reductions ----
static sd_value *spread(xg *g, sd_value *v, const sd_value *x, uint32_t axes) {
  sd_dim dims[SD_MAX_RANK];
  for (int d = 0; d < x->rank; d++) dims[d] = axes >> d & 1 ? sd_dim_const(g->at->graph->module->dims, 1) : x->dims[d];
  v = sd_xg_reshape(g, v, dims, x->rank);
  return v ? sd_xg_expand(g, v, x->dims, x->rank) : NULL;
}

void sd_grad_reduced(sd_grad *r, const char *text) {
  xg *g = r->g;
  const sd_value *x = r->n->in[0];
  sd_dimtab *t = g->at->graph->module->dims;
  sd_dim count = sd_dim_const(t, 1);
  uint32_t axes;
  if (!r->dy[0]) return;
  sd_xg_fail(g, sd_sh_reduced_axes(r->n, &axes));
  if (g->st) return;
  for (int d = 0; d < x->rank; d++)
    if (axes >> d & 1) count = sd_dim_mul(t, count, x->dims[d]);
  formula f = {.r = r, .at = text, .dy = spread(g, r->dy[0], x, axes), .y = spread(g, r->n->out[0], x, axes)};
  f.count = sd_xg_dims(g, &count, -1);
  if (f.count) f.count = sd_xg_cast(g, r->dy[0]->dtype, f.count);
  if (f.dy && f.y && f.count) run(&f);
}
