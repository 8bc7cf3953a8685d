// Host functions that look at texts (rows of ir/ops/text.def).
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/base/str.h"
#include "runtime/host_ops.h"
#include "runtime/regex.h"

static const char *text(const sd_host_call *c, const sd_host_tensor *t, uint64_t i) {
  return sd_strtab_text(c->strings, ((const uint64_t *)t->data)[i]);
}

static sard_status *put(sd_host_call *c, uint64_t *to, const char *s, size_t n) {
  return sd_strtab_add(c->strings, s, n, to) ? NULL : SD_ERR(NOMEM, "out of memory for a string of %zu bytes", n);
}

// ---- StringConcat ----

// Dims of both operands broadcast; SARD_E_MODEL where they do not fit.
static sard_status *broadcast(const sd_host_call *c, int64_t *dims) {
  int rank = c->out[0].rank;
  for (int d = 0; d < rank; d++) dims[d] = 1;
  for (uint32_t k = 0; k < 2; k++) {
    const sd_host_tensor *t = &c->in[k];
    for (int d = 0; d < t->rank; d++) {
      int64_t *to = &dims[rank - t->rank + d];
      if (t->dims[d] != 1 && *to != 1 && *to != t->dims[d]) return SD_ERR(MODEL, "sizes %lld and %lld do not fit together", (long long)*to, (long long)t->dims[d]);
      if (*to == 1) *to = t->dims[d];
    }
  }
  return NULL;
}

static uint64_t broadcast_at(const sd_host_tensor *t, const int64_t *dims, int rank, uint64_t i) {
  uint64_t at = 0, stride = 1;
  for (int d = rank - 1, k = t->rank - 1; k >= 0; d--, k--) {
    if (t->dims[k] != 1) at += i % (uint64_t)dims[d] * stride;
    stride *= (uint64_t)t->dims[k];
    i /= (uint64_t)dims[d];
  }
  return at;
}

sard_status *sd_host_string_concat(sd_host_call *c) {
  int64_t dims[SD_HOST_RANK];
  sd_str s = {0};
  sard_status *st = NULL;
  SD_TRY(broadcast(c, dims));
  SD_TRY(c->make(c, 0, dims));
  uint64_t *to = c->out[0].data;
  for (uint64_t i = 0; i < c->out[0].count && !st; i++) {
    s.len = 0;
    sd_str_put(&s, text(c, &c->in[0], broadcast_at(&c->in[0], dims, c->out[0].rank, i)));
    sd_str_put(&s, text(c, &c->in[1], broadcast_at(&c->in[1], dims, c->out[0].rank, i)));
    st = s.failed ? SD_ERR(NOMEM, "out of memory for a string") : put(c, &to[i], s.p ? s.p : "", s.len);
  }
  sd_str_free(&s);
  return st;
}

// ---- StringSplit ----

// The next piece of *p, NULL at the end; *more: cuts that are still allowed (-1: any number).
static const char *next_piece(const char **p, const char *delimiter, int64_t *more, size_t *n) {
  const char *s = *p, *end;
  size_t skip = strlen(delimiter);
  if (!s) return NULL;
  if (!skip) {
    while (isspace((unsigned char)*s)) s++;
    if (!*s) return NULL;
    for (end = s; *end && (*more == 0 || !isspace((unsigned char)*end)); end++) {}
    *p = end;
  } else {
    end = *more == 0 ? NULL : strstr(s, delimiter);
    *p = end ? end + skip : NULL;
    if (!end) end = s + strlen(s);
  }
  *n = (size_t)(end - s);
  if (!skip && *more == 0)
    while (*n && isspace((unsigned char)s[*n - 1])) --*n; // the rest without the space behind it
  if (*more > 0) --*more;
  return s;
}

sard_status *sd_host_string_split(sd_host_call *c) {
  const sd_host_tensor *x = &c->in[0];
  const char *delimiter = text(c, &c->in[1], 0);
  int64_t dims[SD_HOST_RANK], most = 0, cuts = c->param[0] < 0 ? -1 : c->param[0];
  size_t n;
  for (uint64_t i = 0; i < x->count; i++) {
    const char *p = text(c, x, i);
    int64_t pieces = 0, more = cuts;
    while (next_piece(&p, delimiter, &more, &n)) pieces++;
    if (pieces > most) most = pieces;
  }
  memcpy(dims, x->dims, sizeof dims);
  dims[x->rank] = most;
  SD_TRY(c->make(c, 0, dims));
  if (c->n_out > 1) SD_TRY(c->make(c, 1, dims));
  for (uint64_t i = 0; i < x->count; i++) {
    const char *p = text(c, x, i), *piece;
    uint64_t *to = c->out[0].dtype ? (uint64_t *)c->out[0].data + i * (uint64_t)most : NULL;
    int64_t k = 0, more = cuts;
    while ((piece = next_piece(&p, delimiter, &more, &n)) != NULL) {
      if (to) SD_TRY(put(c, &to[k], piece, n));
      k++;
    }
    if (c->n_out > 1 && c->out[1].dtype) ((int64_t *)c->out[1].data)[i] = k;
    for (; to && k < most; k++) to[k] = 0; // the empty string
  }
  return NULL;
}

