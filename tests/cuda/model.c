// Fibers, their scheduler, and the shadow memory.
#include "tests/cuda/model.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

enum {
  MAX_THREADS = 1024,
  WARP = 32,
  STACK = 64 << 10,
  MAX_REGIONS = 96,
  SHARED_BYTES = 227 << 10,
  MAX_COPIES = 512,
  OWN = 2048,
  MOST_GRAIN = 4,
  MANY = -1
};
enum state { READY, AT_SHUFFLE, AT_BARRIER, DONE };

model_index threadIdx, blockIdx, gridDim;

// ---- errors: the first one is kept ----
static char problem[400];
#define complain model_complain
void model_complain(const char *fmt, ...) {
  va_list ap;
  if (problem[0]) return;
  va_start(ap, fmt);
  vsnprintf(problem, sizeof problem, fmt, ap);
  va_end(ap);
}

// ---- shadow memory ----
// Who touched a grain last. `when`: number of the barrier interval, different for all intervals of all
// blocks.
typedef struct touch {
  int32_t block, thread;
  uint32_t when;
} touch; // block MANY, thread MANY: several
typedef struct cell {
  touch writer, reader;
} cell; // when 0: nobody
// Grains are as large as all accesses until now allow: each touched whole ones.
typedef struct region {
  model_region r;
  cell *cells; // room for one of each byte
  int grain;   // bits of positions within one
  bool shared;
  uint32_t since; // what cells say of intervals before is forgotten
} region;
static region regions[MAX_REGIONS];
static int n_regions, n_given;
static uint32_t interval, since_block; // the first interval of the block
static uint8_t shared[SHARED_BYTES] __attribute__((aligned(256)));
static cell shared_cells[SHARED_BYTES]; // used by block after block
static uint64_t shared_used, shared_at[64];
static int n_shared;

static bool ordered(const touch *t, int32_t block, int32_t thread) { // before what (block, thread) does now
  if (!t->when || (t->block == block && t->thread == thread)) return true;
  return t->block == block && t->when != interval;
}

static void note_read(touch *t, int32_t block, int32_t thread) {
  if (!t->when || (t->block == block && t->when != interval)) *t = (touch){block, thread, interval};
  if (t->block != block) t->block = MANY;
  if (t->thread != thread) t->thread = MANY;
}

static const char *name_of(const region *r, char *to, size_t room) {
  snprintf(to, room, r->shared ? "shared memory %d" : "buffer %d",
           (int)(r - regions) - (r->shared ? n_given : 0));
  return to;
}

// Cells of fewer bytes than they had.
static void refine(region *r, int grain) {
  uint64_t parts = 1ull << (r->grain - grain), n = (r->r.bytes + (1ull << r->grain) - 1) >> r->grain;
  for (uint64_t i = n; i-- > 0;)
    for (uint64_t k = parts; k-- > 0;)
      if ((i * parts + k) << grain < r->r.bytes) r->cells[i * parts + k] = r->cells[i];
  r->grain = grain;
}

static void touch_cell(const region *r, cell *c, int64_t byte, uint64_t unit, bool write) {
  char name[40];
  int32_t block = (int32_t)blockIdx.x, thread = (int32_t)threadIdx.x;
  if (c->writer.when < r->since) c->writer.when = 0;
  if (c->reader.when < r->since) c->reader.when = 0;
  if (!write && !c->writer.when && !r->r.defined && !r->r.packed)
    complain("thread %d of block %d reads element %lld of %s, which nobody wrote", thread, block,
             (long long)byte / (long long)unit, name_of(r, name, sizeof name));
  if (!ordered(&c->writer, block, thread) || (write && !ordered(&c->reader, block, thread)))
    complain("race: thread %d of block %d %s element %lld of %s, which thread %d of block %d %s", thread,
             block, write ? "writes" : "reads", (long long)byte / (long long)unit,
             name_of(r, name, sizeof name), c->writer.when ? c->writer.thread : c->reader.thread,
             c->writer.when ? c->writer.block : c->reader.block, c->writer.when ? "writes" : "reads");
  if (write) c->writer = (touch){block, thread, interval};
  else
    note_read(&c->reader, block, thread);
}

// The region of a pointer: the one that begins there, else (parts of scratch memory) the one that it lies in.
static region *region_of(const void *base) {
  for (int i = n_regions; i-- > 0;)
    if (regions[i].r.base == base) return &regions[i];
  for (int i = n_regions; i-- > 0;)
    if ((uintptr_t)base - (uintptr_t)regions[i].r.base < regions[i].r.bytes) return &regions[i];
  return NULL;
}

