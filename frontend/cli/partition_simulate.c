// sard partition --simulate: reads what it is asked, predicts, and has it reported.
#include "frontend/cli/partition.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { USUAL_SIZE = 128, MOST_SIZES = 64 };

// ---- what is asked ----

static const char *const kinds[] = {"tensor", "layer", "batch"};

static sard_status *bad_split(const char *text) {
  return SD_ERR(
      USAGE, "--split: '%s' is none of auto, tensor, layer, batch, or a list such as tensor:4,layer:2", text);
}

// One "KIND:N" of a list at *p; alone without a number it stands for all devices.
static sard_status *read_part(const char *text, const char **p, uint32_t all, sd_scale_split *out,
                              bool *given) {
  uint32_t *numbers[] = {&out->tensor, &out->layer, &out->batch};
  for (int k = 0; k < 3; k++) {
    size_t n = strlen(kinds[k]);
    if (strncmp(*p, kinds[k], n) != 0) continue;
    char *end = (char *)*p + n;
    unsigned long v = all;
    if (*end == ':') {
      if (!isdigit((unsigned char)end[1])) return bad_split(text);
      v = strtoul(end + 1, &end, 10);
    } else if (*end || *p != text)
      return bad_split(text);
    if (given[k] || v < 1 || v > SD_MACHINE_MOST) return bad_split(text);
    *numbers[k] = (uint32_t)v, given[k] = true, *p = end;
    return NULL;
  }
  return bad_split(text);
}

// *any: all splits are tried.
static sard_status *read_split(sd_cli *c, uint32_t all, bool *any, sd_scale_split *out) {
  const char *text = sd_args_get(c, "split"), *p = text;
  bool given[3] = {0};
  *out = (sd_scale_split){1, 1, 1}, *any = !text || strcmp(text, "auto") == 0;
  while (!*any) {
    SD_TRY(read_part(text, &p, all, out, given));
    if (!*p) break;
    if (*p++ != ',') return bad_split(text);
  }
  return NULL;
}

static sard_status *read_dims(sd_cli *c, sd_fixed_dims *out) {
  const char *v, *name, *rest;
  for (uint32_t at = 0; (v = sd_args_next(c, "dim", &at));) {
    char *end;
    SD_TRY(sd_args_split(c, "dim", v, '=', &name, &rest));
    long long n = strtoll(rest, &end, 10);
    if (*end || n < 1 || n > INT32_MAX)
      return SD_ERR(USAGE, "--dim: size '%s' of dim '%s' is no number from 1 to %d", rest, name, INT32_MAX);
    sd_vec_push(c->arena, out, ((sd_fixed_dim){name, n}));
  }
  return NULL;
}

// ---- decoders ----

static sard_status *resize_decoder(sd_decoder *d, const sd_fixed_dims *dims) {
  for (uint32_t i = 0; i < dims->len; i++) {
    const sd_fixed_dim *x = &dims->at[i];
    int64_t *to = strcmp(x->name, "batch") == 0     ? &d->batch
                  : strcmp(x->name, "prompt") == 0  ? &d->prompt
                  : strcmp(x->name, "context") == 0 ? &d->context
                                                    : NULL;
    if (!to) return SD_ERR(USAGE, "--dim: a decoder has no '%s', but batch, prompt and context", x->name);
    if (x->value > 1 << 24) return SD_ERR(USAGE, "--dim: %s=%lld is too large", x->name, (long long)x->value);
    *to = x->value;
  }
  if (d->context < d->prompt)
    return SD_ERR(USAGE, "a prompt of %lld tokens does not go into a context of %lld", (long long)d->prompt,
                  (long long)d->context);
  return NULL;
}

static sd_scale_size *sizes_of(sd_arena *a, int64_t batch, int64_t tokens, int64_t keys) {
  sd_scale_size *s = SD_NEW_ARRAY(a, sd_scale_size, 3);
  s[0] = (sd_scale_size){"batch", batch, true}, s[1] = (sd_scale_size){"tokens", tokens, false};
  s[2] = (sd_scale_size){"keys", keys, false};
  return s;
}

