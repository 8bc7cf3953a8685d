// Random nodes of every row: inference must not crash or report bugs of its own, and what it accepts must survive
// verification and a round trip through text. Argument: number of nodes, seed.
#include "ir/op.h"
#include "runtime/base/alloc.h"
#include "tests/unit/check.h"

static uint64_t seed = 1;
static uint32_t rnd(uint32_t n) {
  seed = seed * 6364136223846793005ull + 1442695040888963407ull;
  return (uint32_t)(seed >> 33) % n;
}

static int64_t wild(int64_t small) { return rnd(12) ? (int64_t)rnd(9) - small : rnd(2) ? INT64_MAX : INT64_MIN; }

static sd_dtype random_type(void) {
  static const sd_dtype types[] = {SD_F32, SD_F32, SD_F32, SD_I64, SD_I64, SD_I32, SD_BOOL, SD_U8, SD_F16, SD_STRING};
  return types[rnd(10)];
}

static sd_dtype operand_type(char cls, sd_dtype t) {
  switch (cls) {
  case 'L': return SD_I64;
  case 'B': return SD_BOOL;
  case 'S': return SD_STRING;
  case 'I': return rnd(2) ? SD_I32 : SD_I64;
  default: return rnd(8) ? t : random_type();
  }
}

static sd_value *random_const(sd_module *m, sd_dtype t) {
  int64_t dims[4];
  int rank = rnd(3) ? (int)rnd(2) : (int)rnd(4);
  uint64_t count = 1;
  for (int i = 0; i < rank; i++) count *= (uint64_t)(dims[i] = rnd(6));
  char *data = sd_arena_alloc(m->arena, count * 16 + 16);
  for (uint64_t i = 0; i < count; i++) {
    if (sd_dtype_is_float(t)) sd_dtype_set_f64(t, data, i, (double)rnd(9) - 4);
    else sd_dtype_set_i64(t, data, i, wild(4));
  }
  return sd_value_const(m->main, "", t, rank, dims, data);
}

static sd_value *random_value(sd_module *m, sd_dtype t) {
  static const char *const names[] = {"N", "M", "K"};
  sd_dim dims[6];
  int rank = (int)rnd(6);
  if (t != SD_STRING && rnd(2)) return random_const(m, t);
  for (int i = 0; i < rank; i++) {
    sd_dim c = sd_dim_const(m->dims, rnd(6)), s = sd_dim_sym(m->dims, names[rnd(3)]);
    dims[i] = rnd(3) ? c : rnd(4) ? s : sd_dim_mul(m->dims, s, c);
  }
  return sd_graph_input(m->main, "", t, rnd(20) ? rank : SD_RANK_UNKNOWN, dims);
}

static void random_attrs(sd_module *m, sd_node *n) {
  static const char *const words[] = {"", "SAME_UPPER", "SAME_LOWER", "VALID", "linear", "cubic", "bi,bj->bij",
                                      "...ij,jk->ik", "ij->ji", "reflect", "bidirectional", "reverse"};
  for (uint32_t i = 0; i < n->n_attr; i++) {
    sd_attr a = {.kind = n->op->attrs[i].def.kind};
    if (rnd(2)) continue;
    if (a.kind == SD_ATTR_INT) a.i = wild(3);
    else if (a.kind == SD_ATTR_FLOAT) a.f = (float)rnd(9) - 4;
    else if (a.kind == SD_ATTR_STRING) a.s = words[rnd(12)];
    else if (a.kind == SD_ATTR_INTS) {
      int64_t *p = SD_NEW_ARRAY(m->arena, int64_t, 6);
      for (int k = 0; k < 6; k++) p[k] = wild(2);
      a.n = rnd(6);
      a.ints = p;
    } else if (a.kind == SD_ATTR_FLOATS) {
      a.n = rnd(4);
      a.floats = SD_NEW_ARRAY(m->arena, float, 4);
    } else continue;
    n->attrs[i] = a;
  }
}

static sd_node *random_node(sd_module *m, const sd_op *op) {
  sd_value *in[12] = {0};
  uint32_t n = op->n_in + (op->n_in && op->ins[op->n_in - 1].variadic ? rnd(3) : 0);
  sd_dtype t = random_type();
  if (n > 12) n = 12;
  if (n && rnd(4) == 0) n--;
  for (uint32_t i = 0; i < n; i++) {
    const sd_operand *o = &op->ins[i < op->n_in ? i : op->n_in - 1u];
    if (!o->optional || rnd(3)) in[i] = random_value(m, operand_type(o->cls, t));
  }
  sd_node *node = sd_node_new(m->main, NULL, op, in, n, 1 + rnd(op->n_out ? op->n_out : 1));
  random_attrs(m, node);
  return node;
}

static void round_trip(const sd_module *m) {
  sd_str once = {0}, twice = {0};
  sd_module *back = NULL;
  CHECK_OK(sd_module_print(m, false, &once));
  CHECK_OK(sd_module_parse(once.p, "printed", &back));
  if (back) {
    CHECK_OK(sd_module_print(back, false, &twice));
    CHECK_TEXT(twice.p, once.p);
  }
  sd_module_free(back);
  sd_str_free(&once);
  sd_str_free(&twice);
}

static bool try_node(sd_module *m, const sd_op *op) {
  sd_node *n = random_node(m, op);
  sard_status *st = sd_node_infer(n);
  if (st) {
    bool bug = sard_status_code(st) == SARD_E_INTERNAL;
    if (bug) printf("%s\n", sard_status_text(st, SARD_TEXT_MESSAGE));
    CHECK(!bug);
    sard_status_free(st);
    return false;
  }
  CHECK_OK(sd_module_verify(m));
  round_trip(m);
  return true;
}

static bool run_one(const sd_op *op) {
  jmp_buf oom;
  sd_module *m = NULL;
  CHECK_OK(sd_module_new("random", &m));
  if (!m) return false;
  sd_arena_set_oom(m->arena, &oom);
  if (setjmp(oom)) {
    printf("%s: out of memory\n", op->name);
    CHECK(false);
    sd_module_free(m);
    return false;
  }
  bool ok = op->kind != SD_CONTROL && try_node(m, op); // control rows need bodies
  sd_module_free(m);
  return ok;
}

int main(int argc, char **argv) {
  int count = argc > 1 ? atoi(argv[1]) : 10000, inferred = 0;
  uint32_t rows = 0;
  if (argc > 2) seed = strtoull(argv[2], NULL, 10);
  while (sd_op_at(rows)) rows++;
  for (int k = 0; k < count; k++) inferred += run_one(sd_op_at((uint32_t)k % rows));
  printf("%d of %d random nodes were accepted\n", inferred, count);
  return check_end();
}
