// Tuned schedules: every choice gives the same bits, absurd ones too; what is written for a model is used when it is
// opened.
#include <unistd.h>

#include "check.h"
#include "frontend/driver/cache.h"
#include "runtime/session.h"
#include "sard/sard_compile.h"

static sard_context *ctx;
static char model[512], dir[256];

// The outputs of a run on ones, as bytes.
static sd_str outputs(sard_model *m) {
  sard_session *s = NULL;
  sard_tensor *in = NULL, *out = NULL;
  sard_tensor_desc d = {.size = sizeof d};
  sd_str bytes = {0};
  CHECK_OK(sard_model_io(m, 0, 0, &d));
  for (int i = 0; i < d.rank; i++)
    if (d.dims[i] < 0) d.dims[i] = 3;
  CHECK_OK(sard_tensor_new(ctx, &d, &in));
  float *x = sard_tensor_data(in, NULL);
  for (uint64_t i = 0; i < in->bytes / sizeof *x; i++) x[i] = (float)(i % 13) * 0.1f - 0.5f;
  CHECK_OK(sard_session_new(m, NULL, &s));
  CHECK_OK(sard_session_run(s, &in, 1, &out, 1));
  if (out) sd_str_putn(&bytes, out->data, out->bytes);
  sard_tensor_free(in), sard_tensor_free(out);
  sard_session_free(s);
  return bytes;
}

static sard_status *compile(sd_tuning *t, sard_model **out) {
  sd_driver_options o;
  sd_compiled *k;
  sard_source src = {.size = sizeof src, .path = model};
  sd_driver_defaults(&o);
  o.tuning = t;
  *out = NULL;
  SD_TRY(sd_driver_compile(&src, &o, &k));
  return sd_model_from_bytes(ctx, k->pieces, k->n_pieces, sd_compiled_free, k, out);
}

static int with_schedule(const sard_model *m, const char *text) {
  int n = 0;
  for (uint32_t i = 0; i < m->art.n_kernels; i++)
    n += strstr(sd_art_text(&m->art, m->art.kernels[i].schedule), text) != NULL;
  return n;
}

static void check_choices(sd_arena *a) {
  static const sd_tuned choice[] = {{0, 4, 2, 0}, {0, 6, 1, 4},  {0, 3, 3, 64},      {0, 1, 1, 0},
                                    {0, 0, 0, 7}, {0, 14, 2, 1}, {0, 99, 99, 100000}};
  sd_tuning base = {0};
  sard_model *m = NULL;
  CHECK_OK(compile(&base, &m));
  uint32_t n = base.steps.len;
  CHECK(n >= m->art.n_steps - m->art.n_out && n <= m->art.n_steps);
  sd_tuned *at = SD_NEW_ARRAY(a, sd_tuned, n + 1);
  uint64_t *kernel = sd_arena_dup(a, base.steps.at, n * sizeof *kernel);
  sd_str want = outputs(m);
  CHECK(want.len > 0);
  sard_model_free(m);
  for (size_t k = 0; k < sizeof choice / sizeof *choice; k++) {
    for (uint32_t i = 0; i < n; i++) at[i] = choice[k], at[i].kernel = kernel[i];
    sd_tuning t = {.at = at, .n = n};
    CHECK_OK(compile(&t, &m));
    if (k == 0) CHECK(with_schedule(m, "product 4x") > 2);
    CHECK(t.steps.len == n &&
          memcmp(t.steps.at, kernel, n * sizeof *kernel) == 0); // keys are of what is scheduled, not of how
    sd_str got = outputs(m);
    CHECK(got.len == want.len && memcmp(got.p, want.p, got.len) == 0);
    sd_str_free(&got);
    sard_model_free(m);
  }
  sd_str_free(&want);
}

static const char *open_model(int *tuned) {
  sard_options *o = sard_options_new();
  sard_source src = {.size = sizeof src, .path = model};
  sard_model *m = NULL;
  CHECK_OK(sard_options_set(o, "cache", dir));
  CHECK_OK(sard_model_open(ctx, &src, o, &m));
  sard_options_free(o);
  const char *state = m ? m->cache.state : "";
  *tuned = m ? with_schedule(m, "product 4x") : -1;
  sard_model_free(m);
  return state;
}

static void check_use(sd_arena *a) {
  int before, tuned;
  sd_driver_options o;
  sd_cache *c;
  sd_tune_state s;
  sd_tuning base = {0};
  sard_model *m = NULL;
  sard_source src = {.size = sizeof src, .path = model};
  sard_options *options = sard_options_new();
  CHECK_OK(sard_options_set(options, "cache", dir));
  CHECK_TEXT(open_model(&before), "stored");
  CHECK_OK(compile(&base, &m));
  sd_driver_defaults(&o);
  CHECK_OK(sd_cache_open(&src, options, &o, &c));
  CHECK(sd_cache_tuning_read(c, sd_context_threads(ctx), a, &s) && s.next == 0 && s.entries.len == 0);
  for (uint32_t i = 0; i < base.steps.len; i++)
    sd_vec_push(
        a, &s.entries,
        ((sd_tune_entry){.best = {base.steps.at[i], 4, 2, 0}, .used = {base.steps.at[i], 0, 0, 0}, .ratio = 0.5}));
  s.next = 3;
  CHECK(sd_cache_tuning_write(c, &s));
  CHECK_TEXT(open_model(&tuned), "hit"); // progress alone changes nothing
  CHECK(tuned == before);
  for (uint32_t i = 0; i < s.entries.len; i++) s.entries.at[i].used = s.entries.at[i].best;
  CHECK(sd_cache_tuning_write(c, &s));
  sd_cache_free(c);
  CHECK_TEXT(open_model(&tuned), "stored");
  CHECK(tuned > before);
  CHECK_TEXT(open_model(&tuned), "hit");
  CHECK(tuned > before);
  CHECK_OK(sd_cache_open(&src, options, &o, &c));
  CHECK(sd_cache_tuning_read(c, sd_context_threads(ctx), a, &s) && s.next == 3 && s.entries.len == base.steps.len &&
        s.entries.at[0].used.rows == 4);
  CHECK(sd_cache_tuning_read(c, 77, a, &s) && s.entries.len == 0); // of other threads nothing is known
  sd_cache_free(c);
  sard_model_free(m);
  sard_options_free(options);
}

int main(void) {
  const char *corpus = getenv("SARD_CORPUS");
  snprintf(model, sizeof model, "%s/mnist_resnet8/model.onnx", corpus && *corpus ? corpus : "models/corpus");
  snprintf(dir, sizeof dir, "%s/sard-tune-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
  sd_arena *a = sd_arena_new();
  jmp_buf oom;
  if (!mkdtemp(dir) || !a || setjmp(oom)) return 1;
  sd_arena_set_oom(a, &oom);
  CHECK_OK(sard_context_new(NULL, &ctx));
  sard_compiler_use(ctx);
  check_choices(a);
  check_use(a);
  sard_context_free(ctx);
  sd_arena_free(a);
  CHECK(check_remove(dir));
  return check_end();
}
