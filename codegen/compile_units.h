// Compiles distinct kernels in parallel. Kernels travel as text, so that every thread has tables of its own.
#pragma once
#include "codegen/codegen.h"
#include "codegen/kernel_store.h"

typedef struct sd_unit {
  const char *text;     // scheduled kernel
  const char *symbol;   // name in messages and reports
  const char *schedule; // in words (describe.h)
  // results, owned by the arena given to sd_units_compile
  const void *object;
  uint64_t object_bytes;
  uint32_t n_dims;
  sd_dim *dims;         // in the table given
  sd_dim tiles, scratch;
} sd_unit;

sard_status *sd_units_compile(sd_arena *a, sd_dimtab *dims, sd_unit *units, uint32_t n, const sd_isa *isa, int opt, int threads);

// Kernels are looked for in the store, and kept there, from now on; of the process, before any thread compiles. NULL: nowhere.
void sd_units_keep(sd_kernel_store *s);
