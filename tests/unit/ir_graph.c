// Graph editing: use lists, replacing, removing, bodies, inference errors, and what the verifier catches.
#include "ir/op.h"
#include "tests/unit/check.h"

static sd_module *m;

static sd_value *input(const char *name, sd_dtype t, const char *dims) { // dims: "N,3"
  sd_dim d[SD_MAX_RANK];
  int rank = 0;
  while (*dims) {
    d[rank++] = sd_dim_parse(m->dims, &dims);
    if (*dims == ',') dims++;
  }
  return sd_graph_input(m->main, name, t, rank, d);
}

static sd_node *build(const char *op, sd_value *a, sd_value *b) {
  sd_value *in[2] = {a, b};
  sd_node *n = NULL;
  CHECK_OK(sd_build(m->main, NULL, op, in, b ? 2 : 1, &n));
  return n;
}

static void test_edit(void) {
  sd_value *x = input("x", SD_F32, "N,4"), *y = input("y", SD_F32, "4");
  sd_node *add = build("Add", x, y), *relu = build("Relu", add->out[0], NULL), *mul = build("Mul", relu->out[0], relu->out[0]);
  sd_graph_output(m->main, mul->out[0]);
  CHECK(add->out[0]->rank == 2 && add->out[0]->dims[0] == x->dims[0]);
  CHECK(relu->out[0]->uses.len == 2 && sd_value_is_output(mul->out[0]) && !sd_value_is_output(x));
  CHECK_OK(sd_module_verify(m));
  sd_value_replace(relu->out[0], add->out[0]);
  CHECK(relu->out[0]->uses.len == 0 && add->out[0]->uses.len == 3);
  sd_node_remove(relu);
  CHECK(add->next == mul && mul->prev == add && add->out[0]->uses.len == 2);
  CHECK_OK(sd_module_verify(m));
  sd_value_replace(mul->out[0], add->out[0]);
  CHECK(m->main->outputs.at[0] == add->out[0]);
  sd_node_remove(mul);
  CHECK(m->main->last == add);
  CHECK_OK(sd_module_verify(m));
  sd_node *neg = build("Neg", x, NULL);
  sd_node_move_before(neg, add);
  CHECK(m->main->first == neg && neg->next == add && m->main->last == add);
  sd_node_set_input(add, 0, neg->out[0]);
  CHECK(neg->out[0]->uses.len == 1 && neg->out[0]->uses.at[0].node == add);
  CHECK_OK(sd_module_verify(m));
  sd_node_move_to(neg, m->main, NULL);
  CHECK_ERR(sd_module_verify(m), INTERNAL, "before its definition");
  sd_node_move_before(neg, add);
}

static void test_attrs(void) {
  sd_node *n = build("LeakyRelu", m->main->inputs.at[0], NULL);
  CHECK(sd_node_float(n, "alpha", 9) == 0.01f && sd_node_int(n, "nope", 7) == 7 && sd_node_attr(n, "nope") == NULL);
  CHECK_TEXT(sd_node_str(n, "alpha", "absent"), "absent");
  sd_node_remove(n);
}

static void test_consts(void) {
  int64_t v[3] = {2, -1, 5}, big[2] = {INT64_MAX, 4};
  sd_dim e[3];
  uint32_t n;
  sd_value *c = sd_value_const_i64(m->main, v, 3), *s = sd_value_const_i64(m->main, v, -1);
  CHECK(c->rank == 1 && s->rank == 0 && sd_value_elems(c, e, 3, &n) && n == 3 && sd_dim_is(m->dims, e[1], -1));
  CHECK(!sd_value_elems(c, e, 2, &n));
  CHECK(sd_const_hash(c->data) == sd_const_hash(sd_value_const_i64(m->main, v, 3)->data));
  CHECK(sd_const_hash(c->data) != sd_const_hash(s->data));
  CHECK(sd_value_const(m->main, "", SD_F32, 2, big, NULL) == NULL);
  CHECK(sd_value_const(m->main, "", SD_F32, 17, big, NULL) == NULL);
  CHECK(sd_value_const_f32(m->main, 2.5f)->data->bytes == 4);
}

