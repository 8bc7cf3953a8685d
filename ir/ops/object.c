// Types of sequences and optionals, and SequenceMap as a loop.
#include "ir/ops.h"
#include "ir/ops/flow.h"

static sd_module *module(const sd_node *n) { return n->graph->module; }

static sard_status *need(const sd_node *n, uint32_t operand, sd_object_kind kind, const sd_otype **out) {
  const sd_value *v = sd_sh_in(n, operand);
  *out = v ? v->object : NULL;
  if (*out && (*out)->kind == kind) return NULL;
  return SD_SH_ERR(n, MODEL, "operand '%s' must be %s", sd_sh_operand(n, operand), sd_object_kind_text(kind));
}

static const sd_otype *sequence_of(const sd_node *n, const sd_otype *of) {
  return sd_otype_new(module(n), SD_OBJ_SEQUENCE, SD_DT_NONE, 0, of);
}

// Output `out` as a value of that type: a tensor whose dims the run finds, or an object.
static sard_status *set_item(sd_node *n, uint32_t out, const sd_otype *t) {
  sd_dim dims[SD_MAX_RANK];
  if (!t) return SD_SH_ERR(n, UNSUPPORTED, "the type of what it holds is not known");
  if (t->kind != SD_OBJ_TENSOR || t->rank == SD_RANK_UNKNOWN) return sd_sh_set_object(n, out, t);
  int rank = t->rank == SD_RANK_NONE ? 0 : t->rank; // there is nothing in it: reading it fails
  for (int d = 0; d < rank; d++) dims[d] = sd_sh_late(n, out, d, "item");
  return sd_sh_set(n, out, t->dtype, rank, dims);
}

static sard_status *check_tensor(const sd_node *n, uint32_t operand) {
  const sd_value *v = sd_sh_in(n, operand);
  if (v && (v->dtype != SD_OBJECT || (v->object && (v->object->kind == SD_OBJ_TENSOR || v->object->kind == SD_OBJ_MAP)))) return NULL;
  return SD_SH_ERR(n, MODEL, "operand '%s' must be a tensor", sd_sh_operand(n, operand));
}

static sard_status *check_position(const sd_node *n, uint32_t operand) {
  const sd_value *v = sd_sh_in(n, operand);
  int64_t one;
  if (!v || v->rank == 0) return NULL;
  if (v->rank == 1 && sd_dim_is_const(sd_sh_tab(n), v->dims[0], &one) && one == 1) return NULL;
  return SD_SH_ERR(n, MODEL, "operand '%s' must be one number", sd_sh_operand(n, operand));
}

// ---- sequences ----

sard_status *sd_shape_sequence_empty(sd_node *n) {
  int64_t t = sd_node_int(n, "dtype", 1);
  if (!sd_dtype_of_tensors(t)) return SD_SH_ERR(n, MODEL, "dtype %lld", (long long)t);
  return sd_sh_set_object(n, 0, sequence_of(n, sd_otype_new(module(n), SD_OBJ_TENSOR, (sd_dtype)t, SD_RANK_NONE, NULL)));
}

sard_status *sd_shape_sequence_construct(sd_node *n) {
  const sd_otype *of = NULL;
  for (uint32_t i = 0; i < n->n_in; i++) {
    SD_TRY(check_tensor(n, i));
    of = sd_otype_join(module(n), of, sd_otype_of(module(n), n->in[i]));
    if (!of) return SD_SH_ERR(n, MODEL, "operand %u has another type than those before", i);
  }
  return sd_sh_set_object(n, 0, sequence_of(n, of));
}

sard_status *sd_shape_sequence_insert(sd_node *n) {
  const sd_otype *s;
  SD_TRY(need(n, 0, SD_OBJ_SEQUENCE, &s));
  SD_TRY(check_tensor(n, 1));
  SD_TRY(check_position(n, 2));
  const sd_otype *of = sd_otype_join(module(n), s->of, sd_otype_of(module(n), n->in[1]));
  if (!of) return SD_SH_ERR(n, MODEL, "the tensor has another type than the sequence");
  return sd_sh_set_object(n, 0, sequence_of(n, of));
}

sard_status *sd_shape_sequence_erase(sd_node *n) {
  const sd_otype *s;
  SD_TRY(need(n, 0, SD_OBJ_SEQUENCE, &s));
  SD_TRY(check_position(n, 1));
  return sd_sh_set_object(n, 0, s);
}

