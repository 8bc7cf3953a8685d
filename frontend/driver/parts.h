// A module for several devices: what its nodes take, and its parts.
#pragma once
#include "frontend/driver/measure.h"
#include "ir/parts.h"
#include "passes/partition/layer.h"

// The passes behind which modules are cut. By nodes: groups are made, memory is not yet shared. By tensors:
// weights are known, and nothing is made for a machine.
#define SD_PARTS_AFTER   "fuse"
#define SD_TENSORS_AFTER "cse"
#define SD_PARTS_NEXT    "memory" // the passes that follow them
#define SD_TENSORS_NEXT  "attention"

typedef struct sd_split_job {
  sd_module *m; // behind SD_PARTS_AFTER
  const sd_driver_options *options;
  // Of split=tensor and auto: the parts that m was cut in behind SD_TENSORS_AFTER, the first of which is
  // behind SD_PARTS_AFTER, too, and what was said of them; else NULL.
  const sd_parts *tensors;
  const sd_tensor_report *tensor;
  const sd_measured *measured;
} sd_split_job;

// What the nodes of a loaded module take on this machine, in `a`, where they can be measured; sizes that are
// open are taken for those of the measurement from then on. SARD_E_UNSUPPORTED: they cannot, and the options
// want it.
sard_status *sd_driver_measure(sd_module *m, const sard_source *src, const sd_driver_options *o, sd_arena *a,
                               sd_measured *out);

// Compares the ways to use the devices of the options, and chooses one where they say auto; changes nothing.
// What *out points at is in `kept`. SARD_E_UNSUPPORTED: auto, and no way is predicted to be faster than one
// device; SARD_E_NOMEM: what was asked for does not fit into the memory of the devices.
sard_status *sd_driver_plan(const sd_split_job *job, sd_arena *kept, sd_split_choice *out);

// Runs the passes that a plan needs and makes it, for a loaded module; neither m nor the parts of a split by
// tensors in *tensors (n 0: not considered) are changed by the choice. All of it lives as long as m.
sard_status *sd_driver_plan_module(sd_module *m, const sard_source *src, const sd_driver_options *o,
                                   sd_driver_report *r, sd_arena *a, sd_parts *tensors);

// Bytes of a value of `module`, with sizes that are not fixed taken for usual ones; 0 where nothing is known.
uint64_t sd_driver_value_bytes(void *module, const sd_value *v);

// The parts as text: what each gets from where, and its module.
sard_status *sd_driver_print_parts(const sd_parts *parts, sd_str *out);

// Seconds that each node of the main graph takes about on one thread of a processor or, where isa is NULL, on a usual
// GPU, in their order, in `a`; with sizes that are not fixed taken for usual ones.
double *sd_driver_seconds(sd_module *m, const sd_isa *isa, sd_arena *a);
