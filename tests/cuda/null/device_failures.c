// Failures of the driver and of NVRTC, one at a time: for every entry of the driver the k-th call of a whole life
// (context, model, sessions, runs) fails, for k = 1, 2, ... until a life does not come so far; launches that fail while
// they run; old, missing and broken drivers. Each failure is an error that names what happened, or none where the call
// only tells a time or gives something back; nothing is left on the device; the next life is a good one.
//
// usage: device_failures MODEL.onnx [ENTRY [DEVICES SPLIT]]   SARD_CUDA and SARD_NVRTC name the null driver and the
// fake NVRTC; ENTRY: only the calls of entries with that in their names; DEVICES: a life is one over several, of which
// one fails, and the error names it Last line: N passed, N failed, of failures tried.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/status.h"
#include "sard/sard_compile.h"
#include "tests/cuda/null/ask.h"

enum { MOST_IO = 16, RUNS = 3, MOST_CALLS = 400, WITHIN = 10, PIECES = 5 };

static const char *model_path, *artifact, *devices, *split; // devices: NULL for one
static int passed, failed;

// ---- a life ----
typedef struct life {
  sard_context *ctx;
  sard_model *model;
  sard_session *session;
  sard_tensor *in[MOST_IO], *out[MOST_IO];
  int n_in, n_out;
} life;

static sard_status *open_model(life *l, const char *path, const char *device, const char *fallback) {
  sard_source src = {.size = sizeof src, .path = path};
  sard_options *o = sard_options_new();
  sard_status *st = sard_options_set(o, devices ? "devices" : "device", devices ? devices : device);
  if (!st && devices) st = sard_options_set(o, "split", split);
  if (!st) st = sard_options_set(o, "threads", "1");
  if (!st && fallback) st = sard_options_set(o, "fallback", fallback);
  if (!st) st = sard_model_open(l->ctx, &src, o, &l->model);
  sard_options_free(o);
  return st;
}

static sard_status *make_inputs(life *l) {
  l->n_in = sard_model_io_count(l->model, 0), l->n_out = sard_model_io_count(l->model, 1);
  for (int i = 0; i < l->n_in; i++) {
    sard_tensor_desc d = {.size = sizeof d};
    size_t count = 1;
    SD_TRY(sard_model_io(l->model, 0, i, &d));
    for (int k = 0; k < d.rank; k++)
      d.dims[k] = d.dims[k] < 0 ? devices ? PIECES : 2 : d.dims[k], count *= (size_t)d.dims[k];
    SD_TRY(sard_tensor_new(l->ctx, &d, &l->in[i]));
    float *p = sard_tensor_data(l->in[i], NULL);
    for (size_t k = 0; k < count && d.dtype == SARD_F32; k++) p[k] = (float)(k % 7) * 0.25f;
  }
  return NULL;
}

static sard_status *run_all(life *l, bool profile) {
  sard_options *o = sard_options_new();
  sard_status *st = profile ? sard_options_set(o, "profile", "1") : NULL;
  if (!st) st = sard_session_new(l->model, o, &l->session);
  sard_options_free(o);
  for (int r = 0; r < RUNS && !st; r++) st = sard_session_run(l->session, l->in, l->n_in, l->out, l->n_out);
  return st;
}

static void end(life *l) {
  for (int i = 0; i < l->n_in; i++) sard_tensor_free(l->in[i]);
  for (int i = 0; i < l->n_out; i++) sard_tensor_free(l->out[i]);
  sard_session_free(l->session), sard_model_free(l->model), sard_context_free(l->ctx);
  *l = (life){0};
}

static sard_status *live_with(const char *path, const char *fallback) {
  life l = {0};
  sard_status *st = sard_context_new(NULL, &l.ctx);
  if (!st) sard_compiler_use(l.ctx);
  if (!st) st = open_model(&l, path, "cuda", fallback);
  if (!st) st = make_inputs(&l);
  if (!st) st = run_all(&l, false);
  if (!st && !devices) {
    sard_session_free(l.session), l.session = NULL;
    st = run_all(&l, true);
  }
  end(&l);
  return st;
}

// ---- one failure ----
static void tell(bool ok, const char *what, const char *why) {
  *(ok ? &passed : &failed) += 1;
  if (!ok) printf("FAIL %s: %s\n", what, why);
}

static struct timespec begun;

static void clear(void) {
  clock_gettime(CLOCK_MONOTONIC, &begun);
  static const char *const names[] = {"SARD_NULL_FAIL", "SARD_NULL_FAULT", "SARD_NULL_MEMORY", "SARD_NULL_VERSION", "SARD_NULL_MISSING",
                                      "SARD_NULL_DEVICES", "SARD_NULL_CC", "SARD_FAKE_NVRTC_FAIL", "SARD_FAKE_NVRTC_VERSION",
                                      "SARD_FAKE_NVRTC_ARCHS"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) unsetenv(names[i]);
  if (devices) setenv("SARD_NULL_DEVICES", "2", 1);
  ask("reset"), ask("findings");
}

