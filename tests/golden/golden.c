// Golden tests of the graph level: each *.test file has a line of passes, a module, "----" and the expected text.
//   passes: fold cse        names of passes.def in the order to run; "passes:" alone checks the text form
// The expected text is the module after the passes, or "error: message". Arguments: [--update] [files...]
#include <dirent.h>
#include <stdio.h>

#include "passes/pass.h"
#include "runtime/base/alloc.h"
#include "runtime/base/file.h"
#include "tests/unit/check.h"

static bool update;

static sard_status *run_passes(sd_module *m, char *names) {
  sd_pass_options o = {.opt = 3, .bisect = -1};
  for (char *save, *name = strtok_r(names, " ", &save); name; name = strtok_r(NULL, " ", &save)) {
    const sd_pass *p = sd_pass_find(name);
    if (!p) return SD_ERR(USAGE, "there is no pass '%s'", name);
    SD_TRY(sd_passes_run(m, &o, name, name, NULL, NULL));
    SD_TRY_MSG(sd_module_verify(m), "after %s", name);
  }
  return NULL;
}

// A dump is a legal input: it verifies and prints the same.
static void check_reparse(const char *file, const char *text) {
  sd_module *m = NULL;
  sd_str again = {0};
  CHECK_OK(sd_module_parse(text, file, &m));
  if (!m) return;
  CHECK_OK(sd_module_verify(m));
  CHECK_OK(sd_module_print(m, false, &again));
  CHECK_TEXT(again.p, text);
  sd_str_free(&again);
  sd_module_free(m);
}

// The text after the passes, or "error: ...", owned by the caller (sd_free).
static char *transform(const char *file, const char *text, char *names) {
  sd_str out = {0};
  sd_module *m = NULL;
  jmp_buf oom;
  sard_status *st = sd_module_parse(text, file, &m);
  if (!st) {
    sd_arena_set_oom(m->arena, &oom);
    if (setjmp(oom)) st = SD_ERR(NOMEM, "out of memory");
    else st = sd_module_verify(m);
    if (!st) st = run_passes(m, names);
    if (!st) st = sd_module_print(m, false, &out);
    if (!st) check_reparse(file, out.p);
  }
  if (st) {
    sd_str_free(&out);
    sd_strf(&out, "error: %s\n", sard_status_text(st, SARD_TEXT_MESSAGE));
    sard_status_free(st);
  }
  sd_module_free(m);
  return sd_str_take(&out);
}

static void rewrite(const char *path, const char *head, size_t n, const char *got) {
  sd_piece pieces[] = {{head, n}, {"----\n", 5}, {got, strlen(got)}};
  CHECK_OK(sd_file_write(path, pieces, 3));
}

static void show(const char *path, const char *got, const char *want) {
  size_t i = 0, line = 1;
  for (; got[i] && got[i] == want[i]; i++) line += got[i] == '\n';
  printf("%s: differs in line %zu of the output. Got:\n%s", path, line, got);
}

static void run_file(const char *path) {
  sd_map map;
  sard_status *st = sd_file_map(path, &map);
  if (st) {
    CHECK_OK(st);
    return;
  }
  char *all = malloc(map.size + 1);
  memcpy(all, map.data, map.size);
  all[map.size] = 0;
  sd_file_unmap(&map);
  const char *name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
  char *body = strchr(all, '\n'), *sep = strstr(all, "\n----\n");
  if (strncmp(all, "passes:", 7) || !body || !sep) {
    printf("%s: expected a line of passes, a module and ----\n", path);
    CHECK(false);
    free(all);
    return;
  }
  char *names = strndup(all + 7, (size_t)(body - all - 7)), *text = strndup(body + 1, (size_t)(sep - body));
  char *got = transform(name, text, names);
  bool same = got && strcmp(got, sep + 6) == 0;
  if (!same && update) rewrite(path, all, (size_t)(sep + 1 - all), got);
  else if (!same) show(path, got ? got : "", sep + 6);
  CHECK(same || update);
  free(names);
  free(text);
  sd_free(got);
  free(all);
}

static void run_folder(const char *folder) {
  struct dirent **list;
  int n = scandir(folder, &list, NULL, alphasort);
  for (int i = 0; i < n; i++) {
    char path[4096];
    size_t len = strlen(list[i]->d_name);
    snprintf(path, sizeof path, "%s/%s", folder, list[i]->d_name);
    if (len > 5 && strcmp(list[i]->d_name + len - 5, ".test") == 0) run_file(path);
    free(list[i]);
  }
  if (n >= 0) free(list);
}

int main(int argc, char **argv) {
  char folder[4096] = __FILE__;
  int files = 0;
  for (int i = 1; i < argc; i++)
    if (strcmp(argv[i], "--update") == 0) update = true;
    else run_file(argv[i]), files++;
  char *slash = strrchr(folder, '/');
  if (slash) *slash = 0;
  if (!files) run_folder(slash ? folder : ".");
  return check_end();
}
