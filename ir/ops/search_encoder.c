// Models of an encoder and a decoder: like T5, whose encoder reads tokens, or like Whisper, whose encoder reads
// features. The encoder runs once, for the batch; what it gives is repeated for the beams. Where it takes
// decoder_input_ids it makes the first step of the decoder, too; else that step starts without past.
#include <string.h>

#include "ir/ops/search.h"

enum { MAX_LAYERS = 256, SEQUENCE = 0, FIXED = 1 };
enum { WHISPER = 2 };                                       // model_type
enum { LOGITS = 0, HIDDEN_OUT = 1, PRESENTS = 2 };          // outputs of an encoder that makes the first step
typedef enum role { IDS, SOURCE, MASK, HIDDEN, PAST } role; // what an input of a body is

static role role_of(const char *name) {
  static const char *const names[PAST] = {"input_ids", "encoder_input_ids", "encoder_attention_mask",
                                          "encoder_hidden_states"};
  for (int i = 0; i < PAST; i++)
    if (strcmp(name, names[i]) == 0) return (role)i;
  return PAST;
}

static bool is_start(const char *name) { return strcmp(name, "decoder_input_ids") == 0; }
static bool is_encoder(const sd_graph *g) { return strcmp(g->name, "encoder") == 0; }

static bool makes_step(const sd_graph *encoder) {
  for (uint32_t i = 0; i < encoder->inputs.len; i++)
    if (is_start(encoder->inputs.at[i]->name)) return true;
  return false;
}

// Number of keys and values that a step makes: two for each layer.
static uint32_t presents_of(const sd_graph *encoder) {
  uint32_t n = encoder->outputs.len;
  return makes_step(encoder) ? (n < PRESENTS ? 0 : (n - PRESENTS) / 2) : n;
}

static uint32_t first_past(const sd_graph *g) {
  uint32_t i = 0;
  while (i < g->inputs.len && role_of(g->inputs.at[i]->name) != PAST) i++;
  return i;
}

static sard_status *prompt_of(const sd_node *n, sd_search *s) {
  bool whisper = sd_node_int(n, "model_type", 0) == WHISPER;
  const sd_value *x = n->in[0], *start = sd_search_operand(n, "decoder_input_ids");
  int64_t id = sd_node_int(n, "decoder_start_token_id", -1);
  SD_TRY(sd_sh_rank(n, 0, whisper ? 3 : 2, whisper ? 3 : 2));
  if (whisper ? !sd_dtype_is_float(x->dtype) : x->dtype != SD_I32)
    return SD_SH_ERR(n, MODEL, "its operand 0 is %s, not %s", sd_dtype_name(x->dtype), whisper ? "of floats" : "i32");
  if (start && !whisper) return SD_SH_ERR(n, UNSUPPORTED, "operand decoder_input_ids, which is for model_type 2");
  if (start && (start->rank != 2 || start->dtype != SD_I32))
    return SD_SH_ERR(n, MODEL, "decoder_input_ids is not i32 of rank 2");
  if (!start && (id < 0 || id > INT32_MAX)) return SD_SH_ERR(n, MODEL, "decoder_start_token_id is %lld", (long long)id);
  s->batch = x->dims[0];
  s->prompt = start ? start->dims[1] : sd_dim_const(s->t, 1);
  return NULL;
}

// ---- what the inputs of the bodies have to be ----

typedef struct type {
  sd_dtype dtype;
  int rank;
  sd_dim dims[SD_MAX_RANK]; // in the beginning what the body declares
  int open;                 // axis whose size the loop decides, or -1
} type;

static void like(type *t, const sd_value *v, sd_dim rows) {
  t->dtype = v->dtype, t->rank = v->rank;
  if (v->rank < 1) return;
  memcpy(t->dims, v->dims, (size_t)v->rank * sizeof *t->dims);
  t->dims[0] = rows;
}

static void matrix(type *t, sd_dim rows, sd_dim columns) {
  t->dtype = SD_I32, t->rank = 2;
  t->dims[0] = rows, t->dims[1] = columns;
}

