// Scan of opset 8 takes its operands apart along a batch axis first: a Scan of opset 9 over the batch, whose
// body is the same Scan over the sequence.
#include "frontend/onnx/upgrade.h"

static char *wire_name(sd_import *im, const char *kind, size_t i) {
  return sd_arena_printf(im->tmp, "scan8/%s%zu", kind, i);
}

static Onnx__ValueInfoProto **infos(sd_import *im, const char *kind, size_t count) {
  Onnx__ValueInfoProto **list = SD_NEW_ARRAY(im->tmp, Onnx__ValueInfoProto *, count),
                       *at = SD_NEW_ARRAY(im->tmp, Onnx__ValueInfoProto, count);
  for (size_t i = 0; i < count; i++) {
    list[i] = &at[i];
    onnx__value_info_proto__init(list[i]);
    list[i]->name = wire_name(im, kind, i);
  }
  return list;
}

static char **names_of(sd_import *im, Onnx__ValueInfoProto **list, size_t count) {
  char **names = SD_NEW_ARRAY(im->tmp, char *, count);
  for (size_t i = 0; i < count; i++) names[i] = list[i]->name;
  return names;
}

static Onnx__AttributeProto *new_attr(sd_import *im, const char *name,
                                      Onnx__AttributeProto__AttributeType type) {
  Onnx__AttributeProto *a = SD_NEW(im->tmp, Onnx__AttributeProto);
  onnx__attribute_proto__init(a);
  a->name = sd_arena_strdup(im->tmp, name);
  a->type = type;
  return a;
}

static Onnx__AttributeProto *ints_attr(sd_import *im, const char *name, const int64_t *v, size_t count) {
  Onnx__AttributeProto *a = new_attr(im, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS);
  a->ints = sd_arena_dup(im->tmp, v, count * sizeof *v);
  a->n_ints = count;
  return a;
}

// The body over the batch: one Scan of the new form.
static const Onnx__GraphProto *batch_body(sd_import *im, const Onnx__GraphProto *body,
                                          const sd_attr *directions, size_t scans) {
  size_t in = body->n_input, out = body->n_output;
  Onnx__GraphProto *g = SD_NEW(im->tmp, Onnx__GraphProto);
  Onnx__NodeProto *scan = SD_NEW(im->tmp, Onnx__NodeProto);
  Onnx__NodeProto **nodes = SD_NEW(im->tmp, Onnx__NodeProto *);
  Onnx__AttributeProto **attrs = SD_NEW_ARRAY(im->tmp, Onnx__AttributeProto *, 4);
  onnx__graph_proto__init(g);
  onnx__node_proto__init(scan);
  attrs[0] = new_attr(im, "body", ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPH);
  attrs[0]->g = (Onnx__GraphProto *)body;
  attrs[1] = new_attr(im, "num_scan_inputs", ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT);
  attrs[1]->i = (int64_t)scans;
  attrs[2] = ints_attr(im, "scan_input_axes", SD_NEW_ARRAY(im->tmp, int64_t, scans), scans);
  if (directions) attrs[3] = ints_attr(im, "scan_input_directions", directions->ints, directions->n);
  g->n_input = in, g->input = infos(im, "in", in);
  g->n_output = out, g->output = infos(im, "out", out);
  scan->op_type = sd_arena_strdup(im->tmp, "Scan");
  scan->n_input = in, scan->input = names_of(im, g->input, in);
  scan->n_output = out, scan->output = names_of(im, g->output, out);
  scan->n_attribute = directions ? 4 : 3, scan->attribute = attrs;
  *nodes = scan;
  g->n_node = 1, g->node = nodes;
  return g;
}

sard_status *sd_upgrade_batched_scan(sd_import *im, sd_onnx_node *n, const char *text, int64_t number) {
  (void)number;
  int64_t scans;
  if (sd_import_find_attr(n, "scan_input_axes"))
    return NULL; // of the new form: the one that batch_body makes
  sd_onnx_attr *body = sd_import_find_attr(n, "body");
  const sd_onnx_attr *directions = sd_import_find_attr(n, "directions");
  SD_TRY(sd_upgrade_int(n, "num_scan_inputs", 0, &scans));
  if (!body || !body->body) return SD_ERR(MODEL, "%s", "it has no body");
  if (n->in.len && n->in.at[0]) return SD_ERR(UNSUPPORTED, "%s", text);
  if (n->in.len != body->body->n_input + 1)
    return SD_ERR(MODEL, "it has %u operands, its body %zu inputs", n->in.len, body->body->n_input);
  if (scans < 1 || scans > (int64_t)body->body->n_input)
    return SD_ERR(MODEL, "num_scan_inputs is %lld", (long long)scans);
  if (directions && directions->value.kind != SD_ATTR_INTS)
    return SD_ERR(MODEL, "%s", "'directions' is no list of integers");
  body->body = batch_body(im, body->body, directions ? &directions->value : NULL, (size_t)scans);
  n->in.len--;
  memmove(n->in.at, n->in.at + 1, n->in.len * sizeof *n->in.at);
  while (n->out.len < body->body->n_output) sd_vec_push(im->tmp, &n->out, "");
  sd_import_set_int(im, n, "num_scan_inputs", n->in.len);
  sd_import_drop_attr(n, "directions");
  return NULL;
}
