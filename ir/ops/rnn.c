// LSTM, GRU and RNN as nests: the input product of all steps at once, then a sequential loop over time.
//
// A grid tile is one direction. Per step: recurrent product of all gates into a local buffer, then the gates.
// The state is overwritten in the gates' nest, whose last store is the one that other stores of the same
// point still read.
#include <string.h>
#include <strings.h>

#include "ir/ops.h"
#include "ir/ops/sparse_blocks.h"
#include "ir/ops/xbuild.h"

// Operands, and where sard.LSTM8 has them: its X is the input product of all steps with the biases.
enum { X, W, R, BIAS, LENS, H0, C0, P, R_SCALE, R_SUMS, R_INDEX, R_START, OPERANDS };
enum { NONE = UINT16_MAX };
static const uint32_t of_floats[OPERANDS] = {X, W, R, BIAS, LENS, H0, C0, P, NONE, NONE, NONE, NONE};
static const uint32_t of_bytes[OPERANDS] = {0, NONE, 1, NONE, 2, 3, 4, 5, 6, 7, 8, 9};

typedef enum kind { RNN, GRU, LSTM } kind;
static const int gates_of[] = {1, 3, 4}, functions_of[] = {1, 2, 3};

typedef struct rnn {
  const sd_node *n;
  const uint32_t *at; // operands
  kind kind;
  int gates, dirs;
  bool reverse, batch_first, reset_after;
  sd_dim S, B, I, H, GH; // GH = gates * H
  sd_dtype type;
  sd_expr *d; // direction
  sd_buf *xw, *rec, *h, *c, *z, *rh;
  sd_buf *rounded, *range; // of a quantized state
  bool bytes;              // R and the state are bytes, with scales and zero points (sard.LSTM8)
  sd_sparse_blocks blocks; // R in tables, where there is R_START
} rnn;

static sard_status *read_direction(const sd_node *n, rnn *r) {
  const char *dir = sd_node_str(n, "direction", "forward");
  bool both = !strcmp(dir, "bidirectional");
  r->reverse = !strcmp(dir, "reverse");
  if (!both && !r->reverse && strcmp(dir, "forward"))
    return SD_SH_ERR(n, MODEL, "unknown direction '%s'", dir);
  r->dirs = both ? 2 : 1;
  return NULL;
}

static sard_status *check_index(const sd_node *n, const rnn *r, int64_t hidden) {
  const int32_t *at = n->in[r->at[R_INDEX]]->data->data;
  for (int64_t i = 0; i < r->blocks.steps; i++)
    if (at[i] < 0 || at[i] > hidden - SD_SPARSE_SIDE) return SD_SH_ERR(n, MODEL, "step %lld reads at %d of %lld", (long long)i, at[i], (long long)hidden);
  return NULL;
}

// Of sard.LSTM8, whose R may stand in tables.
static sard_status *read_bytes(const sd_node *n, rnn *r) {
  sd_dimtab *t = sd_sh_tab(n);
  int64_t gates;
  for (int i = R_SCALE; i <= R_SUMS; i++) {
    SD_TRY(sd_sh_rank(n, r->at[i], 2, 2));
    SD_TRY(sd_sh_same(n, n->in[r->at[i]]->dims[0], sd_dim_const(t, r->dirs), sd_sh_operand(n, r->at[i]), NULL));
    SD_TRY(sd_sh_same(n, n->in[r->at[i]]->dims[1], n->in[r->at[R_SCALE]]->dims[1], sd_sh_operand(n, r->at[i]), NULL));
  }
  r->GH = n->in[r->at[R_SCALE]]->dims[1];
  if (!sd_dim_is_const(t, r->GH, &gates) || gates % r->gates) return SD_SH_ERR(n, MODEL, "columns of R must be a multiple of %d", r->gates);
  r->H = sd_dim_const(t, gates / r->gates);
  SD_TRY(sd_sh_same(n, n->in[X]->dims[2], sd_dim_mul(t, sd_dim_const(t, r->dirs), r->GH), "gates of XW", NULL));
  if (sd_sh_in(n, r->at[R_START])) {
    r->blocks = (sd_sparse_blocks){.value = r->at[R], .index = r->at[R_INDEX], .start = r->at[R_START], .order = NONE, .pairs = sd_node_int(n, "pairs", 1)};
    SD_TRY(sd_sparse_blocks_tables(n, &r->blocks));
    SD_TRY(sd_sh_same(n, sd_dim_const(t, r->blocks.n), sd_dim_const(t, r->dirs * gates), "outputs of R", NULL));
    return check_index(n, r, gates / r->gates);
  }
  const sd_dim want[3] = {sd_dim_const(t, r->dirs), r->GH, r->H};
  SD_TRY(sd_sh_bytes(n, r->at[R]));
  for (int d = 0; d < 3; d++) SD_TRY(sd_sh_same(n, n->in[r->at[R]]->dims[d], want[d], "R", NULL));
  return NULL;
}

