// The importer on hand-made bytes: wire format, tensors, external data, graphs, functions, old opsets, diagnostics.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "frontend/onnx/import.h"
#include "frontend/onnx/tensor_proto.h"
#include "ir/op.h"
#include "runtime/base/file.h"

// ---- a small protobuf writer: every message is a byte buffer ----

static void varint(sd_str *s, uint64_t v) {
  for (; v >= 0x80; v >>= 7) sd_str_putn(s, &(char){(char)(v | 0x80)}, 1);
  sd_str_putn(s, &(char){(char)v}, 1);
}
static void put_int(sd_str *s, unsigned field, int64_t v) {
  varint(s, field << 3);
  varint(s, (uint64_t)v);
}
static void put_bytes(sd_str *s, unsigned field, const void *p, size_t n) {
  varint(s, field << 3 | 2);
  varint(s, n);
  sd_str_putn(s, p, n);
}
static void put_text(sd_str *s, unsigned field, const char *t) { put_bytes(s, field, t, strlen(t)); }
static void put_msg(sd_str *s, unsigned field, sd_str m) {
  put_bytes(s, field, m.p ? m.p : "", m.len);
  sd_str_free(&m);
}
static void put_float(sd_str *s, unsigned field, float v) {
  varint(s, field << 3 | 5);
  sd_str_putn(s, (const char *)&v, 4);
}
// "a,b,,c" as repeated texts
static void put_list(sd_str *s, unsigned field, const char *list) {
  while (*list) {
    size_t n = strcspn(list, ",");
    put_bytes(s, field, list, n);
    list += n + (list[n] == ',');
  }
}

static sd_str value_info(const char *name, int type, const char *dims) {
  sd_str info = {0}, t = {0}, tensor = {0}, shape = {0};
  for (const char *p = dims; *p;) {
    sd_str dim = {0};
    char word[64];
    size_t n = strcspn(p, ",");
    snprintf(word, sizeof word, "%.*s", (int)n, p);
    char *end;
    long v = strtol(word, &end, 10);
    if (*word && !*end) put_int(&dim, 1, v);
    else if (*word) put_text(&dim, 2, word);
    put_msg(&shape, 1, dim);
    p += n + (p[n] == ',');
  }
  put_int(&tensor, 1, type);
  put_msg(&tensor, 2, shape);
  put_msg(&t, 1, tensor);
  put_text(&info, 1, name);
  put_msg(&info, 2, t);
  return info;
}
static sd_str tensor_type(const char *name, int type, int rank, const int64_t *dims) {
  sd_str t = {0};
  for (int i = 0; i < rank; i++) put_int(&t, 1, dims[i]);
  put_int(&t, 2, type);
  if (name) put_text(&t, 8, name);
  return t;
}
static sd_str raw_tensor(const char *name, int type, int64_t dim, const void *p, size_t n) {
  sd_str t = tensor_type(name, type, 1, &dim);
  put_bytes(&t, 9, p, n);
  return t;
}
static sd_str attr(const char *name, int type) {
  sd_str a = {0};
  put_text(&a, 1, name);
  put_int(&a, 20, type);
  return a;
}
static sd_str attr_int(const char *name, int64_t v) {
  sd_str a = attr(name, 2);
  put_int(&a, 3, v);
  return a;
}
static sd_str attr_float(const char *name, float v) {
  sd_str a = attr(name, 1);
  put_float(&a, 2, v);
  return a;
}
static sd_str attr_ints(const char *name, int n, const int64_t *v) {
  sd_str a = attr(name, 7);
  for (int i = 0; i < n; i++) put_int(&a, 8, v[i]);
  return a;
}
static sd_str attr_ref(const char *name, const char *ref, int type) {
  sd_str a = attr(name, type);
  put_text(&a, 21, ref);
  return a;
}
static sd_str node(const char *op, const char *in, const char *out) {
  sd_str n = {0};
  put_list(&n, 1, in);
  put_list(&n, 2, out);
  put_text(&n, 3, out);
  put_text(&n, 4, op);
  return n;
}
static sd_str node1(const char *op, const char *in, const char *out, sd_str a) {
  sd_str n = node(op, in, out);
  put_msg(&n, 5, a);
  return n;
}
static sd_str in_domain(sd_str n, const char *domain) {
  put_text(&n, 7, domain);
  return n;
}
static sd_str opset(const char *domain, int64_t v) {
  sd_str s = {0};
  put_text(&s, 1, domain);
  put_int(&s, 2, v);
  return s;
}
static sd_str model(sd_str graph, int64_t version) {
  sd_str m = {0};
  put_int(&m, 1, 8);
  put_msg(&m, 7, graph);
  put_msg(&m, 8, opset("", version));
  return m;
}
// A graph with input x: f32[N,4] and output y.
static sd_str begin(void) {
  sd_str g = {0};
  put_text(&g, 2, "g");
  put_msg(&g, 11, value_info("x", 1, "N,4"));
  put_msg(&g, 12, value_info("y", 1, ""));
  return g;
}
static sd_str one_node(sd_str n) {
  sd_str g = begin();
  put_msg(&g, 1, n);
  return g;
}

