// A session over several devices: each has a session of its own, with threads and activation memory. Over one
// model that all share, weights included, a run gives each a part of the batch and puts the results together;
// of a model in parts each has one, and what a part makes the parts behind it read.
#pragma once
#include "runtime/session.h"

// Settles m->devices, which the options have set: whether the model can be split so. SARD_E_UNSUPPORTED names
// what is in the way. A model in parts has devices cpu:0, cpu:1, ... where none are named.
sard_status *sd_split_place(sard_model *m);
// Fills s->split. An option "memory-limit" is shared evenly.
sard_status *sd_split_new(sard_session *s, const sard_options *options);
void sd_split_free(sard_session *s); // NULL split: nothing happens
void sd_split_cancel(sard_session *s, int on);
sard_status *sd_split_reset(sard_session *s);
// As sard_session_run, outputs that it makes included.
sard_status *sd_split_run(sard_session *s, sard_tensor *const *in, int n_in, sard_tensor **out, int n_out);

// For comparison: the whole batch on the first device alone, or through the parts one after the other.
sard_status *sd_split_alone(sard_session *s, sard_tensor *const *in, int n_in, sard_tensor **out, int n_out);

// Of a model in parts: whether only runs of their own can be at work at a time, as the batch cannot be cut;
// so many runs with the same inputs one behind the other, the last of which gives the outputs.
bool sd_split_overlaps(const sard_session *s);
sard_status *sd_split_repeat(sard_session *s, sard_tensor *const *in, int n_in, sard_tensor **out, int n_out,
                             int times);

// What each device did since the session began.
typedef struct sd_split_report {
  char device[16];
  int threads;
  // memory: of activations; in, out: of inputs and outputs of its part, and what it read from other ranks,
  // which is exchanged alone
  uint64_t runs, memory_bytes, bytes_in, bytes_out, exchanged;
  int64_t busy_ns;
} sd_split_report;
// What crosses between the devices goes through: "shared memory" of processors, "pinned memory" of the host,
// "peer-to-peer", NCCL. *why (NULL ok): why not by NCCL, where that is asked; NULL.
const char *sd_split_transport(const sard_session *s, const char **why);
uint64_t sd_split_peer_bytes(const sard_session *s); // from the memory of one GPU to another's
int sd_split_devices(const sard_session *s); // 0: the session is not split
sd_split_report sd_split_report_of(const sard_session *s, int i);
sard_session *sd_split_session(const sard_session *s, int i); // of device i
void sd_split_forget(sard_session *s);                        // counts begin anew
