// Symbols that get their values during a run (loop counters, sizes that depend on data), and the buffers whose size
// follows from them.
#pragma once
#include "runtime/artifact_read.h"

typedef struct sard_session sard_session;

// A block of memory of a late buffer; `used`: bytes that APPEND steps have filled, `spare`: bits of the last one that are free.
// `lent`: it is the memory of an output tensor that the caller gave.
typedef struct sd_block { void *p; uint64_t size, used; unsigned spare; bool lent; } sd_block;

typedef struct sd_late {
  uint8_t *slot;         // per slot: late
  uint8_t *step;         // per step: uses late slots, its sizes and buffers are looked up each time it runs
  uint8_t *known;        // per slot: has a value in the run at hand
  uint8_t *given;        // per symbol: has a value in the run at hand
  uint32_t *giver;       // per symbol: the DEFINE or HOST step that gives its value, SARD_ART_NONE for others
  uint32_t *slot_first, *slots;   // slots that depend on symbol i: slots[slot_first[i] .. slot_first[i + 1])
  uint32_t *check_first, *checks; // the same for checks
  uint32_t *bufs, n_bufs;         // late buffers
  sd_block *block;       // per buffer: what it has now
  sard_tensor **target;  // per buffer: the tensor that the caller gave for it in the run at hand, or NULL
  sd_block *free;        // blocks that wait for a buffer
  uint32_t n_free;
  uint64_t bytes;        // of all blocks
  void *scratch;         // of steps that need more than the others
  uint64_t scratch_size, scratch_stride;
} sd_late;

// The tables; everything is empty where no symbol is late.
sard_status *sd_late_init(sard_session *s);
void sd_late_free(sard_session *s);
// Gives all memory of late buffers back.
void sd_late_reset(sard_session *s);
// Starts a run: no late symbol has a value, no late buffer has memory.
void sd_late_begin(sard_session *s);
// Gives a symbol its value: checks its range, computes the sizes that follow and what is required of them.
sard_status *sd_late_set(sard_session *s, uint32_t symbol, int64_t value);
// Takes the values of the symbols that steps [from, to) give away: a pass of a loop does not see those of the one before.
void sd_late_forget_steps(sard_session *s, uint32_t from, uint32_t to);
// Takes the value of a symbol, and of what follows from it, away.
void sd_late_forget(sard_session *s, uint32_t symbol);
// The value of a slot; SARD_E_MODEL when it has none yet.
sard_status *sd_late_value(const sard_session *s, uint32_t slot, int64_t *out);
// Bytes that a buffer has memory for on the host.
uint64_t sd_late_room(const sard_session *s, uint32_t buf);
// Memory for a late buffer at its present size (what it holds is lost when it has to move): that of its target where it fits.
sard_status *sd_late_place(sard_session *s, uint32_t buf);
// Memory for `size` bytes; what the buffer holds is kept.
sard_status *sd_late_grow(sard_session *s, uint32_t buf, uint64_t size);
// After steps [from, to]: takes back the memory of buffers that end there and began at step `scope` or later.
void sd_late_release(sard_session *s, uint32_t scope, uint32_t from, uint32_t to);
// Objects may take what is left of the memory-limit now.
void sd_late_limit_objects(sard_session *s);
// Scratch of at least `stride` bytes for each worker.
sard_status *sd_late_scratch(sard_session *s, uint64_t stride);
