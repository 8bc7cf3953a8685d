// Patterns to programs, and the simulation of the program on a text.
#include "runtime/regex.h"

#include <string.h>

#include "runtime/base/alloc.h"

enum { MAX_CODE = 20000, MAX_RANGES = 20000, MAX_DEPTH = 100, MAX_REPEAT = 1000, LAST_CHAR = 0x10ffff };

typedef enum op { OP_NEXT, OP_SET, OP_SPLIT, OP_JUMP, OP_BEGIN, OP_END, OP_WORD, OP_NOT_WORD, OP_MATCH } op;
typedef struct inst { op op; uint32_t x, y; } inst; // SET: ranges [x, y); SPLIT: to x and y; JUMP: to x
typedef struct range { uint32_t low, high; } range;

struct sd_regex {
  inst *code;
  range *ranges;
  uint32_t n, n_ranges;
  uint32_t *list[2], *mark; // threads of this and the next character; when an instruction was last added
  uint32_t *stack;
  uint32_t turn;
};

typedef struct parser {
  sd_regex *r;
  const char *text, *p;
  int depth;
  bool ignore_case, dot_all;
  sard_status *st;
} parser;

// ---- pieces ----

static void fail(parser *s, int code, const char *what) {
  if (s->st) return;
  s->st = code == SARD_E_MODEL ? SD_ERR(MODEL, "pattern '%.200s': %s at position %d", s->text, what, (int)(s->p - s->text))
                               : SD_ERR(UNSUPPORTED, "pattern '%.200s': %s at position %d", s->text, what, (int)(s->p - s->text));
}

static uint32_t emit(parser *s, op o, uint32_t x, uint32_t y) {
  sd_regex *r = s->r;
  if (r->n == MAX_CODE) {
    fail(s, SARD_E_MODEL, "it is too large");
    return 0;
  }
  r->code[r->n] = (inst){o, x, y};
  return r->n++;
}

static void add_range(parser *s, uint32_t low, uint32_t high) {
  sd_regex *r = s->r;
  if (r->n_ranges + 3 > MAX_RANGES) {
    fail(s, SARD_E_MODEL, "it is too large");
    return;
  }
  r->ranges[r->n_ranges++] = (range){low, high};
  if (!s->ignore_case) return;
  for (int k = 0; k < 2; k++) { // the letters in it, of the other case
    uint32_t a = k ? 'a' : 'A', z = a + 25, from = low > a ? low : a, to = high < z ? high : z;
    if (from <= to) r->ranges[r->n_ranges++] = (range){from ^ 32, to ^ 32};
  }
}

static uint32_t decode(const char **p) {
  const unsigned char *s = (const unsigned char *)*p;
  int more = *s >= 0xf0 && *s < 0xf8 ? 3 : *s >= 0xe0 ? 2 : *s >= 0xc0 ? 1 : 0;
  uint32_t c = more == 3 ? *s & 7u : more == 2 ? *s & 15u : more == 1 ? *s & 31u : *s;
  if (*s >= 0xf8) more = 0, c = *s;
  for (int i = 1; i <= more; i++) {
    if ((s[i] & 0xc0) != 0x80) {
      ++*p;
      return *s;
    }
    c = c << 6 | (s[i] & 63u);
  }
  *p += 1 + more;
  return c;
}

// The ranges from `first` on, replaced by all characters that are in none of them.
static void complement(parser *s, uint32_t first) {
  sd_regex *r = s->r;
  uint32_t n = r->n_ranges - first, at = 0;
  range *in = r->ranges + first;
  for (uint32_t i = 1; i < n; i++) // by their beginnings
    for (uint32_t k = i; k && in[k - 1].low > in[k].low; k--) {
      range t = in[k];
      in[k] = in[k - 1], in[k - 1] = t;
    }
  range out[256];
  uint32_t n_out = 0;
  for (uint32_t i = 0; i < n; i++) {
    if (in[i].low > at && n_out < 255) out[n_out++] = (range){at, in[i].low - 1};
    if (in[i].high + 1 > at) at = in[i].high + 1;
  }
  if (at <= LAST_CHAR) out[n_out++] = (range){at, LAST_CHAR};
  if (n_out >= 255 || r->n_ranges + n_out > MAX_RANGES) {
    fail(s, SARD_E_MODEL, "a class is too large");
    return;
  }
  memcpy(in, out, n_out * sizeof *out);
  r->n_ranges = first + n_out;
}

