#include "runtime/cuda/session.h"

#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/cuda/group.h"
#include "runtime/execute.h"

enum { ALIGN = 256, SLACK = 64 };

// ---- creation ----

static bool make_tables(sd_cu_session *c, const sd_art *a) {
  c->at = sd_calloc(a->n_bufs, sizeof *c->at);
  c->home = sd_calloc(a->n_bufs, sizeof *c->home);
  c->valid = sd_calloc(a->n_bufs, 1);
  c->room = sd_calloc(a->n_bufs, sizeof *c->room);
  c->host_reads = sd_calloc(a->n_bufs, sizeof *c->host_reads);
  c->shadow = sd_calloc(a->n_bufs, sizeof *c->shadow);
  c->shadow_bytes = sd_calloc(a->n_bufs, sizeof *c->shadow_bytes);
  c->bound = sd_calloc(a->n_bufs, sizeof *c->bound);
  c->error_words = sd_calloc(a->n_steps, sizeof *c->error_words);
  c->graphs = sd_calloc(a->n_steps, sizeof *c->graphs);
  c->begin = sd_calloc(a->n_steps, sizeof *c->begin);
  c->end = sd_calloc(a->n_steps, sizeof *c->end);
  c->timed = sd_calloc(a->n_steps, 1);
  c->by_library = sd_calloc(a->n_steps, sizeof *c->by_library);
  return c->at && c->home && c->valid && c->room && c->host_reads && c->shadow && c->shadow_bytes && c->bound && c->error_words &&
         c->graphs && c->begin && c->end && c->timed && c->by_library;
}

static void find_host_reads(sd_cu_session *c, const sd_art *a) {
  for (uint32_t i = 0; i < a->n_steps; i++)
    for (uint32_t k = 0; !c->program->launch[i] && k < a->steps[i].n_buf; k++) c->host_reads[a->lists[a->steps[i].bufs + k]] = true;
}

sard_status *sd_cu_session_new(sard_session *s, const sd_cu_program *program) {
  sd_cu_session *c = s->cu = sd_calloc(1, sizeof *c);
  if (!c) return SD_ERR(NOMEM, "out of memory while making a session");
  c->program = program, c->device = program->device;
  if (!make_tables(c, &s->model->art)) return SD_ERR(NOMEM, "out of memory while making a session");
  find_host_reads(c, &s->model->art);
  SD_TRY(sd_cu_enter(c->device));
  return sd_cu_check(c->device->api, c->device->api->stream_new(&c->stream, 1, 0), "making a stream"); // 1: beside the null stream
}

sard_status *sd_cu_wait(const sard_session *s) {
  const sd_cu_api *f = s->cu->device->api;
  SD_TRY(sd_cu_busy_end(s));
  if (sd_cu_group_waits(s)) return sd_cu_group_poll(s, NULL, "running on the device");
  return sd_cu_check(f, f->stream_wait(s->cu->stream), "running on the device");
}

sard_status *sd_cu_wait_event(const sard_session *s, void *event, const char *what) {
  const sd_cu_api *f = s->cu->device->api;
  SD_TRY(sd_cu_busy_end(s));
  if (sd_cu_group_waits(s)) return sd_cu_group_poll(s, event, what);
  return sd_cu_check(f, f->event_wait(event), what);
}

sard_status *sd_cu_record(const sard_session *s, void **event, unsigned flags) {
  const sd_cu_api *f = s->cu->device->api;
  if (!*event) SD_TRY(sd_cu_check(f, f->event_new(event, flags), "making an event"));
  return sd_cu_check(f, f->event_record(*event, s->cu->stream), "recording an event");
}

bool sd_cu_elapsed(const sard_session *s, void *from, void *to, int64_t *ns) {
  float ms = 0;
  if (s->cu->device->api->event_elapsed(&ms, from, to) != 0) return false;
  *ns = (int64_t)((double)ms * 1e6);
  return true;
}

static void free_events(const sd_cu_session *c, void **events, uint32_t n) {
  for (uint32_t i = 0; events && i < n; i++)
    if (events[i]) c->device->api->event_free(events[i]);
}

static void give_back(sard_session *s) {
  sd_cu_session *c = s->cu;
  const sd_art *a = &s->model->art;
  sd_cu_return(c->device);
  if (c->graphs) sd_cu_graphs_free(s);
  for (uint32_t i = 0; c->room && c->at && i < a->n_bufs; i++)
    if (c->room[i]) sd_cu_give(c->device, c->stream, &c->at[i], &c->room[i]);
  for (uint32_t i = 0; c->shadow && c->shadow_bytes && i < a->n_bufs; i++) {
    sd_free_aligned(c->shadow[i]);
    c->shadow[i] = NULL, c->shadow_bytes[i] = 0;
  }
  sd_cu_give(c->device, c->stream, &c->late_scratch, &c->late_scratch_bytes);
  sd_cu_give(c->device, c->stream, &c->workspace, &c->workspace_bytes);
  sd_cu_free(c->device, c->memory);
  c->memory = c->memory_bytes = c->plan = 0;
}

