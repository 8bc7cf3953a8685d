// The folder of the compile cache and the small files in it.
//
//   key                 the secret of the digests; made once, at random
//   <digest>.sard       an artifact, named by all that its code depends on
//   <digest>.ok         record of it: identity and digest of the artifact, and the report of its compilation
//   <digest>.in         record of the files of a model: identities and digests; named by the model's device and inode
//   <digest>.names      record of the names of its external data; named by the model's digest
//   <digest>.tune       record of schedules that were measured for it; named by the model's digest and the number of
//   threads
//
// Records carry a digest of their own, and the boot that they were made in: numbers of devices begin anew with each.
#pragma once
#include "frontend/driver/identity.h"
#include "runtime/base/arena.h"

enum { SD_CACHE_BOOT = 40 };
typedef struct sd_cache_folder {
  const char *path;
  char boot[SD_CACHE_BOOT];
  sd_digest_key key;
} sd_cache_folder;

// The folder that the option "cache", SARD_CACHE or the user's cache folder name; NULL: the cache is off.
const char *sd_cache_folder_path(sd_arena *a, const char *option);
// Makes the folder and its key where they are not there. False: *why tells what is wrong, in the arena.
bool sd_cache_folder_open(sd_arena *a, const char *path, sd_cache_folder *out, const char **why);
const char *sd_cache_file(sd_arena *a, const sd_cache_folder *f, sd_digest name, const char *kind); // its path

typedef struct sd_cache_item {
  sd_identity id;
  sd_digest digest;
  const char *name;
} sd_cache_item;
typedef struct sd_cache_record {
  sd_cache_item *at;
  uint32_t n;
  const char *text; // "" where there is none
  bool this_boot;
} sd_cache_record;
// False where there is none that is whole. Of all but "in" the time moves: it is in use.
bool sd_cache_record_read(sd_arena *a, const sd_cache_folder *f, sd_digest name, const char *kind,
                          sd_cache_record *out);
bool sd_cache_record_write(sd_arena *a, const sd_cache_folder *f, sd_digest name, const char *kind,
                           const sd_cache_record *r);

// ---- cache_room.c ----
// Removes files of the cache, those not used for longest first, until they take at most `most` bytes on the disk.
void sd_cache_room(sd_arena *a, const sd_cache_folder *f, uint64_t most);
typedef struct sd_cache_use {
  uint32_t artifacts;
  uint64_t bytes;
} sd_cache_use;
sd_cache_use sd_cache_count(sd_arena *a, const char *path);
