// Runs the step list of a session whose buffers are bound.
#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/base/dtype.h"
#include "runtime/base/thread.h"
#include "runtime/cuda/session.h"
#include "runtime/execute.h"
#include "runtime/host.h"
#include "runtime/trace.h"

// One dispatch, shared by the workers that run its tiles.
typedef struct job {
  sard_kernel_fn fn;
  sard_dispatch dispatch; // scratch: of worker 0
  uint64_t scratch_stride;
  atomic_int result;      // first result of a kernel that is not 0
  struct sd_trace *trace; // NULL: none is recorded
  uint32_t step;
} job;

static void run_tiles(void *user, int worker, uint32_t begin, uint32_t end) {
  job *j = user;
  sard_dispatch d = j->dispatch;
  if (d.scratch) d.scratch = (char *)d.scratch + (uint64_t)worker * j->scratch_stride;
  int64_t t0 = j->trace ? sd_now_ns() : 0;
  int32_t result = j->fn(&d, begin, end);
  if (j->trace) sd_trace_work(j->trace, worker, j->step, end - begin, t0, sd_now_ns());
  if (result) atomic_store_explicit(&j->result, result, memory_order_relaxed);
}

static sard_status *node_error(const sd_art *a, const sard_art_step *t, sard_status *st) {
  if (!st || *sard_status_text(st, SARD_TEXT_NODE)) return st;
  st = sd_status_field(st, SARD_TEXT_NODE, "%s", sd_art_text(a, t->name));
  return sd_status_field(st, SARD_TEXT_OP, "%s", sd_art_text(a, t->op));
}

sard_status *sd_execute_index_error(const sd_art *a, uint32_t step) {
  const sard_art_step *t = &a->steps[step];
  return node_error(a, t, SD_ERR(MODEL, "index out of range in node '%s' (%s)", sd_art_text(a, t->name), sd_art_text(a, t->op)));
}

// ---- steps that compute ----

sard_status *sd_execute_prepare(sard_session *s, uint32_t step, uint32_t first) {
  const sd_art *a = &s->model->art;
  const sard_art_step *t = &a->steps[step];
  for (uint32_t k = 0; k < t->n_buf; k++) {
    uint32_t b = a->lists[t->bufs + k];
    if (k >= first && s->late.slot[a->bufs[b].bytes]) SD_TRY(sd_late_place(s, b));
    s->step_buf[s->buf_at[step] + k] = s->buf[b];
  }
  if (t->kind != SARD_AS_DISPATCH) return NULL;
  int64_t tiles, scratch;
  for (uint32_t k = 0; k < t->n_dim; k++) SD_TRY(sd_late_value(s, a->lists[t->dims + k], &s->step_dim[s->dim_at[step] + k]));
  SD_TRY(sd_late_value(s, t->tiles, &tiles));
  SD_TRY(sd_late_value(s, t->scratch, &scratch));
  if (tiles < 0 || tiles > UINT32_MAX || scratch < 0 || scratch > INT64_MAX / 4096)
    return SD_ERR(MODEL, "with this data the step would have %lld tiles and %lld bytes of scratch", (long long)tiles, (long long)scratch);
  return (uint64_t)scratch > s->scratch_need ? sd_late_scratch(s, (uint64_t)scratch) : NULL;
}

static sard_status *run_dispatch(sard_session *s, uint32_t step, bool pooled) {
  const sard_model *m = s->model;
  const sard_art_step *t = &m->art.steps[step];
  uint32_t error = 0;
  if (s->late.step[step]) SD_TRY(sd_execute_prepare(s, step, 0));
  uint32_t tiles = (uint32_t)s->dim[t->tiles];
  if (tiles == 0) return NULL;
  job j = {.fn = m->entry[t->kernel],
           .dispatch = {s->step_buf + s->buf_at[step], s->step_dim + s->dim_at[step], s->scratch_need ? s->memory + s->arena_need : NULL, &error},
           .scratch_stride = s->scratch_need,
           .trace = s->trace,
           .step = step};
  if (s->late.step[step] && (uint64_t)s->dim[t->scratch] > s->scratch_need)
    j.dispatch.scratch = s->late.scratch, j.scratch_stride = s->late.scratch_stride;
  if (pooled)
    sd_pool_run(s->pool, run_tiles, &j, tiles, s->backward);
  else
    run_tiles(&j, 0, 0, tiles);
  int result = atomic_load_explicit(&j.result, memory_order_relaxed);
  if (error & SARD_KE_INDEX) return sd_execute_index_error(&m->art, step);
  if (error || result)
    return SD_ERR(INTERNAL, "kernel '%s' of node '%s' failed (%d, %u)", sd_art_text(&m->art, m->art.kernels[t->kernel].symbol),
                  sd_art_text(&m->art, t->name), result, error);
  return NULL;
}

