// Sessions: creation, the order of a run, statistics.
#include "runtime/collective/mpi.h"
#include "runtime/session.h"

#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/base/str.h"
#include "runtime/collective/split.h"
#include "runtime/cuda/session.h"
#include "runtime/trace.h"

static void drop_kept(sard_session *s) {
  for (uint32_t i = 0; s->kept && i < s->model->art.n_steps; i++) {
    if (s->kept[i].free) s->kept[i].free(s->kept[i].state);
    s->kept[i] = (sd_host_kept){0};
  }
}

void sard_session_free(sard_session *s) {
  if (!s) return;
  sd_split_free(s);
  drop_kept(s);
  for (uint32_t i = 0; s->spare && i < s->model->art.n_out; i++) sard_tensor_free(s->spare[i]);
  void *tables[] = {s->spare,    s->stay,     s->sym, s->new_sym, s->dim,   s->offset, s->items,  s->work,
                    s->step_buf, s->step_dim, s->buf, s->made,    s->times, s->buf_at, s->dim_at, s->kept};
  for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) sd_free(tables[i]);
  for (uint32_t i = 0; s->taken && i < s->model->art.n_in; i++) sd_free_aligned(s->taken[i]);
  sd_free(s->taken);
  sd_strtab_free(s->values.strings);
  sd_objects_free(s->values.objects);
  sd_trace_free(s);
  if (s->model) sd_cu_session_free(s);
  if (s->model) sd_late_free(s);
  sd_free_aligned(s->memory);
  sard_model_free(s->model);
  sd_free(s);
}

// All tables of a session, so that runs need no memory but the arena.
static bool make_tables(sard_session *s) {
  const sd_art *a = &s->model->art;
  s->sym = sd_calloc(a->n_syms, sizeof *s->sym);
  s->new_sym = sd_calloc(a->n_syms, sizeof *s->new_sym);
  s->dim = sd_calloc(a->n_dims, sizeof *s->dim);
  s->offset = sd_calloc(a->n_bufs, sizeof *s->offset);
  s->items = sd_calloc(a->n_bufs, sizeof *s->items);
  s->work = sd_calloc(a->n_bufs, sizeof *s->work);
  s->buf = sd_calloc(a->n_bufs, sizeof *s->buf);
  s->step_buf = sd_calloc(s->model->n_step_bufs, sizeof *s->step_buf);
  s->step_dim = sd_calloc(s->model->n_step_dims, sizeof *s->step_dim);
  s->made = sd_calloc(a->n_out, sizeof *s->made);
  s->times = sd_calloc(s->profile ? a->n_steps : 1, sizeof *s->times);
  s->buf_at = sd_calloc(a->n_steps, sizeof *s->buf_at);
  s->dim_at = sd_calloc(a->n_steps, sizeof *s->dim_at);
  s->kept = sd_calloc(a->n_steps, sizeof *s->kept);
  s->taken = sd_calloc(a->n_in, sizeof *s->taken);
  s->values = (sd_values){sd_strtab_new(s->model->strings), sd_objects_new()};
  if (!s->taken || !s->values.strings || !s->values.objects) return false;
  if (!s->sym || !s->new_sym || !s->dim || !s->offset || !s->items || !s->work || !s->buf || !s->step_buf || !s->step_dim ||
      !s->made || !s->times || !s->buf_at || !s->dim_at || !s->kept)
    return false;
  for (uint32_t i = 0, bufs = 0, dims = 0; i < a->n_steps; i++) {
    s->buf_at[i] = bufs, s->dim_at[i] = dims;
    bufs += a->steps[i].n_buf;
    if (a->steps[i].kind == SARD_AS_DISPATCH) dims += a->steps[i].n_dim;
  }
  return true;
}

sard_status *sd_session_on(sard_model *m, const sard_options *options, sd_pool *pool, const struct sd_cu_program *cu,
                           sard_session **out) {
  *out = NULL;
  uint64_t limit;
  int64_t profile;
  SD_TRY(sd_options_check(options, SD_OPT_SESSION));
  SD_TRY(sd_options_bytes(options, "memory-limit", &limit));
  SD_TRY(sd_options_int(options, "profile", 0, 1, 0, &profile));
  sard_session *s = sd_calloc(1, sizeof *s);
  if (!s) return SD_ERR(NOMEM, "out of memory while making a session");
  s->model = m;
  sd_model_hold(m);
  s->memory_limit = limit;
  s->profile = profile != 0;
  s->pool = pool ? pool : m->ctx->pool;
  s->workers = sd_pool_threads(s->pool);
  sard_status *st = make_tables(s) ? sd_late_init(s) : SD_ERR(NOMEM, "out of memory while making a session");
  if (!st && cu) st = sd_cu_session_new(s, cu);
  if (st) {
    sard_session_free(s);
    return st;
  }
  *out = s;
  return NULL;
}

