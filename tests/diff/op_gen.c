// The language of op_gen.def: sizes, operands and attributes of a random node.
#include "tests/diff/op_gen.h"

#include <ctype.h>
#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/alloc.h"

typedef struct spec { const char *op, *text; } spec;
static const spec specs[] = {
#define GEN(name, text) {name, text},
#include "tests/diff/op_gen.def"
#undef GEN
};
enum { N_SPECS = sizeof specs / sizeof *specs };

// A number, and the size that it is where it may be symbolic.
typedef struct num { double v; sd_dim d; } num;
typedef struct let { char name[12]; num v; sd_dtype type; } let; // type: a let that names an element type

typedef struct gen {
  op_case *c;
  uint64_t r;          // state of the random numbers
  sd_arena *arena;
  sd_dimtab *dims;
  const char *p;       // what is read
  let lets[40];
  int n_lets;
  num shape[8];        // the shape @
  int rank;            // -1: not drawn yet
  num symbol;          // value and dim of the symbolic size, d 0 when there is none (any more)
  sd_dtype cls, second; // types of classes: T and the first open one; U
  sd_str args, attrs;
  uint32_t n_args;
  const char *wrong;
  jmp_buf fail;
} gen;

uint64_t op_random(uint64_t *state, uint64_t below) {
  *state += 0x9e3779b97f4a7c15ull;
  uint64_t z = (*state ^ *state >> 30) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ z >> 27) * 0x94d049bb133111ebull;
  return below ? (z ^ z >> 31) % below : 0;
}
static int64_t between(gen *g, int64_t lo, int64_t hi) { return hi <= lo ? lo : lo + (int64_t)op_random(&g->r, (uint64_t)(hi - lo) + 1); }
static bool chance(gen *g, int percent) { return op_random(&g->r, 100) < (uint64_t)percent; }

_Noreturn static void bad(gen *g, const char *what) {
  g->wrong = sd_arena_printf(g->arena, "%s at \"%.30s\"", what, g->p);
  longjmp(g->fail, 1);
}

static void skip(gen *g) { while (*g->p == ' ') g->p++; }
static bool eat(gen *g, const char *token) {
  size_t n = strlen(token);
  skip(g);
  if (strncmp(g->p, token, n)) return false;
  g->p += n;
  return true;
}
static void need(gen *g, const char *token) { if (!eat(g, token)) bad(g, token); }
static const char *word(gen *g) {
  const char *b = g->p;
  while (isalnum((unsigned char)*g->p) || *g->p == '_') g->p++;
  if (b == g->p) bad(g, "a name is missing");
  return sd_arena_strndup(g->arena, b, (size_t)(g->p - b));
}

// ---- numbers ----

static num number(gen *g, double v) { return (num){v, sd_dim_const(g->dims, (int64_t)v)}; }

// A size: 0 and 1 among them. The first that may be is the symbolic one.
static num size(gen *g, bool symbolic) {
  static const uint8_t odd[] = {0, 1, 1, 1, 2, 2, 2, 3, 3, 4, 4, 5, 5, 6, 7, 7};
  if (symbolic && g->symbol.d && chance(g, 60)) {
    num v = g->symbol;
    g->symbol.d = 0;
    return v;
  }
  return number(g, odd[op_random(&g->r, sizeof odd)]);
}

static void draw_shape(gen *g) {
  let *r = NULL;
  if (g->rank >= 0) return;
  for (int i = 0; i < g->n_lets; i++)
    if (!strcmp(g->lets[i].name, "r")) r = &g->lets[i];
  g->rank = r ? (int)r->v.v : (int)between(g, 0, 5);
  if (g->rank > 6) bad(g, "r is more than 6");
  for (int i = 0; i < g->rank; i++) g->shape[i] = size(g, true);
  if (!r) g->lets[g->n_lets++] = (let){"r", number(g, g->rank), SD_DT_NONE};
}

static let *find(gen *g, const char *name) {
  if (!strcmp(name, "r")) draw_shape(g);
  for (int i = 0; i < g->n_lets; i++)
    if (!strcmp(g->lets[i].name, name)) return &g->lets[i];
  return NULL;
}

