// Loops made by the rewrites of rows with bodies.
#pragma once
#include "ir/ops/shape.h"

// A scalar i64 as a size that the run gives: a sard.Define in front of n.
sard_status *sd_flow_size(sd_node *n, sd_value *v, sd_dim *out);
// The number of the pass as a scalar i64, at the head of body g of n.
sard_status *sd_flow_counter(sd_node *n, sd_graph *g, sd_dim counter, sd_value **out);
// A sard.For in place of n with the body of n: its inputs are the states, its outputs the next states, then what is
// stacked. n is removed, its outputs become those of the loop.
sard_status *sd_flow_for(sd_node *n, sd_value *const *states, uint32_t n_states, sd_dim trip, sd_dim counter);
