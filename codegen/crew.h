// Threads that take numbered jobs from a list.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

#define SD_CREW_MOST 64 // threads

// Runs job(user, i) for i in [0, n), each once, by at most `threads` threads with stacks of `stack` bytes (0: as usual); the
// calling thread does them where no other starts. errors[i] is what job i gives, NULL at first; after an error further jobs
// are not begun. Returns the first error in the order of the jobs and frees the others; `which` (NULL ok) is its job.
sard_status *sd_crew_run(uint32_t n, int threads, size_t stack, sard_status *(*job)(void *user, uint32_t i), void *user,
                         sard_status **errors, uint32_t *which);