// The classes \d \w \s and their negations, as ranges; false where the letter names none.
static bool class_letter(parser *s, char c) {
  uint32_t first = s->r->n_ranges;
  bool keep = s->ignore_case;
  s->ignore_case = false;
  switch (c | 32) {
  case 'd': add_range(s, '0', '9'); break;
  case 'w': add_range(s, '0', '9'), add_range(s, 'A', 'Z'), add_range(s, '_', '_'), add_range(s, 'a', 'z'); break;
  case 's': add_range(s, '\t', '\n'), add_range(s, '\f', '\r'), add_range(s, ' ', ' '); break;
  default: s->ignore_case = keep; return false;
  }
  if (!(c & 32)) complement(s, first);
  s->ignore_case = keep;
  return true;
}

static int hex(char c) { return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1; }

static uint32_t hex_escape(parser *s) {
  uint32_t v = 0;
  bool braces = *s->p == '{';
  if (braces) s->p++;
  for (int i = 0; i < (braces ? 8 : 2) && hex(*s->p) >= 0; i++) v = v * 16 + (uint32_t)hex(*s->p++);
  if (braces && *s->p++ != '}') fail(s, SARD_E_MODEL, "a bad \\x{...}");
  return v;
}

// The character of an escape behind the backslash.
static uint32_t escape(parser *s) {
  char c = *s->p;
  if (!c) {
    fail(s, SARD_E_MODEL, "a backslash at the end");
    return 0;
  }
  s->p++;
  switch (c) {
  case 'n': return '\n';
  case 't': return '\t';
  case 'r': return '\r';
  case 'f': return '\f';
  case 'v': return '\v';
  case 'a': return '\a';
  case 'x': return hex_escape(s);
  default: break;
  }
  bool word = (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
  if (word && (c == 'p' || c == 'P')) fail(s, SARD_E_UNSUPPORTED, "Unicode classes are not supported");
  else if (word) fail(s, SARD_E_MODEL, "an unknown escape");
  if ((unsigned char)c < 0x80) return (uint32_t)(unsigned char)c;
  s->p--;
  return decode(&s->p);
}

static bool posix_class(parser *s) { // [:alpha:] within a class
  static const struct { const char *name, *ranges; } rows[] = {
      {"alnum", "09AZaz"}, {"alpha", "AZaz"}, {"digit", "09"}, {"lower", "az"}, {"upper", "AZ"}, {"space", "\t\r  "}, {"blank", "\t\t  "},
      {"punct", "!/:@[`{~"}, {"word", "09AZaz__"}, {"xdigit", "09AFaf"}, {"print", " ~"}, {"graph", "!~"}, {"ascii", "\x01\x7f"}};
  if (s->p[0] != '[' || s->p[1] != ':') return false;
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    size_t n = strlen(rows[i].name);
    if (strncmp(s->p + 2, rows[i].name, n) || strncmp(s->p + 2 + n, ":]", 2)) continue;
    for (const char *q = rows[i].ranges; *q; q += 2) add_range(s, (unsigned char)q[0], (unsigned char)q[1]);
    s->p += n + 4;
    return true;
  }
  return false;
}

static uint32_t class_char(parser *s, bool *whole) {
  *whole = false;
  if (*s->p != '\\') return decode(&s->p);
  s->p++;
  if (class_letter(s, *s->p)) {
    *whole = true;
    s->p++;
    return 0;
  }
  return escape(s);
}