sard_status *sd_shape_sequence_at(sd_node *n) {
  const sd_otype *s;
  SD_TRY(need(n, 0, SD_OBJ_SEQUENCE, &s));
  SD_TRY(check_position(n, 1));
  return set_item(n, 0, s->of);
}

sard_status *sd_shape_sequence_length(sd_node *n) {
  const sd_otype *s;
  SD_TRY(need(n, 0, SD_OBJ_SEQUENCE, &s));
  return sd_sh_set(n, 0, SD_I64, 0, NULL);
}

sard_status *sd_shape_split_to_sequence(sd_node *n) {
  const sd_value *x = n->in[0], *split = sd_sh_in(n, 1);
  int axis, rank = x->rank;
  SD_TRY(sd_sh_rank(n, 0, 1, SD_MAX_RANK));
  SD_TRY(sd_sh_axis(n, sd_node_int(n, "axis", 0), x->rank, &axis));
  if (split && split->rank > 1) return SD_SH_ERR(n, MODEL, "operand 'split' has rank %d", split->rank);
  if (!split && !sd_node_int(n, "keepdims", 1)) rank--;
  return sd_sh_set_object(n, 0, sequence_of(n, sd_otype_new(module(n), SD_OBJ_TENSOR, x->dtype, rank, NULL)));
}

sard_status *sd_shape_concat_from_sequence(sd_node *n) {
  const sd_otype *s;
  sd_dim dims[SD_MAX_RANK];
  int axis;
  SD_TRY(need(n, 0, SD_OBJ_SEQUENCE, &s));
  if (!s->of || s->of->kind != SD_OBJ_TENSOR || s->of->rank == SD_RANK_UNKNOWN)
    return SD_SH_ERR(n, UNSUPPORTED, "the rank of the tensors in the sequence is not known");
  int rank = (s->of->rank == SD_RANK_NONE ? 0 : s->of->rank) + (sd_node_int(n, "new_axis", 0) ? 1 : 0);
  if (rank < 1 || rank > SD_MAX_RANK) return SD_SH_ERR(n, MODEL, "tensors of rank %d cannot be joined along an axis", rank);
  SD_TRY(sd_sh_axis(n, sd_node_int(n, "axis", 0), rank, &axis));
  for (int d = 0; d < rank; d++) dims[d] = sd_sh_late(n, 0, d, "joined");
  return sd_sh_set(n, 0, s->of->dtype, rank, dims);
}

// ---- optionals ----

sard_status *sd_shape_optional(sd_node *n) {
  const sd_otype *of = NULL;
  const char *p = sd_node_str(n, "type", "");
  if (sd_sh_in(n, 0)) of = sd_otype_of(module(n), n->in[0]);
  else if (!*p) return SD_SH_ERR(n, MODEL, "an optional without a value needs the attribute 'type'");
  else if (!sd_otype_parse(module(n), &p, &of) || *p || !of) return SD_SH_ERR(n, MODEL, "attribute 'type' is no type: '%s'", p);
  return sd_sh_set_object(n, 0, sd_otype_new(module(n), SD_OBJ_OPTIONAL, SD_DT_NONE, 0, of));
}

static bool is_optional(const sd_value *v) { return v && v->object && v->object->kind == SD_OBJ_OPTIONAL; }

sard_status *sd_shape_optional_has(sd_node *n) {
  sd_node_set_int(n, "optional", is_optional(sd_sh_in(n, 0)));
  return sd_sh_set(n, 0, SD_BOOL, 0, NULL);
}

sard_status *sd_shape_optional_get(sd_node *n) {
  const sd_value *v = n->in[0];
  sd_node_set_int(n, "optional", is_optional(v));
  if (!is_optional(v)) return sd_sh_like(n, 0, 0);
  return set_item(n, 0, v->object->of);
}

// ---- tensors of any rank ----

// Also of rows whose result is a tensor of a rank that only the run knows.
sard_status *sd_shape_box(sd_node *n) {
  SD_TRY(sd_sh_rank(n, 0, 0, SD_MAX_RANK));
  return sd_sh_set_object(n, 0, sd_otype_new(module(n), SD_OBJ_TENSOR, n->in[0]->dtype, SD_RANK_UNKNOWN, NULL));
}

