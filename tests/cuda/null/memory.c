// Device memory and pinned host memory: pieces of one reserved range of addresses, each behind pages that nobody may
// touch.
#include "tests/cuda/null/null.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define RESERVED (1ull << 38) // beside ThreadSanitizer, whose addresses leave no terabyte free in every start
#define PAGE     4096ull
#define GAP      (16 * PAGE)
#define PIECE    64   // bytes that share a null_access
#define POISON   0xff // NaN
#define POISONED (64ull << 20)

static uint8_t *base;
static uint64_t next;
static null_range **ranges; // ascending: addresses are given once
static null_range **living; // of them those that are not freed
static uint32_t n_ranges, n_living, cached;
static bool opened; // work may touch device memory
static uint64_t used[MAX_DEVICES];

static uint64_t whole_pages(uint64_t bytes) { return (bytes + PAGE - 1) / PAGE * PAGE; }
static void allow(const null_range *r, int how) { mprotect((void *)r->at, whole_pages(r->bytes), how); }

static null_range *add_range(uint64_t bytes, int device, bool host) {
  if (!base) base = mmap(NULL, RESERVED, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED || next + whole_pages(bytes) + GAP > RESERVED) return NULL;
  if ((n_ranges & (n_ranges + 1)) == 0) {
    ranges = realloc(ranges, (2 * n_ranges + 2) * sizeof *ranges);
    living = realloc(living, (2 * n_ranges + 2) * sizeof *living);
  }
  null_range *r = calloc(1, sizeof *r);
  if (!r || !ranges || !living) abort();
  *r = (null_range){.at = (uint64_t)(uintptr_t)base + next + GAP, .bytes = bytes, .device = device, .host = host, .live = true};
  next += GAP + whole_pages(bytes);
  living[n_living++] = r;
  return ranges[n_ranges++] = r;
}

int memory_new(uint64_t bytes, bool host, uint64_t *out) {
  int device = null_device();
  if (bytes == 0) return null_finding("0 bytes are allocated"), INVALID_VALUE;
  if (!host && (bytes > null_set.memory || used[device] > null_set.memory - bytes)) return OUT_OF_MEMORY;
  null_range *r = bytes < RESERVED / 2 ? add_range(bytes, device, host) : NULL;
  if (!r) return OUT_OF_MEMORY;
  allow(r, PROT_READ | PROT_WRITE);
  memset((void *)r->at, POISON, whole_pages(bytes) < POISONED ? whole_pages(bytes) : POISONED);
  if (!host) {
    r->last = calloc(bytes / PIECE + 1, sizeof *r->last);
    if (!r->last) abort();
    if (!opened) allow(r, PROT_NONE);
    used[device] += bytes;
  }
  *out = r->at;
  return OK;
}

null_range *memory_find(uint64_t at) {
  uint32_t lo = 0, hi = n_ranges;
  if (cached < n_ranges && at - ranges[cached]->at < ranges[cached]->bytes) return ranges[cached];
  while (lo < hi) {
    uint32_t mid = (lo + hi) / 2;
    if (ranges[mid]->at <= at) lo = mid + 1;
    else
      hi = mid;
  }
  if (lo == 0 || at - ranges[lo - 1]->at >= ranges[lo - 1]->bytes) return NULL;
  cached = lo - 1;
  return ranges[cached];
}

static void check_end(const null_range *r) { // behind the last byte, where no page protects
  const uint8_t *p = (const uint8_t *)r->at;
  allow(r, PROT_READ | PROT_WRITE);
  for (uint64_t i = r->bytes; i < whole_pages(r->bytes) && r->bytes < POISONED; i++) {
    if (p[i] == POISON) continue;
    null_finding("byte %llu behind an allocation of %llu was written", (unsigned long long)(i - r->bytes),
                 (unsigned long long)r->bytes);
    break;
  }
}

