// Loads machine code: relocatable ELF objects of kernels into one executable mapping.
#pragma once
#include "runtime/base/status.h"

typedef struct sd_code_object {
  const void *data; // relocatable ELF object, untrusted
  uint64_t size;
  const char *name;   // for messages
  void *entry;        // result: address of its global function
} sd_code_object;
typedef struct sd_code {
  void *base; // mapping, NULL when there is no code
  size_t size;
} sd_code;

// Maps all objects and sets their entry. Objects of the architecture of this process only. SARD_E_MODEL names object
// and reason: bad offset, undefined symbol, unknown relocation, writable data.
sard_status *sd_code_load(sd_code_object *objects, size_t n, sd_code *out);
void sd_code_unload(sd_code *c);
// The checks of sd_code_load without running anything; any architecture. The compiler uses it on what it made.
sard_status *sd_code_check(const void *object, size_t size, const char *name);