void sd_cu_session_free(sard_session *s) {
  sd_cu_session *c = s->cu;
  if (!c) return;
  const sd_art *a = &s->model->art;
  give_back(s);
  free_events(c, c->begin, a->n_steps);
  free_events(c, c->end, a->n_steps);
  free_events(c, &c->zero, 1);
  free_events(c, c->staged, SD_CU_STAGES);
  free_events(c, c->busy.at, 2 * SD_CU_BUSY_ROWS);
  for (int i = 0; i < SD_CU_STAGES; i++)
    if (c->stage[i]) c->device->api->host_free(c->stage[i]);
  if (c->stream) c->device->api->stream_free(c->stream);
  void *tables[] = {c->at,    c->home,        c->valid,  c->room,  c->host_reads, c->shadow, c->shadow_bytes,
                    c->bound, c->error_words, c->graphs, c->begin, c->end,        c->timed, c->by_library};
  for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) sd_free(tables[i]);
  sd_free(c);
  s->cu = NULL;
}

sard_status *sd_cu_session_reset(sard_session *s) {
  give_back(s);
  return sd_cu_wait(s); // what was given in the order of the stream is free then
}

uint64_t sd_cu_session_memory(const sard_session *s) {
  const sd_cu_session *c = s->cu;
  uint64_t sum = c->memory_bytes + c->late_scratch_bytes + c->workspace_bytes;
  for (uint32_t i = 0; i < s->model->art.n_bufs; i++) sum += c->room[i];
  return sum;
}

// ---- memory ----

// Scratch of the launches whose sizes are known: they run one after the other and share it.
static uint64_t scratch_bytes(const sard_session *s) {
  const sd_art *a = &s->model->art;
  uint64_t most = 0, need;
  for (uint32_t i = 0; i < a->n_cuda; i++) {
    const sard_art_cuda *e = &a->cuda[i];
    if (s->late.slot[e->blocks] || s->late.slot[e->scratch] || s->dim[e->blocks] <= 0 || s->dim[e->scratch] <= 0) continue;
    if (!sd_ck_mul((uint64_t)s->dim[e->blocks], (uint64_t)s->dim[e->scratch], &need) || need > SD_CU_MOST_SCRATCH)
      need = SD_CU_MOST_SCRATCH > (uint64_t)s->dim[e->scratch] ? SD_CU_MOST_SCRATCH : (uint64_t)s->dim[e->scratch];
    if (need > most) most = need;
  }
  return most;
}

// Offsets of all buffers of known size, into `home`; false when the sum overflows.
static bool lay_out(const sard_session *s, uint64_t *total) {
  const sd_art *a = &s->model->art;
  sd_cu_session *c = s->cu;
  uint64_t at = sd_align_up(4ull * a->n_steps + 4, ALIGN), arena = at;
  bool ok = sd_ck_add(at, sd_align_up(s->arena_need, ALIGN), &at);
  for (uint32_t i = 0; i < a->n_bufs && ok; i++) {
    const sard_art_buf *b = &a->bufs[i];
    c->home[i] = 0;
    if (b->kind == SARD_AB_CONST || s->late.slot[b->bytes] || b->first == SARD_ART_NONE) continue;
    c->home[i] = b->kind == SARD_AB_ARENA ? arena + s->offset[i] : at;
    if (b->kind != SARD_AB_ARENA) ok = sd_ck_add(at, sd_align_up((uint64_t)s->dim[b->bytes] + SLACK, ALIGN), &at);
  }
  c->scratch_bytes = scratch_bytes(s);
  c->scratch = at;
  return ok && sd_ck_add(at, sd_align_up(c->scratch_bytes, ALIGN), total);
}

static sard_status *get_memory(sard_session *s, uint64_t need) {
  sd_cu_session *c = s->cu;
  if (s->memory_limit && need > s->memory_limit)
    return SD_ERR(NOMEM, "these inputs need %llu bytes of memory on cuda:%d, the memory-limit is %llu", (unsigned long long)need,
                  c->device->ordinal, (unsigned long long)s->memory_limit);
  if (need <= c->memory_bytes) return NULL;
  sd_cu_free(c->device, c->memory); // nothing in it is needed any more: old and new are never held together
  c->memory = c->memory_bytes = 0;
  SD_TRY_MSG(sd_cu_alloc(c->device, need, &c->memory), "activations");
  c->memory_bytes = need;
  return NULL;
}

sard_status *sd_cu_place(sard_session *s) {
  sd_cu_session *c = s->cu;
  uint64_t need;
  if (c->plan == s->plans) return NULL;
  c->plan = 0;
  if (!lay_out(s, &need)) return SD_ERR(NOMEM, "these inputs need more device memory than can be addressed");
  SD_TRY(get_memory(s, need));
  for (uint32_t i = 0; i < s->model->art.n_bufs; i++)
    if (c->home[i]) c->home[i] += c->memory;
  c->errors = c->memory, c->scratch += c->memory;
  c->plan = s->plans;
  c->generation++;
  return NULL;
}

// ---- the order of a run ----

