// Device sets as numbers: what each device computes and moves in a second, and how they are joined. Nothing
// of it need be here.
#pragma once
#include "runtime/base/dtype.h"
#include "runtime/base/status.h"

enum { SD_MACHINE_KINDS = 16, SD_MACHINE_LEVELS = 8, SD_MACHINE_MOST = 1024 };

typedef struct sd_machine_device {
  const char *kind;
  uint32_t count;            // devices of this kind, one behind the other
  uint64_t memory;           // bytes for weights, caches and activations
  double flops[SD_DT_COUNT]; // operations a second by element type, 0: not given
  double bandwidth;          // bytes a second, of its memory
  double launch;             // seconds that a kernel takes beside what it computes and moves
  double compute, moving;    // shares of flops and bandwidth that kernels reach
} sd_machine_device;

// Groups of so many devices in a row are joined by links of this level; those of the level before lie inside.
typedef struct sd_machine_level {
  const char *name;
  uint32_t devices;
  double bandwidth; // bytes a second that a device sends, while it receives as many
  double latency;   // seconds from one device to another
  double start;     // seconds in front of each exchange
} sd_machine_level;

typedef struct sd_machine {
  sd_machine_device kinds[SD_MACHINE_KINDS];
  uint32_t n_kinds;
  sd_machine_level levels[SD_MACHINE_LEVELS];
  uint32_t n_levels;
  uint32_t count; // of all devices
} sd_machine;

typedef enum sd_exchange { SD_EXCHANGE_REDUCE, SD_EXCHANGE_GATHER } sd_exchange;

// The device that a group of devices is as fast as: of each figure the worst of those from `first` on.
sd_machine_device sd_machine_worst(const sd_machine *m, uint32_t first, uint32_t n);
// Operations a second of element type t that kernels reach; types that are not given count as the next wider
// one that is.
double sd_machine_flops(const sd_machine_device *d, sd_dtype t);
// Seconds until n devices in a row, the first at a multiple of n, have the sum of `bytes` of each (REDUCE) or
// the `bytes` that they have shares of (GATHER), and the bytes that each sends meanwhile. Inner levels reduce
// and gather for the outer ones; of a ring, a tree and, on the first level, all to all, the fastest counts.
double sd_machine_exchange(const sd_machine *m, sd_exchange what, uint32_t n, double bytes, double *sent);
// Seconds from device a to device b.
double sd_machine_send(const sd_machine *m, uint32_t a, uint32_t b, double bytes);