// ---- StringNormalizer ----

// Letters of two bytes in UTF-8 whose other case is at a fixed distance: Latin-1, Greek, Cyrillic; pairs side by side.
static uint32_t change_letter(uint32_t c, bool upper) {
  static const struct { uint32_t low, high, lower; } blocks[] = {
      {0xc0, 0xd6, 32}, {0xd8, 0xde, 32}, {0x391, 0x3a1, 32}, {0x3a3, 0x3a9, 32}, {0x410, 0x42f, 32}, {0x400, 0x40f, 80}};
  static const struct { uint32_t low, high; bool odd; } pairs[] = {{0x100, 0x137, false}, {0x139, 0x148, true}, {0x14a, 0x177, false}, {0x460, 0x481, false}, {0x48a, 0x4bf, false}, {0x4d0, 0x52f, false}};
  for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
    if (!upper && c >= blocks[i].low && c <= blocks[i].high) return c + blocks[i].lower;
    if (upper && c >= blocks[i].low + blocks[i].lower && c <= blocks[i].high + blocks[i].lower) return c - blocks[i].lower;
  }
  for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
    if (c < pairs[i].low || c > pairs[i].high || c == 0x130 || c == 0x131) continue;
    bool is_lower = (c & 1) != pairs[i].odd;
    return upper && is_lower ? c - 1 : !upper && !is_lower ? c + 1 : c;
  }
  return c;
}

static void change_case(const char *s, int64_t how, sd_str *out) {
  out->len = 0;
  for (const unsigned char *p = (const unsigned char *)s; *p; p++) {
    char two[2] = {(char)*p};
    if (*p < 0x80) {
      two[0] = (char)(how == 1 ? tolower(*p) : how == 2 ? toupper(*p) : *p);
      sd_str_putn(out, two, 1);
    } else if (how && *p >= 0xc2 && *p <= 0xdf && (p[1] & 0xc0) == 0x80) {
      uint32_t c = change_letter((uint32_t)(*p & 31) << 6 | (p[1] & 63), how == 2);
      two[0] = (char)(0xc0 | c >> 6), two[1] = (char)(0x80 | (c & 63));
      sd_str_putn(out, two, 2);
      p++;
    } else {
      sd_str_putn(out, two, 1);
    }
  }
}

static bool is_stopword(sd_host_call *c, const char *s, sd_str *a, sd_str *b) {
  bool exact = c->param[1] != 0;
  if (!exact) change_case(s, 1, a);
  for (uint64_t i = 0; i < c->in[1].count; i++) {
    const char *word = text(c, &c->in[1], i);
    if (exact && !strcmp(word, s)) return true;
    if (exact) continue;
    change_case(word, 1, b);
    if (a->len == b->len && !memcmp(a->p ? a->p : "", b->p ? b->p : "", a->len)) return true;
  }
  return false;
}

static sard_status *normalize(sd_host_call *c, uint8_t *keep, sd_str *a, sd_str *b) {
  const sd_host_tensor *x = &c->in[0];
  int64_t dims[2] = {1, 0}, kept = 0;
  for (uint64_t i = 0; i < x->count; i++) {
    keep[i] = !is_stopword(c, text(c, x, i), a, b);
    kept += keep[i];
  }
  dims[x->rank - 1] = kept ? kept : 1;
  SD_TRY(c->make(c, 0, dims));
  uint64_t *to = c->out[0].data;
  if (!kept) *to = 0; // one empty string
  for (uint64_t i = 0; i < x->count; i++) {
    if (!keep[i]) continue;
    change_case(text(c, x, i), c->param[0], a);
    SD_TRY(put(c, to++, a->p ? a->p : "", a->len));
  }
  return a->failed || b->failed ? SD_ERR(NOMEM, "out of memory for a string") : NULL;
}