// What may be freed; NULL and a finding.
static null_range *freeable(uint64_t at, bool host) {
  null_range *r = memory_find(at);
  const char *what = host ? "pinned host memory" : "device memory";
  if (!r || r->at != at || host != r->host) return null_finding("%llx is no %s", (unsigned long long)at, what), NULL;
  if (!r->live || r->leaving) return null_finding("%s is freed twice", what), NULL;
  if (!host && r->device != null_device() && null_device() >= 0)
    null_finding("memory of device %d is freed in the context of %d", r->device, null_device());
  return r;
}

int memory_drop(uint64_t at, bool host) {
  null_range *r = freeable(at, host);
  unsigned stream;
  if (!r) return INVALID_VALUE;
  if ((host || r->ordered) && work_uses(at, r->bytes, &stream))
    null_finding("%s of %llu bytes is freed while work of stream %u uses it", host ? "pinned host memory" : "memory of a pool",
                 (unsigned long long)r->bytes, stream);
  if (work_uses(at, r->bytes, &stream)) work_finish(); // drivers wait
  memory_end(at);
  return OK;
}

void memory_end(uint64_t at) {
  null_range *r = memory_find(at);
  check_end(r);
  r->live = false;
  for (uint32_t i = 0; i < n_living; i++)
    if (living[i] == r) living[i--] = living[--n_living];
  madvise((void *)r->at, whole_pages(r->bytes), MADV_DONTNEED);
  allow(r, PROT_NONE);
  if (!r->host) used[r->device] -= r->bytes;
  free(r->last), r->last = NULL;
}

int memory_check(uint64_t at, uint64_t bytes, int device, const char *what) {
  const null_range *r = memory_find(at);
  const char *side = device >= 0 ? "device memory" : "host memory";
  if (!r && device < 0) return OK; // pageable
  if (r && r->live && r->host == (device < 0) && (r->host || r->device == device) && bytes <= r->bytes - (at - r->at))
    return OK;
  if (!r) null_finding("%s: %llx is no device memory", what, (unsigned long long)at);
  else if (!r->live)
    null_finding("%s: the %s is freed", what, side);
  else if (r->host != (device < 0))
    null_finding("%s: host and device memory are mixed up", what);
  else if (!r->host && r->device != device)
    null_finding("%s: memory of device %d with work of device %d", what, r->device, device);
  else
    null_finding("%s: %llu bytes from byte %llu of %llu in %s", what, (unsigned long long)bytes,
                 (unsigned long long)(at - r->at), (unsigned long long)r->bytes, side);
  return INVALID_VALUE;
}

bool memory_is_pinned(const void *p, uint64_t bytes) {
  const null_range *r = memory_find((uint64_t)(uintptr_t)p);
  return r && r->live && r->host && bytes <= r->bytes - ((uint64_t)(uintptr_t)p - r->at);
}

// ---- who touches it ----
static void tell_race(uint32_t before, bool write, bool wrote, const null_range *r, uint64_t piece) {
  static uint32_t told[2];
  if (told[0] == before && told[1] == work_now.id) return; // many pieces, one fault
  told[0] = before, told[1] = work_now.id;
  null_finding("work %u of stream %u %s bytes %llu.. of an allocation of %llu that work %u of another stream %s, and "
               "nothing orders them",
               work_now.id, work_now.stream->object.number, write ? "writes" : "reads",
               (unsigned long long)(piece * PIECE), (unsigned long long)r->bytes, before, wrote ? "writes" : "reads");
}

static void touch(null_access *a, bool write, const null_range *r, uint64_t piece) {
  if (!work_ordered(a->writer, work_now.id)) tell_race(a->writer, write, true, r, piece);
  else if (write && !work_ordered(a->reader, work_now.id))
    tell_race(a->reader, write, false, r, piece);
  *(write ? &a->writer : &a->reader) = work_now.id;
}

void memory_touch(uint64_t at, uint64_t bytes, bool write) {
  null_range *r = memory_find(at);
  if (!r || !r->last || bytes == 0) return;
  for (uint64_t i = (at - r->at) / PIECE; i <= (at - r->at + bytes - 1) / PIECE; i++)
    if ((write ? r->last[i].writer : r->last[i].reader) != work_now.id) touch(&r->last[i], write, r, i);
}

