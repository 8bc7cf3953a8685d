// Turns symbolic dims of a module into the DIMS section of an artifact.
#pragma once
#include "ir/graph.h"
#include "runtime/artifact.h"

typedef SD_VEC(sard_art_dim) sd_art_dims;
typedef SD_VEC(const char *) sd_art_symbols;
typedef struct sd_dimslots {
  sd_arena *arena;
  const sd_dimtab *tab;
  sd_art_dims dims;
  sd_art_symbols symbols; // position = symbol index
  uint32_t *memo;         // slot + 1 by dim handle
  uint32_t memo_cap;
} sd_dimslots;

uint32_t sd_dimslots_get(sd_dimslots *s, sd_dim d); // slot of d (not SD_DIM_NONE)
uint32_t sd_dimslots_const(sd_dimslots *s, int64_t v);
uint32_t sd_dimslots_symbol(sd_dimslots *s, const char *name); // symbol index
