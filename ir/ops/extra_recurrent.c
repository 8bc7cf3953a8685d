// Layers with a carried state, and attention with bodies: LinearAttention, CausalConvWithState,
// FlexAttention.
#include <string.h>

#include "ir/ops.h"
#include "ir/ops/xbuild.h"
#include "ir/ops/xgraph.h"

// ---- LinearAttention: a state [dk, dv] for each batch entry and key head, one step for each position ----
enum { Q, K, V, PAST, DECAY, BETA };

typedef struct linear {
  const sd_node *n;
  bool gated, delta;
  int64_t heads, kv_heads;
  sd_dim B, T, Dk, Dv;
  sd_expr *b, *h;
  sd_buf *state, *value;
} linear;

static sard_status *linear_read(const sd_node *n, linear *a) {
  sd_dimtab *t = sd_sh_tab(n);
  const char *rule = sd_node_str(n, "update_rule", "gated_delta");
  *a = (linear){
      .n = n, .heads = sd_node_int(n, "q_num_heads", 0), .kv_heads = sd_node_int(n, "kv_num_heads", 0)};
  a->gated = !strncmp(rule, "gated", 5), a->delta = strstr(rule, "delta") != NULL;
  if (!a->gated && !a->delta && strcmp(rule, "linear"))
    return SD_SH_ERR(n, MODEL, "unknown update_rule '%s'", rule);
  if (a->heads < 1 || a->kv_heads < 1 || a->heads % a->kv_heads)
    return SD_SH_ERR(n, MODEL, "%lld heads of queries, %lld of keys", (long long)a->heads,
                     (long long)a->kv_heads);
  for (uint32_t i = Q; i <= V; i++) SD_TRY(sd_sh_rank(n, i, 3, 3));
  if (a->gated != (sd_sh_in(n, DECAY) != NULL) || a->delta != (sd_sh_in(n, BETA) != NULL))
    return SD_SH_ERR(n, MODEL, "decay and beta do not fit the update_rule '%s'", rule);
  for (uint32_t i = DECAY; i <= BETA; i++)
    if (sd_sh_in(n, i)) SD_TRY(sd_sh_rank(n, i, 3, 3));
  a->B = n->in[Q]->dims[0], a->T = n->in[Q]->dims[1];
  a->Dk = sd_dim_floordiv(t, n->in[Q]->dims[2], sd_dim_const(t, a->heads));
  a->Dv = sd_dim_floordiv(t, n->in[V]->dims[2], sd_dim_const(t, a->kv_heads));
  SD_TRY(sd_sh_same(n, n->in[K]->dims[2], sd_dim_mul(t, a->Dk, sd_dim_const(t, a->kv_heads)),
                    "sizes of query and key", NULL));
  for (uint32_t i = K; i <= BETA; i++) {
    if (i == PAST || !sd_sh_in(n, i)) continue;
    SD_TRY(sd_sh_same(n, n->in[i]->dims[0], a->B, "batch of the operands", NULL));
    SD_TRY(sd_sh_same(n, n->in[i]->dims[1], a->T, "length of the operands", NULL));
  }
  if (!sd_sh_in(n, PAST)) return NULL;
  SD_TRY(sd_sh_rank(n, PAST, 4, 4));
  sd_dim want[4] = {a->B, sd_dim_const(t, a->kv_heads), a->Dk, a->Dv};
  for (int i = 0; i < 4; i++) SD_TRY(sd_sh_same(n, n->in[PAST]->dims[i], want[i], "past_state", NULL));
  return NULL;
}

sard_status *sd_shape_linear_attention(sd_node *n) {
  linear a;
  sd_dimtab *t = sd_sh_tab(n);
  SD_TRY(linear_read(n, &a));
  sd_dim y[3] = {a.B, a.T, sd_dim_mul(t, a.Dv, sd_dim_const(t, a.heads))},
         s[4] = {a.B, sd_dim_const(t, a.kv_heads), a.Dk, a.Dv};
  SD_TRY(sd_sh_set(n, 0, n->in[Q]->dtype, 3, y));
  return sd_sh_set(n, 1, sd_sh_in(n, PAST) ? n->in[PAST]->dtype : n->in[Q]->dtype, 4, s);
}

static sd_expr *axis_in(sd_tb *b, sd_nest *nest, const char *name, sd_dim extent) {
  sd_axis *a = sd_kernel_axis(b->k, name, extent);
  sd_nest_axis(nest, a);
  return x_axis(b, a);
}
static sd_expr *at2(sd_tb *b, sd_expr *i, sd_dim width, sd_expr *j) {
  return x_add(b, sd_x_mul_dim(b->k, i, width), j);
}

