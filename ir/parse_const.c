// Text form of modules: contents of constants and values of attributes.
#include "ir/parse_internal.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

#define HASHED_MAX_BYTES (1ull << 40) // of a constant without contents: its zeros are never touched

static sard_status *parse_element(parser *s, sd_const *c, void *data, uint64_t i) {
  double f;
  int64_t v;
  if (c->dtype == SD_STRING) {
    const char *text;
    SD_TRY(sd_parse_quoted(s, &text));
    ((uint64_t *)data)[i] = sd_module_string(s->m, text, strlen(text));
    return NULL;
  }
  if (sd_dtype_is_float(c->dtype)) {
    SD_TRY(sd_parse_float(s, &f));
    sd_dtype_set_f64(c->dtype, data, i, f);
    return NULL;
  }
  sd_parse_skip(s);
  if (c->dtype == SD_U64 && isdigit((unsigned char)*s->p)) {
    char *end;
    errno = 0;
    v = (int64_t)strtoull(s->p, &end, 10);
    if (errno) return sd_parse_fail(s, "number out of range");
    s->p = end;
  } else {
    SD_TRY(sd_parse_int(s, &v));
  }
  sd_dtype_set_i64(c->dtype, data, i, v);
  return NULL;
}

static sard_status *parse_dense(parser *s, sd_const *c) {
  if (sd_dtype_kind_of(c->dtype) == SD_DK_C) return sd_parse_fail(s, "complex constants are written as hex<>");
  // Each element takes a character of text: a count beyond that is wrong, and must not be allocated.
  if (c->count > (uint64_t)(s->end - s->p)) return sd_parse_fail(s, "too few elements");
  void *data = sd_arena_aligned(s->m->arena, c->bytes + 8, 64);
  for (uint64_t i = 0; i < c->count; i++) {
    if (i) SD_TRY(sd_parse_need(s, ","));
    SD_TRY(parse_element(s, c, data, i));
  }
  c->data = data;
  return sd_parse_need(s, ">");
}

static sard_status *parse_hex(parser *s, sd_const *c) {
  if (c->dtype == SD_STRING) return sd_parse_fail(s, "strings are written as dense<>");
  if (c->bytes > (uint64_t)(s->end - s->p) / 2) return sd_parse_fail(s, "too few bytes");
  uint8_t *data = sd_arena_aligned(s->m->arena, c->bytes + 8, 64);
  for (uint64_t i = 0; i < c->bytes; i++, s->p += 2) {
    int h = sd_parse_hex(s->p[0]), l = h < 0 ? -1 : sd_parse_hex(s->p[1]);
    if (l < 0) return sd_parse_fail(s, "expected two hex digits");
    data[i] = (uint8_t)(h * 16 + l);
  }
  c->data = data;
  return sd_parse_need(s, ">");
}

static sard_status *parse_hash(parser *s, sd_const *c) {
  if (c->dtype == SD_STRING || c->bytes > HASHED_MAX_BYTES) return sd_parse_fail(s, "this type needs contents");
  uint64_t h = 0;
  int digits = 0;
  for (int d; digits < 16 && (d = sd_parse_hex(*s->p)) >= 0; digits++, s->p++) h = h * 16 + (uint64_t)d;
  if (digits != 16 || h == 0) return sd_parse_fail(s, "expected a hash of 16 hex digits, not zero");
  c->data = sd_arena_aligned(s->m->arena, c->bytes + 8, 64);
  c->hash = h;
  return sd_parse_need(s, ">");
}

sard_status *sd_parse_content(parser *s, sd_const *c) {
  if (sd_parse_eat(s, "dense<")) return parse_dense(s, c);
  if (sd_parse_eat(s, "hex<")) return parse_hex(s, c);
  if (sd_parse_eat(s, "hash<")) return parse_hash(s, c);
  return sd_parse_fail(s, "expected dense<, hex< or hash<");
}

// ---- attributes ----

static sard_status *parse_list(parser *s, sd_attr *a) {
  sd_arena *m = s->m->arena;
  SD_VEC(int64_t) ints = {0};
  SD_VEC(float) floats = {0};
  SD_VEC(const char *) strings = {0};
  int64_t i;
  double f;
  const char *t;
  SD_TRY(sd_parse_need(s, "["));
  for (a->n = 0; !sd_parse_eat(s, "]"); a->n++) {
    if (a->n) SD_TRY(sd_parse_need(s, ","));
    if (a->kind == SD_ATTR_INTS) {
      SD_TRY(sd_parse_int(s, &i));
      sd_vec_push(m, &ints, i);
    } else if (a->kind == SD_ATTR_FLOATS) {
      SD_TRY(sd_parse_float(s, &f));
      sd_vec_push(m, &floats, (float)f);
    } else {
      SD_TRY(sd_parse_quoted(s, &t));
      sd_vec_push(m, &strings, t);
    }
  }
  if (a->kind == SD_ATTR_INTS) a->ints = ints.at;
  else if (a->kind == SD_ATTR_FLOATS) a->floats = floats.at;
  else a->strings = strings.at;
  return NULL;
}

static sard_status *parse_tensor(parser *s, sd_attr *a) {
  const char *name;
  int64_t dims[SD_MAX_RANK];
  int rank = 0;
  SD_TRY(sd_parse_word(s, &name));
  sd_dtype t = sd_dtype_parse(name);
  SD_TRY(sd_parse_need(s, "["));
  for (; !sd_parse_eat(s, "]"); rank++) {
    if (rank == SD_MAX_RANK) return sd_parse_fail(s, "more than 16 dims");
    if (rank) SD_TRY(sd_parse_need(s, ","));
    SD_TRY(sd_parse_int(s, &dims[rank]));
  }
  // A value of no graph list: only its constant is kept.
  sd_value *v = t ? sd_value_const(s->m->main, "", t, rank, dims, NULL) : NULL;
  if (!v) return sd_parse_fail(s, "bad tensor type");
  SD_TRY(sd_parse_content(s, (sd_const *)v->data));
  a->tensor = v->data;
  return NULL;
}

sard_status *sd_parse_attr_value(parser *s, sd_attr_kind kind, sd_attr *a) {
  double f;
  a->kind = kind;
  switch (kind) {
  case SD_ATTR_INT: return sd_parse_int(s, &a->i);
  case SD_ATTR_FLOAT:
    SD_TRY(sd_parse_float(s, &f));
    a->f = (float)f;
    return NULL;
  case SD_ATTR_STRING: return sd_parse_quoted(s, &a->s);
  case SD_ATTR_INTS:
  case SD_ATTR_FLOATS:
  case SD_ATTR_STRINGS: return parse_list(s, a);
  case SD_ATTR_TENSOR: return parse_tensor(s, a);
  default: a->kind = SD_ATTR_NONE; return sd_parse_fail(s, "graphs are written as bodies");
  }
}
