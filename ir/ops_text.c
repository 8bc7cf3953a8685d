// TEXT bodies of MAP rows: parsed once per row into a small tree. The grammar is described in ir/ops.def.
#include "ir/ops_text.h"

#include <ctype.h>
#include <stdlib.h>

typedef struct parser {
  sd_arena *arena;
  const sd_op *op;
  const char *p;
  const char *error; // first message, NULL while fine
} parser;

static text_node *fail(parser *s, const char *what) {
  if (!s->error) s->error = what;
  return NULL;
}

static void skip(parser *s) {
  while (*s->p == ' ' || *s->p == '\n') s->p++;
}

// Eats an operator token; `!=`, `<=` and so on are not taken for their first character.
static bool eat(parser *s, const char *token) {
  skip(s);
  size_t n = strlen(token);
  if (strncmp(s->p, token, n)) return false;
  if (n == 1 && strchr("<>", *token) && (s->p[1] == '=' || s->p[1] == *token)) return false;
  if (n == 1 && *token == '!' && s->p[1] == '=') return false;
  s->p += n;
  return true;
}

static text_node *make(parser *s, text_kind kind) {
  text_node *n = SD_NEW(s->arena, text_node);
  n->kind = kind;
  return n;
}

static text_node *op_node(parser *s, sd_xop op, text_node *x, text_node *y, text_node *z) {
  text_node *n = make(s, TEXT_OP);
  if (s->error) return NULL;
  n->op = op;
  n->a[0] = x;
  n->a[1] = y;
  n->a[2] = z;
  return n;
}

static const char *word(parser *s) {
  skip(s);
  const char *b = s->p;
  if (!isalpha((unsigned char)*b) && *b != '_') return NULL;
  while (isalnum((unsigned char)*s->p) || *s->p == '_') s->p++;
  return sd_arena_strndup(s->arena, b, (size_t)(s->p - b));
}

static int operand_index(const sd_op *op, const char *name) {
  for (int i = 0; i < op->n_in; i++)
    if (strcmp(op->ins[i].name, name) == 0) return i;
  return -1;
}

static int attr_index(const sd_op *op, const char *name) {
  for (int i = 0; i < op->n_attr; i++)
    if (strcmp(op->attrs[i].name, name) == 0) return i;
  return -1;
}

static text_node *parse_or(parser *s);

// ---- names ----

static text_node *parse_string_test(parser *s, int attr) {
  text_node *n = make(s, TEXT_STRING_IS);
  n->index = attr;
  if (eat(s, "!=")) n->negate = true;
  else if (!eat(s, "==")) return fail(s, "a string attribute can only be compared");
  if (!eat(s, "'")) return fail(s, "expected '");
  size_t len = strcspn(s->p, "'");
  n->text = sd_arena_strndup(s->arena, s->p, len);
  s->p += len;
  return eat(s, "'") ? n : fail(s, "expected '");
}

static text_node *parse_reference(parser *s, const char *name) {
  static const struct { const char *name; text_kind kind; double v; } words[] = {
      {"true", TEXT_BOOL, 1},         {"false", TEXT_BOOL, 0},       {"inf", TEXT_NUMBER, __builtin_inf()},
      {"nan", TEXT_NUMBER, __builtin_nan("")}, {"pi", TEXT_NUMBER, 3.14159265358979323846},
      {"lowest", TEXT_LOWEST, 0},     {"highest", TEXT_HIGHEST, 0}};
  int i = operand_index(s->op, name);
  if (i >= 0) {
    text_node *n = make(s, TEXT_OPERAND);
    n->index = i;
    return s->op->ins[i].variadic ? fail(s, "a variadic operand needs fold or count") : n;
  }
  i = attr_index(s->op, name);
  if (i >= 0) {
    if (s->op->attrs[i].def.kind == SD_ATTR_STRING) return parse_string_test(s, i);
    text_node *n = make(s, TEXT_ATTR);
    n->index = i;
    sd_attr_kind k = s->op->attrs[i].def.kind;
    return k == SD_ATTR_INT || k == SD_ATTR_FLOAT ? n : fail(s, "an attribute of this kind is no number");
  }
  for (size_t k = 0; k < sizeof words / sizeof *words; k++)
    if (strcmp(words[k].name, name) == 0) {
      text_node *n = make(s, words[k].kind);
      n->number = words[k].v;
      return n;
    }
  return fail(s, "unknown name");
}

// A name of an operand or attribute as the first argument of opt, given, count, fold.
static text_node *parse_target(parser *s, text_kind kind, bool variadic) {
  const char *name = word(s);
  text_node *n = make(s, kind);
  if (!name) return fail(s, "expected a name");
  n->index = operand_index(s->op, name);
  if (n->index >= 0)
    return s->op->ins[n->index].variadic == variadic ? n : fail(s, "variadic operands go with fold and count only");
  n->index = attr_index(s->op, name);
  n->is_attr = true;
  return n->index >= 0 && !variadic ? n : fail(s, "unknown name");
}

// ---- calls ----

static text_node *parse_fold(parser *s) {
  static const struct { const char *text; sd_xop op; } ops[] = {{"max", SD_X_MAX}, {"min", SD_X_MIN}, {"+", SD_X_ADD},
                                                               {"*", SD_X_MUL},   {"&", SD_X_AND},   {"|", SD_X_OR},
                                                               {"^", SD_X_XOR}};
  for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
    if (eat(s, ops[i].text)) {
      if (!eat(s, ",")) return fail(s, "expected ,");
      text_node *n = parse_target(s, TEXT_FOLD, true);
      if (n) n->op = ops[i].op;
      return n;
    }
  return fail(s, "unknown fold");
}