// Judges the end of a life in which something failed. `silent`: that it failed need not show.
static void judge(const char *what, sard_status *st, bool silent, int code, const char *says) {
  char why[600] = "";
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  int got = sard_status_code(st);
  const char *text = sard_status_text(st, SARD_TEXT_MESSAGE);
  if (!st && !silent) snprintf(why, sizeof why, "no error");
  else if (st && got != code) snprintf(why, sizeof why, "code %d instead of %d: %s", got, code, text);
  else if (st && !strstr(text, says)) snprintf(why, sizeof why, "the message does not say '%s': %s", says, text);
  else if (st && devices && !strstr(text, "device cuda:") && !strstr(text, "on cuda:"))
    snprintf(why, sizeof why, "the message names no device: %s", text);
  else if (now.tv_sec - begun.tv_sec > WITHIN)
    snprintf(why, sizeof why, "%ld s", (long)(now.tv_sec - begun.tv_sec));
  else if (ask("live") != 0) snprintf(why, sizeof why, "%ld objects are left on the device (%s)", ask("live"), text);
  else if (ask("findings") != 0) snprintf(why, sizeof why, "a finding of the driver (%s)", text);
  tell(!*why, what, why);
  sard_status_free(st);
}

static void good_life(const char *what) {
  clear();
  sard_status *st = live_with(artifact, NULL);
  if (!st && !ask("live") && !ask("findings")) return;
  tell(false, what, st ? sard_status_text(st, SARD_TEXT_MESSAGE) : "the life after it is not a good one");
  sard_status_free(st);
}

// ---- the k-th call of an entry ----
// Entries that only tell a time or a text, or give something back: a life goes on without them.
static bool is_silent(const char *name) {
  static const char *const silent[] = {"cuGetErrorName", "cuGetErrorString", "cuEventElapsedTime", "cuMemFree", "cuMemFreeAsync", "cuMemFreeHost", "cuStreamDestroy",
                                       "cuEventDestroy", "cuGraphDestroy", "cuGraphExecDestroy", "cuModuleUnload", "cuDevicePrimaryCtxRelease",
                                       "cuCtxSetCurrent"};
  for (size_t i = 0; i < sizeof silent / sizeof *silent; i++)
    if (!strcmp(name, silent[i])) return true;
  return false;
}

static void each_call(const char *name, int error) {
  char fail[100], says[20];
  snprintf(says, sizeof says, "(%d", error);
  for (int k = 1; k <= MOST_CALLS; k += 1 + k / 24) {
    clear();
    snprintf(fail, sizeof fail, "%s:%d:%d", name, k, error);
    setenv("SARD_NULL_FAIL", fail, 1), ask("reset");
    sard_status *st = live_with(artifact, NULL);
    bool reached = ask(name) >= k;
    if (reached) judge(fail, st, is_silent(name), error == 2 ? SARD_E_NOMEM : SARD_E_DEVICE, error == 2 ? "out of memory" : says);
    else if (st) tell(false, fail, sard_status_text(st, SARD_TEXT_MESSAGE));
    if (!reached) {
      sard_status_free(st);
      break;
    }
  }
  good_life(name);
}

static void each_launch(int error) {
  char fault[40], says[20];
  snprintf(says, sizeof says, "(%d", error);
  for (int k = 1; k <= MOST_CALLS; k += 1 + k / 24) {
    clear();
    snprintf(fault, sizeof fault, "%d:%d", k, error);
    setenv("SARD_NULL_FAULT", fault, 1), ask("reset");
    sard_status *st = live_with(artifact, NULL);
    bool reached = ask("launches") >= k;
    if (reached) judge(fault, st, false, SARD_E_DEVICE, says);
    else sard_status_free(st);
    if (!reached) break;
  }
  good_life("launches");
}

// A session whose device is lost tells so again and again, and can be freed; another one of the same model too.
static void lost_for_good(void) {
  life l = {0};
  clear();
  setenv("SARD_NULL_FAULT", "2:719", 1), ask("reset");
  sard_status *st = sard_context_new(NULL, &l.ctx);
  if (!st) st = open_model(&l, artifact, "cuda", NULL);
  if (!st) st = make_inputs(&l);
  if (!st) st = run_all(&l, false);
  for (int r = 0; r < RUNS; r++) {
    if (sard_status_code(st) != SARD_E_DEVICE) tell(false, "lost for good", "no error");
    sard_status_free(st);
    st = r == 1 ? sard_session_reset(l.session) : sard_session_run(l.session, l.in, l.n_in, l.out, l.n_out);
    if (r == 1) sard_status_free(st), st = sard_session_run(l.session, l.in, l.n_in, l.out, l.n_out);
  }
  end(&l);
  judge("lost for good", st, false, SARD_E_DEVICE, "719");
  good_life("lost for good");
}