static let *declare(gen *g, const char *name, num v, sd_dtype type) {
  if (g->n_lets == 40 || strlen(name) > 11) bad(g, "too many lets, or a long name");
  let *l = &g->lets[g->n_lets++];
  *l = (let){.v = v, .type = type};
  strcpy(l->name, name);
  return l;
}

static num expression(gen *g);

static num call(gen *g, const char *f) {
  num a[3];
  int n = 0;
  for (need(g, "("); !eat(g, ")"); n++) {
    if (n == 3) bad(g, "too many arguments");
    if (n) need(g, ",");
    a[n] = expression(g);
  }
  if (n == 1 && !strcmp(f, "d")) { // a dim of @
    draw_shape(g);
    return a[0].v >= 0 && a[0].v < g->rank ? g->shape[(int)a[0].v] : number(g, 1);
  }
  if (n == 2 && !strcmp(f, "rnd")) return number(g, (double)between(g, (int64_t)a[0].v, (int64_t)a[1].v));
  if (n == 2 && !strcmp(f, "neg")) return chance(g, 30) ? number(g, a[0].v - a[1].v) : a[0]; // an axis, from either end
  if (n == 2 && !strcmp(f, "min")) return number(g, fmin(a[0].v, a[1].v));
  if (n == 2 && !strcmp(f, "max")) return number(g, fmax(a[0].v, a[1].v));
  if (n == 1 && !strcmp(f, "count")) { // elements of @
    draw_shape(g);
    double p = 1;
    for (int i = 0; i < g->rank; i++) p *= g->shape[i].v;
    return number(g, p);
  }
  bad(g, "no such function before");
}

static num factor(gen *g) {
  skip(g);
  if (eat(g, "-")) {
    num x = factor(g);
    return (num){-x.v, sd_dim_sub(g->dims, sd_dim_const(g->dims, 0), x.d)};
  }
  if (eat(g, "(")) {
    num x = expression(g);
    need(g, ")");
    return x;
  }
  if (isdigit((unsigned char)*g->p)) {
    char *end;
    double v = strtod(g->p, &end);
    if (end[-1] == '.') end--, v = floor(v); // "1..3"
    g->p = end;
    return number(g, v);
  }
  const char *name = word(g);
  if (*g->p == '(') return call(g, name);
  let *l = find(g, name);
  if (!l) l = declare(g, name, size(g, strchr("nbst", *name) && !name[1]), SD_DT_NONE);
  return l->v;
}

static num term(gen *g) {
  num x = factor(g);
  for (;;) {
    if (eat(g, "*")) {
      num y = factor(g);
      x = (num){x.v * y.v, sd_dim_mul(g->dims, x.d, y.d)};
    } else if (eat(g, "/")) {
      num y = factor(g);
      x = (num){floor(x.v / y.v), sd_dim_floordiv(g->dims, x.d, y.d)};
    } else if (eat(g, "%")) {
      num y = factor(g);
      x = number(g, y.v ? (double)((int64_t)x.v % (int64_t)y.v) : 0);
    } else return x;
  }
}

static num expression(gen *g) {
  num x = term(g);
  for (;;) {
    skip(g);
    bool plus = *g->p == '+', minus = *g->p == '-';
    if (!plus && !minus) return x;
    g->p++;
    num y = term(g);
    x = plus ? (num){x.v + y.v, sd_dim_add(g->dims, x.d, y.d)} : (num){x.v - y.v, sd_dim_sub(g->dims, x.d, y.d)};
  }
}

// "a..b": one between; "a|b|c": one of them.
static num choice(gen *g) {
  num x = expression(g);
  if (eat(g, "..")) {
    num y = expression(g);
    return number(g, (double)between(g, (int64_t)x.v, (int64_t)y.v));
  }
  for (int n = 2; eat(g, "|"); n++) {
    num y = expression(g);
    if (op_random(&g->r, (uint64_t)n) == 0) x = y;
  }
  return x;
}

static sd_dtype type_choice(gen *g) {
  sd_dtype t = SD_DT_NONE;
  for (int n = 1; n == 1 || eat(g, "|"); n++) {
    const char *w = word(g);
    let *l = find(g, w);
    sd_dtype x = l && l->type ? l->type : sd_dtype_parse(w);
    if (!x) bad(g, "no element type before");
    if (op_random(&g->r, (uint64_t)n) == 0) t = x;
  }
  return t;
}

