// Does the null driver see that a rule is broken? Each case breaks one, or none.
//   rules LIBRARY   prints "N passed, M failed"
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/cuda/api.h"
#include "tests/cuda/null/null.h"

enum { COUNT = 256, BYTES = COUNT * 4, THREAD_LOCAL = 1 };

static const char program[] =
    NULL_CUBIN "90 13000\n"
               "#define sd_kernel add\n#define sd_kernel_args add_args\n"
               "struct sd_kernel_args { float *to; const float *from; };\n"
               "extern \"C\" __global__ void __launch_bounds__(64, 1) sd_kernel(const sd_kernel_args A) {\n"
               "  for (unsigned i = blockIdx.x * 64 + threadIdx.x; i < 256; i += gridDim.x * 64) SD_ST(A.to, i, "
               "SD_LD(A.from, i) + 1.0f);\n}\n"
               "#undef sd_kernel\n#undef sd_kernel_args\n";

static const sd_cu_api *f;
static long (*ask)(const char *what);
static void *context;

// What the cases work with: made before each one and destroyed behind it, unless the case has done so.
typedef struct things {
  void *stream, *other, *module, *add;
  uint64_t a, b;
  float *pinned;
} things;

static int launch_add(const things *t, void *stream, uint64_t to, uint64_t from, unsigned threads, unsigned shared) {
  struct {
    uint64_t to, from;
  } words = {to, from};
  void *params[] = {&words};
  return f->launch(t->add, 4, 1, 1, threads, 1, 1, shared, stream, params, NULL);
}
static void fill_pinned(const things *t, float x) {
  for (int i = 0; i < COUNT; i++) t->pinned[i] = x;
}
static bool is_all(const float *p, float x) {
  for (int i = 0; i < COUNT; i++)
    if (p[i] != x) return false;
  return true;
}
// Numbers to a, a + 1 to b, waited for.
static void begin(const things *t) {
  fill_pinned(t, 1);
  f->to_device(t->a, t->pinned, BYTES, t->stream);
  launch_add(t, t->stream, t->b, t->a, 64, 0);
  f->stream_wait(t->stream);
}

// ---- nothing is broken ----
static bool right(things *t) {
  begin(t);
  f->to_host(t->pinned, t->b, BYTES, t->stream);
  return f->stream_wait(t->stream) == 0 && is_all(t->pinned, 2);
}
static bool right_graph(things *t) {
  void *g = NULL, *e = NULL;
  bool ok = true;
  begin(t);
  f->capture_begin(t->stream, THREAD_LOCAL);
  f->to_device(t->a, t->pinned, BYTES, t->stream);
  launch_add(t, t->stream, t->b, t->a, 64, 0);
  f->to_host(t->pinned, t->b, BYTES, t->stream);
  ok &= f->capture_end(t->stream, &g) == 0 && f->graph_make(&e, g, 0) == 0 && f->graph_free(g) == 0;
  for (int i = 0; i < 3; i++) ok &= f->graph_launch(e, t->stream) == 0;
  ok &= f->stream_wait(t->stream) == 0 && is_all(t->pinned, 4);
  return f->graph_exec_free(e) == 0 && ok;
}
static bool right_streams(things *t) {
  begin(t);
  launch_add(t, t->other, t->a, t->b, 64, 0); // the first stream was waited for
  f->to_host(t->pinned, t->a, BYTES, t->other);
  return f->stream_wait(t->other) == 0 && is_all(t->pinned, 3);
}
static bool right_events(things *t) {
  void *x = NULL, *y = NULL;
  float ms = -1;
  f->event_new(&x, 0), f->event_new(&y, 0);
  f->event_record(x, t->stream);
  begin(t);
  f->event_record(y, t->stream);
  bool ok = f->event_wait(y) == 0 && f->event_elapsed(&ms, x, y) == 0 && ms >= 0;
  return f->event_free(x) == 0 && f->event_free(y) == 0 && ok;
}
// Memory that comes and goes in the order of a stream, more than there is at once.
static bool right_ordered(things *t) {
  uint64_t c = 0;
  bool ok = true;
  setenv("SARD_NULL_MEMORY", "65536", 1), ask("reset");
  begin(t);
  for (int i = 0; i < 3; i++) {
    ok &= f->alloc_ordered(&c, 40000, t->stream) == 0;
    launch_add(t, t->stream, c, t->b, 64, 0), launch_add(t, t->stream, t->b, c, 64, 0);
    ok &= f->free_ordered(c, t->stream) == 0;
  }
  f->to_host(t->pinned, t->b, BYTES, t->stream);
  return f->stream_wait(t->stream) == 0 && is_all(t->pinned, 8) && ok;
}
// A wait that is missing shows in the numbers.
static bool no_wait(things *t) {
  begin(t);
  f->to_host(t->pinned, t->b, BYTES, t->stream);
  bool wrong = !is_all(t->pinned, 2);
  f->stream_wait(t->stream);
  return wrong && is_all(t->pinned, 2);
}