// Element i of head `head` of a packed operand, whose heads have `size` elements.
static sd_expr *packed(sd_tb *b, const linear *a, uint32_t operand, sd_expr *t, sd_expr *head, sd_dim size,
                       sd_expr *i) {
  return x_cast(b, SD_F32, sd_tb_load(b, a->n, operand, (sd_expr *[]){a->b, t, at2(b, head, size, i)}));
}

// A gate with one element for each head (or for all), or one for each element of a head; which, may be known
// at run time.
static sd_expr *gate_at(sd_tb *b, const linear *a, uint32_t operand, sd_expr *t, sd_expr *i) {
  sd_dim last = a->n->in[operand]->dims[2],
         per = sd_dim_floordiv(b->dims, last, sd_dim_const(b->dims, a->kv_heads));
  sd_expr *zero = x_int(b, 0), *one = x_int(b, 1);
  sd_expr *within = x_sel(b, x_bin(b, SD_X_EQ, x_dim(b, per), one), zero, i);
  sd_expr *at = x_sel(b, x_bin(b, SD_X_EQ, x_dim(b, last), one), zero, at2(b, a->h, per, within));
  return at ? packed(b, a, operand, t, zero, last, sd_x_index(b->k, at, last)) : NULL;
}

static sd_expr *state_at(sd_tb *b, const linear *a, sd_expr *d, sd_expr *m) {
  return sd_x_load(b->k, a->state, at2(b, d, a->Dv, m), NULL);
}

static void store(sd_tb *b, sd_nest *nest, sd_buf *buf, sd_expr *at, sd_expr *x) {
  if (buf && at && x) sd_nest_store(b->k, nest, buf, at, x, NULL);
}

static void linear_step(sd_tb *b, const linear *a, sd_items *body, sd_expr *t) {
  sd_nest *nest;
  sd_expr *d, *m;
  if (a->gated) {
    nest = sd_kernel_nest(b->k, body);
    d = axis_in(b, nest, "d", a->Dk), m = axis_in(b, nest, "m", a->Dv);
    store(b, nest, a->state, at2(b, d, a->Dv, m),
          x_mul(b, state_at(b, a, d, m), x_un(b, SD_X_EXP, gate_at(b, a, DECAY, t, d))));
  }
  nest = sd_kernel_nest(b->k, body); // the value to write
  m = axis_in(b, nest, "m", a->Dv);
  sd_expr *v = packed(b, a, V, t, a->h, a->Dv, m);
  if (a->delta) {
    x_axes red = {.n = 0};
    sd_expr *r = x_raxis(b, &red, "d", a->Dk);
    sd_expr *old =
        x_reduce(b, SD_R_SUM, &red, x_mul(b, state_at(b, a, r, m), packed(b, a, K, t, a->h, a->Dk, r)));
    v = x_mul(b, gate_at(b, a, BETA, t, x_int(b, 0)), x_sub(b, v, old));
  }
  store(b, nest, a->value, m, v);
  nest = sd_kernel_nest(b->k, body);
  d = axis_in(b, nest, "d", a->Dk), m = axis_in(b, nest, "m", a->Dv);
  sd_expr *more = x_mul(b, packed(b, a, K, t, a->h, a->Dk, d), sd_x_load(b->k, a->value, m, NULL));
  store(b, nest, a->state, at2(b, d, a->Dv, m), x_add(b, state_at(b, a, d, m), more));
  nest = sd_kernel_nest(b->k, body); // what the query heads of this key head read
  sd_expr *group = axis_in(b, nest, "g", sd_dim_const(b->dims, a->heads / a->kv_heads));
  m = axis_in(b, nest, "m", a->Dv);
  sd_expr *head = x_add(b, x_mul(b, a->h, x_int(b, a->heads / a->kv_heads)), group);
  x_axes red = {.n = 0};
  sd_expr *r = x_raxis(b, &red, "d", a->Dk);
  sd_expr *y =
      x_reduce(b, SD_R_SUM, &red, x_mul(b, packed(b, a, Q, t, head, a->Dk, r), state_at(b, a, r, m)));
  float scale = sd_node_float(a->n, "scale", 0);
  if (scale != 0) y = x_muln(b, y, scale);
  else if (y)
    y = x_div(b, y, x_un(b, SD_X_SQRT, x_cast(b, SD_F32, x_dim(b, a->Dk))));
  sd_expr *ix[3] = {a->b, t, at2(b, head, a->Dv, m)};
  if (a->n->out[0]) store(b, nest, sd_tb_out(b, a->n, 0), sd_tb_offset(b, a->n->out[0], ix), y);
}