static sard_status *import(sd_str *bytes, sd_module **m) {
  sard_source src = {.size = sizeof src, .data = bytes->p, .bytes = bytes->len};
  return sd_import_onnx(&src, m);
}
// Imports and frees all.
static sard_status *try_model(sd_str bytes) {
  sd_module *m = NULL;
  sard_status *st = import(&bytes, &m);
  sd_module_free(m);
  sd_str_free(&bytes);
  return st;
}
// Names of the ops in order, "Relu Add"; the message of an error.
static char *ops_of(sd_str bytes) {
  sd_module *m = NULL;
  sd_str s = {0};
  sard_status *st = import(&bytes, &m);
  if (st) sd_str_put(&s, sard_status_text(st, SARD_TEXT_MESSAGE));
  for (sd_node *n = m ? m->main->first : NULL; n; n = n->next) sd_strf(&s, "%s%s", s.len ? " " : "", n->op->name);
  sard_status_free(st);
  sd_module_free(m);
  sd_str_free(&bytes);
  return sd_str_take(&s);
}
#define CHECK_OPS(bytes, want)                                                                                         \
  do {                                                                                                                 \
    char *ops_got = ops_of(bytes);                                                                                     \
    CHECK_TEXT(ops_got, want);                                                                                         \
    sard_free(ops_got);                                                                                                \
  } while (0)

// ---- wire format ----

static sd_str bytes_of(const char *p, size_t n) {
  sd_str s = {0};
  sd_str_putn(&s, p, n);
  return s;
}
#define BYTES(text) bytes_of(text, sizeof text - 1)

static sd_str nested(int depth, bool bodies) {
  sd_str inner = {0};
  for (int i = 0; i < depth; i++) {
    sd_str outer = {0};
    if (bodies) {
      sd_str a = attr("then_branch", 5), n = {0};
      put_msg(&a, 6, inner);
      put_text(&n, 4, "If");
      put_msg(&n, 5, a);
      put_msg(&outer, 1, n);
    } else {
      sd_str opt = {0};
      put_msg(&opt, 1, inner);
      put_msg(&outer, 4, opt);
    }
    inner = outer;
  }
  return inner;
}

static void test_wire(void) {
  CHECK_ERR(try_model(BYTES("")), MODEL, "empty");
  CHECK_ERR(try_model(BYTES("\x08")), MODEL, "broken number");
  CHECK_ERR(try_model(BYTES("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")), MODEL, "broken number");
  CHECK_ERR(try_model(BYTES("\x3a\x7f\x01")), MODEL, "truncated");
  CHECK_ERR(try_model(BYTES("\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")), MODEL, "truncated");
  CHECK_ERR(try_model(BYTES("\x3b\x3c")), MODEL, "wire type 3");
  CHECK_ERR(try_model(BYTES("\x00")), MODEL, "tag");
  CHECK_ERR(try_model(BYTES("\x38\x01")), MODEL, "wire type 0 instead of 2");
  CHECK_ERR(try_model(BYTES("\x08\x08")), MODEL, "no graph");
  CHECK_ERR(try_model(BYTES("\x3a\x00\x3a\x00")), MODEL, "twice");
  CHECK_ERR(try_model(BYTES("\x08\x08\x12\x03" "a\0b\x3a\x00")), MODEL, "NUL");
  CHECK_ERR(try_model(model(nested(5000, true), 17)), MODEL, "nests deeper");
  sd_str info = {0}, g = {0};
  put_msg(&info, 2, nested(5000, false));
  put_msg(&g, 11, info);
  CHECK_ERR(try_model(model(g, 17)), MODEL, "nests deeper");
  g = one_node(node("Relu", "x", "y"));
  put_text(&g, 99, "a field of the future");
  put_text(&g, 10, "a doc string");
  CHECK_OPS(model(g, 17), "Relu");
  g = one_node(node("Relu", "x", "\xff\x01"));
  CHECK_ERR(try_model(model(g, 17)), MODEL, "'y' is defined by nothing");
  CHECK(sd_import_sniff("\x08\x08\x12\x04onnx", 8));
  CHECK(!sd_import_sniff("SARDART\n", 8));
  CHECK(!sd_import_sniff("module {", 8));
  CHECK(!sd_import_sniff("", 0));
}

