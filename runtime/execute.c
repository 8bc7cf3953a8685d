// Runs the step list of a session whose buffers are bound.
#include <string.h>

#include "runtime/base/thread.h"
#include "runtime/session.h"

// One dispatch, shared by the workers that run its tiles.
typedef struct job {
  sard_kernel_fn fn;
  sard_dispatch dispatch; // scratch: of worker 0
  uint64_t scratch_stride;
  atomic_int result;      // first result of a kernel that is not 0
} job;

static void run_tiles(void *user, int worker, uint32_t begin, uint32_t end) {
  job *j = user;
  sard_dispatch d = j->dispatch;
  if (d.scratch) d.scratch = (char *)d.scratch + (uint64_t)worker * j->scratch_stride;
  int32_t result = j->fn(&d, begin, end);
  if (result) atomic_store_explicit(&j->result, result, memory_order_relaxed);
}

static sard_status *node_error(const sd_art *a, const sard_art_step *t, sard_status *st) {
  st = sd_status_field(st, SARD_TEXT_NODE, "%s", sd_art_text(a, t->name));
  return sd_status_field(st, SARD_TEXT_OP, "%s", sd_art_text(a, t->op));
}

static sard_status *run_dispatch(sard_session *s, const sard_art_step *t, void *const *bufs, const int64_t *dims,
                                 bool pooled) {
  const sard_model *m = s->model;
  uint32_t error = 0, tiles = (uint32_t)s->dim[t->tiles];
  if (tiles == 0) return NULL;
  job j = {.fn = m->entry[t->kernel],
           .dispatch = {bufs, dims, s->scratch_need ? s->memory + s->arena_need : NULL, &error},
           .scratch_stride = s->scratch_need};
  if (pooled)
    sd_pool_run(m->ctx->pool, run_tiles, &j, tiles);
  else
    run_tiles(&j, 0, 0, tiles);
  int result = atomic_load_explicit(&j.result, memory_order_relaxed);
  if (error & SARD_KE_INDEX)
    return node_error(&m->art, t, SD_ERR(MODEL, "index out of range in node '%s' (%s)", sd_art_text(&m->art, t->name),
                                         sd_art_text(&m->art, t->op)));
  if (error || result)
    return node_error(&m->art, t, SD_ERR(INTERNAL, "kernel '%s' of node '%s' failed (%d, %u)",
                                         sd_art_text(&m->art, m->art.kernels[t->kernel].symbol),
                                         sd_art_text(&m->art, t->name), result, error));
  return NULL;
}

static void run_copy(const sard_session *s, const sard_art_step *t, void *const *bufs) {
  const sd_art *a = &s->model->art;
  size_t n = (size_t)s->dim[a->bufs[a->lists[t->bufs]].bytes];
  if (n) memmove(bufs[1], bufs[0], n);
}

static sard_status *run_steps(sard_session *s, bool pooled) {
  const sd_art *a = &s->model->art;
  void *const *bufs = s->step_buf;
  const int64_t *dims = s->step_dim;
  for (uint32_t i = 0; i < a->n_steps; i++) {
    const sard_art_step *t = &a->steps[i];
    if (atomic_load_explicit(&s->cancel, memory_order_relaxed))
      return SD_ERR(CANCELLED, "the run was cancelled at step %u of %u", i, a->n_steps);
    int64_t begin = s->profile ? sd_now_ns() : 0;
    if (t->kind == SARD_AS_DISPATCH) {
      SD_TRY(run_dispatch(s, t, bufs, dims, pooled));
      dims += t->n_dim;
    } else {
      run_copy(s, t, bufs);
    }
    bufs += t->n_buf;
    if (s->profile) {
      s->times[i].ns += sd_now_ns() - begin;
      s->times[i].runs++;
    }
  }
  return NULL;
}

sard_status *sd_execute(sard_session *s) {
  sd_pool *pool = s->model->ctx->pool;
  bool pooled = sd_pool_enter(pool); // else another run has it: this one works on its own thread
  sard_status *st = run_steps(s, pooled);
  if (pooled) sd_pool_leave(pool);
  return st;
}
