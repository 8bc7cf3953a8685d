// The part of a session that lies on a CUDA device: memory at the offsets of the same plan, and for each buffer where its
// contents are. A step runs on the device where the artifact has a launch for it, else on the host; buffers are copied when
// a step needs them elsewhere.
#pragma once
#include "runtime/cuda/program.h"
#include "runtime/session.h"

enum { SD_CU_HOST = 1, SD_CU_DEVICE = 2, SD_CU_STAGES = 2 };
#define SD_CU_MOST_SCRATCH (256ull << 20) // bytes: a launch whose blocks would need more has fewer blocks

// Launches of steps [first, end) of one plan, captured.
typedef struct sd_cu_graph {
  void *graph;         // NULL: not yet
  uint32_t end;
  uint64_t generation; // of the addresses that it has in it
  uint64_t seen;       // generation of the run before
  uint32_t *before, n_before; // buffers that it reads and does not write itself
  uint32_t *after, n_after;   // buffers that it writes
} sd_cu_graph;

// Rows of launches between two waits of the stream: how long the device was at work.
enum { SD_CU_BUSY_ROWS = 64 };
typedef struct sd_cu_busy {
  bool on, open;                  // it is asked for; a row is not at its end
  uint32_t rows;                  // whose times are not taken yet
  void *at[2 * SD_CU_BUSY_ROWS];  // events: begin and end of each
  int64_t ns;
} sd_cu_busy;

typedef struct sd_cu_session {
  const sd_cu_program *program;
  const sd_cu_device *device;
  void *stream;
  uint64_t memory, memory_bytes; // error words, arena, inputs, outputs, scratch
  uint64_t plan;                 // s->plans of the addresses at hand, 0: none
  uint64_t *at, *home;           // per buffer: address now; in `memory`
  uint8_t *valid;                // per buffer: SD_CU_HOST and SD_CU_DEVICE, what holds its contents; 0: it has none yet
  uint64_t *room;                // per late buffer: bytes at `at`
  bool *host_reads;              // per buffer: a step on the host uses it
  void **shadow;                 // per input or output on the device that a step on the host uses: memory here
  uint64_t *shadow_bytes;
  uint64_t scratch, scratch_bytes, late_scratch, late_scratch_bytes;
  uint64_t errors;               // 32-bit word for each step
  uint32_t *error_words;         // as read back
  uint8_t *stage[SD_CU_STAGES];  // pinned
  void *staged[SD_CU_STAGES];    // events: the copy from or to the stage is complete
  uint32_t next_stage;
  bool ahead;        // a run ends when all is queued; sd_cu_end waits, and tells errors of kernels
  bool running;      // the words of errors are those of runs that did not wait
  uint32_t exchange; // step that exchanges tensors, while it does
  uint64_t workspace, workspace_bytes; // of cuBLASLt; 0: it was not wanted yet
  bool capturing;
  bool *by_library; // per step: its last launch was cuBLASLt's
  // graphs
  sd_cu_graph *graphs;           // per step
  uint64_t generation, *bound;   // `bound`: per buffer of input or output: address of the run before
  uint64_t graph_launches;
  // profile and trace: events around the launch of each step; one whose time on the host is known
  void **begin, **end, *zero;
  int64_t zero_ns;
  uint8_t *timed;
  sd_cu_busy busy;
  uint64_t copied_in, copied_out, launches; // bytes between host and device, launches of the last run
  uint64_t library_launches;                // those of cuBLASLt among them
} sd_cu_session;

// ---- session.c ----
sard_status *sd_cu_session_new(sard_session *s, const sd_cu_program *program);
void sd_cu_session_free(sard_session *s);
sard_status *sd_cu_session_reset(sard_session *s); // gives device memory back
uint64_t sd_cu_session_memory(const sard_session *s); // bytes that it holds on the device
// Device memory for the sizes at hand; call it when they are planned.
sard_status *sd_cu_place(sard_session *s);
// Inputs; those that lie on the device are used there.
sard_status *sd_cu_bind_inputs(sard_session *s, sard_tensor *const *in);
// Input or output `buf` is a tensor on the device.
sard_status *sd_cu_bind(sard_session *s, uint32_t buf, const sard_tensor *t);
sard_status *sd_cu_begin(sard_session *s);
// Outputs to where they belong, errors of kernels. `st`: of the run so far; it is returned when it is not NULL.
sard_status *sd_cu_finish(sard_session *s, sard_status *st);
sard_status *sd_cu_end(sard_session *s); // waits for all runs; errors of their kernels
// As the driver's waits for a stream and for an event, but for as long only as all ranks of the session's group go on.
sard_status *sd_cu_wait(const sard_session *s);
sard_status *sd_cu_wait_event(const sard_session *s, void *event, const char *what);
// Records *event behind what is queued, which is made with these flags where it is NULL; the device is entered.
sard_status *sd_cu_record(const sard_session *s, void **event, unsigned flags);
// Between two events that have passed; false: it cannot be had, and is left out.
bool sd_cu_elapsed(const sard_session *s, void *from, void *to, int64_t *ns);

// ---- copy.c ----
sard_status *sd_cu_to_host(sard_session *s, uint32_t buf);   // unless its contents are there
sard_status *sd_cu_to_device(sard_session *s, uint32_t buf); // likewise; gives late buffers memory

// ---- launch.c ----
// Step i on the device, or everything that it reads made ready on the host (*done is false then).
sard_status *sd_cu_step(sard_session *s, uint32_t i, bool *done);
sard_status *sd_cu_launch(sard_session *s, uint32_t i); // operands are in place
// The step's kernel, without marks of time around it; *done: there was something to compute.
sard_status *sd_cu_launch_kernel(sard_session *s, uint32_t i, bool *done);
uint64_t sd_cu_room(const sard_session *s, uint32_t buf); // bytes that the buffer has on the device
void sd_cu_take_times(sard_session *s);                 // of launches that are complete
sard_status *sd_cu_zero(sard_session *s);               // from here on times can be told as the host's

// ---- busy.c ----
sard_status *sd_cu_busy_begin(const sard_session *s); // a launch follows
sard_status *sd_cu_busy_end(const sard_session *s);   // the stream waits
void sd_cu_busy_take(const sard_session *s);          // all that is queued is complete

// ---- graph.c ----
// Runs the steps from i on as a graph, as far as they can be; *next is i when they cannot.
sard_status *sd_cu_segment(sard_session *s, uint32_t i, uint32_t to, uint32_t *next);
void sd_cu_graphs_free(sard_session *s);
