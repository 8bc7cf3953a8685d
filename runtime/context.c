// A context: thread pool, options and the compiler, shared by its models through reference counts.
#include <stdio.h>
#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/cuda/device.h"
#include "runtime/model.h"

sard_status *sard_context_new(const sard_options *options, sard_context **out) {
  if (!out) return SD_ERR(USAGE, "sard_context_new: out must not be NULL");
  *out = NULL;
  int64_t threads;
  SD_TRY(sd_options_check(options, SD_OPT_CONTEXT));
  SD_TRY(sd_options_int(options, "threads", 0, 1024, 0, &threads));
  const char *isa = sd_options_get(options, "isa");
  sard_context *c = sd_calloc(1, sizeof *c);
  if (c) c->pool = sd_pool_new((int)threads);
  if (!c || !c->pool) {
    sd_free(c);
    return SD_ERR(NOMEM, "out of memory while making a context");
  }
  atomic_init(&c->refs, 1);
  pthread_mutex_init(&c->lock, NULL);
  c->threads = (int)threads;
  snprintf(c->isa, sizeof c->isa, "%s", isa && *isa ? isa : "auto");
  *out = c;
  return NULL;
}

void sd_context_hold(sard_context *c) { atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed); }

void sard_context_free(sard_context *c) {
  if (!c || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) > 1) return;
  for (int i = 0; i < SD_CU_DEVICES; i++) sd_cu_device_close(c->cuda[i]);
  pthread_mutex_destroy(&c->lock);
  sd_pool_free(c->pool);
  sd_free(c);
}

void sd_context_set_compiler(sard_context *c, sd_compile_fn fn) { atomic_store(&c->compiler, fn); }
const char *sd_context_isa(const sard_context *c) { return c->isa; }
int sd_context_threads(const sard_context *c) { return sd_pool_threads(c->pool); }

sard_status *sd_context_cuda(sard_context *c, int ordinal, const sd_cu_device **out) {
  *out = NULL;
  if (ordinal < 0 || ordinal >= SD_CU_DEVICES) return SD_ERR(DEVICE, "there is no device cuda:%d", ordinal);
  pthread_mutex_lock(&c->lock);
  sard_status *st = c->cuda[ordinal] ? NULL : sd_cu_device_open(ordinal, &c->cuda[ordinal]);
  *out = c->cuda[ordinal];
  pthread_mutex_unlock(&c->lock);
  return st;
}
