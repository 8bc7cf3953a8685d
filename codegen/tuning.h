// Schedules that were measured on this machine instead of being estimated (sard tune).
#pragma once
#include "codegen/codegen.h"

// What is chosen otherwise for the contractions of a kernel; 0: as estimated. Sums are added up in the same order for
// every choice, so that results keep their bits.
typedef struct sd_tuned {
  uint64_t kernel;       // digest of the kernel's text before it is scheduled
  int32_t rows, vectors; // register tile
  int32_t tiles;         // of the grid, wanted
} sd_tuned;

struct sd_tuning {
  const sd_tuned *at;
  uint32_t n;
  SD_VEC(uint64_t)
  steps; // filled by sd_codegen, in its arena: the kernel of each step of the artifact, 0 for those without
};

static inline const sd_tuned *sd_tuning_find(const sd_tuning *t, uint64_t kernel) {
  for (uint32_t i = 0; t && i < t->n; i++)
    if (t->at[i].kernel == kernel) return &t->at[i];
  return NULL;
}
