// Building graphs in the bodies of REWRITE rows, and the types of such rows by a trial expansion.
#include "ir/ops/xgraph.h"

#include <stdio.h>
#include <stdlib.h>

#include "ir/ops.h"
#include "runtime/base/alloc.h"

void sd_xg_fail(xg *g, sard_status *st) {
  if (!st) return;
  if (g->st) sard_status_free(st);
  else
    g->st = st;
}

const char *sd_xg_fmt(xg *g, const char *fmt, ...) {
  char text[512];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  return sd_arena_strdup(g->at->graph->module->arena, text);
}

// ---- attributes from text ----
static uint32_t count_items(const char *p, size_t len) {
  uint32_t n = len ? 1 : 0;
  for (size_t i = 0; i < len; i++) n += p[i] == ',';
  return n;
}

static bool set_attr(sd_node *n, const char *name, const char *text, size_t len) {
  sd_arena *a = n->graph->module->arena;
  for (uint32_t i = 0; i < n->n_attr; i++) {
    if (strcmp(n->op->attrs[i].name, name)) continue;
    sd_attr *at = &n->attrs[i];
    *at = (sd_attr){.kind = n->op->attrs[i].def.kind};
    const char *p = sd_arena_strndup(a, text, len);
    char *end;
    switch (at->kind) {
    case SD_ATTR_INT:
      at->i = strtoll(p, NULL, 10);
      return true;
    case SD_ATTR_FLOAT:
      at->f = strtof(p, NULL);
      return true;
    case SD_ATTR_STRING:
      at->s = p;
      return true;
    case SD_ATTR_INTS: {
      int64_t *v = SD_NEW_ARRAY(a, int64_t, count_items(p, len) + 1);
      for (; *p; p = *end ? end + 1 : end) v[at->n++] = strtoll(p, &end, 10);
      at->ints = v;
      return true;
    }
    default:
      return false;
    }
  }
  return false;
}

static bool set_attrs(sd_node *n, const char *p) {
  while (*p == ' ') p++;
  while (*p) {
    const char *eq = strchr(p, '=');
    if (!eq) return false;
    const char *end = eq + strcspn(eq, " ");
    const char *name = sd_arena_strndup(n->graph->module->arena, p, (size_t)(eq - p));
    if (!set_attr(n, name, eq + 1, (size_t)(end - eq - 1))) return false;
    for (p = end; *p == ' ';) p++;
  }
  return true;
}

// ---- nodes ----
sd_node *sd_xg_node(xg *g, const char *spec, sd_value *const *in, uint32_t n_in, uint32_t n_out) {
  if (g->st) return NULL;
  size_t len = strcspn(spec, " ");
  const char *name = sd_arena_strndup(g->at->graph->module->arena, spec, len);
  while (n_in && !in[n_in - 1]) n_in--;
  sd_node *n = NULL;
  sard_status *st = sd_sh_node(g->at, name, in, n_in, n_out, &n);
  if (st) return sd_xg_fail(g, st), NULL;
  if (!set_attrs(n, spec + len)) st = SD_SH_ERR(g->at, INTERNAL, "bad attributes in '%s'", spec);
  if (!st) st = sd_node_infer(n);
  if (!st) return n;
  sd_node_remove(n);
  sd_xg_fail(g, st);
  return NULL;
}

sd_value *sd_xg_op(xg *g, const char *spec, sd_value *const *in, uint32_t n_in) {
  sd_node *n = sd_xg_node(g, spec, in, n_in, 1);
  return n ? n->out[0] : NULL;
}

sd_value *sd_xg_in(const xg *g, uint32_t operand) { return sd_sh_in(g->at, operand); }

// ---- constants ----
sd_value *sd_xg_num(xg *g, sd_dtype t, double v) {
  if (g->st) return NULL;
  uint64_t *data = SD_NEW(g->at->graph->module->arena, uint64_t);
  if (sd_dtype_is_float(t)) sd_dtype_set_f64(t, data, 0, v);
  else
    sd_dtype_set_i64(t, data, 0, (int64_t)v);
  return sd_value_const(g->at->graph, "", t, 0, NULL, data);
}

sd_value *sd_xg_ints(xg *g, const int64_t *v, int n) {
  return g->st ? NULL : sd_value_const_i64(g->at->graph, v, n);
}

sd_value *sd_xg_floats(xg *g, const float *v, int rank, const int64_t *dims) {
  uint64_t count = 1;
  if (g->st) return NULL;
  for (int i = 0; i < rank; i++)
    if (!sd_ck_mul(count, (uint64_t)dims[i], &count))
      return sd_xg_fail(g, SD_SH_ERR(g->at, MODEL, "sizes overflow")), NULL;
  return sd_value_const(g->at->graph, "", SD_F32, rank, dims,
                        sd_arena_dup(g->at->graph->module->arena, v, count * sizeof *v));
}

