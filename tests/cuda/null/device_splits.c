// Models over several devices of the null driver, beside the processor: every way to split, devices of both kinds,
// repeated runs, other sizes, outputs in place.
//
// usage: device_splits DIR [NAME...]   DIR: folders with model.onnx and test_data_set_0; SARD_CUDA names the null
// driver Each model runs in a process of its own. Last line: N passed, N failed, of models.
#include <stdio.h>
#include <stdlib.h>

#include "tests/cuda/null/pair.h"

enum { RUNS = 3, SIZES = 2 };

static const struct {
  const char *devices, *split;
} ways[] = {{"cuda:0,cuda:1", "batch"},  {"cpu:0,cuda:2,cuda:1", "batch"}, {"cuda:1,cuda:0", "layer"},
            {"cuda:0,cuda:1", "tensor"}, {"cuda:0,cpu:0,cuda:1", "layer"}, {"cuda:0,cuda:1,cuda:2", "tensor"},
            {"cpu:0,cuda:0", "tensor"}};

// The later runs write into the outputs of the first one.
static bool runs_again(pair *p, const char *what) {
  values out = {0};
  bool ok = true;
  for (int r = 0; r < RUNS && ok; r++) ok = !fails(p, what, run(p, p->session, &out)) && agree(p, &out, what);
  values_forget(&out);
  return ok;
}

static bool all_sizes(pair *p) {
  for (int at = 0; at < SIZES && p->cpu.n_symbols; at++) {
    char what[40];
    subject_choose(&p->cpu, at);
    snprintf(what, sizeof what, "sizes %d", at);
    if (expect(p) && !runs_again(p, what)) return false;
  }
  subject_choose_recorded(&p->cpu);
  return expect(p) ? runs_again(p, "the recorded sizes") : wrong(p, "the processor fails");
}

static bool try_way(pair *p, const char *devices, const char *split) {
  const option options[] = {{"devices", devices}, {"split", split}, {NULL, NULL}};
  sard_status *st = open_with(p, options, &p->model);
  int code = sard_status_code(st);
  if (code == SARD_E_UNSUPPORTED || code == SARD_E_USAGE) return sard_status_free(st), true; // it cannot be split so
  bool ok = !fails(p, "opening", st) && !fails(p, "session", sard_session_new(p->model, NULL, &p->session)) &&
            all_sizes(p) && !fails(p, "reset", sard_session_reset(p->session)) && runs_again(p, "after a reset");
  if (ask("findings") && ok) ok = wrong(p, "a finding of the driver");
  if (!ok) printf("FAIL %s, %s over %s: %s\n", p->cpu.folder, split, devices, p->text);
  if (!ok) return false;
  sard_session_free(p->session), sard_model_free(p->model);
  p->session = NULL, p->model = NULL;
  return true;
}

static bool try_all(pair *p) {
  for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
    if (!try_way(p, ways[i].devices, ways[i].split)) return false;
  return true;
}

int main(int argc, char **argv) {
  setenv("SARD_NULL_DEVICES", "3", 1), ask("reset");
  return pair_main(argc, argv, try_all);
}