// ---- tensors ----

static sard_status *read_tensor(sd_str t, sd_arena *a, sd_const **c) {
  void *copy = sd_arena_dup(a, t.p, t.len);
  size_t n = t.len;
  sd_str_free(&t);
  return sd_tensor_proto_read(a, copy, n, c, NULL);
}

static void test_tensor_errors(sd_arena *a) {
  sd_const *c = NULL;
  const float f[2] = {1, 2};
  const int64_t big[] = {1ll << 62, 8}, negative[] = {-1}, zero_big[] = {0, 1ll << 62, 1ll << 62};
  CHECK_ERR(read_tensor(raw_tensor("w", 1, 3, f, 8), a, &c), MODEL, "need 12 bytes, it has 8");
  CHECK_ERR(read_tensor(raw_tensor("w", 1, 1, f, 8), a, &c), MODEL, "need 4 bytes, it has 8");
  CHECK_ERR(read_tensor(raw_tensor("w", 99, 1, f, 8), a, &c), MODEL, "element type 99");
  CHECK_ERR(read_tensor(tensor_type("w", 1, 2, big), a, &c), MODEL, "overflows");
  CHECK_ERR(read_tensor(tensor_type("w", 1, 1, negative), a, &c), MODEL, "dim 0 is -1");
  CHECK_OK(read_tensor(tensor_type("w", 1, 3, zero_big), a, &c));
  CHECK(c->count == 0 && c->data);
  sd_str t = raw_tensor("w", 1, 2, f, 8);
  put_bytes(&t, 4, f, 8);
  CHECK_ERR(read_tensor(t, a, &c), MODEL, "both raw_data and float_data");
  t = tensor_type("w", 3, 1, (int64_t[]){1});
  put_int(&t, 5, 300);
  CHECK_ERR(read_tensor(t, a, &c), MODEL, "does not fit i8");
  t = tensor_type("w", 1, 1, (int64_t[]){2});
  put_bytes(&t, 4, f, 7);
  CHECK_ERR(read_tensor(t, a, &c), MODEL, "whole number");
  int64_t many[20] = {0};
  CHECK_ERR(read_tensor(tensor_type("w", 1, 20, many), a, &c), UNSUPPORTED, "rank 20");
  t = raw_tensor("w", 1, 2, f, 8);
  put_int(&t, 14, 1);
  CHECK_ERR(read_tensor(t, a, &c), MODEL, "both external data and raw_data");
}

