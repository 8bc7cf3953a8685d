// A changed model in memory: its structure as bytes of ONNX, and large data of its tensors where they lie, so that weights are there
// once however often it is opened, run or written.
#pragma once
#include "runtime/base/arena.h"
#include "runtime/base/file.h"
#include "runtime/base/status.h"

typedef struct sd_packed {
  sard_source src;        // opens it; nothing of what it lends is copied
  uint64_t size;          // as one file
  SD_VEC(sd_piece) data;  // of tensors, whose external data are named by their place here
} sd_packed;

// sard_source.read_external of such models.
sard_status *sd_packed_read(void *user, const char *location, uint64_t offset, uint64_t length, const void **out);
uint64_t sd_packed_hash(const sd_packed *p, uint64_t seed);

// What is to be written: the model, and the other file with the data of its tensors, if any.
typedef SD_VEC(sd_piece) sd_pieces;
// With `location` the data go to the other file, which has that name beside the model. SARD_E_UNSUPPORTED where the model has more
// than 2 GB, which ends what others read. The pieces live in `a` and point to what is packed.
sard_status *sd_packed_pieces(sd_arena *a, const sd_packed *p, const char *location, sd_pieces *model, sd_pieces *data);
// To `path`; beyond 2 GB, or where `apart`, the data of tensors to `path`.data. Each file is there as a whole or not at all.
sard_status *sd_packed_write(const sd_packed *p, const char *path, bool apart);
