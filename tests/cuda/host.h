// What emitted CUDA C needs to be compiled as C++ and run by tests/cuda/model.c. Stands before the prelude of
// the kernels.
#pragma once
#include <math.h>
#include <string.h>

#include "tests/cuda/model.h"

#define SD_HOST 1
#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __syncthreads() model_barrier(__LINE__)

template <class T> static inline T host_load(const T *p, long long i) {
  return model_access(p, i, sizeof(T), false) ? p[i] : T();
}
template <class T, class V> static inline void host_store(T *p, long long i, V v) {
  if (model_access(p, i, sizeof(T), true)) p[i] = v;
}
#define SD_LD(p, i)                  host_load((p), (long long)(i))
#define SD_ST(p, i, v)               host_store((p), (long long)(i), (v))
#define SD_SHARED(type, name, count) type *const name = (type *)model_shared(sizeof(type) * (count))
// Each thread owns its bits: no order is needed. The word may reach beyond the buffer, whose memory is
// longer.
#define SD_ATOMIC_AND(p, v) (*(p) &= (v))
#define SD_ATOMIC_OR(p, v)  (*(p) |= (v))

template <class T> static inline T host_shuffle(T x, int mask, int line) {
  uint64_t bits = 0;
  memcpy(&bits, &x, sizeof x);
  bits = model_shuffle(bits, mask, line);
  memcpy(&x, &bits, sizeof x);
  return x;
}
#define __shfl_xor_sync(members, x, mask) host_shuffle((x), (mask), __LINE__)

#include "tests/cuda/host_mma.h"