// ---- memory ----
static void each_limit(void) {
  char bytes[32], what[60];
  for (uint64_t n = 1; n < (1u << 24); n *= 2) {
    clear();
    snprintf(bytes, sizeof bytes, "%llu", (unsigned long long)n), snprintf(what, sizeof what, "%s bytes of memory", bytes);
    setenv("SARD_NULL_MEMORY", bytes, 1), ask("reset");
    sard_status *st = live_with(artifact, NULL);
    judge(what, st, n >= 1024, SARD_E_NOMEM, "out of memory");
  }
  good_life("memory");
}

// ---- starting ----
typedef struct start {
  const char *name, *value; // of the environment
  int code;
  const char *says;
  bool compiles; // the model is compiled too, by the fake NVRTC
} start;

static void each_start(const start *all, size_t n) {
  for (size_t i = 0; i < n; i++) {
    const start *s = &all[i];
    char what[200];
    for (int fallback = 0; fallback < 2; fallback++) {
      clear();
      setenv(s->name, s->value, 1), ask("reset");
      snprintf(what, sizeof what, "%s=%s%s", s->name, s->value, fallback ? ", fallback" : "");
      sard_status *st = live_with(s->compiles ? model_path : artifact, fallback ? "cpu" : NULL);
      if (fallback) tell(!st, what, st ? sard_status_text(st, SARD_TEXT_MESSAGE) : ""), sard_status_free(st);
      else judge(what, st, false, s->code, s->says);
    }
  }
  clear();
}

// Before the driver is loaded for good; the order is that of its start.
static const start early[] = {
    {"SARD_NULL_VERSION", "11030", SARD_E_DEVICE, "cuGraphInstantiateWithFlags of CUDA 11.4: the driver is too old", false},
    {"SARD_NULL_VERSION", "3000", SARD_E_DEVICE, "too old", false},
    {"SARD_NULL_MISSING", "cuLaunchKernel", SARD_E_DEVICE, "cuLaunchKernel of CUDA 4.0: the driver does not know it", false},
    {"SARD_NULL_MISSING", "cuInit", SARD_E_DEVICE, "cuInit", false},
    {"SARD_NULL_FAIL", "cuInit:1:100", SARD_E_DEVICE, "100, CUDA_ERROR_NO_DEVICE", false},
    {"SARD_NULL_FAIL", "cuInit:1:34", SARD_E_DEVICE, "34, CUDA_ERROR_STUB_LIBRARY", false},
    {"SARD_NULL_FAIL", "cuInit:1:803", SARD_E_DEVICE, "803", false},
    {"SARD_NULL_FAIL", "cuInit:1:999", SARD_E_DEVICE, "999", false},
    {"SARD_NULL_FAIL", "cuInit:1:100", SARD_E_DEVICE, "100", true},
    {"SARD_NULL_FAIL", "cuDriverGetVersion:1:1", SARD_E_DEVICE, "version", false},
};
static const start late[] = {
    {"SARD_NULL_DEVICES", "0", SARD_E_DEVICE, "finds no device", false},
    {"SARD_NULL_DEVICES", "0", SARD_E_DEVICE, "finds no device", true},
    {"SARD_NULL_FAIL", "cuDevicePrimaryCtxRetain:1:46", SARD_E_DEVICE, "46", false},
    {"SARD_NULL_FAIL", "cuDeviceGetCount:1:100", SARD_E_DEVICE, "100", false},
    {"SARD_NULL_FAIL", "cuModuleLoadDataEx:1:222,cuModuleLoadDataEx:2:222", SARD_E_DEVICE, "222", false},
    {"SARD_NULL_FAIL", "cuModuleLoadDataEx:1:209,cuModuleLoadDataEx:2:222", SARD_E_DEVICE, "222", false},
    {"SARD_NULL_FAIL", "cuModuleLoadDataEx:1:200", SARD_E_DEVICE, "200", false},
    {"SARD_NULL_VERSION", "12040", SARD_E_DEVICE, "(2", false}, // neither the cubin nor the PTX of CUDA 13
    {"SARD_NULL_CC", "70", SARD_E_DEVICE, "sm_70", false},      // older than all images
    {"SARD_NULL_FAIL", "cuModuleGetFunction:1:500", SARD_E_DEVICE, "500", false},
    {"SARD_NULL_MEMORY", "16", SARD_E_NOMEM, "out of memory", false},
    {"SARD_FAKE_NVRTC_VERSION", "11.8", SARD_E_DEVICE, "is version 11.8, at least 12 is needed", true},
    {"SARD_FAKE_NVRTC_FAIL", "nvrtcVersion:1:2", SARD_E_DEVICE, "does not tell its version", true},
    {"SARD_FAKE_NVRTC_ARCHS", "100,120", SARD_E_DEVICE, "compiles for no architecture up to sm_90", true},
};
// Faults of a program, not of the machine: no other device makes them good.
static const start never[] = {
    {"SARD_FAKE_NVRTC_FAIL", "nvrtcCompileProgram:1:6", SARD_E_INTERNAL, "NVRTC_ERROR_COMPILATION", true},
    {"SARD_FAKE_NVRTC_FAIL", "nvrtcCompileProgram:1:5", SARD_E_INTERNAL, "NVRTC_ERROR_INVALID_OPTION", true},
    {"SARD_FAKE_NVRTC_FAIL", "nvrtcCreateProgram:1:1", SARD_E_NOMEM, "NVRTC", true},
    {"SARD_FAKE_NVRTC_FAIL", "nvrtcGetCUBINSize:1:3", SARD_E_INTERNAL, "no code", true},
    {"SARD_FAKE_NVRTC_FAIL", "nvrtcGetPTX:1:3", SARD_E_INTERNAL, "no code", true},
};

