// Inside of split sessions: devices, their threads, and how runs are handed to them.
#pragma once
#include "runtime/collective/batch.h"

typedef struct sd_device {
  struct sd_split *all;
  int index;
  char name[SD_PLACE_TEXT];
  sd_pool *pool;
  sard_session *session; // over the model, or over this device's part of it
  pthread_t thread;      // not of the first one: that is the caller's
  bool started, asked;
  sd_share share;          // of the batch, where each device has one
  sard_tensor **in, **out; // of its part of the model
  sard_status *st;
  // since the session began
  uint64_t runs, bytes_in, bytes_out, exchanged; // exchanged: of bytes_in, from other ranks
  int64_t busy_ns;
} sd_device;

struct sd_split {
  int n, micro; // micro: option "micro-batches", 0 where it is not given
  pthread_mutex_t lock;
  pthread_cond_t go, done;
  int pending;
  bool stop;
  void (*work)(sd_device *d);
  struct sd_flow *flow; // of a model in parts
  struct sd_group **groups; // per device, where they exchange tensors; else NULL
  sd_device at[];
};

// Each of the first n devices does `work`; returns when all have.
void sd_split_work(struct sd_split *s, int n, void (*work)(sd_device *d));
// Runs the device's session. One that fails cancels the others.
void sd_device_run(sd_device *d, sard_tensor *const *in, sard_tensor **out);
// d->st is set: lets those go that wait for the device, and cancels the others.
void sd_device_failed(sd_device *d);
// The most telling error of the first n devices, and forgets all: one that is not the cancelling of the
// others.
sard_status *sd_split_error(struct sd_split *s, int n);

// ---- run_batch.c: each device has a part of the batch ----
sard_status *sd_run_batch(sard_session *s, sard_tensor *const *in, int n_in, sard_tensor **out, int n_out);

// ---- run_parts.c: each device has a part of the model ----
sard_status *sd_flow_new(sard_session *s);               // fills s->split->flow
void sd_flow_free(struct sd_split *s);                   // before the sessions of the devices
void sd_flow_drop(struct sd_split *s);                   // what parts keep for others, from run to run
uint64_t sd_flow_bytes(const struct sd_split *s, int p); // of these
// times: 0, or the batch is not cut and goes through so many times, one run behind the other.
// Tensors that one GPU takes from another's memory: whether there are some, whether there are no others.
bool sd_flow_stays(const struct sd_split *s, bool all);
uint64_t sd_flow_peer_bytes(const struct sd_split *s); // of these
void sd_flow_forget(struct sd_split *s);               // that count begins anew
bool sd_flow_cuts(const struct sd_split *s); // the batch can be
sard_status *sd_run_parts(sard_session *s, sard_tensor *const *in, int n_in, sard_tensor **out, int n_out,
                          int times);