static sard_status *run_copy(sard_session *s, uint32_t step) {
  const sd_art *a = &s->model->art;
  const sard_art_step *t = &a->steps[step];
  uint32_t from = a->lists[t->bufs], to = a->lists[t->bufs + 1];
  int64_t n;
  if (s->late.step[step]) SD_TRY(sd_execute_prepare(s, step, 1)); // the source keeps the size that it was written with
  SD_TRY(sd_late_value(s, a->bufs[to].bytes, &n));
  if ((uint64_t)n > sd_late_room(s, from) || (n && (!s->buf[from] || !s->buf[to])))
    return SD_ERR(MODEL, "%lld bytes are copied from a buffer of %llu", (long long)n, (unsigned long long)sd_late_room(s, from));
  if (n) memmove(s->buf[to], s->buf[from], (size_t)n);
  return NULL;
}

// `count` elements below a byte, behind those that the block holds.
static sard_status *append_packed(sard_session *s, uint32_t to, const void *from, sd_dtype type, uint64_t count) {
  sd_block *b = &s->late.block[to];
  unsigned bits = (unsigned)sd_dtype_bits(type);
  sd_dtype raw = bits == 4 ? SD_U4 : SD_U2;
  uint64_t at, total, need;
  if (!sd_ck_mul(b->used, 8 / bits, &at)) return SD_ERR(NOMEM, "the stacked results are too large");
  at -= b->spare / bits;
  if (!sd_ck_add(at, count, &total) || !sd_dtype_bytes(type, total, &need)) return SD_ERR(NOMEM, "the stacked results are too large");
  SD_TRY(sd_late_grow(s, to, need));
  b = &s->late.block[to];
  if (need > b->used) memset((char *)b->p + b->used, 0, need - b->used);
  if (!b->spare && count) memcpy((char *)b->p + b->used, from, need - b->used);
  for (uint64_t i = 0; b->spare && i < count; i++) sd_dtype_set_i64(raw, b->p, at + i, sd_dtype_get_i64(raw, from, i));
  b->used = need, b->spare = (unsigned)(need * 8 - total * bits);
  return NULL;
}

static sard_status *run_append(sard_session *s, uint32_t step) {
  const sd_art *a = &s->model->art;
  const sard_art_step *t = &a->steps[step];
  uint32_t from = a->lists[t->bufs], to = a->lists[t->bufs + 1];
  int64_t n;
  uint64_t need;
  SD_TRY(sd_late_value(s, a->bufs[from].bytes, &n));
  if (s->late.slot[a->bufs[from].bytes]) SD_TRY(sd_late_place(s, from));
  if (t->n_dim == 2) {
    int64_t count;
    uint64_t bytes;
    sd_dtype type = (sd_dtype)s->dim[a->lists[t->dims]];
    SD_TRY(sd_late_value(s, a->lists[t->dims + 1], &count));
    if (count < 0 || !sd_dtype_bytes(type, (uint64_t)count, &bytes) || bytes > sd_late_room(s, from) || (bytes && !s->buf[from]))
      return SD_ERR(MODEL, "%lld elements are appended from a buffer of %llu bytes", (long long)count, (unsigned long long)sd_late_room(s, from));
    return append_packed(s, to, s->buf[from], type, (uint64_t)count);
  }
  if (n < 0 || !sd_ck_add(s->late.block[to].used, (uint64_t)n, &need)) return SD_ERR(NOMEM, "the stacked results are too large");
  SD_TRY(sd_late_grow(s, to, need));
  sd_block *b = &s->late.block[to];
  if (n) memcpy((char *)b->p + b->used, s->buf[from], (size_t)n);
  b->used = need;
  return NULL;
}

