// Text form of modules: parsing of what ir/print.c writes. The text is untrusted.
#include "ir/parse_internal.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

// ---- lexical ----

static void position(const parser *s, int *line, int *column) {
  *line = *column = 1;
  for (const char *c = s->text; c < s->p; c++) {
    ++*column;
    if (*c == '\n') ++*line, *column = 1;
  }
}

sard_status *sd_parse_fail(parser *s, const char *what) {
  int line, column;
  size_t n = strcspn(s->p, "\n");
  position(s, &line, &column);
  return SD_ERR(MODEL, "%s:%d:%d: %s at \"%.*s\"", s->file, line, column, what, n > 32 ? 32 : (int)n, s->p);
}

void sd_parse_skip(parser *s) {
  for (;;) {
    while (isspace((unsigned char)*s->p)) s->p++;
    if (s->p[0] != '/' || s->p[1] != '/') return;
    while (*s->p && *s->p != '\n') s->p++;
  }
}

bool sd_parse_eat(parser *s, const char *token) {
  sd_parse_skip(s);
  size_t n = strlen(token);
  if (strncmp(s->p, token, n)) return false;
  unsigned char next = (unsigned char)s->p[n];
  if (isalnum((unsigned char)token[n - 1]) && (isalnum(next) || next == '_' || next == '.')) return false;
  s->p += n;
  return true;
}

sard_status *sd_parse_need(parser *s, const char *token) {
  char what[40];
  if (sd_parse_eat(s, token)) return NULL;
  snprintf(what, sizeof what, "expected '%s'", token);
  return sd_parse_fail(s, what);
}

sard_status *sd_parse_word(parser *s, const char **out) {
  sd_parse_skip(s);
  const char *b = s->p;
  if (isalpha((unsigned char)*b) || *b == '_')
    while (isalnum((unsigned char)*s->p) || *s->p == '_' || *s->p == '.') s->p++;
  if (b == s->p) return sd_parse_fail(s, "expected a name");
  *out = sd_arena_strndup(s->m->arena, b, (size_t)(s->p - b));
  return NULL;
}