static sard_status *rnn_read(const sd_node *n, rnn *r) {
  sd_dimtab *t = sd_sh_tab(n);
  memset(r, 0, sizeof *r);
  r->n = n;
  r->bytes = !strcmp(n->op->name, "sard.LSTM8");
  r->at = r->bytes ? of_bytes : of_floats;
  r->kind = r->bytes || !strcmp(n->op->name, "LSTM") ? LSTM : !strcmp(n->op->name, "GRU") ? GRU : RNN;
  r->gates = gates_of[r->kind];
  for (uint32_t i = X; i <= R; i++)
    if (r->at[i] != NONE) SD_TRY(sd_sh_rank(n, r->at[i], 3, 3));
  SD_TRY(read_direction(n, r));
  r->batch_first = sd_node_int(n, "layout", 0) != 0;
  r->reset_after = r->kind == GRU && sd_node_int(n, "linear_before_reset", 0);
  const sd_dim *x = n->in[X]->dims;
  r->S = x[r->batch_first ? 1 : 0], r->B = x[r->batch_first ? 0 : 1], r->I = x[2];
  if (r->bytes) return read_bytes(n, r);
  const sd_dim *w = n->in[W]->dims, *rec = n->in[R]->dims;
  r->H = rec[2];
  r->GH = sd_dim_mul(t, r->H, sd_dim_const(t, r->gates));
  sd_dim dirs = sd_dim_const(t, r->dirs);
  SD_TRY(sd_sh_same(n, w[0], dirs, "directions of W", NULL));
  SD_TRY(sd_sh_same(n, rec[0], dirs, "directions of R", NULL));
  SD_TRY(sd_sh_same(n, w[1], r->GH, "gates of W", NULL));
  SD_TRY(sd_sh_same(n, rec[1], r->GH, "gates of R", NULL));
  int64_t hidden = sd_node_int(n, "hidden_size", -1);
  if (hidden >= 0) SD_TRY(sd_sh_same(n, r->H, sd_dim_const(t, hidden), "hidden_size and the last dim of R", NULL));
  SD_TRY(sd_sh_same(n, w[2], r->I, "input sizes of X and W", NULL));
  if (sd_sh_in(n, BIAS)) {
    SD_TRY(sd_sh_rank(n, BIAS, 2, 2));
    SD_TRY(sd_sh_same(n, n->in[BIAS]->dims[1], sd_dim_mul(t, r->GH, sd_dim_const(t, 2)), "the last dim of B",
                      NULL));
  }
  return NULL;
}

// Shape of a state: [dirs, B, H] or, batch first, [B, dirs, H].
static void state_dims(const sd_node *n, const rnn *r, sd_dim *out) {
  out[r->batch_first ? 1 : 0] = sd_dim_const(sd_sh_tab(n), r->dirs);
  out[r->batch_first ? 0 : 1] = r->B;
  out[2] = r->H;
}

static sard_status *check_states(const sd_node *n, const rnn *r) {
  sd_dim dims[3];
  state_dims(n, r, dims);
  for (int s = H0; s <= C0; s++) {
    uint32_t i = r->at[s];
    if (!sd_sh_in(n, i)) continue;
    SD_TRY(sd_sh_rank(n, i, 3, 3));
    for (int d = 0; d < 3; d++) SD_TRY(sd_sh_same(n, n->in[i]->dims[d], dims[d], sd_sh_operand(n, i), NULL));
  }
  const sd_value *lens = sd_sh_in(n, r->at[LENS]), *peepholes = sd_sh_in(n, r->at[P]);
  if (lens) {
    SD_TRY(sd_sh_rank(n, r->at[LENS], 1, 1));
    SD_TRY(sd_sh_same(n, lens->dims[0], r->B, "sequence_lens and the batch", NULL));
  }
  if (!peepholes) return NULL;
  sd_dimtab *t = sd_sh_tab(n);
  SD_TRY(sd_sh_rank(n, r->at[P], 2, 2));
  return sd_sh_same(n, peepholes->dims[1], sd_dim_mul(t, r->H, sd_dim_const(t, 3)), "the last dim of P", NULL);
}

