// Arguments: verbs and flags of cli.def, parsed from argv.
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/cli/cli.h"

static const sd_cli_verb verbs[] = {
#define CLI_VERB(name, operands, least, most, programs, what) {#name, operands, least, most, programs, what},
#define CLI_FLAG(verbs, letter, name, arg, def, what)
#include "frontend/cli/cli.def"
#undef CLI_VERB
#undef CLI_FLAG
};
static const sd_cli_flag flags[] = {
#define CLI_VERB(name, operands, least, most, programs, what)
#define CLI_FLAG(verbs, letter, name, arg, def, what) {verbs, letter, name, arg, def, what},
#include "frontend/cli/cli.def"
#undef CLI_VERB
#undef CLI_FLAG
};
enum { VERBS = sizeof verbs / sizeof *verbs, FLAGS = sizeof flags / sizeof *flags };

// Flags that users of other tools type, and what they are called here.
static const struct {
  const char *theirs, *ours;
} foreign[] = {
    {"--onnx", "the model is the first argument: sard run MODEL.onnx"},
    {"-m", "the model is the first argument: sard run MODEL.onnx"},
    {"--model", "the model is the first argument: sard run MODEL.onnx"},
    {"--saveEngine", "write an artifact with: sard compile MODEL.onnx -o FILE"},
    {"--loadEngine", "an artifact is given like a model: sard run FILE"},
    {"-d", "write --device cpu or --device cuda"},
    {"--shapes", "write --shape NAME:1x3x224x224"},
    {"--minShapes", "dims stay symbolic; nothing has to be said about their range"},
    {"--maxShapes", "dims stay symbolic; nothing has to be said about their range"},
    {"--optShapes", "write --shape NAME:1x3x224x224"},
    {"--loadInputs", "write --input NAME=@FILE, or --inputs DIR"},
    {"--warmUp", "write --warmup N (runs)"},
    {"--dumpProfile", "write --profile"},
    {"-niter", "write --iterations N"},
    {"-nthreads", "write --threads N"},
    {"--verbose=1", "write -v"},
};

const sd_cli_verb *sd_args_verb_at(size_t i) { return i < VERBS ? &verbs[i] : NULL; }
const sd_cli_flag *sd_args_flag_at(size_t i) { return i < FLAGS ? &flags[i] : NULL; }

bool sd_args_flag_of(const sd_cli_flag *f, const char *verb) {
  size_t n = strlen(verb);
  if (strcmp(f->verbs, "*") == 0) return true;
  for (const char *p = f->verbs; (p = strstr(p, verb)) != NULL; p += n)
    if ((p == f->verbs || p[-1] == ' ') && (p[n] == 0 || p[n] == ' ')) return true;
  return false;
}

static const sd_cli_flag *find_name(const sd_cli *c, const char *name, size_t n) {
  for (size_t i = 0; i < FLAGS; i++)
    if (strlen(flags[i].name) == n && n && memcmp(flags[i].name, name, n) == 0 &&
        sd_args_flag_of(&flags[i], c->verb->name))
      return &flags[i];
  return NULL;
}

static const sd_cli_flag *find_letter(const sd_cli *c, char letter) {
  for (size_t i = 0; i < FLAGS; i++)
    if (flags[i].letter == letter && sd_args_flag_of(&flags[i], c->verb->name)) return &flags[i];
  return NULL;
}

static sard_status *unknown_flag(const sd_cli *c, const char *arg, size_t n) {
  const char *names[FLAGS + 1];
  char word[64];
  size_t count = 0;
  snprintf(word, sizeof word, "%.*s", (int)(n < 60 ? n : 60), arg);
  sard_status *st = SD_ERR(USAGE, "%s: unknown flag '%s'", c->verb->name, word);
  for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++)
    if (strcmp(word, foreign[i].theirs) == 0) return sd_status_field(st, SARD_TEXT_HINT, "%s", foreign[i].ours);
  for (size_t i = 0; i < FLAGS; i++)
    if (*flags[i].name && sd_args_flag_of(&flags[i], c->verb->name)) names[count++] = flags[i].name;
  const char *near = strncmp(word, "--", 2) == 0 ? sd_str_nearest(word + 2, names, count) : NULL;
  if (near) return sd_status_field(st, SARD_TEXT_HINT, "did you mean --%s?", near);
  return sd_status_field(st, SARD_TEXT_HINT, "'%s %s --help' lists the flags", c->program->name, c->verb->name);
}

static void add(sd_cli *c, const sd_cli_flag *f, const char *value) {
  sd_vec_push(c->arena, &c->given, ((sd_cli_given){f, value}));
}

