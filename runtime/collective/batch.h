// Inside of split sessions: devices, and the parts of a batch that they are given.
#pragma once
#include "runtime/session.h"

typedef struct sd_device {
  struct sd_split *all;
  char name[16];
  sd_pool *pool;
  sard_session *session;
  pthread_t thread; // not of the first one: that is the caller's
  bool started, asked;
  // The run at hand: tensors of its part, those that are cut being views of the caller's memory where that is
  // possible.
  int64_t begin, count; // of the batch
  sard_tensor **in, **out;
  sard_tensor *views; // per input, then per output
  sard_status *st;
  // since the session began
  uint64_t runs, bytes_in, bytes_out;
  int64_t busy_ns;
} sd_device;

struct sd_split {
  int n;
  pthread_mutex_t lock;
  pthread_cond_t go, done;
  int pending;
  bool stop;
  sd_device at[];
};

// Runs what the first n devices were given, and returns when all are done. One that fails cancels the others.
void sd_split_work(struct sd_split *s, int n);
