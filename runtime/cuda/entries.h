// Entry points of a library that is there at the run only: names, and where each goes in a struct of functions.
#pragma once
#include <stdbool.h>
#include <stddef.h>

typedef struct sd_cu_entry {
  const char *name;
  size_t at; // offset of its field
} sd_cu_entry;

// Fills the fields of `api`. False: `why`, of `room` bytes, tells which one the library, called `name`, does not have.
bool sd_cu_entries_find(void *library, const sd_cu_entry *entries, size_t n, const char *name, void *api, char *why, size_t room);