static void read_lets(gen *g) {
  while (!eat(g, ";")) {
    skip(g);
    const char *name = word(g);
    need(g, "=");
    const char *at = g->p;
    skip(g);
    sd_dtype first = isalpha((unsigned char)*g->p) ? sd_dtype_parse(word(g)) : SD_DT_NONE;
    g->p = at;
    if (first) declare(g, name, number(g, 0), type_choice(g));
    else declare(g, name, choice(g), SD_DT_NONE);
  }
}

// ---- lists ----

typedef struct list { num at[64]; int n; } list;
static void push(gen *g, list *l, num v) {
  if (l->n == 64) bad(g, "a list is too long");
  l->at[l->n++] = v;
}

static void shuffle(gen *g, list *l) {
  for (int i = l->n - 1; i > 0; i--) {
    int k = (int)between(g, 0, i);
    num t = l->at[i];
    l->at[i] = l->at[k], l->at[k] = t;
  }
}

// A shape with as many elements as @: neighbours merged, a dim split, perhaps -1 or 0 for one.
static void reshaped(gen *g, list *l) {
  draw_shape(g);
  for (int i = 0; i < g->rank; i++) {
    double v = g->shape[i].v;
    if (l->n && chance(g, 40)) l->at[l->n - 1] = number(g, l->at[l->n - 1].v * v);
    else if (v == 4 || v == 6) push(g, l, number(g, 2)), push(g, l, number(g, v / 2));
    else push(g, l, g->shape[i]);
  }
  if (chance(g, 20)) push(g, l, number(g, 1));
  double known = 1;
  int at = l->n ? (int)between(g, 0, l->n - 1) : -1;
  for (int i = 0; i < l->n; i++) known *= i == at ? 1 : l->at[i].v;
  if (at >= 0 && known > 0 && chance(g, 50)) l->at[at] = number(g, -1);
}

// "axes(n)" some of n axes, from either end; "perm(n)"; "like" the dims of @; "wide" a shape that @ expands to; "reshape".
static bool named_list(gen *g, list *l) {
  const char *at = g->p;
  skip(g);
  if (!isalpha((unsigned char)*g->p)) return false;
  const char *f = word(g);
  if (!strcmp(f, "like") || !strcmp(f, "wide") || !strcmp(f, "reshape")) {
    draw_shape(g);
    if (*f == 'r') return reshaped(g, l), true;
    for (int i = 0; *f == 'w' && i < 1 && g->rank < 5 && chance(g, 40); i++) push(g, l, number(g, (double)between(g, 1, 3)));
    for (int i = 0; i < g->rank; i++) push(g, l, *f == 'w' && g->shape[i].v == 1 ? size(g, false) : *f == 'w' && chance(g, 30) ? number(g, 1) : g->shape[i]);
    return true;
  }
  bool axes = !strcmp(f, "axes"), perm = !strcmp(f, "perm");
  if (!axes && !perm) return g->p = at, false;
  need(g, "(");
  int n = (int)expression(g).v;
  need(g, ")");
  for (int i = 0; i < n; i++)
    if (perm || chance(g, 50)) push(g, l, number(g, axes && chance(g, 30) ? i - n : i));
  shuffle(g, l);
  return true;
}

// Items up to `end`: choices, "x^n" n of them each drawn again, and named lists.
static void read_list(gen *g, list *l, const char *end) {
  while (!eat(g, end)) {
    if (l->n) (void)eat(g, ",");
    if (named_list(g, l)) continue;
    const char *at = g->p;
    num v = choice(g);
    if (!eat(g, "^")) {
      push(g, l, v);
      continue;
    }
    int n = (int)factor(g).v;
    const char *after = g->p;
    for (int i = 0; i < n; i++) g->p = at, push(g, l, choice(g));
    g->p = after;
  }
}

// ---- operands ----

static void read_shape_part(gen *g, list *l) {
  draw_shape(g);
  if (eat(g, "<") || eat(g, ">")) { // the dims before, after an axis
    bool before = g->p[-1] == '<';
    int a = (int)factor(g).v;
    for (int i = before ? 0 : a + 1; i < (before ? a : g->rank); i++) push(g, l, g->shape[i]);
    return;
  }
  bool partner = eat(g, "~"), below = !partner && eat(g, "-");
  int first = partner && chance(g, 30) ? (int)between(g, 0, g->rank) : 0;
  for (int i = first; i < g->rank; i++)
    push(g, l, partner && chance(g, 25) ? number(g, 1) : below ? number(g, (double)between(g, 0, (int64_t)g->shape[i].v)) : g->shape[i]);
}