// A past: heads and their size are those that the encoder gives, or for the first keys without it those that are
// declared.
static void past_type(const sd_search *s, const sd_graph *encoder, uint32_t k, type *t) {
  uint32_t presents = presents_of(encoder), from = makes_step(encoder) ? PRESENTS + k : k < presents ? k : k - presents;
  sd_dim heads = t->rank == 4 ? t->dims[1] : SD_DIM_NONE, size = t->rank == 4 ? t->dims[3] : SD_DIM_NONE;
  if (from >= encoder->outputs.len) return;
  like(t, encoder->outputs.at[from], s->rows);
  if (k >= presents || t->rank != 4) return;
  t->open = 2;
  if (makes_step(encoder)) return;
  if (heads != SD_DIM_NONE && sd_dim_is_const(s->t, heads, NULL)) t->dims[1] = heads;
  if (size != SD_DIM_NONE && sd_dim_is_const(s->t, size, NULL)) t->dims[3] = size;
}

// `first`: the index of the first past, where input i is one.
static sard_status *type_of(const sd_search *s, const sd_graph *g, uint32_t i, const char *name, uint32_t first,
                            type *t) {
  const sd_node *n = s->n;
  role r = role_of(name);
  sd_dim rows = is_encoder(g) ? s->batch : s->rows;
  const sd_graph *encoder = n->bodies[0];
  t->open = -1;
  if (r == SOURCE) like(t, n->in[0], rows);
  else if (r == MASK) matrix(t, rows, n->in[0]->dims[1]);
  else if (is_encoder(g) && is_start(name)) matrix(t, rows, s->prompt);
  else if (is_encoder(g)) return SD_SH_ERR(n, UNSUPPORTED, "its encoder has an input '%.200s'", name);
  else if (!is_encoder(encoder)) return SD_SH_ERR(n, MODEL, "it has no encoder");
  else if (r == IDS && i == 0) matrix(t, rows, t->rank == 2 ? t->dims[1] : SD_DIM_NONE), t->open = 1;
  else if (r == HIDDEN && makes_step(encoder) && encoder->outputs.len > HIDDEN_OUT)
    like(t, encoder->outputs.at[HIDDEN_OUT], rows);
  else if (r == PAST && i >= first) past_type(s, encoder, i - first, t);
  else return SD_SH_ERR(n, UNSUPPORTED, "its decoder has an input '%.200s' that its encoder does not give", name);
  return NULL;
}

static sard_status *input_of(const sd_search *s, const sd_graph *g, uint32_t i, const char *name, sd_dim *dims,
                             int *rank) {
  uint32_t first = first_past(g);
  type t = {.rank = *rank};
  if (*rank < 1) return SD_SH_ERR(s->n, UNSUPPORTED, "input '%.200s' of its %s has rank %d", name, g->name, *rank);
  memcpy(t.dims, dims, (size_t)*rank * sizeof *dims);
  SD_TRY(type_of(s, g, i, name, first, &t));
  if (t.rank != *rank)
    return SD_SH_ERR(s->n, MODEL, "input '%.200s' of its %s has rank %d, not %d", name, g->name, *rank, t.rank);
  if (t.open == 1 && !sd_dim_is_const(s->t, dims[1], NULL)) t.dims[1] = sd_dim_fresh(s->t, "length"); // else one token
  if (t.open == 2) t.dims[2] = i > first ? g->inputs.at[first]->dims[2] : sd_dim_fresh(s->t, "past");
  memcpy(dims, t.dims, (size_t)t.rank * sizeof *dims);
  return NULL;
}

// past: the size of the axis that pasts have open.
static bool open_axis_fits(const sd_search *s, const sd_value *v, int axis, sd_dim past) {
  bool symbol = sd_dim_get(s->t, v->dims[axis])->op == SD_DIM_SYM;
  if (axis == 2) return symbol && v->dims[2] == past;
  return symbol || v->dims[axis] == sd_dim_const(s->t, 1);
}

static bool same_type(const sd_search *s, const sd_value *v, const type *t, sd_dim past) {
  if (v->dtype != t->dtype || v->rank != t->rank) return false;
  for (int d = 0; d < t->rank; d++)
    if (d == t->open ? !open_axis_fits(s, v, d, past) : v->dims[d] != t->dims[d]) return false;
  return true;
}