int sd_parse_hex(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

sard_status *sd_parse_quoted(parser *s, const char **out) {
  SD_TRY(sd_parse_need(s, "\""));
  const char *c = s->p;
  size_t n = 0;
  while (*c && *c != '"' && *c != '\n') c += *c == '\\' && c[1] && c[1] != '\n' ? 2 : 1;
  if (*c != '"') return sd_parse_fail(s, "the string is not closed");
  char *text = sd_arena_alloc(s->m->arena, (size_t)(c - s->p) + 1);
  for (; *s->p != '"'; s->p++) {
    char x = *s->p;
    if (x == '\\') {
      x = *++s->p;
      if (x == 'n') x = '\n';
      else if (x == 't') x = '\t';
      else if (x == 'x') {
        int h = sd_parse_hex(s->p[1]), l = h < 0 ? -1 : sd_parse_hex(s->p[2]);
        if (l < 0 || h + l == 0) return sd_parse_fail(s, "bad escape");
        x = (char)(h * 16 + l);
        s->p += 2;
      } else if (x != '"' && x != '\\') return sd_parse_fail(s, "bad escape");
    }
    text[n++] = x;
  }
  s->p++;
  *out = text;
  return NULL;
}

sard_status *sd_parse_int(parser *s, int64_t *out) {
  char *end;
  sd_parse_skip(s);
  errno = 0;
  *out = strtoll(s->p, &end, 10);
  if (end == s->p || errno) return sd_parse_fail(s, "expected an integer");
  s->p = end;
  return NULL;
}

sard_status *sd_parse_float(parser *s, double *out) {
  char *end;
  sd_parse_skip(s);
  if (!isdigit((unsigned char)*s->p) && !strchr("-+.in", *s->p)) return sd_parse_fail(s, "expected a number");
  *out = strtod(s->p, &end);
  if (end == s->p) return sd_parse_fail(s, "expected a number");
  s->p = end;
  return NULL;
}

// The same for a word that was just read.
static sard_status *fail_before(parser *s, const char *word, const char *what) {
  s->p -= strlen(word);
  return sd_parse_fail(s, what);
}

// ---- types ----

static sard_status *parse_dtype(parser *s, sd_dtype *out) {
  const char *name;
  if (sd_parse_eat(s, "?")) {
    *out = SD_DT_NONE;
    return NULL;
  }
  SD_TRY(sd_parse_word(s, &name));
  *out = sd_dtype_parse(name);
  return *out ? NULL : fail_before(s, name, "unknown type");
}

static sard_status *parse_const_dims(parser *s, int *rank, int64_t *dims) {
  SD_TRY(sd_parse_need(s, "["));
  for (*rank = 0; !sd_parse_eat(s, "]"); ++*rank) {
    if (*rank == SD_MAX_RANK) return sd_parse_fail(s, "more than 16 dims");
    if (*rank) SD_TRY(sd_parse_need(s, ","));
    SD_TRY(sd_parse_int(s, &dims[*rank]));
  }
  return NULL;
}

// ---- values by id ----

static uint32_t id_slot(const parser *s, uint32_t id) {
  uint32_t i = id * 2654435761u & (s->cap - 1);
  while (s->table[i] && s->table[i]->id != id) i = (i + 1) & (s->cap - 1);
  return i;
}

static void id_insert(parser *s, sd_value *v) {
  if (s->n_ids * 2 >= s->cap) {
    sd_value **old = s->table;
    uint32_t cap = s->cap;
    s->cap = cap ? cap * 2 : 256;
    s->table = SD_NEW_ARRAY(s->m->arena, sd_value *, s->cap);
    for (uint32_t i = 0; i < cap; i++)
      if (old[i]) s->table[id_slot(s, old[i]->id)] = old[i];
  }
  s->table[id_slot(s, v->id)] = v;
  s->n_ids++;
}

static sd_value *id_find(const parser *s, uint32_t id) { return s->cap ? s->table[id_slot(s, id)] : NULL; }

static sard_status *parse_id(parser *s, uint32_t *out) {
  int64_t id;
  SD_TRY(sd_parse_need(s, "%"));
  if (!isdigit((unsigned char)*s->p)) return sd_parse_fail(s, "expected a value number");
  SD_TRY(sd_parse_int(s, &id));
  if (id >= UINT32_MAX) return sd_parse_fail(s, "value number out of range");
  *out = (uint32_t)id;
  return NULL;
}

// %3 "name" view in %1 at [0,4]
typedef struct def {
  uint32_t id, storage, n_window;
  const char *name;
  bool stored, view, omitted;
  const sd_dim *window;
} def;

static sard_status *parse_dims(parser *s, int *rank, sd_dim *dims) { // after [
  for (*rank = 0; !sd_parse_eat(s, "]");) {
    if (*rank == SD_MAX_RANK) return sd_parse_fail(s, "more than 16 dims");
    if (*rank) SD_TRY(sd_parse_need(s, ","));
    sd_parse_skip(s);
    const char *before = s->p;
    dims[(*rank)++] = sd_dim_parse(s->m->dims, &s->p);
    if (s->p == before) return sd_parse_fail(s, "expected a dim");
  }
  return NULL;
}

static sard_status *parse_type(parser *s, sd_dtype *t, int *rank, sd_dim *dims, const sd_otype **object) {
  static const char *const words[] = {"seq", "opt", "map", "any"};
  *object = NULL;
  sd_parse_skip(s);
  for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
    if (strncmp(s->p, words[i], 3) || s->p[3] != '(') continue;
    *t = SD_OBJECT, *rank = 0;
    return sd_otype_parse(s->m, &s->p, object) && *object ? NULL : sd_parse_fail(s, "expected a type such as seq(f32[2])");
  }
  SD_TRY(parse_dtype(s, t));
  if (*t == SD_OBJECT) return sd_parse_fail(s, "an object is written as seq(...), opt(...), map(...) or any(...)");
  SD_TRY(sd_parse_need(s, "["));
  *rank = SD_RANK_UNKNOWN;
  return sd_parse_eat(s, "*") ? sd_parse_need(s, "]") : parse_dims(s, rank, dims);
}