// ---- order ----
static bool source_changes(things *t) {
  fill_pinned(t, 1);
  f->to_device(t->a, t->pinned, BYTES, t->stream);
  fill_pinned(t, 2);
  return f->stream_wait(t->stream) == 0;
}
static bool two_streams(things *t) {
  begin(t);
  launch_add(t, t->stream, t->b, t->a, 64, 0);
  launch_add(t, t->other, t->a, t->b, 64, 0);
  f->stream_wait(t->stream), f->stream_wait(t->other);
  return true;
}
static bool write_below_read(things *t) {
  begin(t);
  launch_add(t, t->stream, t->b, t->a, 64, 0);
  f->fill(t->a, 0, BYTES, t->other);
  f->stream_wait(t->other), f->stream_wait(t->stream);
  return true;
}
static bool blocking_stream(things *t) {
  void *s = NULL;
  (void)t;
  return f->stream_new(&s, 0, 0) == 0 && f->stream_free(s) == 0;
}
static bool stale_event(things *t) {
  void *x = NULL;
  float ms;
  (void)t;
  f->event_new(&x, 0);
  return f->event_elapsed(&ms, x, x) != 0 && f->event_free(x) == 0;
}

// ---- several streams and devices ----
// Two streams add to b and read it; an event orders them, or not.
static bool in_turns(things *t, bool ordered) {
  void *x = NULL;
  begin(t);
  fill_pinned(t, 0);
  launch_add(t, t->stream, t->a, t->b, 64, 0);
  f->event_new(&x, 2), f->event_record(x, t->stream);
  if (ordered) f->stream_after(t->other, x, 0);
  launch_add(t, t->other, t->b, t->a, 64, 0);
  f->to_host(t->pinned, t->b, BYTES, t->other);
  while (f->stream_query(t->other) == SD_CU_NOT_READY) {
  }
  bool ok = !ordered || is_all(t->pinned, 4);
  return f->stream_wait(t->stream) == 0 && f->event_free(x) == 0 && ok;
}
static bool right_turns(things *t) { return in_turns(t, true); }
static bool no_turns(things *t) { return in_turns(t, false); }

// From the memory of device 0 to that of device 1, and back in rows of half the length.
static bool over_there(things *t, bool enabled) {
  void *there = NULL, *stream = NULL, *x = NULL;
  uint64_t c = 0;
  int can = 0;
  begin(t);
  f->context_retain(&there, 1), f->context_set(there);
  f->alloc(&c, BYTES), f->stream_new(&stream, 1, 0), f->event_new(&x, 2);
  f->copy_peer(c, there, t->b, context, BYTES, stream);
  f->event_record(x, stream);
  f->context_set(context);
  f->peer_can(&can, 0, 1);
  if (enabled) f->peer_enable(there, 0);
  f->stream_after(t->stream, x, 0);
  sd_cu_rows rows = {.from_type = SD_CU_UNIFIED,
                     .from = c,
                     .from_pitch = BYTES / 2,
                     .to_type = SD_CU_UNIFIED,
                     .to = t->a,
                     .to_pitch = BYTES / 2,
                     .width = BYTES / 4,
                     .height = 2};
  bool copied = f->copy_rows(&rows, t->stream) == 0;
  f->to_host(t->pinned, t->a, BYTES, t->stream);
  bool ok = f->stream_wait(t->stream) == 0 && can && copied == enabled && (!enabled || t->pinned[COUNT / 2] == 2);
  f->context_set(there);
  ok = f->event_free(x) == 0 && f->stream_free(stream) == 0 && f->free(c) == 0 && ok;
  f->context_set(context);
  return f->context_release(1) == 0 && ok;
}
static bool out_of_reach(things *t) { return over_there(t, false); }
static bool right_peers(things *t) { return over_there(t, true); }

