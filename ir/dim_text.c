// Dims: evaluation, substitution, printing and parsing.
#include "ir/dim_internal.h"

#include <ctype.h>

#define DIM_PARSE_DEPTH 64

// ---- evaluation ----

typedef bool (*symfn)(void *user, const char *name, int64_t *v);

static bool eval_div(sd_dimop op, int64_t a, int64_t b, int64_t *out) {
  if (b == 0 || (b == -1 && a == INT64_MIN)) return false;
  int64_t q = a / b, r = a % b;
  bool neg = r != 0 && (r < 0) != (b < 0);
  if (op == SD_DIM_FLOORDIV) *out = q - neg;
  else if (op == SD_DIM_CEILDIV) *out = q + (r != 0 && !neg);
  else *out = neg ? r + b : r;
  return true;
}

static bool eval_node(const sd_dimtab *t, const sd_dimnode *x, symfn sym, void *user, int64_t *out) {
  int64_t v, w, acc = x->op == SD_DIM_PROD ? 1 : x->value;
  switch (x->op) {
  case SD_DIM_CONST: break;
  case SD_DIM_SYM: return sym && sym(user, x->name, out);
  case SD_DIM_SUM:
    for (uint32_t i = 0; i < x->n; i++)
      if (!sd_dim_eval(t, x->args[i], sym, user, &v) || __builtin_mul_overflow(v, x->coef[i], &v) ||
          __builtin_add_overflow(acc, v, &acc))
        return false;
    break;
  case SD_DIM_PROD:
    for (uint32_t i = 0; i < x->n; i++)
      if (!sd_dim_eval(t, x->args[i], sym, user, &v) || __builtin_mul_overflow(acc, v, &acc)) return false;
    break;
  default:
    if (!sd_dim_eval(t, x->args[0], sym, user, &v) || !sd_dim_eval(t, x->args[1], sym, user, &w)) return false;
    if (x->op == SD_DIM_MIN) acc = v < w ? v : w;
    else if (x->op == SD_DIM_MAX) acc = v > w ? v : w;
    else if (x->op == SD_DIM_BCAST) acc = v < 1 || w < 1 ? 0 : v > w ? v : w;
    else return eval_div(x->op, v, w, out);
  }
  *out = acc;
  return true;
}

bool sd_dim_eval(const sd_dimtab *t, sd_dim d, bool (*sym)(void *user, const char *name, int64_t *v), void *user,
                 int64_t *out) {
  const sd_dimnode *x = sd_dim_get(t, d);
  return x && eval_node(t, x, sym, user, out);
}

// ---- substitution ----

static sd_dim apply2(sd_dimtab *t, sd_dimop op, sd_dim a, sd_dim b) {
  switch (op) {
  case SD_DIM_FLOORDIV: return sd_dim_floordiv(t, a, b);
  case SD_DIM_CEILDIV: return sd_dim_ceildiv(t, a, b);
  case SD_DIM_MOD: return sd_dim_mod(t, a, b);
  case SD_DIM_MIN: return sd_dim_min(t, a, b);
  case SD_DIM_MAX: return sd_dim_max(t, a, b);
  case SD_DIM_BCAST: return sd_dim_bcast(t, a, b);
  default: return SD_DIM_NONE;
  }
}

sd_dim sd_dim_subst(sd_dimtab *t, sd_dim d, sd_dim (*subst)(void *user, const char *name), void *user) {
  const sd_dimnode *x = sd_dim_get(t, d);
  sd_dim r, v;
  if (!x || x->op == SD_DIM_CONST) return d;
  if (x->op == SD_DIM_SYM) return (r = subst(user, x->name)) ? r : d;
  if (x->op != SD_DIM_SUM && x->op != SD_DIM_PROD) {
    sd_dim a = sd_dim_subst(t, x->args[0], subst, user), b = sd_dim_subst(t, x->args[1], subst, user);
    return a == x->args[0] && b == x->args[1] ? d : apply2(t, x->op, a, b);
  }
  r = sd_dim_const(t, x->op == SD_DIM_PROD ? 1 : x->value);
  for (uint32_t i = 0; i < x->n && r; i++) {
    v = sd_dim_subst(t, x->args[i], subst, user);
    if (x->op == SD_DIM_PROD) r = sd_dim_mul(t, r, v);
    else r = sd_dim_add(t, r, sd_dim_mul(t, v, sd_dim_const(t, x->coef[i])));
  }
  return r;
}

