// Where the threads of a group meet: each shows what it is about to exchange, and goes on when all are there.
#pragma once
#include "runtime/base/thread.h"
#include "runtime/collective/group.h"

typedef struct sd_meeting {
  pthread_mutex_t lock;
  pthread_cond_t all_here;
  int ranks, here;
  uint64_t number; // of meetings that have ended
  int failed;      // rank + 1; under the lock
  sd_collective shown[];
} sd_meeting;

sd_meeting *sd_meeting_new(int ranks); // NULL: no memory
void sd_meeting_free(sd_meeting *m);   // NULL ok
void sd_meeting_reset(sd_meeting *m);  // after a failure, when no rank is in a call
// Returns when all ranks are here. SARD_E_CANCELLED: one of them has failed.
sard_status *sd_meeting_meet(sd_meeting *m);
// The same, behind showing an exchange; all ranks find the same error where they are not at the same one.
sard_status *sd_meeting_show(sd_meeting *m, int rank, const sd_collective *c);
void sd_meeting_fail(sd_meeting *m, int rank); // the rank will not come any more
sard_status *sd_meeting_failed(sd_meeting *m); // SARD_E_CANCELLED where one has failed, else NULL