sd_value *sd_xg_dims(xg *g, const sd_dim *dims, int n) {
  sd_module *m = g->at->graph->module;
  int64_t v[SD_SH_ELEMS];
  int count = n < 0 ? 1 : n;
  bool fixed = true;
  if (g->st) return NULL;
  for (int i = 0; i < count; i++) {
    if (dims[i] == SD_DIM_NONE) return sd_xg_fail(g, SD_SH_ERR(g->at, MODEL, "a size that overflows")), NULL;
    fixed &= sd_dim_is_const(m->dims, dims[i], &v[i]);
  }
  if (fixed) return sd_value_const_i64(g->at->graph, v, n);
  const char **text = SD_NEW_ARRAY(m->arena, const char *, count);
  for (int i = 0; i < count; i++) text[i] = sd_dim_text(m->dims, dims[i], m->arena);
  sd_node *x = sd_node_new(g->at->graph, g->at, sd_op_find("sard.Dims"), NULL, 0, 1);
  sd_attr *a = sd_node_attr(x, "dims");
  *a = (sd_attr){.kind = SD_ATTR_STRINGS, .n = (uint32_t)count, .strings = text};
  sd_node_set_int(x, "scalar", n < 0);
  sd_xg_fail(g, sd_node_infer(x));
  return g->st ? NULL : x->out[0];
}

sd_value *sd_xg_cast(xg *g, sd_dtype t, sd_value *v) {
  if (g->st || !v || v->dtype == t) return g->st ? NULL : v;
  return XG(g, sd_xg_fmt(g, "Cast to=%d", (int)t), v);
}

sd_value *sd_xg_reshape(xg *g, sd_value *v, const sd_dim *dims, int rank) {
  return XG(g, "Reshape allowzero=1", v, sd_xg_dims(g, dims, rank));
}

sd_value *sd_xg_expand(xg *g, sd_value *v, const sd_dim *dims, int rank) {
  return XG(g, "Expand", v, sd_xg_dims(g, dims, rank));
}

sd_value *sd_xg_slice(xg *g, sd_value *v, int64_t axis, int64_t start, int64_t end) {
  return XG(g, "Slice", v, sd_xg_ints(g, &start, 1), sd_xg_ints(g, &end, 1), sd_xg_ints(g, &axis, 1));
}

sard_status *sd_xg_finish(xg *g, sd_value *const *outs, uint32_t n_outs) {
  sd_node *n = g->at;
  if (g->st) return sd_xg_take(g);
  for (uint32_t i = 0; i < n->n_out; i++) {
    sd_value *v = i < n_outs ? outs[i] : NULL;
    if (!n->out[i]) continue;
    if (!v) {
      if (n->out[i]->uses.len || sd_value_is_output(n->out[i]))
        return SD_SH_ERR(n, UNSUPPORTED, "its output %u is read", i);
      continue;
    }
    bool own = v->def && v->graph == n->graph;
    for (uint32_t k = 0; k < n->n_in && own; k++) own = n->in[k] != v;
    for (uint32_t k = 0; k < i && own; k++) own = outs[k] != v;
    if (!own) v = XG(g, "Identity", v);
    if (g->st) return sd_xg_take(g);
    if (!*v->name) v->name = n->out[i]->name;
    sd_value_replace(n->out[i], v);
  }
  sd_node_remove(n);
  return NULL;
}

// ---- types by a trial ----
static sd_value *stand_in(sd_graph *g, const sd_value *v) {
  if (!v) return NULL;
  sd_value *x = sd_value_new(g, v->name);
  sd_value_copy_type(x, v);
  x->data = v->data, x->elems = v->elems, x->n_elems = v->n_elems;
  return x;
}

static sard_status *take_types(sd_node *n, const sd_graph *g, const sd_node *trial) {
  for (uint32_t i = 0, at = 0; i < n->n_out; i++) {
    if (!n->out[i]) continue;
    const sd_value *v = g->outputs.at[at++];
    if (v->def == trial) continue; // not made
    SD_TRY(sd_sh_set(n, i, v->dtype, v->rank, v->dims));
    if (v->elems) sd_sh_set_elems(n, i, v->elems, v->n_elems);
  }
  return NULL;
}

// Operands of n whose contents the trial had to make known as symbols get these in front of n.
static bool take_defines(sd_node *n, const sd_node *trial, sd_value *const *in) {
  bool some = false;
  for (uint32_t i = 0; i < n->n_in; i++) {
    for (uint32_t k = 0; in[i] && k < in[i]->uses.len; k++) {
      const sd_node *d = in[i]->uses.at[k].node;
      if (d != trial && strcmp(d->op->name, "sard.Define") == 0) {
        some |= sd_sh_define(n, i, (sd_define)sd_node_int(d, "sign", 0));
        break;
      }
    }
  }
  return some;
}

sard_status *sd_shape_expanded(sd_node *n) {
  sd_module *m = n->graph->module;
  sd_graph *g = SD_NEW(m->arena, sd_graph);
  g->module = m;
  g->name = "";
  SD_TRY(sd_sh_ranks(n));
  sd_value **in = SD_NEW_ARRAY(m->arena, sd_value *, n->n_in + 1);
  for (uint32_t i = 0; i < n->n_in; i++) in[i] = stand_in(g, n->in[i]);
  sd_node *trial = sd_node_like(g, NULL, n, in, n->n_in, n->n_out);
  for (uint32_t i = 0; i < n->n_out; i++) {
    if (n->out[i]) sd_graph_output(g, trial->out[i]);
    else
      trial->out[i] = NULL;
  }
  SD_TRY(n->op->rewrite(trial));
  if (take_defines(n, trial, in)) return sd_shape_expanded(n); // once more, with the symbols that last
  return take_types(n, g, trial);
}