static sard_status *parse_window(parser *s, def *d) {
  sd_dim at[SD_MAX_RANK + 1];
  int rank;
  SD_TRY(sd_parse_need(s, "["));
  SD_TRY(parse_dims(s, &rank, at));
  d->n_window = (uint32_t)rank;
  d->window = sd_arena_dup(s->m->arena, at, (size_t)rank * sizeof *at);
  return NULL;
}

static sard_status *parse_def(parser *s, def *d) {
  *d = (def){.name = ""};
  SD_TRY(parse_id(s, &d->id));
  if (id_find(s, d->id)) return sd_parse_fail(s, "the value number is defined twice");
  sd_parse_skip(s);
  if (*s->p == '"') SD_TRY(sd_parse_quoted(s, &d->name));
  d->view = sd_parse_eat(s, "view");
  d->stored = sd_parse_eat(s, "in");
  if (!d->stored) return NULL;
  SD_TRY(parse_id(s, &d->storage));
  return sd_parse_eat(s, "at") ? parse_window(s, d) : NULL;
}

static void define(parser *s, sd_value *v, const def *d) {
  v->id = d->id;
  v->name = *d->name ? d->name : "";
  if (d->id >= s->next_id) s->next_id = d->id + 1;
  id_insert(s, v);
  v->view = d->view;
  v->window = d->window;
  if (d->stored) sd_vec_push(s->m->arena, &s->fixups, ((fixup){v, d->storage, d->n_window}));
}

static sard_status *parse_ref(parser *s, sd_value **out) {
  uint32_t id;
  *out = NULL;
  if (sd_parse_eat(s, "_")) return NULL;
  const char *start = s->p;
  SD_TRY(parse_id(s, &id));
  *out = id_find(s, id);
  if (*out) return NULL;
  s->p = start;
  return sd_parse_fail(s, "the value is not defined before this use");
}

// ---- nodes ----

static sard_status *parse_operands(parser *s, operands *in) {
  SD_TRY(sd_parse_need(s, "("));
  while (!sd_parse_eat(s, ")")) {
    sd_value *v;
    if (in->len) SD_TRY(sd_parse_need(s, ","));
    SD_TRY(parse_ref(s, &v));
    sd_vec_push(s->m->arena, in, v);
  }
  return NULL;
}

static sard_status *parse_attr(parser *s, sd_node *n) {
  const char *name;
  SD_TRY(sd_parse_word(s, &name));
  sd_attr *a = sd_node_attr(n, name);
  if (!a) return fail_before(s, name, "the operator has no such attribute");
  SD_TRY(sd_parse_need(s, "="));
  sd_attr_kind kind = n->op->attrs[a - n->attrs].def.kind;
  *a = (sd_attr){0};
  return sd_parse_eat(s, "none") ? NULL : sd_parse_attr_value(s, kind, a);
}

static sard_status *parse_suffix(parser *s, sd_node *n) { // {attributes} "name" #index
  if (sd_parse_eat(s, "{"))
    for (bool first = true; !sd_parse_eat(s, "}"); first = false) {
      if (!first) SD_TRY(sd_parse_need(s, ","));
      SD_TRY(parse_attr(s, n));
    }
  sd_parse_skip(s);
  if (*s->p == '"') SD_TRY(sd_parse_quoted(s, &n->name));
  if (sd_parse_eat(s, "#")) {
    int64_t i;
    SD_TRY(sd_parse_int(s, &i));
    if (i < 0 || i > INT32_MAX) return sd_parse_fail(s, "node index out of range");
    n->onnx_index = (int)i;
  }
  return NULL;
}

