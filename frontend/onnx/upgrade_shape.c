// Actions of upgrade.def that look at shapes or add nodes.
#include "frontend/onnx/upgrade.h"

sard_status *sd_upgrade_operand(const sd_onnx_node *n, uint32_t i, sd_value **out) {
  *out = i < n->in.len ? n->in.at[i] : NULL;
  if (!*out) return SD_ERR(MODEL, "operand %u is missing", i);
  if ((*out)->rank == SD_RANK_UNKNOWN) return SD_ERR(UNSUPPORTED, "the rank of operand %u is not known", i);
  return NULL;
}

sard_status *sd_upgrade_split_outputs(sd_import *im, sd_onnx_node *n, const char *text, int64_t number) {
  (void)number;
  if (n->in.len < 2 || !n->in.at[1]) sd_import_set_int(im, n, text, n->out.len);
  return NULL;
}

sard_status *sd_upgrade_flat_softmax(sd_import *im, sd_onnx_node *n, const char *text, int64_t number) {
  (void)number;
  int64_t axis;
  sd_value *x = NULL;
  SD_TRY(sd_upgrade_int(n, text, 1, &axis));
  SD_TRY(sd_upgrade_operand(n, 0, &x));
  if (axis < 0) axis += x->rank;
  if (axis < 0 || axis > x->rank)
    return SD_ERR(MODEL, "axis %lld of a tensor of rank %d", (long long)axis, x->rank);
  if (axis == x->rank - 1) {
    sd_import_set_int(im, n, text, -1);
    return NULL;
  }
  sd_node *flat = NULL, *shape = NULL, *soft = NULL;
  SD_TRY(sd_import_emit(im, n->scope, "Shape", &x, 1, &shape));
  SD_TRY(sd_node_infer(shape));
  SD_TRY(sd_import_emit(im, n->scope, "Flatten", &x, 1, &flat));
  sd_node_set_int(flat, "axis", axis);
  SD_TRY(sd_node_infer(flat));
  SD_TRY(sd_import_emit(im, n->scope, n->op, flat->out, 1, &soft));
  sd_node_set_int(soft, "axis", 1);
  soft->name = sd_arena_strdup(im->m->arena, n->name);
  soft->onnx_index = n->index;
  SD_TRY(sd_node_infer(soft));
  sd_import_drop_attr(n, text);
  n->op = "Reshape";
  n->in.at[0] = soft->out[0];
  return sd_upgrade_set_operand(im, n, text, 1, shape->out[0]);
}

sard_status *sd_upgrade_scales_operand(sd_import *im, sd_onnx_node *n, const char *text, int64_t number) {
  const sd_onnx_attr *a = sd_import_find_attr(n, text);
  if (!a || a->value.kind != SD_ATTR_FLOATS)
    return SD_ERR(MODEL, "it needs the attribute '%s', a list of floats", text);
  int64_t count = a->value.n;
  sd_value *v = sd_value_const(n->scope->graph, "", SD_F32, 1, &count, a->value.floats);
  return sd_upgrade_set_operand(im, n, text, (uint32_t)number, v);
}

sard_status *sd_upgrade_old_resize(sd_import *im, sd_onnx_node *n, const char *text, int64_t number) {
  (void)number;
  if (n->in.len != 2) return SD_ERR(MODEL, "it has %u operands instead of 2", n->in.len);
  sd_vec_push(im->tmp, &n->in, n->in.at[1]);
  n->in.at[1] = NULL;
  n->op = text;
  n->opset = SD_ONNX_OPSET_MAX;
  sd_import_set_str(im, n, "coordinate_transformation_mode", "asymmetric");
  sd_import_set_str(im, n, "nearest_mode", "before_11");
  const sd_onnx_attr *mode = sd_import_find_attr(n, "mode");
  if (mode && mode->value.kind == SD_ATTR_STRING && strcmp(mode->value.s, "bilinear") == 0)
    sd_import_set_str(im, n, "mode", "linear");
  return NULL;
}

