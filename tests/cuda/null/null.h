// A CUDA driver without a GPU, for the tests of the device layer: serves every entry of runtime/cuda/api.def, runs
// kernels in the execution model of tests/cuda, and looks whether its caller keeps CUDA's rules.
//
// Work is queued and done when the host waits for it (SARD_NULL_MODE=deferred), in a random order of the streams, so
// that a wait that is missing gives wrong numbers; `eager` does it at once, `mixed` now or later. Device memory can be
// touched by no host code while no work is being done; it begins as NaNs, and its addresses are never used twice.
//
// A broken rule is a finding: printed to stderr, and the process that has one ends with code 88.
//
// Environment, read when the library is loaded and by null_ask("reset"):
//   SARD_NULL_DEVICES=1  SARD_NULL_CC=90  SARD_NULL_MEMORY=bytes of each device  SARD_NULL_VERSION=13000
//   SARD_NULL_MODE=deferred|eager|mixed  SARD_NULL_SEED=1
//   SARD_NULL_PEER=1                   devices have access to each other; 0: none
//   SARD_NULL_FAIL=cuMemAlloc:3:2,...  the third call gives error 2; a sticky one stays until the process ends
//   SARD_NULL_FAULT=5:719              the fifth launch that is done fails then; what the caller does next tells it
//   SARD_NULL_MISSING=name             an entry that the driver does not know
//   SARD_NULL_TRACE=file               a line for each call: number, thread, stream, name, arguments, result
//   SARD_NULL_COUNTS=file              at the end: how often each entry was called, launches that were done
//   SARD_NULL_CACHE=folder             of compiled programs
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NULL_CUBIN                                                                                                     \
  "//sard-null cubin " // first line of an image: that, architecture and toolkit ("90 13000"); then CUDA C
#define NULL_PTX "//sard-null ptx "

enum null_result { // numbers of cuda.h
  OK = 0,
  INVALID_VALUE = 1,
  OUT_OF_MEMORY = 2,
  NOT_INITIALIZED = 3,
  NO_DEVICE = 100,
  INVALID_DEVICE = 101,
  INVALID_IMAGE = 200,
  INVALID_CONTEXT = 201,
  NO_BINARY = 209,
  INVALID_PTX = 218,
  UNSUPPORTED_PTX = 222,
  INVALID_HANDLE = 400,
  NOT_FOUND = 500,
  NOT_READY = 600,
  ILLEGAL_ADDRESS = 700,
  LAUNCH_FAILED = 719,
  CAPTURE_UNSUPPORTED = 900,
  CAPTURE_INVALIDATED = 901,
  CAPTURE_UNMATCHED = 903,
  CAPTURE_WRONG_THREAD = 908
};

// ---- driver.c: entries, settings, findings ----
#include "runtime/cuda/rows.h"
#define SD_CU(field, name, version, arguments) int null_##field arguments;
#include "runtime/cuda/api.def"
#undef SD_CU
typedef enum null_entry {
#define SD_CU(field, name, version, arguments) N_##field,
#include "runtime/cuda/api.def"
#undef SD_CU
  N_ENTRIES
} null_entry;

enum { MAX_DEVICES = 8 };
enum null_mode { DEFERRED, EAGER, MIXED };
typedef struct null_settings {
  int devices, cc, version, peer;
  enum null_mode mode;
  uint64_t memory;
  long fault_at;
  int fault_code;
} null_settings;
extern null_settings null_set;

// What an entry needs of its caller.
enum { ANY = 0, STARTED = 1, IN_CONTEXT = 2, NOT_IN_CAPTURE = 4 };
// Takes the lock, counts, and gives the result of the call when it fails before it does anything. Then null_leave.
__attribute__((format(printf, 4, 5))) int null_enter(null_entry e, unsigned needs, const void *stream, const char *fmt,
                                                     ...);
int null_leave(int result); // returns it
void null_lock(bool on);    // of all calls, for those that are none of the driver's
void null_pause(void);      // other threads have a turn in the midst of a call
__attribute__((format(printf, 1, 2))) void null_finding(const char *fmt, ...);
int null_device(void);       // of the thread's context, -1: none
int *null_error(int device); // error of the device that stays, 0: none
bool null_sticky(int code);
unsigned null_random(unsigned n); // 0..n-1
int null_context_device(const void *context); // -1 and a finding: it is none, or released

// Handles: objects are kept to the end, so that the use of a destroyed one is found.
typedef enum null_kind { STREAM = 1, EVENT, MODULE, FUNCTION, GRAPH, EXEC } null_kind;
typedef struct null_object {
  null_kind kind;
  int device;
  unsigned number;
  bool dead;
  struct null_object *next;
} null_object;
void *null_object_new(null_kind kind, size_t size);
void *null_object_find(const void *handle, null_kind kind); // NULL and a finding when it is no such one, or dead
const char *null_kind_name(null_kind kind);
void null_object_drop(null_object *o);
int null_objects_live(int device, bool tell); // also memory; tell: findings

// For a test in the same process: "reset" (settings and counts anew, errors forgotten), "findings" (their number, which
// is forgotten), "live" (objects and allocations), "launches" (done since the reset), or a name: calls of that entry.
long null_ask(const char *what);