// ---- steps that give values to symbols ----

static sard_status *run_define(sard_session *s, const sard_art_step *t) {
  const sd_art *a = &s->model->art;
  int64_t sign = s->dim[a->lists[t->dims + 1]];
  uint32_t b = a->lists[t->bufs], each = sign ? 2 : 1;
  sd_dtype type = (sd_dtype)s->dim[a->lists[t->dims]];
  uint64_t bytes;
  if (!sd_dtype_bytes(type, t->n_def / each, &bytes) || bytes > sd_late_room(s, b) || (bytes && !s->buf[b]))
    return SD_ERR(MODEL, "%u sizes are read from a buffer of %llu bytes", t->n_def / each, (unsigned long long)sd_late_room(s, b));
  for (uint32_t i = 0; i < t->n_def; i++) sd_late_forget(s, a->lists[t->defs + i]); // none is mixed with values of an earlier pass
  for (uint32_t i = 0; i < t->n_def / each; i++) {
    int64_t v = sd_host_defined(type, s->buf[b], i, sign);
    SD_TRY(sd_late_set(s, a->lists[t->defs + i * each], each == 2 && v < 0 ? 0 : v));
    if (each == 2) SD_TRY(sd_late_set(s, a->lists[t->defs + i * each + 1], v < 0 ? -v : 0));
  }
  return NULL;
}

static sard_status *run_set(sard_session *s, const sard_art_step *t) {
  const sd_art *a = &s->model->art;
  int64_t value[64];
  for (uint32_t i = 0; i < t->n_def; i++) SD_TRY(sd_late_value(s, a->lists[t->dims + i], &value[i]));
  for (uint32_t i = 0; i < t->n_def; i++) sd_late_forget(s, a->lists[t->defs + i]);
  for (uint32_t i = 0; i < t->n_def; i++) SD_TRY(sd_late_set(s, a->lists[t->defs + i], value[i]));
  return NULL;
}

static sard_status *run_check(sard_session *s, const sard_art_step *t) {
  const sd_art *a = &s->model->art;
  int64_t x, y;
  SD_TRY(sd_late_value(s, a->lists[t->dims], &x));
  SD_TRY(sd_late_value(s, a->lists[t->dims + 1], &y));
  bool broadcast = s->dim[a->lists[t->dims + 2]] != 0;
  if (x == y || (broadcast && (x == 1 || y == 1))) return NULL;
  return SD_ERR(MODEL, "the shapes of the data do not fit together: node '%s' gets sizes %lld and %lld, which must %s",
                sd_art_text(a, t->name), (long long)x, (long long)y, broadcast ? "be equal or 1" : "be equal");
}

// ---- loops and branches ----

static sard_status *run_range(sard_session *s, uint32_t from, uint32_t to, uint32_t scope, bool pooled);

static sard_status *read_cond(sard_session *s, const sard_art_step *t, bool *out) {
  const sd_art *a = &s->model->art;
  uint32_t b = a->lists[t->bufs];
  if (s->cu) SD_TRY(sd_cu_to_host(s, b));
  if (sd_late_room(s, b) < 1 || !s->buf[b]) return SD_ERR(MODEL, "a condition has no value");
  *out = *(const uint8_t *)s->buf[b] != 0;
  return NULL;
}

