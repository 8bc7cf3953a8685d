// What a session did when: slices of time of steps, and of the threads that worked on them.
#pragma once
#include "runtime/session.h"

typedef struct sd_trace_slice {
  uint32_t step, tiles;
  int64_t begin, end; // ns of sd_now_ns
} sd_trace_slice;
typedef struct sd_trace_row {
  sd_trace_slice *at;
  size_t n, cap;
  uint64_t lost; // slices for which memory was short
} sd_trace_row;
// Row 0: the steps on the host; row 1 + w: worker w, what it did of one step being one slice; the last row: the
// launches on the session's GPU.
struct sd_trace {
  int workers;
  sd_trace_row row[];
};

// Runs of `s` from here on are recorded, until sd_trace_free; of a split session those of each device. Costs two looks at the clock for each range of tiles.
sard_status *sd_trace_start(sard_session *s);
void sd_trace_free(sard_session *s); // nothing happens where there is none
void sd_trace_step(struct sd_trace *t, uint32_t step, int64_t begin, int64_t end);
void sd_trace_launch(struct sd_trace *t, uint32_t step, int64_t begin, int64_t end);
void sd_trace_work(struct sd_trace *t, int worker, uint32_t step, uint32_t tiles, int64_t begin, int64_t end);
