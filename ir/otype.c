// Types of sequences, optionals, maps and of tensors of any rank: making, joining, text.
#include "ir/graph.h"

const sd_otype *sd_otype_new(sd_module *m, sd_object_kind kind, sd_dtype t, int rank, const sd_otype *of) {
  for (uint32_t i = 0; i < m->otypes.len; i++) {
    const sd_otype *o = m->otypes.at[i];
    if (o->kind == kind && o->dtype == t && o->rank == rank && o->of == of) return o;
  }
  sd_otype *o = SD_NEW(m->arena, sd_otype);
  *o = (sd_otype){kind, t, rank, of};
  sd_vec_push(m->arena, &m->otypes, o);
  return o;
}

const sd_otype *sd_otype_of(sd_module *m, const sd_value *v) {
  if (v->dtype == SD_OBJECT) return v->object;
  return sd_otype_new(m, SD_OBJ_TENSOR, v->dtype, v->rank < 0 ? SD_RANK_UNKNOWN : v->rank, NULL);
}

static int join_rank(int a, int b) { return a == b || b == SD_RANK_NONE ? a : a == SD_RANK_NONE ? b : SD_RANK_UNKNOWN; }

const sd_otype *sd_otype_join(sd_module *m, const sd_otype *a, const sd_otype *b) {
  if (a == b || !b) return a;
  if (!a) return b;
  if (a->kind != b->kind) return NULL;
  sd_dtype t = a->dtype == SD_DT_NONE ? b->dtype : a->dtype;
  if (b->dtype != SD_DT_NONE && b->dtype != t) return NULL;
  const sd_otype *of = sd_otype_join(m, a->of, b->of);
  if (!of && a->of) return NULL;
  return sd_otype_new(m, a->kind, t, join_rank(a->rank, b->rank), of);
}

void sd_value_set_object(sd_value *v, const sd_otype *t) {
  sd_value_set_type(v, SD_OBJECT, 0, NULL);
  v->object = t;
  v->elems = NULL, v->n_elems = 0;
}

void sd_otype_print(const sd_otype *t, sd_str *out) {
  static const char *const words[] = {"?", "", "seq", "opt", "map"};
  if (!t) {
    sd_str_put(out, "?");
    return;
  }
  if (t->kind != SD_OBJ_TENSOR) {
    sd_strf(out, "%s(", words[t->kind]);
    if (t->kind == SD_OBJ_MAP) sd_strf(out, "%s,", sd_dtype_name(t->dtype));
    sd_otype_print(t->of, out);
    sd_str_put(out, ")");
    return;
  }
  sd_strf(out, "%s[", sd_dtype_name(t->dtype));
  if (t->rank >= 0) sd_strf(out, "%d", t->rank);
  else sd_str_put(out, t->rank == SD_RANK_NONE ? "-" : "*");
  sd_str_put(out, "]");
}

static bool eat(const char **p, const char *token) {
  const char *s = *p;
  while (*s == ' ') s++;
  size_t n = strlen(token);
  if (strncmp(s, token, n)) return false;
  *p = s + n;
  return true;
}

static bool parse_dtype(const char **p, sd_dtype *out) {
  char word[16];
  size_t n = 0;
  while (**p == ' ') ++*p;
  while (n + 1 < sizeof word && ((**p >= 'a' && **p <= 'z') || (**p >= '0' && **p <= '9'))) word[n++] = *(*p)++;
  word[n] = 0;
  *out = sd_dtype_parse(word);
  return sd_dtype_of_tensors(*out);
}

static bool parse_tensor(sd_module *m, const char **p, const sd_otype **out) {
  sd_dtype t;
  int rank = 0;
  if (!parse_dtype(p, &t) || !eat(p, "[")) return false;
  if (eat(p, "-")) rank = SD_RANK_NONE;
  else if (eat(p, "*")) rank = SD_RANK_UNKNOWN;
  else
    for (; **p >= '0' && **p <= '9' && rank <= SD_MAX_RANK; ++*p) rank = rank * 10 + (**p - '0');
  *out = sd_otype_new(m, SD_OBJ_TENSOR, t, rank, NULL);
  return rank <= SD_MAX_RANK && eat(p, "]");
}

static bool parse(sd_module *m, const char **p, int depth, const sd_otype **out) {
  static const struct { const char *word; sd_object_kind kind; } kinds[] = {
      {"seq(", SD_OBJ_SEQUENCE}, {"opt(", SD_OBJ_OPTIONAL}, {"map(", SD_OBJ_MAP}, {"any(", SD_OBJ_TENSOR}};
  const sd_otype *of;
  sd_dtype t = SD_DT_NONE;
  *out = NULL;
  if (depth > SD_OTYPE_DEPTH) return false;
  if (eat(p, "?")) return true;
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    if (!eat(p, kinds[i].word)) continue;
    if (kinds[i].kind == SD_OBJ_MAP && !(parse_dtype(p, &t) && eat(p, ","))) return false;
    if (!parse(m, p, depth + 1, &of) || !eat(p, ")")) return false;
    *out = kinds[i].kind == SD_OBJ_TENSOR ? of : sd_otype_new(m, kinds[i].kind, t, 0, of);
    return kinds[i].kind != SD_OBJ_TENSOR || (of && of->kind == SD_OBJ_TENSOR);
  }
  return parse_tensor(m, p, out);
}

bool sd_otype_parse(sd_module *m, const char **p, const sd_otype **out) { return parse(m, p, 0, out); }
