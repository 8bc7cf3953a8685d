// Models that are a decoder alone, like GPT-2: the prompt is what its first step reads.
#include <string.h>

#include "ir/ops/search.h"

enum { MAX_LAYERS = 256, INPUTS = 3 };                        // inputs of a decoder before past_0
enum { IDS, POSITION, MASK, SEQUENCE, NEXT_POSITION, FIXED }; // states

static sard_status *prompt_of(const sd_node *n, sd_search *s) {
  SD_TRY(sd_sh_rank(n, 0, 2, 2));
  if (n->in[0]->dtype != SD_I32) return SD_SH_ERR(n, MODEL, "input_ids is %s, not i32", sd_dtype_name(n->in[0]->dtype));
  if (sd_search_operand(n, "decoder_input_ids"))
    return SD_SH_ERR(n, UNSUPPORTED, "operand decoder_input_ids, which is for model_type 2");
  s->batch = n->in[0]->dims[0], s->prompt = n->in[0]->dims[1];
  return NULL;
}

static sard_status *input_of(const sd_search *s, const sd_graph *g, uint32_t i, const char *name, sd_dim *dims,
                             int *rank) {
  const sd_node *n = s->n;
  bool first = strcmp(g->name, "init_decoder") == 0, later = n->n_body > 1;
  (void)name;
  if (*rank != (i < INPUTS ? 2 : 5))
    return SD_SH_ERR(n, UNSUPPORTED, "input %u of its %s has rank %d", i, g->name, *rank);
  if (i < INPUTS) dims[0] = s->rows;
  if (i == 0) dims[1] = first ? s->prompt : later ? sd_dim_const(s->t, 1) : sd_dim_fresh(s->t, "step");
  if (i == 0) return NULL;
  sd_dim step = g->inputs.at[0]->rank == 2 ? g->inputs.at[0]->dims[1] : s->prompt;
  if (i == 1) dims[1] = step;
  if (i == 2) dims[1] = first ? s->prompt : sd_dim_add(s->t, step, sd_dim_fresh(s->t, "past"));
  if (i < INPUTS) return NULL;
  dims[0] = sd_dim_const(s->t, 2), dims[1] = s->rows;
  dims[3] =
      first || g->inputs.at[2]->rank != 2 ? sd_dim_const(s->t, 0) : sd_dim_sub(s->t, g->inputs.at[2]->dims[1], step);
  return NULL;
}

static sard_status *check_body(const sd_node *n, const sd_graph *g) {
  static const char *const names[] = {"input_ids", "position_ids", "attention_mask"};
  uint32_t layers = g->inputs.len - INPUTS;
  bool plain = g->inputs.len > INPUTS && layers <= MAX_LAYERS && g->outputs.len == layers + 1;
  for (uint32_t i = 0; i < INPUTS && plain; i++)
    plain =
        strcmp(g->inputs.at[i]->name, names[i]) == 0 && g->inputs.at[i]->dtype == SD_I32 && g->inputs.at[i]->rank == 2;
  for (uint32_t i = 0; i < layers && plain; i++) {
    const sd_value *past = g->inputs.at[INPUTS + i], *present = g->outputs.at[1 + i];
    plain = past->rank == 5 && present->rank == 5 && past->dtype == present->dtype && sd_dtype_is_float(past->dtype) &&
            sd_dim_get(sd_sh_tab(n), past->dims[2])->op != SD_DIM_SYM &&
            sd_dim_get(sd_sh_tab(n), past->dims[4])->op != SD_DIM_SYM;
  }
  return plain ? NULL
               : SD_SH_ERR(n, UNSUPPORTED,
                           "its %s is not of the form input_ids, position_ids, attention_mask, past_0, ... to logits, "
                           "present_0, ...",
                           g->name);
}

static sard_status *read_bodies(const sd_node *n, sd_search *s) {
  const sd_graph *g = n->bodies[n->n_body - 1];
  if (n->n_body > 2 || (n->n_body == 2 && strcmp(n->bodies[0]->name, "init_decoder") != 0))
    return SD_SH_ERR(n, UNSUPPORTED, "it has a body '%s', and model_type 0", n->bodies[n->n_body - 2]->name);
  for (uint32_t i = 0; i < n->n_body; i++) SD_TRY(check_body(n, n->bodies[i]));
  if (n->bodies[0]->inputs.len != g->inputs.len) return SD_SH_ERR(n, MODEL, "its bodies have different inputs");
  s->first = INPUTS, s->layers = g->inputs.len - INPUTS;
  return NULL;
}