sard_status *sard_session_new(sard_model *m, const sard_options *options, sard_session **out) {
  if (!m || !out) return SD_ERR(USAGE, "sard_session_new: model and out must not be NULL");
  if (m->devices.mpi) {
    SD_TRY(sd_mpi_same_plan(m->parts ? &m->parts[m->devices.rank]->art : &m->art));
    SD_TRY(sd_session_on(m->parts ? m->parts[m->devices.rank] : m, options, NULL, NULL, out));
    (*out)->group = sd_mpi_group();
    return NULL;
  }
  SD_TRY(sd_session_on(m, options, NULL, m->cu, out));
  sard_status *st = m->devices.n ? sd_split_new(*out, options) : NULL;
  if (st) sard_session_free(*out), *out = NULL;
  return st;
}

// ---- run ----

static bool overlap(const sard_tensor *x, const sard_tensor *y) {
  const uint8_t *a = x->data, *b = y->data;
  return x->bytes && y->bytes && a < b + y->bytes && b < a + x->bytes;
}

// An output given by the caller must not share memory with what is read or written beside it.
static sard_status *check_overlap(const sard_session *s, sard_tensor *const *in, sard_tensor *const *out, uint32_t i) {
  const sd_art *a = &s->model->art;
  const char *name = sd_art_text(a, a->io[a->n_in + i].name);
  for (uint32_t k = 0; k < a->n_in; k++)
    if (overlap(out[i], in[k]))
      return SD_ERR(USAGE, "output '%s' shares memory with input '%s'", name, sd_art_text(a, a->io[k].name));
  for (uint32_t k = 0; k < i; k++)
    if (out[k] && overlap(out[i], out[k]))
      return SD_ERR(USAGE, "output '%s' shares memory with output '%s'", name, sd_art_text(a, a->io[a->n_in + k].name));
  return NULL;
}

sard_status *sd_session_apart(const sard_session *s, sard_tensor *const *in, sard_tensor *const *out) {
  for (uint32_t i = 0; i < s->model->art.n_out; i++)
    if (out[i]) SD_TRY(check_overlap(s, in, out, i));
  return NULL;
}

static void fill_buffers(sard_session *s) {
  const sard_model *m = s->model;
  const sd_art *a = &m->art;
  for (uint32_t i = 0; i < a->n_bufs; i++) {
    const sard_art_buf *b = &a->bufs[i];
    if (b->kind == SARD_AB_CONST) s->buf[i] = (void *)m->consts[i]; // kernels only read it
    if (b->kind == SARD_AB_ARENA && !s->late.slot[b->bytes]) s->buf[i] = b->first == SARD_ART_NONE ? NULL : s->memory + s->offset[i];
  }
  void **to = s->step_buf;
  for (uint32_t i = 0; i < a->n_steps; i++)
    for (uint32_t k = 0; k < a->steps[i].n_buf; k++) *to++ = s->buf[a->lists[a->steps[i].bufs + k]];
}

static sard_status *bind_and_run(sard_session *s, sard_tensor *const *in, int n_in, sard_tensor *const *out,
                                 int n_out) {
  const sd_art *a = &s->model->art;
  if (n_out < 0 || (uint32_t)n_out != a->n_out)
    return SD_ERR(USAGE, "%d outputs are given, the model has %u", n_out, a->n_out);
  sd_strtab_reset(s->values.strings);
  sd_objects_reset(s->values.objects);
  sd_objects_limit(s->values.objects, s->memory_limit);
  SD_TRY(sd_bind_inputs(s, in, n_in));
  for (uint32_t i = 0; i < a->n_out; i++) {
    if (out[i]) SD_TRY(check_overlap(s, in, out, i));
    SD_TRY(sd_bind_output(s, i, out[i]));
  }
  sd_late_begin(s);
  fill_buffers(s);
  SD_TRY(sd_execute(s));
  for (uint32_t i = 0; i < a->n_out; i++) SD_TRY(sd_bind_late_output(s, i, out[i]));
  return NULL;
}

static sard_status *run_and_finish(sard_session *s, sard_tensor *const *in, int n_in, sard_tensor *const *out, int n_out) {
  sard_status *st = bind_and_run(s, in, n_in, out, n_out), *finish = NULL;
  if (n_out >= 0 && (uint32_t)n_out == s->model->art.n_out) finish = sd_bind_finish(s, out, st != NULL);
  if (!st) return finish;
  sard_status_free(finish);
  return st;
}

sard_status *sd_session_go(sard_session *s, sard_tensor *const *in, int n_in, sard_tensor **out, int n_out) {
  sard_status *st = run_and_finish(s, in, n_in, out, n_out);
  for (uint32_t i = 0; i < s->model->art.n_out; i++) {
    if (!s->made[i]) continue;
    if (st)
      sard_tensor_free(s->made[i]);
    else
      out[i] = s->made[i];
    s->made[i] = NULL;
  }
  if (!st) s->runs++;
  return st;
}