static void test_tensors(sd_arena *a) {
  sd_const *c = NULL;
  float many[300];
  for (int i = 0; i < 300; i++) many[i] = (float)i;
  CHECK_OK(read_tensor(raw_tensor("w", 1, 300, many, sizeof many), a, &c)); // lifted
  CHECK(c->count == 300 && memcmp(c->data, many, sizeof many) == 0);
  sd_str t = tensor_type("w", 1, 1, (int64_t[]){300});
  put_bytes(&t, 4, many, sizeof many); // packed float_data, lifted too
  CHECK_OK(read_tensor(t, a, &c));
  CHECK(memcmp(c->data, many, sizeof many) == 0);
  t = tensor_type("w", 1, 1, (int64_t[]){3});
  put_float(&t, 4, 1);
  put_bytes(&t, 4, many, 4);
  put_float(&t, 4, 2); // packed and unpacked mixed
  CHECK_OK(read_tensor(t, a, &c));
  CHECK(((const float *)c->data)[0] == 1 && ((const float *)c->data)[1] == 0 && ((const float *)c->data)[2] == 2);
  t = tensor_type("w", 10, 1, (int64_t[]){2});
  put_int(&t, 5, 0x3c00);
  put_int(&t, 5, 0xbc00);
  CHECK_OK(read_tensor(t, a, &c));
  CHECK(sd_dtype_get_f64(SD_F16, c->data, 0) == 1 && sd_dtype_get_f64(SD_F16, c->data, 1) == -1);
  CHECK_OK(read_tensor(raw_tensor("w", 22, 3, "\x21\x0f", 2), a, &c)); // int4: low nibble first
  CHECK(sd_dtype_get_i64(SD_I4, c->data, 0) == 1 && sd_dtype_get_i64(SD_I4, c->data, 1) == 2 &&
        sd_dtype_get_i64(SD_I4, c->data, 2) == -1);
  t = tensor_type("w", 22, 1, (int64_t[]){3});
  put_int(&t, 5, 0x21);
  put_int(&t, 5, 0x0f);
  CHECK_OK(read_tensor(t, a, &c));
  CHECK(c->bytes == 2 && memcmp(c->data, "\x21\x0f", 2) == 0);
  CHECK_OK(read_tensor(raw_tensor("w", 9, 3, "\x00\x07\x01", 3), a, &c));
  CHECK(memcmp(c->data, "\x00\x01\x01", 3) == 0);
  t = tensor_type("w", 8, 1, (int64_t[]){2});
  put_text(&t, 6, "ab");
  put_text(&t, 6, "");
  CHECK_ERR(read_tensor(t, a, &c), UNSUPPORTED, "a tensor of strings"); // these belong to a module
  test_tensor_errors(a);
}

static void test_sparse(void) {
  const int64_t dims[] = {2, 4}, at[] = {1, 6}, bad[] = {1, 8};
  const float v[] = {5, 6};
  for (int i = 0; i < 2; i++) {
    sd_str g = one_node(node("Add", "x,w", "y")), s = {0};
    put_msg(&s, 1, raw_tensor("w", 1, 2, v, sizeof v));
    put_msg(&s, 2, raw_tensor("", 7, 2, i ? bad : at, sizeof at));
    put_int(&s, 3, dims[0]);
    put_int(&s, 3, dims[1]);
    put_msg(&g, 15, s);
    if (i) CHECK_ERR(try_model(model(g, 17)), MODEL, "index 1 lies outside");
    else CHECK_OPS(model(g, 17), "Add");
  }
}

// ---- external data ----

static char folder[64];

static void path_in(char *out, size_t n, const char *name) { snprintf(out, n, "%s/%s", folder, name); }

static void write_text(const char *name, const void *p, size_t n) {
  char path[256];
  path_in(path, sizeof path, name);
  sd_piece piece = {p, n};
  CHECK_OK(sd_file_write(path, &piece, 1));
}

static void put_entry(sd_str *t, const char *key, const char *value) {
  sd_str e = {0};
  if (!value) return;
  put_text(&e, 1, key);
  put_text(&e, 2, value);
  put_msg(t, 13, e);
}

static sard_status *external(const char *location, const char *offset, const char *length, const char *odd) {
  sd_str g = one_node(node("Add", "x,w", "y")), t = tensor_type("w", 1, 1, (int64_t[]){4});
  put_entry(&t, "location", location);
  put_entry(&t, "offset", offset);
  put_entry(&t, "length", length);
  put_entry(&t, odd ? odd : "", odd);
  put_int(&t, 14, 1);
  put_msg(&g, 5, t);
  sd_str m = model(g, 17);
  char path[256];
  write_text("m.onnx", m.p, m.len);
  sd_str_free(&m);
  path_in(path, sizeof path, "m.onnx");
  sard_source src = {.size = sizeof src, .path = path};
  sd_module *module = NULL;
  sard_status *st = sd_import_onnx(&src, &module);
  if (!st) {
    const sd_value *w = module->main->first->in[1];
    CHECK(w->data && ((const float *)w->data->data)[3] == 3);
  }
  sd_module_free(module);
  return st;
}

