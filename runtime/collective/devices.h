// The devices of a model that several share, as the options "devices" and "split" name them.
#pragma once
#include "runtime/options.h"

// SD_MICRO_EACH: parts of a batch for each part of a model, where the option does not tell.
enum { SD_DEVICES_MOST = 64, SD_MICRO_MOST = 4096, SD_MICRO_EACH = 4, SD_BATCH_MOST = 1 << 20 };
// The numbers stand in artifacts.
typedef enum sd_split_kind {
  SD_SPLIT_BATCH = 1, // each device runs the model on a part of the batch
  SD_SPLIT_LAYER = 2, // each device has a part of the nodes; what one makes the next ones read
  SD_SPLIT_TENSOR = 3, // each device has all nodes, and a part of their tensors; they exchange what others need
  SD_SPLIT_AUTO = 7,  // of an option only: whichever is predicted to be the fastest that fits
} sd_split_kind;
typedef enum sd_costs_kind {
  SD_COSTS_USUAL, // measured where this machine can run the code, else estimated
  SD_COSTS_MEASURED,
  SD_COSTS_ESTIMATED,
} sd_costs_kind;
// cpu:K or cuda:K
typedef struct sd_place {
  bool cuda;
  int number;
} sd_place;
typedef struct sd_devices {
  int n; // 0: the option is not given
  sd_place at[SD_DEVICES_MOST];
  bool mpi;                 // "mpi": each device is a process, this one is `rank` of `ranks`; n is 0
  int rank, ranks;
  sd_split_kind split;      // 0: the option is not given, as a compiled model in parts says it itself
  uint64_t memory[SD_DEVICES_MOST]; // option "device-memory": bytes of each, 0: no limit
  sd_costs_kind costs;              // option "costs"
  int n_cuts;                       // option "cuts": n - 1 nodes, or 0
  uint32_t cuts[SD_DEVICES_MOST];
  uint32_t batch; // option "batch": elements that the ways are predicted for, 0: the option is not given
} sd_devices;

enum { SD_PLACE_TEXT = 16 };
const char *sd_place_text(sd_place p, char out[SD_PLACE_TEXT]); // "cuda:1", in out
bool sd_devices_cuda(const sd_devices *d);                      // one of them is a GPU
bool sd_devices_mixed(const sd_devices *d);                     // and another one is none
uint64_t sd_devices_least_memory(const sd_devices *d);          // of the device that has least; 0: no limit
const char *sd_split_name(sd_split_kind k); // "batch"; NULL: there is no such way
bool sd_split_in_parts(sd_split_kind k); // the model is compiled in parts, one for each device; auto: perhaps
// Reads the options. SARD_E_USAGE: a text that names no device, or one twice; options that exclude each
// other. SARD_E_DEVICE: there can be no such device; whether a GPU is there is asked when a model is placed.
sard_status *sd_devices_read(const sard_options *o, sd_devices *out);