static sard_status *check_inputs(const sd_search *s, const sd_graph *g) {
  uint32_t first = first_past(g);
  bool has_past = first < g->inputs.len && g->inputs.at[first]->rank == 4;
  sd_dim past = has_past ? g->inputs.at[first]->dims[2] : SD_DIM_NONE;
  for (uint32_t i = 0; i < g->inputs.len; i++) {
    const sd_value *v = g->inputs.at[i];
    type t = {.rank = v->rank};
    if (v->rank > 0) memcpy(t.dims, v->dims, (size_t)v->rank * sizeof *t.dims);
    SD_TRY(type_of(s, g, i, v->name, first, &t));
    if (!same_type(s, v, &t, past))
      return SD_SH_ERR(s->n, MODEL, "the type of input '%.200s' of its %s", v->name, g->name);
  }
  return NULL;
}

// Outputs from number `from` on are keys and values.
static sard_status *check_outputs(const sd_search *s, const sd_graph *g, uint32_t from, sd_dtype dtype) {
  for (uint32_t i = 0; i < g->outputs.len; i++) {
    const sd_value *v = g->outputs.at[i];
    int rank = i >= from ? 4 : 3;
    if (v->dtype != dtype || !sd_dtype_is_float(dtype) || v->rank != rank)
      return SD_SH_ERR(s->n, UNSUPPORTED, "output %u of its %s is %s of rank %d, not floats of rank %d", i, g->name,
                       sd_dtype_name(v->dtype), v->rank, rank);
  }
  return NULL;
}

static sard_status *check_encoder(const sd_search *s, const sd_graph *g) {
  uint32_t presents = presents_of(g);
  bool starts = makes_step(g);
  SD_TRY(check_inputs(s, g));
  if (!presents || presents % 2 || presents > 2 * MAX_LAYERS ||
      g->outputs.len != (starts ? PRESENTS + 2 * presents : presents))
    return SD_SH_ERR(s->n, UNSUPPORTED, "its encoder has %u outputs, which is not the form %spresent_key_cross_0, ...",
                     g->outputs.len, starts ? "logits, encoder_hidden_states, present_key_self_0, ... " : "");
  return check_outputs(s, g, starts ? PRESENTS : 0, g->outputs.at[0]->dtype);
}

static sard_status *check_decoder(const sd_search *s, const sd_graph *g, uint32_t presents, sd_dtype dtype) {
  uint32_t first = first_past(g);
  bool begins = first && role_of(g->inputs.at[0]->name) == IDS;
  if (!begins || g->inputs.len != first + 2 * presents || g->outputs.len != 1 + presents)
    return SD_SH_ERR(s->n, UNSUPPORTED,
                     "its decoder is not of the form input_ids, encoder_attention_mask, past_key_self_0, ... "
                     "past_key_cross_0, ... to logits, present_key_self_0, ..., with %u of each kind",
                     presents);
  SD_TRY(check_inputs(s, g));
  return check_outputs(s, g, 1, dtype);
}

static sard_status *read_bodies(const sd_node *n, sd_search *s) {
  const sd_graph *encoder = n->bodies[0], *decoder = n->bodies[n->n_body - 1];
  if (n->n_body != 2 || !is_encoder(encoder) || is_encoder(decoder))
    return SD_SH_ERR(n, MODEL, "model_type %lld takes an encoder and a decoder",
                     (long long)sd_node_int(n, "model_type", 0));
  SD_TRY(check_encoder(s, encoder));
  s->first = first_past(decoder), s->layers = presents_of(encoder);
  return check_decoder(s, decoder, s->layers, encoder->outputs.at[0]->dtype);
}

// ---- the states ----

// Without a mask everything counts but the padding before the first token.
static sd_value *source_mask(xg *g, const sd_search *s) {
  sd_value *ids = s->n->in[0], *mask = sd_search_operand(s->n, "attention_mask"), *zero = sd_xg_num(g, SD_I32, 0);
  if (mask) return sd_xg_reshape(g, sd_xg_cast(g, SD_I32, mask), ids->dims, 2);
  sd_value *words = XG(g, "Not", XG(g, "Equal", ids, sd_xg_num(g, SD_I32, (double)s->pad)));
  if (words) words = sd_xg_cast(g, SD_I32, words);
  words = XG(g, "Greater", XG(g, "CumSum", words, sd_xg_num(g, SD_I32, 1)), zero);
  return words ? sd_xg_cast(g, SD_I32, words) : NULL;
}