static void bracket(parser *s) {
  uint32_t first = s->r->n_ranges;
  bool negate = *s->p == '^', whole, dummy;
  if (negate) s->p++;
  for (bool begin = true; *s->p && (*s->p != ']' || begin) && !s->st; begin = false) {
    if (posix_class(s)) continue;
    uint32_t low = class_char(s, &whole), high = low;
    if (whole) continue;
    if (s->p[0] == '-' && s->p[1] && s->p[1] != ']') {
      s->p++;
      high = class_char(s, &dummy);
      if (dummy || high < low) fail(s, SARD_E_MODEL, "a range without an order");
    }
    add_range(s, low, high);
  }
  if (*s->p != ']') fail(s, SARD_E_MODEL, "a class without its ]");
  else s->p++;
  if (negate) complement(s, first);
  emit(s, OP_SET, first, s->r->n_ranges);
}

// ---- structure ----

static void alternatives(parser *s);

static void flags(parser *s) { // behind "(?"
  bool on = true;
  for (; *s->p && *s->p != ')' && *s->p != ':'; s->p++) {
    if (*s->p == '-') on = false;
    else if (*s->p == 'i') s->ignore_case = on;
    else if (*s->p == 's') s->dot_all = on;
    else if (*s->p != 'm' && *s->p != 'U') fail(s, SARD_E_UNSUPPORTED, "a group of this kind is not supported");
    if (s->st) return;
  }
}

static void group(parser *s) {
  bool ignore_case = s->ignore_case, dot_all = s->dot_all;
  if (s->p[0] == '?' && (s->p[1] == 'P' || s->p[1] == '<')) { // a name means nothing here
    while (*s->p && *s->p != '>') s->p++;
    if (*s->p) s->p++;
  } else if (*s->p == '?') {
    s->p++;
    flags(s);
    if (*s->p == ')') { // from here on
      s->p++;
      return;
    }
    if (*s->p == ':') s->p++;
  }
  alternatives(s);
  if (*s->p != ')') fail(s, SARD_E_MODEL, "a group without its )");
  else s->p++;
  s->ignore_case = ignore_case, s->dot_all = dot_all;
}

static void one_char(parser *s, uint32_t c) {
  uint32_t first = s->r->n_ranges;
  add_range(s, c, c);
  emit(s, OP_SET, first, s->r->n_ranges);
}

static void escaped_atom(parser *s) {
  uint32_t first = s->r->n_ranges;
  char c = *s->p;
  op o = c == 'b' ? OP_WORD : c == 'B' ? OP_NOT_WORD : c == 'A' ? OP_BEGIN : c == 'z' ? OP_END : OP_NEXT;
  if (o != OP_NEXT) {
    s->p++;
    emit(s, o, 0, 0);
  } else if (c == 'Q') {
    for (s->p++; *s->p && strncmp(s->p, "\\E", 2);) one_char(s, decode(&s->p));
    if (*s->p) s->p += 2;
  } else if (class_letter(s, c)) {
    s->p++;
    emit(s, OP_SET, first, s->r->n_ranges);
  } else {
    one_char(s, escape(s));
  }
}

static void atom(parser *s) {
  uint32_t first = s->r->n_ranges;
  char c = *s->p;
  switch (c) {
  case '(': s->p++; group(s); return;
  case '[': s->p++; bracket(s); return;
  case '\\': s->p++; escaped_atom(s); return;
  case '^': s->p++; emit(s, OP_BEGIN, 0, 0); return;
  case '$': s->p++; emit(s, OP_END, 0, 0); return;
  case '.':
    s->p++;
    add_range(s, 0, s->dot_all ? LAST_CHAR : '\n' - 1);
    if (!s->dot_all) add_range(s, '\n' + 1, LAST_CHAR);
    emit(s, OP_SET, first, s->r->n_ranges);
    return;
  case '*':
  case '+':
  case '?': fail(s, SARD_E_MODEL, "nothing to repeat"); return;
  default: one_char(s, decode(&s->p)); return;
  }
}

