// What emitted CUDA C needs to be compiled as C++ and run by tests/cuda/model.c. Stands before the prelude of
// the kernels.
#pragma once
#define _GLIBCXX_INCLUDE_NEXT_C_HEADERS // C's math.h alone: that of libstdc++ takes 0.3 s of each compilation
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
// Vectors are accesses of up to 16 bytes.
template <int N, class T> static inline bool host_vector(const T *p, long long i, bool write) {
  const int bytes = N * (int)sizeof(T), part = bytes < 16 ? bytes : 16;
  for (int at = 0; at < bytes; at += part)
    if (!model_touch(p, i * (long long)sizeof(T) + at, part, write)) return false;
  return true;
}
template <int N, class T> static inline void sd_load_vector(T *to, const T *p, long long i) {
  const bool ok = host_vector<N>(p, i, false);
  for (int j = 0; j < N; j++) to[j] = ok ? p[i + j] : T();
}
template <int N, class T> static inline void sd_store_vector(T *p, long long i, const T *from) {
  const bool ok = host_vector<N>(p, i, true);
  for (int j = 0; ok && j < N; j++) p[i + j] = from[j];
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
#include "tests/cuda/host_wgmma.h"
