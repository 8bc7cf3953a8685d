// Rows with bodies, and rows of ONNX Runtime's fused operators that expand into the plain ones.
#include <string.h>

#include "ir/ops.h"
#include "ir/ops/shape.h"

sard_status *sd_shape_fused(sd_node *n) {
  if (n->n_body != 1) return SD_SH_ERR(n, INTERNAL, "a fused group has %u bodies instead of one", n->n_body);
  const sd_graph *g = n->bodies[0];
  if (g->outputs.len != n->n_out)
    return SD_SH_ERR(n, INTERNAL, "a fused group has %u outputs, its body %u", n->n_out, g->outputs.len);
  for (uint32_t i = 0; i < n->n_out; i++) {
    const sd_value *v = g->outputs.at[i];
    SD_TRY(sd_sh_set_value(n, i, v));
    if (v->elems) sd_sh_set_elems(n, i, v->elems, v->n_elems);
  }
  return NULL;
}

// ---- com.microsoft.FusedConv, FusedGemm: the plain operator, then the activation ----
// Copies the attributes that both rows have.
static void copy_attrs(sd_node *to, const sd_node *from) {
  for (uint32_t i = 0; i < from->op->n_attr; i++) {
    sd_attr *a = sd_node_attr(to, from->op->attrs[i].name);
    if (a) *a = from->attrs[i];
  }
}

static void set_float(sd_node *n, const char *name, float v) {
  sd_attr *a = sd_node_attr(n, name);
  if (a) *a = (sd_attr){.kind = SD_ATTR_FLOAT, .f = v};
}

// The activation's parameters: alpha and beta, from either form of attribute.
static uint32_t activation_params(const sd_node *n, float *p) {
  const sd_attr *list = sd_node_attr(n, "activation_params"), *a = sd_node_attr(n, "activation_alpha");
  const sd_attr *b = sd_node_attr(n, "activation_beta");
  if (list && list->kind == SD_ATTR_FLOATS) {
    for (uint32_t i = 0; i < list->n && i < 2; i++) p[i] = list->floats[i];
    return list->n < 2 ? list->n : 2;
  }
  if (a && a->kind == SD_ATTR_FLOAT) p[0] = a->f;
  if (b && b->kind == SD_ATTR_FLOAT) p[1] = b->f;
  return a && a->kind == SD_ATTR_FLOAT ? (b && b->kind == SD_ATTR_FLOAT ? 2 : 1) : 0;
}

static sard_status *activate(sd_node *n, sd_value *x, sd_node **out) {
  const char *name = sd_node_str(n, "activation", "");
  float p[2] = {0, 0};
  uint32_t count = activation_params(n, p);
  sd_value *in[3] = {x, NULL, NULL};
  uint32_t n_in = 1;
  if (!strcmp(name, "Clip") && count == 2) {
    in[1] = sd_value_const_f32(n->graph, p[0]);
    in[2] = sd_value_const_f32(n->graph, p[1]);
    n_in = 3;
  }
  SD_TRY(sd_sh_node(n, name, in, n_in, 1, out));
  if (count > 0) set_float(*out, "alpha", p[0]);
  if (count > 1) set_float(*out, "beta", p[1]);
  return sd_node_infer(*out);
}

sard_status *sd_rewrite_ms_fused(sd_node *n) {
  bool conv = strstr(n->op->name, "Conv") != NULL;
  sd_node *y = NULL, *z = NULL;
  SD_TRY(sd_sh_node(n, conv ? "Conv" : "Gemm", n->in, n->n_in < 3 ? n->n_in : 3, 1, &y));
  copy_attrs(y, n);
  SD_TRY(sd_node_infer(y));
  if (conv && sd_sh_in(n, 3)) { // residual, added before the activation
    SD_TRY(sd_sh_node(n, "Add", (sd_value *[]){y->out[0], n->in[3]}, 2, 1, &z));
    SD_TRY(sd_node_infer(z));
    y = z;
  }
  if (sd_node_str(n, "activation", "")[0]) {
    SD_TRY(activate(n, y->out[0], &z));
    y = z;
  }
  sd_value_replace(n->out[0], y->out[0]);
  sd_node_remove(n);
  return NULL;
}
