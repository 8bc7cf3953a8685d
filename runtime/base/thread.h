// Threads, locks and clocks over pthreads.
#pragma once
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

int64_t sd_now_ns(void); // monotonic
// Processors this process may use: min(affinity mask, cgroup cpu quota rounded up), at least 1.
int sd_cpu_count(void);
