// Takes a module apart: contiguous ranges of its nodes become modules of their own.
#pragma once
#include "ir/parts.h"

// part_of[i]: the part, from 0, of node i of the main graph, never less than that of a node before it; each
// of the n parts has a node, or the graph has none. Afterwards m has inputs and outputs only, for their names
// and types. Parts share m's arena and tables and live as long as m. Values that several parts read become
// outputs of the part that makes them and inputs of the others; constants are shared; the first part has all
// inputs of the model, so that it checks them. Inputs for sizes only are added where a part needs symbols
// that nothing else of it binds. SARD_E_UNSUPPORTED: a size that one part computes is needed by another and
// no value shows it; sd_parts_bound tells before.
sard_status *sd_parts_cut(sd_module *m, const uint32_t *part_of, uint32_t n, sd_parts *out);

// Makes m its part `index`, counted from 0, of parts that have all its inputs and outputs; out->n becomes 0.
void sd_parts_take(sd_module *m, sd_parts *parts, uint32_t index);

// Sets whole[i] for each node i of the main graph where a cut behind it would be such an error.
void sd_parts_bound(sd_module *m, bool *whole, sd_arena *a);