static sard_status *shadow(sard_session *s, uint32_t buf, uint64_t bytes) {
  sd_cu_session *c = s->cu;
  s->buf[buf] = NULL;
  if (!c->host_reads[buf]) return NULL;
  if (!c->shadow[buf] || c->shadow_bytes[buf] < bytes) {
    sd_free_aligned(c->shadow[buf]);
    c->shadow_bytes[buf] = 0;
    c->shadow[buf] = sd_alloc_aligned(bytes + SLACK);
    if (!c->shadow[buf]) return SD_ERR(NOMEM, "out of memory for %llu bytes", (unsigned long long)bytes);
    c->shadow_bytes[buf] = bytes;
  }
  s->buf[buf] = c->shadow[buf];
  return NULL;
}

sard_status *sd_cu_bind(sard_session *s, uint32_t buf, const sard_tensor *t) {
  if (t->desc.device_id != s->cu->device->ordinal)
    return SD_ERR(USAGE, "a tensor lies on cuda:%d, the model runs on cuda:%d", t->desc.device_id, s->cu->device->ordinal);
  SD_TRY(shadow(s, buf, t->bytes));
  s->cu->at[buf] = (uint64_t)(uintptr_t)t->data;
  return NULL;
}

sard_status *sd_cu_bind_inputs(sard_session *s, sard_tensor *const *in) {
  const sd_art *a = &s->model->art;
  for (uint32_t i = 0; i < a->n_bufs; i++)
    if (!s->cu->room[i]) s->cu->at[i] = s->cu->program->consts[i] ? s->cu->program->consts[i] : s->cu->home[i];
  for (uint32_t i = 0; i < a->n_in; i++)
    if (a->io[i].buf != SARD_ART_NONE && in[i]->desc.device) SD_TRY(sd_cu_bind(s, a->io[i].buf, in[i]));
  return NULL;
}

sard_status *sd_cu_begin(sard_session *s) {
  sd_cu_session *c = s->cu;
  const sd_art *a = &s->model->art;
  bool moved = false;
  for (uint32_t i = 0; i < a->n_bufs; i++) {
    uint32_t kind = a->bufs[i].kind;
    bool there = kind == SARD_AB_INPUT && c->at[i] != c->home[i];
    c->valid[i] = kind == SARD_AB_CONST ? SD_CU_HOST | (c->at[i] ? SD_CU_DEVICE : 0) : kind != SARD_AB_INPUT ? 0 : there ? SD_CU_DEVICE : SD_CU_HOST;
    if (kind != SARD_AB_INPUT && kind != SARD_AB_OUTPUT) continue;
    moved |= c->bound[i] != c->at[i];
    c->bound[i] = c->at[i];
  }
  c->generation += moved;
  c->copied_in = c->copied_out = c->launches = c->library_launches = 0;
  SD_TRY(sd_cu_enter(c->device));
  if (s->trace) SD_TRY(sd_cu_zero(s));
  if (c->running) return NULL;
  return sd_cu_check(c->device->api, c->device->api->fill(c->errors, 0, 4ull * a->n_steps + 4, c->stream), "starting a run");
}

static sard_status *give_output(sard_session *s, uint32_t buf) {
  sd_cu_session *c = s->cu;
  bool there = c->at[buf] && c->at[buf] != c->home[buf] && !s->late.slot[s->model->art.bufs[buf].bytes];
  return there ? sd_cu_to_device(s, buf) : sd_cu_to_host(s, buf);
}

static sard_status *check_errors(sard_session *s) {
  const sd_art *a = &s->model->art;
  for (uint32_t i = 0; i < a->n_steps; i++)
    if (s->cu->error_words[i]) return sd_execute_index_error(a, i);
  return NULL;
}

static sard_status *give_results(sard_session *s) {
  sd_cu_session *c = s->cu;
  const sd_art *a = &s->model->art;
  for (uint32_t i = 0; i < a->n_out; i++) SD_TRY(give_output(s, a->io[a->n_in + i].buf));
  c->running = c->ahead;
  return c->ahead ? sd_cu_busy_end(s) : sd_cu_end(s);
}

sard_status *sd_cu_end(sard_session *s) {
  sd_cu_session *c = s->cu;
  const sd_art *a = &s->model->art;
  c->running = false;
  if (a->n_cuda && c->errors)
    SD_TRY(sd_cu_check(c->device->api, c->device->api->to_host(c->error_words, c->errors, 4ull * a->n_steps, c->stream), "ending a run"));
  SD_TRY(sd_cu_wait(s));
  sd_cu_take_times(s), sd_cu_busy_take(s);
  return check_errors(s);
}

sard_status *sd_cu_finish(sard_session *s, sard_status *st) {
  if (!st) st = give_results(s);
  if (!st) return NULL;
  if (s->group && s->group->on_device) s->group->fail(s->group); // before anything waits for ranks that wait for this one
  s->cu->running = false;
  s->cu->busy.open = false, s->cu->busy.rows = 0; // its times are left out
  sard_status_free(
      sd_cu_wait(s)); // nothing may run on when the caller frees its tensors; the first error is the one to tell
  return st;
}
