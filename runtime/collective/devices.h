// The devices of a model that several share, as the options "devices" and "split" name them.
#pragma once
#include "runtime/options.h"

enum { SD_DEVICES_MOST = 64 };
typedef enum sd_split_kind { SD_SPLIT_BATCH = 1 } sd_split_kind;
typedef struct sd_devices {
  int n;                    // 0: the option is not given
  int cpu[SD_DEVICES_MOST]; // their numbers: K of cpu:K
  sd_split_kind split;
} sd_devices;

// Reads the options. SARD_E_USAGE: a text that names no device, or one twice; options that exclude each
// other. SARD_E_DEVICE: there is no such device. SARD_E_UNSUPPORTED: it is known, but models cannot be split
// so.
sard_status *sd_devices_read(const sard_options *o, sd_devices *out);
