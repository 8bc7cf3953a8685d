// CUDA devices: a context, its memory, and tensors that lie there.
#pragma once
#include <stdatomic.h>

#include "runtime/cuda/api.h"

typedef struct sd_cu_device {
  const sd_cu_api *api;
  int ordinal, handle;
  int major, minor;  // compute capability
  int processors;    // streaming multiprocessors
  int most_shared;   // bytes of shared memory that a block can have
  uint64_t memory;   // bytes in all
  int pools;         // memory can be had and given in the order of a stream
  char name[128];
  void *context;     // the primary one
} sd_cu_device;

// "cpu" (ordinal -1), "cuda" (0) or "cuda:K"; SARD_E_USAGE for another text.
sard_status *sd_cu_parse(const char *text, int *ordinal);

// Retains the primary context of a device. SARD_E_DEVICE where there is none such.
sard_status *sd_cu_device_open(int ordinal, sd_cu_device **out);
void sd_cu_device_close(sd_cu_device *d); // NULL ok

// Makes the device's context that of the calling thread; to be called before anything else is done with the device.
sard_status *sd_cu_enter(const sd_cu_device *d);
// The same to give something back: where the call tells an error of earlier work it is made again.
void sd_cu_return(const sd_cu_device *d);
// `bytes` of device memory, 256-byte aligned; 0 bytes give address 0.
sard_status *sd_cu_alloc(const sd_cu_device *d, uint64_t bytes, uint64_t *out);
void sd_cu_free(const sd_cu_device *d, uint64_t address); // 0 ok; waits for what uses it
// Memory for what is queued in `stream` from now on, in place of *at, of *room bytes (0: none), which is given back without a wait for
// what uses it; where the device has no pools the host waits. *at and *room are right after an error too.
sard_status *sd_cu_renew(const sd_cu_device *d, void *stream, uint64_t bytes, uint64_t *at, uint64_t *room);
// Gives such memory back when all that is queued is done. The caller has entered the device.
void sd_cu_give(const sd_cu_device *d, void *stream, uint64_t *at, uint64_t *room);
// Copies that are complete on return.
sard_status *sd_cu_write(const sd_cu_device *d, uint64_t to, const void *from, uint64_t bytes);
sard_status *sd_cu_move(const sd_cu_device *d, uint64_t to, uint64_t from, uint64_t bytes); // both on d
sard_status *sd_cu_read(const sd_cu_device *d, void *to, uint64_t from, uint64_t bytes);
