// Lowering and the graph interpreter: plain nodes, fused groups, symbolic dims, constant folding, errors.
#include <math.h>

#include "ir/eval.h"
#include "tests/unit/test.h"

static sd_module *m;
static sd_graph *g;

static sd_dim num(int64_t v) { return sd_dim_const(m->dims, v); }
static void fresh(void) {
  CHECK_OK(sd_module_new("test", &m));
  g = m->main;
}
static sd_value *input(const char *name, int rank, const sd_dim *dims) { return sd_graph_input(g, name, SD_F32, rank,
    dims); }

static sd_value *build(sd_graph *in, const char *op, sd_value *a, sd_value *b) {
  sd_value *ins[2] = {a, b};
  sd_node *n = NULL;
  sard_status *st = sd_build(in, NULL, op, ins, b ? 2 : 1, &n);
  if (st) printf("%s\n", sard_status_text(st, SARD_TEXT_MESSAGE));
  CHECK(!take_code(st));
  return n ? n->out[0] : NULL;
}

// Runs the module on f32 inputs of the given dims; returns the first output.
static sd_evalue run(uint32_t n_in, float *const *data, const int64_t (*dims)[3], const int *rank) {
  sd_evalue in[4] = {0}, out = {0};
  for (uint32_t i = 0; i < n_in; i++) {
    in[i] = (sd_evalue){.dtype = SD_F32, .rank = rank[i], .data = data[i], .bytes = 4};
    for (int d = 0; d < rank[i]; d++) in[i].dims[d] = dims[i][d], in[i].bytes *= (uint64_t)dims[i][d];
  }
  CHECK_OK(sd_eval_module(m, in, n_in, &out, 1, NULL, NULL));
  return out;
}

static void matmul_relu(void) {
  fresh();
  sd_dim N = sd_dim_sym(m->dims, "N");
  sd_value *x = input("x", 2, (sd_dim[]){N, num(3)}), *w = input("w", 2, (sd_dim[]){num(3), num(2)});
  sd_graph_output(g, build(g, "Relu", build(g, "MatMul", x, w), NULL));
  float a[6] = {1, 2, 3, -4, 5, -6}, b[6] = {1, -1, 2, 0.5f, -3, 1};
  sd_evalue y = run(2, (float *[]){a, b}, (int64_t[][3]){{2, 3}, {3, 2}}, (int[]){2, 2});
  const float *p = y.data;
  CHECK(p && y.rank == 2 && y.dims[0] == 2 && y.dims[1] == 2);
  CHECK(p && p[0] == 0 && p[1] == 3 && p[2] == 24 && p[3] == 0.5f);
  sd_eval_free(&y);
  sd_evalue bad[2] = {{.dtype = SD_F32, .rank = 2, .dims = {2, 4}, .data = a, .bytes = 24}, {.dtype = SD_F32,
      .rank = 2, .dims = {3, 2}, .data = b, .bytes = 24}};
  CHECK_ERR(sd_eval_module(m, bad, 2, &y, 1, NULL, NULL), USAGE, "input 'x'");
  CHECK_ERR(sd_eval_module(m, bad, 1, &y, 1, NULL, NULL), USAGE, "1 inputs given");
  sd_module_free(m);
}

static void softmax(void) {
  fresh();
  sd_value *x = input("x", 2, (sd_dim[]){num(2), sd_dim_sym(m->dims, "S")});
  sd_graph_output(g, build(g, "Softmax", x, NULL));
  float a[6] = {1, 2, 3, 1000, 1000, -INFINITY};
  sd_evalue y = run(1, (float *[]){a}, (int64_t[][3]){{2, 3}}, (int[]){2});
  const float *p = y.data;
  CHECK(p && fabsf(p[0] - 0.09003057f) < 1e-7f && fabsf(p[2] - 0.66524096f) < 1e-7f);
  CHECK(p && p[3] == 0.5f && p[5] == 0);
  sd_eval_free(&y);
  sd_module_free(m);
}

// Reshape, Transpose, Reshape back in one fused group: one copy with affine offsets, nothing divided.
static sd_value *attention_heads(sd_graph *in, sd_value *x, sd_dim B, sd_dim S) {
  (void)B, (void)S;
  int64_t split[4] = {0, 0, 12, 64};
  sd_value *y = build(in, "Reshape", x, sd_value_const_i64(in, split, 4));
  sd_value *ins[1] = {y};
  const sd_op *op = sd_op_find("Transpose");
  CHECK(op != NULL);
  if (!op || !y) return NULL;
  sd_node *t = sd_node_new(in, NULL, op, ins, 1, 1);
  sd_node_set_ints(t, "perm", (int64_t[]){0, 2, 1, 3}, 4);
  CHECK_OK(sd_node_infer(t));
  return build(in, "Exp", t->out[0], NULL);
}

static uint32_t count_op(const sd_kernel *k, sd_xop op) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < k->table_cap; i++) n += k->table[i] && k->table[i]->op == op;
  return n;
}