// ---- memory.c ----
typedef struct null_access { // who touched it last
  uint32_t writer, reader;
} null_access;
typedef struct null_range {
  uint64_t at, bytes;
  int device;
  bool host, live;   // host: pinned
  bool ordered, leaving; // of cuMemAllocAsync; its end is queued
  null_access *last; // one for 64 bytes
} null_range;
int memory_new(uint64_t bytes, bool host, uint64_t *out);
int memory_drop(uint64_t at, bool host);
void memory_end(uint64_t at); // what has been found to be device memory goes
null_range *memory_find(uint64_t at); // that it lies in, also a dead one
// OK, or INVALID_VALUE and a finding. `device`: whose memory it has to be, -1: the host's.
int memory_check(uint64_t at, uint64_t bytes, int device, const char *what);
bool memory_is_pinned(const void *p, uint64_t bytes);
void memory_touch(uint64_t at, uint64_t bytes, bool write); // by the work that is being done
const char *memory_kernel_access(const void *p, uint64_t bytes, bool write);
void memory_open(void); // device memory can be touched, until the call ends
void memory_close(void);
int memory_live(int device, bool tell);

// ---- work.c: streams, events, the work queued ----
// TOGETHER: of a collective, done when all its ranks have come to it. PEER: a copy whose ends may lie on other devices
// than the stream. AFTER: an event. BEGIN, END: of memory.
// CALL: work of another library.
typedef enum null_work_kind {
  TO_DEVICE,
  TO_HOST,
  COPY,
  FILL,
  PEER,
  TOGETHER,
  LAUNCH,
  CALL,
  RECORD,
  AFTER,
  BEGIN,
  END
} null_work_kind;
// For the stand-in of NCCL: the part of a rank in a collective, which is queued in its stream.
typedef struct null_collective {
  const void *of; // one for all ranks
  long number;    // of its calls
  int rank, ranks;
  uint64_t in_bytes, out_bytes;
  // All ranks' inputs -> their outputs, in host memory.
  void (*compute)(int ranks, const void *const *in, void *const *out, const struct null_collective *c);
  int type;
  uint64_t count;
} null_collective;
int null_collect(const null_collective *c, uint64_t from, uint64_t to, void *stream); // *c stays there to the end
void null_collect_drop(const void *of, int rank);                                     // what is queued of it
// For the stand-ins of other libraries: work that is done in a stream. What `run` needs may stand behind the struct.
typedef struct null_call {
  void (*run)(const struct null_call *c);
  const char *name;
  struct {
    uint64_t at, bytes; // on the device; 0 bytes: nothing
    uint64_t write;
  } uses[6];
  int64_t seems_ns; // how long it takes in the eyes of events
  uint64_t first;   // nothing like it was done before: code may be loaded
} null_call;
int null_call_in(const null_call *c, uint64_t bytes, void *stream); // `bytes` from c on are copied
void null_complain(const char *what);                               // a finding
typedef struct null_event null_event;
typedef struct null_function null_function;
typedef struct null_work {
  null_work_kind kind;
  uint32_t id;
  uint64_t to, from, bytes, hash; // host addresses too
  unsigned value, blocks, threads, shared;
  null_function *function;
  void *words; // of a launch: its parameters, owned
  uint64_t word_bytes;
  null_event *event;
  uint32_t after;                      // AFTER: the work that it waits for
  uint64_t rows, to_pitch, from_pitch; // PEER: rows of `bytes`
  const struct null_collective *together; // TOGETHER
  struct null_work *next;
} null_work;
// The work `id` of a stream waits for `after` of another one.
typedef struct null_edge {
  uint32_t id, after;
} null_edge;
typedef struct null_stream {
  null_object object;
  null_work *first, **end;
  uint32_t *issued, n_issued; // work that the host has not waited for
  null_edge *edges;
  uint32_t n_edges, seen_edges; // seen: those whose work the host has waited for
  struct null_graph *capture; // NULL: none
  bool broken;                // the capture
  int mode;
  uint64_t thread;
} null_stream;
typedef struct null_now {
  uint32_t id;
  const null_stream *stream;
} null_now;
extern null_now work_now;
int work_add(void *stream, null_work w); // takes w.words
int work_repeat(void *stream, const null_work *w);
bool work_ordered(uint32_t before, uint32_t after);                // does the work `after` begin when `before` is done?
bool work_uses(uint64_t at, uint64_t bytes, unsigned *out_stream); // is there work that will touch it?
void work_finish(void);                                            // all of it
void work_forget(int device);                                      // after an error of the device
null_stream *work_capture_of_thread(void);
long work_launches(bool forget);

// ---- peer.c ----
int work_check_rows(const null_work *w, const char *what); // of PEER, as memory_check
// ---- graph.c ----
typedef struct null_graph {
  null_object object;
  null_work *first, **end;
} null_graph;
void graph_add(null_graph *g, null_work w);

// ---- code.c ----
struct null_function {
  null_object object;
  null_object *module;
  char name[64];
  void (*run)(const void *words);
  unsigned word_bytes, most_threads, shared;
  bool alone, launched;
};
const char *code_run(const null_work *w); // NULL, or what went wrong