sard_status *sd_shape_rnn(sd_node *n) {
  rnn r;
  sd_dim state[3];
  SD_TRY(rnn_read(n, &r));
  if (sd_sh_in(n, r.at[R_START])) SD_TRY(sd_sparse_blocks_fit(n, &r.blocks));
  SD_TRY(check_states(n, &r));
  sd_dim dirs = sd_dim_const(sd_sh_tab(n), r.dirs);
  sd_dim y[4] = {r.S, dirs, r.B, r.H}, y_first[4] = {r.B, r.S, dirs, r.H};
  state_dims(n, &r, state);
  sd_dtype type = r.bytes ? SD_F32 : n->in[X]->dtype;
  SD_TRY(sd_sh_set(n, 0, type, 4, r.batch_first ? y_first : y));
  for (uint32_t i = 1; i < 3; i++) SD_TRY(sd_sh_set(n, i, type, 3, state));
  return NULL;
}

// ---- activations ----
typedef sd_expr *(*act_fn)(sd_tb *b, sd_expr *x, double alpha, double beta);
static sd_expr *act_relu(sd_tb *b, sd_expr *x, double alpha, double beta) {
  (void)alpha, (void)beta;
  return x_max(b, x, x_num(b, x, 0));
}
static sd_expr *act_tanh(sd_tb *b, sd_expr *x, double alpha, double beta) {
  (void)alpha, (void)beta;
  return x_un(b, SD_X_TANH, x);
}
static sd_expr *act_sigmoid(sd_tb *b, sd_expr *x, double alpha, double beta) {
  (void)alpha, (void)beta;
  return x_div(b, x_num(b, x, 1), x_addn(b, x_un(b, SD_X_EXP, x_un(b, SD_X_NEG, x)), 1));
}
static sd_expr *act_affine(sd_tb *b, sd_expr *x, double alpha, double beta) {
  return x_addn(b, x_muln(b, x, alpha), beta);
}
static sd_expr *act_leaky(sd_tb *b, sd_expr *x, double alpha, double beta) {
  (void)beta;
  return x ? x_sel(b, x_bin(b, SD_X_LT, x, x_num(b, x, 0)), x_muln(b, x, alpha), x) : NULL;
}
static sd_expr *act_thresholded(sd_tb *b, sd_expr *x, double alpha, double beta) {
  (void)beta;
  return x ? x_sel(b, x_bin(b, SD_X_LT, x, x_num(b, x, alpha)), x_num(b, x, 0), x) : NULL;
}
static sd_expr *act_scaled_tanh(sd_tb *b, sd_expr *x, double alpha, double beta) {
  return x_muln(b, x_un(b, SD_X_TANH, x_muln(b, x, beta)), alpha);
}
static sd_expr *act_hard_sigmoid(sd_tb *b, sd_expr *x, double alpha, double beta) {
  x = act_affine(b, x, alpha, beta);
  return x_min(b, x_max(b, x, x_num(b, x, 0)), x_num(b, x, 1));
}
static sd_expr *act_elu(sd_tb *b, sd_expr *x, double alpha, double beta) {
  (void)beta;
  sd_expr *low = x_muln(b, x_addn(b, x_un(b, SD_X_EXP, x), -1), alpha);
  return x ? x_sel(b, x_bin(b, SD_X_LT, x, x_num(b, x, 0)), low, x) : NULL;
}
static sd_expr *act_softsign(sd_tb *b, sd_expr *x, double alpha, double beta) {
  (void)alpha, (void)beta;
  return x_div(b, x, x_addn(b, x_un(b, SD_X_ABS, x), 1));
}
static sd_expr *act_softplus(sd_tb *b, sd_expr *x, double alpha, double beta) {
  (void)alpha, (void)beta;
  sd_expr *small = x_un(b, SD_X_EXP, x_un(b, SD_X_NEG, x_un(b, SD_X_ABS, x))); // in (0, 1]: no overflow
  return x_add(b, x_max(b, x, x_num(b, x, 0)), x_un(b, SD_X_LOG, x_addn(b, small, 1)));
}

static const struct act_row {
  const char *name;
  act_fn fn;
  bool has_alpha, has_beta;
  float alpha, beta;
} act_rows[] = {
    {"Relu", act_relu, 0, 0, 0, 0},
    {"Tanh", act_tanh, 0, 0, 0, 0},
    {"Sigmoid", act_sigmoid, 0, 0, 0, 0},
    {"Affine", act_affine, 1, 1, 1, 0},
    {"LeakyRelu", act_leaky, 1, 0, 0.01f, 0},
    {"ThresholdedRelu", act_thresholded, 1, 0, 1, 0},
    {"ScaledTanh", act_scaled_tanh, 1, 1, 1, 1},
    {"HardSigmoid", act_hard_sigmoid, 1, 1, 0.2f, 0.5f},
    {"Elu", act_elu, 1, 0, 1, 0},
    {"Softsign", act_softsign, 0, 0, 0, 0},
    {"Softplus", act_softplus, 0, 0, 0, 0},
};

