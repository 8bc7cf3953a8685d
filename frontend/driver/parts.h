// A module for several devices: what its nodes take, and its parts.
#pragma once
#include "frontend/driver/driver.h"
#include "ir/parts.h"
#include "passes/partition/layer.h"

// The passes behind which modules are cut. By nodes: groups are made, memory is not yet shared. By tensors:
// weights are known, and nothing is made for a machine.
#define SD_PARTS_AFTER   "fuse"
#define SD_TENSORS_AFTER "cse"

// Compares the ways to use the devices of o->devices for the module, on which the passes up to SD_PARTS_AFTER
// have run; report has them, in part in `kept`, and which one it is. Where that is a way in parts it makes
// them: the others passes are still to run on each. They live as long as m. SARD_E_UNSUPPORTED: split=auto,
// and no way is predicted to be faster than one device.
sard_status *sd_driver_split(sd_module *m, const sd_driver_options *o, sd_arena *kept,
                             sd_split_choice *report, sd_parts *out);

// The same without making them: layer.part_of is kept, in a.
sard_status *sd_driver_plan(sd_module *m, const sd_driver_options *o, sd_arena *a, sd_split_choice *out);

// Bytes of a value of `module`, with sizes that are not fixed taken for usual ones; 0 where nothing is known.
uint64_t sd_driver_value_bytes(void *module, const sd_value *v);

// The parts as text: what each gets from where, and its module.
sard_status *sd_driver_print_parts(const sd_parts *parts, sd_str *out);

// Seconds that each node of the main graph takes about on a device of speed 1, in their order, in `a`; with
// sizes that are not fixed taken for usual ones.
sard_status *sd_driver_seconds(sd_module *m, const sd_isa *isa, sd_arena *a, double **out);