static text_node *parse_special(parser *s, const char *name, bool *known) {
  *known = true;
  if (strcmp(name, "fold") == 0) return parse_fold(s);
  if (strcmp(name, "count") == 0) return parse_target(s, TEXT_COUNT, true);
  if (strcmp(name, "given") == 0) return parse_target(s, TEXT_GIVEN, false);
  if (strcmp(name, "opt") == 0) {
    text_node *n = parse_target(s, TEXT_OPT, false);
    if (!n || !eat(s, ",")) return fail(s, "expected ,");
    n->a[0] = parse_or(s);
    return n;
  }
  if (strncmp(name, "cast_", 5) == 0) {
    text_node *n = make(s, TEXT_CAST);
    n->index = operand_index(s->op, name + 5);
    n->dtype = n->index < 0 ? sd_dtype_parse(name + 5) : SD_DT_NONE;
    if (n->index < 0 && !n->dtype) return fail(s, "unknown type");
    n->a[0] = parse_or(s);
    return n;
  }
  *known = false;
  return NULL;
}

static text_node *parse_function(parser *s, const char *name) {
  static const struct { const char *text; int arity; } ops[] = {
#define X(e, t, n) {t, n},
      SD_XOPS(X)
#undef X
  };
  int op = -1;
  for (int i = 0; i < SD_X_COUNT; i++)
    if (ops[i].arity && strcmp(ops[i].text, name) == 0) op = i;
  if (strcmp(name, "floordiv") == 0) op = SD_X_FLOORDIV;
  if (op < 0 || op == SD_X_CAST || op == SD_X_BITS || op == SD_X_INDEX) return fail(s, "unknown function");
  text_node *a[3] = {0};
  for (int i = 0; i < ops[op].arity; i++) {
    if (i && !eat(s, ",")) return fail(s, "expected , (wrong number of arguments?)");
    if (!(a[i] = parse_or(s))) return NULL;
  }
  return op_node(s, (sd_xop)op, a[0], a[1], a[2]);
}

static text_node *parse_name(parser *s, const char *name) {
  if (!eat(s, "(")) return parse_reference(s, name);
  bool known;
  text_node *n = parse_special(s, name, &known);
  if (!known) n = parse_function(s, name);
  return eat(s, ")") ? n : fail(s, "expected )");
}

// ---- operators, loosest last ----

static text_node *parse_primary(parser *s) {
  skip(s);
  if (eat(s, "(")) {
    text_node *n = parse_or(s);
    return eat(s, ")") ? n : fail(s, "expected )");
  }
  if (isdigit((unsigned char)*s->p) || *s->p == '.') {
    char *end;
    text_node *n = make(s, TEXT_NUMBER);
    n->number = strtod(s->p, &end);
    s->p = end;
    return n;
  }
  const char *name = word(s);
  return name ? parse_name(s, name) : fail(s, "expected an operand");
}

static text_node *parse_unary(parser *s) {
  if (eat(s, "-")) return op_node(s, SD_X_NEG, parse_unary(s), NULL, NULL);
  if (eat(s, "!")) return op_node(s, SD_X_NOT, parse_unary(s), NULL, NULL);
  return parse_primary(s);
}

typedef struct infix { const char *text; sd_xop op; bool swap; int level; } infix;

static const infix infixes[] = {
    {"*", SD_X_MUL, false, 0},  {"/", SD_X_DIV, false, 0},  {"%", SD_X_MOD, false, 0}, {"+", SD_X_ADD, false, 1},
    {"-", SD_X_SUB, false, 1},  {"<<", SD_X_SHL, false, 2}, {">>", SD_X_SHR, false, 2}, {"<=", SD_X_LE, false, 3},
    {">=", SD_X_LE, true, 3},   {"<", SD_X_LT, false, 3},   {">", SD_X_LT, true, 3},   {"==", SD_X_EQ, false, 4},
    {"!=", SD_X_NE, false, 4},  {"&", SD_X_AND, false, 5},  {"^", SD_X_XOR, false, 6}, {"|", SD_X_OR, false, 7},
};

static const infix *next_infix(parser *s, int level) {
  for (size_t i = 0; i < sizeof infixes / sizeof *infixes; i++)
    if (infixes[i].level == level && eat(s, infixes[i].text)) return &infixes[i];
  return NULL;
}

static text_node *parse_level(parser *s, int level) {
  if (level < 0) return parse_unary(s);
  text_node *x = parse_level(s, level - 1);
  const infix *f;
  while (x && !s->error && (f = next_infix(s, level))) {
    text_node *y = parse_level(s, level - 1);
    x = f->swap ? op_node(s, f->op, y, x, NULL) : op_node(s, f->op, x, y, NULL);
  }
  return s->error ? NULL : x;
}

static text_node *parse_or(parser *s) { return parse_level(s, 7); }

const void *sd_text_parse(sd_arena *a, const sd_op *op, const char *text, sd_str *error) {
  parser s = {a, op, text, NULL};
  text_node *n = parse_or(&s);
  skip(&s);
  if (n && *s.p) n = fail(&s, "unexpected text");
  if (!n) sd_strf(error, "row %s: TEXT body: %s at \"%.24s\"\n", op->name, s.error ? s.error : "malformed", s.p);
  return n;
}
