// Inside of a session: tables that are made once, sizes that follow the dims of the inputs, and the state of a run.
#pragma once
#include <stdatomic.h>

#include "runtime/host.h"
#include "runtime/late.h"
#include "runtime/model.h"
#include "runtime/plan.h"
#include "runtime/values.h"

// Measurements of one step, with option "profile".
typedef struct sd_step_time { int64_t ns; uint64_t runs; } sd_step_time;

struct sard_session {
  sard_model *model;
  sd_pool *pool; // its device's, or that of the context
  uint64_t memory_limit; // bytes, 0 = none
  bool profile;
  bool backward;         // every second pass of a loop takes its tiles backward
  bool sized;            // dims, offsets and step tables belong to `sym`
  atomic_int cancel;
  // sizes
  int64_t *sym, *new_sym; // per symbol: bound values, and those of the inputs at hand
  int64_t *dim;           // per slot
  uint64_t *offset;       // per buffer: in the arena
  sd_plan_item *items;    // room for the plan
  uint32_t *work;
  uint64_t arena_need, scratch_need; // bytes; scratch per worker
  // memory: arena_need bytes for buffers, then scratch of each worker
  uint8_t *memory;
  uint64_t memory_size;
  int workers;
  // per step, in the order of the step's lists
  void **step_buf;
  int64_t *step_dim;
  uint32_t *buf_at, *dim_at; // per step: where its part of these begins
  void **buf; // per buffer
  sd_host_kept *kept; // per step: what host functions keep
  sd_values values;
  void **taken; // per input: its strings or object as numbers, NULL for plain tensors
  sd_late late;
  // outputs of the run at hand that were made by it
  sard_tensor **made;
  sard_tensor **spare; // per output, NULL or a tensor that a new one is not needed beside; NULL: there are none
  uint64_t runs, plans;
  sd_step_time *times;
  struct sd_trace *trace; // NULL: none is recorded
  bool *stay;             // per output: where the session makes it, it lies on its GPU; NULL: on the host
  struct sd_group *group; // of devices that it exchanges tensors with; NULL: there is none
  struct sd_split *split; // over several devices, each with a session of its own; NULL: it runs by itself
  struct sd_cu_session *cu; // its part on a CUDA device, NULL: the processor runs everything
};

// Binds the inputs: checks them against the model, evaluates sizes and plans memory where dims are new.
sard_status *sd_bind_inputs(sard_session *s, sard_tensor *const *in, int n_in);
// Checks output i, or makes it (into s->made). One whose size the run decides is left to sd_bind_late_output, after it.
sard_status *sd_bind_output(sard_session *s, uint32_t i, sard_tensor *given);
sard_status *sd_bind_late_output(sard_session *s, uint32_t i, sard_tensor *given);
// What steps wrote as numbers becomes strings, sequences, optionals, maps; `failed`: the run did not come to its end.
sard_status *sd_bind_finish(sard_session *s, sard_tensor *const *given, bool failed);
// A session that runs on the threads of `pool` (NULL: those of the context), and on the device of `cu` (the model's
// code there; NULL: the processor runs everything), whatever devices the model has.
sard_status *sd_session_on(sard_model *m, const sard_options *options, sd_pool *pool, const struct sd_cu_program *cu,
                           sard_session **out);
// A run that does not take back a request to cancel it.
sard_status *sd_session_go(sard_session *s, sard_tensor *const *in, int n_in, sard_tensor **out, int n_out);
uint64_t sd_session_memory(const sard_session *s); // bytes that it holds
// Outputs given share no memory with inputs or with each other.
sard_status *sd_session_apart(const sard_session *s, sard_tensor *const *in, sard_tensor *const *out);
// Runs all steps; buffers are bound.
sard_status *sd_execute(sard_session *s);
