#include "tests/support/subject.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/dtype.h"
#include "runtime/io/tensor_io.h"

void values_forget(values *v) {
  for (int i = 0; i < MOST_IO; i++) sard_tensor_free(v->at[i]), v->at[i] = NULL;
}

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
      sard_tensor_desc recorded = {.size = sizeof recorded};
      sard_tensor_data(s->seed[i], &recorded);
      s->symbols[s->n_symbols++] = (symbol){d.symbols[k], 0, k < recorded.rank ? recorded.dims[k] : 0};
    }
  }
  return NULL;
}

void subject_choose(subject *s, int at) {
  for (int i = 0; i < s->n_symbols; i++) {
    int64_t small = 1 + (at * 7 + i * (at + 3)) % 13, large = 32 * (1 + (at + i) % 3);
    s->symbols[i].size = at < 2 ? at + 1 : at < 12 ? small : i ? large : 1 + at % 4;
  }
}

void subject_choose_recorded(subject *s) {
  for (int i = 0; i < s->n_symbols; i++) s->symbols[i].size = s->symbols[i].recorded;
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

sard_status *subject_inputs(subject *s, values *in) {
  for (int i = 0; i < s->n_in; i++) SD_TRY(make_input(s, i, &in->at[i]));
  return NULL;
}

bool subject_same(sard_tensor *a, sard_tensor *b, double rms) {
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
  return sqrt(off) <= rms * sqrt(sum) + 1e-6;
}

sard_status *subject_read(subject *s) {
  char path[4200];
  s->n_in = sard_model_io_count(s->model, 0), s->n_out = sard_model_io_count(s->model, 1);
  if (s->n_in > MOST_IO || s->n_out > MOST_IO)
    return SD_ERR(UNSUPPORTED, "more than %d inputs or outputs", MOST_IO);
  for (int i = 0; i < s->n_in; i++) {
    snprintf(path, sizeof path, "%s/test_data_set_0/input_%d.pb", s->folder, i);
    SD_TRY(sd_tensor_read(s->ctx, path, &s->seed[i]));
  }
  return read_symbols(s);
}

void subject_close(subject *s) {
  for (int i = 0; i < s->n_in; i++) sard_tensor_free(s->seed[i]);
  sard_session_free(s->session), sard_model_free(s->model), sard_context_free(s->ctx);
}

// ---- many ----
static char **wanted;
static int is_wanted(const struct dirent *d) {
  for (char **p = wanted; *p; p++)
    if (!strcmp(*p, d->d_name)) return 1;
  return !*wanted && d->d_name[0] != '.';
}

int subject_each(const char *dir, char **names, int (*run)(const char *dir, const char *name)) {
  struct dirent **at;
  char path[4200];
  int passed = 0, failed = 0;
  wanted = names;
  int n = scandir(dir, &at, is_wanted, alphasort);
  for (int i = 0; i < n; i++) {
    snprintf(path, sizeof path, "%s/%s/model.onnx", dir, at[i]->d_name);
    int r = access(path, R_OK) ? LEFT_OUT : run(dir, at[i]->d_name);
    passed += r == GOOD, failed += r == BAD;
    free(at[i]);
  }
  if (n >= 0) free(at);
  printf("%d passed, %d failed\n", passed, failed);
  return failed > 0;
}