sard_status *sd_shape_unbox(sd_node *n) {
  const sd_otype *t;
  int64_t rank = sd_node_int(n, "rank", 0);
  SD_TRY(need(n, 0, SD_OBJ_TENSOR, &t));
  if (rank < 0 || rank > SD_MAX_RANK) return SD_SH_ERR(n, MODEL, "rank %lld", (long long)rank);
  return set_item(n, 0, sd_otype_new(module(n), SD_OBJ_TENSOR, t->dtype, (int)rank, NULL));
}

sard_status *sd_shape_box_rank(sd_node *n) {
  const sd_otype *t;
  SD_TRY(need(n, 0, SD_OBJ_TENSOR, &t));
  return sd_sh_set(n, 0, SD_I64, 0, NULL);
}

// ---- SequenceMap: for each position the body, on the items there; its outputs are appended to sequences ----

sard_status *sd_shape_sequence_map(sd_node *n) {
  const sd_graph *g = n->n_body == 1 ? n->bodies[0] : NULL;
  const sd_otype *s;
  SD_TRY(need(n, 0, SD_OBJ_SEQUENCE, &s));
  if (!g || g->inputs.len != n->n_in || g->outputs.len != n->n_out)
    return SD_SH_ERR(n, MODEL, "%u operands and %u outputs do not fit the body, which has %u and %u", n->n_in, n->n_out, g ? g->inputs.len : 0, g ? g->outputs.len : 0);
  for (uint32_t i = 0; i < n->n_out; i++) {
    if (g->outputs.at[i]->dtype == SD_DT_NONE) return SD_SH_ERR(n, UNSUPPORTED, "output %u of the body has no known type", i);
    SD_TRY(sd_sh_set_object(n, i, sequence_of(n, sd_otype_of(module(n), g->outputs.at[i]))));
  }
  return NULL;
}

static bool is_sequence(const sd_value *v) { return v && v->object && v->object->kind == SD_OBJ_SEQUENCE; }

// Inputs of the body are read from the sequences at the counter, or are the operands themselves.
static sard_status *read_items(sd_node *n, sd_graph *g, sd_value *position) {
  sd_node *first = g->first; // behind the counter
  first = first ? first->next : NULL;
  for (uint32_t i = 0; i < n->n_in; i++) {
    sd_node *at;
    if (!n->in[i]) continue;
    if (!is_sequence(n->in[i])) {
      sd_value_replace(g->inputs.at[i], n->in[i]);
      continue;
    }
    SD_TRY(sd_build(g, first, "SequenceAt", (sd_value *[]){n->in[i], position}, 2, &at));
    for (int d = 0; d < at->out[0]->rank; d++) at->out[0]->dims[d] = g->inputs.at[i]->dims[d]; // the body knows them by these
    sd_value_replace(g->inputs.at[i], at->out[0]);
  }
  g->inputs.len = 0;
  return NULL;
}

static sard_status *write_items(sd_node *n, sd_graph *g, sd_value **states) {
  for (uint32_t i = 0; i < n->n_out; i++) {
    sd_node *empty, *insert;
    const sd_otype *of = n->out[i]->object->of;
    empty = sd_node_new(n->graph, n, sd_op_find("SequenceEmpty"), NULL, 0, 1);
    sd_node_set_int(empty, "dtype", of->kind == SD_OBJ_TENSOR ? of->dtype : SD_F32);
    sd_value_set_object(empty->out[0], n->out[i]->object); // what it will be
    states[i] = empty->out[0];
    sd_value *state = sd_graph_input(g, "", SD_OBJECT, 0, NULL);
    state->object = n->out[i]->object;
    SD_TRY(sd_build(g, NULL, "SequenceInsert", (sd_value *[]){state, g->outputs.at[i]}, 2, &insert));
    g->outputs.at[i] = insert->out[0];
  }
  return NULL;
}

sard_status *sd_rewrite_sequence_map(sd_node *n) {
  sd_module *m = module(n);
  sd_graph *g = n->bodies[0];
  sd_node *length;
  sd_dim trip, counter = sd_dim_fresh(m->dims, "item");
  sd_value *position, **states = SD_NEW_ARRAY(m->arena, sd_value *, n->n_out + 1);
  SD_TRY(sd_build(n->graph, n, "SequenceLength", &n->in[0], 1, &length));
  SD_TRY(sd_flow_size(n, length->out[0], &trip));
  SD_TRY(sd_flow_counter(n, g, counter, &position));
  SD_TRY(read_items(n, g, position));
  SD_TRY(write_items(n, g, states));
  return sd_flow_for(n, states, n->n_out, trip, counter);
}