sard_status *sard_session_run(sard_session *s, sard_tensor *const *in, int n_in, sard_tensor **out, int n_out) {
  if (!s || (n_in > 0 && !in) || (n_out > 0 && !out))
    return SD_ERR(USAGE, "sard_session_run: session, inputs and outputs must not be NULL");
  atomic_store(&s->cancel, 0);
  if (!s->split) return sd_session_go(s, in, n_in, out, n_out);
  sard_status *st = sd_split_run(s, in, n_in, out, n_out);
  if (!st) s->runs++;
  return st;
}

void sard_session_cancel(sard_session *s) {
  atomic_store(&s->cancel, 1);
  sd_split_cancel(s, 1);
}

sard_status *sard_session_reset(sard_session *s) {
  if (!s) return SD_ERR(USAGE, "sard_session_reset: session must not be NULL");
  sd_free_aligned(s->memory);
  s->memory = NULL;
  s->memory_size = 0;
  drop_kept(s);
  sd_late_reset(s);
  sd_strtab_reset(s->values.strings);
  sd_objects_reset(s->values.objects);
  SD_TRY(sd_split_reset(s));
  return s->cu ? sd_cu_session_reset(s) : NULL;
}

// ---- statistics ----

uint64_t sd_session_memory(const sard_session *s) {
  return s->memory_size + s->late.bytes + s->late.scratch_size + sd_objects_bytes(s->values.objects);
}

static void put_devices(sd_str *text, const sard_session *s) {
  sd_str_put(text, "\"devices\":[");
  for (int i = 0; i < sd_split_devices(s); i++) {
    sd_split_report r = sd_split_report_of(s, i);
    sd_strf(text, "%s{\"device\":\"%s\",\"threads\":%d,\"runs\":%llu,\"busy_ns\":%lld,\"memory_bytes\":%llu,\"bytes_in\":%llu,\"bytes_out\":%llu}", i ? "," : "",
            r.device, r.threads, (unsigned long long)r.runs, (long long)r.busy_ns, (unsigned long long)r.memory_bytes,
            (unsigned long long)r.bytes_in, (unsigned long long)r.bytes_out);
  }
  sd_str_put(text, "],");
}

static void put_value(sd_str *text, const sard_session *s, const char *name, uint32_t slot) {
  if (slot != SARD_ART_NONE && s->sized && s->late.known[slot]) sd_strf(text, ",\"%s\":%lld", name, (long long)s->dim[slot]);
}

static void put_step(sd_str *text, const sard_session *s, uint32_t i) {
  const sd_art *a = &s->model->art;
  const sard_art_step *t = &a->steps[i];
  bool dispatch = t->kind == SARD_AS_DISPATCH;
  sd_strf(text, "%s{\"name\":", i ? "," : "");
  sd_str_json(text, sd_art_text(a, t->name));
  sd_str_put(text, ",\"op\":");
  sd_str_json(text, sd_art_text(a, t->op));
  sd_str_put(text, ",\"kernel\":");
  sd_str_json(text, dispatch ? sd_art_text(a, a->kernels[t->kernel].symbol) : sd_step_text(t->kind));
  sd_strf(text, ",\"ns_total\":%lld,\"count\":%llu", (long long)s->times[i].ns, (unsigned long long)s->times[i].runs);
  put_value(text, s, "flops", t->flops);
  put_value(text, s, "bytes", t->bytes);
  if (dispatch) put_value(text, s, "tiles", t->tiles);
  sd_str_put(text, "}");
}

sard_status *sard_session_stats(sard_session *s, char **json) {
  if (!s || !json) return SD_ERR(USAGE, "sard_session_stats: session and json must not be NULL");
  sd_str text = {0};
  sd_strf(&text, "{\"runs\":%llu,\"plans\":%llu,\"threads\":%d,\"arena_bytes\":%llu,\"scratch_bytes\":%llu,"
                 "\"memory_bytes\":%llu,\"profile\":%s,",
          (unsigned long long)s->runs, (unsigned long long)s->plans, s->workers, (unsigned long long)s->arena_need,
          (unsigned long long)s->scratch_need * (unsigned)s->workers,
          (unsigned long long)sd_session_memory(s),
          s->profile ? "true" : "false");
  if (s->split) put_devices(&text, s);
  if (s->cu)
    sd_strf(&text,
            "\"device\":{\"memory_bytes\":%llu,\"bytes_in\":%llu,\"bytes_out\":%llu,\"launches\":%llu,\"library_launches\":%llu,\"graph_"
            "launches\":%llu},",
            (unsigned long long)sd_cu_session_memory(s), (unsigned long long)s->cu->copied_in,
            (unsigned long long)s->cu->copied_out, (unsigned long long)s->cu->launches, (unsigned long long)s->cu->library_launches,
            (unsigned long long)s->cu->graph_launches);
  if (s->cu && s->cu->program->products->n) sd_cu_products_put(&text, s->cu->program->products), sd_str_put(&text, ",");
  sd_str_put(&text, "\"steps\":[");
  for (uint32_t i = 0; s->profile && i < s->model->art.n_steps; i++) put_step(&text, s, i);
  sd_str_put(&text, "]}");
  *json = sd_str_take(&text);
  return *json ? NULL : SD_ERR(NOMEM, "out of memory while writing the statistics of a session");
}