// ---- memory ----
static bool free_in_flight(things *t) {
  launch_add(t, t->stream, t->b, t->a, 64, 0);
  f->free(t->b);
  return f->alloc(&t->b, BYTES) == 0;
}
static bool free_host_in_flight(things *t) {
  f->to_device(t->a, t->pinned, BYTES, t->stream);
  f->host_free(t->pinned);
  return f->host_alloc((void **)&t->pinned, BYTES, 0) == 0;
}
static bool freed(things *t) {
  uint64_t old = t->b;
  f->free(t->b);
  launch_add(t, t->stream, old, t->a, 64, 0);
  return f->stream_wait(t->stream) == ILLEGAL_ADDRESS;
}
static bool freed_twice(things *t) {
  uint64_t old = t->b;
  f->free(t->b);
  return f->free(old) != 0 && f->alloc(&t->b, BYTES) == 0;
}
static bool outside(things *t) {
  launch_add(t, t->stream, t->b + 4, t->a, 64, 0);
  return f->stream_wait(t->stream) == ILLEGAL_ADDRESS;
}
static bool host_pointer(things *t) {
  static float pageable[COUNT];
  launch_add(t, t->stream, (uint64_t)(uintptr_t)pageable, t->a, 64, 0);
  return f->stream_wait(t->stream) == ILLEGAL_ADDRESS;
}
static bool copy_outside(things *t) { return f->to_device(t->a + 4, t->pinned, BYTES, t->stream) != 0; }
static bool copy_swapped(things *t) {
  return f->to_device((uint64_t)(uintptr_t)t->pinned, (void *)(uintptr_t)t->a, BYTES, t->stream) != 0;
}
static bool empty_alloc(things *t) {
  uint64_t at;
  (void)t;
  return f->alloc(&at, 0) != 0;
}

// ---- objects ----
static bool dead_stream(things *t) {
  void *s = NULL;
  f->stream_new(&s, 1, 0);
  f->stream_free(s);
  return launch_add(t, s, t->b, t->a, 64, 0) != 0;
}
static bool wrong_handle(things *t) { return f->event_record(t->stream, t->stream) != 0; }
static bool dead_module(things *t) {
  f->module_unload(t->module);
  bool ok = launch_add(t, t->stream, t->b, t->a, 64, 0) != 0;
  return f->module_load(&t->module, program, 0, NULL, NULL) == 0 && ok;
}
static bool many_threads(things *t) { return launch_add(t, t->stream, t->b, t->a, 65, 0) != 0; }
static bool much_shared(things *t) { return launch_add(t, t->stream, t->b, t->a, 64, 50000) != 0; }
static bool allowed_shared(things *t) {
  return f->function_set(t->add, 8, 50000) == 0 && launch_add(t, t->stream, t->b, t->a, 64, 50000) == 0 &&
         f->stream_wait(t->stream) == 0;
}
static void *without_context(void *user) {
  const things *t = user;
  return f->stream_wait(t->stream) == INVALID_CONTEXT ? user : NULL;
}
static bool no_context(things *t) {
  pthread_t thread;
  void *ok = NULL;
  return pthread_create(&thread, NULL, without_context, t) == 0 && pthread_join(thread, &ok) == 0 && ok;
}
static bool left_behind(things *t) {
  void *e = NULL;
  (void)t;
  f->event_new(&e, 0);
  long before = ask("live");
  f->event_free(e);
  return ask("live") == before - 1 && f->context_release(0) == 0 && f->context_retain(&context, 0) == 0;
}

