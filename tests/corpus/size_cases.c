// Models with symbolic dims at many sizes: one artifact and one session for all of them. Results are those of
// the model compiled for that size alone, and once all sizes have been there the memory of the process stays
// what it is.
//
// usage: size_cases DIR [NAME...]   DIR: folders with model.onnx and test_data_set_0, whose numbers fill the
// inputs Each model runs in a process of its own. Last line: N passed, N failed.
#include <dirent.h>
#include <malloc.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/dtype.h"
#include "runtime/base/status.h"
#include "runtime/io/tensor_io.h"
#include "sard/sard_compile.h"

enum { SIZES = 20, ROUNDS = 8, ALONE = 5 }; // every ALONE-th size is compared with a model of its own
enum { MOST_IO = 64, MOST_SYMBOLS = 24, SECONDS = 900 };
enum { SLACK = 48 << 10 }; // that malloc keeps of what was freed, after 7 rounds; 350 bytes a run are more

typedef struct symbol {
  const char *name;
  int64_t size;
} symbol;
typedef struct subject {
  const char *folder, *artifact;
  sard_context *ctx;
  sard_model *model;
  sard_session *session;
  int n_in, n_out, n_symbols;
  symbol symbols[MOST_SYMBOLS];
  sard_tensor *seed[MOST_IO]; // recorded inputs
} subject;
typedef struct values {
  sard_tensor *at[MOST_IO];
} values;

static void forget(values *v) {
  for (int i = 0; i < MOST_IO; i++) sard_tensor_free(v->at[i]), v->at[i] = NULL;
}

// ---- sizes and inputs ----

static symbol *find(subject *s, const char *name) {
  for (int i = 0; i < s->n_symbols; i++)
    if (!strcmp(s->symbols[i].name, name)) return &s->symbols[i];
  return NULL;
}

static sard_status *read_symbols(subject *s) {
  for (int i = 0; i < s->n_in; i++) {
    sard_tensor_desc d = {.size = sizeof d};
    SD_TRY(sard_model_io(s->model, 0, i, &d));
    for (int k = 0; k < d.rank; k++) {
      if (d.dims[k] >= 0 || find(s, d.symbols[k])) continue;
      if (s->n_symbols == MOST_SYMBOLS) return SD_ERR(UNSUPPORTED, "more than %d symbols", MOST_SYMBOLS);
      s->symbols[s->n_symbols++].name = d.symbols[k];
    }
  }
  return NULL;
}

// Small ones, odd and even, and multiples of 32 for images; the symbols have different ones.
static void choose(subject *s, int at) {
  for (int i = 0; i < s->n_symbols; i++) {
    int64_t small = 1 + (at * 7 + i * (at + 3)) % 13, large = 32 * (1 + (at + i) % 3);
    s->symbols[i].size = at < 2 ? at + 1 : at < 12 ? small : i ? large : 1 + at % 4;
  }
}

static sard_status *make_input(subject *s, int i, sard_tensor **out) {
  sard_tensor_desc d = {.size = sizeof d}, recorded = {.size = sizeof recorded};
  uint64_t count = 1, have = 1;
  SD_TRY(sard_model_io(s->model, 0, i, &d));
  const uint8_t *from = sard_tensor_data(s->seed[i], &recorded);
  for (int k = 0; k < d.rank; k++) {
    if (d.dims[k] < 0) d.dims[k] = find(s, d.symbols[k])->size;
    count *= (uint64_t)d.dims[k];
  }
  for (int k = 0; k < recorded.rank; k++) have *= (uint64_t)recorded.dims[k];
  SD_TRY(sard_tensor_new(s->ctx, &d, out));
  size_t each = (size_t)sd_dtype_bits((sd_dtype)d.dtype) / 8;
  uint8_t *to = sard_tensor_data(*out, NULL);
  for (uint64_t k = 0; k < count && have; k++) memcpy(to + k * each, from + k % have * each, each);
  return NULL;
}

static sard_status *make_inputs(subject *s, values *in) {
  for (int i = 0; i < s->n_in; i++) SD_TRY(make_input(s, i, &in->at[i]));
  return NULL;
}

// ---- the same, compiled for these sizes alone ----