// ---- the states ----

// Tokens that are no padding count, from 0; those that are have position 0. A mask that is given changes no position.
static void start_states(xg *g, const sd_search *s, sd_value **state) {
  sd_value *ids = s->n->in[0], *mask = sd_search_operand(s->n, "attention_mask"), *one = sd_xg_num(g, SD_I32, 1);
  sd_value *padding = XG(g, "Equal", ids, sd_xg_num(g, SD_I32, (double)s->pad)), *words = XG(g, "Not", padding);
  int64_t axis = 1;
  if (words) words = sd_xg_cast(g, SD_I32, words);
  mask = mask ? sd_xg_reshape(g, sd_xg_cast(g, SD_I32, mask), s->n->in[0]->dims, 2) : words;
  sd_value *position = XG(g, "Where", padding, sd_xg_num(g, SD_I32, 0), XG(g, "Sub", XG(g, "CumSum", words, one), one));
  state[IDS] = state[SEQUENCE] = sd_search_by_row(g, s, ids);
  state[POSITION] = sd_search_by_row(g, s, position), state[MASK] = sd_search_by_row(g, s, mask);
  words = sd_search_by_row(g, s, words);
  state[NEXT_POSITION] = XG(g, "ReduceSum keepdims=1", words, sd_xg_ints(g, &axis, 1));
}

static sd_value *no_past(xg *g, const sd_search *s, const sd_value *past) {
  sd_dim dims[5] = {past->dims[0], s->rows, past->dims[2], sd_dim_const(s->t, 0), past->dims[4]};
  return sd_xg_expand(g, sd_xg_num(g, past->dtype, 0), dims, 5);
}

static void begin(xg *g, sd_search *s, sd_value **state, sd_value **logits, sd_value **presents) {
  sd_graph *body = s->n->bodies[0];
  start_states(g, s, state);
  for (uint32_t i = 0; i < s->layers; i++) state[FIXED + i] = no_past(g, s, body->inputs.at[INPUTS + i]);
  if (s->n->n_body < 2 || g->st) return;
  sd_value **in = SD_NEW_ARRAY(body->module->arena, sd_value *, INPUTS + s->layers);
  for (uint32_t i = 0; i < INPUTS + s->layers; i++) in[i] = state[i < INPUTS ? i : i - INPUTS + FIXED];
  sd_search_inline(g, body, in);
  *logits = body->outputs.at[0];
  memcpy(presents, body->outputs.at + 1, s->layers * sizeof *presents);
  body->outputs.len = 0;
}

static void bind(xg *g, const sd_search *s, sd_graph *body, sd_value **state) {
  sd_dim length = body->inputs.at[MASK]->dims[1], one = sd_dim_const(s->t, 1);
  (void)g;
  memcpy(state, body->inputs.at, INPUTS * sizeof *state);
  state[SEQUENCE] = sd_graph_input(body, "sequences", SD_I32, 2, (sd_dim[]){s->rows, length});
  state[NEXT_POSITION] = sd_graph_input(body, "", SD_I32, 2, (sd_dim[]){s->rows, one});
}

static void next(xg *g, const sd_search *s, sd_value *token, sd_value **state) {
  sd_value *ones = sd_xg_expand(g, sd_xg_num(g, SD_I32, 1), (sd_dim[]){s->rows, sd_dim_const(s->t, 1)}, 2);
  state[IDS] = token;
  state[POSITION] = state[NEXT_POSITION];
  state[NEXT_POSITION] = XG(g, "Add", state[NEXT_POSITION], ones);
  state[MASK] = XG(g, "Concat axis=1", state[MASK], ones);
}

const sd_search_form sd_search_decoder = {
    .fixed = FIXED, .sequence = SEQUENCE, .axis = 1, .prompt = prompt_of, .input = input_of, .read = read_bodies,
    .begin = begin, .bind = bind, .next = next,
};