sard_status *sd_upgrade_drop_empty(sd_import *im, sd_onnx_node *n, const char *text, int64_t number) {
  (void)im, (void)text;
  for (uint32_t i = (uint32_t)number; i < n->in.len; i++)
    if (n->in.at[i] && n->in.at[i]->data && n->in.at[i]->data->count == 0) n->in.at[i] = NULL;
  while (n->in.len && !n->in.at[n->in.len - 1]) n->in.len--;
  return NULL;
}

sard_status *sd_upgrade_grid_modes(sd_import *im, sd_onnx_node *n, const char *text, int64_t number) {
  (void)number;
  const sd_onnx_attr *a = sd_import_find_attr(n, text);
  if (!a || a->value.kind != SD_ATTR_STRING) return NULL;
  if (strcmp(a->value.s, "bilinear") == 0) sd_import_set_str(im, n, text, "linear");
  else if (strcmp(a->value.s, "bicubic") == 0) sd_import_set_str(im, n, text, "cubic");
  return NULL;
}

// v[groups] to v[channels]: each element repeated for the channels of its group.
static sard_status *repeat_groups(sd_import *im, sd_onnx_node *n, uint32_t at, int64_t groups, int64_t each) {
  sd_value *v = NULL;
  SD_TRY(sd_upgrade_operand(n, at, &v));
  const int64_t column[] = {groups, 1}, wide[] = {groups, each}, flat[] = {groups * each};
  const struct { const char *op; const int64_t *dims; int n; } steps[] = {
      {"Reshape", column, 2}, {"Expand", wide, 2}, {"Reshape", flat, 1}};
  for (int i = 0; i < 3; i++) {
    sd_node *s = NULL;
    sd_value *in[] = {v, sd_value_const_i64(n->scope->graph, steps[i].dims, steps[i].n)};
    SD_TRY(sd_import_emit(im, n->scope, steps[i].op, in, 2, &s));
    SD_TRY(sd_node_infer(s));
    v = s->out[0];
  }
  n->in.at[at] = v;
  return NULL;
}

sard_status *sd_upgrade_group_channels(sd_import *im, sd_onnx_node *n, const char *text, int64_t number) {
  (void)number;
  int64_t groups, channels;
  sd_value *x = NULL;
  SD_TRY(sd_upgrade_int(n, text, 0, &groups));
  SD_TRY(sd_upgrade_operand(n, 0, &x));
  if (x->rank < 2 || !sd_dim_is_const(im->m->dims, x->dims[1], &channels))
    return SD_ERR(UNSUPPORTED, "%s", "the form before opset 21 with a symbolic number of channels");
  if (groups <= 0 || channels % groups)
    return SD_ERR(MODEL, "%lld channels in %lld groups", (long long)channels, (long long)groups);
  if (groups == channels) return NULL;
  SD_TRY(repeat_groups(im, n, 1, groups, channels / groups));
  return repeat_groups(im, n, 2, groups, channels / groups);
}

sard_status *sd_upgrade_text_cast(sd_import *im, sd_onnx_node *n, const char *text, int64_t number) {
  const sd_value *x = n->in.len ? n->in.at[0] : NULL, *like = n->in.len > 1 ? n->in.at[1] : NULL;
  int64_t to = like ? (int64_t)like->dtype : 0;
  (void)number;
  if (!like) SD_TRY(sd_upgrade_int(n, "to", 0, &to));
  if (!x || (x->dtype != SD_STRING && to != SD_STRING)) return NULL;
  n->op = text;
  if (like) n->in.len = 1;
  sd_import_set_int(im, n, "to", to);
  sd_import_drop_attr(n, "saturate");
  sd_import_drop_attr(n, "round_mode");
  return NULL;
}

sard_status *sd_upgrade_open_squeeze(sd_import *im, sd_onnx_node *n, const char *text, int64_t number) {
  const sd_value *x = n->in.len ? n->in.at[0] : NULL;
  bool open = false;
  (void)number;
  if (!x || n->in.len > 1 || x->rank < 0) return NULL;
  for (int d = 0; d < x->rank; d++)
    open = open || sd_dim_eq(im->m->dims, x->dims[d], sd_dim_const(im->m->dims, 1)) < 0; // may be 1
  if (open) n->op = text;
  return NULL;
}
