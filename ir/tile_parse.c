// Parser of kernel text (see tile_print.c for the format). Expressions are taken as they are written, without
// simplification, so that printing gives the same text again.
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ir/tile_priv.h"
#include "runtime/base/status.h"

#define MAX_NESTED 100
#define MAX_NAMED  (1u << 18)
#define MAX_LIST   48

typedef struct parser {
  sd_kernel *k;
  const char *text, *at;
  sard_status *error;
  SD_VEC(sd_axis *) axes; // by number in the text
  SD_VEC(sd_expr *) lets;
  int depth;
} parser;

static bool fail(parser *p, const char *what) {
  if (p->error) return false;
  int line = 1;
  for (const char *c = p->text; c < p->at; c++) line += *c == '\n';
  char near[24];
  size_t n = 0;
  while (n < sizeof near - 1 && p->at[n] && p->at[n] != '\n') n++;
  memcpy(near, p->at, n);
  near[n] = 0;
  p->error = SD_ERR(MODEL, "kernel text line %d: %s at '%s'", line, what, near);
  return false;
}

static void skip(parser *p) {
  for (;; p->at++) {
    if (*p->at == '#') { // "//" is the floor division
      while (*p->at && *p->at != '\n') p->at++;
    }
    if (!*p->at || !isspace((unsigned char)*p->at)) return;
  }
}

static bool word_char(char c) { return isalnum((unsigned char)c) || c == '_'; }

// Takes the text when it comes next; words only as whole words.
static bool take(parser *p, const char *text) {
  skip(p);
  size_t n = strlen(text);
  if (strncmp(p->at, text, n) || (word_char(text[n - 1]) && word_char(p->at[n]))) return false;
  p->at += n;
  return true;
}
static bool need(parser *p, const char *text) {
  char what[48] = "expected '";
  if (take(p, text)) return true;
  strncat(what, text, 30);
  strcat(what, "'");
  return fail(p, what);
}

// A letter and a number such as a12.
static bool take_ref(parser *p, char letter, uint32_t *out) {
  skip(p);
  if (*p->at != letter || !isdigit((unsigned char)p->at[1])) return false;
  char *end;
  unsigned long long v = strtoull(p->at + 1, &end, 10);
  if (word_char(*end) || v > UINT32_MAX) return false;
  p->at = end;
  *out = (uint32_t)v;
  return true;
}

static bool take_int(parser *p, int64_t *out) {
  skip(p);
  const char *s = p->at + (*p->at == '-');
  if (!isdigit((unsigned char)*s)) return false;
  char *end;
  *out = strtoll(p->at, &end, 10);
  p->at = end;
  return true;
}

static bool need_dim(parser *p, sd_dim *out) {
  skip(p);
  *out = sd_dim_parse(p->k->dims, &p->at);
  return *out != SD_DIM_NONE || fail(p, "expected a dim");
}

static bool take_dtype(parser *p, sd_dtype *out) {
  char name[16];
  size_t n = 0;
  skip(p);
  while (n < sizeof name - 1 && word_char(p->at[n])) n++;
  memcpy(name, p->at, n);
  name[n] = 0;
  *out = n ? sd_dtype_parse(name) : SD_DT_NONE;
  if (*out == SD_DT_NONE) return false;
  p->at += n;
  return true;
}

static bool need_axis(parser *p, sd_axis **out) {
  uint32_t i;
  if (!take_ref(p, 'a', &i) || i >= p->axes.len) return fail(p, "expected an axis that is declared");
  *out = p->axes.at[i];
  return true;
}

static bool need_buf(parser *p, sd_buf **out) {
  uint32_t i;
  if (!take_ref(p, 'b', &i) || i >= p->k->bufs.len) return fail(p, "expected a buffer that is declared");
  *out = p->k->bufs.at[i];
  return true;
}

// ---- expressions ----
static sd_expr *expr(parser *p);

static sd_expr *affine(parser *p) {
  sd_expr *a[MAX_LIST];
  sd_dim c[MAX_LIST], d;
  uint32_t n = 0;
  for (;;) {
    if (!need(p, "(") || !need_dim(p, &d) || !need(p, ")")) return NULL;
    if (take(p, "}")) break;
    if (n == MAX_LIST) { fail(p, "too many terms"); return NULL; }
    sd_expr *e = expr(p);
    if (!e || !need(p, "+")) return NULL;
    uint32_t i = n++;
    for (; i > 0 && sd_tile_atom_before(e, a[i - 1]); i--) a[i] = a[i - 1], c[i] = c[i - 1];
    a[i] = e;
    c[i] = d;
  }
  sd_expr proto = {.op = SD_X_AFFINE, .dtype = SD_I64, .n = n, .a = a, .coef = c, .dim = d};
  return sd_tile_intern(p->k, &proto);
}