static void read_dims(gen *g, list *l) {
  for (need(g, "["); !eat(g, "]");) {
    if (l->n) (void)eat(g, ",");
    if (eat(g, "@")) read_shape_part(g, l);
    else push(g, l, choice(g));
  }
  if (l->n > SD_MAX_RANK) bad(g, "a rank is too large");
}

static void read_fill(gen *g, op_fill *f) {
  f->given = true;
  f->lo = f->hi = expression(g).v;
  if (eat(g, "..")) f->hi = expression(g).v;
  else
    for (f->list[f->n_list++] = f->lo; eat(g, "|");) {
      if (f->n_list == 8) bad(g, "more than 8 numbers");
      f->list[f->n_list++] = expression(g).v;
    }
  need(g, "}");
}

static void put_type(gen *g, sd_str *s, sd_dtype t, const list *dims, bool symbolic) {
  sd_strf(s, "%s[", sd_dtype_name(t));
  for (int i = 0; i < dims->n; i++) {
    if (i) sd_str_put(s, ",");
    if (symbolic) sd_dim_print(g->dims, dims->at[i].d, s);
    else sd_strf(s, "%lld", (long long)dims->at[i].v);
  }
  sd_str_put(s, "]");
}

static void put_const_list(gen *g, sd_dtype t, const list *l, bool scalar) {
  list dims = {.n = scalar ? 0 : 1, .at = {number(g, l->n)}};
  sd_strf(&g->c->body, "  %%%u = const ", g->c->next);
  put_type(g, &g->c->body, t, &dims, false);
  sd_str_put(&g->c->body, " dense<");
  for (int i = 0; i < l->n; i++) sd_strf(&g->c->body, sd_dtype_is_float(t) ? "%s%g" : "%s%.0f", i ? ", " : "", l->at[i].v);
  sd_str_put(&g->c->body, ">\n");
}

static void put_const_data(gen *g, const op_input *in, const list *dims) {
  uint64_t count = 1, bytes = 0;
  for (int i = 0; i < in->rank; i++) count *= (uint64_t)in->dims[i];
  if (count > 4096 || !sd_dtype_bytes(in->dtype, count, &bytes)) bad(g, "a constant is too large");
  uint8_t *data = sd_arena_aligned(g->arena, bytes + 64, 64);
  op_fill_data(in, count, data);
  sd_strf(&g->c->body, "  %%%u = const ", g->c->next);
  put_type(g, &g->c->body, in->dtype, dims, false);
  sd_str_put(&g->c->body, " hex<");
  for (uint64_t i = 0; i < bytes; i++) sd_strf(&g->c->body, "%02x", data[i]);
  sd_str_put(&g->c->body, ">\n");
}

static void put_tensor(gen *g, sd_dtype t, const list *dims, const op_fill *fill, bool constant) {
  op_case *c = g->c;
  op_input in = {.id = c->next, .dtype = t, .rank = dims->n, .fill = *fill, .seed = op_random(&g->r, UINT64_MAX)};
  for (int i = 0; i < dims->n; i++) in.dims[i] = (int64_t)dims->at[i].v;
  if (constant) return put_const_data(g, &in, dims);
  if (c->n_in == OP_MOST) bad(g, "too many operands");
  sd_strf(&c->inputs, "%s%%%u: ", c->n_in ? ", " : "", c->next);
  put_type(g, &c->inputs, t, dims, true);
  c->in[c->n_in++] = in;
}

static sd_dtype class_type(gen *g, const sd_operand *o) {
  switch (o ? o->cls : '*') {
  case 'L': return SD_I64;
  case 'B': return SD_BOOL;
  case 'I': return sd_dtype_is_int(g->cls) ? g->cls : SD_I64;
  case 'F': return sd_dtype_is_float(g->cls) ? g->cls : SD_F32;
  default: return g->cls;
  }
}

static bool is_symbolic(gen *g, const list *dims) {
  for (int i = 0; i < dims->n; i++)
    if (!sd_dim_is_const(g->dims, dims->at[i].d, NULL)) return true;
  return false;
}

