// sard check: models with recorded inputs and outputs, run where they will be used. A case is a folder with model.sard (or
// model.onnx where there is a compiler) and folders test_data_set_N of input_I.pb and output_I.pb, as ONNX's own cases have.
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/cli/cli.h"
#include "runtime/collective/mpi.h"
#include "runtime/io/tensor_io.h"

typedef struct checking {
  sd_cli *c;
  sard_context *ctx;
  SD_VEC(const char *) cases;
  double rtol, atol;
  int passed, failed;
} checking;

typedef struct one_case {
  const char *dir;
  sd_cli_model m;
  sard_session *session;
  double rtol, atol;
  const char *wrong; // what differs; NULL: nothing so far
} one_case;

// ---- finding cases ----

static const char *model_of(checking *k, const char *dir) {
  const char *artifact = sd_files_path(k->c, dir, "model.sard"), *model = sd_files_path(k->c, dir, "model.onnx");
  if (sd_files_exists(artifact)) return artifact;
  return k->c->program->compiler && sd_files_exists(model) ? model : NULL;
}

static int by_text(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

// A folder is a case, or its folders are.
static sard_status *find_cases(checking *k, const char *dir) {
  if (model_of(k, dir)) {
    sd_vec_push(k->c->arena, &k->cases, dir);
    return NULL;
  }
  uint32_t first = k->cases.len;
  DIR *d = opendir(dir);
  if (!d) return sd_status_errno("cannot read the folder", dir);
  for (struct dirent *e; (e = readdir(d)) != NULL;) {
    const char *sub = *e->d_name == '.' ? NULL : sd_files_path(k->c, dir, "%s", e->d_name);
    if (sub && model_of(k, sub)) sd_vec_push(k->c->arena, &k->cases, sub);
  }
  closedir(d);
  if (k->cases.len == first) return SD_ERR(IO, "'%s' has neither a model nor folders with one", dir);
  qsort(k->cases.at + first, k->cases.len - first, sizeof *k->cases.at, by_text);
  return NULL;
}

// ---- one case ----

// "RTOL ATOL" in the case's file `tolerance`, else those of the flags.
static void read_tolerance(checking *k, one_case *o) {
  o->rtol = k->rtol, o->atol = k->atol;
  FILE *f = fopen(sd_files_path(k->c, o->dir, "tolerance"), "r");
  double r, a;
  if (f && fscanf(f, "%lf %lf", &r, &a) == 2) o->rtol = r, o->atol = a;
  if (f) fclose(f);
}

static sard_status *read_tensors(checking *k, const one_case *o, const char *set, int is_output, sd_cli_tensors *out) {
  out->n = sard_model_io_count(o->m.model, is_output);
  out->at = SD_NEW_ARRAY(k->c->arena, sard_tensor *, out->n + 1);
  for (int i = 0; i < out->n; i++) {
    sard_tensor_desc d;
    SD_TRY(sard_model_io(o->m.model, is_output, i, &d));
    SD_TRY(sd_value_read(k->ctx, sd_files_path(k->c, set, is_output ? "output_%d.pb" : "input_%d.pb", i), d.dtype, &out->at[i]));
  }
  return NULL;
}

static void compare(checking *k, one_case *o, const char *set, const sd_cli_tensors *got, const sd_cli_tensors *want) {
  for (int i = 0; i < got->n && !o->wrong; i++) {
    sd_diff d;
    sd_diff_tensors(k->c, got->at[i], want->at[i], o->rtol, o->atol, &d);
    if (d.passed) continue;
    o->wrong = d.reason ? sd_arena_printf(k->c->arena, "%s, output %d: %s", set, i, d.reason)
                        : sd_arena_printf(k->c->arena, "%s, output %d: %llu of %llu beyond the tolerance, first at %llu: %.9g instead of %.9g", set, i,
                                          (unsigned long long)d.wrong, (unsigned long long)d.count, (unsigned long long)d.first_wrong, d.got, d.want);
  }
}

static sard_status *run_set(checking *k, one_case *o, const char *set) {
  sd_cli_tensors in = {0}, want = {0}, got = {0};
  sard_status *st = read_tensors(k, o, set, 0, &in);
  if (!st) st = read_tensors(k, o, set, 1, &want);
  if (!st) {
    got.n = want.n, got.at = SD_NEW_ARRAY(k->c->arena, sard_tensor *, want.n + 1);
    sd_stop_session(o->session);
    st = sard_session_run(o->session, in.at, in.n, got.at, got.n);
    sd_stop_session(NULL);
  }
  if (!st) compare(k, o, set, &got, &want);
  sd_inputs_free(&in);
  sd_inputs_free(&want);
  sd_inputs_free(&got);
  return st;
}

// What is measured for --precision auto stands between the cases as text only.
static sard_status *settle(checking *k, const char *path) {
  sd_str json = k->c->json;
  if (!k->c->program->compiler) return NULL;
  k->c->json = (sd_str){0}, k->c->precision = NULL;
  sard_status *st = k->c->program->compiler->settle(k->c, path);
  sd_str_free(&k->c->json);
  k->c->json = json;
  return st;
}

static sard_status *run_sets(checking *k, one_case *o) {
  int n = 0;
  SD_TRY(settle(k, model_of(k, o->dir)));
  SD_TRY(sd_model_load_in(k->c, k->ctx, model_of(k, o->dir), &o->m));
  SD_TRY(sard_session_new(o->m.model, NULL, &o->session));
  for (; !o->wrong; n++) {
    const char *set = sd_files_path(k->c, o->dir, "test_data_set_%d", n);
    if (!sd_files_exists(set)) break;
    SD_TRY(run_set(k, o, set));
  }
  return n ? NULL : SD_ERR(IO, "'%s' has no folder test_data_set_0", o->dir);
}

static void tell(checking *k, const one_case *o, sard_status *st) {
  const char *why = st ? sard_status_text(st, SARD_TEXT_MESSAGE) : o->wrong;
  k->failed += why != NULL, k->passed += why == NULL;
  sd_strf(&k->c->json, "%s{\"case\":", k->passed + k->failed > 1 ? "," : ""), sd_str_json(&k->c->json, o->dir);
  sd_strf(&k->c->json, ",\"passed\":%s", why ? "false" : "true");
  if (why) sd_str_put(&k->c->json, ",\"why\":"), sd_str_json(&k->c->json, why);
  sd_str_put(&k->c->json, "}");
  if (why) sd_cli_say(k->c, "FAIL %s: %s\n", o->dir, why);
  else sd_cli_detail(k->c, "ok   %s", o->dir);
}

// Goes on after a case that fails; stops where the next ones would fail alike.
static sard_status *check_case(checking *k, const char *dir) {
  one_case o = {.dir = dir};
  read_tolerance(k, &o);
  sard_status *st = run_sets(k, &o);
  sard_session_free(o.session);
  sard_model_free(o.m.model);
  int code = sard_status_code(st);
  if (code == SARD_E_CANCELLED || code == SARD_E_USAGE || (code == SARD_E_DEVICE && k->passed + k->failed == 0)) return st;
  bool failed = st != NULL, of_first = failed;
  sard_status *agreed = sd_mpi_agree(&of_first);
  if (!agreed && failed != of_first) return st ? st : SD_ERR(DEVICE, "'%s' fails in rank 0 only", dir);
  tell(k, &o, st);
  sard_status_free(st);
  return agreed;
}

static sard_status *steps(checking *k) {
  k->rtol = 1e-3, k->atol = 1e-5;
  SD_TRY(sd_args_number(k->c, "rtol", 0, 1e30, &k->rtol));
  SD_TRY(sd_args_number(k->c, "atol", 0, 1e30, &k->atol));
  for (int i = 0; i < k->c->n_operands; i++) SD_TRY(find_cases(k, k->c->operands[i]));
  SD_TRY(sd_model_context(k->c, &k->ctx));
  sd_str_put(&k->c->json, ",\"cases\":[");
  for (uint32_t i = 0; i < k->cases.len && !sd_stop_asked(); i++) {
    sd_cli_progress(k->c, sd_arena_printf(k->c->arena, "[%u/%u] %s ...", i + 1, k->cases.len, k->cases.at[i]));
    SD_TRY(check_case(k, k->cases.at[i]));
  }
  sd_cli_progress(k->c, NULL);
  sd_strf(&k->c->json, "],\"passed\":%d,\"failed\":%d", k->passed, k->failed);
  sd_cli_say(k->c, "%d passed, %d failed\n", k->passed, k->failed);
  k->c->failed |= k->failed > 0 && !sd_mpi_rank(); // rank 0 tells
  return sd_stop_check();
}

sard_status *sd_verb_check(sd_cli *c) {
  checking k = {.c = c};
  sard_status *st = steps(&k);
  sard_context_free(k.ctx);
  return st;
}
