// A context and a model by the flags of a verb: an artifact is loaded, anything else compiled where there is a
// compiler.
#include <string.h>

#include "frontend/cli/cli.h"
#include "runtime/base/dtype.h"
#include "runtime/base/thread.h"
#include "runtime/collective/batch.h"
#include "runtime/cuda/program.h"
#include "runtime/model.h"

sard_status *sd_model_options(sd_cli *c, sard_options *o) {
  uint32_t at = 0;
  int64_t opt = 3;
  const char *dim, *target = sd_args_get(c, "target"), *precision = c->precision ? c->precision : sd_args_get(c, "precision");
  SD_TRY(sd_args_int(c, "O", 0, 3, &opt));
  char text[8];
  snprintf(text, sizeof text, "%d", (int)opt);
  SD_TRY(sard_options_set(o, "opt", text));
  if (target) SD_TRY(sard_options_set(o, "target", target));
  if (precision) SD_TRY(sard_options_set(o, "precision", precision));
  if (sd_args_given(c, "sparsity")) SD_TRY(sard_options_set(o, "sparsity", sd_args_get(c, "sparsity")));
  if (sd_args_given(c, "free-dims")) SD_TRY(sard_options_set(o, "free-dims", "1"));
  while ((dim = sd_args_next(c, "dim", &at)) != NULL) {
    const char *name, *size;
    SD_TRY(sd_args_split(c, "dim", dim, '=', &name, &size));
    SD_TRY(sard_options_set(o, sd_arena_printf(c->arena, "dim:%s", name), size));
  }
  at = 0;
  while ((dim = sd_args_next(c, "shape", &at)) != NULL) {
    const char *name, *shape;
    int rank = 1;
    SD_TRY(sd_args_split(c, "shape", dim, ':', &name, &shape));
    for (const char *p = shape; *p; p++) rank += *p == 'x' || *p == ',';
    if (!*shape || strcmp(shape, "scalar") == 0) rank = 0;
    SD_TRY(sard_options_set(o, sd_arena_printf(c->arena, "rank:%s", name), sd_arena_printf(c->arena, "%d", rank)));
  }
  return NULL;
}

static sard_status *set_threads(sd_cli *c, sard_options *o) {
  int64_t threads = 0;
  char text[16];
  SD_TRY(sd_args_int(c, "threads", 0, 1024, &threads));
  snprintf(text, sizeof text, "%d", (int)threads);
  return sard_options_set(o, "threads", text);
}

sard_status *sd_model_context(sd_cli *c, sard_context **out) {
  sard_options *o = sard_options_new();
  if (!o) return SD_ERR(NOMEM, "out of memory");
  sard_status *st = set_threads(c, o);
  if (!st) st = sard_context_new(o, out);
  sard_options_free(o);
  return st;
}

sard_status *sd_model_devices(const sd_cli *c, sard_options *o) {
  static const char *const keys[] = {"devices", "split", "device-memory", "costs", "cuts"};
  const char *devices = sd_args_get(c, "devices");
  bool runs = strcmp(c->verb->name, "compile") != 0 && strcmp(c->verb->name, "partition") != 0;
  if (c->whole) return NULL;
  if (devices && strcmp(devices, "mpi") == 0 && !runs)
    return SD_ERR(USAGE, "--devices mpi is of verbs that run a model: each process compiles its own part");
  for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
    if (sd_args_get(c, keys[i])) SD_TRY(sard_options_set(o, keys[i], sd_args_get(c, keys[i])));
  const char *split = sd_args_get(c, "split"), *batch = !runs && sd_args_given(c, "batch") ? sd_args_get(c, "batch") : NULL;
  if (c->batch) batch = sd_arena_printf(c->arena, "%lld", (long long)c->batch);
  return batch && split && strcmp(split, "auto") == 0 ? sard_options_set(o, "batch", batch) : NULL;
}

static sard_status *set_device(sd_cli *c, sard_options *o) {
  const char *device = sd_args_get(c, "device"), *fallback = sd_args_get(c, "fallback");
  SD_TRY(sd_model_devices(c, o));
  if (device) SD_TRY(sard_options_set(o, "device", device));
  if (sd_args_given(c, "library")) SD_TRY(sard_options_set(o, "library", sd_args_get(c, "library")));
  return fallback ? sard_options_set(o, "fallback", fallback) : NULL;
}