// ---- capture ----
// Captures, does what is forbidden there, and ends.
static bool spoils(things *t, int (*forbidden)(things *t)) {
  void *g = NULL;
  begin(t);
  f->capture_begin(t->stream, THREAD_LOCAL);
  int rc = forbidden(t), end = f->capture_end(t->stream, &g);
  if (g) f->graph_free(g);
  return rc != 0 && end != 0;
}
static int do_wait(things *t) { return f->stream_wait(t->stream); }
static int do_alloc(things *t) {
  uint64_t at;
  (void)t;
  return f->alloc(&at, BYTES);
}
static int do_null_stream(things *t) { return f->to_device(t->a, t->pinned, BYTES, NULL); }
static int do_pageable(things *t) {
  static float pageable[COUNT];
  return f->to_device(t->a, pageable, BYTES, t->stream), 1;
}
static bool wait_in_capture(things *t) { return spoils(t, do_wait); }
static bool alloc_in_capture(things *t) { return spoils(t, do_alloc); }
static bool null_stream_in_capture(things *t) { return spoils(t, do_null_stream); }
static bool pageable_in_capture(things *t) { return spoils(t, do_pageable); }
static bool first_launch_in_capture(things *t) {
  void *g = NULL;
  f->capture_begin(t->stream, THREAD_LOCAL);
  launch_add(t, t->stream, t->b, t->a, 64, 0);
  f->capture_end(t->stream, &g);
  return f->graph_free(g) == 0;
}
static bool no_capture(things *t) {
  void *g = NULL;
  return f->capture_end(t->stream, &g) != 0;
}
static bool ordered_elsewhere(things *t) { // its stream has not been waited for
  uint64_t c = 0;
  begin(t);
  f->alloc_ordered(&c, BYTES, t->stream);
  launch_add(t, t->other, c, t->b, 64, 0);
  f->stream_wait(t->other), f->stream_wait(t->stream);
  return f->free(c) == 0;
}
static bool used_behind_its_end(things *t) {
  uint64_t c = 0;
  begin(t);
  f->alloc_ordered(&c, BYTES, t->stream), f->free_ordered(c, t->stream);
  launch_add(t, t->stream, c, t->b, 64, 0);
  return f->stream_wait(t->stream) == ILLEGAL_ADDRESS;
}
static bool ordered_freed_in_flight(things *t) { // cuMemFree does not wait for memory of a pool
  uint64_t c = 0;
  begin(t);
  f->alloc_ordered(&c, BYTES, t->stream);
  launch_add(t, t->stream, c, t->b, 64, 0);
  return f->free(c) == 0;
}
static bool ordered_freed_twice(things *t) {
  uint64_t c = 0;
  f->alloc_ordered(&c, BYTES, t->stream), f->free_ordered(c, t->stream);
  return f->free(c) != 0;
}
static bool graph_of_freed(things *t) {
  void *g = NULL, *e = NULL;
  begin(t);
  f->capture_begin(t->stream, THREAD_LOCAL);
  launch_add(t, t->stream, t->b, t->a, 64, 0);
  f->capture_end(t->stream, &g), f->graph_make(&e, g, 0), f->graph_free(g);
  f->free(t->b), t->b = 0;
  f->graph_launch(e, t->stream);
  int rc = f->stream_wait(t->stream);
  return f->graph_exec_free(e), rc == ILLEGAL_ADDRESS;
}

// ---- failures that are asked for ----
static bool fails_once(things *t) {
  uint64_t at = 0;
  (void)t;
  setenv("SARD_NULL_FAIL", "cuMemAlloc:2:2", 1), ask("reset");
  bool ok = f->alloc(&at, 64) == 0 && f->free(at) == 0 && f->alloc(&at, 64) == 2 && f->alloc(&at, 64) == 0;
  return f->free(at) == 0 && ok;
}
static bool fault_stays(things *t) {
  setenv("SARD_NULL_FAULT", "2:719", 1), ask("reset");
  bool ok = launch_add(t, t->stream, t->b, t->a, 64, 0) == 0 && f->stream_wait(t->stream) == 0;
  ok &= launch_add(t, t->stream, t->b, t->a, 64, 0) == 0 && f->stream_wait(t->stream) == 719;
  ok &= launch_add(t, t->stream, t->b, t->a, 64, 0) == 719 && f->free(t->b) == 719;
  return t->b = 0, ok;
}
static bool memory_ends(things *t) {
  uint64_t at = 0, more = 0;
  (void)t;
  setenv("SARD_NULL_MEMORY", "65536", 1), ask("reset");
  bool ok = f->alloc(&at, 60000) == 0 && f->alloc(&more, 60000) == 2;
  return f->free(at) == 0 && ok;
}

typedef struct rule {
  const char *name;
  bool (*run)(things *t);
  bool broken;
} rule;
static const rule rules[] = {{"right", right, false},
                             {"right_graph", right_graph, false},
                             {"right_streams", right_streams, false},
                             {"right_events", right_events, false},
                             {"right_ordered", right_ordered, false},
                             {"right_turns", right_turns, false},
                             {"no_turns", no_turns, true},
                             {"out_of_reach", out_of_reach, true},
                             {"right_peers", right_peers, false},
                             {"no_wait", no_wait, false},
                             {"source_changes", source_changes, true},
                             {"two_streams", two_streams, true},
                             {"write_below_read", write_below_read, true},
                             {"blocking_stream", blocking_stream, true},
                             {"stale_event", stale_event, true},
                             {"free_in_flight", free_in_flight, false},
                             {"free_host_in_flight", free_host_in_flight, true},
                             {"freed", freed, true},
                             {"freed_twice", freed_twice, true},
                             {"outside", outside, true},
                             {"host_pointer", host_pointer, true},
                             {"copy_outside", copy_outside, true},
                             {"copy_swapped", copy_swapped, true},
                             {"empty_alloc", empty_alloc, true},
                             {"dead_stream", dead_stream, true},
                             {"wrong_handle", wrong_handle, true},
                             {"dead_module", dead_module, true},
                             {"many_threads", many_threads, true},
                             {"much_shared", much_shared, true},
                             {"allowed_shared", allowed_shared, false},
                             {"no_context", no_context, true},
                             {"left_behind", left_behind, true},
                             {"wait_in_capture", wait_in_capture, true},
                             {"alloc_in_capture", alloc_in_capture, true},
                             {"null_stream_in_capture", null_stream_in_capture, true},
                             {"pageable_in_capture", pageable_in_capture, true},
                             {"first_launch_in_capture", first_launch_in_capture, true},
                             {"no_capture", no_capture, true},
                             {"ordered_elsewhere", ordered_elsewhere, true},
                             {"used_behind_its_end", used_behind_its_end, true},
                             {"ordered_freed_in_flight", ordered_freed_in_flight, true},
                             {"ordered_freed_twice", ordered_freed_twice, true},
                             {"graph_of_freed", graph_of_freed, true},
                             {"fails_once", fails_once, false},
                             {"fault_stays", fault_stays, false},
                             {"memory_ends", memory_ends, false}};