static sard_status *run_loop(sard_session *s, uint32_t step, bool pooled) {
  const sd_art *a = &s->model->art;
  const sard_art_step *t = &a->steps[step];
  const uint32_t *defs = a->lists + t->defs;
  int64_t limit = INT64_MAX, i = 0;
  bool backward = s->backward;
  if (t->tiles != SARD_ART_NONE) SD_TRY(sd_late_value(s, t->tiles, &limit));
  for (uint32_t k = 1; k < t->n_buf; k++) {
    uint32_t b = a->lists[t->bufs + k];
    s->late.block[b].used = 0, s->late.block[b].spare = 0;
  }
  for (bool more = true; i < limit; i++) {
    if (t->n_buf) SD_TRY(read_cond(s, t, &more));
    if (!more) break;
    sd_late_forget_steps(s, step + 1, step + 1 + t->body);
    SD_TRY(sd_late_set(s, defs[0], i));
    s->backward = i & 1; // weights that do not fit the cache are there in part
    SD_TRY(run_range(s, step + 1, step + 1 + t->body, step + 1, pooled));
  }
  s->backward = backward;
  if (t->n_def > 1) SD_TRY(sd_late_set(s, defs[1], i));
  for (uint32_t k = 1; k < t->n_buf; k++) { // parts of different sizes would not make a tensor
    uint32_t b = a->lists[t->bufs + k];
    int64_t bytes;
    SD_TRY(sd_late_value(s, a->bufs[b].bytes, &bytes));
    if ((uint64_t)bytes != s->late.block[b].used) return SD_ERR(MODEL, "the passes of the loop give results of different sizes");
    SD_TRY(sd_late_place(s, b));
  }
  return NULL;
}

static sard_status *run_branch(sard_session *s, uint32_t step, uint32_t scope, bool pooled) {
  const sard_art_step *t = &s->model->art.steps[step];
  uint32_t then = step + 1, other = then + t->body;
  bool yes;
  SD_TRY(read_cond(s, t, &yes));
  return yes ? run_range(s, then, other, scope, pooled) : run_range(s, other, other + t->other, scope, pooled);
}

static sard_status *run_step(sard_session *s, uint32_t i, uint32_t scope, bool pooled, bool *on_device) {
  const sard_art_step *t = &s->model->art.steps[i];
  if (s->cu) SD_TRY(sd_cu_step(s, i, on_device));
  if (*on_device) return NULL;
  switch (t->kind) {
  case SARD_AS_DISPATCH: return run_dispatch(s, i, pooled);
  case SARD_AS_COPY: return run_copy(s, i);
  case SARD_AS_LOOP: return run_loop(s, i, pooled);
  case SARD_AS_BRANCH: return run_branch(s, i, scope, pooled);
  case SARD_AS_DEFINE: return run_define(s, t);
  case SARD_AS_SET: return run_set(s, t);
  case SARD_AS_APPEND: return run_append(s, i);
  case SARD_AS_CHECK: return run_check(s, t);
  default: return sd_execute_host(s, i, pooled);
  }
}

// Runs steps [from, to). Late buffers that began at step `scope` or later give their memory back where they end.
static sard_status *run_range(sard_session *s, uint32_t from, uint32_t to, uint32_t scope, bool pooled) {
  const sd_art *a = &s->model->art;
  for (uint32_t i = from; i < to;) {
    const sard_art_step *t = &a->steps[i];
    uint32_t next = i + 1 + t->body + t->other;
    if (atomic_load_explicit(&s->cancel, memory_order_relaxed))
      return SD_ERR(CANCELLED, "the run was cancelled at step %u of %u", i, a->n_steps);
    if (s->cu) {
      uint32_t end;
      SD_TRY(sd_cu_segment(s, i, to, &end));
      if (end > i) {
        i = end;
        continue;
      }
    }
    int64_t begin = s->profile || s->trace ? sd_now_ns() : 0;
    bool on_device = false;
    sard_status *st = run_step(s, i, scope, pooled, &on_device);
    if (st) return node_error(a, t, st);
    if (s->late.n_bufs) sd_late_release(s, scope, i, next - 1);
    if (s->profile && !on_device) { // those on the device have their own
      s->times[i].ns += sd_now_ns() - begin;
      s->times[i].runs++;
    }
    if (s->trace && !on_device) sd_trace_step(s->trace, i, begin, sd_now_ns());
    i = next;
  }
  return NULL;
}

sard_status *sd_execute(sard_session *s) {
  sd_pool *pool = s->pool;
  s->backward = false;
  bool pooled = sd_pool_enter(pool); // else another run has it: this one works on its own thread
  sard_status *st = s->cu ? sd_cu_begin(s) : NULL;
  if (!st) st = run_range(s, 0, s->model->art.n_steps, 0, pooled);
  if (s->cu) st = sd_cu_finish(s, st);
  if (pooled) sd_pool_leave(pool);
  return st;
}