static sd_expr *load(parser *p) {
  sd_buf *b;
  sd_expr *a[2] = {NULL, NULL};
  if (!need_buf(p, &b) || !need(p, "[") || !(a[0] = expr(p))) return NULL;
  if (take(p, "|") && !(a[1] = expr(p))) return NULL;
  if (!need(p, "]")) return NULL;
  sd_expr proto = {.op = SD_X_LOAD, .dtype = sd_compute_type(b->dtype), .n = 2, .a = a, .buf = b};
  return sd_tile_intern(p->k, &proto);
}

static sd_expr *constant(parser *p, sd_dtype t) {
  skip(p);
  sd_expr proto = {.op = SD_X_CONST, .dtype = t};
  if (sd_compute_type(t) != t || t == SD_I64) { fail(p, "a constant of no compute type"); return NULL; }
  if (sd_dtype_is_float(t)) {
    char *end;
    proto.f = strtod(p->at, &end);
    if (end == p->at) { fail(p, "expected a number"); return NULL; }
    p->at = end;
    if (t == SD_F32) proto.f = (float)proto.f;
  } else {
    if (!take_int(p, &proto.i)) { fail(p, "expected an integer"); return NULL; }
    proto.i = sd_scalar_wrap(t, proto.i);
  }
  return sd_tile_intern(p->k, &proto);
}

static sd_expr *reduce(parser *p, sd_rop r) {
  sd_axis *axes[SD_MAX_AXES];
  uint32_t n = 0;
  if (!need(p, "(")) return NULL;
  while (!take(p, ":")) {
    if (n == SD_MAX_AXES) { fail(p, "too many axes"); return NULL; }
    if (!need_axis(p, &axes[n++])) return NULL;
  }
  sd_expr *body = expr(p);
  if (!body || !need(p, ")")) return NULL;
  sd_expr proto = {.op = SD_X_REDUCE, .dtype = body->dtype, .n = 1, .a = &body, .rop = r, .n_axes = n, .axes = axes};
  return sd_tile_intern(p->k, &proto);
}

static sd_dtype result_type(sd_xop op, const sd_expr *x, sd_expr *const *a) {
  switch (op) {
  case SD_X_EQ: case SD_X_NE: case SD_X_LT: case SD_X_LE: case SD_X_ISNAN: case SD_X_ISINF: return SD_BOOL;
  case SD_X_SEL: return a[1]->dtype;
  case SD_X_INDEX: return SD_I64;
  default: return x->dtype;
  }
}

static sd_expr *call(parser *p, sd_xop op) {
  sd_expr *a[3];
  sd_dtype t = SD_DT_NONE;
  int n = sd_xop_arity(op);
  if ((op == SD_X_CAST || op == SD_X_BITS) && (!need(p, ".") || !take_dtype(p, &t))) {
    fail(p, "expected a type");
    return NULL;
  }
  if (!need(p, "(")) return NULL;
  for (int i = 0; i < n; i++) {
    if ((i && !need(p, ",")) || !(a[i] = expr(p))) return NULL;
  }
  if (!need(p, ")")) return NULL;
  return sd_tile_raw(p->k, op, t ? t : result_type(op, a[0], a), a, (uint32_t)n);
}

static bool infix(sd_xop op) {
  char c = sd_xop_text(op)[0];
  return sd_xop_arity(op) == 2 && !(c >= 'a' && c <= 'z');
}

static sd_expr *binary(parser *p) {
  sd_expr *a[2] = {expr(p), NULL};
  if (!a[0]) return NULL;
  skip(p);
  size_t n = 0;
  while (p->at[n] && strchr("+-*/%&|^<>=!", p->at[n])) n++;
  for (int op = 0; op < SD_X_COUNT; op++) {
    if (!infix(op) || strlen(sd_xop_text(op)) != n || strncmp(p->at, sd_xop_text(op), n)) continue;
    p->at += n;
    if (!(a[1] = expr(p)) || !need(p, ")")) return NULL;
    return sd_tile_raw(p->k, op, result_type(op, a[0], a), a, 2);
  }
  fail(p, "expected an operator");
  return NULL;
}

