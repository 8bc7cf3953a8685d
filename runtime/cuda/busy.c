// How long a device works on what a session queues, by events around rows of launches: a row ends where the stream
// waits, for another device or for the host.
#include "runtime/cuda/session.h"

void sd_cu_busy_take(const sard_session *s) {
  sd_cu_busy *b = &s->cu->busy;
  int64_t ns;
  for (uint32_t i = 0; i < b->rows; i++)
    if (sd_cu_elapsed(s, b->at[2 * i], b->at[2 * i + 1], &ns)) b->ns += ns;
  b->rows = 0;
}

sard_status *sd_cu_busy_begin(const sard_session *s) {
  sd_cu_busy *b = &s->cu->busy;
  if (!b->on || b->open) return NULL;
  if (b->rows == SD_CU_BUSY_ROWS) {
    SD_TRY(sd_cu_wait_event(s, b->at[2 * b->rows - 1], "waiting for a kernel"));
    sd_cu_busy_take(s);
  }
  SD_TRY(sd_cu_record(s, &b->at[2 * b->rows], 0));
  b->open = true;
  return NULL;
}

sard_status *sd_cu_busy_end(const sard_session *s) {
  sd_cu_busy *b = &s->cu->busy;
  if (!b->open) return NULL;
  b->open = false; // also where the mark fails: the run does, too
  SD_TRY(sd_cu_record(s, &b->at[2 * b->rows + 1], 0));
  b->rows++;
  return NULL;
}
