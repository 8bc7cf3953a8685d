// Host functions that look at texts (rows of ir/ops/text.def).
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/memo.h"
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

// Goes through the places of the result; `at`: where the operands' elements are.
typedef struct places {
  int rank;
  int64_t dims[SD_HOST_RANK], now[SD_HOST_RANK];
  uint64_t stride[2][SD_HOST_RANK], at[2];
} places;

static void first_place(const sd_host_call *c, places *p) {
  p->rank = c->out[0].rank;
  for (int k = 0; k < 2; k++) {
    const sd_host_tensor *t = &c->in[k];
    uint64_t stride = 1;
    for (int d = t->rank - 1; d >= 0; stride *= (uint64_t)t->dims[d--])
      if (t->dims[d] != 1) p->stride[k][p->rank - t->rank + d] = stride;
  }
}

static void next_place(places *p) {
  for (int d = p->rank - 1; d >= 0; d--) {
    p->at[0] += p->stride[0][d], p->at[1] += p->stride[1][d];
    if (++p->now[d] < p->dims[d]) return;
    p->now[d] = 0;
    p->at[0] -= p->stride[0][d] * (uint64_t)p->dims[d], p->at[1] -= p->stride[1][d] * (uint64_t)p->dims[d];
  }
}

static sard_status *join(sd_host_call *c, uint64_t a, uint64_t b, sd_str *s, uint64_t *to) {
  size_t n;
  const char *first = sd_strtab_get(c->strings, a, &n);
  s->len = 0;
  sd_str_putn(s, first, n);
  const char *second = sd_strtab_get(c->strings, b, &n);
  sd_str_putn(s, second, n);
  return s->failed ? SD_ERR(NOMEM, "out of memory for a string") : put(c, to, s->p, s->len);
}

