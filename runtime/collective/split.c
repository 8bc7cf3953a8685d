// Devices of a split session: their sessions, pools and threads, and what they did.
#include "runtime/collective/split.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/base/thread.h"
#include "runtime/collective/group.h"
#include "runtime/collective/inside.h"
#include "runtime/cuda/group.h"
#include "runtime/cuda/session.h"

static sard_status *place_parts(sard_model *m) {
  const sd_art *a = &m->art;
  sd_devices *d = &m->devices;
  uint32_t n = sd_art_parts(a);
  const char *way = sd_split_name((sd_split_kind)a->parts[1]);
  if (!d->n) {
    for (uint32_t i = 0; i < n; i++) d->at[i] = (sd_place){false, (int)i};
    d->n = (int)n, d->split = (sd_split_kind)a->parts[1];
  }
  if (d->split == SD_SPLIT_AUTO) d->split = (sd_split_kind)a->parts[1];
  if (d->split && d->split != a->parts[1])
    return SD_ERR(USAGE, "split: the model is compiled in parts by split=%s", way ? way : "?");
  if ((uint32_t)d->n != n)
    return SD_ERR(USAGE, "devices: the model is compiled in %u parts, and %d device%s named", n, d->n,
                  d->n == 1 ? " is" : "s are");
  return NULL;
}

// A part of a model in parts, or a model that was compiled for the rank.
static sard_status *place_rank(const sard_model *m) {
  uint32_t n = sd_art_parts(&m->art);
  if (!n || (m->art.parts[1] == SD_SPLIT_TENSOR && n == (uint32_t)m->devices.ranks)) return NULL;
  return SD_ERR(USAGE, "devices: the model is compiled in %u parts by split=%s, and there are %d processes", n,
                sd_split_name((sd_split_kind)m->art.parts[1]), m->devices.ranks);
}

static sard_status *place_whole(sard_model *m) {
  if (!m->devices.n) return NULL;
  if (!m->devices.split)
    return SD_ERR(USAGE,
                  "devices: several devices need a way to split the model: split=batch, layer, tensor or auto");
  if (m->devices.split == SD_SPLIT_AUTO) m->devices.split = SD_SPLIT_BATCH; // the compiler made no parts
  if (sd_split_in_parts(m->devices.split))
    return sd_status_field(
        SD_ERR(UNSUPPORTED, "split=%s: the model is compiled as one piece", sd_split_name(m->devices.split)),
        SARD_TEXT_HINT, "compile it with --devices and --split");
  return sd_batch_refuse(m);
}

// ---- GPUs ----

static sard_status *load_program(sard_model *m, sd_place p, sd_cu_program **out) {
  const sd_cu_device *d;
  char name[SD_PLACE_TEXT];
  if (!p.cuda || *out) return NULL;
  sd_place_text(p, name);
  SD_TRY_MSG(sd_context_cuda(m->ctx, p.number, &d), "device %s", name);
  return sd_status_context(sd_cu_program_new(m, d, out), "device %s", name);
}

// Code and weights on each GPU: all of them, or those of its part.
static sard_status *load_programs(sard_model *m) {
  const sd_devices *d = &m->devices;
  if (!sd_devices_cuda(d)) return NULL;
  if (!m->parts && !m->replicas) m->replicas = sd_calloc((size_t)d->n, sizeof *m->replicas);
  if (!m->parts && !m->replicas) return SD_ERR(NOMEM, "out of memory while loading a model");
  for (int i = 0; i < d->n; i++)
    SD_TRY(load_program(m->parts ? m->parts[i] : m, d->at[i], m->parts ? &m->parts[i]->cu : &m->replicas[i]));
  return NULL;
}

sard_status *sd_split_place(sard_model *m) {
  if (m->devices.mpi) return place_rank(m);
  SD_TRY(m->parts ? place_parts(m) : place_whole(m));
  return load_programs(m);
}

// ---- threads of devices ----

void sd_device_failed(sd_device *d) {
  if (d->session->group) d->session->group->fail(d->session->group);
  for (int i = 0; i < d->all->n; i++)
    if (&d->all->at[i] != d) sard_session_cancel(d->all->at[i].session);
}

void sd_device_run(sd_device *d, sard_tensor *const *in, sard_tensor **out) {
  const sd_art *a = &d->session->model->art;
  int64_t t0 = sd_now_ns();
  d->st = sd_session_go(d->session, in, (int)a->n_in, out, (int)a->n_out);
  d->busy_ns += sd_now_ns() - t0;
  d->runs++;
  if (d->session->group) {
    d->bytes_in += d->session->group->bytes, d->exchanged += d->session->group->bytes;
    d->session->group->bytes = 0;
  }
  if (d->st) sd_device_failed(d);
}

sard_status *sd_split_error(struct sd_split *s, int n) {
  sard_status *st = NULL;
  for (int k = 0; k < n; k++) {
    sd_device *d = &s->at[k];
    bool better = d->st && (!st || sard_status_code(st) == SARD_E_CANCELLED);
    if (better) sard_status_free(st), st = sd_status_context(d->st, "device %s", d->name);
    else
      sard_status_free(d->st);
    d->st = NULL;
  }
  return st;
}