sard_status *sd_nests_linear_attention(sd_tb *b, const sd_node *n) {
  linear a;
  SD_TRY(linear_read(n, &a));
  sd_axis *batch = sd_kernel_axis(b->k, "b", a.B),
          *head = sd_kernel_axis(b->k, "h", sd_dim_const(b->dims, a.kv_heads));
  sd_vec_push(b->k->arena, &b->k->grid, batch);
  sd_vec_push(b->k->arena, &b->k->grid, head);
  a.b = x_axis(b, batch), a.h = x_axis(b, head);
  a.state = sd_tb_local(b, SD_F32, sd_dim_mul(b->dims, a.Dk, a.Dv));
  a.value = sd_tb_local(b, SD_F32, a.Dv);
  sd_nest *nest = sd_kernel_nest(b->k, NULL);
  sd_expr *d = axis_in(b, nest, "d", a.Dk), *m = axis_in(b, nest, "m", a.Dv), *ix[4] = {a.b, a.h, d, m};
  store(b, nest, a.state, at2(b, d, a.Dv, m),
        sd_tb_has(n, PAST) ? sd_tb_load(b, n, PAST, ix) : sd_x_f(b->k, SD_F32, 0));
  sd_axis *time = sd_kernel_axis(b->k, "t", a.T);
  sd_items *body = sd_kernel_loop(b->k, NULL, time);
  linear_step(b, &a, body, x_axis(b, time));
  if (n->n_out < 2 || !n->out[1]) return NULL;
  nest = sd_kernel_nest(b->k, NULL);
  ix[2] = axis_in(b, nest, "d", a.Dk), ix[3] = axis_in(b, nest, "m", a.Dv);
  store(b, nest, sd_tb_out(b, n, 1), sd_tb_offset(b, n->out[1], ix), state_at(b, &a, ix[2], ix[3]));
  return NULL;
}

// ---- CausalConvWithState ----
static sd_value *numbers(xg *g, sd_dim n) {
  return XG(g, "Range", sd_xg_num(g, SD_I64, 0), sd_xg_dims(g, &n, -1), sd_xg_num(g, SD_I64, 1));
}

sard_status *sd_rewrite_causal_conv(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  sd_dimtab *t = sd_sh_tab(n);
  const char *act = sd_node_str(n, "activation", "none");
  int64_t channels = 0, axis = 2, one = 1, last = -1;
  SD_TRY(sd_sh_rank(n, 0, 3, 3));
  SD_TRY(sd_sh_rank(n, 1, 3, 3));
  const sd_value *x = n->in[0];
  sd_dim before = sd_dim_sub(t, n->in[1]->dims[2], sd_dim_const(t, 1)),
         pad[3] = {x->dims[0], x->dims[1], before};
  sd_value *past = sd_xg_in(&g, 3);
  if (!past) past = sd_xg_expand(&g, sd_xg_num(&g, x->dtype, 0), pad, 3);
  sd_value *all = XG(&g, "Concat axis=2", past, n->in[0]);
  sd_value *y;
  if (sd_dim_is_const(t, x->dims[1], &channels)) {
    y = XG(&g, sd_xg_fmt(&g, "Conv group=%lld", (long long)channels), all, n->in[1], sd_xg_in(&g, 2));
  } else { // windows [B,C,L,k] times the kernels [C,1,k]
    sd_value *at = XG(&g, "Add", XG(&g, "Unsqueeze", numbers(&g, x->dims[2]), sd_xg_ints(&g, &one, 1)),
                      numbers(&g, n->in[1]->dims[2]));
    y = XG(&g, "ReduceSum keepdims=0", XG(&g, "Mul", XG(&g, "Gather axis=2", all, at), n->in[1]),
           sd_xg_ints(&g, &last, 1));
    if (sd_xg_in(&g, 2)) y = XG(&g, "Add", y, XG(&g, "Unsqueeze", n->in[2], sd_xg_ints(&g, &one, 1)));
  }
  if (!strcmp(act, "silu") || !strcmp(act, "swish")) y = XG(&g, "Swish", y);
  else if (strcmp(act, "none"))
    return SD_SH_ERR(n, MODEL, "unknown activation '%s'", act);
  sd_dim ends[2] = {x->dims[2], sd_dim_add(t, x->dims[2], before)};
  sd_value *state = XG(&g, "Slice", all, sd_xg_dims(&g, &ends[0], 1), sd_xg_dims(&g, &ends[1], 1),
                       sd_xg_ints(&g, &axis, 1));
  sd_value *outs[2] = {y, state};
  return sd_xg_finish(&g, outs, 2);
}