// New tokens attend to as many as there are half way; room has to be for the whole context.
static sard_status *open_decoder(sd_simulation *k, const sd_fixed_dims *dims) {
  sd_decoder *d = &k->decoder;
  sd_arena *a = k->c->arena;
  SD_TRY(sd_simulate_decoder_read(a, k->c->operands[0], d));
  SD_TRY(resize_decoder(d, dims));
  SD_TRY(sd_simulate_decoder(d, &k->module));
  int64_t made = d->context - d->prompt;
  k->job.batch = d->batch, k->job.n_phases = 2;
  k->job.phases[0] = (sd_scale_phase){"prefill", sizes_of(a, d->batch, d->prompt, d->prompt), 3, 1, false};
  k->job.phases[1] = (sd_scale_phase){"decode", sizes_of(a, d->batch, 1, d->prompt + made / 2), 3,
                                      made > 0 ? (double)made : 1, true};
  k->job.largest = (sd_scale_phase){"", sizes_of(a, d->batch, 1, d->context), 3, 0, false};
  return NULL;
}

// ---- models ----

static bool is_known(const sd_scale_size *s, uint32_t n, const char *name) {
  for (uint32_t i = 0; i < n; i++)
    if (strcmp(s[i].name, name) == 0) return true;
  return false;
}

// The symbols of the inputs, as large as --dim says, or usual.
static sard_status *find_sizes(sd_simulation *k, const sd_fixed_dims *dims, sd_scale_phase *f) {
  const sd_graph *g = k->module->main;
  sd_scale_size *s = SD_NEW_ARRAY(k->c->arena, sd_scale_size, MOST_SIZES);
  for (uint32_t i = 0; i < g->inputs.len; i++)
    for (int d = 0; d < g->inputs.at[i]->rank; d++) {
      const sd_dimnode *n = sd_dim_get(k->module->dims, g->inputs.at[i]->dims[d]);
      if (n->op != SD_DIM_SYM || is_known(s, f->n_sizes, n->name) || f->n_sizes == MOST_SIZES) continue;
      bool batch = sd_dim_is_batch(n->name);
      s[f->n_sizes++] = (sd_scale_size){n->name, batch ? 1 : USUAL_SIZE, batch};
    }
  for (uint32_t i = 0; i < dims->len; i++) {
    if (!is_known(s, f->n_sizes, dims->at[i].name))
      return SD_ERR(USAGE, "--dim: no input has a symbolic dim '%s'", dims->at[i].name);
    for (uint32_t q = 0; q < f->n_sizes; q++)
      if (strcmp(s[q].name, dims->at[i].name) == 0) s[q].value = dims->at[i].value;
  }
  f->sizes = s;
  return NULL;
}

static sard_status *open_model(sd_simulation *k, const sd_fixed_dims *dims) {
  sard_source src = {.size = sizeof src, .path = k->c->operands[0]};
  sd_driver_options o;
  sd_driver_defaults(&o);
  SD_TRY(sd_driver_load(&src, &o, &k->module));
  k->job.phases[0] = (sd_scale_phase){.name = "run", .times = 1};
  k->job.n_phases = 1;
  SD_TRY(find_sizes(k, dims, &k->job.phases[0]));
  k->job.largest = k->job.phases[0];
  return NULL;
}

static void find_batch(sd_simulation *k) {
  const sd_scale_phase *f = &k->job.phases[0];
  k->job.batch = 1;
  for (uint32_t i = 0; i < f->n_sizes; i++)
    if (f->sizes[i].batch && k->module->batch_why && !*k->module->batch_why) k->job.batch = f->sizes[i].value;
}

static bool is_description(const char *path) {
  char head[64];
  FILE *f = fopen(path, "rb");
  size_t n = f ? fread(head, 1, sizeof head - 1, f) : 0;
  if (f) fclose(f);
  head[n] = 0;
  return head[strspn(head, " \t\r\n")] == '{';
}

// ---- all of it ----

static void set_batch(sd_arena *a, sd_scale_phase *f, int64_t batch) {
  sd_scale_size *s = sd_arena_dup(a, f->sizes, f->n_sizes * sizeof *s);
  for (uint32_t i = 0; i < f->n_sizes; i++)
    if (s[i].batch) s[i].value = batch;
  f->sizes = s;
}

