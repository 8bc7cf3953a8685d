// Devices of a split session: their sessions, pools and threads, and how a run is handed to them.
#include "runtime/collective/split.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/base/thread.h"
#include "runtime/collective/batch.h"

static sard_status *cannot(const char *what, const char *why) {
  return sd_status_field(SD_ERR(UNSUPPORTED, "the model cannot be split by its batch: %s%s", what, why),
                         SARD_TEXT_HINT, "%s",
                         "sizes that --dim fixes are not open any more; give them by the inputs (--shape)");
}

sard_status *sd_split_check(const sard_model *m) {
  const sd_art *a = &m->art;
  if (!m->devices.n) return NULL;
  if (!a->batch)
    return cannot("the artifact does not tell how a batch goes through it", "; compile the model again");
  if (a->batch[0]) return cannot(sd_art_text(a, a->batch[0]), "");
  for (uint32_t i = 0; i < a->n_io; i++) {
    if (a->batch[1 + i] == SARD_ART_NONE) continue;
    const char *name = sd_art_text(a, a->io[i].name);
    if (a->io[i].kind || sd_dtype_bits((sd_dtype)a->io[i].dtype) < 8)
      return cannot(name, " has elements below a byte, or is no tensor");
    if (i >= a->n_in && a->io[i].dtype == SARD_STRING) return cannot(name, " is an output of strings");
  }
  return NULL;
}

// ---- threads of devices ----

static void work(sd_device *d) {
  int64_t t0 = sd_now_ns();
  d->st = sd_session_go(d->session, d->in, (int)d->session->model->art.n_in, d->out,
                        (int)d->session->model->art.n_out);
  d->busy_ns += sd_now_ns() - t0;
  for (int i = 0; d->st && i < d->all->n; i++)
    if (&d->all->at[i] != d) sard_session_cancel(d->all->at[i].session);
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
    work(d);
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

void sd_split_work(struct sd_split *s, int n) {
  pthread_mutex_lock(&s->lock);
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

static sard_status *open_device(sard_session *s, sd_device *d, int number, const sard_options *options) {
  const sd_art *a = &s->model->art;
  snprintf(d->name, sizeof d->name, "cpu:%d", number);
  d->all = s->split;
  d->pool = sd_pool_new(threads_of(s->model));
  d->views = sd_calloc(a->n_io, sizeof *d->views);
  d->in = sd_calloc(a->n_in, sizeof *d->in);
  d->out = sd_calloc(a->n_out, sizeof *d->out);
  if (!d->pool || !d->views || !d->in || !d->out)
    return SD_ERR(NOMEM, "out of memory for device %s", d->name);
  SD_TRY(sd_session_on(s->model, options, d->pool, &d->session));
  d->session->memory_limit /= (uint64_t)s->model->devices.n;
  return d == s->split->at ? NULL : start_thread(d);
}

sard_status *sd_split_new(sard_session *s, const sard_options *options) {
  const sd_devices *list = &s->model->devices;
  s->split = sd_calloc(1, sizeof *s->split + (size_t)list->n * sizeof *s->split->at);
  if (!s->split) return SD_ERR(NOMEM, "out of memory for %d devices", list->n);
  pthread_mutex_init(&s->split->lock, NULL);
  pthread_cond_init(&s->split->go, NULL);
  pthread_cond_init(&s->split->done, NULL);
  s->split->n = list->n;
  for (int i = 0; i < list->n; i++) SD_TRY(open_device(s, &s->split->at[i], list->cpu[i], options));
  return NULL;
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
    sard_session_free(d->session);
    sd_pool_free(d->pool);
    sd_free(d->views), sd_free(d->in), sd_free(d->out);
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
  for (int i = 0; s->split && i < s->split->n; i++) SD_TRY(sard_session_reset(s->split->at[i].session));
  return NULL;
}

sard_status *sd_split_alone(sard_session *s, sard_tensor *const *in, int n_in, sard_tensor **out, int n_out) {
  sd_split_cancel(s, 0);
  return sd_session_go(s->split->at[0].session, in, n_in, out, n_out);
}

// ---- what they did ----

int sd_split_devices(const sard_session *s) { return s->split ? s->split->n : 0; }

sd_split_report sd_split_report_of(const sard_session *s, int i) {
  const sd_device *d = &s->split->at[i];
  sd_split_report r = {.threads = sd_pool_threads(d->pool),
                       .runs = d->runs,
                       .memory_bytes = sd_session_memory(d->session),
                       .bytes_in = d->bytes_in,
                       .bytes_out = d->bytes_out,
                       .busy_ns = d->busy_ns};
  snprintf(r.device, sizeof r.device, "%s", d->name);
  return r;
}

void sd_split_forget(sard_session *s) {
  for (int i = 0; s->split && i < s->split->n; i++) {
    sd_device *d = &s->split->at[i];
    d->busy_ns = 0, d->runs = d->bytes_in = d->bytes_out = 0;
  }
}