static sard_status *parse_graph(parser *s, sd_graph *g, int depth);

typedef struct type { sd_dtype dtype; int rank; sd_dim dims[SD_MAX_RANK]; const sd_otype *object; } type;

static sard_status *parse_types(parser *s, sd_node *n, type *types) {
  for (uint32_t i = 0; i < n->n_out; i++) {
    if (i) SD_TRY(sd_parse_need(s, ","));
    if (!n->out[i]) SD_TRY(sd_parse_need(s, "_"));
    else SD_TRY(parse_type(s, &types[i].dtype, &types[i].rank, types[i].dims, &types[i].object));
  }
  return NULL;
}

// Shape functions may add nodes (sard.Define): their values get ids that the text does not use.
static sard_status *infer_above(parser *s, sd_node *n) {
  uint32_t saved = s->m->next_id;
  s->m->next_id = s->inserted;
  sard_status *st = sd_node_infer(n);
  s->inserted = s->m->next_id;
  s->m->next_id = saved;
  return st;
}

static void find_ids(parser *s) {
  for (const char *p = strchr(s->text, '%'); p; p = strchr(p + 1, '%')) {
    unsigned long id = isdigit((unsigned char)p[1]) ? strtoul(p + 1, NULL, 10) : 0;
    if (id < UINT32_MAX / 2 && id >= s->above) s->above = (uint32_t)id + 1;
  }
  s->inserted = s->above;
}

// Inference recomputes the symbolic contents; the types that the text gives win over it.
static sard_status *infer(parser *s, sd_node *n, const type *types) {
  sard_status *st = infer_above(s, n);
  if (st && !types) {
    int line, column;
    position(s, &line, &column);
    return sd_status_context(st, "%s:%d:%d", s->file, line, column);
  }
  if (!types) return NULL;
  sard_status_free(st); // the verifier judges the types that were given
  for (uint32_t i = 0; i < n->n_out; i++)
    if (n->out[i]) sd_value_set_type(n->out[i], types[i].dtype, types[i].rank, types[i].dims);
  return NULL;
}

static sard_status *unknown_op(parser *s, const char *name) {
  const char *near = sd_op_nearest(name);
  sard_status *st = fail_before(s, name, "unknown operator");
  return near ? sd_status_field(st, SARD_TEXT_HINT, "did you mean '%s'?", near) : st;
}

static sard_status *parse_node(parser *s, sd_graph *g, const def *defs, uint32_t n_out, int depth) {
  const char *name;
  operands in = {0};
  SD_TRY(sd_parse_word(s, &name));
  const sd_op *op = sd_op_find(name);
  if (!op) return unknown_op(s, name);
  SD_TRY(parse_operands(s, &in));
  sd_node *n = sd_node_new(g, NULL, op, in.at, in.len, n_out);
  SD_TRY(parse_suffix(s, n));
  for (uint32_t i = 0; i < n_out; i++) {
    if (defs[i].omitted) n->out[i] = NULL;
    else if (id_find(s, defs[i].id)) return sd_parse_fail(s, "a value number is defined twice");
    else define(s, n->out[i], &defs[i]);
  }
  type *types = NULL;
  if (sd_parse_eat(s, ":")) {
    types = SD_NEW_ARRAY(s->m->arena, type, n_out);
    SD_TRY(parse_types(s, n, types));
  }
  while (sd_parse_eat(s, "body")) {
    SD_TRY(sd_parse_quoted(s, &name));
    if (depth >= SD_MAX_DEPTH) return sd_parse_fail(s, "bodies are nested too deeply");
    SD_TRY(parse_graph(s, sd_node_add_body(n, name), depth + 1));
  }
  return infer(s, n, types);
}