// Fences are counted: how many there had been when a byte of shared memory was written, and with a thread's
// last one.
static uint32_t fences, fenced[MAX_THREADS], written[SHARED_BYTES];
static void note_written(const uint8_t *p, uint64_t bytes) {
  for (uint64_t b = 0; b < bytes; b++) written[p - shared + b] = fences;
}

static model_judge judge;
void model_use(model_judge j) { judge = j; }

static bool allowed_elsewhere(const void *p, uint64_t bytes, bool write) {
  const char *why = judge ? judge(p, bytes, write) : "no buffer is there";
  if (why) complain("thread %u of block %u: access to memory: %s", threadIdx.x, blockIdx.x, why);
  return !why;
}

// Of `size` bytes at `byte` behind `base`; complaints are about elements of `unit` bytes.
static bool touch_bytes(region *r, const void *base, int64_t byte, uint64_t size, uint64_t unit, bool write) {
  uint64_t from = (uint64_t)((uintptr_t)base - (uintptr_t)r->r.base), room = r->r.bytes - from;
  if (byte < 0 || size > room || (uint64_t)byte > room - size) {
    char name[40];
    complain("thread %u of block %u: element %lld of %s, which has %llu", threadIdx.x, blockIdx.x,
             (long long)byte / (long long)unit, name_of(r, name, sizeof name),
             (unsigned long long)(room / unit));
    return false;
  }
  uint64_t at = from + (uint64_t)byte;
  int grain = __builtin_ctzll(at | size);
  if (write && r->shared) note_written((const uint8_t *)r->r.base + at, size);
  if (grain < r->grain) refine(r, grain);
  for (uint64_t i = at >> r->grain; i < (at + size) >> r->grain; i++)
    touch_cell(r, &r->cells[i], byte, unit, write);
  return true;
}

bool model_access(const void *base, int64_t index, uint64_t size, bool write) {
  region *r = region_of(base);
  int64_t byte;
  if (__builtin_mul_overflow(index, (int64_t)size, &byte))
    return complain("element %lld", (long long)index), false;
  if (!r) return allowed_elsewhere((const char *)base + byte, size, write);
  return touch_bytes(r, base, byte, size, size, write);
}

bool model_touch(const void *base, int64_t byte, uint64_t size, bool write) {
  if (size && ((uintptr_t)base + (uint64_t)byte) % size)
    return complain("thread %u: %llu bytes at %lld, which is no multiple", threadIdx.x,
                    (unsigned long long)size, (long long)byte),
           false;
  region *r = region_of(base);
  if (!r) return allowed_elsewhere((const char *)base + byte, size, write);
  return !size || touch_bytes(r, base, byte, size, 1, write);
}

static void add_region(model_region r, bool is_shared) {
  region *at = &regions[n_regions];
  if (n_regions == MAX_REGIONS) {
    complain("more than %d buffers", MAX_REGIONS);
    return;
  }
  cell *cells =
      is_shared ? shared_cells + ((uint8_t *)r.base - shared) : calloc(r.bytes ? r.bytes : 1, sizeof(cell));
  *at = (region){r, cells, MOST_GRAIN, is_shared, is_shared ? since_block : 0};
  if (!at->cells) complain("out of memory for the shadow of %llu bytes", (unsigned long long)r.bytes);
  else
    n_regions++;
}

static void drop_regions(int from) {
  while (n_regions > from)
    if (!regions[--n_regions].shared) free(regions[n_regions].cells);
}

void model_begin(const model_region *given, int n) {
  problem[0] = 0;
  drop_regions(0);
  for (int i = 0; i < n; i++) add_region(given[i], false);
  n_given = n_regions;
}

// ---- fibers ----
typedef struct copy { // to shared memory, under way
  uint8_t *to;
  const uint8_t *from;
  int bytes, some;
  unsigned group;
} copy;
typedef struct fiber {
  enum state state;
  int line; // where it waits
  int shared_calls;
  unsigned turn;  // exchanges done
  unsigned group; // copies since the last commit belong to it
  int n_copies;
#if defined(__x86_64__)
  void *sp;
#else
  ucontext_t context;
#endif
} fiber;
static fiber fibers[MAX_THREADS];
static uint8_t given[2][MAX_THREADS][MODEL_GIVEN]; // in this and the next exchange: one begins when all lanes
                                                   // have come to the last
static copy copies[MAX_THREADS][MAX_COPIES];
static uint8_t own[MAX_THREADS][OWN];
static uint64_t own_used; // of each thread, at most
static uint8_t *stacks;
static int current;
static const model_launch *launch;

static void body(void) {
  launch->kernel(launch->words);
  if (fibers[current].n_copies) complain("thread %d ends while copies are under way", current);
  fibers[current].state = DONE;
}

