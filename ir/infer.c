// Type inference of nodes: checks against the row, the shape function, checks of its result; messages about nodes.
#include "ir/op.h"
#include "runtime/base/alloc.h"

static const sd_operand *operand_decl(const sd_operand *d, uint32_t declared, uint32_t i) {
  if (i < declared) return &d[i];
  return declared && d[declared - 1].variadic ? &d[declared - 1] : NULL;
}

static int node_position(const sd_node *n) {
  if (n->onnx_index >= 0) return n->onnx_index;
  int i = 0;
  for (const sd_node *x = n->graph->first; x && x != n; x = x->next) i++;
  return i;
}

sard_status *sd_node_error(const sd_node *n, sard_status *st) {
  if (!st || *sard_status_text(st, SARD_TEXT_OP)) return st; // the innermost node is the one to name
  sd_str types = {0};
  for (uint32_t i = 0; i < n->n_in && i < 8; i++) {
    if (i) sd_str_put(&types, ", ");
    if (n->in[i]) sd_type_print(n->graph->module, n->in[i], &types);
    else sd_str_put(&types, "-");
  }
  if (n->n_in > 8) sd_strf(&types, ", and %u more", n->n_in - 8);
  st = sd_status_field(st, SARD_TEXT_OP, "%s", n->op->name);
  st = sd_status_field(st, SARD_TEXT_NODE, "%s", n->name);
  if (*n->graph->module->file) st = sd_status_field(st, SARD_TEXT_FILE, "%s", n->graph->module->file);
  st = sd_status_context(st, "node %d '%s' (%s) of (%s)", node_position(n), n->name, n->op->name,
                         types.p ? types.p : "");
  sd_str_free(&types);
  return st;
}

// ---- operands and attributes against the row ----

bool sd_op_class_has(char cls, sd_dtype t) {
  sd_dtype_kind k = sd_dtype_kind_of(t);
  switch (cls) {
  case '*': return t != SD_DT_NONE && t != SD_OBJECT;
  case 'V': return t != SD_DT_NONE;
  case 'O': return t == SD_OBJECT;
  case 'R': return k == SD_DK_F || k == SD_DK_I || k == SD_DK_U || k == SD_DK_B;
  case 'N': return k == SD_DK_F || k == SD_DK_I || k == SD_DK_U;
  case 'F': return k == SD_DK_F;
  case 'I': return k == SD_DK_I || k == SD_DK_U;
  case 'B': return k == SD_DK_B;
  case 'L': return t == SD_I64;
  case 'S': return k == SD_DK_S;
  default: return false;
  }
}

sd_dtype sd_node_class_type(const sd_node *n) {
  for (uint32_t i = 0; i < n->n_in; i++) {
    const sd_operand *d = operand_decl(n->op->ins, n->op->n_in, i);
    if (d && n->in[i] && strchr("RNFI*VO", d->cls)) return n->in[i]->dtype;
  }
  return SD_DT_NONE;
}

static const char *class_text(char cls) {
  switch (cls) {
  case 'R': return "a type with an order";
  case 'N': return "a number type";
  case 'F': return "a float type";
  case 'I': return "an integer type";
  case 'B': return "bool";
  case 'L': return "i64";
  case 'S': return "string";
  case 'O': return "a sequence, optional or map";
  case 'T': return "the type of the first operand";
  default: return "any type";
  }
}

static sard_status *check_operands(const sd_node *n) {
  const sd_op *op = n->op;
  sd_dtype t = sd_node_class_type(n), variadic = SD_DT_NONE;
  if (n->n_in && !operand_decl(op->ins, op->n_in, n->n_in - 1))
    return SD_ERR(MODEL, "has %u operands, but %s takes at most %u", n->n_in, op->name, op->n_in);
  for (uint32_t i = 0; i < n->n_in || i < op->n_in; i++) {
    const sd_operand *d = operand_decl(op->ins, op->n_in, i);
    const sd_value *v = i < n->n_in ? n->in[i] : NULL;
    if (!v && !d->optional) return SD_ERR(MODEL, "operand %u (%s) is missing", i, d->name);
    if (!v || v->dtype == SD_DT_NONE) continue;
    if (d->cls == 'T' ? t != SD_DT_NONE && v->dtype != t : !sd_op_class_has(d->cls, v->dtype))
      return SD_ERR(MODEL, "operand %u (%s) is %s, expected %s%s%s%s", i, d->name, sd_dtype_name(v->dtype),
                    class_text(d->cls), d->cls == 'T' ? " (" : "", d->cls == 'T' ? sd_dtype_name(t) : "",
                    d->cls == 'T' ? ")" : "");
    if (d->variadic && d->cls != '*' && d->cls != 'V') { // one type for all; class * leaves it to the row (bodies take mixed ones)
      if (variadic && v->dtype != variadic)
        return SD_ERR(MODEL, "operands of '%s' differ in type: %s and %s", d->name, sd_dtype_name(variadic),
                      sd_dtype_name(v->dtype));
      variadic = v->dtype;
    }
  }
  return NULL;
}

