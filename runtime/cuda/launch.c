// Steps on the device.
#include "runtime/base/alloc.h"
#include "runtime/base/thread.h"
#include "runtime/collective/group.h"
#include "runtime/cuda/session.h"
#include "runtime/execute.h"
#include "runtime/trace.h"

enum { MOST_WORDS = 512 }; // parameters of a kernel: 4 KB

static bool writes(const sd_art *a, const sard_art_step *t, uint32_t k) { return a->lists[t->writes + k] != 0; }

// ---- times ----

static bool takes_times(const sard_session *s) { return s->profile || s->trace; }

static sard_status *mark(sard_session *s, void **event) { return takes_times(s) ? sd_cu_record(s, event, 0) : NULL; }

sard_status *sd_cu_zero(sard_session *s) {
  sd_cu_session *c = s->cu;
  if (c->zero) return NULL;
  SD_TRY(mark(s, &c->zero));
  SD_TRY(sd_cu_wait_event(s, c->zero, "waiting for a kernel"));
  c->zero_ns = sd_now_ns();
  return NULL;
}

void sd_cu_take_times(sard_session *s) {
  sd_cu_session *c = s->cu;
  int64_t ns, since;
  for (uint32_t i = 0; takes_times(s) && i < s->model->art.n_steps; i++) {
    if (!c->timed[i]) continue;
    c->timed[i] = 0;
    if (!sd_cu_elapsed(s, c->begin[i], c->end[i], &ns)) continue;
    if (s->profile) s->times[i].ns += ns, s->times[i].runs++;
    if (s->trace && sd_cu_elapsed(s, c->zero, c->begin[i], &since))
      sd_trace_launch(s->trace, i, c->zero_ns + since, c->zero_ns + since + ns);
  }
}

// A step that runs again in a loop: its events are used again.
static sard_status *take_time_before(sard_session *s, uint32_t i) {
  sd_cu_session *c = s->cu;
  if (!takes_times(s) || !c->timed[i]) return NULL;
  SD_TRY(sd_cu_check(c->device->api, c->device->api->event_wait(c->end[i]), "waiting for a kernel"));
  sd_cu_take_times(s);
  return NULL;
}

// ---- launches ----

static sard_status *late_scratch(sd_cu_session *c, uint64_t bytes, uint64_t *out) {
  if (bytes > c->late_scratch_bytes) SD_TRY(sd_cu_renew(c->device, c->stream, bytes, &c->late_scratch, &c->late_scratch_bytes));
  *out = c->late_scratch;
  return NULL;
}

static sard_status *scratch_of(sard_session *s, const sard_art_cuda *e, int64_t *blocks, uint64_t *out) {
  int64_t each;
  SD_TRY(sd_late_value(s, e->scratch, &each));
  *out = s->cu->scratch;
  if (each <= 0) return NULL;
  int64_t most = (int64_t)(SD_CU_MOST_SCRATCH / (uint64_t)each);
  if (most < 1) most = 1;
  if (*blocks > most) *blocks = most;
  uint64_t need;
  if (!sd_ck_mul((uint64_t)each, (uint64_t)*blocks, &need)) return SD_ERR(NOMEM, "scratch memory of %lld bytes", (long long)each);
  return need > s->cu->scratch_bytes ? late_scratch(s->cu, need, out) : NULL;
}

static sard_status *fill_words(sard_session *s, uint32_t i, const sard_art_cuda *e, uint64_t scratch, uint64_t *words) {
  const sd_art *a = &s->model->art;
  const sd_cu_session *c = s->cu;
  const sard_art_step *t = &a->steps[i];
  if ((uint64_t)t->n_buf + e->n_dim + 2 > MOST_WORDS) return SD_ERR(MODEL, "a launch has %u buffers and %u sizes", t->n_buf, e->n_dim);
  for (uint32_t k = 0; k < t->n_buf; k++) *words++ = c->at[a->lists[t->bufs + k]];
  for (uint32_t k = 0; k < e->n_dim; k++) {
    int64_t v;
    SD_TRY(sd_late_value(s, a->lists[e->dims + k], &v));
    *words++ = (uint64_t)v;
  }
  *words++ = scratch;
  *words = c->errors + 4ull * i;
  return NULL;
}

// That for the sizes at hand.
static sard_status *choose_launch(const sard_session *s, uint32_t i, const sard_art_cuda **out) {
  const sd_art *a = &s->model->art;
  const sard_art_cuda *first = s->cu->program->launch[i], *e = *out = first;
  for (e++; e < a->cuda + a->n_cuda && e->step == i && e->arch == first->arch; e++) {
    int64_t size;
    SD_TRY(sd_late_value(s, e->size, &size));
    if (size >= (int64_t)e->least) *out = e;
  }
  return NULL;
}