const char *memory_kernel_access(const void *p, uint64_t bytes, bool write) {
  static char text[200];
  uint64_t at = (uint64_t)(uintptr_t)p;
  null_range *r = memory_find(at);
  if (r && r->live && (r->host || r->device == work_now.stream->object.device) && bytes <= r->bytes - (at - r->at)) {
    memory_touch(at, bytes, write);
    return NULL;
  }
  snprintf(text, sizeof text, "%s %llu bytes at %p, %s", write ? "writes" : "reads", (unsigned long long)bytes, p,
           !r         ? "which is no memory of the device"
           : !r->live ? "which is freed"
                      : "across the end of an allocation or on another device");
  return text;
}

static void allow_all(bool open) {
  if (opened == open) return;
  for (uint32_t i = 0; i < n_living; i++)
    if (!living[i]->host) allow(living[i], open ? PROT_READ | PROT_WRITE : PROT_NONE);
  opened = open;
}

void memory_open(void) { allow_all(true); }
void memory_close(void) { allow_all(false); }

// ---- what is left ----
int memory_live(int device, bool tell) {
  int n = 0;
  for (uint32_t i = 0; i < n_living; i++) {
    const null_range *r = living[i];
    if (r->leaving || r->device != device) continue;
    n++;
    if (tell)
      null_finding("%llu bytes of %s are not freed", (unsigned long long)r->bytes,
                   r->host ? "pinned host memory" : "device memory");
  }
  return n;
}

int null_alloc(uint64_t *out, size_t bytes) {
  int rc = null_enter(N_alloc, IN_CONTEXT | NOT_IN_CAPTURE, NULL, "%zu", bytes);
  if (!rc) rc = memory_new(bytes, false, out);
  return null_leave(rc);
}

// After an error the memory counts as freed: the caller did what it could.
int null_free(uint64_t address) {
  int rc = null_enter(N_free, IN_CONTEXT | NOT_IN_CAPTURE, NULL, "%llx", (unsigned long long)address),
      own = memory_drop(address, false);
  return null_leave(rc ? rc : own);
}

// There for work that is queued in the stream from now on; what is on its way out makes room.
int null_alloc_ordered(uint64_t *out, size_t bytes, void *stream) {
  int rc = null_enter(N_alloc_ordered, IN_CONTEXT | NOT_IN_CAPTURE, stream, "%zu", bytes);
  if (rc) return null_leave(rc);
  rc = memory_new(bytes, false, out);
  if (rc == OUT_OF_MEMORY) work_finish(), rc = memory_new(bytes, false, out);
  if (!rc) memory_find(*out)->ordered = true, rc = work_add(stream, (null_work){.kind = BEGIN, .to = *out, .bytes = bytes});
  return null_leave(rc);
}

int null_free_ordered(uint64_t address, void *stream) {
  int rc = null_enter(N_free_ordered, IN_CONTEXT | NOT_IN_CAPTURE, stream, "%llx", (unsigned long long)address);
  null_range *r = freeable(address, false);
  if (r) r->leaving = true; // after an error too: the caller did what it could
  if (rc || !r) return null_leave(rc ? rc : INVALID_VALUE);
  return null_leave(work_add(stream, (null_work){.kind = END, .to = address, .bytes = r->bytes}));
}

int null_host_alloc(void **out, size_t bytes, unsigned flags) {
  int rc = null_enter(N_host_alloc, IN_CONTEXT | NOT_IN_CAPTURE, NULL, "%zu, %u", bytes, flags);
  uint64_t at = 0;
  if (!rc) rc = memory_new(bytes, true, &at);
  if (!rc) *out = (void *)(uintptr_t)at;
  return null_leave(rc);
}

int null_host_free(void *p) {
  int rc = null_enter(N_host_free, IN_CONTEXT | NOT_IN_CAPTURE, NULL, "%p", p),
      own = memory_drop((uint64_t)(uintptr_t)p, true);
  return null_leave(rc ? rc : own);
}
