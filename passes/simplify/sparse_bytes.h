// Products of bytes with constant weights as sard.SparseBlocks: of which most blocks are 0, or of which two fit 16 bits where the
// instruction set adds pairs of products in these. The recurrent weights of a sard.LSTM8 take the tables of such pairs.
#pragma once
#include "ir/graph.h"
#include "passes/target.h"

// Replaces n, a sard.MatMul8, a sard.LSTM8 or a sard.Conv8 with channels last, where that gains; *done: it was.
sard_status *sd_sparse_bytes(sd_node *n, const sd_pass_target *target, sd_arena *scratch, bool *done);