static sard_status *parse_const(parser *s, sd_graph *g, const def *d) {
  sd_dtype t;
  int rank;
  int64_t dims[SD_MAX_RANK];
  SD_TRY(parse_dtype(s, &t));
  SD_TRY(parse_const_dims(s, &rank, dims));
  sd_value *v = sd_value_const(g, d->name, t, rank, dims, NULL);
  if (!v) return sd_parse_fail(s, "bad constant type");
  SD_TRY(sd_parse_content(s, (sd_const *)v->data));
  define(s, v, d);
  return NULL;
}

// Memory that only holds other values: they name it as their storage.
static sard_status *parse_buffer(parser *s, sd_graph *g, const def *d) {
  sd_dtype t;
  int rank;
  sd_dim dims[SD_MAX_RANK];
  const sd_otype *object;
  SD_TRY(parse_type(s, &t, &rank, dims, &object));
  sd_value *v = sd_value_new(g, d->name);
  sd_value_set_type(v, t, rank, dims);
  v->object = object;
  define(s, v, d);
  return NULL;
}

static sard_status *parse_statement(parser *s, sd_graph *g, int depth) {
  SD_VEC(def) defs = {0};
  sd_parse_skip(s);
  if (*s->p == '%' || (*s->p == '_' && !isalnum((unsigned char)s->p[1]))) {
    do {
      def d = {.name = ""};
      if (sd_parse_eat(s, "_")) d.omitted = true;
      else SD_TRY(parse_def(s, &d));
      sd_vec_push(s->m->arena, &defs, d);
    } while (sd_parse_eat(s, ","));
    SD_TRY(sd_parse_need(s, "="));
    bool buffer = sd_parse_eat(s, "buffer");
    if (buffer || sd_parse_eat(s, "const")) {
      if (defs.len != 1 || defs.at[0].omitted) return sd_parse_fail(s, "a constant or buffer is one value");
      return buffer ? parse_buffer(s, g, &defs.at[0]) : parse_const(s, g, &defs.at[0]);
    }
  }
  return parse_node(s, g, defs.at, defs.len, depth);
}

static sard_status *parse_inputs(parser *s, sd_graph *g) {
  SD_TRY(sd_parse_need(s, "("));
  for (bool first = true; !sd_parse_eat(s, ")"); first = false) {
    def d;
    type t;
    if (!first) SD_TRY(sd_parse_need(s, ","));
    sd_value *bound = NULL; // contents known from an operand of the owner
    SD_TRY(parse_def(s, &d));
    if (sd_parse_eat(s, "=")) SD_TRY(parse_ref(s, &bound));
    SD_TRY(sd_parse_need(s, ":"));
    SD_TRY(parse_type(s, &t.dtype, &t.rank, t.dims, &t.object));
    sd_value *v = sd_graph_input(g, d.name, t.dtype, t.rank, t.dims);
    v->object = t.object;
    define(s, v, &d);
    if (!bound) continue;
    if (!g->owner) return sd_parse_fail(s, "only inputs of bodies can be bound");
    v->data = bound->data; // the verifier compares the types
    v->elems = bound->elems;
    v->n_elems = bound->n_elems;
  }
  return NULL;
}

static sard_status *parse_graph(parser *s, sd_graph *g, int depth) {
  SD_TRY(parse_inputs(s, g));
  SD_TRY(sd_parse_need(s, "{"));
  while (!sd_parse_eat(s, "return")) SD_TRY(parse_statement(s, g, depth));
  for (bool first = true; !sd_parse_eat(s, "}"); first = false) {
    sd_value *v;
    if (!first) SD_TRY(sd_parse_need(s, ","));
    SD_TRY(parse_ref(s, &v));
    if (!v) return sd_parse_fail(s, "an output cannot be omitted");
    sd_graph_output(g, v);
  }
  return NULL;
}

// ---- module ----