static sard_status *act_find(const sd_node *n, const char *name, const struct act_row **out) {
  for (size_t i = 0; i < sizeof act_rows / sizeof *act_rows; i++)
    if (!strcasecmp(act_rows[i].name, name)) {
      *out = &act_rows[i];
      return NULL;
    }
  return SD_SH_ERR(n, MODEL, "unknown activation '%s'", name);
}

// Function number `which` of direction `dir` on x: the parameter lists are consumed by those that take a
// parameter.
static sd_expr *act_apply_dir(sd_tb *b, const rnn *r, int dir, int which, sd_expr *x) {
  static const char *const defaults[3][3] = {{"Tanh"}, {"Sigmoid", "Tanh"}, {"Sigmoid", "Tanh", "Tanh"}};
  int per = functions_of[r->kind], target = dir * per + which;
  const sd_attr *list = sd_node_attr(r->n, "activations"), *al = sd_node_attr(r->n, "activation_alpha");
  const sd_attr *be = sd_node_attr(r->n, "activation_beta");
  const struct act_row *row = NULL;
  uint32_t at_alpha = 0, at_beta = 0;
  float alpha = 0, beta = 0;
  bool given = list && list->kind == SD_ATTR_STRINGS && list->n > 0;
  for (int i = 0; i <= target; i++) {
    const char *name = given && (uint32_t)i < list->n ? list->strings[i] : defaults[r->kind][i % per];
    sard_status *st = act_find(r->n, name, &row);
    if (st) return sd_tb_fail(b, st);
    alpha = row->alpha, beta = row->beta;
    if (row->has_alpha && al && al->kind == SD_ATTR_FLOATS && at_alpha < al->n)
      alpha = al->floats[at_alpha++];
    if (row->has_beta && be && be->kind == SD_ATTR_FLOATS && at_beta < be->n) beta = be->floats[at_beta++];
  }
  return row->fn(b, x, alpha, beta);
}

static sd_expr *act_unclipped(sd_tb *b, const rnn *r, int which, sd_expr *x) {
  sd_expr *y = act_apply_dir(b, r, 0, which, x);
  if (r->dirs == 1 || !y) return y;
  sd_expr *second = act_apply_dir(b, r, 1, which, x); // the same expression where both directions agree
  return second == y ? y : x_sel(b, x_bin(b, SD_X_EQ, r->d, x_int(b, 0)), y, second);
}

static sd_expr *act_apply(sd_tb *b, const rnn *r, int which, sd_expr *x) {
  double clip = sd_node_float(r->n, "clip", 0);
  if (clip > 0) x = x_max(b, x_min(b, x, x_num(b, x, clip)), x_num(b, x, -clip));
  return act_unclipped(b, r, which, x);
}

// ---- nests ----
static sd_expr *nest_axis(sd_tb *b, sd_nest *nest, const char *name, sd_dim extent) {
  sd_axis *a = sd_kernel_axis(b->k, name, extent);
  sd_nest_axis(nest, a);
  return x_axis(b, a);
}
static sd_dim d_const(sd_tb *b, int64_t v) { return sd_dim_const(b->dims, v); }
static sd_expr *at2(sd_tb *b, sd_expr *row, sd_dim width, sd_expr *col) {
  return x_add(b, sd_x_mul_dim(b->k, row, width), col);
}
static sd_expr *bh(sd_tb *b, const rnn *r, sd_expr *row, sd_expr *u) { return at2(b, row, r->H, u); }
static sd_expr *get(sd_tb *b, sd_buf *buf, sd_expr *at) { return sd_x_load(b->k, buf, at, NULL); }
static void put(sd_tb *b, sd_nest *nest, sd_buf *buf, sd_expr *at, sd_expr *x) {
  if (at && x) sd_nest_store(b->k, nest, buf, at, x, NULL);
}
// Gate `g` of unit u as column of the gate matrices.
static sd_expr *gate(sd_tb *b, const rnn *r, int g, sd_expr *u) {
  return x_add(b, u, x_dim(b, sd_dim_mul(b->dims, r->H, d_const(b, g))));
}
static sd_expr *bias_at(sd_tb *b, const rnn *r, sd_expr *col, bool recurrent) {
  if (recurrent) col = x_add(b, col, x_dim(b, r->GH));
  return sd_tb_load(b, r->n, BIAS, (sd_expr *[]){r->d, col});
}

