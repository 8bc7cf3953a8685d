// Newer forms of nodes in the file: the rows of upgrade.def that move attributes, as the importer applies
// them to its own nodes.
#include "frontend/onnx/raise.h"

#include <stdlib.h>
#include <string.h>

enum { LEAST_OPSET = 7 }; // operators before that have other operands

typedef struct raising {
  sd_proto *p;
  const sard_source *src;
  int64_t to;
  sd_module *m;   // the model as imported, for types and ranks; NULL until it is asked
  sd_names types; // value -> sd_value
} raising;

typedef sard_status *(*raise_fn)(raising *r, Onnx__NodeProto *n, const char *text, int64_t number);

// ---- what the importer knows ----

static sard_status *value_of(raising *r, const char *name, const sd_value **out) {
  if (!r->m) {
    SD_TRY(sd_import_onnx(r->src, &r->m));
    sd_names_init(&r->types, r->p->a);
    for (uint32_t i = 0; i < r->m->main->inputs.len; i++)
      sd_names_add(&r->types, r->m->main->inputs.at[i]->name, r->m->main->inputs.at[i]);
    for (const sd_node *n = r->m->main->first; n; n = n->next)
      for (uint32_t i = 0; i < n->n_out; i++)
        if (n->out[i] && n->out[i]->name && *n->out[i]->name)
          sd_names_add(&r->types, n->out[i]->name, n->out[i]);
  }
  *out = sd_names_get(&r->types, name);
  return NULL;
}

// ---- pieces ----

static Onnx__AttributeProto *attr_of(const Onnx__NodeProto *n, const char *name) {
  for (size_t i = 0; i < n->n_attribute; i++)
    if (strcmp(n->attribute[i]->name, name) == 0) return n->attribute[i];
  return NULL;
}

static sard_status *no_form(raising *r, const Onnx__NodeProto *n) {
  const char *name = *n->name ? n->name : n->n_output ? n->output[0] : "";
  return sd_status_field(
      SD_ERR(UNSUPPORTED,
             "the model is of opset %lld and has to be of %lld, where one %s cannot say what '%s' does",
             (long long)r->p->opset, (long long)r->to, n->op_type, name),
      SARD_TEXT_HINT, "convert it with onnx.version_converter, or export it again with a newer opset");
}

static sard_status *drop(raising *r, Onnx__NodeProto *n, const char *text, int64_t number) {
  (void)r, (void)number;
  for (size_t i = 0; i < n->n_attribute; i++)
    if (strcmp(n->attribute[i]->name, text) == 0) n->attribute[i--] = n->attribute[--n->n_attribute];
  return NULL;
}

// A new constant in place of the attribute `text`, unless the operand is given.
static sard_status *operand(raising *r, Onnx__NodeProto *n, const char *text, int64_t number, sd_dtype t,
                            int rank, int64_t count, const void *data) {
  sd_proto *p = r->p;
  size_t at = (size_t)number, had = n->n_input;
  if (at < had && *n->input[at]) return no_form(r, n);
  const char *base = sd_arena_printf(p->a, "%s_%s", n->n_output ? n->output[0] : n->op_type, text);
  if (at >= had) {
    char **in = SD_NEW_ARRAY(p->a, char *, at + 1);
    for (size_t k = 0; k < at; k++) in[k] = k < had ? n->input[k] : (char *)"";
    n->input = in, n->n_input = at + 1;
  }
  n->input[at] = (char *)sd_proto_tensor(p, base, t, rank, &count, data);
  return drop(r, n, text, 0);
}

static sard_status *ints_operand(raising *r, Onnx__NodeProto *n, const char *text, int64_t number) {
  const Onnx__AttributeProto *a = attr_of(n, text);
  if (!a) return NULL;
  return operand(r, n, text, number, SD_I64, 1, (int64_t)a->n_ints,
                 sd_arena_dup(r->p->a, a->ints, a->n_ints * sizeof *a->ints));
}

static sard_status *int_operand(raising *r, Onnx__NodeProto *n, const char *text, int64_t number) {
  const Onnx__AttributeProto *a = attr_of(n, text);
  return a ? operand(r, n, text, number, SD_I64, 1, 1, sd_arena_dup(r->p->a, &a->i, sizeof a->i)) : NULL;
}

static sard_status *scalar_operand(raising *r, Onnx__NodeProto *n, const char *text, int64_t number) {
  const Onnx__AttributeProto *a = attr_of(n, text);
  const sd_value *x = NULL;
  if (!a || n->n_input == 0) return NULL;
  SD_TRY(value_of(r, n->input[0], &x));
  if (!x || x->dtype != SD_F32) return no_form(r, n);
  return operand(r, n, text, number, SD_F32, 0, 1, sd_arena_dup(r->p->a, &a->f, sizeof a->f));
}

static sard_status *rename_op(raising *r, Onnx__NodeProto *n, const char *text, int64_t number) {
  (void)r, (void)number;
  n->op_type = (char *)text;
  return NULL;
}

static void set_text(raising *r, Onnx__AttributeProto *a, const char *text) {
  a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING;
  a->s = (ProtobufCBinaryData){strlen(text), (uint8_t *)sd_arena_strdup(r->p->a, text)};
}

// "attribute=text" where it is absent.
static sard_status *absent(raising *r, Onnx__NodeProto *n, const char *text, int64_t number) {
  const char *value = strchr(text, '=') + 1,
             *name = sd_arena_strndup(r->p->a, text, (size_t)(value - text) - 1);
  (void)number;
  if (attr_of(n, name)) return NULL;
  sd_proto_int(r->p, n, name, 0);
  set_text(r, attr_of(n, name), value);
  return NULL;
}

