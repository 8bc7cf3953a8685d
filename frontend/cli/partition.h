// What the files of sard partition share.
#pragma once
#include "frontend/cli/tools.h"
#include "frontend/driver/parts.h"
#include "frontend/driver/simulate.h"

typedef struct sd_simulation {
  sd_cli *c;
  sd_machine machine;
  bool is_decoder;
  sd_decoder decoder; // where it is one
  sd_module *module;
  sd_work work;
  sd_scale_job job;
  sd_scale_plans plans; // best first
  sd_scale_plan one;    // one device, as if it had room
} sd_simulation;

sard_status *sd_partition_simulate(sd_cli *c);      // partition_simulate.c
sard_status *sd_partition_report(sd_simulation *k); // partition_report.c: as text and JSON

// A model in parts for devices that are here.
typedef struct sd_partition {
  sd_cli *c;
  sd_driver_options o;
  sd_module *module; // groups are made
  sd_costs costs;
  sd_driver_report report;
  sd_parts tensors; // of split tensor: the first is behind the passes that make groups
} sd_partition;
void sd_partition_draw(const sd_partition *k, sd_str *out); // partition_svg.c: of split layer

const char *sd_partition_split_text(sd_arena *a, sd_scale_split s); // "tensor:4,layer:2"