static sd_expr *named(parser *p) {
  for (int r = SD_R_SUM; r <= SD_R_MIN; r++) { // max( and min( are also operations: those have no axis list
    const char *save = p->at;
    uint32_t i;
    if (!take(p, sd_rop_text(r))) continue;
    const char *after = p->at;
    if (r < SD_R_MAX || (take(p, "(") && take_ref(p, 'a', &i) && (take_ref(p, 'a', &i) || take(p, ":")))) {
      p->at = after;
      return reduce(p, r);
    }
    p->at = save;
  }
  for (int op = 0; op < SD_X_COUNT; op++) {
    if (sd_xop_arity(op) && !infix(op) && take(p, sd_xop_text(op))) return call(p, op);
  }
  fail(p, "expected an expression");
  return NULL;
}

static sd_expr *primary(parser *p) {
  uint32_t i;
  int64_t v;
  sd_dtype t;
  skip(p);
  if (take(p, "{")) return affine(p);
  if (take(p, "(")) return binary(p);
  if (take_int(p, &v)) return sd_x_dim(p->k, sd_dim_const(p->k->dims, v));
  if (take_ref(p, 't', &i)) {
    if (i < p->lets.len) return p->lets.at[i];
    fail(p, "a name that is not defined before");
    return NULL;
  }
  if (*p->at == 'a' && isdigit((unsigned char)p->at[1])) {
    sd_axis *a;
    return need_axis(p, &a) ? sd_x_axis(p->k, a) : NULL;
  }
  if (*p->at == 'b' && isdigit((unsigned char)p->at[1])) return load(p);
  const char *save = p->at;
  if (take_dtype(p, &t) && take(p, ":")) return constant(p, t);
  p->at = save;
  return named(p);
}

static sd_expr *expr(parser *p) {
  if (p->error) return NULL;
  if (p->depth >= MAX_NESTED) { fail(p, "too deeply nested"); return NULL; }
  if (p->k->n_expr >= MAX_NAMED) { fail(p, "too many expressions"); return NULL; }
  p->depth++;
  sd_expr *e = primary(p);
  p->depth--;
  return e;
}

// ---- lines ----
static char *quoted(parser *p) {
  skip(p);
  if (*p->at != '"') { fail(p, "expected a quoted name"); return NULL; }
  const char *c = p->at + 1, *start = c;
  while (*c && *c != '"' && *c != '\n') c += *c == '\\' && c[1] ? 2 : 1;
  if (*c != '"') { fail(p, "an unfinished name"); return NULL; }
  char *out = sd_arena_alloc(p->k->arena, (size_t)(c - start) + 1), *o = out;
  for (const char *i = start; i < c; i++) {
    unsigned code;
    if (*i != '\\') { *o++ = *i; continue; }
    i++;
    if (*i == 'u' && c - i > 4 && sscanf(i + 1, "%4x", &code) == 1) { *o++ = code < 128 &&
        code ? (char)code : '?'; i += 4; }
    else *o++ = *i == 'n' ? '\n' : *i == 't' ? '\t' : *i == 'r' ? '\r' : *i == 'b' ? '\b' : *i == 'f' ? '\f' : *i;
  }
  p->at = c + 1;
  return out;
}

static bool axis_line(parser *p) {
  uint32_t no;
  int64_t v;
  sd_dim extent;
  const char *name = "";
  if (!take_ref(p, 'a', &no) || no != p->axes.len || no >= 1024) return fail(p, "expected the next axis number");
  skip(p);
  if (*p->at == '"' && !(name = quoted(p))) return false;
  if (!need(p, "(") || !need_dim(p, &extent) || !need(p, ")")) return false;
  sd_axis *a = sd_kernel_axis(p->k, name, extent);
  for (;;) {
    bool block = take(p, "block"), vec = !block && take(p, "vec"), unroll = !block && !vec && take(p, "unroll");
    if (!block && !vec && !unroll) break;
    if (!take_int(p, &v) || v < 0 || (!block && v > SD_MAX_UNROLL)) return fail(p, "expected a number in range");
    if (block) a->block = v;
    if (vec) a->vec = (int32_t)v;
    if (unroll) a->unroll = (int32_t)v;
  }
  sd_vec_push(p->k->arena, &p->axes, a);
  return true;
}