static bool make(things *t) {
  *t = (things){0};
  return f->context_set(context) == 0 && f->stream_new(&t->stream, 1, 0) == 0 && f->stream_new(&t->other, 1, 0) == 0 &&
         f->module_load(&t->module, program, 0, NULL, NULL) == 0 &&
         f->module_function(&t->add, t->module, "add") == 0 && f->alloc(&t->a, BYTES) == 0 &&
         f->alloc(&t->b, BYTES) == 0 && f->host_alloc((void **)&t->pinned, BYTES, 0) == 0;
}

static void unmake(const things *t) {
  f->stream_wait(t->stream), f->stream_wait(t->other);
  if (t->a) f->free(t->a);
  if (t->b) f->free(t->b);
  f->host_free(t->pinned), f->module_unload(t->module), f->stream_free(t->stream), f->stream_free(t->other);
}

static bool keeps(const rule *r, const char *mode) {
  things t;
  setenv("SARD_NULL_MODE", mode, 1);
  unsetenv("SARD_NULL_FAIL"), unsetenv("SARD_NULL_FAULT"), unsetenv("SARD_NULL_MEMORY");
  ask("reset"), ask("findings");
  if (!make(&t)) return printf("FAIL %s: nothing to work with\n", r->name), false;
  bool ok = r->run(&t);
  long findings = ask("findings");
  unmake(&t);
  ask("findings");
  if (ask("live") != 1) return printf("FAIL %s: %ld objects are left\n", r->name, ask("live") - 1), false;
  if (!ok) printf("FAIL %s (%s): wrong results\n", r->name, mode);
  else if ((findings > 0) != r->broken)
    printf("FAIL %s (%s): %ld findings\n", r->name, mode, findings);
  return ok && (findings > 0) == r->broken;
}

// Host code that reads device memory ends.
static bool is_out_of_reach(void) {
  things t;
  int status = 0;
  if (!make(&t)) return false;
  pid_t pid = fork();
  if (pid == 0) (void)*(volatile char *)(uintptr_t)t.a, _exit(0);
  waitpid(pid, &status, 0);
  unmake(&t);
  return status != 0;
}

int main(int argc, char **argv) {
  int passed = 0, failed = 0;
  if (argc < 2) return fprintf(stderr, "usage: rules LIBRARY\n"), 2;
  setenv("SARD_CUDA", argv[1], 1), setenv("SARD_NULL_DEVICES", "2", 1);
  sard_status *st = sd_cu_api_open(&f);
  void *library = dlopen(argv[1], RTLD_NOW);
  union {
    void *p;
    long (*fn)(const char *);
  } u = {library ? dlsym(library, "null_ask") : NULL};
  ask = u.fn;
  if (st || !ask || f->context_retain(&context, 0) != 0)
    return printf("FAIL the driver does not start\n0 passed, 1 failed\n"), 1;
  for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) *(keeps(&rules[i], "deferred") ? &passed : &failed) += 1;
  const rule *eager[] = {&rules[0], &rules[1], &rules[2], &rules[3], &rules[4]};
  for (size_t i = 0; i < sizeof eager / sizeof *eager; i++)
    *(keeps(eager[i], "eager") ? &passed : &failed) += 1, *(keeps(eager[i], "mixed") ? &passed : &failed) += 1;
  *(is_out_of_reach() ? &passed : &failed) += 1;
  failed += f->context_release(0) != 0 || ask("findings") != 0;
  printf("%d passed, %d failed\n", passed, failed);
  return failed != 0;
}
