// What the stand-ins of libraries beside the driver share: calls that are counted and ordered to fail, and
// the driver's own symbols.
#pragma once
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STAND_IN_ENTRIES = 64 };
static struct {
  const char *name;
  long calls;
} stand_in_entries[STAND_IN_ENTRIES];
static pthread_mutex_t stand_in_lock = PTHREAD_MUTEX_INITIALIZER;

static inline void *stand_in_driver(const char *symbol) {
  void *library = dlopen(getenv("SARD_CUDA"), RTLD_NOW);
  return library ? dlsym(library, symbol) : NULL;
}

// Counts the call; the error that is ordered for it by environment (`variable`: name:k:code,...), else 0.
static inline int stand_in_called(const char *name, const char *variable) {
  int i = 0, code = 0;
  pthread_mutex_lock(&stand_in_lock);
  while (stand_in_entries[i].name && strcmp(stand_in_entries[i].name, name)) i++;
  stand_in_entries[i].name = name, stand_in_entries[i].calls++;
  for (const char *p = getenv(variable); p && *p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL) {
    char of[64];
    long at;
    int error;
    if (sscanf(p, "%63[^:]:%ld:%d", of, &at, &error) == 3 && !strcmp(of, name) &&
        at == stand_in_entries[i].calls)
      code = error;
  }
  pthread_mutex_unlock(&stand_in_lock);
  return code;
}

// How often each was called, into the file that the environment names.
static inline void stand_in_counts(const char *variable) {
  const char *path = getenv(variable);
  FILE *f = path ? fopen(path, "w") : NULL;
  for (int i = 0; f && i < STAND_IN_ENTRIES && stand_in_entries[i].name; i++)
    fprintf(f, "%s %ld\n", stand_in_entries[i].name, stand_in_entries[i].calls);
  if (f) fclose(f);
}