static sard_status *run_alone(subject *s, values *in, values *out) {
  char path[4200], key[300], value[32];
  sard_options *o = sard_options_new();
  sard_model *m = NULL;
  sard_session *session = NULL;
  sard_status *st = sard_options_set(o, "threads", "1");
  for (int i = 0; i < s->n_symbols && !st; i++) {
    snprintf(key, sizeof key, "dim:%s", s->symbols[i].name);
    snprintf(value, sizeof value, "%lld", (long long)s->symbols[i].size);
    st = sard_options_set(o, key, value);
  }
  snprintf(path, sizeof path, "%s/model.onnx", s->folder);
  sard_source src = {.size = sizeof src, .path = path};
  if (!st) st = sard_compile(s->ctx, &src, o, &m, NULL);
  if (!st) st = sard_session_new(m, NULL, &session);
  if (!st) st = sard_session_run(session, in->at, s->n_in, out->at, s->n_out);
  sard_session_free(session), sard_model_free(m), sard_options_free(o);
  return st;
}

// Sums of other orders differ by rounding, which a quantized model may make a step of.
static bool same(sard_tensor *a, sard_tensor *b) {
  sard_tensor_desc x = {.size = sizeof x}, y = {.size = sizeof y};
  const void *p = sard_tensor_data(a, &x), *q = sard_tensor_data(b, &y);
  uint64_t count = 1;
  double off = 0, sum = 0;
  if (x.dtype != y.dtype || x.rank != y.rank || x.dtype >= SARD_SEQUENCE || x.dtype == SARD_STRING)
    return false;
  for (int k = 0; k < x.rank; k++) {
    if (x.dims[k] != y.dims[k]) return false;
    count *= (uint64_t)x.dims[k];
  }
  bool whole = !sd_dtype_is_float((sd_dtype)x.dtype);
  for (uint64_t i = 0; i < count; i++) {
    double v = sd_dtype_get_f64((sd_dtype)x.dtype, p, i), w = sd_dtype_get_f64((sd_dtype)x.dtype, q, i);
    if (isnan(v) != isnan(w) || (whole && v != w)) return false;
    if (isfinite(v) && isfinite(w)) off += (v - w) * (v - w), sum += w * w;
  }
  return sqrt(off) <= 2e-2 * sqrt(sum) + 1e-6;
}

// ---- one model ----

static sard_status *open_subject(subject *s) {
  char path[4200];
  snprintf(path, sizeof path, "%s/model.onnx", s->folder);
  sard_source from = {.size = sizeof from, .path = path},
              artifact = {.size = sizeof artifact, .path = s->artifact};
  sard_options *o = sard_options_new();
  sard_status *st = sard_options_set(o, "threads", "1");
  if (!st) st = sard_context_new(o, &s->ctx);
  sard_options_free(o);
  if (!st) st = sard_compile_file(&from, NULL, s->artifact, NULL);
  if (!st) st = sard_model_open(s->ctx, &artifact, NULL, &s->model);
  if (!st) st = sard_session_new(s->model, NULL, &s->session);
  if (st) return st;
  s->n_in = sard_model_io_count(s->model, 0), s->n_out = sard_model_io_count(s->model, 1);
  if (s->n_in > MOST_IO || s->n_out > MOST_IO)
    return SD_ERR(UNSUPPORTED, "more than %d inputs or outputs", MOST_IO);
  for (int i = 0; i < s->n_in; i++) {
    snprintf(path, sizeof path, "%s/test_data_set_0/input_%d.pb", s->folder, i);
    SD_TRY(sd_tensor_read(s->ctx, path, &s->seed[i]));
  }
  return read_symbols(s);
}

static void close_subject(subject *s) {
  for (int i = 0; i < s->n_in; i++) sard_tensor_free(s->seed[i]);
  sard_session_free(s->session), sard_model_free(s->model), sard_context_free(s->ctx);
}

static void tell(const subject *s, int at, const char *what) {
  printf("FAIL %s", s->folder);
  for (int i = 0; i < s->n_symbols && at >= 0; i++)
    printf(" %s=%lld", s->symbols[i].name, (long long)s->symbols[i].size);
  printf(": %s\n", what);
}