// "type[dims]{content}"; "?" before: perhaps omitted; "_": omitted; "+": one to three of them; "=": a constant.
static void read_operand(gen *g, const sd_operand *o) {
  op_fill fill = {.special = chance(g, 15)};
  list dims = {0}, values = {0};
  bool constant = eat(g, "=") || chance(g, g->n_args ? 15 : 4), listed = false, scalar = false;
  sd_dtype t = isalpha((unsigned char)*g->p) ? type_choice(g) : class_type(g, o);
  if (*g->p == '[') read_dims(g, &dims);
  if (*g->p == '{') {
    scalar = *++g->p == '#';
    listed = scalar || *g->p == '=';
    g->p += listed;
    if (listed) read_list(g, &values, "}");
    else read_fill(g, &fill);
  }
  sd_strf(&g->args, "%s%%%u", g->n_args++ ? ", " : "", g->c->next);
  if (listed) put_const_list(g, t, &values, scalar);
  else put_tensor(g, t, &dims, &fill, constant && !is_symbolic(g, &dims));
  g->c->next++;
}

static void skip_operand(gen *g) { while (*g->p && *g->p != ' ' && *g->p != ';') g->p++; }

static void read_operands(gen *g) {
  const sd_op *op = g->c->op;
  uint32_t omitted = 0;
  for (uint32_t i = 0; !eat(g, ";"); i++) {
    const sd_operand *o = i < op->n_in ? &op->ins[i] : op->n_in ? &op->ins[op->n_in - 1] : NULL;
    bool maybe = eat(g, "?"), many = !maybe && eat(g, "+");
    if (eat(g, "_") || (maybe && chance(g, 40))) {
      skip_operand(g);
      omitted++;
      continue;
    }
    for (; omitted; omitted--) sd_strf(&g->args, "%s_", g->n_args++ ? ", " : "");
    const char *at = g->p;
    for (int64_t n = many ? between(g, 1, 3) : 1; n > 0; n--) g->p = at, read_operand(g, o);
  }
}

// ---- attributes ----

static const sd_attrdecl *attr_decl(gen *g, const char *name) {
  for (uint32_t i = 0; i < g->c->op->n_attr; i++)
    if (!strcmp(g->c->op->attrs[i].name, name)) return &g->c->op->attrs[i];
  bad(g, "no such attribute before");
}

// "a|b|c": one word of them, as it stands.
static void raw_choice(gen *g, sd_str *out, bool quote) {
  const char *pick = NULL;
  size_t len = 0;
  for (int n = 1; n == 1 || eat(g, "|"); n++) {
    size_t k = strcspn(g->p, "| ;");
    if (op_random(&g->r, (uint64_t)n) == 0) pick = g->p, len = k;
    g->p += k;
  }
  if (len > 1 && !quote && pick[0] == 'T' && pick[1] == '[') sd_str_put(out, sd_dtype_name(g->cls)), pick++, len--;
  sd_strf(out, quote ? "\"%.*s\"" : "%.*s", (int)len, pick);
}

static void read_attr(gen *g) {
  const char *name = word(g);
  bool maybe = eat(g, "?");
  need(g, "=");
  const sd_attrdecl *d = attr_decl(g, name);
  sd_str text = {0};
  list l = {0};
  switch (d->def.kind) {
  case SD_ATTR_INT: sd_strf(&text, "%.0f", choice(g).v); break;
  case SD_ATTR_INTS:
    for (int n = 1; n == 1 || eat(g, "|"); n++) { // "[..]|[..]": one of them
      list other = {0};
      need(g, "[");
      read_list(g, &other, "]");
      if (op_random(&g->r, (uint64_t)n) == 0) l = other;
    }
    sd_str_put(&text, "[");
    for (int i = 0; i < l.n; i++) sd_strf(&text, "%s%.0f", i ? "," : "", l.at[i].v);
    sd_str_put(&text, "]");
    break;
  case SD_ATTR_STRING: raw_choice(g, &text, true); break;
  default: raw_choice(g, &text, false); break;
  }
  if (!maybe || chance(g, 50)) sd_strf(&g->attrs, "%s%s=%s", g->attrs.len ? ", " : "", name, text.p ? text.p : "");
  sd_str_free(&text);
}

// ---- types ----