// xw[t, b, g] = X[t, b, :] W[g, :] + biases, for all steps.
static void input_nest(sd_tb *b, const rnn *r) {
  sd_nest *nest = sd_kernel_nest(b->k, NULL);
  sd_expr *t = nest_axis(b, nest, "t", r->S), *row = nest_axis(b, nest, "b", r->B),
          *g = nest_axis(b, nest, "g", r->GH);
  x_axes red = {.n = 0};
  sd_expr *i = x_raxis(b, &red, "i", r->I);
  sd_expr *ix[3] = {r->batch_first ? row : t, r->batch_first ? t : row, i};
  sd_expr *w = sd_tb_load(b, r->n, W, (sd_expr *[]){r->d, g, i}), *in = sd_tb_load(b, r->n, X, ix);
  sd_expr *x = x_reduce(b, SD_R_SUM, &red, x_mul(b, in, w));
  if (sd_tb_has(r->n, BIAS)) {
    sd_expr *rec = bias_at(b, r, g, true);
    if (r->reset_after && rec) { // the candidate's recurrent bias is scaled by the reset gate
      sd_expr *before = x_bin(b, SD_X_LT, g, x_dim(b, sd_dim_mul(b->dims, r->H, d_const(b, 2))));
      rec = x_sel(b, before, rec, x_num(b, rec, 0));
    }
    x = x_add(b, x, x_add(b, bias_at(b, r, g, false), rec));
  }
  put(b, nest, r->xw, at2(b, at2(b, t, r->B, row), r->GH, g), x);
}

static void state_index(const rnn *r, sd_expr *row, sd_expr *u, sd_expr **out) {
  out[r->batch_first ? 1 : 0] = r->d;
  out[r->batch_first ? 0 : 1] = row;
  out[2] = u;
}

static void initial_nest(sd_tb *b, const rnn *r, sd_buf *buf, uint32_t operand) {
  sd_expr *ix[3];
  if (!buf) return;
  sd_nest *nest = sd_kernel_nest(b->k, NULL);
  sd_expr *row = nest_axis(b, nest, "b", r->B), *u = nest_axis(b, nest, "u", r->H);
  state_index(r, row, u, ix);
  operand = r->at[operand];
  put(b, nest, buf, bh(b, r, row, u),
      sd_tb_has(r->n, operand) ? sd_tb_load(b, r->n, operand, ix) : sd_x_f(b->k, r->type, 0));
}

// A row of length 0 has no last step: its final states are 0, as ONNX Runtime gives them, not the initial ones.
static void final_nest(sd_tb *b, const rnn *r, sd_buf *buf, uint32_t out) {
  sd_expr *ix[3];
  if (!buf || out >= r->n->n_out || !r->n->out[out]) return;
  sd_nest *nest = sd_kernel_nest(b->k, NULL);
  sd_expr *row = nest_axis(b, nest, "b", r->B), *u = nest_axis(b, nest, "u", r->H);
  state_index(r, row, u, ix);
  sd_expr *state = get(b, buf, bh(b, r, row, u));
  if (sd_tb_has(r->n, r->at[LENS]) && state) {
    sd_expr *len = x_cast(b, SD_I64, sd_tb_load(b, r->n, r->at[LENS], &row));
    state = x_sel(b, x_bin(b, SD_X_LT, x_int(b, 0), len), state, x_num(b, state, 0));
  }
  put(b, nest, sd_tb_out(b, r->n, out), sd_tb_offset(b, r->n->out[out], ix), state);
}

// Scale and zero point of the state at hand, as DynamicQuantizeLinear has them.
static void state_scale(sd_tb *b, const rnn *r, sd_expr **scale, sd_expr **zero) {
  sd_expr *end[2] = {get(b, r->range, x_int(b, 0)), get(b, r->range, x_int(b, 1))};
  sd_expr *low = x_min(b, end[0], x_num(b, end[0], 0)), *high = x_max(b, end[1], x_num(b, end[1], 0));
  sd_expr *s = x_div(b, x_sub(b, high, low), x_num(b, low, 255));
  *scale = x_sel(b, x_bin(b, SD_X_EQ, s, x_num(b, s, 0)), x_num(b, s, 1), s);
  *zero = x_un(b, SD_X_ROUND, x_div(b, x_un(b, SD_X_NEG, low), *scale));
}