sard_status *sd_host_string_normalizer(sd_host_call *c) {
  const sd_host_tensor *x = &c->in[0];
  sd_str a = {0}, b = {0};
  if (x->rank < 1 || x->rank > 2 || (x->rank == 2 && x->dims[0] != 1)) return SD_ERR(MODEL, "the texts must be [C] or [1,C]");
  uint8_t *keep = sd_calloc(x->count + 1, 1);
  sard_status *st = keep ? normalize(c, keep, &a, &b) : SD_ERR(NOMEM, "out of memory for %llu strings", (unsigned long long)x->count);
  sd_str_free(&a);
  sd_str_free(&b);
  sd_free(keep);
  return st;
}

// ---- RegexFullMatch ----

sard_status *sd_host_regex_match(sd_host_call *c) {
  sd_regex *r;
  SD_TRY(c->make(c, 0, c->in[0].dims));
  SD_TRY(sd_regex_new(text(c, &c->in[1], 0), &r));
  uint8_t *to = c->out[0].data;
  for (uint64_t i = 0; i < c->in[0].count; i++) to[i] = sd_regex_matches(r, text(c, &c->in[0], i));
  sd_regex_free(r);
  return NULL;
}

// ---- Cast ----

static sard_status *to_number(const char *s, sd_dtype t, void *data, uint64_t i) {
  char *end;
  const char *p = s;
  errno = 0;
  if (t == SD_BOOL) {
    bool yes = !strcasecmp(s, "true") || !strcmp(s, "1");
    if (!yes && strcasecmp(s, "false") && strcmp(s, "0")) return SD_ERR(MODEL, "'%.100s' is no bool", s);
    sd_dtype_set_i64(t, data, i, yes);
    return NULL;
  }
  if (sd_dtype_is_float(t)) {
    double v = strtod(p, &end);
    if (end == p || *end) return SD_ERR(MODEL, "'%.100s' is no number", s);
    sd_dtype_set_f64(t, data, i, t == SD_F32 ? (double)strtof(p, &end) : v);
    return NULL;
  }
  int64_t v = t == SD_U64 ? (int64_t)strtoull(p, &end, 10) : strtoll(p, &end, 10);
  if (end == p) return SD_ERR(MODEL, "'%.100s' is no whole number", s);
  if (*end) v = (int64_t)strtod(p, &end); // "1e3", "2.0"
  if (*end || errno) return SD_ERR(MODEL, "'%.100s' is no whole number", s);
  sd_dtype_set_i64(t, data, i, v);
  return NULL;
}

// The shortest digits that read back as the same number, as numpy and C++ streams write them.
static int float_text(char *s, size_t room, double v, bool narrow) {
  if (isnan(v)) return snprintf(s, room, "NaN");
  if (isinf(v)) return snprintf(s, room, v < 0 ? "-INF" : "INF");
  for (int digits = 1; digits <= (narrow ? 9 : 17); digits++) {
    snprintf(s, room, "%.*g", digits, v);
    if (narrow ? strtof(s, NULL) == (float)v : strtod(s, NULL) == v) break;
  }
  return (int)strlen(s);
}

sard_status *sd_host_cast_text(sd_host_call *c) {
  const sd_host_tensor *x = &c->in[0];
  char s[64];
  SD_TRY(c->make(c, 0, x->dims));
  sd_dtype to = c->out[0].dtype;
  for (uint64_t i = 0; i < x->count; i++) {
    if (x->dtype == SD_STRING && to == SD_STRING) {
      ((uint64_t *)c->out[0].data)[i] = ((const uint64_t *)x->data)[i];
      continue;
    }
    if (x->dtype == SD_STRING) {
      SD_TRY(to_number(text(c, x, i), to, c->out[0].data, i));
      continue;
    }
    int n;
    if (sd_dtype_is_float(x->dtype)) n = float_text(s, sizeof s, sd_dtype_get_f64(x->dtype, x->data, i), x->dtype != SD_F64);
    else if (x->dtype == SD_BOOL) n = snprintf(s, sizeof s, "%s", *((const uint8_t *)x->data + i) ? "True" : "False");
    else if (x->dtype == SD_U64) n = snprintf(s, sizeof s, "%llu", (unsigned long long)sd_dtype_get_i64(x->dtype, x->data, i));
    else n = snprintf(s, sizeof s, "%lld", (long long)sd_dtype_get_i64(x->dtype, x->data, i));
    SD_TRY(put(c, (uint64_t *)c->out[0].data + i, s, (size_t)n));
  }
  return NULL;
}