// ---- printing ----

static bool is_ident(const char *s) {
  if (!isalpha((unsigned char)*s) && *s != '_') return false;
  while (isalnum((unsigned char)*s) || *s == '_' || *s == '.') s++;
  return *s == 0;
}

static void print_name(const char *s, sd_str *out) {
  if (is_ident(s)) {
    sd_str_put(out, s);
    return;
  }
  sd_str_put(out, "\"");
  for (; *s; s++) {
    if (*s == '"' || *s == '\\') sd_strf(out, "\\%c", *s);
    else if ((unsigned char)*s < 32) sd_strf(out, "\\x%02x", (unsigned char)*s);
    else sd_str_putn(out, s, 1);
  }
  sd_str_put(out, "\"");
}

static const char *const fn_names[] = {[SD_DIM_FLOORDIV] = "floordiv", [SD_DIM_CEILDIV] = "ceildiv",
                                       [SD_DIM_MOD] = "mod", [SD_DIM_MIN] = "min", [SD_DIM_MAX] = "max",
                                       [SD_DIM_BCAST] = "broadcast"};

static void print_mono(const sd_dimtab *t, sd_dim d, sd_str *out) {
  const sd_dimnode *x = sd_dim_get(t, d);
  if (x->op == SD_DIM_SYM) {
    print_name(x->name, out);
    return;
  }
  if (x->op == SD_DIM_PROD) {
    for (uint32_t i = 0; i < x->n; i++) {
      if (i) sd_str_put(out, "*");
      print_mono(t, x->args[i], out);
    }
    return;
  }
  sd_strf(out, "%s(", fn_names[x->op]);
  sd_dim_print(t, x->args[0], out);
  sd_str_put(out, ",");
  sd_dim_print(t, x->args[1], out);
  sd_str_put(out, ")");
}

void sd_dim_print(const sd_dimtab *t, sd_dim d, sd_str *out) {
  const sd_dimnode *x = sd_dim_get(t, d);
  if (!x) sd_str_put(out, "?");
  else if (x->op == SD_DIM_CONST) sd_strf(out, "%lld", (long long)x->value);
  else if (x->op != SD_DIM_SUM) print_mono(t, d, out);
  else {
    for (uint32_t i = 0; i < x->n; i++) {
      int64_t c = x->coef[i];
      if (i && c > 0) sd_str_put(out, "+");
      if (c == -1) sd_str_put(out, "-");
      else if (c != 1) sd_strf(out, "%lld*", (long long)c);
      print_mono(t, x->args[i], out);
    }
    if (x->value) sd_strf(out, "%+lld", (long long)x->value);
  }
}

// ---- parsing ----

static void skip(const char **p) {
  while (**p == ' ' || **p == '\t') ++*p;
}

static bool eat(const char **p, char c) {
  const char *q = *p;
  skip(&q);
  if (*q != c) return false;
  *p = q + 1;
  return true;
}

// With its sign, so that INT64_MIN can be read.
static sd_dim parse_number(sd_dimtab *t, const char **p, bool neg) {
  uint64_t v = 0, limit = (uint64_t)INT64_MAX + neg;
  for (; isdigit((unsigned char)**p); ++*p) {
    uint64_t digit = (uint64_t)(**p - '0');
    if (v > (limit - digit) / 10) return SD_DIM_NONE;
    v = v * 10 + digit;
  }
  return sd_dim_const(t, neg ? (int64_t)(0 - v) : (int64_t)v);
}

