// Files: read-only maps and atomic writes.
#pragma once
#include "runtime/base/status.h"

typedef struct sd_map {
  const uint8_t *data; // NULL when the file is empty
  uint64_t size;
} sd_map;

// Maps a regular file read-only; at least 64 bytes behind the contents can be read as well. The caller unmaps with
// sd_file_unmap.
sard_status *sd_file_map(const char *path, sd_map *out);
// The same of a file that is open (it may be closed then); `path` is for messages.
sard_status *sd_file_map_open(int fd, const char *path, sd_map *out);
void sd_file_unmap(sd_map *m);

// Writes to `path`.tmp.<pid> and renames: a reader sees the old file or the new one, never a part. Pieces in order.
typedef struct sd_piece { const void *data; uint64_t size; } sd_piece;
sard_status *sd_file_write(const char *path, const sd_piece *pieces, size_t n);
// The same for what can be made again: a regular file, which is not on the disk yet on return.
sard_status *sd_file_put(const char *path, const sd_piece *pieces, size_t n);
