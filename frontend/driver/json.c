// A reader of JSON by recursive descent.
#include "frontend/driver/json.h"

#include <stdlib.h>
#include <string.h>

enum { DEEPEST = 64 };

typedef struct reader {
  sd_arena *a;
  const char *at, *file;
  const char *counted; // the lines in front of it
  int line;            // are so many, and the one there
} reader;

static int line_of(reader *r) {
  for (; r->counted < r->at; r->counted++) r->line += *r->counted == '\n';
  return r->line;
}

static sard_status *wrong(reader *r, const char *what) {
  return SD_ERR(MODEL, "%s, line %d: %s", r->file, line_of(r), what);
}

static void skip(reader *r) { r->at += strspn(r->at, " \t\r\n"); }

static bool eat(reader *r, char c) {
  skip(r);
  return *r->at == c ? r->at++, true : false;
}

static int hex4(const char *p) {
  int v = 0;
  for (int i = 0; i < 4; i++) {
    const char *digits = "0123456789abcdef", *d = p[i] ? strchr(digits, p[i] | 32) : NULL;
    if (!d) return -1;
    v = v * 16 + (int)(d - digits);
  }
  return v;
}

// The character behind \u, as UTF-8; pairs of surrogates are one character.
static char *put_unicode(reader *r, char *to) {
  int c = hex4(r->at);
  if (c <= 0) return NULL;
  r->at += 4;
  if (c >= 0xd800 && c < 0xdc00) {
    int low = r->at[0] == '\\' && r->at[1] == 'u' ? hex4(r->at + 2) : -1;
    if (low < 0xdc00 || low > 0xdfff) return NULL;
    r->at += 6, c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
  }
  if (c >= 0x10000) *to++ = (char)(0xf0 | c >> 18), *to++ = (char)(0x80 | (c >> 12 & 63));
  else if (c >= 0x800)
    *to++ = (char)(0xe0 | c >> 12);
  if (c >= 0x800) *to++ = (char)(0x80 | (c >> 6 & 63));
  else if (c >= 0x80)
    *to++ = (char)(0xc0 | c >> 6);
  *to++ = (char)(c >= 0x80 ? 0x80 | (c & 63) : c);
  return to;
}

static sard_status *read_text(reader *r, const char **out) {
  static const char from[] = "\"\\/bfnrt", into[] = "\"\\/\b\f\n\r\t";
  const char *end = r->at;
  while (*end && *end != '"') end += *end == '\\' && end[1] ? 2 : 1;
  char *to = sd_arena_alloc(r->a, (uint64_t)(end - r->at) * 2 + 1);
  *out = to;
  while (r->at < end) {
    if ((unsigned char)*r->at < 32) return wrong(r, "a line ends inside of a text");
    if (*r->at != '\\') {
      *to++ = *r->at++;
      continue;
    }
    const char *escape = r->at[1] ? strchr(from, r->at[1]) : NULL;
    bool unicode = r->at[1] == 'u';
    r->at += 2;
    if (escape) *to++ = into[escape - from];
    else if (!unicode || !(to = put_unicode(r, to)))
      return wrong(r, "a text has an unknown escape");
  }
  *to = 0;
  if (*r->at != '"') return wrong(r, "a text has no end");
  r->at++;
  return NULL;
}

static sard_status *read_value(reader *r, sd_json *v, int depth);

static sard_status *read_items(reader *r, sd_json *v, char close, int depth) {
  sd_json **last = &v->first;
  if (eat(r, close)) return NULL;
  do {
    sd_json *item = SD_NEW(r->a, sd_json);
    if (close == '}') {
      if (!eat(r, '"')) return wrong(r, "a name in quotes is expected");
      SD_TRY(read_text(r, &item->key));
      if (!eat(r, ':')) return wrong(r, "':' is expected");
    }
    SD_TRY(read_value(r, item, depth + 1));
    *last = item, last = &item->next;
  } while (eat(r, ','));
  return eat(r, close) ? NULL : wrong(r, close == '}' ? "',' or '}' is expected" : "',' or ']' is expected");
}

static sard_status *read_word(reader *r, sd_json *v) {
  static const struct {
    const char *text;
    sd_json_kind kind;
    double number;
  } words[] = {{"null", SD_JSON_NULL, 0}, {"true", SD_JSON_BOOL, 1}, {"false", SD_JSON_BOOL, 0}};
  for (size_t i = 0; i < sizeof words / sizeof *words; i++)
    if (strncmp(r->at, words[i].text, strlen(words[i].text)) == 0) {
      r->at += strlen(words[i].text);
      v->kind = words[i].kind, v->number = words[i].number;
      return NULL;
    }
  size_t n = strspn(r->at, "+-0123456789.eE");
  char *end, digits[64];
  if (n == 0 || n >= sizeof digits) return wrong(r, "a value is expected");
  memcpy(digits, r->at, n), digits[n] = 0;
  v->kind = SD_JSON_NUMBER, v->number = strtod(digits, &end);
  if (*end) return wrong(r, "a number is malformed");
  r->at += n;
  return NULL;
}

static sard_status *read_value(reader *r, sd_json *v, int depth) {
  if (depth > DEEPEST) return wrong(r, "values are nested too deeply");
  skip(r);
  v->line = line_of(r);
  if (eat(r, '{')) return v->kind = SD_JSON_OBJECT, read_items(r, v, '}', depth);
  if (eat(r, '[')) return v->kind = SD_JSON_LIST, read_items(r, v, ']', depth);
  if (eat(r, '"')) return v->kind = SD_JSON_TEXT, read_text(r, &v->text);
  return read_word(r, v);
}

sard_status *sd_json_parse(sd_arena *a, const char *text, const char *file, sd_json **out) {
  reader r = {a, text, file, text, 1};
  *out = SD_NEW(a, sd_json);
  SD_TRY(read_value(&r, *out, 0));
  skip(&r);
  return *r.at ? wrong(&r, "there is more behind the end") : NULL;
}

const sd_json *sd_json_get(const sd_json *object, const char *key) {
  if (!object || object->kind != SD_JSON_OBJECT) return NULL;
  for (const sd_json *v = object->first; v; v = v->next)
    if (strcmp(v->key, key) == 0) return v;
  return NULL;
}

const char *sd_json_text(const sd_json *object, const char *key) {
  const sd_json *v = sd_json_get(object, key);
  return v && v->kind == SD_JSON_TEXT ? v->text : NULL;
}
