#include "runtime/cuda/entries.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

bool sd_cu_entries_find(void *library, const sd_cu_entry *entries, size_t n, const char *name, void *api, char *why, size_t room) {
  for (size_t i = 0; i < n; i++) {
    void *p = dlsym(library, entries[i].name);
    if (!p) return snprintf(why, room, "%s has no %s", name, entries[i].name), false;
    memcpy((char *)api + entries[i].at, &p, sizeof p);
  }
  return true;
}
