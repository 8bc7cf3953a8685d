// Growable text buffer, JSON quoting and the edit distance behind "did you mean".
#include "runtime/base/str.h"

#include <math.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/alloc.h"

// Makes room for n more bytes and the NUL.
static bool reserve(sd_str *s, size_t n) {
  if (s->failed) return false;
  if (n < s->cap && s->len < s->cap - n) return true;
  uint64_t need, cap = s->cap ? s->cap : 32;
  if (!sd_ck_add(s->len, n, &need) || need >= PTRDIFF_MAX / 2) need = 0;
  while (need && cap <= need) cap *= 2;
  char *p = need || s->len + n == 0 ? sd_realloc(s->p, cap) : NULL;
  if (!p) {
    s->failed = true;
    return false;
  }
  s->p = p;
  s->cap = cap;
  return true;
}

void sd_str_putn(sd_str *s, const char *text, size_t n) {
  if (!reserve(s, n)) return;
  if (n) memcpy(s->p + s->len, text, n);
  s->len += n;
  s->p[s->len] = 0;
}

void sd_str_put(sd_str *s, const char *text) { sd_str_putn(s, text, strlen(text)); }

void sd_str_vf(sd_str *s, const char *fmt, va_list ap) {
  char small[256];
  va_list again;
  va_copy(again, ap);
  int n = vsnprintf(small, sizeof small, fmt, ap);
  if (n < 0) {
    s->failed = true;
  } else if ((size_t)n < sizeof small) {
    sd_str_putn(s, small, (size_t)n);
  } else if (reserve(s, (size_t)n)) {
    vsnprintf(s->p + s->len, (size_t)n + 1, fmt, again);
    s->len += (size_t)n;
  }
  va_end(again);
}

void sd_strf(sd_str *s, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  sd_str_vf(s, fmt, ap);
  va_end(ap);
}

// Length of the well-formed UTF-8 sequence at p, 0 when it is none.
static size_t utf8_length(const unsigned char *p) {
  size_t n = p[0] < 0x80                   ? 1
             : p[0] >= 0xc2 && p[0] < 0xe0 ? 2
             : (p[0] & 0xf0) == 0xe0       ? 3
             : p[0] >= 0xf0 && p[0] < 0xf5 ? 4
                                           : 0;
  for (size_t i = 1; i < n; i++)
    if ((p[i] & 0xc0) != 0x80) return 0;
  if (n == 3 && ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] >= 0xa0))) return 0;
  if (n == 4 && ((p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] >= 0x90))) return 0;
  return n;
}

void sd_str_json(sd_str *s, const char *text) {
  if (!text) {
    sd_str_put(s, "null");
    return;
  }
  sd_str_putn(s, "\"", 1);
  for (const unsigned char *p = (const unsigned char *)text; *p;) {
    size_t n = utf8_length(p);
    if (*p == '"' || *p == '\\')
      sd_strf(s, "\\%c", *p);
    else if (*p == '\n')
      sd_str_put(s, "\\n");
    else if (*p == '\t')
      sd_str_put(s, "\\t");
    else if (n == 0 || *p < 0x20 || *p == 0x7f)
      sd_strf(s, "\\u%04x", *p); // a byte that is not UTF-8 is shown as the Latin-1 character
    else
      sd_str_putn(s, (const char *)p, n);
    p += n ? n : 1;
  }
  sd_str_putn(s, "\"", 1);
}

void sd_str_json_number(sd_str *s, double v) {
  if (isfinite(v)) sd_strf(s, "%.9g", v);
  else
    sd_str_put(s, "null");
}

char *sd_str_take(sd_str *s) {
  if (!s->failed && !s->p) reserve(s, 0);
  char *p = s->failed ? NULL : s->p;
  if (!p) sd_free(s->p);
  if (p) p[s->len] = 0;
  *s = (sd_str){0};
  return p;
}

void sd_str_free(sd_str *s) {
  sd_free(s->p);
  *s = (sd_str){0};
}

enum { WORD = 64 };

// Edit distance (insert, delete, change, swap of neighbours), case-insensitive; WORD when a word is too long.
static int distance(const char *a, const char *b) {
  size_t na = strlen(a), nb = strlen(b);
  if (na >= WORD || nb >= WORD) return WORD;
  int row[3][WORD + 1];
  for (size_t j = 0; j <= nb; j++) row[0][j] = (int)j;
  for (size_t i = 1; i <= na; i++) {
    int *cur = row[i % 3], *up = row[(i + 2) % 3], *up2 = row[(i + 1) % 3];
    cur[0] = (int)i;
    for (size_t j = 1; j <= nb; j++) {
      int ca = tolower((unsigned char)a[i - 1]), cb = tolower((unsigned char)b[j - 1]);
      int best = up[j - 1] + (ca != cb);
      if (up[j] + 1 < best) best = up[j] + 1;
      if (cur[j - 1] + 1 < best) best = cur[j - 1] + 1;
      bool swapped = i > 1 && j > 1 && ca == tolower((unsigned char)b[j - 2]) && cb == tolower((unsigned char)a[i - 2]);
      if (swapped && up2[j - 2] + 1 < best) best = up2[j - 2] + 1;
      cur[j] = best;
    }
  }
  return row[na % 3][nb];
}

const char *sd_str_nearest(const char *word, const char *const *candidates, size_t n) {
  const char *best = NULL;
  int best_distance = (int)(strlen(word) / 3) + 2; // exclusive: one change in a short word, more in long ones
  for (size_t i = 0; i < n; i++) {
    if (!candidates[i]) continue;
    int d = distance(word, candidates[i]);
    if (d < best_distance && (size_t)d < strlen(candidates[i])) {
      best = candidates[i];
      best_distance = d;
    }
  }
  return best;
}
