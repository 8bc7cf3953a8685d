// Sizes of a module's main graph that have names: where each comes from, and which nodes need it.
#pragma once
#include "ir/graph.h"

typedef struct sd_symbol {
  sd_dim dim;
  sd_value *input;      // an input of the model that has it as a whole dim; NULL: a node makes it
  bool known;           // some node has it; else `first` and `last` are not set
  uint32_t first, last; // nodes that have it, by number: the first one makes it
  sd_value *shown;      // the first result outside of bodies with such a dim; NULL: there is none
  uint32_t shown_at;    // its node
} sd_symbol;
typedef struct sd_symbols {
  const sd_module *m;
  sd_symbol *at;
  uint32_t n;
  const uint32_t *index; // by dim handle: number + 1
  uint32_t cap;
} sd_symbols;

void sd_symbols_find(sd_module *m, sd_arena *a, sd_symbols *out);
// Sets set[i] for the symbols of the node, its operands, results and bodies; of a value.
void sd_symbols_of(const sd_symbols *s, const sd_node *n, bool *set);
void sd_symbols_of_value(const sd_symbols *s, const sd_value *v, bool *set);