sard_status *sd_model_cache_options(sd_cli *c, sard_options *o) {
  const char *cache = sd_args_get(c, "cache"), *limit = sd_args_get(c, "cache-limit");
  if (cache) SD_TRY(sard_options_set(o, "cache", cache));
  return limit ? sard_options_set(o, "cache-limit", limit) : NULL;
}

// What the cache did for the model. That a folder which was asked for cannot be used is told without -v, too.
static void note_cache(sd_cli *c, const sd_cli_model *m) {
  const sd_model_cache *k = &m->model->cache;
  if (!k->state) return;
  if (k->why && sd_args_given(c, "cache")) sd_cli_note(c, "the cache is not used: %s", k->why);
  else if (k->why) sd_cli_detail(c, "the cache is not used: %s", k->why);
  else sd_cli_detail(c, "cache: %s%s%s", k->state, k->folder ? ", " : "", k->folder ? k->folder : "");
}

static void put_cache(sd_cli *c, const sd_model_cache *k) {
  if (!k->state) return;
  sd_strf(&c->json, ",\"cache\":{\"state\":\"%s\",\"folder\":", k->state), sd_str_json(&c->json, k->folder);
  sd_str_put(&c->json, ",\"why\":"), sd_str_json(&c->json, k->why);
  sd_strf(&c->json, ",\"store_ms\":%.3f}", k->store_s * 1e3);
}

static sard_status *compile(sd_cli *c, const sard_source *src, sd_cli_model *m) {
  sard_options *o = sard_options_new();
  int64_t t0 = sd_now_ns();
  if (!o) return SD_ERR(NOMEM, "out of memory");
  sard_status *st = sd_model_options(c, o);
  if (!st) st = set_device(c, o);
  if (!st) st = src->path ? sd_model_cache_options(c, o) : sard_options_set(o, "cache", "off"); // what is in memory is a trial
  sd_cli_progress(c, sd_arena_printf(c->arena, "compiling %s ...", src->path ? src->path : "a model"));
  if (!st) st = c->program->compiler->compile(c, m->ctx, src, o, &m->model, &m->compile_s);
  sd_cli_progress(c, NULL);
  m->load_s = (double)(sd_now_ns() - t0) * 1e-9 - m->compile_s - (st ? 0 : m->model->cache.store_s);
  sard_options_free(o);
  return st;
}

static sard_status *load(sd_cli *c, const char *path, sd_cli_model *m) {
  sard_source src = {.size = sizeof src, .path = path};
  int64_t t0 = sd_now_ns();
  if (!m->artifact && c->program->compiler) return compile(c, &src, m);
  sard_options *o = sard_options_new();
  if (!o) return SD_ERR(NOMEM, "out of memory");
  sard_status *st = set_device(c, o);
  if (!st) st = sard_model_open(m->ctx, &src, o, &m->model);
  sard_options_free(o);
  m->load_s = (double)(sd_now_ns() - t0) * 1e-9;
  return st;
}

// What the model runs on, for results: an instruction set, or a device.
static const char *place_of(sd_cli *c, const sard_model *m) {
  const char *isa = sd_arena_strndup(c->arena, m->art.header->isa, sizeof m->art.header->isa);
  if (sd_devices_cuda(&m->devices)) {
    sd_str s = {0};
    char name[SD_PLACE_TEXT];
    for (int i = 0; i < m->devices.n; i++) sd_strf(&s, "%s%s", i ? ", " : "", sd_place_text(m->devices.at[i], name));
    return sd_arena_keep(c->arena, sd_str_take(&s));
  }
  return m->cu ? sd_arena_printf(c->arena, "cuda:%d, %s", m->cu->device->ordinal, m->cu->device->name) : isa;
}

sard_status *sd_model_load_in(sd_cli *c, sard_context *ctx, const char *path, sd_cli_model *m) {
  *m = (sd_cli_model){.ctx = ctx, .artifact = sd_files_is_artifact(path)};
  sard_status *st = load(c, path, m);
  if (!st) {
    m->isa = place_of(c, m->model);
    m->weight_bytes = m->model->art.const_size;
    note_cache(c, m);
    if (m->model->fallback) sd_cli_note(c, "running on the processor instead: %s", m->model->fallback);
  } else if (!c->program->compiler && sard_status_code(st) == SARD_E_UNSUPPORTED) {
    st = sd_status_field(st, SARD_TEXT_HINT, "compile it first where the full program is: sard compile %s -o FILE", path);
  }
  return st;
}