// ---- FlexAttention ----
sard_status *sd_shape_flex_attention(sd_node *n) {
  sd_dim dims[4];
  for (uint32_t i = 0; i < 3; i++) SD_TRY(sd_sh_rank(n, i, 4, 4));
  memcpy(dims, n->in[0]->dims, sizeof dims);
  dims[3] = n->in[2]->dims[3];
  SD_TRY(sd_sh_same(n, n->in[0]->dims[3], n->in[1]->dims[3], "head sizes of Q and K", NULL));
  return sd_sh_set(n, 0, n->in[0]->dtype, 4, dims);
}

// The nodes of the body come to stand here, its input is v; its output.
static sd_value *inlined(xg *g, const char *name, sd_value *v) {
  sd_graph *body = NULL;
  for (uint32_t i = 0; i < g->at->n_body; i++)
    if (!strcmp(g->at->bodies[i]->name, name)) body = g->at->bodies[i];
  if (!body || g->st) return v;
  if (body->inputs.len != 1 || body->outputs.len != 1)
    return sd_xg_fail(g, SD_SH_ERR(g->at, MODEL, "%s has %u inputs and %u outputs", name, body->inputs.len,
                                   body->outputs.len)),
           NULL;
  sd_value *in = body->inputs.at[0], *out = body->outputs.at[0];
  if (in->dtype != v->dtype)
    return sd_xg_fail(g, SD_SH_ERR(g->at, MODEL, "%s takes %s, the scores are %s", name,
                                   sd_dtype_name(in->dtype), sd_dtype_name(v->dtype))),
           NULL;
  sd_value_replace(in, v);
  if (out == in) out = v;
  for (sd_node *x = body->first, *next; x; x = next) {
    next = x->next;
    sd_node_move_to(x, g->at->graph, g->at);
    sd_xg_fail(g, sd_node_infer(x)); // the shapes of the body's declaration may say less
  }
  body->outputs.len = 0;
  return g->st ? NULL : out;
}

// Keys or values once for each query head.
static sd_value *repeated(xg *g, sd_value *v, sd_dim heads) {
  sd_dimtab *t = sd_sh_tab(g->at);
  if (v->dims[1] == heads) return v;
  sd_dim five[5] = {v->dims[0], v->dims[1], sd_dim_floordiv(t, heads, v->dims[1]), v->dims[2], v->dims[3]};
  sd_dim four[4] = {v->dims[0], heads, v->dims[2], v->dims[3]};
  int64_t two = 2;
  return sd_xg_reshape(g, sd_xg_expand(g, XG(g, "Unsqueeze", v, sd_xg_ints(g, &two, 1)), five, 5), four, 4);
}

sard_status *sd_rewrite_flex_attention(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  sd_dtype t = n->in[0]->dtype,
           p = (sd_dtype)sd_node_int(n, "softmax_precision", t == SD_F64 ? SD_F64 : SD_F32);
  sd_dim heads = n->in[0]->dims[1];
  sd_value *k = XG(&g, "Transpose perm=0,1,3,2", repeated(&g, n->in[1], heads)),
           *v = repeated(&g, n->in[2], heads);
  const sd_attr *a = sd_node_attr(n, "scale");
  sd_value *scale = a->kind == SD_ATTR_FLOAT ? sd_xg_num(&g, p, a->f) : NULL;
  if (!scale) {
    sd_value *size = sd_xg_cast(&g, p, sd_xg_dims(&g, &n->in[0]->dims[3], -1));
    scale = XG(&g, "Reciprocal", XG(&g, "Sqrt", size));
  }
  sd_value *s = sd_xg_cast(&g, p, XG(&g, "MatMul", n->in[0], k));
  s = inlined(&g, "score_mod", XG(&g, "Mul", s, scale));
  s = inlined(&g, "prob_mod", XG(&g, "Softmax axis=-1", s));
  sd_value *y = XG(&g, "MatMul", sd_xg_cast(&g, t, s), v);
  return sd_xg_finish(&g, &y, 1);
}