#if defined(__x86_64__)
static void *scheduler_sp;
void model_switch(void **from, void *to);
__asm__(".text\n.globl model_switch\nmodel_switch:\n"
        "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
        "  movq %rsp, (%rdi)\n  movq %rsi, %rsp\n"
        "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n  ret\n");
static void leave(void) { model_switch(&fibers[current].sp, scheduler_sp); }
static void resume(int i) {
  current = i;
  threadIdx.x = (unsigned)i;
  model_switch(&scheduler_sp, fibers[i].sp);
}
static void entry(void) {
  body();
  leave();
}
static void prepare(int i) {
  void **top = (void **)(stacks + (size_t)(i + 1) * STACK);
  *--top = NULL; // where entry would return to: keeps the stack aligned as a call does
  *--top = (void *)entry;
  for (int r = 0; r < 6; r++) *--top = NULL;
  fibers[i].sp = top;
}
#else
static ucontext_t scheduler_context;
static void leave(void) { swapcontext(&fibers[current].context, &scheduler_context); }
static void resume(int i) {
  current = i;
  threadIdx.x = (unsigned)i;
  swapcontext(&scheduler_context, &fibers[i].context);
}
static void prepare(int i) {
  getcontext(&fibers[i].context);
  fibers[i].context.uc_stack.ss_sp = stacks + (size_t)i * STACK;
  fibers[i].context.uc_stack.ss_size = STACK;
  fibers[i].context.uc_link = &scheduler_context;
  makecontext(&fibers[i].context, body, 0);
}
#endif

static void wait_as(enum state s, int line) {
  fibers[current].state = s, fibers[current].line = line;
  if (launch->alone) complain("line %d: a barrier or shuffle in a kernel without any", line);
  else
    leave();
}

void model_barrier(int line) { wait_as(AT_BARRIER, line); }

const unsigned char *model_exchange(const void *mine, uint64_t bytes, int line) {
  uint8_t(*to)[MODEL_GIVEN] = given[fibers[current].turn++ & 1];
  if (bytes > MODEL_GIVEN)
    complain("an exchange of %llu bytes", (unsigned long long)bytes), bytes = MODEL_GIVEN;
  memcpy(to[current], mine, bytes);
  wait_as(AT_SHUFFLE, line);
  return to[current / WARP * WARP];
}

uint64_t model_shuffle(uint64_t bits, int mask, int line) {
  int lane = (current % WARP) ^ mask;
  memcpy(&bits, model_exchange(&bits, sizeof bits, line) + lane * MODEL_GIVEN, sizeof bits);
  return bits;
}

// ---- copies that take their time ----
void model_copy(void *to, int64_t to_at, const void *from, int64_t from_at, int bytes, int some) {
  fiber *f = &fibers[current];
  if (f->n_copies == MAX_COPIES) return complain("more than %d copies of a thread under way", MAX_COPIES);
  if (some < 0 || some > bytes) return complain("a copy of %d of %d bytes", some, bytes);
  if (!model_touch(to, to_at, (uint64_t)bytes, true)) return;
  if (some && (uintptr_t)((const uint8_t *)from + from_at) % (unsigned)bytes)
    return complain("a copy of %d bytes from a position that is no multiple", bytes);
  for (int b = 0; b < some; b++)
    if (!model_access(from, from_at + b, 1, false)) return;
  memset((uint8_t *)to + to_at, 0xff, (size_t)bytes);
  copies[current][f->n_copies++] =
      (copy){(uint8_t *)to + to_at, (const uint8_t *)from + from_at, bytes, some, f->group};
}

void *model_thread(uint64_t bytes) {
  if (bytes > OWN)
    complain("a thread needs %llu bytes for a stand-in", (unsigned long long)bytes), bytes = OWN;
  if (own_used < bytes) own_used = bytes;
  return own[current];
}

void model_fence(void) { fenced[current] = ++fences; }
bool model_tensor_read(const void *base, int64_t byte, uint64_t size) {
  const region *r = region_of(base);
  if (!model_touch(base, byte, size, false) || !r) return false;
  const uint8_t *p = (const uint8_t *)base + byte;
  const touch *w = &r->cells[(uint64_t)(p - (const uint8_t *)r->r.base) >> r->grain].writer;
  if (!r->shared || !w->when || written[p - shared] < fenced[w->thread]) return true;
  return complain("thread %d wrote element %lld of shared memory without a fence behind it", w->thread,
                  (long long)byte),
         false;
}

void model_copy_commit(void) { fibers[current].group++; }

void model_copy_wait(int groups) {
  fiber *f = &fibers[current];
  int left = 0;
  for (int i = 0; i < f->n_copies; i++) {
    copy *c = &copies[current][i];
    if (c->group + (unsigned)groups >= f->group) {
      copies[current][left++] = *c;
      continue;
    }
    note_written(c->to, (uint64_t)c->bytes);
    memset(c->to, 0, (size_t)c->bytes);
    memcpy(c->to, c->from, (size_t)c->some);
  }
  f->n_copies = left;
}