sard_status *sd_model_load_packed(sd_cli *c, sard_context *ctx, const sard_source *src, sd_cli_model *m) {
  *m = (sd_cli_model){.ctx = ctx};
  SD_TRY(compile(c, src, m));
  m->isa = place_of(c, m->model);
  return NULL;
}

sard_status *sd_model_load(sd_cli *c, sd_cli_model *m) {
  const char *path = c->operands[0];
  sard_context *ctx;
  *m = (sd_cli_model){0};
  if (sd_files_is_artifact(path)) {
    for (size_t i = 0; i < 2; i++) {
      const char *flag = i ? "target" : "O";
      if (sd_args_given(c, flag))
        sd_cli_note(c, "%s has no effect on a model that is compiled already", i ? "--target" : "-O");
    }
  }
  if (c->program->compiler) SD_TRY(c->program->compiler->settle(c, path));
  SD_TRY(sd_model_context(c, &ctx));
  sard_status *st = sd_model_load_in(c, ctx, path, m);
  if (st) sd_model_unload(m);
  else if (!c->whole) put_cache(c, &m->model->cache);
  return st;
}

// In one piece the model has told which inputs it has; their batch is what ways are predicted for.
static sard_status *compile_for(sd_cli *c, const sd_cli_tensors *in, sd_cli_model *m) {
  const sd_art *a = &m->model->art;
  sd_cli_model split;
  bool open = a->batch && !a->batch[0] && sd_batch_size(a, in->at, in->n, &c->batch);
  if (!open) c->batch = 1;
  if (c->batch > SD_BATCH_MOST) c->batch = SD_BATCH_MOST;
  c->whole = false;
  SD_TRY(sd_model_load_in(c, m->ctx, c->operands[0], &split));
  put_cache(c, &split.model->cache);
  sard_model_free(m->model);
  *m = split;
  return NULL;
}

sard_status *sd_model_load_with(sd_cli *c, sd_cli_model *m, sd_cli_tensors *in) {
  const char *split = sd_args_get(c, "split");
  c->whole = split && strcmp(split, "auto") == 0 && sd_args_given(c, "devices") && !sd_files_is_artifact(c->operands[0]);
  SD_TRY(sd_model_load(c, m));
  SD_TRY(sd_inputs_make(c, m, in));
  return c->whole ? compile_for(c, in, m) : NULL;
}

void sd_model_unload(sd_cli_model *m) {
  sard_model_free(m->model);
  sard_context_free(m->ctx);
  m->model = NULL;
  m->ctx = NULL;
}

const char *sd_model_type(sd_cli *c, const sard_tensor_desc *d) {
  sd_str s = {0};
  if (d->dtype >= SARD_SEQUENCE) return d->dtype == SARD_SEQUENCE ? "sequence" : d->dtype == SARD_OPTIONAL ? "optional" : "map";
  sd_strf(&s, "%s[", sd_dtype_name((sd_dtype)d->dtype));
  if (d->rank < 0) sd_str_put(&s, "*");
  for (int i = 0; i < d->rank; i++) {
    if (i) sd_str_put(&s, ",");
    if (d->dims[i] >= 0) sd_strf(&s, "%lld", (long long)d->dims[i]);
    else
      sd_str_put(&s, d->symbols[i] && *d->symbols[i] ? d->symbols[i] : "?");
  }
  sd_str_put(&s, "]");
  const char *text = sd_arena_strdup(c->arena, s.p ? s.p : "?");
  sd_str_free(&s);
  return text;
}

sard_status *sd_model_session(const sd_cli *c, sard_model *m, bool profile, sard_session **out) {
  static const char *const keys[] = {"memory-limit", "micro-batches"};
  sard_options *o = sard_options_new();
  sard_status *st = NULL;
  if (!o) return SD_ERR(NOMEM, "out of memory");
  for (size_t i = 0; i < sizeof keys / sizeof *keys && !st; i++)
    if (sd_args_get(c, keys[i])) st = sard_options_set(o, keys[i], sd_args_get(c, keys[i]));
  if (!st && profile) st = sard_options_set(o, "profile", "1");
  if (!st) st = sard_session_new(m, o, out);
  sard_options_free(o);
  return st;
}
