// Models over several devices through the public API: parts of uneven size, outputs of the caller, a batch
// that is not the outermost axis, statistics, errors.
#include "runtime/collective/split.h"

#include <math.h>

#include "ir/axes.h"
#include "runtime/collective/batch.h"
#include "sard/sard_compile.h"
#include "tests/unit/check.h"

static sard_context *ctx;

// y: the rows of x times two; t: x as columns, whose batch is axis 1; w: the same for every batch.
static const char text[] = "module\n"
                           "symbol batch\n"
                           "graph \"main\" (%0 \"x\": f32[batch,3], %1 \"c\": f32[2]) {\n"
                           "  %2 \"y\" = Add(%0, %0)\n"
                           "  %3 \"t\" = Transpose(%0) {perm=[1, 0]}\n"
                           "  %4 \"w\" = Neg(%1)\n"
                           "  return %2, %3, %4\n"
                           "}\n";
static const char across[] = "module\n"
                             "symbol batch\n"
                             "graph \"main\" (%0 \"x\": f32[batch,3]) {\n"
                             "  %1 \"y\" = Softmax(%0) {axis=0} \"all\"\n"
                             "  return %1\n"
                             "}\n";

// Rows of x and heads of one element in one axis: [3,batch,2] is [3,2 batch,1], and rows of [3 batch,2] in
// the end.
static const char inside[] = "module\n"
                             "symbol batch\n"
                             "graph \"main\" (%0 \"x\": f32[batch,6]) {\n"
                             "  %1 = sard.Dims() {dims=[\"batch\", \"3\", \"2\"]}\n"
                             "  %2 = Reshape(%0, %1)\n"
                             "  %3 = Transpose(%2) {perm=[1, 0, 2]}\n"
                             "  %4 = sard.Dims() {dims=[\"3\", \"2*batch\", \"1\"]}\n"
                             "  %5 = Reshape(%3, %4)\n"
                             "  %6 = Softmax(%5) {axis=0}\n"
                             "  %7 = sard.Dims() {dims=[\"3*batch\", \"2\"]}\n"
                             "  %8 = Reshape(%6, %7)\n"
                             "  %9 = Neg(%8)\n";
static const char back[] = "  %10 = sard.Dims() {dims=[\"3\", \"batch\", \"2\"]}\n"
                           "  %11 = Reshape(%9, %10)\n"
                           "  %12 \"y\" = Transpose(%11) {perm=[1, 0, 2]}\n"
                           "  return %12\n"
                           "}\n";
static const char stays[] = "  return %9\n"
                            "}\n";

static void share(int64_t batch, const double *each, int n, const char *want) {
  sd_share at[4];
  char got[64];
  int len = 0;
  sd_batch_share(batch, each, at, n);
  for (int k = 0; k < n; k++) {
    CHECK(at[k].begin == (k ? at[k - 1].begin + at[k - 1].count : 0));
    len += snprintf(got + len, sizeof got - (size_t)len, "%s%lld", k ? "," : "", (long long)at[k].count);
  }
  CHECK_TEXT(got, want);
}

static void shares(void) {
  static const double same[] = {1, 1, 1}, one_fast[] = {1, 0.25, 1}, far[] = {1, 0.001};
  share(7, NULL, 3, "3,2,2"), share(7, same, 3, "3,2,2"), share(2, NULL, 3, "1,1,0");
  share(12, one_fast, 3, "2,8,2"), share(13, one_fast, 3, "2,9,2"), share(3, one_fast, 3, "0,3,0");
  share(8, far, 2, "0,8"), share(2000, far, 2, "1,1999");
}

static sard_status *open_on(const char *model, const char *devices, sard_model **out) {
  sard_source src = {.size = sizeof src, .data = model, .bytes = strlen(model)};
  sard_options *o = sard_options_new();
  CHECK_OK(sard_options_set(o, "cache", "off"));
  CHECK_OK(sard_options_set(o, "devices", devices));
  CHECK_OK(sard_options_set(o, "split", "batch"));
  sard_status *st = sard_model_open(ctx, &src, o, out);
  sard_options_free(o);
  return st;
}

static sard_tensor *tensor(int rank, int64_t a, int64_t b) {
  sard_tensor_desc d = {.size = sizeof d, .dtype = SARD_F32, .rank = rank, .dims = {a, b}};
  sard_tensor *t = NULL;
  CHECK_OK(sard_tensor_new(ctx, &d, &t));
  float *p = sard_tensor_data(t, NULL);
  for (int64_t i = 0; i < a * (rank > 1 ? b : 1); i++) p[i] = (float)i + 1;
  return t;
}

static bool right(sard_tensor *const *out, int64_t batch) {
  sard_tensor_desc d[3];
  const float *y = sard_tensor_data(out[0], &d[0]), *t = sard_tensor_data(out[1], &d[1]),
              *w = sard_tensor_data(out[2], &d[2]);
  bool ok = d[0].dims[0] == batch && d[1].dims[0] == 3 && d[1].dims[1] == batch && d[2].dims[0] == 2 &&
            w[0] == -1 && w[1] == -2;
  for (int64_t i = 0; i < batch * 3; i++)
    ok = ok && y[i] == 2 * (float)(i + 1) && t[i % 3 * batch + i / 3] == (float)(i + 1);
  return ok;
}