// Types that the first open class of the row allows. Float8, complex and packed ones only move, as a rule.
static int allowed_types(const sd_op *op, sd_dtype *out) {
  char cls = '*';
  int n = 0;
  for (uint32_t i = op->n_in; i-- > 0;)
    if (strchr("RNFI*V", op->ins[i].cls)) cls = op->ins[i].cls;
  for (int t = 1; t < SD_DT_COUNT; t++) {
    sd_dtype_kind k = sd_dtype_kind_of((sd_dtype)t);
    int bits = sd_dtype_bits((sd_dtype)t);
    bool moves = cls == '*' || cls == 'V', plain = k != SD_DK_C && bits >= (k == SD_DK_F ? 16 : 8);
    if (sd_dtype_of_tensors(t) && k != SD_DK_S && (plain || moves) && sd_op_class_has(cls, (sd_dtype)t)) out[n++] = (sd_dtype)t;
  }
  return n;
}

static void pick_type(gen *g) {
  sd_dtype t[SD_DT_COUNT];
  int n = allowed_types(g->c->op, t);
  let *named = NULL;
  for (int i = 0; i < g->n_lets; i++)
    if (!strcmp(g->lets[i].name, "T")) named = &g->lets[i];
  g->cls = named ? named->type : n && chance(g, 80) ? t[op_random(&g->r, (uint64_t)n)] : sd_op_class_has(g->c->op->n_in ? g->c->op->ins[0].cls : '*', SD_F32) ? SD_F32 : n ? t[0] : SD_F32;
  if (!named) declare(g, "T", number(g, 0), g->cls);
}

// ---- one case ----

// Rows whose classes say all: elementwise, with attributes that are numbers.
static bool plain(const sd_op *op) {
  if (op->kind != SD_MAP || !op->text) return false;
  for (uint32_t i = 0; i < op->n_attr; i++)
    if (op->attrs[i].required) return false;
  return true;
}

static const char *plain_text(gen *g) {
  sd_str s = {0};
  const sd_op *op = g->c->op;
  sd_str_put(&s, "; ");
  for (uint32_t i = 0; i < op->n_in; i++) {
    const sd_operand *o = &op->ins[i];
    sd_strf(&s, "%s%s ", o->variadic ? "+" : o->optional ? "?" : "", op->n_in == 1 ? "[@]" : "[@~]");
  }
  sd_str_put(&s, "; ");
  for (uint32_t i = 0; i < op->n_attr; i++)
    if (op->attrs[i].def.kind == SD_ATTR_FLOAT) sd_strf(&s, "%s?=0.5|1.25|-0.25|2 ", op->attrs[i].name);
    else if (op->attrs[i].def.kind == SD_ATTR_INT) sd_strf(&s, "%s?=0|1 ", op->attrs[i].name);
  return sd_arena_keep(g->arena, sd_str_take(&s));
}

static const char *pick_spec(gen *g) {
  const char *text = NULL;
  int n = 0;
  for (int i = 0; i < N_SPECS; i++)
    if (!strcmp(specs[i].op, g->c->op->name) && op_random(&g->r, (uint64_t)++n) == 0) text = specs[i].text;
  return text ? text : plain(g->c->op) ? plain_text(g) : NULL;
}

bool op_case_known(const sd_op *op) {
  for (int i = 0; i < N_SPECS; i++)
    if (!strcmp(specs[i].op, op->name)) return true;
  return plain(op);
}

static void put_node(gen *g) {
  op_case *c = g->c;
  let *outs = find(g, "outs");
  uint32_t n = outs ? (uint32_t)outs->v.v : c->op->n_out, given = 0;
  sd_str_put(&c->body, "  ");
  for (uint32_t i = 0; i < n; i++) {
    bool leave = i < c->op->n_out && c->op->outs[i].optional && chance(g, 40);
    if (!leave) c->out[c->n_out++] = c->next, given++;
    if (leave) sd_strf(&c->body, "%s_", i ? ", " : "");
    else sd_strf(&c->body, "%s%%%u", i ? ", " : "", c->next++);
  }
  if (!given) bad(g, "no output is wanted");
  sd_strf(&c->body, " = %s(%s)", c->op->name, g->args.p ? g->args.p : "");
  if (g->attrs.len) sd_strf(&c->body, " {%s}", g->attrs.p);
  sd_str_put(&c->body, "\n");
}

