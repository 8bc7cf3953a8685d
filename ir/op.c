// The operator table: reads the rows of ir/ops.def once, finds rows by name.
#include "ir/op_internal.h"

#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "runtime/base/alloc.h"
#include "runtime/base/hash.h"

typedef struct row {
  const char *name, *sig, *attrs, *kind, *text;
  sd_shape_fn shape;
  sd_pull_fn pull;
  sd_nests_fn nests;
  sd_rewrite_fn rewrite;
} row;

#define BODY_TEXT(t)     .text = t
#define BODY_PULL(fn)    .pull = sd_pull_##fn
#define BODY_NESTS(fn)   .nests = sd_nests_##fn
#define BODY_REWRITE(fn) .rewrite = sd_rewrite_##fn
#define BODY_NONE        .text = NULL
#define SD_OP(id, op_name, op_sig, op_attrs, shape_fn, op_kind, body)                                                  \
  {.name = op_name, .sig = op_sig, .attrs = op_attrs, .kind = #op_kind, .shape = sd_shape_##shape_fn, BODY_##body},
static const row rows[] = {
#include "ir/ops.def"
};
#undef SD_OP

// The identifiers must differ: a repeated row would be a repeated enumerator.
#define SD_OP(id, ...) ROW_##id,
enum {
#include "ir/ops.def"
  ROW_COUNT
};
#undef SD_OP

static const struct { const char *text; sd_kind kind; sd_narrow narrow; bool commutative; } kinds[] = {
    {"MAP", SD_MAP, SD_NARROW_FOLLOW, false},       {"MAPC", SD_MAP, SD_NARROW_FOLLOW, true},
    {"MAPW", SD_MAP, SD_NARROW_NO, false},          {"REDUCE", SD_REDUCE, SD_NARROW_NO, false},
    {"REDUCES", SD_REDUCE, SD_NARROW_FOLLOW, false}, {"CONTRACT", SD_CONTRACT, SD_NARROW_YES, false},
    {"MOVE", SD_MOVE, SD_NARROW_FOLLOW, false},     {"COMPOSITE", SD_COMPOSITE, SD_NARROW_NO, false},
    {"NESTS", SD_NESTS, SD_NARROW_NO, false},       {"NESTSP", SD_NESTS, SD_NARROW_YES, false},
    {"CONTROL", SD_CONTROL, SD_NARROW_NO, false},   {"HOST", SD_HOST, SD_NARROW_NO, false},
    {"COMM", SD_COMM, SD_NARROW_NO, false},         {"REWRITE", SD_REWRITE, SD_NARROW_NO, false},
    {"REWRITEP", SD_REWRITE, SD_NARROW_YES, false},
};

static const struct { const char *text; sd_kind kind; sd_trait trait; } traits[] = {
    {"RENAMES", SD_MOVE, SD_RENAMES},   {"PERMUTES", SD_MOVE, SD_PERMUTES},    {"REGROUPS", SD_MOVE, SD_REGROUPS},
    {"CUTS", SD_MOVE, SD_CUTS},         {"REPEATS", SD_MOVE, SD_REPEATS},      {"JOINS", SD_MOVE, SD_JOINS},
    {"LOOKS_UP", SD_MOVE, SD_LOOKS_UP}, {"TAKES_ANY", SD_NESTS, SD_TAKES_ANY}, {"FOLLOWED", SD_NESTS, SD_FOLLOWED},
    {"WINDOWS", SD_NESTS, SD_WINDOWS},  {"RENAMES", SD_MAP, SD_RENAMES},
    {"BORDERS", SD_MOVE, SD_BORDERS},   {"UNPACKS", SD_MOVE, SD_UNPACKS},
};

typedef struct table {
  sd_arena *arena;
  sd_op ops[ROW_COUNT + 1];
  const char *names[ROW_COUNT + 1];
  uint16_t slots[4096]; // open addressing: index + 1
  sd_str errors;        // of malformed rows, one a line
  bool ready;
} table;

_Static_assert(ROW_COUNT < 3000, "the hash table of names is too small");
static table tab;
static pthread_once_t once = PTHREAD_ONCE_INIT;

sard_status *sd_shape_none(sd_node *n) {
  (void)n;
  return NULL;
}

// ---- reading of one row ----

typedef struct reader {
  const char *p;
  const row *row;
  bool failed;
} reader;

static void complain(reader *r, const char *what) {
  if (!r->failed) sd_strf(&tab.errors, "row %s: %s at \"%.24s\"\n", r->row->name, what, r->p);
  r->failed = true;
}

static bool eat(reader *r, const char *token) {
  while (*r->p == ' ') r->p++;
  size_t n = strlen(token);
  if (strncmp(r->p, token, n)) return false;
  r->p += n;
  return true;
}

static void need(reader *r, const char *token) {
  if (!r->failed && !eat(r, token)) complain(r, token);
}

static const char *word(reader *r) {
  while (*r->p == ' ') r->p++;
  const char *s = r->p;
  while (isalnum((unsigned char)*r->p) || *r->p == '_') r->p++;
  if (s == r->p) complain(r, "expected a name");
  return sd_arena_strndup(tab.arena, s, (size_t)(r->p - s));
}

static const sd_operand *read_operands(reader *r, uint8_t *out_n) {
  SD_VEC(sd_operand) v = {0};
  need(r, "(");
  while (!r->failed && !eat(r, ")")) {
    sd_operand o = {0};
    if (v.len) need(r, ",");
    o.name = word(r);
    need(r, ":");
    o.cls = *r->p;
    if (!o.cls || !strchr("*VORNFIBLST", o.cls)) complain(r, "unknown class");
    else r->p++;
    o.list = eat(r, "#");
    o.optional = eat(r, "?");
    o.variadic = eat(r, "+");
    if (v.len && v.at[v.len - 1].variadic) complain(r, "an operand after a variadic one");
    if (v.len == 255) complain(r, "too many operands");
    sd_vec_push(tab.arena, &v, o);
  }
  *out_n = (uint8_t)v.len;
  return v.at;
}

static const char *quoted(reader *r) {
  char q[2] = {eat(r, "'") ? '\'' : '"', 0};
  if (*q == '"') need(r, "\"");
  size_t n = strcspn(r->p, q);
  const char *s = sd_arena_strndup(tab.arena, r->p, n);
  r->p += n;
  need(r, q);
  return s;
}

static int64_t read_int(reader *r) {
  char *end;
  errno = 0;
  long long v = strtoll(r->p, &end, 10);
  if (end == r->p || errno) complain(r, "expected an integer");
  r->p = end;
  return v;
}

static float read_float(reader *r) {
  char *end;
  float v = strtof(r->p, &end);
  if (end == r->p) complain(r, "expected a number");
  r->p = end;
  return v;
}

static void read_list(reader *r, sd_attr *a) {
  sd_arena *m = tab.arena;
  SD_VEC(int64_t) ints = {0};
  SD_VEC(float) floats = {0};
  SD_VEC(const char *) strings = {0};
  need(r, "[");
  for (a->n = 0; !r->failed && !eat(r, "]"); a->n++) {
    if (a->n) need(r, ",");
    if (a->kind == SD_ATTR_INTS) sd_vec_push(m, &ints, read_int(r));
    else if (a->kind == SD_ATTR_FLOATS) sd_vec_push(m, &floats, read_float(r));
    else sd_vec_push(m, &strings, quoted(r));
  }
  if (a->kind == SD_ATTR_INTS) a->ints = ints.at;
  else if (a->kind == SD_ATTR_FLOATS) a->floats = floats.at;
  else a->strings = strings.at;
}

static void read_default(reader *r, sd_attr *a) {
  switch (a->kind) {
  case SD_ATTR_INT: a->i = read_int(r); break;
  case SD_ATTR_FLOAT: a->f = read_float(r); break;
  case SD_ATTR_STRING: a->s = quoted(r); break;
  case SD_ATTR_INTS:
  case SD_ATTR_FLOATS:
  case SD_ATTR_STRINGS: read_list(r, a); break;
  default: complain(r, "this kind has no default");
  }
}

static sd_attr_kind read_kind(reader *r) {
  static const struct { const char *text; sd_attr_kind kind; } names[] = {
      {"is", SD_ATTR_INTS}, {"fs", SD_ATTR_FLOATS}, {"ss", SD_ATTR_STRINGS}, {"i", SD_ATTR_INT},
      {"f", SD_ATTR_FLOAT}, {"s", SD_ATTR_STRING},  {"t", SD_ATTR_TENSOR},   {"g", SD_ATTR_GRAPH}};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (eat(r, names[i].text)) return names[i].kind;
  complain(r, "unknown attribute kind");
  return SD_ATTR_NONE;
}

static const sd_attrdecl *read_attrs(reader *r, uint8_t *out_n) {
  SD_VEC(sd_attrdecl) v = {0};
  need(r, "(");
  while (!r->failed && !eat(r, ")")) {
    sd_attrdecl d = {0};
    if (v.len) need(r, ",");
    d.name = word(r);
    need(r, ":");
    d.def.kind = read_kind(r);
    d.has_default = eat(r, "=");
    if (d.has_default) read_default(r, &d.def);
    else if (eat(r, "!")) d.required = true;
    else need(r, "?");
    if (v.len == 255) complain(r, "too many attributes");
    sd_vec_push(tab.arena, &v, d);
  }
  *out_n = (uint8_t)v.len;
  return v.at;
}

// KIND, or KIND | TRAIT ...
static void read_kind_column(reader *r, sd_op *op) {
  const char *name = word(r);
  bool found = false;
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
    if (strcmp(kinds[i].text, name) == 0) {
      op->kind = kinds[i].kind, op->narrow = kinds[i].narrow, op->commutative = kinds[i].commutative;
      found = true;
    }
  if (!found) complain(r, "unknown kind");
  while (!r->failed && eat(r, "|")) {
    name = word(r);
    found = false;
    for (size_t i = 0; i < sizeof traits / sizeof *traits; i++)
      if (strcmp(traits[i].text, name) == 0 && traits[i].kind == op->kind) op->traits |= traits[i].trait, found = true;
    if (!found) complain(r, "no trait of this kind");
  }
  if (*r->p) complain(r, "unexpected text");
}

static void read_row(const row *src, sd_op *op) {
  reader r = {src->sig, src, false};
  *op = (sd_op){.name = src->name, .index = (uint16_t)(src - rows), .shape = src->shape, .pull = src->pull,
                .nests = src->nests, .rewrite = src->rewrite, .text = src->text,
                .infers = src->shape != sd_shape_none};
  op->ins = read_operands(&r, &op->n_in);
  need(&r, "->");
  op->outs = read_operands(&r, &op->n_out);
  if (*r.p) complain(&r, "unexpected text");
  r.p = src->attrs;
  op->attrs = read_attrs(&r, &op->n_attr);
  if (*r.p) complain(&r, "unexpected text");
  r.p = src->kind;
  read_kind_column(&r, op);
  if (op->text && op->kind != SD_MAP) complain(&r, "a TEXT body needs kind MAP");
  if (op->text && !r.failed) op->map = sd_text_parse(tab.arena, op, op->text, &tab.errors);
}

// ---- the table ----

static uint32_t slot_of(const char *name) {
  return (uint32_t)sd_hash_bytes(name, strlen(name), 0) % (sizeof tab.slots / sizeof *tab.slots);
}

static void insert(const sd_op *op) {
  uint32_t i = slot_of(op->name);
  for (; tab.slots[i]; i = (i + 1) % (sizeof tab.slots / sizeof *tab.slots))
    if (strcmp(tab.ops[tab.slots[i] - 1].name, op->name) == 0) {
      sd_strf(&tab.errors, "row %s: the name occurs twice\n", op->name);
      return;
    }
  tab.slots[i] = (uint16_t)(op->index + 1);
}

static void build(void) {
  jmp_buf oom;
  tab.arena = sd_arena_new();
  if (!tab.arena) return;
  sd_arena_set_oom(tab.arena, &oom);
  if (setjmp(oom)) return; // ready stays false: no row is found, sd_ops_check says why
  for (int i = 0; i < ROW_COUNT; i++) {
    read_row(&rows[i], &tab.ops[i]);
    tab.names[i] = tab.ops[i].name;
    insert(&tab.ops[i]);
  }
  sd_arena_set_oom(tab.arena, NULL);
  tab.ready = true;
}

static bool ready(void) {
  pthread_once(&once, build);
  return tab.ready;
}

const sd_op *sd_op_at(uint32_t index) { return ready() && index < ROW_COUNT ? &tab.ops[index] : NULL; }

const sd_op *sd_op_find(const char *name) {
  if (!ready()) return NULL;
  if (strncmp(name, "ai.onnx.", 8) == 0 && !strchr(name + 8, '.')) name += 8;
  for (uint32_t i = slot_of(name); tab.slots[i]; i = (i + 1) % (sizeof tab.slots / sizeof *tab.slots))
    if (strcmp(tab.ops[tab.slots[i] - 1].name, name) == 0) return &tab.ops[tab.slots[i] - 1];
  return NULL;
}

const char *sd_op_nearest(const char *name) { return ready() ? sd_str_nearest(name, tab.names, ROW_COUNT) : NULL; }

sard_status *sd_ops_table_error(void) {
  if (!ready()) return SD_ERR(NOMEM, "out of memory for the operator table");
  return tab.errors.len ? SD_ERR(INTERNAL, "the operator table has errors:\n%s", tab.errors.p) : NULL;
}
