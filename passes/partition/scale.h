// What a split of a model over a device set would take: time, memory and traffic, predicted.
//
// A kernel takes launch + max(operations / flops, bytes / bandwidth) of its share, a node in addition what it
// exchanges. tensor devices in a row share each node (passes/partition/work.h), `layer` such groups are a
// pipeline, whose cuts are those of passes/partition/layer.h, and `batch` such pipelines have a part of the
// batch each. With m pieces of its part a pipeline takes sum + (m-1) * slowest for a run, and max(sum, m *
// slowest) for each of many runs in a row that wait for the one before, piece by piece.
#pragma once
#include "passes/partition/work.h"

enum { SD_SCALE_PHASES = 2 };

typedef struct sd_scale_size {
  const char *name;
  int64_t value;
  bool batch; // what a batch split divides
} sd_scale_size;
typedef struct sd_scale_phase {
  const char *name;
  const sd_scale_size *sizes;
  uint32_t n_sizes;
  double times; // runs of it that make a whole
  bool again;   // these follow each other
} sd_scale_phase;

// What several predictions share: zeroed before the first.
typedef struct sd_scale_load {
  const sd_scale_size *sizes;
  int64_t parts;
  sd_work_load load;
} sd_scale_load;
typedef struct sd_scale_cache {
  SD_VEC(sd_scale_load) loads;
  SD_VEC(sd_work_split *) shares;
} sd_scale_cache;

typedef struct sd_scale_job {
  const sd_work *work;
  const sd_machine *machine;
  sd_scale_phase phases[SD_SCALE_PHASES];
  uint32_t n_phases;
  sd_scale_phase largest; // only sizes: those that room has to be for
  int64_t batch;          // of all; 1: it cannot be split
  sd_scale_cache cache;
} sd_scale_job;

typedef struct sd_scale_split {
  uint32_t tensor, layer, batch;
} sd_scale_split;
typedef struct sd_scale_time {
  double seconds; // of a run of all of the batch
  double compute, memory, launch,
      exchange;        // shares of it, on the way through the pipeline: what limits kernels, ...
  double wait;         // and the pipeline's bubble
  double flops, bytes; // of all devices together
  double sent;         // bytes that a device sends at most
  double efficiency;   // of one device's time, shared by all, against this
  uint32_t pieces;
} sd_scale_time;
typedef struct sd_scale_memory {
  double weights, cache, values; // bytes of the device that needs most
  uint64_t room;
  uint32_t stage;
} sd_scale_memory;
typedef struct sd_scale_plan {
  sd_scale_split split;
  uint32_t devices;
  sd_scale_time phases[SD_SCALE_PHASES];
  sd_scale_memory memory;
  double seconds; // all phases, as often as they are
  double whole;   // share of the operations that a tensor split leaves whole
  bool fits;
} sd_scale_plan;
typedef SD_VEC(sd_scale_plan) sd_scale_plans;

// One split. SARD_E_USAGE: it does not go with the devices, the nodes or the batch. It need not fit into the
// memory.
sard_status *sd_scale_predict(sd_scale_job *job, sd_scale_split split, sd_scale_plan *out);
// All splits over all devices and over divisors of their number, in the order of their predicted times, those
// that fit first. Splits that predict would refuse are left out, and tensor splits of models whose nodes all
// stay whole.
sard_status *sd_scale_search(sd_scale_job *job, sd_scale_plans *out);
// Fills in the efficiency of p, by the plan of one device.
void sd_scale_compare(sd_scale_plan *p, const sd_scale_plan *one, uint32_t n_phases);