static void parts(sard_session *s, int64_t batch) {
  sard_tensor *in[2] = {tensor(2, batch, 3), tensor(1, 2, 0)}, *out[3] = {NULL};
  CHECK_OK(sard_session_run(s, in, 2, out, 3));
  CHECK(out[0] && out[1] && out[2] && right(out, batch));
  for (int i = 0; i < 3; i++)
    memset(sard_tensor_data(out[i], NULL), 0, (size_t)(i < 2 ? batch * 3 : 2) * sizeof(float));
  sard_tensor *given[3] = {out[0], out[1], out[2]}; // in place
  CHECK_OK(sard_session_run(s, in, 2, given, 3));
  CHECK(given[0] == out[0] && given[1] == out[1] && given[2] == out[2] && right(out, batch));
  sard_tensor *wrong[3] = {tensor(2, batch + 1, 3), NULL, NULL};
  sard_status *st = sard_session_run(s, in, 2, wrong, 3);
  CHECK(sard_status_code(st) == SARD_E_USAGE && !wrong[1] && !wrong[2]);
  sard_status_free(st);
  sard_tensor *columns[3] = {NULL, tensor(2, 3, batch + 1), NULL};
  st = sard_session_run(s, in, 2, columns, 3);
  CHECK(sard_status_code(st) == SARD_E_USAGE && !columns[0] && !columns[2]);
  sard_status_free(st);
  sard_tensor *shared[3] = {in[0], NULL, NULL};
  CHECK_ERR(sard_session_run(s, in, 2, shared, 3), USAGE, "shares memory");
  sard_tensor_free(wrong[0]), sard_tensor_free(columns[1]);
  for (int i = 0; i < 3; i++) sard_tensor_free(out[i]);
  sard_tensor_free(in[0]), sard_tensor_free(in[1]);
}

static void runs(void) {
  static const int64_t sizes[] = {7, 3, 1, 2, 64, 5};
  sard_model *m = NULL;
  sard_session *s = NULL;
  char *json = NULL;
  CHECK_OK(open_on(text, "cpu:0,cpu:2,cpu:5", &m));
  CHECK_OK(sard_session_new(m, NULL, &s));
  sard_model_free(m);
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) parts(s, sizes[i]);
  CHECK(sd_split_devices(s) == 3);
  sd_split_forget(s);
  parts(s, 7);
  CHECK(sd_split_report_of(s, 0).bytes_in >= sd_split_report_of(s, 1).bytes_in &&
        sd_split_report_of(s, 2).bytes_in > 0);
  CHECK_OK(sard_session_stats(s, &json));
  CHECK(json && strstr(json, "\"device\":\"cpu:5\""));
  sard_free(json);
  sard_tensor *few[1] = {NULL}, *out[3] = {NULL};
  CHECK_ERR(sard_session_run(s, few, 1, out, 3), USAGE, "1 inputs are given");
  sard_tensor *bad[2] = {tensor(1, 4, 0), tensor(1, 2, 0)};
  CHECK_ERR(sard_session_run(s, bad, 2, out, 3), USAGE, "input 'x'");
  sard_tensor_free(bad[0]), sard_tensor_free(bad[1]);
  CHECK_OK(sard_session_reset(s));
  parts(s, 4);
  sard_session_free(s);
}

static void merged(void) {
  char model[2048];
  sard_model *m = NULL;
  sard_session *s = NULL;
  snprintf(model, sizeof model, "%s%s", inside, back);
  CHECK_OK(open_on(model, "cpu:0,cpu:1", &m));
  CHECK_OK(sard_session_new(m, NULL, &s));
  sard_model_free(m);
  sard_tensor *in[1] = {tensor(2, 5, 6)}, *out[1] = {NULL};
  CHECK_OK(sard_session_run(s, in, 1, out, 1));
  const float *x = sard_tensor_data(in[0], NULL), *y = sard_tensor_data(out[0], NULL);
  for (int b = 0; b < 5; b++)
    for (int i = 0; i < 6; i++) { // of x, which grows by 2 along the axis of the softmax
      double e = exp(2.0 * (i / 2)) / (1 + exp(2) + exp(4));
      CHECK(fabs(y[6 * b + i] + e) < 1e-6 && x[6 * b + i] == (float)(6 * b + i + 1));
    }
  sard_tensor_free(in[0]), sard_tensor_free(out[0]);
  sard_session_free(s);
  snprintf(model, sizeof model, "%s%s", inside, stays);
  CHECK_ERR(open_on(model, "cpu:0,cpu:1", &m), UNSUPPORTED, "has inside of an axis 'batch'");
}

static void refused(void) {
  sard_model *m = NULL;
  CHECK_ERR(open_on(across, "cpu:0,cpu:1", &m), UNSUPPORTED, "node 'all' (Softmax) works across 'batch'");
  CHECK(!m);
  CHECK_ERR(open_on(text, "cpu:0,cpu:0", &m), USAGE, "twice");
  CHECK_ERR(open_on(text, "cpu:64", &m), DEVICE, "cpu:64");
  CHECK_ERR(open_on(text, "cpu:0,", &m), USAGE, "no device");
  CHECK_ERR(open_on(text, "cpu:-1", &m), USAGE, "no device");
}

// Rules are for rows that exist.
static void rows(void) {
#define SD_AXES(name, rule, sizes) CHECK(sd_op_find(name) != NULL);
#include "ir/ops/axes.def"
#undef SD_AXES
}

int main(void) {
  sard_options *o = sard_options_new();
  CHECK_OK(sard_options_set(o, "threads", "1"));
  CHECK_OK(sard_context_new(o, &ctx));
  sard_options_free(o);
  sard_compiler_use(ctx);
  shares(), runs(), merged(), refused(), rows();
  sard_context_free(ctx);
  return check_end();
}