static void test_external_paths(void) {
  static const char *const bad[] = {"/etc/passwd", "../w.bin", "sub/../w.bin", "./w.bin", "sub//w.bin", "sub/", "~/w",
                                    "", ".", ".."};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    CHECK_ERR(external(bad[i], NULL, NULL, NULL), MODEL, "location");
  char target[256], path[256];
  path_in(target, sizeof target, "w.bin");
  path_in(path, sizeof path, "link");
  CHECK(symlink(target, path) == 0);
  CHECK_ERR(external("link", NULL, NULL, NULL), MODEL, "symbolic link");
  path_in(path, sizeof path, "up");
  CHECK(symlink(".", path) == 0);
  CHECK_ERR(external("up/w.bin", NULL, NULL, NULL), MODEL, "symbolic link");
  path_in(path, sizeof path, "hard");
  CHECK(link(target, path) == 0);
  CHECK_ERR(external("hard", NULL, NULL, NULL), MODEL, "hard link");
  CHECK(unlink(path) == 0);
  path_in(path, sizeof path, "fifo");
  CHECK(mkfifo(path, 0600) == 0);
  CHECK_ERR(external("fifo", NULL, NULL, NULL), MODEL, "not a regular file");
  CHECK_ERR(external("sub", NULL, NULL, NULL), MODEL, "not a regular file");
  CHECK_ERR(external("W.BIN", NULL, NULL, NULL), IO, "cannot open");
  char longer[5000];
  memset(longer, 'a', sizeof longer - 1);
  longer[sizeof longer - 1] = 0;
  CHECK_ERR(external(longer, NULL, NULL, NULL), MODEL, "too long");
}

static sard_status *supply(void *user, const char *location, uint64_t offset, uint64_t length, const void **out) {
  CHECK_TEXT(location, "w.bin");
  CHECK(offset == 8 && length == 16);
  *out = user;
  return NULL;
}

static void test_external_callback(void) {
  const float w[4] = {0, 1, 2, 3};
  sd_str g = one_node(node("Add", "x,w", "y")), t = tensor_type("w", 1, 1, (int64_t[]){4});
  put_entry(&t, "location", "w.bin");
  put_entry(&t, "offset", "8");
  put_int(&t, 14, 1);
  put_msg(&g, 5, t);
  sd_str m = model(g, 17);
  sard_source src = {.size = sizeof src, .data = m.p, .bytes = m.len};
  sd_module *module = NULL;
  CHECK_ERR(sd_import_onnx(&src, &module), MODEL, "given as bytes");
  src.read_external = supply;
  src.user = (void *)w;
  CHECK_OK(sd_import_onnx(&src, &module));
  sd_module_free(module);
  sd_str_free(&m);
}

static void test_external(void) {
  float w[8] = {9, 9, 0, 1, 2, 3, 9, 9};
  char path[256];
  strcpy(folder, "/tmp/sard-import-XXXXXX");
  CHECK(mkdtemp(folder) != NULL);
  path_in(path, sizeof path, "sub");
  CHECK(mkdir(path, 0700) == 0);
  write_text("w.bin", w, sizeof w);
  write_text("sub/w.bin", w, sizeof w);
  CHECK_OK(external("w.bin", "8", "16", NULL));
  CHECK_OK(external("w.bin", "8", NULL, NULL));
  CHECK_OK(external("sub/w.bin", "8", NULL, NULL));
  CHECK_ERR(external("w.bin", "8", "12", NULL), MODEL, "12 bytes");
  CHECK_ERR(external("w.bin", "20", NULL, NULL), MODEL, "outside");
  CHECK_ERR(external("w.bin", "-8", NULL, NULL), MODEL, "no number");
  CHECK_ERR(external("w.bin", "99999999999999999999", NULL, NULL), MODEL, "no number");
  CHECK_ERR(external("w.bin", "9223372036854775807", NULL, NULL), MODEL, "outside");
  CHECK_ERR(external("w.bin", "8 ", NULL, NULL), MODEL, "no number");
  CHECK_ERR(external("w.bin", NULL, "0x10", NULL), MODEL, "no number");
  CHECK_ERR(external("w.bin", NULL, NULL, "__class__"), MODEL, "unknown key");
  CHECK_ERR(external(NULL, NULL, NULL, NULL), MODEL, "without a location");
  test_external_paths();
  test_external_callback();
  char command[128];
  snprintf(command, sizeof command, "rm -r %s", folder);
  CHECK(system(command) == 0);
}