// "{n}", "{n,}", "{n,m}"; -1: no upper bound. false: it is a plain brace.
static bool counts(parser *s, int *low, int *high) {
  const char *p = s->p + 1;
  if (*p < '0' || *p > '9') return false;
  for (*low = 0; *p >= '0' && *p <= '9'; p++) *low = *low > MAX_REPEAT ? *low : *low * 10 + (*p - '0');
  *high = *low;
  if (*p == ',') {
    *high = -1;
    if (*++p != '}')
      for (*high = 0; *p >= '0' && *p <= '9'; p++) *high = *high > MAX_REPEAT ? *high : *high * 10 + (*p - '0');
  }
  if (*p != '}') return false;
  s->p = p + 1;
  if (*low > MAX_REPEAT || *high > MAX_REPEAT || (*high >= 0 && *high < *low)) fail(s, SARD_E_MODEL, "a bad number of repetitions");
  return true;
}

// One more copy of the atom at `from`, behind an instruction that may become a split.
static uint32_t copy_atom(parser *s, const char *from) {
  const char *behind = s->p;
  uint32_t at = emit(s, OP_NEXT, 0, 0);
  s->p = from;
  atom(s);
  s->p = behind;
  return at;
}

static void make_optional(parser *s, uint32_t at) { s->r->code[at] = (inst){OP_SPLIT, at + 1, s->r->n}; }
static void make_star(parser *s, uint32_t at) {
  emit(s, OP_JUMP, at, 0);
  make_optional(s, at);
}

static void repeat(parser *s, uint32_t at, const char *from) {
  int low, high;
  switch (*s->p) {
  case '*': low = 0, high = -1, s->p++; break;
  case '+': low = 1, high = -1, s->p++; break;
  case '?': low = 0, high = 1, s->p++; break;
  default:
    if (!counts(s, &low, &high)) return;
  }
  if (*s->p == '?') s->p++; // the shortest match: the same where the whole text has to match
  if (high == 0) {
    s->r->code[at] = (inst){OP_JUMP, s->r->n, 0};
    return;
  }
  for (int i = 1; i < low && !s->st; i++) copy_atom(s, from);
  if (high < 0) make_star(s, low ? copy_atom(s, from) : at);
  if (high > 0 && low == 0) make_optional(s, at);
  for (int i = low ? low : 1; i < high && !s->st; i++) make_optional(s, copy_atom(s, from));
}

static void sequence(parser *s) {
  while (*s->p && *s->p != '|' && *s->p != ')' && !s->st) {
    const char *from = s->p;
    uint32_t at = emit(s, OP_NEXT, 0, 0);
    atom(s);
    while (!s->st && (*s->p == '*' || *s->p == '+' || *s->p == '?' || *s->p == '{')) {
      const char *before = s->p;
      repeat(s, at, from);
      if (s->p == before) break; // a plain brace
      if (*s->p == '*' || *s->p == '+' || *s->p == '?') fail(s, SARD_E_MODEL, "a repetition of a repetition");
    }
    if (!s->st && *s->p == '{') one_char(s, decode(&s->p));
  }
}

static void alternatives(parser *s) {
  if (++s->depth > MAX_DEPTH) fail(s, SARD_E_MODEL, "groups are nested too deeply");
  uint32_t begin = emit(s, OP_NEXT, 0, 0), jumps = 0; // jumps to the end, chained by their targets
  sequence(s);
  while (*s->p == '|' && !s->st) {
    s->p++;
    jumps = emit(s, OP_JUMP, jumps, 0);
    s->r->code[begin] = (inst){OP_SPLIT, begin + 1, s->r->n};
    begin = emit(s, OP_NEXT, 0, 0);
    sequence(s);
  }
  for (uint32_t at = jumps, next; at; at = next) next = s->r->code[at].x, s->r->code[at].x = s->r->n;
  s->depth--;
}