// ---- operators that changed their meaning ----

// Flat over what is behind the axis: the same only where that is the last one.
static sard_status *flat_softmax(raising *r, Onnx__NodeProto *n, const char *text, int64_t number) {
  int64_t axis = sd_proto_get_int(n, text, 1);
  const sd_value *y = NULL;
  (void)number;
  if (axis != -1) SD_TRY(value_of(r, n->n_output ? n->output[0] : "", &y));
  if (axis != -1 && (!y || axis != y->rank - 1)) return no_form(r, n);
  sd_proto_int(r->p, n, text, -1);
  return NULL;
}

static sard_status *split_outputs(raising *r, Onnx__NodeProto *n, const char *text, int64_t number) {
  (void)number;
  if (n->n_input < 2 || !*n->input[1]) sd_proto_int(r->p, n, text, (int64_t)n->n_output);
  return NULL;
}

static sard_status *grid_modes(raising *r, Onnx__NodeProto *n, const char *text, int64_t number) {
  Onnx__AttributeProto *a = attr_of(n, text);
  bool bi = a && a->s.len > 2 && memcmp(a->s.data, "bi", 2) == 0;
  (void)number;
  if (bi) set_text(r, a, sd_arena_strndup(r->p->a, (const char *)a->s.data + 2, a->s.len - 2));
  return NULL;
}

static sard_status *spatial(raising *r, Onnx__NodeProto *n, const char *text, int64_t number) {
  if (sd_proto_get_int(n, text, 1) != 1) return no_form(r, n);
  return drop(r, n, text, number);
}

static sard_status *one_output(raising *r, Onnx__NodeProto *n, const char *text, int64_t number) {
  (void)text, (void)number;
  return n->n_output == 1 ? NULL : no_form(r, n);
}

static const struct {
  const char *action;
  raise_fn run;
} actions[] = {{"ints_operand", ints_operand},
               {"int_operand", int_operand},
               {"scalar_operand", scalar_operand},
               {"drop", drop},
               {"rename", rename_op},
               {"absent", absent},
               {"flat_softmax", flat_softmax},
               {"grid_modes", grid_modes},
               {"spatial", spatial},
               {"split_outputs", split_outputs},
               {"number_mask", one_output},
               {"batch_training", one_output}};

static const struct {
  const char *op;
  int64_t below;
  const char *action, *text;
  int64_t number;
} rows[] = {
#define SD_UPGRADE(op, below, action, text, number) {op, below, #action, text, number},
#include "frontend/onnx/upgrade.def"
#undef SD_UPGRADE
};

// ---- the model ----

static sard_status *raise_node(raising *r, Onnx__NodeProto *n) {
  if (*n->domain && strcmp(n->domain, "ai.onnx") != 0) return NULL;
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    // Rows for any opset are of operators that went away, or of nothing that a file has to change.
    bool gone = rows[i].below > SD_ONNX_OPSET_MAX &&
                (strcmp(rows[i].action, "rename") == 0 || strcmp(rows[i].action, "old_resize") == 0);
    if (strcmp(rows[i].op, n->op_type) != 0 ||
        (!gone && (r->p->opset >= rows[i].below || rows[i].below > r->to)))
      continue;
    size_t k = 0;
    while (k < sizeof actions / sizeof *actions && strcmp(actions[k].action, rows[i].action) != 0) k++;
    if (k == sizeof actions / sizeof *actions) return no_form(r, n);
    SD_TRY(actions[k].run(r, n, rows[i].text, rows[i].number));
  }
  return NULL;
}

static sard_status *raise_all(raising *r, Onnx__NodeProto *const *nodes, size_t n, int depth) {
  if (depth > SD_MAX_DEPTH) return SD_ERR(MODEL, "the model nests too deeply");
  for (size_t i = 0; i < n; i++) {
    SD_TRY(raise_node(r, nodes[i]));
    for (size_t k = 0; k < nodes[i]->n_attribute; k++) {
      const Onnx__GraphProto *g = nodes[i]->attribute[k]->g;
      if (g) SD_TRY(raise_all(r, g->node, g->n_node, depth + 1));
    }
  }
  return NULL;
}

// The versions of the file format that came with opsets.
static int64_t format_of(int64_t opset) {
  static const int8_t since[][2] = {{25, 13}, {24, 12}, {23, 11}, {21, 10}, {19, 9},
                                    {15, 8},  {12, 7},  {11, 6},  {10, 5}};
  for (size_t i = 0; i < sizeof since / sizeof *since; i++)
    if (opset >= since[i][0]) return since[i][1];
  return 0;
}

sard_status *sd_proto_raise(sd_proto *p, const sard_source *src, int64_t to) {
  raising r = {.p = p, .src = src, .to = to};
  if (p->opset >= to) return NULL;
  if (p->opset < LEAST_OPSET)
    return sd_status_field(SD_ERR(UNSUPPORTED, "the model is of opset %lld and has to be of %lld",
                                  (long long)p->opset, (long long)to),
                           SARD_TEXT_HINT,
                           "convert it with onnx.version_converter, or export it again with a newer opset");
  sard_status *st = raise_all(&r, p->nodes.at, p->nodes.len, 0);
  sd_module_free(r.m);
  SD_TRY(st);
  sd_proto_opset(p, "", to);
  if (p->model->ir_version < format_of(to)) p->model->ir_version = format_of(to);
  return NULL;
}
