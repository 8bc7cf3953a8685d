// Hash table from names to pointers, in an arena. Keys are not copied: they must live as long as the table.
#pragma once
#include <stdbool.h>

#include "runtime/base/arena.h"

typedef struct sd_names {
  sd_arena *arena;
  uint64_t seed; // differs from run to run, so that a file cannot be made to collide
  struct sd_names_entry *at;
  uint32_t len, cap;
} sd_names;

void sd_names_init(sd_names *t, sd_arena *a);
void *sd_names_get(const sd_names *t, const char *key); // NULL when absent
// Adds; returns false and keeps the old pointer when the key is there. `value` must not be NULL.
bool sd_names_add(sd_names *t, const char *key, void *value);
void sd_names_set(sd_names *t, const char *key, void *value); // adds or replaces
