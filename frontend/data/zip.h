// The members of a zip archive, as numpy writes them: stored or deflated, zip64 where they are large.
#pragma once
#include "frontend/data/bytes.h"
#include "runtime/base/arena.h"

typedef struct sd_zip_member {
  const char *name;
  sd_bytes_part part; // what: "ARCHIVE: NAME"
} sd_zip_member;
typedef SD_VEC(sd_zip_member) sd_zip_members;

// Reads the directory of an open file. Names and texts live in `a`. SARD_E_MODEL where it is damaged,
// SARD_E_UNSUPPORTED for encrypted or otherwise compressed members.
sard_status *sd_zip_list(sd_arena *a, int fd, const char *path, sd_zip_members *out);
