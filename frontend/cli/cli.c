// A command from argv to its exit code: parsing, the verb, errors and the JSON result.
#include "frontend/cli/cli.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "runtime/collective/mpi.h"

static bool progress_shown;

void sd_cli_progress(sd_cli *c, const char *text) {
  if (c->quiet || !isatty(2)) return;
  if (c->within && text) fprintf(stderr, "\r\033[K%s: %s", c->within, text);
  else if (progress_shown || text)
    fprintf(stderr, "\r\033[K%s", text ? text : "");
  progress_shown = text != NULL;
  fflush(stderr);
}

void sd_cli_say(sd_cli *c, const char *fmt, ...) {
  va_list ap;
  if (c->quiet || c->within || sd_mpi_rank()) return;
  va_start(ap, fmt);
  vfprintf(c->out, fmt, ap);
  va_end(ap);
}

static void to_stderr(sd_cli *c, const char *fmt, va_list ap) {
  sd_cli_progress(c, NULL);
  fprintf(stderr, "%s: ", c->program->name);
  vfprintf(stderr, fmt, ap);
  fputc('\n', stderr);
}

void sd_cli_note(sd_cli *c, const char *fmt, ...) {
  va_list ap;
  if (c->quiet || c->within || sd_mpi_rank()) return;
  va_start(ap, fmt);
  to_stderr(c, fmt, ap);
  va_end(ap);
}

void sd_cli_detail(sd_cli *c, const char *fmt, ...) {
  va_list ap;
  if (c->quiet || c->within || !c->verbose || sd_mpi_rank()) return;
  va_start(ap, fmt);
  to_stderr(c, fmt, ap);
  va_end(ap);
}