static int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static sd_dim parse_quoted(sd_dimtab *t, const char **p) {
  const char *s = *p + 1;
  size_t n = 0;
  char *name = sd_arena_alloc(t->arena, strcspn(s, "\n") + 1);
  for (; *s && *s != '"' && *s != '\n'; s++) {
    char c = *s;
    if (c == '\\' && s[1] == 'x') {
      int h = hex_digit(s[2]), l = h < 0 ? -1 : hex_digit(s[3]);
      if (l < 0 || h + l == 0) return SD_DIM_NONE;
      c = (char)(h * 16 + l);
      s += 3;
    } else if (c == '\\' && (s[1] == '"' || s[1] == '\\')) c = *++s;
    name[n++] = c;
  }
  if (*s != '"') return SD_DIM_NONE;
  *p = s + 1;
  return sd_dim_sym(t, name);
}

static sd_dim parse_sum(sd_dimtab *t, const char **p, int depth);

static sd_dim parse_call(sd_dimtab *t, sd_dimop op, const char **p, int depth) {
  sd_dim a = parse_sum(t, p, depth + 1);
  if (!a) return SD_DIM_NONE;
  do {
    if (!eat(p, ',')) return SD_DIM_NONE;
    sd_dim b = parse_sum(t, p, depth + 1);
    if (!b || !(a = apply2(t, op, a, b))) return SD_DIM_NONE;
  } while (!eat(p, ')'));
  return a;
}

static sd_dim parse_factor(sd_dimtab *t, const char **p, int depth) {
  skip(p);
  if (isdigit((unsigned char)**p)) return parse_number(t, p, false);
  if (**p == '"') return parse_quoted(t, p);
  if (eat(p, '(')) {
    sd_dim d = parse_sum(t, p, depth + 1);
    return d && eat(p, ')') ? d : SD_DIM_NONE;
  }
  const char *s = *p;
  if (!isalpha((unsigned char)*s) && *s != '_') return SD_DIM_NONE;
  while (isalnum((unsigned char)*s) || *s == '_' || *s == '.') s++;
  const char *name = sd_arena_strndup(t->arena, *p, (size_t)(s - *p));
  *p = s;
  if (*s != '(') return sd_dim_sym(t, name);
  ++*p;
  for (sd_dimop op = SD_DIM_FLOORDIV; op <= SD_DIM_BCAST; op++)
    if (strcmp(name, fn_names[op]) == 0) return parse_call(t, op, p, depth);
  return SD_DIM_NONE;
}

static sd_dim parse_term(sd_dimtab *t, const char **p, int depth, bool neg) {
  skip(p);
  bool number = isdigit((unsigned char)**p);
  sd_dim a = number ? parse_number(t, p, neg) : parse_factor(t, p, depth);
  if (a && neg && !number) a = sd_dim_sub(t, sd_dim_const(t, 0), a);
  while (a && eat(p, '*')) {
    sd_dim b = parse_factor(t, p, depth);
    a = b ? sd_dim_mul(t, a, b) : SD_DIM_NONE;
  }
  return a;
}

static sd_dim parse_sum(sd_dimtab *t, const char **p, int depth) {
  if (depth > DIM_PARSE_DEPTH) return SD_DIM_NONE;
  sd_dim a = parse_term(t, p, depth, eat(p, '-'));
  while (a) {
    bool plus = eat(p, '+');
    if (!plus && !eat(p, '-')) break;
    sd_dim b = parse_term(t, p, depth, !plus);
    a = b ? sd_dim_add(t, a, b) : SD_DIM_NONE;
  }
  return a;
}

sd_dim sd_dim_parse(sd_dimtab *t, const char **p) {
  const char *q = *p;
  if (eat(&q, '?')) {
    *p = q;
    return SD_DIM_NONE;
  }
  sd_dim d = parse_sum(t, &q, 0);
  if (d) *p = q;
  return d;
}

const char *sd_dim_text(const sd_dimtab *t, sd_dim d, sd_arena *a) {
  sd_str s = {0};
  sd_dim_print(t, d, &s);
  return sd_arena_keep(a, sd_str_take(&s));
}
