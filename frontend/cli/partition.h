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
  const sd_module *shown; // of split tensor that of the first rank, else the module
  sd_costs costs;         // of its nodes
  sd_driver_report report;
  sd_parts tensors; // of split tensor: the first is behind the passes that make groups
} sd_partition;

// Pictures: a column for each device, boxes of nodes from top to bottom.
enum {
  SD_SVG_MOST = 24,
  SD_SVG_WIDE = 220,
  SD_SVG_GAP = 110,
  SD_SVG_TALL = 40,
  SD_SVG_ROW = 56,
  SD_SVG_HEAD = 110
};
typedef struct sd_svg_box {
  uint32_t first, n; // nodes
  int column;
  double x, y, flops;
} sd_svg_box;
// Left edge of a device's column.
static inline double sd_svg_column(int device) { return 40 + device * (double)(SD_SVG_WIDE + SD_SVG_GAP); }
void sd_partition_draw(const sd_partition *k, sd_str *out); // partition_svg.c: devices with different nodes
void sd_partition_draw_whole(const sd_partition *k,
                             sd_str *out); // partition_svg_whole.c: all have the whole graph
void sd_partition_svg_begin(const sd_partition *k, double width, double height, sd_str *out);
void sd_partition_svg_box(const sd_partition *k, sd_str *out, const sd_svg_box *b);

const char *sd_partition_split_text(sd_arena *a, sd_scale_split s); // "tensor:4,layer:2"