static sard_status *parse_symbol(parser *s) {
  int64_t min, max;
  sd_parse_skip(s);
  sd_dim d = sd_dim_parse(s->m->dims, &s->p);
  if (!d || sd_dim_get(s->m->dims, d)->op != SD_DIM_SYM) return sd_parse_fail(s, "expected a symbol name");
  if (!sd_parse_eat(s, "in")) return NULL;
  SD_TRY(sd_parse_need(s, "["));
  SD_TRY(sd_parse_int(s, &min));
  SD_TRY(sd_parse_need(s, ","));
  SD_TRY(sd_parse_int(s, &max));
  SD_TRY(sd_parse_need(s, "]"));
  if (min < 0 || min > max) return sd_parse_fail(s, "empty or negative range before");
  sd_dim_set_range(s->m->dims, d, min, max);
  return NULL;
}

static sard_status *parse_meta(parser *s) {
  sd_meta e;
  SD_TRY(sd_parse_quoted(s, &e.key));
  SD_TRY(sd_parse_need(s, "="));
  SD_TRY(sd_parse_quoted(s, &e.value));
  sd_vec_push(s->m->arena, &s->m->metadata, e);
  return NULL;
}

static sard_status *parse_header(parser *s) {
  SD_TRY(sd_parse_need(s, "module"));
  for (;;) {
    if (sd_parse_eat(s, "ir")) {
      SD_TRY(sd_parse_need(s, "="));
      SD_TRY(sd_parse_int(s, &s->m->ir_version));
    } else if (sd_parse_eat(s, "opset")) {
      SD_TRY(sd_parse_need(s, "="));
      SD_TRY(sd_parse_int(s, &s->m->opset));
    } else if (sd_parse_eat(s, "producer")) {
      SD_TRY(sd_parse_need(s, "="));
      SD_TRY(sd_parse_quoted(s, &s->m->producer));
    } else if (sd_parse_eat(s, "meta")) SD_TRY(parse_meta(s));
    else if (sd_parse_eat(s, "symbol")) SD_TRY(parse_symbol(s));
    else return NULL;
  }
}

static sard_status *parse_storage(parser *s) {
  for (uint32_t i = 0; i < s->fixups.len; i++) {
    sd_value *to = id_find(s, s->fixups.at[i].id);
    if (!to) return sd_parse_fail(s, "storage in a value that is not defined");
    sd_value *v = s->fixups.at[i].v;
    if (v->window && (to->rank < 0 || (uint32_t)to->rank != s->fixups.at[i].n_window))
      return sd_parse_fail(s, "a window position has another rank than its storage");
    v->storage = to;
  }
  return NULL;
}

static sard_status *parse_module(parser *s) {
  find_ids(s);
  SD_TRY(parse_header(s));
  SD_TRY(sd_parse_need(s, "graph"));
  SD_TRY(sd_parse_quoted(s, &s->m->main->name));
  SD_TRY(parse_graph(s, s->m->main, 0));
  sd_parse_skip(s);
  if (*s->p) return sd_parse_fail(s, "text after the end");
  SD_TRY(parse_storage(s));
  s->m->next_id = s->inserted > s->above ? s->inserted : s->next_id;
  return NULL;
}

sard_status *sd_module_parse(const char *text, const char *file, sd_module **out) {
  jmp_buf oom;
  sd_module *m;
  *out = NULL;
  SD_TRY(sd_module_new(file, &m));
  sd_arena_set_oom(m->arena, &oom);
  if (setjmp(oom)) {
    sd_module_free(m);
    return SD_ERR(NOMEM, "out of memory while parsing %s", file);
  }
  parser s = {.text = text, .p = text, .end = text + strlen(text), .file = file, .m = m};
  sard_status *st = parse_module(&s);
  if (st) {
    sd_module_free(m);
    return st;
  }
  sd_arena_set_oom(m->arena, NULL);
  *out = m;
  return NULL;
}