static void fused_heads(void) {
  fresh();
  sd_dim B = sd_dim_sym(m->dims, "B"), S = sd_dim_sym(m->dims, "S"), dims[3] = {B, S, num(768)};
  sd_value *x = input("x", 3, dims);
  const sd_op *op = sd_op_find("sard.Fused");
  CHECK(op != NULL);
  if (!op) return;
  sd_node *f = sd_node_new(g, NULL, op, &x, 1, 1);
  sd_graph *body = f->n_body ? f->bodies[0] : sd_node_add_body(f, "body");
  sd_value *inner = sd_graph_input(body, "x", SD_F32, 3, dims);
  sd_graph_output(body, attention_heads(body, inner, B, S));
  CHECK_OK(sd_node_infer(f));
  sd_graph_output(g, f->out[0]);
  sd_arena *a = sd_arena_new();
  sd_kernel *k = NULL;
  CHECK_OK(sd_lower_node(a, m, f, &k));
  if (k) {
    CHECK(k->bufs.len == 2 && k->bufs.at[0]->value == x && k->bufs.at[1]->value == f->out[0]);
    CHECK(count_op(k, SD_X_LOAD) == 1);
    const sd_nest *n = k->items.at[0].nest;
    sd_dim c;
    const sd_expr *load = n->stores.at[0].value->a[0];
    CHECK(n->n_axes == 4 && load->op == SD_X_LOAD && sd_x_coef(k, load->a[0], n->axes[1], &c) && sd_dim_is(m->dims, c,
        64));
    CHECK(load->a[0]->op == SD_X_AFFINE && sd_x_coef(k, load->a[0], n->axes[2], &c) && sd_dim_is(m->dims, c, 768));
  }
  sd_arena_free(a);
  static float data[2 * 3 * 768];
  for (int i = 0; i < 2 * 3 * 768; i++) data[i] = (float)(i % 97) * 0.01f;
  sd_evalue y = run(1, (float *[]){data}, (int64_t[][3]){{2, 3, 768}}, (int[]){3});
  const float *p = y.data;
  int wrong = 0;
  for (int b = 0; p && b < 2; b++) {
    for (int h = 0; h < 12; h++) {
      for (int s = 0; s < 3; s++) {
        for (int d = 0; d < 64; d++) wrong += p[((b * 12 + h) * 3 + s) * 64 + d] != expf(data[(b * 3 + s) * 768 + h * 64 + d]);
      }
    }
  }
  CHECK(p && wrong == 0);
  sd_eval_free(&y);
  sd_module_free(m);
}

// Whether a symbolic dim is 1 is known at run time only.
static void broadcast(void) {
  fresh();
  sd_dim N = sd_dim_sym(m->dims, "N"), M = sd_dim_sym(m->dims, "M");
  sd_value *x = input("x", 2, (sd_dim[]){N, num(2)}), *y = input("y", 2, (sd_dim[]){M, num(2)});
  sd_graph_output(g, build(g, "Add", x, y));
  float a[4] = {1, 2, 3, 4}, b[4] = {10, 20, 30, 40};
  for (int shape = 0; shape < 3; shape++) {
    int64_t n = shape == 1 ? 1 : 2, k = shape == 2 ? 1 : 2;
    sd_evalue z = run(2, (float *[]){a, b}, (int64_t[][3]){{n, 2}, {k, 2}}, (int[]){2, 2});
    const float *p = z.data;
    CHECK(p && z.dims[0] == 2 && p[0] == 11 && p[1] == 22);
    CHECK(p && p[3] == a[n == 1 ? 1 : 3] + b[k == 1 ? 1 : 3]);
    sd_eval_free(&z);
  }
  sd_module_free(m);
}

static void folding(void) {
  fresh();
  sd_value *a = sd_value_const_f32(g, 2.0f);
  static const float data[6] = {1, 2, 3, 4, 5, 6};
  static const int64_t dims[2] = {2, 3};
  sd_value *c = sd_value_const(g, "c", SD_F32, 2, dims, data);
  sd_value *y = build(g, "Mul", c, a);
  sd_arena *scratch = sd_arena_new();
  const sd_const *out = NULL;
  CHECK_OK(sd_eval_node_consts(y->def, scratch, &out));
  CHECK(out && out->count == 6 && ((const float *)out->data)[5] == 12);
  sd_value *t = build(g, "Transpose", c, NULL);
  CHECK_OK(sd_eval_node_consts(t->def, scratch, &out));
  CHECK(out && out->dims[0] == 3 && ((const float *)out->data)[1] == 4);
  int64_t wanted[2] = {1, 7};
  sd_value *bad = build(g, "Gather", c, sd_value_const_i64(g, wanted, 2));
  if (bad) CHECK_ERR(sd_eval_node_consts(bad->def, scratch, &out), MODEL, "");
  sd_value *x = input("x", 1, (sd_dim[]){num(3)});
  sd_value *z = build(g, "Exp", x, NULL);
  CHECK_ERR(sd_eval_node_consts(z->def, scratch, &out), INTERNAL, "not constant");
  sd_arena_free(scratch);
  sd_module_free(m);
}

int main(void) {
  RUN(matmul_relu);
  RUN(softmax);
  RUN(fused_heads);
  RUN(broadcast);
  RUN(folding);
  return check_end();
}
