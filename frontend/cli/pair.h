// Two models of a judge side by side: a as it was, b as a verb changed it. What quantize and prune share.
#pragma once
#include "frontend/cli/judge.h"

typedef struct sd_pair_step {
  const char *name, *op;
  double ms_before, ms_after;         // 0 where only the other model has it
  uint64_t bytes_before, bytes_after; // of the constants that they read, in memory
  const char *schedule;               // how b computes: of the one that reads most constants
  uint64_t most;                      // bytes of those
} sd_pair_step;                       // steps of a name
typedef struct sd_pair_steps {
  sd_pair_step *at;
  uint32_t n;
} sd_pair_steps; // most lost first

// Runs both in turn on one batch; the least of several rounds.
sard_status *sd_pair_time(sd_judge *j, double *ms_before, double *ms_after);
// Times of both models' steps, by name.
sard_status *sd_pair_profile(sd_judge *j, sd_pair_steps *out);
// Signal to noise of b's judged output against that of a, in decibels, over the first samples.
sard_status *sd_pair_snr(sd_judge *j, double *out);
// What their metrics are: a line for people, members of the JSON result. `max_drop`: NaN = none.
// `calibrated`: samples were used that are judged, too.
void sd_pair_say(sd_judge *j, double max_drop, bool calibrated);
void sd_pair_json(sd_judge *j, double max_drop);
