// Shared by the ai.onnx.ml rows.
#include "ir/ops/ml_common.h"

#include <math.h>

sd_value *sd_ml_rows(xg *g, bool wide) {
  sd_value *x = g->at->in[0];
  if (x->rank < 1 || x->rank > 2)
    return sd_xg_fail(g,
                      SD_SH_ERR(g->at, MODEL, "operand '%s' has rank %d", sd_sh_operand(g->at, 0), x->rank)),
           NULL;
  if (x->rank == 1) {
    sd_dim dims[2] = {sd_dim_const(sd_sh_tab(g->at), 1), x->dims[0]};
    x = sd_xg_reshape(g, x, dims, 2);
  }
  return wide && x && x->dtype == SD_F64 ? x : sd_xg_cast(g, SD_F32, x);
}

sd_value *sd_ml_vector(xg *g, ml_floats v) {
  int64_t n = v.n;
  return sd_xg_floats(g, v.v, 1, &n);
}

static sd_value *num(xg *g, const sd_value *like, double v) {
  return like ? sd_xg_num(g, like->dtype, v) : NULL;
}

// Inverse of the error function by Winitzki's formula with a = 0.147, as ONNX Runtime computes PROBIT.
static sd_value *probit(xg *g, sd_value *p) {
  sd_value *x = XG(g, "Sub", XG(g, "Mul", p, num(g, p, 2)), num(g, p, 1));
  sd_value *log = XG(g, "Log", XG(g, "Sub", num(g, p, 1), XG(g, "Mul", x, x)));
  sd_value *v = XG(g, "Add", XG(g, "Mul", log, num(g, p, 0.5)), num(g, p, 2 / (3.14159 * 0.147)));
  sd_value *w = XG(g, "Mul", log, num(g, p, 1 / 0.147));
  sd_value *r = XG(g, "Sqrt", XG(g, "Sub", XG(g, "Sqrt", XG(g, "Sub", XG(g, "Mul", v, v), w)), v));
  r = XG(g, "Where", XG(g, "Less", x, num(g, p, 0)), XG(g, "Neg", r), r);
  return XG(g, "Mul", r, num(g, p, 1.41421356));
}

// Softmax of the scores that are not 0; these stay 0.
static sd_value *softmax_zero(xg *g, sd_value *s) {
  int64_t last = -1;
  sd_value *axis = sd_xg_ints(g, &last, 1), *max = XG(g, "ReduceMax", s, axis);
  sd_value *some = XG(g, "Greater", XG(g, "Abs", s), num(g, s, 1e-7));
  sd_value *e = XG(g, "Where", some, XG(g, "Exp", XG(g, "Sub", s, max)), num(g, s, 0));
  return XG(g, "Div", e, XG(g, "ReduceSum", e, axis));
}

sd_value *sd_ml_transform(xg *g, sd_value *s, const char *post) {
  if (!strcmp(post, "NONE")) return s;
  if (!strcmp(post, "LOGISTIC")) return XG(g, "Sigmoid", s);
  if (!strcmp(post, "SOFTMAX")) return XG(g, "Softmax axis=-1", s);
  if (!strcmp(post, "SOFTMAX_ZERO")) return softmax_zero(g, s);
  if (!strcmp(post, "PROBIT")) return probit(g, s);
  return sd_xg_fail(g, SD_SH_ERR(g->at, MODEL, "unknown post_transform '%s'", post)), NULL;
}

sard_status *sd_ml_labels(const sd_node *n, const char *ints, const char *strings, ml_labels *out) {
  *out = (ml_labels){.ints = ml_ints_of(n, ints)};
  out->count = out->ints.n;
  if (!out->count) out->count = ml_strings_of(n, strings), out->strings = out->count > 0;
  if (out->strings) out->texts = sd_node_attr(n, strings)->strings;
  return NULL;
}

sd_value *sd_ml_label(xg *g, const ml_labels *l, sd_value *index) {
  if (l->strings) return XG(g, "Gather axis=0", sd_value_const_texts(g->at->graph, "", l->texts, (int)l->count), index);
  if (!l->count) return index; // numbered from 0
  return XG(g, "Gather axis=0", sd_xg_ints(g, l->ints.v, (int)l->ints.n), index);
}

sd_value *sd_ml_pair(xg *g, sd_value *s, int how) {
  sd_value *no = how == 0 ? XG(g, "Sub", num(g, s, 1), s) : XG(g, "Neg", s);
  if (how == 1) no = XG(g, "Sigmoid", no), s = XG(g, "Sigmoid", s);
  return XG(g, "Concat axis=1", no, s);
}