static sard_status *finish(parser *s) {
  sd_regex *r = s->r;
  if (!s->st && *s->p) fail(s, SARD_E_MODEL, "a ) without its group");
  emit(s, OP_MATCH, 0, 0);
  if (s->st) return s->st;
  for (int i = 0; i < 2; i++) r->list[i] = sd_calloc(r->n, sizeof **r->list);
  r->mark = sd_calloc(r->n, sizeof *r->mark);
  r->stack = sd_calloc(2 * (size_t)r->n + 2, sizeof *r->stack);
  return r->list[0] && r->list[1] && r->mark && r->stack ? NULL : SD_ERR(NOMEM, "out of memory for a pattern");
}

sard_status *sd_regex_new(const char *pattern, sd_regex **out) {
  *out = NULL;
  sd_regex *r = sd_calloc(1, sizeof *r);
  if (!r) return SD_ERR(NOMEM, "out of memory for a pattern");
  r->code = sd_calloc(MAX_CODE, sizeof *r->code);
  r->ranges = sd_calloc(MAX_RANGES, sizeof *r->ranges);
  parser s = {.r = r, .text = pattern, .p = pattern};
  if (!r->code || !r->ranges) s.st = SD_ERR(NOMEM, "out of memory for a pattern");
  else alternatives(&s);
  sard_status *st = s.st ? s.st : finish(&s);
  if (st) sd_regex_free(r);
  else *out = r;
  return st;
}

void sd_regex_free(sd_regex *r) {
  if (!r) return;
  void *parts[] = {r->code, r->ranges, r->list[0], r->list[1], r->mark, r->stack};
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) sd_free(parts[i]);
  sd_free(r);
}

// ---- matching ----

static bool is_word(uint32_t c) { return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') || c == '_'; }

// Adds an instruction and what follows it without a character; `before`, `after`: the characters around, 0 at the ends.
static void add_thread(sd_regex *r, uint32_t *list, uint32_t *n, uint32_t at, uint32_t before, uint32_t after, bool first) {
  uint32_t top = 0;
  r->stack[top++] = at;
  while (top) {
    at = r->stack[--top];
    if (r->mark[at] == r->turn) continue;
    r->mark[at] = r->turn;
    const inst *i = &r->code[at];
    bool edge = is_word(before) != is_word(after), go = false;
    switch (i->op) {
    case OP_NEXT: go = true; break;
    case OP_JUMP: r->stack[top++] = i->x; break;
    case OP_SPLIT: r->stack[top++] = i->y, r->stack[top++] = i->x; break;
    case OP_BEGIN: go = first; break;
    case OP_END: go = after == 0; break;
    case OP_WORD: go = edge; break;
    case OP_NOT_WORD: go = !edge; break;
    default: list[(*n)++] = at; break;
    }
    if (go) r->stack[top++] = at + 1;
  }
}

static bool in_set(const sd_regex *r, const inst *i, uint32_t c) {
  for (uint32_t k = i->x; k < i->y; k++)
    if (c >= r->ranges[k].low && c <= r->ranges[k].high) return true;
  return false;
}

static uint32_t peek(const char *p) { return *p ? decode(&p) : 0; }

static void next_turn(sd_regex *r) {
  if (++r->turn) return;
  memset(r->mark, 0, r->n * sizeof *r->mark);
  r->turn = 1;
}

bool sd_regex_matches(sd_regex *r, const char *text) {
  uint32_t n = 0, more, *now = r->list[0], *next = r->list[1];
  next_turn(r);
  add_thread(r, now, &n, 0, 0, peek(text), true);
  for (const char *p = text; *p && n;) {
    uint32_t c = decode(&p), after = peek(p);
    next_turn(r);
    more = 0;
    for (uint32_t i = 0; i < n; i++)
      if (r->code[now[i]].op == OP_SET && in_set(r, &r->code[now[i]], c)) add_thread(r, next, &more, now[i] + 1, c, after, false);
    uint32_t *t = now;
    now = next, next = t, n = more;
  }
  for (uint32_t i = 0; i < n; i++)
    if (r->code[now[i]].op == OP_MATCH) return true;
  return false;
}