// ---- graphs ----

static void test_graph(void) {
  CHECK_OPS(model(one_node(node("Relu", "x", "y")), 17), "Relu");
  sd_str g = begin(); // unsorted
  put_msg(&g, 1, node("Relu", "a", "y"));
  put_msg(&g, 1, node("Neg", "x", "a"));
  CHECK_OPS(model(g, 17), "Neg Relu");
  g = begin();
  put_msg(&g, 1, node("Add", "x,b", "a"));
  put_msg(&g, 1, node("Neg", "a", "b"));
  put_msg(&g, 1, node("Relu", "a", "y"));
  CHECK_ERR(try_model(model(g, 17)), MODEL, "cycle");
  CHECK_ERR(try_model(model(one_node(node("Relu", "y", "y")), 17)), MODEL, "cycle");
  CHECK_ERR(try_model(model(one_node(node("Relu", "z", "y")), 17)), MODEL, "'z', which nothing defines");
  g = one_node(node("Relu", "x", "y"));
  put_msg(&g, 1, node("Neg", "x", "y"));
  CHECK_ERR(try_model(model(g, 17)), MODEL, "defined twice");
  CHECK_ERR(try_model(model(one_node(node1("Relu", "x", "y", attr_int("slope", 1))), 17)), UNSUPPORTED, "'slope'");
  CHECK_OPS(model(one_node(node1("LeakyRelu", "x", "y", attr_int("alpha", 1))), 17), "LeakyRelu");
  CHECK_ERR(try_model(model(one_node(node1("LeakyRelu", "x", "y", attr_ints("alpha", 2, (int64_t[]){1, 2}))), 17)), MODEL,
            "must be a float");
  CHECK_ERR(try_model(model(one_node(node("Cast", "x", "y")), 17)), MODEL, "'to'");
  CHECK_ERR(try_model(model(one_node(node("Relu", "x,x", "y")), 17)), MODEL, "operands");
  CHECK_ERR(try_model(model(one_node(node("Relu", "", "y")), 17)), MODEL, "missing");
  CHECK_ERR(try_model(model(one_node(node("Relu", "x", "y")), 0)), MODEL, "opset 0");
  CHECK_ERR(try_model(model(one_node(node("Relu", "x", "y")), -1)), MODEL, "opset -1");
  CHECK_ERR(try_model(model(one_node(node("Relu", "x", "y")), 999)), UNSUPPORTED, "opset 999");
  CHECK_OPS(model(one_node(node("Relu", "x", "y")), 1), "Relu");
  g = begin();
  put_msg(&g, 12, value_info("x", 1, "N,4"));
  put_msg(&g, 1, node("Relu", "x", "y"));
  CHECK_OPS(model(g, 17), "Relu");
}

static void test_symbols(void) {
  sd_str g = {0}, text = {0};
  put_msg(&g, 11, value_info("x", 1, "batch,past + seq,?,2"));
  put_msg(&g, 11, value_info("p", 1, "batch,past,seq,a/b"));
  put_msg(&g, 11, value_info("q", 1, ",-1"));
  put_msg(&g, 12, value_info("y", 1, ""));
  put_msg(&g, 1, node("Relu", "x", "y"));
  sd_str bytes = model(g, 17);
  sd_module *m = NULL;
  CHECK_OK(import(&bytes, &m));
  for (uint32_t i = 0; m && i < 3; i++) {
    sd_type_print(m, m->main->inputs.at[i], &text);
    sd_str_put(&text, " ");
  }
  CHECK_TEXT(text.p, "f32[batch,past+seq,x_d2,2] f32[batch,past,seq,\"a/b\"] f32[q_d0,q_d1] ");
  sd_str_free(&text);
  sd_module_free(m);
  sd_str_free(&bytes);
}