// One argument of the form --name, --name=value or --name value; *used counts the extra ones.
static sard_status *take_long(sd_cli *c, char **argv, int left, int *used) {
  const char *name = argv[0] + 2, *eq = strchr(name, '=');
  size_t n = eq ? (size_t)(eq - name) : strlen(name);
  const sd_cli_flag *f = find_name(c, name, n);
  if (!f) return unknown_flag(c, argv[0], n + 2);
  if (!*f->arg) {
    if (eq) return SD_ERR(USAGE, "--%s takes no value", f->name);
    add(c, f, "1");
  } else if (eq) {
    add(c, f, eq + 1);
  } else {
    if (left < 2) return SD_ERR(USAGE, "--%s needs a value: --%s %s", f->name, f->name, f->arg);
    add(c, f, argv[1]), *used = 1;
  }
  return NULL;
}

// -v, -vv, -qv, -o FILE, -oFILE, -O2.
static sard_status *take_short(sd_cli *c, char **argv, int left, int *used) {
  for (const char *p = argv[0] + 1; *p; p++) {
    const sd_cli_flag *f = find_letter(c, *p);
    if (!f) return unknown_flag(c, argv[0], strcspn(argv[0], "="));
    if (!*f->arg) {
      add(c, f, "1");
      continue;
    }
    if (p[1]) {
      add(c, f, p[1] == '=' ? p + 2 : p + 1);
    } else {
      if (left < 2 || !*f->name)
        return SD_ERR(USAGE, "-%c needs a value: -%c%s%s", *p, *p, *f->name ? " " : "", f->arg);
      add(c, f, argv[1]), *used = 1;
    }
    return NULL;
  }
  return NULL;
}

// `sard m.onnx` is `sard inspect m.onnx` (run where there is no inspect).
static sard_status *find_verb(sd_cli *c, int argc, char **argv, int *first) {
  const char *names[VERBS], *word = argc > 1 ? argv[1] : "help";
  size_t n = 0;
  if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) word = "help";
  if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) word = "version";
  *first = 2;
  for (size_t i = 0; i < VERBS; i++) {
    if (!(verbs[i].programs & c->program->bit)) continue;
    names[n++] = verbs[i].name;
    if (strcmp(verbs[i].name, word) == 0) {
      c->verb = &verbs[i];
      return NULL;
    }
  }
  const char *dot = strrchr(word, '.');
  if (word[0] != '-' &&
      (strchr(word, '/') || (dot && (!strcmp(dot, ".onnx") || !strcmp(dot, ".sard") || !strcmp(dot, ".sard-ir"))))) {
    *first = 1;
    for (size_t i = 0; i < VERBS; i++)
      if (strcmp(verbs[i].name, c->program->bit == SD_CLI_SARD ? "inspect" : "run") == 0) c->verb = &verbs[i];
    return NULL;
  }
  sard_status *st = SD_ERR(USAGE, "unknown verb '%s'", word);
  for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++)
    if (strncmp(word, foreign[i].theirs, strcspn(word, "=")) == 0 && strlen(foreign[i].theirs) == strcspn(word, "="))
      return sd_status_field(st, SARD_TEXT_HINT, "%s", foreign[i].ours);
  for (size_t i = 0; i < VERBS; i++)
    if (strcmp(verbs[i].name, word) == 0)
      return sd_status_field(st, SARD_TEXT_HINT, "the full program has it: sard %s", word);
  const char *near = sd_str_nearest(word, names, n);
  if (near) return sd_status_field(st, SARD_TEXT_HINT, "did you mean '%s %s'?", c->program->name, near);
  return sd_status_field(st, SARD_TEXT_HINT, "'%s help' lists the verbs", c->program->name);
}

static sard_status *check_operands(const sd_cli *c) {
  const sd_cli_verb *v = c->verb;
  if (sd_args_given(c, "help") || sd_args_given(c, "list-passes")) return NULL;
  if (c->n_operands > v->most) return SD_ERR(USAGE, "%s: one argument too many: '%s'", v->name, c->operands[v->most]);
  if (c->n_operands < v->least && !sd_args_given(c, "from"))
    return sd_status_field(SD_ERR(USAGE, "%s: %s is missing", v->name, v->operands), SARD_TEXT_HINT,
                           "%s %s %s [flags]; '%s %s --help' lists them", c->program->name, v->name, v->operands,
                           c->program->name, v->name);
  return NULL;
}

