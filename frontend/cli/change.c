// What the verbs that write another model than MODEL have in common: where it goes, the files beside it,
// which flags need others, and what of an earlier run still counts.
#include <string.h>
#include <sys/stat.h>

#include "frontend/cli/tools.h"

// Files that are written at the end: that they can be is found before work begins.
static const char *const written[] = {"output", "html", "svg", "resume", "plan"};

static const struct { // verbs: as in cli.def; why: "", or what the flag does with it
  const char *verbs, *flag, *needs, *why;
} needs[] = {
    {"quantize prune convert", "metric", "data", ""},
    {"quantize prune convert", "max-drop", "metric", ""},
    {"quantize prune", "sensitivity", "data", ": it looks at what samples give"},
    {"quantize prune", "samples", "data", ""},
    {"quantize", "smooth", "data", ": it measures channels of activations"},
    {"quantize", "awq", "data", ": it measures channels of activations"},
};

static bool is_of(const char *verbs, const char *verb) {
  const sd_cli_flag row = {.verbs = verbs};
  return sd_args_flag_of(&row, verb);
}

sard_status *sd_change_out(sd_cli *c, const char *out) {
  struct stat in, to;
  if (stat(c->operands[0], &in) != 0 || stat(out, &to) != 0 || in.st_ino != to.st_ino ||
      in.st_dev != to.st_dev)
    return NULL;
  return SD_ERR(USAGE, "-o %s is MODEL itself: give another file", out);
}

sard_status *sd_change_flags(sd_cli *c, const char *what, const char **out) {
  const char *verb = c->verb->name;
  *out = sd_args_get(c, "output");
  if (!*out) return SD_ERR(USAGE, "-o FILE is missing: where the %s goes", what);
  if (sd_files_is_artifact(c->operands[0]))
    return SD_ERR(USAGE, "'%s' is compiled already: %s the .onnx", c->operands[0], verb);
  SD_TRY(sd_change_out(c, *out));
  for (size_t i = 0; i < sizeof written / sizeof *written; i++)
    if (sd_args_given(c, written[i])) SD_TRY(sd_files_can_write(sd_args_get(c, written[i])));
  for (size_t i = 0; i < sizeof needs / sizeof *needs; i++)
    if (is_of(needs[i].verbs, verb) && sd_args_given(c, needs[i].flag) && !sd_args_given(c, needs[i].needs))
      return SD_ERR(USAGE, "--%s needs --%s%s", needs[i].flag, needs[i].needs, needs[i].why);
  return NULL;
}

void sd_change_key(sd_cli *c, const char *const *apart, size_t n, sd_str *s) {
  const char *const files[] = {c->operands[0], sd_args_get(c, "data")};
  for (int i = 0; i < 2; i++) {
    struct stat st = {0};
    if (files[i] && stat(files[i], &st) == 0)
      sd_strf(s, " %s %lld %lld", files[i], (long long)st.st_size, (long long)st.st_mtime);
  }
  for (uint32_t i = 0; i < c->given.len; i++) {
    const sd_cli_given *g = &c->given.at[i];
    bool counts = true;
    for (size_t k = 0; k < n; k++) counts &= strcmp(g->flag->name, apart[k]) != 0;
    if (counts)
      sd_strf(s, " --%s%c=%s", g->flag->name, g->flag->letter ? g->flag->letter : ' ', g->value ? g->value : "");
  }
}

uint64_t sd_change_bytes(const sd_piece *at, size_t n) {
  uint64_t bytes = 0;
  for (size_t i = 0; i < n; i++) bytes += at[i].size;
  return bytes;
}

void sd_change_fill(const sd_piece *at, size_t n, const uint8_t *from) {
  for (size_t i = 0; i < n; from += at[i++].size) memcpy((void *)(uintptr_t)at[i].data, from, at[i].size);
}
