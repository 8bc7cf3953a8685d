// Self-check of the operator table: rows are well formed, TEXT bodies expand for every dtype that their classes allow.
#include "ir/lower.h"
#include "ir/op_internal.h"

static sd_dtype operand_type(const sd_operand *o, sd_dtype t) {
  switch (o->cls) {
  case 'B': return SD_BOOL;
  case 'L': return SD_I64;
  case 'S': return SD_STRING;
  default: return t;
  }
}

// Whether `t` may stand for the classes R, N, F, I, * of the row; a row without any is tried once, with f32.
static bool allowed(const sd_op *op, sd_dtype t) {
  bool open = false;
  for (uint32_t i = 0; i < op->n_in; i++)
    if (strchr("RNFI*V", op->ins[i].cls)) {
      open = true;
      if (!sd_op_class_has(op->ins[i].cls, t)) return false;
    }
  return open ? sd_op_class_has('R', t) : t == SD_F32; // others only pass through
}

static sard_status *expand_row(sd_arena *a, sd_module *m, const sd_op *op, sd_dtype t, bool optionals) {
  sd_value *in[260] = {0};
  sd_expr *element[260] = {0};
  sd_dim one = sd_dim_const(m->dims, 4);
  uint32_t n_in = op->n_in;
  sd_tb b = {.k = sd_kernel_new(a, m->dims, "check"), .arena = a, .dims = m->dims};
  sd_axis *axis = sd_kernel_axis(b.k, "i", one);
  if (n_in && op->ins[n_in - 1].variadic) n_in++;
  for (uint32_t i = 0; i < n_in; i++) {
    const sd_operand *o = &op->ins[i < op->n_in ? i : op->n_in - 1u];
    if (o->optional && !optionals) continue;
    in[i] = sd_graph_input(m->main, o->name, operand_type(o, t), 1, &one);
    sd_buf *buf = sd_kernel_buf(b.k, SD_BUF_IN, in[i]->dtype, one, in[i]);
    element[i] = sd_x_load(b.k, buf, sd_x_axis(b.k, axis), NULL);
  }
  sd_node *n = sd_node_new(m->main, NULL, op, in, n_in, op->n_out);
  b.node = n;
  for (uint32_t i = 0; i < n->n_attr; i++) // required numbers get a value
    if (n->attrs[i].kind == SD_ATTR_NONE && (op->attrs[i].required || optionals)) {
      sd_attr_kind k = op->attrs[i].def.kind;
      if (k == SD_ATTR_INT) n->attrs[i] = (sd_attr){.kind = k, .i = 1};
      if (k == SD_ATTR_FLOAT) n->attrs[i] = (sd_attr){.kind = k, .f = 1};
      if (k == SD_ATTR_STRING) n->attrs[i] = (sd_attr){.kind = k, .s = ""};
    }
  sd_dtype y = operand_type(&op->outs[0], t);
  sd_value_set_type(n->out[0], y, 1, &one);
  sd_expr *e = sd_text_expand(&b, n, op->map, element, n_in);
  if (b.error) return b.error;
  if (!e || e->dtype != sd_compute_type(y))
    return SD_ERR(INTERNAL, "row %s gives %s for %s", op->name, e ? sd_dtype_name(e->dtype) : "nothing",
                  sd_dtype_name(t));
  return NULL;
}

static sard_status *check_row(const sd_op *op, sd_dtype t, bool optionals) {
  jmp_buf oom;
  sd_module *m;
  SD_TRY(sd_module_new("check", &m));
  sd_arena *a = m->arena;
  sd_arena_set_oom(a, &oom);
  if (setjmp(oom)) {
    sd_module_free(m);
    return SD_ERR(NOMEM, "out of memory for the check of row %s", op->name);
  }
  sard_status *st = expand_row(a, m, op, t, optionals);
  sd_module_free(m);
  return sd_status_context(st, "row %s with %s", op->name, sd_dtype_name(t));
}

// What a kind needs to be lowered.
static sard_status *check_body(const sd_op *op) {
  bool pulls = op->kind == SD_REDUCE || op->kind == SD_CONTRACT || op->kind == SD_MOVE || op->kind == SD_COMPOSITE;
  if (pulls && !op->pull) return SD_ERR(INTERNAL, "row %s: its kind needs PULL", op->name);
  if (op->kind == SD_MAP && !op->pull && !op->map) return SD_ERR(INTERNAL, "row %s: MAP needs TEXT or PULL", op->name);
  if (op->kind == SD_NESTS && !op->nests) return SD_ERR(INTERNAL, "row %s: its kind needs NESTS", op->name);
  if (op->kind == SD_REWRITE && !op->rewrite) return SD_ERR(INTERNAL, "row %s: its kind needs REWRITE", op->name);
  if (op->commutative && op->n_in < 2) return SD_ERR(INTERNAL, "row %s: commutative needs two operands", op->name);
  for (uint32_t i = 0; i < op->n_attr; i++)
    for (uint32_t k = 0; k < i; k++)
      if (strcmp(op->attrs[i].name, op->attrs[k].name) == 0)
        return SD_ERR(INTERNAL, "row %s: attribute %s occurs twice", op->name, op->attrs[i].name);
  return NULL;
}

sard_status *sd_ops_check(void) {
  SD_TRY(sd_ops_table_error());
  const sd_op *op;
  for (uint32_t i = 0; (op = sd_op_at(i)); i++) {
    SD_TRY(check_body(op));
    for (int t = 1; op->text && t < SD_DT_COUNT; t++) {
      if (!allowed(op, (sd_dtype)t)) continue;
      SD_TRY(check_row(op, (sd_dtype)t, true));
      SD_TRY(check_row(op, (sd_dtype)t, false));
    }
  }
  return NULL;
}