static bool buf_line(parser *p, sd_bufkind kind) {
  uint32_t no;
  sd_dtype t;
  sd_dim count;
  if (!take_ref(p, 'b', &no) || no != p->k->bufs.len || no >= 4096) return fail(p, "expected the next buffer number");
  if (!take_dtype(p, &t) || t == SD_STRING || t == SD_OBJECT) return fail(p, "expected a type");
  if (!need(p, "[") || !need_dim(p, &count) || !need(p, "]")) return false;
  sd_buf *b = sd_kernel_buf(p->k, kind, t, count, NULL);
  b->invariant = take(p, "invariant");
  b->readwrite = take(p, "readwrite");
  return true;
}

static bool let_line(parser *p, uint32_t no) {
  if (no != p->lets.len) return fail(p, "expected the next name");
  if (!need(p, "=")) return false;
  sd_expr *e = expr(p);
  if (!e) return false;
  sd_vec_push(p->k->arena, &p->lets, e);
  return true;
}

static bool nest_line(parser *p, sd_items *into) {
  sd_nest *n = sd_kernel_nest(p->k, into);
  while (!take(p, "{")) {
    sd_axis *a;
    if (take(p, "sequential")) { n->sequential = true; continue; }
    if (n->n_axes == SD_MAX_AXES) return fail(p, "too many axes");
    if (!need_axis(p, &a)) return false;
    sd_nest_axis(n, a);
  }
  while (!take(p, "}")) {
    sd_store s = {0};
    if (!need_buf(p, &s.buf) || !need(p, "[") || !(s.offset = expr(p)) || !need(p, "]") || !need(p, "=")) return false;
    if (!(s.value = expr(p)) || (take(p, "if") && !(s.guard = expr(p)))) return false;
    sd_vec_push(p->k->arena, &n->stores, s);
  }
  return true;
}

static bool items(parser *p, sd_items *into, int depth) {
  while (!take(p, "}")) {
    sd_axis *a;
    if (take(p, "nest")) {
      if (!nest_line(p, into)) return false;
    } else if (take(p, "loop")) {
      if (depth >= SD_MAX_DEPTH) return fail(p, "too deeply nested");
      if (!need_axis(p, &a) || !need(p, "{") || !items(p, sd_kernel_loop(p->k, into, a), depth + 1)) return false;
    } else {
      return fail(p, "expected 'nest' or 'loop'");
    }
  }
  return true;
}

static bool header(parser *p) {
  uint32_t no;
  sd_axis *a;
  for (;;) {
    if (take(p, "axis")) { if (!axis_line(p)) return false; }
    else if (take(p, "in")) { if (!buf_line(p, SD_BUF_IN)) return false; }
    else if (take(p, "out")) { if (!buf_line(p, SD_BUF_OUT)) return false; }
    else if (take(p, "local")) { if (!buf_line(p, SD_BUF_LOCAL)) return false; }
    else if (take_ref(p, 't', &no)) { if (!let_line(p, no)) return false; }
    else if (take(p, "limit")) {
      if (!need_axis(p, &a) || !need(p, "=") || !(a->limit = expr(p))) return false;
    } else if (take(p, "grid")) {
      skip(p);
      while (*p->at == 'a') {
        if (!need_axis(p, &a) || p->k->grid.len >= SD_MAX_AXES) return fail(p, "bad grid");
        sd_vec_push(p->k->arena, &p->k->grid, a);
        skip(p);
      }
    } else return true;
  }
}

sard_status *sd_kernel_parse(sd_arena *a, sd_dimtab *t, const char *text, sd_kernel **out) {
  parser p = {.text = text, .at = text};
  *out = NULL;
  p.k = sd_kernel_new(a, t, "");
  if (!need(&p, "kernel")) return p.error;
  const char *name = quoted(&p);
  if (name) p.k->name = name;
  if (name && need(&p, "{") && header(&p) && items(&p, &p.k->items, 0)) {
    skip(&p);
    if (*p.at) fail(&p, "text after the kernel");
  }
  if (p.error) return p.error;
  sard_status *st = sd_kernel_verify(p.k);
  if (st) return sd_status_context(st, "kernel text");
  *out = p.k;
  return NULL;
}
