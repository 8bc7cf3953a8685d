#include "codegen/crew.h"

#include <pthread.h>
#include <stdatomic.h>

typedef struct crew {
  uint32_t n;
  sard_status *(*job)(void *user, uint32_t i);
  void *user;
  sard_status **errors;
  atomic_uint next;
  atomic_bool failed;
} crew;

static void *crew_main(void *arg) {
  crew *c = arg;
  for (;;) {
    uint32_t i = atomic_fetch_add(&c->next, 1);
    if (i >= c->n || atomic_load(&c->failed)) return NULL;
    c->errors[i] = c->job(c->user, i);
    if (c->errors[i]) atomic_store(&c->failed, true);
  }
}

static void work(crew *c, int threads, size_t stack) {
  pthread_t ids[SD_CREW_MOST];
  pthread_attr_t attr;
  int started = 0;
  if (threads > SD_CREW_MOST) threads = SD_CREW_MOST;
  pthread_attr_init(&attr);
  if (stack) pthread_attr_setstacksize(&attr, stack);
  for (int i = 0; i < threads && i < (int)c->n; i++)
    if (pthread_create(&ids[started], &attr, crew_main, c) == 0) started++;
  pthread_attr_destroy(&attr);
  if (started == 0) crew_main(c);
  for (int i = 0; i < started; i++) pthread_join(ids[i], NULL);
}

sard_status *sd_crew_run(uint32_t n, int threads, size_t stack, sard_status *(*job)(void *user, uint32_t i), void *user,
                         sard_status **errors, uint32_t *which) {
  crew c = {.n = n, .job = job, .user = user, .errors = errors};
  sard_status *first = NULL;
  work(&c, threads, stack);
  for (uint32_t i = 0; i < n; i++) {
    if (first || !errors[i]) sard_status_free(errors[i]);
    else {
      first = errors[i];
      if (which) *which = i;
    }
    errors[i] = NULL;
  }
  return first;
}