static sd_value *start_tokens(xg *g, const sd_search *s) {
  sd_value *given = sd_search_operand(s->n, "decoder_input_ids");
  sd_dim dims[2] = {s->batch, s->prompt};
  if (given) return sd_xg_reshape(g, given, dims, 2);
  return sd_xg_expand(g, sd_xg_num(g, SD_I32, (double)sd_node_int(s->n, "decoder_start_token_id", -1)), dims, 2);
}

static bool takes(const sd_graph *g, role r) {
  for (uint32_t i = 0; i < g->inputs.len; i++)
    if (role_of(g->inputs.at[i]->name) == r) return true;
  return false;
}

// What the decoder takes in every step.
static void set_outer(xg *g, sd_search *s, sd_value *mask, sd_value *const *encoded, uint32_t crossed) {
  const sd_graph *decoder = s->n->bodies[1];
  for (uint32_t i = 1; i < s->first; i++) {
    role r = role_of(decoder->inputs.at[i]->name);
    s->outer[i] = sd_search_by_row(g, s, r == SOURCE ? s->n->in[0] : r == MASK ? mask : encoded[HIDDEN_OUT]);
  }
  for (uint32_t k = 0; k < s->layers; k++)
    s->outer[s->first + s->layers + k] = sd_search_by_row(g, s, encoded[crossed + k]);
}

static void begin(xg *g, sd_search *s, sd_value **state, sd_value **logits, sd_value **presents) {
  sd_graph *encoder = s->n->bodies[0], *decoder = s->n->bodies[1];
  bool starts = makes_step(encoder), masked = takes(encoder, MASK) || takes(decoder, MASK);
  sd_value *mask = masked ? source_mask(g, s) : NULL, *tokens = start_tokens(g, s);
  if (g->st) return;
  sd_value **in = SD_NEW_ARRAY(encoder->module->arena, sd_value *, encoder->inputs.len);
  for (uint32_t i = 0; i < encoder->inputs.len; i++) {
    const char *name = encoder->inputs.at[i]->name;
    in[i] = is_start(name) ? tokens : role_of(name) == MASK ? mask : s->n->in[0];
  }
  sd_search_inline(g, encoder, in);
  state[SEQUENCE] = sd_search_by_row(g, s, tokens);
  set_outer(g, s, mask, encoder->outputs.at, starts ? PRESENTS + s->layers : 0);
  for (uint32_t i = 0; i < s->layers; i++) {
    const sd_value *past = decoder->inputs.at[s->first + i];
    sd_dim none[4] = {s->rows, past->dims[1], sd_dim_const(s->t, 0), past->dims[3]};
    if (starts) presents[i] = sd_search_by_row(g, s, encoder->outputs.at[PRESENTS + i]);
    else state[FIXED + i] = sd_xg_expand(g, sd_xg_num(g, past->dtype, 0), none, 4);
  }
  if (starts) *logits = sd_search_by_row(g, s, encoder->outputs.at[LOGITS]);
  encoder->outputs.len = 0;
}

// The decoder reads the sequence, or its last token.
static void bind(xg *g, const sd_search *s, sd_graph *body, sd_value **state) {
  sd_value *ids = body->inputs.at[0];
  uint32_t inputs = body->inputs.len;
  bool whole = !sd_dim_is_const(s->t, ids->dims[1], NULL);
  sd_dim length = whole ? ids->dims[1] : sd_dim_fresh(s->t, "length");
  sd_dim last = sd_dim_sub(s->t, length, sd_dim_const(s->t, 1));
  sd_value *seq = sd_graph_input(body, "sequences", SD_I32, 2, (sd_dim[]){s->rows, length});
  sd_value *token = whole ? seq : XG(g, "Gather axis=1", seq, sd_xg_dims(g, &last, 1));
  if (token) sd_value_replace(ids, token);
  for (uint32_t i = 1; i < inputs; i++)
    if (s->outer[i]) sd_value_replace(body->inputs.at[i], s->outer[i]);
  state[SEQUENCE] = seq;
}

const sd_search_form sd_search_encoder = {
    .fixed = FIXED, .sequence = SEQUENCE, .axis = 0, .prompt = prompt_of, .input = input_of, .read = read_bodies,
    .begin = begin, .bind = bind,
};