sard_status *sd_cu_launch_kernel(sard_session *s, uint32_t i, bool *done) {
  sd_cu_session *c = s->cu;
  const sard_art_cuda *e;
  const sd_cu_api *f = c->device->api;
  uint64_t words[MOST_WORDS], scratch;
  int64_t blocks;
  *done = false;
  SD_TRY(choose_launch(s, i, &e));
  SD_TRY(sd_late_value(s, e->blocks, &blocks));
  if (blocks <= 0) return NULL; // nothing to compute
  if (blocks > INT32_MAX) blocks = INT32_MAX;
  SD_TRY(scratch_of(s, e, &blocks, &scratch));
  SD_TRY(fill_words(s, i, e, scratch, words));
  void *params[] = {words};
  *done = true;
  return sd_cu_check(f, f->launch(c->program->function[e - s->model->art.cuda], (unsigned)blocks, 1, 1, e->threads, 1, 1, e->shared, c->stream, params, NULL),
                     "launching a kernel");
}

sard_status *sd_cu_launch(sard_session *s, uint32_t i) {
  sd_cu_session *c = s->cu;
  const sd_cu_product_choice *product;
  bool done = true;
  SD_TRY(sd_cu_product_find(s, i, &product));
  SD_TRY(sd_cu_busy_begin(s));
  SD_TRY(take_time_before(s, i));
  SD_TRY(mark(s, &c->begin[i]));
  SD_TRY(product ? sd_cu_product_launch(s, i, product) : sd_cu_launch_kernel(s, i, &done));
  SD_TRY(mark(s, &c->end[i]));
  if (takes_times(s)) c->timed[i] = 1;
  c->by_library[i] = product != NULL;
  c->launches += done, c->library_launches += product != NULL;
  return NULL;
}

static sard_status *run_launch(sard_session *s, uint32_t i) {
  const sd_art *a = &s->model->art;
  const sard_art_step *t = &a->steps[i];
  if (s->late.step[i]) SD_TRY(sd_execute_prepare(s, i, 0));
  for (uint32_t k = 0; k < t->n_buf; k++) SD_TRY(sd_cu_to_device(s, a->lists[t->bufs + k]));
  SD_TRY(sd_cu_launch(s, i));
  for (uint32_t k = 0; k < t->n_buf; k++)
    if (writes(a, t, k)) s->cu->valid[a->lists[t->bufs + k]] = SD_CU_DEVICE;
  return NULL;
}

// ---- steps on the host ----

uint64_t sd_cu_room(const sard_session *s, uint32_t buf) {
  uint32_t slot = s->model->art.bufs[buf].bytes;
  return s->late.slot[slot] ? s->cu->room[buf] : (uint64_t)s->dim[slot];
}

// A copy whose source is on the device stays there.
static sard_status *copy_there(sard_session *s, uint32_t i, bool *done) {
  sd_cu_session *c = s->cu;
  const sd_art *a = &s->model->art;
  const sard_art_step *t = &a->steps[i];
  uint32_t from = a->lists[t->bufs], to = a->lists[t->bufs + 1];
  int64_t n;
  *done = (c->valid[from] & SD_CU_DEVICE) != 0;
  if (!*done) return NULL;
  if (s->late.step[i]) SD_TRY(sd_execute_prepare(s, i, 1));
  SD_TRY(sd_late_value(s, a->bufs[to].bytes, &n));
  SD_TRY(sd_cu_to_device(s, to));
  if (n < 0 || (uint64_t)n > sd_cu_room(s, from) || (uint64_t)n > sd_cu_room(s, to))
    return SD_ERR(MODEL, "%lld bytes are copied from a buffer of %llu", (long long)n, (unsigned long long)sd_cu_room(s, from));
  if (n) SD_TRY(sd_cu_check(c->device->api, c->device->api->copy(c->at[to], c->at[from], (size_t)n, c->stream), "copying on the device"));
  c->valid[to] = SD_CU_DEVICE;
  return NULL;
}

// What the step reads comes to the host. One that computes may write parts of a buffer only: the others have to be there too.
static sard_status *prepare_host(sard_session *s, uint32_t i) {
  const sd_art *a = &s->model->art;
  const sard_art_step *t = &a->steps[i];
  if (s->group && s->group->on_device && t->kind == SARD_AS_HOST &&
      sd_host_exchanges(sd_host_find(sd_art_text(a, t->op)))) {
    s->cu->exchange = i;
    return NULL;
  }
  for (uint32_t k = 0; k < t->n_buf; k++) {
    uint32_t b = a->lists[t->bufs + k];
    if (!writes(a, t, k) || t->kind == SARD_AS_DISPATCH) SD_TRY(sd_cu_to_host(s, b));
    if (writes(a, t, k)) s->cu->valid[b] = SD_CU_HOST;
  }
  return NULL;
}

sard_status *sd_cu_step(sard_session *s, uint32_t i, bool *done) {
  const sard_art_step *t = &s->model->art.steps[i];
  *done = s->cu->program->launch[i] != NULL;
  if (*done) return run_launch(s, i);
  if (t->kind == SARD_AS_COPY) SD_TRY(copy_there(s, i, done));
  bool flow = t->kind == SARD_AS_LOOP || t->kind == SARD_AS_BRANCH; // read their condition when they come to it
  return *done || flow ? NULL : prepare_host(s, i);
}