// rec[b, first*H + u] = state[b, :] R[first*H + u, :] for `count` gates.
static void recurrent_nest(sd_tb *b, const rnn *r, sd_items *into, sd_buf *state, int first, int count) {
  sd_nest *nest = sd_kernel_nest(b->k, into);
  sd_expr *row = nest_axis(b, nest, "b", r->B);
  sd_expr *g = nest_axis(b, nest, "g", sd_dim_mul(b->dims, r->H, d_const(b, count)));
  x_axes red = {.n = 0};
  sd_expr *k = x_raxis(b, &red, "k", r->H), *col = gate(b, r, first, g);
  sd_expr *w = sd_tb_load(b, r->n, R, (sd_expr *[]){r->d, col, k}), *h = get(b, state, bh(b, r, row, k));
  put(b, nest, r->rec, at2(b, row, r->GH, col), x_reduce(b, SD_R_SUM, &red, x_mul(b, h, w)));
}

// A row of the state in bytes, for the tables.
typedef struct state_row {
  const rnn *r;
  sd_expr *row;
} state_row;

static sd_expr *byte_of_state(sd_tb *b, sd_expr *place, sd_expr *behind, void *user) {
  const state_row *s = user;
  return get(b, s->r->rounded, bh(b, s->r, s->row, x_add(b, place, behind)));
}

// rec[b, g] = rounded[b, :] R[g, :] less the zero points, times the scales, for all gates.
static void byte_nest(sd_tb *b, const rnn *r, sd_items *into) {
  sd_nest *nest = sd_kernel_nest(b->k, into);
  sd_expr *row = nest_axis(b, nest, "b", r->B), *g, *sum, *scale, *zero;
  if (sd_tb_has(r->n, r->at[R_START])) {
    sd_dim wide = d_const(b, r->blocks.wide), blocks = d_const(b, r->blocks.n / r->blocks.wide / r->dirs);
    sd_expr *block = nest_axis(b, nest, "block", blocks), *lane = nest_axis(b, nest, "n", wide);
    state_row s = {r, row};
    g = at2(b, block, wide, lane);
    sum = sd_sparse_blocks_sum(b, r->n, &r->blocks, at2(b, r->d, blocks, block), lane, byte_of_state, &s);
  } else {
    x_axes red = {.n = 0};
    g = nest_axis(b, nest, "g", r->GH);
    sd_expr *k = x_raxis(b, &red, "k", r->H), *w = sd_tb_load(b, r->n, r->at[R], (sd_expr *[]){r->d, g, k});
    sum = x_reduce(b, SD_R_SUM, &red, x_mul(b, x_cast(b, SD_I32, get(b, r->rounded, bh(b, r, row, k))), x_cast(b, SD_I32, w)));
  }
  sd_expr *at[2] = {r->d, g};
  state_scale(b, r, &scale, &zero);
  sum = x_sub(b, sum, x_mul(b, x_cast(b, SD_I32, zero), sd_tb_load(b, r->n, r->at[R_SUMS], at)));
  put(b, nest, r->rec, at2(b, row, r->GH, g), x_mul(b, x_cast(b, SD_F32, sum), x_mul(b, scale, sd_tb_load(b, r->n, r->at[R_SCALE], at))));
}

// One point of a gates nest: indices, time position, activity.
typedef struct point {
  sd_nest *nest;
  sd_expr *row, *u, *time, *active;
} point;

static point point_make(sd_tb *b, const rnn *r, sd_items *into, sd_expr *t) {
  point p = {.nest = sd_kernel_nest(b->k, into)};
  p.row = nest_axis(b, p.nest, "b", r->B);
  p.u = nest_axis(b, p.nest, "u", r->H);
  sd_expr *len = x_dim(b, r->S), *back;
  if (sd_tb_has(r->n, r->at[LENS])) {
    len = x_cast(b, SD_I64, sd_tb_load(b, r->n, r->at[LENS], &p.row));
    len = x_min(b, len, x_dim(b, r->S)); // contents of a tensor: never past the end
    p.active = x_bin(b, SD_X_LT, t, len);
  }
  back = x_sub(b, x_sub(b, len, x_int(b, 1)), t);
  if (p.active) back = x_sel(b, p.active, back, t);
  p.time = r->reverse ? back : t;
  if (r->dirs == 2) p.time = x_sel(b, x_bin(b, SD_X_EQ, r->d, x_int(b, 0)), t, back);
  return p;
}