static void *serve(void *user) {
  sd_device *d = user;
  struct sd_split *s = d->all;
  pthread_mutex_lock(&s->lock);
  for (;;) {
    while (!d->asked && !s->stop) pthread_cond_wait(&s->go, &s->lock);
    if (s->stop) break;
    d->asked = false;
    pthread_mutex_unlock(&s->lock);
    s->work(d);
    pthread_mutex_lock(&s->lock);
    if (--s->pending == 0) pthread_cond_signal(&s->done);
  }
  pthread_mutex_unlock(&s->lock);
  return NULL;
}

// Signals are for the threads of the program.
static sard_status *start_thread(sd_device *d) {
  sigset_t all, old;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  d->started = pthread_create(&d->thread, NULL, serve, d) == 0;
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  return d->started ? NULL : SD_ERR(NOMEM, "the system gives no thread for device %s", d->name);
}

void sd_split_work(struct sd_split *s, int n, void (*work)(sd_device *d)) {
  pthread_mutex_lock(&s->lock);
  s->work = work;
  s->pending = n - 1;
  for (int i = 1; i < n; i++) s->at[i].asked = true;
  pthread_cond_broadcast(&s->go);
  pthread_mutex_unlock(&s->lock);
  work(&s->at[0]); // the caller is the first device's thread
  pthread_mutex_lock(&s->lock);
  while (s->pending) pthread_cond_wait(&s->done, &s->lock);
  pthread_mutex_unlock(&s->lock);
}

// ---- making ----

// Without a number of threads the processors are shared evenly.
static int threads_of(const sard_model *m) {
  int each = m->ctx->threads ? m->ctx->threads : sd_cpu_count() / m->devices.n;
  return each > 0 ? each : 1;
}

static sard_status *open_device(sard_session *s, sd_device *d, const sard_options *options) {
  sard_model *m = s->model->parts ? s->model->parts[d->index] : s->model;
  const sd_cu_program *cu = s->model->replicas ? s->model->replicas[d->index] : m->cu;
  sd_place_text(s->model->devices.at[d->index], d->name);
  d->all = s->split;
  d->pool = sd_pool_new(threads_of(s->model));
  d->in = sd_calloc(m->art.n_in, sizeof *d->in);
  d->out = sd_calloc(m->art.n_out, sizeof *d->out);
  if (!d->pool || !d->in || !d->out || !sd_share_new(&m->art, &d->share))
    return SD_ERR(NOMEM, "out of memory for device %s", d->name);
  SD_TRY_MSG(sd_session_on(m, options, d->pool, cu, &d->session), "device %s", d->name);
  d->session->memory_limit /= (uint64_t)s->model->devices.n;
  if (d->session->cu) d->session->cu->busy.on = true;
  return d == s->split->at ? NULL : start_thread(d);
}

// GPUs exchange tensors where they are; with processors among them all meet on the host.
static sard_status *join_groups(struct sd_split *x) {
  sard_session *ranks[SD_DEVICES_MOST];
  bool all = true;
  for (int i = 0; i < x->n; i++) ranks[i] = x->at[i].session, all &= ranks[i]->cu != NULL;
  if (all && x->n > 1) SD_TRY(sd_cu_groups_new(ranks, x->n, &x->groups));
  else
    x->groups = sd_group_threads(x->n);
  if (!x->groups) return SD_ERR(NOMEM, "out of memory for %d devices", x->n);
  for (int i = 0; i < x->n; i++) ranks[i]->group = x->groups[i];
  return NULL;
}

sard_status *sd_split_new(sard_session *s, const sard_options *options) {
  const sd_devices *list = &s->model->devices;
  s->split = sd_calloc(1, sizeof *s->split + (size_t)list->n * sizeof *s->split->at);
  if (!s->split) return SD_ERR(NOMEM, "out of memory for %d devices", list->n);
  pthread_mutex_init(&s->split->lock, NULL);
  pthread_cond_init(&s->split->go, NULL);
  pthread_cond_init(&s->split->done, NULL);
  s->split->n = list->n;
  int64_t micro;
  SD_TRY(sd_options_int(options, "micro-batches", 1, SD_MICRO_MOST, 0, &micro));
  s->split->micro = (int)micro;
  for (int i = 0; i < list->n; i++) {
    s->split->at[i].index = i;
    SD_TRY(open_device(s, &s->split->at[i], options));
  }
  if (s->model->parts && list->split == SD_SPLIT_TENSOR) SD_TRY(join_groups(s->split));
  return s->model->parts ? sd_flow_new(s) : NULL;
}

