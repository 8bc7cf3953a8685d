// Two tensors element by element: largest errors, and whether they agree within a tolerance.
#include <math.h>
#include <string.h>

#include "frontend/cli/cli.h"
#include "runtime/base/dtype.h"

static void take_float(sd_diff *r, uint64_t i, double a, double b, double rtol, double atol, double *diff2,
                       double *want2) {
  bool same = a == b || (isnan(a) && isnan(b));
  double e = same ? 0 : fabs(a - b);
  bool ok = same || e <= atol + rtol * fabs(b);
  if (isnan(e) || isinf(b)) ok = same;
  if (!same && isnan(e)) e = INFINITY;
  if (isinf(b)) e = same ? 0 : INFINITY;
  double rel = e == 0 ? 0 : e / fmax(fabs(b), 1e-30);
  if (e > r->max_abs) r->max_abs = e;
  if (rel > r->max_rel && fabs(b) > atol) r->max_rel = rel;
  if (isfinite(e) && isfinite(b)) *diff2 += e * e, *want2 += b * b;
  if (ok) return;
  if (r->wrong++ == 0) r->first_wrong = i, r->got = a, r->want = b;
}

static void take_int(sd_diff *r, uint64_t i, int64_t a, int64_t b, bool is_unsigned) {
  if (a == b) return;
  double x = is_unsigned ? (double)(uint64_t)a : (double)a, y = is_unsigned ? (double)(uint64_t)b : (double)b;
  double e = fabs(x - y);
  if (e > r->max_abs) r->max_abs = e;
  if (y != 0 && e / fabs(y) > r->max_rel) r->max_rel = e / fabs(y);
  if (r->wrong++ == 0) r->first_wrong = i, r->got = x, r->want = y;
}

static bool same_type(sd_cli *c, const sard_tensor_desc *a, const sard_tensor_desc *b, sd_diff *r) {
  bool same = a->dtype == b->dtype && a->rank == b->rank;
  for (int i = 0; same && i < a->rank; i++) same = a->dims[i] == b->dims[i];
  if (!same) r->reason = sd_arena_printf(c->arena, "%s instead of %s", sd_model_type(c, a), sd_model_type(c, b));
  return same;
}

static void diff_strings(const char *const *a, const char *const *b, sd_diff *r) {
  for (uint64_t i = 0; i < r->count; i++)
    if (strcmp(a[i] ? a[i] : "", b[i] ? b[i] : "") && r->wrong++ == 0) r->first_wrong = i;
}

// Item by item; the numbers are those of all of them together.
static void diff_items(sd_cli *c, sard_tensor *a, sard_tensor *b, double rtol, double atol, sd_diff *out) {
  int64_t n = sard_value_count(a);
  out->count = 0;
  if (n != sard_value_count(b)) out->reason = sd_arena_printf(c->arena, "%lld items instead of %lld", (long long)n, (long long)sard_value_count(b));
  for (int64_t i = 0; i < n && !out->reason; i++) {
    sd_diff d;
    sd_diff_tensors(c, sard_value_item(a, i), sard_value_item(b, i), rtol, atol, &d);
    if (d.reason) out->reason = sd_arena_printf(c->arena, "item %lld: %s", (long long)i, d.reason);
    if (d.wrong && !out->wrong) out->first_wrong = d.first_wrong, out->got = d.got, out->want = d.want;
    out->wrong += d.wrong, out->count += d.count;
    out->max_abs = fmax(out->max_abs, d.max_abs), out->max_rel = fmax(out->max_rel, d.max_rel), out->rel_rms = fmax(out->rel_rms, d.rel_rms);
  }
  out->passed = out->wrong == 0 && !out->reason;
}

void sd_diff_tensors(sd_cli *c, sard_tensor *a, sard_tensor *b, double rtol, double atol, sd_diff *out) {
  sard_tensor_desc da, db;
  const void *pa = sard_tensor_data(a, &da), *pb = sard_tensor_data(b, &db);
  double diff2 = 0, want2 = 0;
  *out = (sd_diff){.count = 1};
  if (!same_type(c, &da, &db, out)) return;
  if (da.dtype >= SARD_SEQUENCE) {
    diff_items(c, a, b, rtol, atol, out);
    return;
  }
  sd_dtype t = sd_dtype_part((sd_dtype)da.dtype); // the parts of complex numbers are compared by themselves
  out->count = sd_dtype_parts((sd_dtype)da.dtype);
  for (int i = 0; i < da.rank; i++) out->count *= (uint64_t)da.dims[i];
  if (t == SD_STRING) diff_strings(pa, pb, out);
  for (uint64_t i = 0; i < out->count && t != SD_STRING; i++) {
    if (sd_dtype_is_float(t))
      take_float(out, i, sd_dtype_get_f64(t, pa, i), sd_dtype_get_f64(t, pb, i), rtol, atol, &diff2, &want2);
    else
      take_int(out, i, sd_dtype_get_i64(t, pa, i), sd_dtype_get_i64(t, pb, i), t == SD_U64);
  }
  out->rel_rms = diff2 == 0 ? 0 : sqrt(diff2 / fmax(want2, 1e-300));
  out->passed = out->wrong == 0;
}
