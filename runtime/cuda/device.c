#include "runtime/cuda/device.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/alloc.h"

enum { PROCESSORS = 16, MAJOR = 75, MINOR = 76, MOST_SHARED = 97, MEMORY_POOLS = 115 }; // attributes, numbers of cuda.h

sard_status *sd_cu_parse(const char *text, int *ordinal) {
  char *end = NULL;
  *ordinal = -1;
  if (!text || strcmp(text, "cpu") == 0) return NULL;
  if (strcmp(text, "cuda") == 0) {
    *ordinal = 0;
    return NULL;
  }
  long n = strncmp(text, "cuda:", 5) == 0 && text[5] >= '0' && text[5] <= '9' ? strtol(text + 5, &end, 10) : -1;
  if (n < 0 || *end || n > 1024) return SD_ERR(USAGE, "there is no device '%s' (known: cpu, cuda, cuda:0, cuda:1, ...)", text);
  *ordinal = (int)n;
  return NULL;
}

static sard_status *choose(sd_cu_device *d) {
  const sd_cu_api *f = d->api;
  int n = 0;
  SD_TRY(sd_cu_check(f, f->device_count(&n), "counting CUDA devices"));
  if (n == 0) return SD_ERR(DEVICE, "the CUDA driver (%d.%d) finds no device", f->version / 1000, f->version % 1000 / 10);
  if (d->ordinal >= n) return SD_ERR(DEVICE, "there is no device cuda:%d: the driver finds %d", d->ordinal, n);
  return sd_cu_check(f, f->device_get(&d->handle, d->ordinal), "finding the CUDA device");
}

static sard_status *attribute(const sd_cu_device *d, int which, int *out) {
  return sd_cu_check(d->api, d->api->device_attribute(out, which, d->handle), "asking for an attribute of the CUDA device");
}

static sard_status *describe(sd_cu_device *d) {
  size_t memory = 0;
  SD_TRY(attribute(d, MAJOR, &d->major));
  SD_TRY(attribute(d, MINOR, &d->minor));
  SD_TRY(attribute(d, PROCESSORS, &d->processors));
  SD_TRY(attribute(d, MOST_SHARED, &d->most_shared));
  SD_TRY(attribute(d, MEMORY_POOLS, &d->pools));
  SD_TRY(sd_cu_check(d->api, d->api->device_memory(&memory, d->handle), "asking for the memory of the CUDA device"));
  d->memory = memory;
  return sd_cu_check(d->api, d->api->device_name(d->name, sizeof d->name - 1, d->handle), "asking for the name of the CUDA device");
}

static sard_status *open_device(sd_cu_device *d) {
  SD_TRY(sd_cu_api_open(&d->api));
  SD_TRY(choose(d));
  SD_TRY(describe(d));
  SD_TRY(sd_cu_check(d->api, d->api->context_retain(&d->context, d->handle), "opening the CUDA device"));
  return NULL;
}

sard_status *sd_cu_device_open(int ordinal, sd_cu_device **out) {
  sd_cu_device *d = sd_calloc(1, sizeof *d);
  *out = NULL;
  if (!d) return SD_ERR(NOMEM, "out of memory while opening a device");
  d->ordinal = ordinal;
  sard_status *st = open_device(d);
  if (st) sd_free(d);
  else *out = d;
  return st;
}

void sd_cu_device_close(sd_cu_device *d) {
  if (!d) return;
  if (d->context) d->api->context_release(d->handle);
  sd_free(d);
}

sard_status *sd_cu_enter(const sd_cu_device *d) {
  return sd_cu_check(d->api, d->api->context_set(d->context), "entering the CUDA device");
}

void sd_cu_return(const sd_cu_device *d) {
  if (d->api->context_set(d->context) != 0) d->api->context_set(d->context);
}

static sard_status *check_alloc(const sd_cu_device *d, int code, uint64_t bytes) {
  return sd_status_context(sd_cu_check(d->api, code, "allocating"), "%llu bytes on cuda:%d", (unsigned long long)bytes, d->ordinal);
}

sard_status *sd_cu_alloc(const sd_cu_device *d, uint64_t bytes, uint64_t *out) {
  *out = 0;
  if (bytes == 0) return NULL;
  SD_TRY(sd_cu_enter(d));
  return check_alloc(d, d->api->alloc(out, bytes), bytes);
}

void sd_cu_free(const sd_cu_device *d, uint64_t address) {
  if (!address) return;
  sd_cu_return(d);
  d->api->free(address); // after an error of the device every call fails: nothing is left to be done about it
}

static int give(const sd_cu_device *d, void *stream, uint64_t *at, uint64_t *room) {
  int code = !*room ? 0 : d->pools ? d->api->free_ordered(*at, stream) : d->api->free(*at);
  *at = *room = 0;
  return code;
}

void sd_cu_give(const sd_cu_device *d, void *stream, uint64_t *at, uint64_t *room) {
  give(d, stream, at, room); // as in sd_cu_free
}

sard_status *sd_cu_renew(const sd_cu_device *d, void *stream, uint64_t bytes, uint64_t *at, uint64_t *room) {
  SD_TRY(sd_cu_enter(d));
  SD_TRY(sd_cu_check(d->api, give(d, stream, at, room), "giving memory back"));
  SD_TRY(check_alloc(d, d->pools ? d->api->alloc_ordered(at, bytes, stream) : d->api->alloc(at, bytes), bytes));
  *room = bytes;
  return NULL;
}

// The null stream: waits for nothing of other streams, and the copy is complete when it has been waited for.
sard_status *sd_cu_write(const sd_cu_device *d, uint64_t to, const void *from, uint64_t bytes) {
  if (bytes == 0) return NULL;
  SD_TRY(sd_cu_enter(d));
  SD_TRY(sd_cu_check(d->api, d->api->to_device(to, from, bytes, NULL), "copying to the device"));
  return sd_cu_check(d->api, d->api->stream_wait(NULL), "copying to the device");
}

sard_status *sd_cu_read(const sd_cu_device *d, void *to, uint64_t from, uint64_t bytes) {
  if (bytes == 0) return NULL;
  SD_TRY(sd_cu_enter(d));
  SD_TRY(sd_cu_check(d->api, d->api->to_host(to, from, bytes, NULL), "copying from the device"));
  return sd_cu_check(d->api, d->api->stream_wait(NULL), "copying from the device");
}

sard_status *sd_cu_move(const sd_cu_device *d, uint64_t to, uint64_t from, uint64_t bytes) {
  if (bytes == 0) return NULL;
  SD_TRY(sd_cu_enter(d));
  SD_TRY(sd_cu_check(d->api, d->api->copy(to, from, bytes, NULL), "copying on the device"));
  return sd_cu_check(d->api, d->api->stream_wait(NULL), "copying on the device");
}