static sard_status *check_attrs(const sd_node *n) {
  for (uint32_t i = 0; i < n->n_attr; i++) {
    const sd_attrdecl *d = &n->op->attrs[i];
    sd_attr_kind k = n->attrs[i].kind;
    if (k == SD_ATTR_NONE) {
      if (d->required) return SD_ERR(MODEL, "attribute '%s' is missing", d->name);
    } else if (k != d->def.kind) {
      return SD_ERR(MODEL, "attribute '%s' has kind %d, expected %d", d->name, (int)k, (int)d->def.kind);
    }
  }
  return NULL;
}

sard_status *sd_node_check(const sd_node *n) {
  const sd_op *op = n->op;
  sard_status *st = check_operands(n);
  if (!st) st = check_attrs(n);
  for (uint32_t i = 0; i < n->n_out && !st; i++)
    if (!operand_decl(op->outs, op->n_out, i))
      st = SD_ERR(MODEL, "has %u outputs, but %s gives at most %u", n->n_out, op->name, op->n_out);
  return sd_node_error(n, st);
}

// ---- inference ----

static bool is_open(const sd_op *op) { // rows that may leave types unknown
  return op->kind == SD_CONTROL || op->kind == SD_HOST || op->kind == SD_COMM;
}

static sard_status *check_known(const sd_node *n) {
  for (uint32_t i = 0; i < n->n_in && !is_open(n->op); i++) {
    const sd_value *v = n->in[i];
    if (v && (v->dtype == SD_DT_NONE || v->rank < 0))
      return SD_ERR(UNSUPPORTED, "the type or rank of operand %u '%s' is not known", i, v->name);
  }
  return NULL;
}

static sard_status *check_output(const sd_node *n, uint32_t i) {
  const sd_operand *d = operand_decl(n->op->outs, n->op->n_out, i);
  const sd_value *v = n->out[i];
  const sd_dimtab *dims = n->graph->module->dims;
  uint64_t count = 1, bytes;
  if (is_open(n->op) && (v->dtype == SD_DT_NONE || v->rank < 0)) return NULL;
  if (v->dtype == SD_DT_NONE || v->rank < 0)
    return SD_ERR(INTERNAL, "the shape function of %s gave no type for output %u", n->op->name, i);
  char cls = d->cls;
  sd_dtype t = cls == 'T' ? sd_node_class_type(n) : SD_DT_NONE;
  if (t ? v->dtype != t : cls != 'T' && !sd_op_class_has(cls, v->dtype))
    return SD_ERR(INTERNAL, "the shape function of %s gave %s for output %u, expected %s", n->op->name,
                  sd_dtype_name(v->dtype), i, class_text(cls));
  for (int k = 0; k < v->rank; k++) {
    const sd_dimnode *x = sd_dim_get(dims, v->dims[k]);
    if (!x) return SD_ERR(MODEL, "dim %d of output %u '%s' cannot be computed (it overflows)", k, i, v->name);
    if (x->max < 0)
      return SD_ERR(MODEL, "dim %d of output %u '%s' is negative (%lld)", k, i, v->name, (long long)x->max);
    int64_t c;
    if (sd_dim_is_const(dims, v->dims[k], &c) && !sd_ck_mul(count, (uint64_t)c, &count))
      return SD_ERR(MODEL, "output %u '%s' has too many elements", i, v->name);
  }
  if (!sd_dtype_bytes(v->dtype, count, &bytes) || bytes > INT64_MAX)
    return SD_ERR(MODEL, "output %u '%s' has too many elements (%llu)", i, v->name, (unsigned long long)count);
  return NULL;
}

sard_status *sd_node_infer(sd_node *n) {
  SD_TRY(sd_node_check(n));
  sard_status *st = check_known(n);
  if (!st && n->op->shape) st = n->op->shape(n);
  for (uint32_t i = 0; i < n->n_out && !st && n->op->infers; i++)
    if (n->out[i]) st = check_output(n, i);
  return sd_node_error(n, st);
}

sard_status *sd_build(sd_graph *g, sd_node *before, const char *name, sd_value *const *in, uint32_t n_in,
                      sd_node **out) {
  const sd_op *op = sd_op_find(name);
  if (out) *out = NULL;
  if (!op) {
    const char *near = sd_op_nearest(name);
    return SD_ERR(UNSUPPORTED, "there is no operator '%s'%s%s%s", name, near ? " (nearest: '" : "", near ? near : "",
                  near ? "')" : "");
  }
  uint32_t n_out = 0;
  while (n_out < op->n_out && !op->outs[n_out].optional) n_out++;
  sd_node *n = sd_node_new(g, before, op, in, n_in, n_out ? n_out : 1);
  sard_status *st = sd_node_infer(n);
  if (st) sd_node_remove(n);
  else if (out) *out = n;
  return st;
}
