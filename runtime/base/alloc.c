// Host memory: one door to malloc, so that tests can make any allocation fail.
#include "runtime/base/alloc.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static atomic_long fail_countdown; // 0 = off, n = the n-th allocation from now fails

// Counts one allocation; true when it is the one that has to fail. Cheap while off: one relaxed load.
bool sd_alloc_injected(void) {
  if (atomic_load_explicit(&fail_countdown, memory_order_relaxed) == 0) return false;
  long left = atomic_load(&fail_countdown);
  while (left > 0)
    if (atomic_compare_exchange_weak(&fail_countdown, &left, left - 1)) return left == 1;
  return false;
}

void sd_alloc_fail_after(long n) { atomic_store(&fail_countdown, n > 0 ? n : 0); }

void *sd_realloc(void *p, size_t size) {
  if (size == 0) {
    free(p);
    return NULL;
  }
  if (size > PTRDIFF_MAX || sd_alloc_injected()) return NULL;
  return realloc(p, size);
}

void *sd_malloc(size_t size) { return sd_realloc(NULL, size ? size : 1); }

void *sd_calloc(size_t count, size_t size) {
  uint64_t bytes;
  if (!sd_ck_mul(count, size, &bytes) || bytes > PTRDIFF_MAX || sd_alloc_injected()) return NULL;
  return calloc(bytes ? bytes : 1, 1);
}

void sd_free(void *p) { free(p); }

char *sd_strdup(const char *s) {
  size_t n = strlen(s) + 1;
  char *p = sd_malloc(n);
  if (p) memcpy(p, s, n);
  return p;
}

#define HUGE_PAGE ((size_t)2 << 20)

void *sd_alloc_aligned(size_t size) {
  bool huge = size >= 2 * HUGE_PAGE;
  size_t align = huge ? HUGE_PAGE : 64;
  void *p = NULL;
  if (size > PTRDIFF_MAX - align || sd_alloc_injected()) return NULL;
  if (posix_memalign(&p, align, size ? size : 1)) return NULL;
  // Only a hint: kernels without transparent huge pages refuse it and nothing is lost.
  if (huge) (void)madvise(p, size / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
  return p;
}

void sd_free_aligned(void *p) { free(p); }