static void test_errors(void) {
  sd_value *x = m->main->inputs.at[0], *k = input("k", SD_I64, "5"), *in[3] = {x, k, x};
  CHECK_ERR(sd_build(m->main, NULL, "Add", in, 2, NULL), MODEL, "i64");
  CHECK_ERR(sd_build(m->main, NULL, "Add", in, 1, NULL), MODEL, "missing");
  CHECK_ERR(sd_build(m->main, NULL, "Add", in, 3, NULL), MODEL, "at most 2");
  CHECK_ERR(sd_build(m->main, NULL, "Adds", in, 2, NULL), UNSUPPORTED, "nearest: 'Add'");
  CHECK_ERR(sd_build(m->main, NULL, "Exp", in + 1, 1, NULL), MODEL, "(Exp) of (i64[5])");
  sd_value *bad[2] = {x, input("z", SD_F32, "7,5")};
  CHECK_ERR(sd_build(m->main, NULL, "Add", bad, 2, NULL), MODEL, "Add");
  CHECK_OK(sd_module_verify(m));
}

static void test_verifier(void) {
  sd_node *add = m->main->last;
  sd_value *y = add->out[0];
  sd_dim keep = y->dims[0];
  y->dims[0] = sd_dim_const(m->dims, 3);
  sd_value_set_type(m->main->inputs.at[0], SD_F32, 2, m->main->inputs.at[0]->dims);
  y->dims[1] = sd_dim_const(m->dims, 9);
  CHECK_ERR(sd_module_verify(m), MODEL, "but the operator gives");
  y->dims[0] = keep;
  y->dims[1] = sd_dim_const(m->dims, 4);
  y->storage = y;
  CHECK_ERR(sd_module_verify(m), INTERNAL, "back to itself");
  y->storage = NULL;
  add->in[0]->uses.len--;
  CHECK_ERR(sd_module_verify(m), INTERNAL, "uses");
  add->in[0]->uses.len++;
  add->out[0]->def = NULL;
  CHECK_ERR(sd_module_verify(m), INTERNAL, "another definition");
  add->out[0]->def = add;
  CHECK_OK(sd_module_verify(m));
}

static void test_bodies(void) {
  sd_value *x = m->main->inputs.at[0], *cond = input("cond", SD_BOOL, "");
  sd_node *n = sd_node_new(m->main, NULL, sd_op_find("If"), &cond, 1, 1);
  const char *names[2] = {"then_branch", "else_branch"};
  for (int i = 0; i < 2; i++) {
    sd_graph *g = sd_node_add_body(n, names[i]);
    sd_node *inner;
    CHECK_OK(sd_build(g, NULL, i ? "Neg" : "Abs", &x, 1, &inner));
    sd_graph_output(g, inner->out[0]);
    CHECK(sd_node_attr(n, names[i]) && sd_node_attr(n, names[i])->graph == g);
  }
  sd_value_copy_type(n->out[0], x);
  CHECK_OK(sd_module_verify(m));
  CHECK(m->main->children.len == 2);
  uint32_t uses = x->uses.len;
  sd_value *inner_out = n->bodies[0]->outputs.at[0];
  sd_graph_output(m->main, inner_out); // a value of a body is not visible outside
  CHECK_ERR(sd_module_verify(m), INTERNAL, "outside of the body");
  m->main->outputs.len--;
  sd_value_replace(inner_out, x); // an outer value as output of a body
  CHECK(sd_value_is_output(x) && n->bodies[0]->outputs.at[0] == x);
  CHECK_OK(sd_module_verify(m));
  sd_node_remove(n);
  CHECK(x->uses.len == uses - 2 && m->main->children.len == 0 && !sd_value_is_output(x));
  CHECK_OK(sd_module_verify(m));
}

int main(void) {
  jmp_buf oom;
  CHECK_OK(sd_module_new("unit", &m));
  sd_arena_set_oom(m->arena, &oom);
  if (setjmp(oom)) return 1;
  test_edit();
  test_attrs();
  test_consts();
  test_errors();
  test_verifier();
  if (sd_op_find("If")) test_bodies();
  sd_module_free(m);
  return check_end();
}
