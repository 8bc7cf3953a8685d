// Memory of one GPU that another one reaches without the host.
#pragma once
#include "runtime/cuda/session.h"

// Whether `from` can read and write the memory of `to`, which is made possible where the driver offers it.
sard_status *sd_cu_reach(const sd_cu_device *from, const sd_cu_device *to, bool *out);

// Behind all that is queued in the session: copies a tensor of another GPU into one of the session's. The host does not
// wait.
sard_status *sd_cu_bring(sard_session *s, const sard_tensor *from, sard_tensor *to);
// An event, made where *event is NULL, behind all that is queued in the session; freed by sd_cu_forget.
sard_status *sd_cu_mark(sard_session *s, void **event);
void sd_cu_forget(sard_session *s, void **event);
// What is queued in the session from now on waits for an event of any GPU; NULL: for nothing.
sard_status *sd_cu_after(sard_session *s, void *event);
// Returns when all that is queued is done; errors of the kernels of runs that did not wait.
sard_status *sd_cu_settle(sard_session *s);