static sd_expr *xw_at(sd_tb *b, const rnn *r, const point *p, int g) {
  sd_expr *u = gate(b, r, g, p->u);
  if (r->bytes) {
    sd_expr *col = at2(b, r->d, r->GH, u), *ix[3] = {r->batch_first ? p->row : p->time, r->batch_first ? p->time : p->row, col};
    return p->time ? sd_tb_load(b, r->n, X, ix) : NULL;
  }
  return p->time ? get(b, r->xw, at2(b, at2(b, p->time, r->B, p->row), r->GH, u)) : NULL;
}
static sd_expr *rec_at(sd_tb *b, const rnn *r, const point *p, int g) {
  return get(b, r->rec, at2(b, p->row, r->GH, gate(b, r, g, p->u)));
}
static sd_expr *pre_at(sd_tb *b, const rnn *r, const point *p, int g) {
  return x_add(b, xw_at(b, r, p, g), rec_at(b, r, p, g));
}

// Stores the new hidden state to Y and to the state; inactive rows keep the state and give 0.
static void store_hidden(sd_tb *b, const rnn *r, const point *p, sd_expr *h) {
  sd_expr *at = bh(b, r, p->row, p->u), *y = h;
  if (p->active && h) y = x_sel(b, p->active, h, x_num(b, h, 0));
  if (r->n->out[0] && y) {
    sd_expr *ix[4] = {p->time, r->d, p->row, p->u}, *first[4] = {p->row, p->time, r->d, p->u};
    put(b, p->nest, sd_tb_out(b, r->n, 0), sd_tb_offset(b, r->n->out[0], r->batch_first ? first : ix), y);
  }
  put(b, p->nest, r->h, at, p->active && h ? x_sel(b, p->active, h, get(b, r->h, at)) : h);
}

static sd_expr *peephole(sd_tb *b, const rnn *r, const point *p, int which, sd_expr *x, sd_expr *c) {
  if (!sd_tb_has(r->n, r->at[P])) return x;
  return x_add(b, x, x_mul(b, c, sd_tb_load(b, r->n, r->at[P], (sd_expr *[]){r->d, gate(b, r, which, p->u)})));
}

// rounded = the state as DynamicQuantizeLinear and DequantizeLinear would give it back, of bytes as DynamicQuantizeLinear does.
static void round_state(sd_tb *b, const rnn *r, sd_items *body) {
  static const sd_rop ends[2] = {SD_R_MIN, SD_R_MAX};
  for (int i = 0; i < 2; i++) {
    sd_nest *nest = sd_kernel_nest(b->k, body);
    sd_expr *at = nest_axis(b, nest, "one", d_const(b, 1));
    x_axes red = {.n = 0};
    sd_expr *row = x_raxis(b, &red, "b", r->B), *u = x_raxis(b, &red, "u", r->H);
    put(b, nest, r->range, x_add(b, at, x_int(b, i)), x_reduce(b, ends[i], &red, get(b, r->h, bh(b, r, row, u))));
  }
  sd_nest *nest = sd_kernel_nest(b->k, body);
  sd_expr *row = nest_axis(b, nest, "b", r->B), *u = nest_axis(b, nest, "u", r->H), *at = bh(b, r, row, u);
  sd_expr *scale, *zero;
  state_scale(b, r, &scale, &zero);
  sd_expr *q = x_add(b, x_un(b, SD_X_ROUND, x_div(b, get(b, r->h, at), scale)), zero);
  q = x_min(b, x_max(b, q, x_num(b, q, 0)), x_num(b, q, 255));
  put(b, nest, r->rounded, at, r->bytes ? x_cast(b, SD_U8, x_cast(b, SD_I32, q)) : x_mul(b, x_sub(b, q, zero), scale));
}

static void lstm_step(sd_tb *b, const rnn *r, sd_items *body, sd_expr *t) {
  if (r->rounded) round_state(b, r, body);
  if (r->bytes) byte_nest(b, r, body);
  else recurrent_nest(b, r, body, r->rounded ? r->rounded : r->h, 0, 4);
  point p = point_make(b, r, body, t);
  sd_expr *at = bh(b, r, p.row, p.u), *c = get(b, r->c, at);
  sd_expr *i = act_apply(b, r, 0, peephole(b, r, &p, 0, pre_at(b, r, &p, 0), c));
  sd_expr *f = sd_node_int(r->n, "input_forget", 0)
                   ? x_sub(b, x_num(b, i, 1), i)
                   : act_apply(b, r, 0, peephole(b, r, &p, 2, pre_at(b, r, &p, 2), c));
  sd_expr *next = x_add(b, x_mul(b, f, c), x_mul(b, i, act_apply(b, r, 1, pre_at(b, r, &p, 3))));
  sd_expr *o = act_apply(b, r, 0, peephole(b, r, &p, 1, pre_at(b, r, &p, 1), next));
  // the cell state is not clipped, as ONNX Runtime does
  store_hidden(b, r, &p, x_mul(b, o, act_unclipped(b, r, 2, next)));
  put(b, p.nest, r->c, at, p.active && next ? x_sel(b, p.active, next, c) : next);
}