// A cubin that the driver refuses is no failure where it takes the PTX.
static void other_image(void) {
  clear();
  setenv("SARD_NULL_FAIL", "cuModuleLoadDataEx:1:209", 1), ask("reset");
  judge("PTX where the cubin is refused", live_with(artifact, NULL), true, SARD_OK, "");
  clear();
  setenv("SARD_NULL_CC", "121", 1), ask("reset");
  judge("PTX where no cubin fits", live_with(artifact, NULL), true, SARD_OK, "");
  clear();
  setenv("SARD_FAKE_NVRTC_ARCHS", "75,80", 1);
  judge("PTX of an NVRTC that is older than the device", live_with(model_path, NULL), true, SARD_OK, "");
  clear();
}

static void each_never(void) {
  for (size_t i = 0; i < sizeof never / sizeof *never; i++) {
    char what[200];
    clear();
    setenv(never[i].name, never[i].value, 1), ask("reset");
    snprintf(what, sizeof what, "%s=%s", never[i].name, never[i].value);
    judge(what, live_with(model_path, NULL), false, never[i].code, never[i].says);
  }
  clear();
}

static sard_status *compile_artifact(void) {
  sard_source src = {.size = sizeof src, .path = model_path};
  sard_options *o = sard_options_new();
  sard_status *st = sard_options_set(o, "device", "cuda:sm_75,sm_90");
  if (!st && devices) st = sard_options_set(o, "devices", devices);
  if (!st && devices) st = sard_options_set(o, "split", split);
  if (!st) st = sard_compile_file(&src, o, artifact, NULL);
  sard_options_free(o);
  return st;
}

static void each_entry(const char *part) {
  static const char *const entries[] = {
#define SD_CU(field, name, version, arguments) name,
#include "runtime/cuda/api.def"
#undef SD_CU
  };
  for (size_t i = 0; i < sizeof entries / sizeof *entries; i++) {
    if (!strstr(entries[i], part)) continue;
    each_call(entries[i], 1), each_call(entries[i], 999);
    if (strstr(entries[i], "Alloc") || strstr(entries[i], "Create") || strstr(entries[i], "Instantiate")) each_call(entries[i], 2);
  }
}

static void each_fault(void) {
  static const int faults[] = {719, 700, 715, 214, 999};
  for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) each_launch(faults[i]);
}

static void each_failure(void) {
  each_start(early, sizeof early / sizeof *early);
  each_start(late, sizeof late / sizeof *late);
  other_image();
  each_never();
  good_life("starting");
  each_entry("");
  each_fault();
  lost_for_good();
  each_limit();
}

int main(int argc, char **argv) {
  char path[] = "/tmp/sard-device-XXXXXX";
  int file = mkstemp(path);
  if (argc < 2 || argc == 4 || argc > 5 || file < 0 || ask("reset") < 0)
    return fprintf(stderr,
                   "usage: SARD_CUDA=DRIVER SARD_NVRTC=LIBRARY device_failures MODEL.onnx [ENTRY [DEVICES SPLIT]]\n"),
           2;
  close(file);
  model_path = argv[1], artifact = path;
  if (argc == 5) devices = argv[3], split = argv[4];
  sard_status *st = compile_artifact();
  if (st) return printf("FAIL %s\n0 passed, 1 failed\n", sard_status_text(st, SARD_TEXT_MESSAGE)), 1;
  if (argc == 2) each_failure();
  else
    each_entry(argv[2]);
  if (devices) each_fault();
  unlink(path);
  printf("%d passed, %d failed\n", passed, failed);
  return failed != 0;
}