const char *sd_cli_bytes(uint64_t n, char out[24]) {
  static const char *const unit[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
  double v = (double)n;
  int k = 0;
  for (; v >= 1000 && k < 6; k++) v /= 1000;
  snprintf(out, 24, "%.*f %s", k == 0 ? 0 : v < 10 ? 2 : 1, v, unit[k]);
  return out;
}

void sd_cli_markup(sd_str *s, const char *text, size_t most) {
  size_t n = strlen(text);
  for (size_t i = 0; i < n && i < most; i++) {
    unsigned char ch = (unsigned char)text[i];
    if (ch == '<') sd_str_put(s, "&lt;");
    else if (ch == '>')
      sd_str_put(s, "&gt;");
    else if (ch == '&')
      sd_str_put(s, "&amp;");
    else if (ch == '"')
      sd_str_put(s, "&quot;");
    else if (ch >= 32 || ch == '\n')
      sd_str_putn(s, text + i, 1);
  }
  if (n > most) sd_str_put(s, "\xe2\x80\xa6");
}

// ---- errors ----

static const char *const field_name[SARD_TEXT_COUNT] = {[SARD_TEXT_NODE] = "node",
                                                        [SARD_TEXT_OP] = "op",
                                                        [SARD_TEXT_PASS] = "pass",
                                                        [SARD_TEXT_FILE] = "file",
                                                        [SARD_TEXT_HINT] = "hint"};

static void print_error(sd_cli *c, const sard_status *st) {
  const char *message = sard_status_text(st, SARD_TEXT_MESSAGE);
  sd_cli_progress(c, NULL);
  fflush(stdout);
  fprintf(stderr, "%s: %s%s\n", c->program->name, sard_status_code(st) == SARD_E_CHECK ? "" : "error: ", message);
  for (int f = 0; f < SARD_TEXT_COUNT; f++) {
    const char *text = sard_status_text(st, f);
    if (!*text || f == SARD_TEXT_MESSAGE || (f == SARD_TEXT_WHERE && !c->verbose)) continue;
    if (f == SARD_TEXT_FILE && strstr(message, text)) continue; // said already
    fprintf(stderr, "  %s: %s\n", f == SARD_TEXT_WHERE ? "where" : field_name[f], text);
  }
  if (sard_status_code(st) == SARD_E_INTERNAL)
    fprintf(stderr, "  this is a bug in Sard; please report it with the model and the command\n");
}

static void json_error(sd_cli *c, const sard_status *st) {
  sd_strf(&c->json, ",\"error\":{\"code\":%d,\"message\":", sard_status_code(st));
  sd_str_json(&c->json, sard_status_text(st, SARD_TEXT_MESSAGE));
  for (int f = SARD_TEXT_NODE; f <= SARD_TEXT_HINT; f++) {
    if (!*sard_status_text(st, f)) continue;
    sd_strf(&c->json, ",\"%s\":", field_name[f]);
    sd_str_json(&c->json, sard_status_text(st, f));
  }
  sd_str_put(&c->json, "}");
}

// ---- JSON result ----

static sard_status *write_json(sd_cli *c, int code) {
  const char *path = sd_mpi_rank() ? NULL : sd_args_get(c, "json");
  if (!path) return NULL;
  sd_str s = {0};
  sd_strf(&s, "{\"schema\":1,\"verb\":\"%s\",\"version\":\"%s\",\"exit_code\":%d", c->verb->name, SARD_VERSION_TEXT,
          code);
  if (c->json.p) sd_str_putn(&s, c->json.p, c->json.len);
  sd_str_put(&s, "}\n");
  sard_status *st = s.failed || c->json.failed ? SD_ERR(NOMEM, "out of memory for the JSON result")
                                               : sd_files_write(path, s.p, s.len);
  sd_str_free(&s);
  return st;
}

// ---- a command ----

static sard_status *run_verb(sd_cli *c) {
  for (const sd_cli_action *a = c->program->actions; a->verb; a++)
    if (strcmp(a->verb, c->verb->name) == 0) return a->run(c);
  return SD_ERR(INTERNAL, "verb '%s' has no function", c->verb->name);
}

sard_status *sd_cli_parse_within(const sd_cli *outer, const char *within, int argc, char **argv, sd_cli *out) {
  *out = (sd_cli){.program = outer->program, .arena = outer->arena, .out = outer->out, .within = within};
  SD_TRY(sd_args_parse(out, argc, argv));
  out->quiet |= outer->quiet;
  return NULL;
}

sard_status *sd_cli_call(const sd_cli *outer, const char *within, int argc, char **argv, sd_cli *out) {
  SD_TRY(sd_cli_parse_within(outer, within, argc, argv, out));
  out->arena = sd_arena_scratch(outer->arena);
  sard_status *st = run_verb(out);
  sd_arena_free(out->arena);
  out->arena = outer->arena;
  return st;
}

static sard_status *act(sd_cli *c) {
  const char *json = sd_args_get(c, "json");
  if (sd_args_given(c, "help")) {
    sd_help_verb(c, c->verb, stdout);
    return NULL;
  }
  if (json && strcmp(json, "-") == 0) c->out = stderr;
  if (json) SD_TRY(sd_files_can_write(json));
  return run_verb(c);
}

static int finish(sd_cli *c, sard_status *st, bool parsed) {
  int code = st ? sard_status_code(st) : c->failed ? SARD_E_CHECK : 0;
  if (code == SARD_E_CANCELLED && sd_stop_asked()) code = 130;
  if (st && parsed) json_error(c, st);
  if (st && code == 130) {
    sd_stop_hold(); // for good: this is the end
    sd_stop_say();
  } else if (st && sd_mpi_rank()) { // rank 0 has the same error, or did not get so far
    sleep(1);
    st = sd_status_context(st, "rank %d", sd_mpi_rank());
    print_error(c, st);
  } else if (st)
    print_error(c, st);
  sard_status_free(st);
  if (parsed && !sd_args_given(c, "help")) {
    sard_status *bad = write_json(c, code);
    if (bad) {
      print_error(c, bad);
      if (!code) code = sard_status_code(bad);
      sard_status_free(bad);
    }
  }
  sd_cli_progress(c, NULL);
  errno = 0;
  // A reader that went away (| head) is no error; a full disk is.
  if ((fflush(stdout) != 0 || ferror(stdout)) && errno != EPIPE && errno != 0) {
    fprintf(stderr, "%s: error: cannot write to standard output: %s\n", c->program->name, strerror(errno));
    if (!code) code = SARD_E_IO;
  }
  return code;
}

int sd_cli_main(int argc, char **argv, const sd_cli_program *p) {
  sd_cli c = {.program = p, .out = stdout};
  jmp_buf oom;
  sd_stop_install();
  c.arena = sd_arena_new();
  if (!c.arena || setjmp(oom)) {
    fprintf(stderr, "%s: error: out of memory\n", p->name);
    return SARD_E_NOMEM;
  }
  sd_arena_set_oom(c.arena, &oom);
  sard_status *st = sd_args_parse(&c, argc, argv);
  bool parsed = !st;
  if (parsed) st = act(&c);
  int code = finish(&c, st, parsed);
  sd_str_free(&c.json);
  sd_arena_free(c.arena);
  return code;
}

sard_status *sd_verb_version(sd_cli *c) {
  sd_cli_say(c, "%s %s\n", c->program->name, SARD_VERSION_TEXT);
  sd_strf(&c->json, ",\"program\":\"%s\",\"abi\":%d", c->program->name, SARD_ABI);
  return NULL;
}