// h' = (1 - z) * candidate + z * h
static void gru_blend(sd_tb *b, const rnn *r, const point *p, sd_expr *z, sd_expr *candidate) {
  sd_expr *h = get(b, r->h, bh(b, r, p->row, p->u));
  if (!z || !candidate) return;
  store_hidden(b, r, p, x_add(b, x_mul(b, x_sub(b, x_num(b, z, 1), z), candidate), x_mul(b, z, h)));
}

static void gru_step(sd_tb *b, const rnn *r, sd_items *body, sd_expr *t) {
  if (r->reset_after) {
    recurrent_nest(b, r, body, r->h, 0, 3);
    point p = point_make(b, r, body, t);
    sd_expr *z = act_apply(b, r, 0, pre_at(b, r, &p, 0)), *reset = act_apply(b, r, 0, pre_at(b, r, &p, 1));
    sd_expr *rec = rec_at(b, r, &p, 2);
    if (sd_tb_has(r->n, BIAS)) rec = x_add(b, rec, bias_at(b, r, gate(b, r, 2, p.u), true));
    gru_blend(b, r, &p, z, act_apply(b, r, 1, x_add(b, xw_at(b, r, &p, 2), x_mul(b, reset, rec))));
    return;
  }
  recurrent_nest(b, r, body, r->h, 0, 2);
  point p = point_make(b, r, body, t);
  sd_expr *at = bh(b, r, p.row, p.u);
  put(b, p.nest, r->z, at, act_apply(b, r, 0, pre_at(b, r, &p, 0)));
  put(b, p.nest, r->rh, at, x_mul(b, act_apply(b, r, 0, pre_at(b, r, &p, 1)), get(b, r->h, at)));
  recurrent_nest(b, r, body, r->rh, 2, 1);
  p = point_make(b, r, body, t);
  gru_blend(b, r, &p, get(b, r->z, bh(b, r, p.row, p.u)), act_apply(b, r, 1, pre_at(b, r, &p, 2)));
}

static void rnn_step(sd_tb *b, const rnn *r, sd_items *body, sd_expr *t) {
  recurrent_nest(b, r, body, r->h, 0, 1);
  point p = point_make(b, r, body, t);
  store_hidden(b, r, &p, act_apply(b, r, 0, pre_at(b, r, &p, 0)));
}

static void rnn_tile(sd_tb *b, rnn *r) {
  sd_axis *d = sd_kernel_axis(b->k, "dir", d_const(b, r->dirs));
  sd_vec_push(b->arena, &b->k->grid, d);
  r->d = x_axis(b, d);
  r->type = r->bytes ? SD_F32 : sd_compute_type(r->n->in[X]->dtype);
  sd_dim state = sd_dim_mul(b->dims, r->B, r->H), gates = sd_dim_mul(b->dims, r->B, r->GH);
  if (!r->bytes) r->xw = sd_tb_local(b, r->type, sd_dim_mul(b->dims, r->S, gates));
  r->rec = sd_tb_local(b, r->type, gates);
  r->h = sd_tb_local(b, r->type, state);
  if (r->kind == LSTM) r->c = sd_tb_local(b, r->type, state);
  if (r->bytes || sd_node_int(r->n, "quantized_state", 0)) {
    r->rounded = sd_tb_local(b, r->bytes ? SD_U8 : r->type, state);
    r->range = sd_tb_local(b, r->type, d_const(b, 2));
  }
  if (r->kind == GRU && !r->reset_after) {
    r->z = sd_tb_local(b, r->type, state);
    r->rh = sd_tb_local(b, r->type, state);
  }
}

sard_status *sd_nests_rnn(sd_tb *b, const sd_node *n) {
  static void (*const step[])(sd_tb *, const rnn *, sd_items *, sd_expr *) = {rnn_step, gru_step, lstm_step};
  rnn r;
  SD_TRY(rnn_read(n, &r));
  rnn_tile(b, &r);
  if (b->error) return NULL;
  if (!r.bytes) input_nest(b, &r);
  initial_nest(b, &r, r.h, H0);
  initial_nest(b, &r, r.c, C0);
  sd_axis *time = sd_kernel_axis(b->k, "t", r.S);
  sd_items *body = sd_kernel_loop(b->k, NULL, time);
  step[r.kind](b, &r, body, x_axis(b, time));
  final_nest(b, &r, r.h, 1);
  final_nest(b, &r, r.c, 2);
  return NULL; // errors of the expressions are in b->error
}
