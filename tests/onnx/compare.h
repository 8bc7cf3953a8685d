// Comparison of results as ONNX's own runner does it.
#pragma once
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/dtype.h"
#include "sard/sard.h"

enum { TEXT = 600 }; // room for what a difference is

typedef struct tolerance {
  double rtol, atol;
} tolerance;

static inline bool close_enough(double got, double want, tolerance t) {
  if (isnan(want) || isnan(got)) return isnan(want) && isnan(got);
  if (isinf(want) || isinf(got)) return got == want;
  return fabs(got - want) <= t.atol + t.rtol * fabs(want);
}

static inline void print_type(const sard_tensor_desc *d, char *to, size_t room) {
  size_t n = (size_t)snprintf(to, room, "%s[", sd_dtype_name((sd_dtype)d->dtype));
  for (int i = 0; i < d->rank && n < room; i++)
    n += (size_t)snprintf(to + n, room - n, "%s%lld", i ? "," : "", (long long)d->dims[i]);
  if (n < room) snprintf(to + n, room - n, "]");
}

static inline bool same_type(const sard_tensor_desc *g, const sard_tensor_desc *w, int index, char *text) {
  char got[200], want[200];
  bool same = g->rank == w->rank && g->dtype == w->dtype;
  for (int i = 0; same && i < g->rank; i++) same = g->dims[i] == w->dims[i];
  if (same) return true;
  print_type(g, got, sizeof got), print_type(w, want, sizeof want);
  snprintf(text, TEXT, "output %d is %s, expected %s", index, got, want);
  return false;
}

// Elements of floats; complex numbers are two each.
static inline bool same_floats(sd_dtype t, const void *got, const void *want, uint64_t n, tolerance tol, int index, char *text) {
  if (t == SD_BF16 && tol.rtol < ldexp(1, -6)) tol.rtol = ldexp(1, -6);
  for (uint64_t i = 0; i < n; i++) {
    double g = sd_dtype_get_f64(t, got, i), w = sd_dtype_get_f64(t, want, i);
    if (close_enough(g, w, tol)) continue;
    snprintf(text, TEXT, "output %d[%llu] is %.9g, expected %.9g", index, (unsigned long long)i, g, w);
    return false;
  }
  return true;
}

static inline bool same_texts(const char *const *got, const char *const *want, uint64_t n, int index, char *text) {
  for (uint64_t i = 0; i < n; i++) {
    if (!strcmp(got[i] ? got[i] : "", want[i] ? want[i] : "")) continue;
    snprintf(text, TEXT, "output %d[%llu] is '%.200s', expected '%.200s'", index, (unsigned long long)i,
             got[i] ? got[i] : "", want[i] ? want[i] : "");
    return false;
  }
  return true;
}

static inline bool same_tensor(sard_tensor *got, sard_tensor *want, tolerance tol, int index, char *text) {
  sard_tensor_desc gd = {.size = sizeof gd}, wd = {.size = sizeof wd};
  const void *g = sard_tensor_data(got, &gd), *w = sard_tensor_data(want, &wd);
  sd_dtype t = (sd_dtype)wd.dtype;
  uint64_t n = 1;
  if (!same_type(&gd, &wd, index, text)) return false;
  for (int i = 0; i < wd.rank; i++) n *= (uint64_t)wd.dims[i];
  if (t == SD_STRING) return same_texts(g, w, n, index, text);
  if (t == SD_C64 || t == SD_C128) return same_floats(t == SD_C64 ? SD_F32 : SD_F64, g, w, 2 * n, tol, index, text);
  if (sd_dtype_is_float(t)) return same_floats(t, g, w, n, tol, index, text);
  for (uint64_t i = 0; i < n; i++) {
    int64_t a = sd_dtype_get_i64(t, g, i), b = sd_dtype_get_i64(t, w, i);
    if (a == b) continue;
    snprintf(text, TEXT, "output %d[%llu] is %lld, expected %lld", index, (unsigned long long)i, (long long)a,
             (long long)b);
    return false;
  }
  return true;
}

static inline bool same_value(sard_tensor *got, sard_tensor *want, tolerance tol, int index, char *text);

// Sequences, optionals, maps: item by item.
static inline bool same_items(sard_tensor *got, sard_tensor *want, tolerance tol, int index, char *text) {
  int64_t n = sard_value_count(want), m = sard_value_count(got);
  if (n != m) return snprintf(text, TEXT, "output %d has %lld items, expected %lld", index, (long long)m, (long long)n), false;
  for (int64_t i = 0; i < n; i++) {
    if (same_value(sard_value_item(got, i), sard_value_item(want, i), tol, index, text)) continue;
    size_t len = strlen(text);
    snprintf(text + len, TEXT - len, " (in item %lld)", (long long)i);
    return false;
  }
  return true;
}

static inline bool same_value(sard_tensor *got, sard_tensor *want, tolerance tol, int index, char *text) {
  sard_tensor_desc g = {.size = sizeof g}, w = {.size = sizeof w};
  sard_tensor_data(got, &g), sard_tensor_data(want, &w);
  if (w.dtype < SARD_SEQUENCE && g.dtype < SARD_SEQUENCE) return same_tensor(got, want, tol, index, text);
  if (w.dtype == g.dtype) return same_items(got, want, tol, index, text);
  return snprintf(text, TEXT, "output %d is a value of kind %d, expected %d", index, g.dtype, w.dtype), false;
}