void *model_shared(uint64_t bytes) {
  int n = fibers[current].shared_calls++;
  if (n < n_shared) return shared + shared_at[n];
  if (n_shared == 64 || shared_used + bytes > SHARED_BYTES) return complain("too much shared memory"), shared;
  shared_at[n_shared++] = shared_used;
  add_region((model_region){shared + shared_used, bytes, false, false}, true);
  shared_used += (bytes + 255) / 256 * 256;
  return shared + shared_at[n];
}

// ---- scheduler ----
static uint64_t seed = 1;
static unsigned any(unsigned n) {
  seed = seed * 6364136223846793005ull + 1442695040888963407ull;
  return (unsigned)((seed >> 33) % n);
}

// A permutation of 0..n-1.
static void arrange(int *order, int n, model_order how) {
  for (int i = 0; i < n; i++) order[i] = how == MODEL_BACKWARD ? n - 1 - i : i;
  for (int i = n - 1; how == MODEL_RANDOM && i > 0; i--) {
    int j = (int)any((unsigned)i + 1), t = order[i];
    order[i] = order[j], order[j] = t;
  }
}

// Runs a warp until all of its threads wait for the barrier or are done.
static void run_warp(int first, int n) {
  int order[WARP];
  for (;;) {
    int waiting = 0, line = 0;
    arrange(order, n, launch->order);
    for (int i = 0; i < n; i++)
      if (fibers[first + order[i]].state == READY) resume(first + order[i]);
    for (int i = first; i < first + n; i++)
      if (fibers[i].state == AT_SHUFFLE) waiting++, line = fibers[i].line;
    if (!waiting) return;
    for (int i = first; i < first + n; i++) {
      if (fibers[i].state != AT_SHUFFLE || fibers[i].line != line)
        complain("line %d: a shuffle that thread %d does not come to", line, i);
      else
        fibers[i].state = READY;
    }
    if (problem[0]) return;
  }
}

static bool pass_barrier(int threads) { // false: all are done
  int waiting = 0, line = 0;
  for (int i = 0; i < threads; i++)
    if (fibers[i].state == AT_BARRIER) waiting++, line = fibers[i].line;
  if (!waiting) return false;
  for (int i = 0; i < threads; i++) {
    if (fibers[i].state != AT_BARRIER || fibers[i].line != line)
      complain("line %d: a barrier that thread %d does not come to", line, i);
    fibers[i].state = READY;
  }
  return true;
}

static void run_fibers(int threads) {
  int warps[MAX_THREADS / WARP], n = (threads + WARP - 1) / WARP;
  for (int i = 0; i < threads; i++) {
    fibers[i] = (fiber){.state = READY};
    memset(own[i], 0, own_used);
    prepare(i);
  }
  do {
    interval++;
    arrange(warps, n, launch->order);
    for (int w = 0; w < n && !problem[0]; w++)
      run_warp(warps[w] * WARP, threads - warps[w] * WARP < WARP ? threads - warps[w] * WARP : WARP);
  } while (!problem[0] && pass_barrier(threads));
}

static void run_alone(int threads) {
  int order[MAX_THREADS];
  interval++;
  arrange(order, threads, launch->order);
  for (int i = 0; i < threads && !problem[0]; i++) {
    current = order[i];
    fibers[current] = (fiber){.state = READY};
    threadIdx.x = (unsigned)current;
    launch->kernel(launch->words);
  }
}

const char *model_run(const model_launch *l) {
  static int *order;
  static unsigned room;
  static bool filled;
  launch = l;
  if (!stacks)
    stacks = mmap(NULL, (size_t)MAX_THREADS * STACK, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (l->blocks > room) order = realloc(order, (room = l->blocks) * sizeof *order);
  if (stacks == MAP_FAILED || !order || l->blocks > INT32_MAX || l->threads > MAX_THREADS)
    return "a launch that the model cannot run";
  gridDim.x = l->blocks;
  arrange(order, (int)l->blocks, l->order);
  for (unsigned b = 0; b < l->blocks && !problem[0]; b++) {
    blockIdx.x = (unsigned)order[b];
    drop_regions(n_given); // shared memory begins undefined
    since_block = interval + 1;
    memset(shared, 0xff, filled ? shared_used : sizeof shared), filled = true;
    shared_used = 0, n_shared = 0;
    if (l->alone) run_alone((int)l->threads);
    else
      run_fibers((int)l->threads);
  }
  return problem[0] ? problem : NULL;
}
