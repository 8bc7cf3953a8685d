// Shared by the files of the executor.
#pragma once
#include "runtime/session.h"

// Sizes and buffers of a step that uses late ones. `first`: buffers before that one are left as they are.
sard_status *sd_execute_prepare(sard_session *s, uint32_t step, uint32_t first);
// A kernel of the step met an index out of range.
sard_status *sd_execute_index_error(const sd_art *a, uint32_t step);
// Runs a HOST step: its tensors from the dims list, its results into buffers (runtime/execute_host.c).
sard_status *sd_execute_host(sard_session *s, uint32_t step, bool pooled);