static void test_list(void) {
  sd_str g = begin();
  put_msg(&g, 1, in_domain(node("Foo", "x", "a"), "com.acme"));
  put_msg(&g, 1, node("Relu", "a", "b"));
  put_msg(&g, 1, node("Reluu", "b", "y"));
  sard_status *st = try_model(model(g, 17));
  const char *text = sard_status_text(st, SARD_TEXT_MESSAGE);
  CHECK(sard_status_code(st) == SARD_E_UNSUPPORTED);
  CHECK(strstr(text, "2 cases") && strstr(text, "node 0 'a' (com.acme.Foo, opset 1) of (f32[N,4])") &&
        strstr(text, "node 2 'y' (Reluu, opset 17)") && strstr(text, "nearest name is 'Relu'"));
  CHECK_TEXT(sard_status_text(st, SARD_TEXT_OP), "com.acme.Foo");
  sard_status_free(st);
}

static void test_constant(void) {
  sd_str g = begin(), a = attr("value", 4);
  put_msg(&a, 5, raw_tensor("", 1, 4, (float[]){1, 2, 3, 4}, 16));
  put_msg(&g, 1, node1("Constant", "", "c", a));
  put_msg(&g, 1, node1("Constant", "", "d", attr_float("value_float", 2)));
  put_msg(&g, 1, node("Add", "x,c", "e"));
  put_msg(&g, 1, node("Mul", "e,d", "y"));
  CHECK_OPS(model(g, 17), "Add Mul");
  CHECK_ERR(try_model(model(one_node(node1("Constant", "", "y", attr_int("value_float", 2))), 17)), MODEL,
            "value_float");
  CHECK_ERR(try_model(model(one_node(node("Constant", "", "y")), 17)), MODEL, "one attribute");
}

// ---- functions ----

static sd_str function(const char *name, const char *in, const char *out) {
  sd_str f = {0};
  put_text(&f, 1, name);
  put_list(&f, 4, in);
  put_list(&f, 5, out);
  put_text(&f, 10, "local");
  put_msg(&f, 9, opset("", 17));
  return f;
}

static void test_functions(void) {
  sd_str f = function("Scale", "a", "b"), h = function("Twice", "a", "b"), m;
  put_msg(&f, 1 + 6, node1("LeakyRelu", "a", "b", attr_ref("alpha", "slope", 1)));
  put_msg(&f, 11, attr_float("slope", 0.5f));
  put_msg(&h, 7, in_domain(node1("Scale", "a", "t", attr_ref("slope", "s", 1)), "local"));
  put_msg(&h, 7, in_domain(node("Scale", "t", "b"), "local"));
  put_text(&h, 6, "s");
  m = model(one_node(in_domain(node1("Twice", "x", "y", attr_float("s", 0.25f)), "local")), 17);
  put_msg(&m, 25, f);
  put_msg(&m, 25, h);
  sd_module *module = NULL;
  CHECK_OK(import(&m, &module));
  const sd_node *first = module ? module->main->first : NULL;
  CHECK(first && first->next && !first->next->next);
  CHECK(first && sd_node_float(first, "alpha", 0) == 0.25f && sd_node_float(first->next, "alpha", 0) == 0.5f);
  CHECK_TEXT(first ? first->name : "", "y/t/b");
  CHECK_TEXT(module ? module->main->outputs.at[0]->name : "", "y");
  sd_module_free(module);
  sd_str_free(&m);

  f = function("F", "a", "b");
  put_msg(&f, 7, in_domain(node("F", "a", "b"), "local"));
  m = model(one_node(in_domain(node("F", "x", "y"), "local")), 17);
  put_msg(&m, 25, f);
  CHECK_ERR(try_model(m), MODEL, "calls itself");

  m = model(one_node(in_domain(node("F40", "x", "y"), "local")), 17); // 2^40 nodes
  for (int i = 0; i <= 40; i++) {
    char name[16], inner[16];
    snprintf(name, sizeof name, "F%d", i);
    snprintf(inner, sizeof inner, i ? "F%d" : "Relu", i - 1);
    f = function(name, "a", "b");
    put_msg(&f, 7, in_domain(node(inner, "a", "t"), i ? "local" : ""));
    put_msg(&f, 7, in_domain(node(inner, "t", "b"), i ? "local" : ""));
    put_msg(&m, 25, f);
  }
  CHECK_ERR(try_model(m), MODEL, "expand to more than");
  m = model(one_node(in_domain(node("I", "x", "y"), "local")), 17); // alias: its output is its input
  put_msg(&m, 25, function("I", "a", "a"));
  CHECK_OPS(m, "Identity");
}

// ---- old opsets ----

