#include "runtime/collective/meeting.h"

#include "runtime/base/alloc.h"

sd_meeting *sd_meeting_new(int ranks) {
  sd_meeting *m = sd_calloc(1, sizeof *m + (size_t)ranks * sizeof *m->shown);
  if (!m) return NULL;
  m->ranks = ranks;
  pthread_mutex_init(&m->lock, NULL);
  pthread_cond_init(&m->all_here, NULL);
  return m;
}

void sd_meeting_free(sd_meeting *m) {
  if (!m) return;
  pthread_cond_destroy(&m->all_here);
  pthread_mutex_destroy(&m->lock);
  sd_free(m);
}

void sd_meeting_reset(sd_meeting *m) { m->here = 0, m->failed = 0; }

static sard_status *broken(const sd_meeting *m) {
  return SD_ERR(CANCELLED, "device %d of %d has failed", m->failed, m->ranks);
}

// Who comes last lets the others go.
sard_status *sd_meeting_meet(sd_meeting *m) {
  sard_status *st = NULL;
  pthread_mutex_lock(&m->lock);
  uint64_t number = m->number;
  if (!m->failed && ++m->here == m->ranks) {
    m->here = 0, m->number++;
    pthread_cond_broadcast(&m->all_here);
  }
  while (!m->failed && m->number == number) pthread_cond_wait(&m->all_here, &m->lock);
  if (m->number == number) st = broken(m); // a meeting that all came to counts, whatever happened since
  pthread_mutex_unlock(&m->lock);
  return st;
}

sard_status *sd_meeting_failed(sd_meeting *m) {
  pthread_mutex_lock(&m->lock);
  sard_status *st = m->failed ? broken(m) : NULL;
  pthread_mutex_unlock(&m->lock);
  return st;
}

void sd_meeting_fail(sd_meeting *m, int rank) {
  pthread_mutex_lock(&m->lock);
  if (!m->failed) m->failed = rank + 1;
  pthread_cond_broadcast(&m->all_here);
  pthread_mutex_unlock(&m->lock);
}

static sard_status *check_same(const sd_meeting *m) {
  const sd_collective *a = &m->shown[0];
  for (int r = 1; r < m->ranks; r++) {
    const sd_collective *b = &m->shown[r];
    if (a->kind != b->kind || a->tag != b->tag || a->dtype != b->dtype || a->rows != b->rows || a->size != b->size ||
        a->inner != b->inner || a->unit != b->unit)
      return SD_ERR(MODEL, "device 1 is at exchange %lld of %llu elements, device %d at %lld of %llu",
                    (long long)a->tag, (unsigned long long)(a->rows * a->size * a->inner), r + 1, (long long)b->tag,
                    (unsigned long long)(b->rows * b->size * b->inner));
  }
  return NULL;
}

sard_status *sd_meeting_show(sd_meeting *m, int rank, const sd_collective *c) {
  m->shown[rank] = *c;
  SD_TRY(sd_meeting_meet(m));
  return check_same(m);
}
