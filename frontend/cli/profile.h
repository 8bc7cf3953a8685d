// What sard bench --profile knows about kernels, for its table, JSON and page.
#pragma once
#include "frontend/cli/cli.h"
#include "runtime/session.h"

typedef struct sd_profile_row {
  const char *kernel, *op, *name, *shapes,
      *schedule;           // of the first step; kernel: its function, or what else the step does
  double ns, flops, bytes; // of a run of the model, over all its steps
  uint32_t steps;
} sd_profile_row;

typedef struct sd_profile {
  const char *model, *place; // its file; instruction set or device
  const char *name;          // of the device, where several share the work; else NULL
  double busy;               // share of the time in which it was, of several
  int threads;
  bool device;
  double run_ms, ns;    // mean of a run; sum of the rows
  sd_peak peak;         // of so many threads; 0: not measured
  sd_profile_row *rows; // the longest first
  uint32_t n;
} sd_profile;

double sd_profile_gflops(const sd_profile_row *r);
double sd_profile_gbs(const sd_profile_row *r);
// Share of the limit that is nearer: multiply-adds, or reading memory.
double sd_profile_roof(const sd_profile *p, const sd_profile_row *r, bool *by_memory);

// After `runs` measured runs of `run_ms` each: the table and members of the JSON object. *out has a name already.
sard_status *sd_profile_show(sd_cli *c, const sard_session *s, const sd_cli_model *m, uint64_t runs, double run_ms,
                             sd_profile *out);
sard_status *sd_roofline_write(const sd_profile *p, int n, const char *path); // roofline.c: --html, of n devices