// Runs size `at`; with `alone` it is compared. False after a failure. *ran: sizes that the model takes.
static bool run_size(subject *s, int at, bool alone, int *ran) {
  values in = {0}, out = {0}, want = {0};
  char text[400] = "";
  choose(s, at);
  sard_status *st = make_inputs(s, &in), *other = NULL;
  if (!st) st = sard_session_run(s->session, in.at, s->n_in, out.at, s->n_out);
  if (alone || st) other = run_alone(s, &in, &want);
  bool index = st && strstr(sard_status_text(st, SARD_TEXT_MESSAGE),
                            "index"); // recorded ones may lie outside of these sizes
  if (st && !other && !index) snprintf(text, sizeof text, "%s", sard_status_text(st, SARD_TEXT_MESSAGE));
  if (!st && other) snprintf(text, sizeof text, "alone: %s", sard_status_text(other, SARD_TEXT_MESSAGE));
  for (int i = 0; i < s->n_out && alone && !st && !other && !*text; i++)
    if (!same(out.at[i], want.at[i]))
      snprintf(text, sizeof text, "output %d differs from that of the model compiled for this size", i);
  *ran += !st;
  if (*text) tell(s, at, text);
  forget(&in), forget(&out), forget(&want);
  sard_status_free(st), sard_status_free(other);
  return !*text;
}

static size_t used(void) {
  struct mallinfo2 m = mallinfo2();
  return m.uordblks + m.hblkhd;
}

enum {
  GOOD,
  BAD,
  LEFT_OUT
}; // the last: no symbols, or other sizes than the recorded ones do not fit together

static int run_model(subject *s) {
  int ran = 0;
  size_t before = SIZE_MAX - SLACK; // where there is no time for rounds
  time_t enough = time(NULL) + 60;
  sard_status *st = open_subject(s);
  if (st) return tell(s, -1, sard_status_text(st, SARD_TEXT_MESSAGE)), sard_status_free(st), BAD;
  if (!s->n_symbols) return close_subject(s), LEFT_OUT;
  for (int at = 0; at < SIZES; at++)
    if (!run_size(s, at, at % ALONE == 1, &ran)) return BAD;
  printf("%s: %d of %d sizes%s\n", s->folder, ran, SIZES, ran < SIZES / 4 ? ", left out" : "");
  if (ran < SIZES / 4) return close_subject(s), LEFT_OUT;
  for (int round = 1; round < ROUNDS && time(NULL) < enough; round++) {
    if (round == 1) before = used();
    for (int at = 0; at < SIZES; at++) {
      values in = {0}, out = {0};
      choose(s, at);
      st = make_inputs(s, &in);
      if (!st) st = sard_session_run(s->session, in.at, s->n_in, out.at, s->n_out);
      sard_status_free(st);
      forget(&in), forget(&out);
    }
  }
  size_t after = used();
  if (after > before + SLACK) return tell(s, -1, "memory grows from round to round"), BAD;
  close_subject(s);
  return GOOD;
}

static int in_process(const char *dir, const char *name) {
  char folder[4096], artifact[] = "/tmp/sard-sizes-XXXXXX";
  int status, file = mkstemp(artifact);
  if (file < 0) return perror(artifact), BAD;
  close(file);
  snprintf(folder, sizeof folder, "%s/%s", dir, name);
  fflush(stdout);
  pid_t pid = fork();
  if (!pid) {
    subject s = {.folder = folder, .artifact = artifact};
    alarm(SECONDS);
    int r = run_model(&s);
    fflush(stdout);
    _exit(r);
  }
  if (pid < 0 || waitpid(pid, &status, 0) < 0) status = BAD << 8;
  unlink(artifact);
  if (WIFEXITED(status) && WEXITSTATUS(status) <= LEFT_OUT) return WEXITSTATUS(status);
  printf("FAIL %s: ended by signal %d, exit %d\n", folder, WTERMSIG(status), WEXITSTATUS(status));
  return BAD;
}

static char **wanted;
static int is_wanted(const struct dirent *d) {
  for (char **p = wanted; *p; p++)
    if (!strcmp(*p, d->d_name)) return 1;
  return !*wanted && d->d_name[0] != '.';
}

int main(int argc, char **argv) {
  struct dirent **at;
  char path[4200];
  int passed = 0, failed = 0;
  if (argc < 2) return fprintf(stderr, "usage: size_cases DIR [NAME...]\n"), 2;
  wanted = argv + 2;
  int n = scandir(argv[1], &at, is_wanted, alphasort);
  for (int i = 0; i < n; i++) {
    snprintf(path, sizeof path, "%s/%s/model.onnx", argv[1], at[i]->d_name);
    int r = access(path, R_OK) ? LEFT_OUT : in_process(argv[1], at[i]->d_name);
    passed += r == GOOD, failed += r == BAD;
    free(at[i]);
  }
  if (n >= 0) free(at);
  printf("%d passed, %d failed\n", passed, failed);
  return failed > 0;
}