static void make(gen *g) {
  g->p = pick_spec(g);
  if (!g->p) g->p = "", bad(g, "the row has no generator");
  read_lets(g);
  pick_type(g);
  read_operands(g);
  for (skip(g); *g->p; skip(g)) read_attr(g);
  put_node(g);
}

const char *op_case_make(op_case *c, const sd_op *op, uint64_t seed, uint32_t first) {
  static const uint8_t values[] = {0, 1, 2, 3, 3, 5, 7};
  static char wrong[200];
  gen *volatile g = sd_calloc(1, sizeof *g);
  if (!g) return "no memory";
  *c = (op_case){.op = op, .seed = seed, .next = first};
  *g = (gen){.c = c, .r = seed, .rank = -1, .arena = sd_arena_new(), .p = ""};
  *wrong = 0;
  g->dims = sd_dimtab_new(g->arena);
  if (chance((gen *)g, 40)) {
    snprintf(c->symbol, sizeof c->symbol, "N%u", first);
    g->symbol = (num){values[op_random((uint64_t *)&g->r, sizeof values)], sd_dim_sym(g->dims, c->symbol)};
  }
  if (!setjmp(*(jmp_buf *)&g->fail)) make((gen *)g);
  if (g->wrong) snprintf(wrong, sizeof wrong, "%s", g->wrong);
  sd_str_free((sd_str *)&g->args), sd_str_free((sd_str *)&g->attrs);
  sd_arena_free(g->arena);
  bool ok = !g->wrong;
  sd_free(g);
  return ok ? NULL : wrong;
}

void op_case_free(op_case *c) { sd_str_free(&c->inputs), sd_str_free(&c->body); }

// ---- data ----

static double special(uint64_t *r, sd_dtype t) {
  static const double f[] = {NAN, INFINITY, -INFINITY, -0.0, 0.0, 1e-40, -3e-42, 3.5, 0.5, -0.5, 2.5};
  return t == SD_F64 && op_random(r, 8) == 0 ? 4e-310 : f[op_random(r, sizeof f / sizeof *f)];
}

static int64_t extreme(uint64_t *r, sd_dtype t) {
  int bits = sd_dtype_bits(t);
  bool sign = sd_dtype_kind_of(t) == SD_DK_I;
  uint64_t max = UINT64_MAX >> (64 - bits + sign);
  switch (op_random(r, 4)) {
  case 0: return (int64_t)max;
  case 1: return sign ? (int64_t)(-1 - (int64_t)max) : 0;
  case 2: return (int64_t)(max - 1);
  default: return sign ? -1 : 1;
  }
}

void op_fill_data(const op_input *in, uint64_t count, void *data) {
  uint64_t r = in->seed;
  const op_fill *f = &in->fill;
  sd_dtype t = sd_dtype_part(in->dtype);
  uint64_t bytes;
  if (sd_dtype_bytes(in->dtype, count, &bytes) && bytes) ((uint8_t *)data)[bytes - 1] = 0; // bits that no element has
  count *= sd_dtype_parts(in->dtype);
  for (uint64_t i = 0; i < count; i++) {
    double v = f->given ? f->lo + (double)op_random(&r, (uint64_t)((f->hi - f->lo) * 8) + 1) / 8 : ((double)op_random(&r, 65) - 32) / 8;
    if (f->n_list) v = f->list[op_random(&r, (uint64_t)f->n_list)];
    bool odd = f->special && !f->given && op_random(&r, 4) == 0;
    if (t == SD_BOOL) sd_dtype_set_i64(t, data, i, f->given ? v >= 0.5 : (int64_t)op_random(&r, 2));
    else if (sd_dtype_is_float(t)) sd_dtype_set_f64(t, data, i, odd ? special(&r, t) : v);
    else {
      int64_t x = f->given ? (f->n_list ? (int64_t)v : (int64_t)f->lo + (int64_t)op_random(&r, (uint64_t)(f->hi < f->lo ? 0 : f->hi - f->lo) + 1)) : (int64_t)op_random(&r, 33) - 16;
      if (sd_dtype_kind_of(t) == SD_DK_U && x < 0 && !f->given) x = -x;
      sd_dtype_set_i64(t, data, i, odd ? extreme(&r, t) : x);
    }
  }
}