static void test_upgrade(void) {
  const int64_t one[] = {1}, pads[] = {0, 1, 0, 1}, zero_one[] = {0, 1};
  CHECK_OPS(model(one_node(node1("Unsqueeze", "x", "y", attr_ints("axes", 1, one))), 11), "Unsqueeze");
  CHECK_OPS(model(one_node(node1("ReduceMean", "x", "y", attr_ints("axes", 1, one))), 13), "ReduceMean");
  CHECK_OPS(model(one_node(node1("Pad", "x", "y", attr_ints("pads", 4, pads))), 9), "Pad");
  CHECK_OPS(model(one_node(node1("Clip", "x", "y", attr_float("max", 6))), 7), "Clip");
  sd_str n = node1("Slice", "x", "y", attr_ints("starts", 1, zero_one));
  put_msg(&n, 5, attr_ints("ends", 1, one));
  CHECK_OPS(model(one_node(n), 9), "Slice");
  CHECK_OPS(model(one_node(node1("Softmax", "x", "y", attr_int("axis", 1))), 11), "Softmax");
  CHECK_OPS(model(one_node(node1("Softmax", "x", "y", attr_int("axis", 0))), 11), "Shape Flatten Softmax Reshape");
  CHECK_OPS(model(one_node(node1("Dropout", "x", "y", attr_float("ratio", 0.5f))), 10), "Dropout");
  n = one_node(node("BatchNormalization", "x,x,x,x,x", "y,m,v,s"));
  put_msg(&n, 1, node("Neg", "s", "z"));
  CHECK_ERR(try_model(model(n, 9)), UNSUPPORTED, "training only");
  CHECK_ERR(try_model(model(one_node(node1("Squeeze", "x,x", "y", attr_ints("axes", 1, one))), 11)), MODEL, "both");
}

// ---- Gradient ----
static sd_str gradient(const char *in, const char *xs, const char *y) {
  sd_str names = attr("xs", 8), target = attr("y", 3);
  put_text(&names, 9, xs);
  put_text(&target, 4, y);
  sd_str n = in_domain(node1("Gradient", in, "y", names), "ai.onnx.preview.training");
  put_msg(&n, 5, target);
  return n;
}

// The tensors that it names become operands; a constant one is not folded away with what follows from it.
static void test_gradient(void) {
  sd_str g = begin();
  float w[2] = {1, 2};
  put_msg(&g, 5, raw_tensor("w", 1, 2, w, sizeof w));
  put_msg(&g, 1, node("Mul", "w,w", "h"));
  put_msg(&g, 1, gradient("w", "w", "h"));
  CHECK_OPS(model(g, 17), "Mul ai.onnx.preview.training.Gradient");
  CHECK_ERR(try_model(model(one_node(gradient("x", "x", "h")), 17)), MODEL, "names 'h', which nothing before this node defines");
  CHECK_ERR(try_model(model(one_node(gradient("x", "q", "x")), 17)), MODEL, "names 'q'");
}

// ---- corpus ----

static void test_corpus(sd_arena *a) {
  const char *corpus = getenv("SARD_CORPUS");
  static const char *const names[] = {"digits_mlp", "resnet50_tiny", "bert_base_tiny", "lstm_lm_tiny", "unet_tiny"};
  for (size_t i = 0; corpus && i < sizeof names / sizeof *names; i++) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s/model.onnx", corpus, names[i]);
    if (access(path, R_OK)) continue;
    sard_source src = {.size = sizeof src, .path = path};
    sd_module *m = NULL;
    CHECK_OK(sd_import_onnx(&src, &m));
    sd_module_free(m);
    sd_import_info info;
    CHECK_OK(sd_import_scan(&src, a, &info));
    CHECK(info.nodes.len > 0 && info.weights.len > 0 && info.weight_bytes > 0 && info.weight_bytes < info.file_bytes);
  }
}

int main(void) {
  sd_arena *a = sd_arena_new();
  jmp_buf oom;
  sd_arena_set_oom(a, &oom);
  if (setjmp(oom)) return 1;
  test_wire();
  test_tensors(a);
  test_sparse();
  test_external();
  test_graph();
  test_symbols();
  test_list();
  test_constant();
  test_functions();
  test_upgrade();
  test_gradient();
  test_corpus(a);
  sd_arena_free(a);
  return check_end();
}