sard_status *sd_host_string_concat(sd_host_call *c) {
  places p = {0};
  sd_str s = {0};
  sard_status *st = NULL;
  SD_TRY(broadcast(c, p.dims));
  SD_TRY(c->make(c, 0, p.dims));
  const uint64_t *x = c->in[0].data, *y = c->in[1].data;
  uint64_t *to = c->out[0].data, n = c->out[0].count;
  sd_memo memo = sd_memo_make(n); // from a pair to what it makes
  first_place(c, &p);
  for (uint64_t i = 0; i < n && !st; i++, next_place(&p)) {
    uint64_t a = x[p.at[0]], b = y[p.at[1]], key = a < UINT32_MAX && b < UINT32_MAX ? (a << 32 | b) + 1 : 0;
    if (key && sd_memo_get(&memo, key, &to[i])) continue;
    st = join(c, a, b, &s, &to[i]);
    if (key && !st) sd_memo_put(&memo, key, to[i]);
  }
  sd_memo_free(&memo);
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

// how: 0 as it is, 1 lower, 2 upper. The length stays.
static void change_case(const char *s, size_t n, int64_t how, sd_str *out) {
  out->len = 0;
  sd_str_putn(out, s, n);
  if (!how || out->failed) return;
  unsigned char first = how == 1 ? 'A' : 'a';
  for (unsigned char *p = (unsigned char *)out->p; *p; p++) {
    if ((unsigned char)(*p - first) < 26) *p ^= 0x20;
    if (*p < 0xc2 || *p > 0xdf || (p[1] & 0xc0) != 0x80) continue;
    uint32_t c = change_letter((uint32_t)(*p & 31) << 6 | (p[1] & 63), how == 2);
    p[0] = (unsigned char)(0xc0 | c >> 6), p[1] = (unsigned char)(0x80 | (c & 63));
    p++;
  }
}

#define DROPPED UINT64_MAX

typedef struct stopwords { sd_strtab *words; bool empty; } stopwords; // a table has the empty text in any case

// The number of what a text becomes.
static sard_status *normalize_one(sd_host_call *c, const stopwords *stop, uint64_t number, sd_str *s, uint64_t *to) {
  size_t n;
  const char *text = sd_strtab_get(c->strings, number, &n);
  int64_t how = c->param[0], compared = c->param[1] ? 0 : 1;
  uint64_t found;
  change_case(text, n, compared, s);
  if (!s->failed && sd_strtab_find(stop->words, s->p, n, &found) && (found || stop->empty)) return *to = DROPPED, NULL;
  if (how != compared) change_case(text, n, how, s);
  return s->failed ? SD_ERR(NOMEM, "out of memory for a string") : put(c, to, s->p, n);
}

static sard_status *normalize_all(sd_host_call *c, const stopwords *stop, sd_str *s, uint64_t *result) {
  const sd_host_tensor *x = &c->in[0];
  const uint64_t *number = x->data;
  int64_t dims[2] = {1, 0}, kept = 0;
  sd_memo memo = sd_memo_make(x->count);
  sard_status *st = NULL;
  for (uint64_t i = 0; i < x->count && !st; i++) {
    uint64_t key = number[i] + 1;
    if (!key || !sd_memo_get(&memo, key, &result[i])) {
      st = normalize_one(c, stop, number[i], s, &result[i]);
      if (key && !st) sd_memo_put(&memo, key, result[i]);
    }
    kept += result[i] != DROPPED;
  }
  sd_memo_free(&memo);
  if (st) return st;
  dims[x->rank - 1] = kept ? kept : 1;
  SD_TRY(c->make(c, 0, dims));
  uint64_t *to = c->out[0].data;
  if (!kept) *to = 0; // one empty string
  for (uint64_t i = 0; i < x->count; i++)
    if (result[i] != DROPPED) *to++ = result[i];
  return NULL;
}

static sard_status *with_stopwords(sd_host_call *c, stopwords *stop, sd_str *s, uint64_t *result) {
  for (uint64_t i = 0; i < c->in[1].count; i++) {
    size_t n;
    uint64_t number;
    const char *word = sd_strtab_get(c->strings, ((const uint64_t *)c->in[1].data)[i], &n);
    change_case(word, n, c->param[1] ? 0 : 1, s);
    if (s->failed || !sd_strtab_add(stop->words, s->p, n, &number)) return SD_ERR(NOMEM, "out of memory for a string");
    stop->empty |= !n;
  }
  return normalize_all(c, stop, s, result);
}

sard_status *sd_host_string_normalizer(sd_host_call *c) {
  const sd_host_tensor *x = &c->in[0];
  sd_str s = {0};
  if (x->rank < 1 || x->rank > 2 || (x->rank == 2 && x->dims[0] != 1)) return SD_ERR(MODEL, "the texts must be [C] or [1,C]");
  uint64_t *result = sd_calloc(x->count + 1, sizeof *result);
  stopwords stop = {.words = sd_strtab_new(NULL)};
  sard_status *st = result && stop.words
                        ? with_stopwords(c, &stop, &s, result)
                        : SD_ERR(NOMEM, "out of memory for %llu strings", (unsigned long long)x->count);
  sd_str_free(&s);
  sd_strtab_free(stop.words);
  sd_free(result);
  return st;
}

// ---- RegexFullMatch ----

sard_status *sd_host_regex_match(sd_host_call *c) {
  sd_regex *r;
  SD_TRY(c->make(c, 0, c->in[0].dims));
  SD_TRY(sd_regex_new(text(c, &c->in[1], 0), &r));
  const uint64_t *number = c->in[0].data;
  uint8_t *to = c->out[0].data;
  sd_memo memo = sd_memo_make(c->in[0].count);
  for (uint64_t i = 0; i < c->in[0].count; i++) {
    uint64_t matches, key = number[i] + 1;
    if (!key || !sd_memo_get(&memo, key, &matches)) {
      matches = sd_regex_matches(r, text(c, &c->in[0], i));
      if (key) sd_memo_put(&memo, key, matches);
    }
    to[i] = matches != 0;
  }
  sd_memo_free(&memo);
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