void sd_split_free(sard_session *s) {
  struct sd_split *x = s->split;
  if (!x) return;
  pthread_mutex_lock(&x->lock);
  x->stop = true;
  pthread_cond_broadcast(&x->go);
  pthread_mutex_unlock(&x->lock);
  for (int i = 0; i < x->n; i++) {
    sd_device *d = &x->at[i];
    if (d->started) pthread_join(d->thread, NULL);
  }
  sd_flow_free(x);
  if (x->groups) x->groups[0]->free(x->groups);
  for (int i = 0; i < x->n; i++) {
    sd_device *d = &x->at[i];
    if (d->session) d->session->group = NULL;
    sard_session_free(d->session);
    sd_pool_free(d->pool);
    sd_share_free(&d->share);
    sd_free(d->in), sd_free(d->out);
  }
  pthread_cond_destroy(&x->done), pthread_cond_destroy(&x->go);
  pthread_mutex_destroy(&x->lock);
  sd_free(x);
  s->split = NULL;
}

void sd_split_cancel(sard_session *s, int on) {
  for (int i = 0; s->split && i < s->split->n; i++) atomic_store(&s->split->at[i].session->cancel, on);
}

sard_status *sd_split_reset(sard_session *s) {
  if (s->split) sd_flow_drop(s->split);
  for (int i = 0; s->split && i < s->split->n; i++) SD_TRY(sard_session_reset(s->split->at[i].session));
  return NULL;
}

// New outputs of a run go to the caller, unless it failed.
static sard_status *take_made(sard_session *s, sard_tensor **out, sard_status *st) {
  for (uint32_t i = 0; i < s->model->art.n_out; i++) {
    if (s->made[i] && st) sard_tensor_free(s->made[i]);
    else if (s->made[i])
      out[i] = s->made[i];
    s->made[i] = NULL;
  }
  return st;
}

sard_status *sd_split_run(sard_session *s, sard_tensor *const *in, int n_in, sard_tensor **out, int n_out) {
  sd_split_cancel(s, 0);
  return take_made(s, out,
                   s->model->parts ? sd_run_parts(s, in, n_in, out, n_out, 0)
                                   : sd_run_batch(s, in, n_in, out, n_out));
}

sard_status *sd_split_alone(sard_session *s, sard_tensor *const *in, int n_in, sard_tensor **out, int n_out) {
  sd_split_cancel(s, 0);
  if (!s->model->parts) return sd_session_go(s->split->at[0].session, in, n_in, out, n_out);
  return take_made(s, out, sd_run_parts(s, in, n_in, out, n_out, 1));
}

bool sd_split_overlaps(const sard_session *s) { return s->model->parts && !sd_flow_cuts(s->split); }

sard_status *sd_split_repeat(sard_session *s, sard_tensor *const *in, int n_in, sard_tensor **out, int n_out,
                             int times) {
  sd_split_cancel(s, 0);
  return take_made(s, out, sd_run_parts(s, in, n_in, out, n_out, times));
}

// ---- what they did ----

const char *sd_split_transport(const sard_session *s, const char **why) {
  const struct sd_split *x = s->split;
  if (why) *why = NULL;
  if (!sd_devices_cuda(&s->model->devices)) return "shared memory";
  if (x->groups && !x->groups[0]->on_device) return "pinned memory";
  if (x->groups && why) *why = sd_cu_group_why(x->groups[0]);
  if (x->groups) return sd_cu_group_transport(x->groups[0]);
  return sd_flow_stays(x, true)    ? "peer-to-peer"
         : sd_flow_stays(x, false) ? "peer-to-peer, pinned memory"
                                   : "pinned memory";
}

uint64_t sd_split_peer_bytes(const sard_session *s) {
  uint64_t sum = sd_flow_peer_bytes(s->split);
  for (int i = 0; s->split->groups && s->split->groups[0]->on_device && i < s->split->n; i++)
    sum += sd_cu_group_peer_bytes(s->split->groups[i]);
  return sum;
}

int sd_split_devices(const sard_session *s) { return s->split ? s->split->n : 0; }

sard_session *sd_split_session(const sard_session *s, int i) { return s->split->at[i].session; }

sd_split_report sd_split_report_of(const sard_session *s, int i) {
  const sd_device *d = &s->split->at[i];
  sd_split_report r = {.threads = sd_pool_threads(d->pool),
                       .runs = d->runs,
                       .memory_bytes =
                           (d->session->cu ? sd_cu_session_memory(d->session) : sd_session_memory(d->session)) +
                           sd_flow_bytes(s->split, i),
                       .bytes_in = d->bytes_in,
                       .bytes_out = d->bytes_out,
                       .exchanged = d->exchanged,
                       .busy_ns = d->session->cu ? d->session->cu->busy.ns : d->busy_ns};
  snprintf(r.device, sizeof r.device, "%s", d->name);
  return r;
}

void sd_split_forget(sard_session *s) {
  for (int i = 0; s->split && i < s->split->n; i++) {
    sd_device *d = &s->split->at[i];
    if (d->session->cu) d->session->cu->busy.ns = 0;
    d->busy_ns = 0, d->runs = d->bytes_in = d->bytes_out = d->exchanged = 0;
  }
  if (s->split) sd_flow_forget(s->split);
  for (int i = 0; s->split && s->split->groups && s->split->groups[0]->on_device && i < s->split->n; i++)
    sd_cu_group_forget(s->split->groups[i]);
}