// The largest batch of halves of the present one that a split has room for, 0: none.
static int64_t batch_that_fits(sd_simulation *k, sd_scale_split split) {
  sd_scale_job job = k->job;
  sd_scale_plan plan;
  job.cache = (sd_scale_cache){0};
  for (job.batch /= 2; job.batch >= split.batch && job.batch > 0; job.batch /= 2) {
    for (uint32_t f = 0; f < job.n_phases; f++) set_batch(k->c->arena, &job.phases[f], job.batch);
    set_batch(k->c->arena, &job.largest, job.batch);
    sard_status *st = sd_scale_predict(&job, split, &plan);
    bool fits = !st && plan.fits;
    sard_status_free(st);
    if (fits) return job.batch;
  }
  return 0;
}

// What would fit where `p` does not: larger devices, or a smaller batch.
static sard_status *no_room(sd_simulation *k, const sd_scale_plan *p) {
  char t[2][24];
  const sd_scale_memory *m = &p->memory;
  sd_cli_bytes((uint64_t)(m->weights + m->cache + m->values), t[0]);
  sard_status *st = SD_ERR(NOMEM,
                           "%s does not fit: a device of stage %u needs %s (weights %.3g GB, caches %.3g GB, "
                           "values %.3g GB) and has %s",
                           sd_partition_split_text(k->c->arena, p->split), m->stage + 1, t[0],
                           m->weights * 1e-9, m->cache * 1e-9, m->values * 1e-9, sd_cli_bytes(m->room, t[1]));
  int64_t batch = batch_that_fits(k, p->split);
  if (batch)
    return sd_status_field(st, SARD_TEXT_HINT, "a batch of %lld would fit, or devices of %s",
                           (long long)batch, t[0]);
  return sd_status_field(st, SARD_TEXT_HINT, "devices of %s would fit, or more of them", t[0]);
}

static sard_status *predict(sd_simulation *k) {
  bool any;
  sd_scale_split split;
  sd_scale_plan plan;
  SD_TRY(read_split(k->c, k->machine.count, &any, &split));
  SD_TRY(sd_scale_predict(&k->job, (sd_scale_split){1, 1, 1}, &k->one));
  if (any) SD_TRY(sd_scale_search(&k->job, &k->plans));
  else {
    SD_TRY(sd_scale_predict(&k->job, split, &plan));
    sd_vec_push(k->c->arena, &k->plans, plan);
  }
  for (uint32_t i = 0; i < k->plans.len; i++) sd_scale_compare(&k->plans.at[i], &k->one, k->job.n_phases);
  SD_TRY(sd_partition_report(k));
  const sd_scale_plan *least = &k->plans.at[0];
  for (uint32_t i = 1; i < k->plans.len; i++) {
    const sd_scale_memory *a = &k->plans.at[i].memory, *b = &least->memory;
    if (a->weights + a->cache + a->values < b->weights + b->cache + b->values) least = &k->plans.at[i];
  }
  return k->plans.at[0].fits ? NULL : no_room(k, least);
}

static sard_status *steps(sd_simulation *k) {
  sd_fixed_dims dims = {0};
  sd_driver_options o;
  const char *spec = sd_args_get(k->c, "devices");
  if (!spec)
    return sd_status_field(SD_ERR(USAGE, "--simulate: --devices is missing"), SARD_TEXT_HINT,
                           "--devices SPEC.json describes the devices");
  sd_driver_defaults(&o);
  SD_TRY(read_dims(k->c, &dims));
  SD_TRY(sd_simulate_machine(k->c->arena, spec, &k->machine));
  k->is_decoder = is_description(k->c->operands[0]);
  SD_TRY(k->is_decoder ? open_decoder(k, &dims) : open_model(k, &dims));
  SD_TRY(sd_simulate_work(k->module, k->is_decoder, &o, k->c->arena, &k->work));
  if (!k->is_decoder) find_batch(k);
  k->job.work = &k->work, k->job.machine = &k->machine;
  jmp_buf oom;
  if (setjmp(oom)) return SD_ERR(NOMEM, "out of memory");
  sd_arena_set_oom(k->module->arena, &oom);
  sard_status *st = predict(k);
  sd_arena_set_oom(k->module->arena, NULL);
  return st;
}

sard_status *sd_partition_simulate(sd_cli *c) {
  sd_simulation k = {.c = c};
  sard_status *st = steps(&k);
  sd_module_free(k.module);
  return st;
}