sard_status *sd_args_parse(sd_cli *c, int argc, char **argv) {
  int first;
  bool only_operands = false;
  SD_TRY(find_verb(c, argc, argv, &first));
  for (int i = first; i < argc; i++) {
    char *a = argv[i];
    int used = 0;
    if (!only_operands && strcmp(a, "--") == 0) {
      only_operands = true;
    } else if (!only_operands && strncmp(a, "--", 2) == 0) {
      SD_TRY(take_long(c, argv + i, argc - i, &used));
    } else if (!only_operands && a[0] == '-' && a[1]) {
      SD_TRY(take_short(c, argv + i, argc - i, &used));
    } else if (c->n_operands < (int)(sizeof c->operands / sizeof *c->operands)) {
      c->operands[c->n_operands++] = a;
    } else {
      return SD_ERR(USAGE, "%s: too many arguments from '%s' on", c->verb->name, a);
    }
    i += used;
  }
  for (uint32_t i = 0; i < c->given.len; i++) {
    c->verbose += c->given.at[i].flag->letter == 'v';
    c->quiet |= c->given.at[i].flag->letter == 'q';
  }
  return check_operands(c);
}

// ---- asking ----

static bool names_flag(const sd_cli_flag *f, const char *flag) {
  return *f->name ? strcmp(f->name, flag) == 0 : flag[0] == f->letter && !flag[1];
}

const char *sd_args_next(const sd_cli *c, const char *flag, uint32_t *at) {
  for (; *at < c->given.len; (*at)++)
    if (names_flag(c->given.at[*at].flag, flag)) return c->given.at[(*at)++].value;
  return NULL;
}

const char *sd_args_get(const sd_cli *c, const char *flag) {
  for (uint32_t i = c->given.len; i-- > 0;)
    if (names_flag(c->given.at[i].flag, flag)) return c->given.at[i].value;
  for (size_t i = 0; i < FLAGS; i++)
    if (names_flag(&flags[i], flag) && sd_args_flag_of(&flags[i], c->verb->name)) return flags[i].def;
  return NULL;
}

bool sd_args_given(const sd_cli *c, const char *flag) {
  uint32_t at = 0;
  return sd_args_next(c, flag, &at) != NULL;
}

static const char *dashes(const char *flag) { return flag[1] ? "--" : "-"; }

sard_status *sd_args_int(const sd_cli *c, const char *flag, int64_t min, int64_t max, int64_t *out) {
  const char *text = sd_args_get(c, flag);
  if (!text) return NULL;
  char *end;
  errno = 0;
  long long v = strtoll(text, &end, 10);
  if (!*text || *end || errno || v < min || v > max)
    return SD_ERR(USAGE, "%s%s: '%s' is no whole number from %lld to %lld", dashes(flag), flag, text, (long long)min,
                  (long long)max);
  *out = v;
  return NULL;
}

sard_status *sd_args_number(const sd_cli *c, const char *flag, double min, double max, double *out) {
  const char *text = sd_args_get(c, flag);
  if (!text) return NULL;
  char *end;
  double v = strtod(text, &end);
  if (!*text || *end || !(v >= min && v <= max))
    return SD_ERR(USAGE, "%s%s: '%s' is no number from %g to %g", dashes(flag), flag, text, min, max);
  *out = v;
  return NULL;
}

// The words are those of the flag's row: "static|dynamic|weights".
sard_status *sd_args_choice(const sd_cli *c, const char *flag, int *out) {
  const char *given = sd_args_get(c, flag), *word = NULL;
  if (!given) return NULL;
  for (size_t i = 0; i < FLAGS && !word; i++)
    if (names_flag(&flags[i], flag) && sd_args_flag_of(&flags[i], c->verb->name)) word = flags[i].arg;
  const char *all = word;
  sd_str known = {0};
  for (int i = 0; word; i++) {
    size_t n = strcspn(word, "|");
    if (strlen(given) == n && memcmp(given, word, n) == 0) return *out = i, NULL;
    word = word[n] ? word + n + 1 : NULL;
  }
  for (const char *p = all; p && *p; p++) sd_str_put(&known, *p == '|' ? ", " : (char[2]){*p, 0});
  sard_status *st = SD_ERR(USAGE, "--%s: '%s' is none of %s", flag, given, known.p ? known.p : "");
  sd_str_free(&known);
  return st;
}

sard_status *sd_args_split(sd_cli *c, const char *flag, const char *value, char sep, const char **name,
                           const char **rest) {
  const char *at = sep == ':' ? strrchr(value, ':') : strchr(value, sep);
  if (!at || at == value || !at[1]) return SD_ERR(USAGE, "--%s: '%s' is not of the form NAME%c...", flag, value, sep);
  *name = sd_arena_strndup(c->arena, value, (size_t)(at - value));
  *rest = at + 1;
  return NULL;
}
