// Help texts and the tables of docs/cli.md, from cli.def.
#include <string.h>

#include "frontend/cli/cli.h"

void sd_help_verbs(const sd_cli *c, FILE *to) {
  const char *p = c->program->name;
  fprintf(to, "%s: %s\n\n", p,
          c->program->bit == SD_CLI_SARD ? "compiles and runs ONNX models" : "runs compiled models");
  fprintf(to, "usage: %s VERB [MODEL] [flags]\n\n", p);
  for (size_t i = 0; sd_args_verb_at(i); i++) {
    const sd_cli_verb *v = sd_args_verb_at(i);
    if (v->programs & c->program->bit) fprintf(to, "  %-8s %-8s %s\n", v->name, v->operands, v->what);
  }
  fprintf(to, "\n'%s VERB --help' shows the flags of a verb.", p);
  if (c->program->bit == SD_CLI_SARD) fprintf(to, " '%s MODEL' alone is '%s inspect MODEL'.", p, p);
  fprintf(
      to,
      "\nExit codes: 0 done, 1 a check failed, 2 usage, 3 bad model, 4 not supported, 5 device, 6 memory, 7 file, 9 slower,\n"
      "70 a bug in Sard, 130 interrupted.\n");
}

static void flag_text(const sd_cli_flag *f, char *out, size_t size) {
  size_t n = strlen(f->arg);
  bool many = n > 3 && strcmp(f->arg + n - 3, "...") == 0;
  char arg[64];
  snprintf(arg, sizeof arg, "%.*s", (int)(many ? n - 3 : n), f->arg);
  if (!*f->name) snprintf(out, size, "-%c%s", f->letter, arg);
  else if (f->letter)
    snprintf(out, size, "-%c, --%s%s%s", f->letter, f->name, *arg ? " " : "", arg);
  else
    snprintf(out, size, "--%s%s%s", f->name, *arg ? " " : "", arg);
}

void sd_help_verb(const sd_cli *c, const sd_cli_verb *v, FILE *to) {
  fprintf(to, "%s %s%s%s [flags]: %s\n\n", c->program->name, v->name, *v->operands ? " " : "", v->operands, v->what);
  for (size_t i = 0; sd_args_flag_at(i); i++) {
    const sd_cli_flag *f = sd_args_flag_at(i);
    char text[96];
    if (!sd_args_flag_of(f, v->name)) continue;
    flag_text(f, text, sizeof text);
    fprintf(to, "  %-25s %s%s%s%s\n", text, f->what, f->def ? " (default " : "", f->def ? f->def : "",
            f->def ? ")" : "");
  }
}

static void markdown_rows(const char *verb, FILE *to) {
  fprintf(to, "| flag | default | what |\n|---|---|---|\n");
  for (size_t i = 0; sd_args_flag_at(i); i++) {
    const sd_cli_flag *f = sd_args_flag_at(i);
    char text[96];
    bool common = strcmp(f->verbs, "*") == 0;
    if (verb ? common || !sd_args_flag_of(f, verb) : !common) continue;
    flag_text(f, text, sizeof text);
    fprintf(to, "| `");
    for (const char *p = text; *p; p++) fprintf(to, *p == '|' ? "\\|" : "%c", *p);
    fprintf(to, "` | %s | %s |\n", f->def ? f->def : "", f->what);
  }
}

void sd_help_markdown(FILE *to) {
  fprintf(to, "<!-- flags * -->\n");
  markdown_rows(NULL, to);
  fprintf(to, "<!-- end -->\n");
  for (size_t i = 0; sd_args_verb_at(i); i++) {
    const sd_cli_verb *v = sd_args_verb_at(i);
    bool own = false;
    for (size_t k = 0; sd_args_flag_at(k); k++)
      own |= strcmp(sd_args_flag_at(k)->verbs, "*") != 0 && sd_args_flag_of(sd_args_flag_at(k), v->name);
    if (!own) continue;
    fprintf(to, "<!-- flags %s -->\n", v->name);
    markdown_rows(v->name, to);
    fprintf(to, "<!-- end -->\n");
  }
}

sard_status *sd_verb_help(sd_cli *c) {
  if (c->n_operands == 0) {
    sd_help_verbs(c, stdout);
    return NULL;
  }
  if (strcmp(c->operands[0], "markdown") == 0) { // for docs/cli.md and its test
    sd_help_markdown(stdout);
    return NULL;
  }
  for (size_t i = 0; sd_args_verb_at(i); i++) {
    const sd_cli_verb *v = sd_args_verb_at(i);
    if (!(v->programs & c->program->bit) || strcmp(v->name, c->operands[0]) != 0) continue;
    sd_help_verb(c, v, stdout);
    return NULL;
  }
  return SD_ERR(USAGE, "there is no verb '%s'", c->operands[0]);
}
