
// ---- tensor cores and asynchronous copies ----
// Positions in shared and global memory are bytes from a base, so that the tests can watch them. Fragments are those of
// PTX: lane l, g = l / 4, t = l % 4.
#ifdef SD_HOST // tests/cuda/host_mma.h
#else
// Shared memory of a launch's choosing; the bytes are sd_cuda_source.shared.
#define SD_DYNAMIC(name, bytes) extern __shared__ __align__(1024) u8 name[]
#define SD_VOLATILE asm volatile
// What follows from x is computed behind this, not kept in registers from before a loop on.
#define SD_HERE(x) SD_VOLATILE("" : "+r"(x))
SD_FN unsigned sd_shared_at(const u8 *base, int at) { return (unsigned)__cvta_generic_to_shared(base) + (unsigned)at; }

// Register i of lane l: row g of the i-th 8 x 8 matrix of 16-bit elements, columns 2t and 2t + 1. Lane l gives the position
// of row l % 8 of matrix l / 8. The form `t` reads the matrices transposed: rows 2t and 2t + 1, column g.
SD_FN void sd_ldmatrix(unsigned (&r)[4], const u8 *base, int at) {
  SD_VOLATILE("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
              : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(sd_shared_at(base, at)));
}
SD_FN void sd_ldmatrix_t(unsigned (&r)[4], const u8 *base, int at) {
  SD_VOLATILE("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
              : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(sd_shared_at(base, at)));
}

// Copies BYTES (4, 8 or 16, both positions multiples of it) to shared memory, `some` of them from global memory, the rest is
// 0; the position may be anything where none are. Other threads see them after a wait of this thread and a barrier.
template <int BYTES> SD_FN void sd_cp(u8 *to, int to_at, const void *from, i64 from_at, int some) {
  const u8 *const p = (const u8 *)from + from_at;
#if __CUDA_ARCH__ >= 800
  if constexpr (BYTES == 16)
    SD_VOLATILE("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(sd_shared_at(to, to_at)), "l"(p), "r"(some) : "memory");
  else
    SD_VOLATILE("cp.async.ca.shared.global [%0], [%1], %3, %2;" ::"r"(sd_shared_at(to, to_at)), "l"(p), "r"(some), "n"(BYTES) : "memory");
#else
  unsigned v[BYTES / 4] = {};
  if (some == BYTES) {
    if constexpr (BYTES == 16) *(uint4 *)v = *(const uint4 *)p;
    else if constexpr (BYTES == 8) *(uint2 *)v = *(const uint2 *)p;
    else v[0] = *(const unsigned *)p;
  } else {
    for (int i = 0; i < some; i++) v[i / 4] |= (unsigned)p[i] << i % 4 * 8;
  }
  for (int i = 0; i < BYTES / 4; i++) *(unsigned *)(to + to_at + i * 4) = v[i];
#endif
}
SD_FN void sd_cp_commit() { // what this thread copied since the last one becomes a group
#if __CUDA_ARCH__ >= 800
  SD_VOLATILE("cp.async.commit_group;" ::: "memory");
#endif
}
template <int N> SD_FN void sd_cp_wait() { // until at most the N youngest groups of this thread are under way
#if __CUDA_ARCH__ >= 800
  SD_VOLATILE("cp.async.wait_group %0;" ::"n"(N) : "memory");
#endif
}

// Value of x in another lane of the warp.
SD_FN unsigned sd_lane(unsigned x, int lane) { return __shfl_sync(0xffffffffu, x, lane); }

// c += a b for 16 x 8 results. c: rows g, g + 8 and columns 2t, 2t + 1. 16-bit elements, 16 steps: a, register r: row
// g + 8 (r % 2), steps 2t, 2t + 1, + 8 from r = 2 on; b, register r: column g, steps 2t, 2t + 1, + 8 r.
SD_FN void sd_mma_f16(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
#if __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(b0));
  asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[2]), "r"(a[3]), "r"(b1));
#endif
}
SD_FN void sd_mma_bf16(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
#if __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  const int l = threadIdx.x % 32, g = l / 4, t = l % 4;
#pragma unroll
  for (int up = 0; up < 2; up++) {
#pragma unroll 1 // hundreds of products in a row would take minutes to compile
    for (int q = 0; q < 4; q++) { // two steps stand in one register of lane q of a row or column
      const unsigned x0 = sd_lane(a[2 * up], g * 4 + q), x1 = sd_lane(a[2 * up + 1], g * 4 + q);
      const unsigned y0 = sd_lane(up ? b1 : b0, 8 * t + q), y1 = sd_lane(up ? b1 : b0, 8 * t + 4 + q);
#pragma unroll
      for (int h = 0; h < 2; h++) {
        const float u0 = sd_from_bf16((u16)(x0 >> 16 * h)), u1 = sd_from_bf16((u16)(x1 >> 16 * h)),
                    v0 = sd_from_bf16((u16)(y0 >> 16 * h)), v1 = sd_from_bf16((u16)(y1 >> 16 * h));
        c[0] = fmaf(u0, v0, c[0]), c[1] = fmaf(u0, v1, c[1]), c[2] = fmaf(u1, v0, c[2]), c[3] = fmaf(u1, v1, c[3]);
      }
    }
  }
#endif
}
// f32 elements of which the 13 low bits do not count, 8 steps: a, register r: row g + 8 (r % 2), step t, + 4 from r = 2 on;
// b, register r: column g, step t + 4 r.
SD_FN void sd_mma_tf32(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
#if __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  const int l = threadIdx.x % 32, g = l / 4, t = l % 4;
#pragma unroll
  for (int k = 0; k < 8; k++) {
    const int q = k % 4, up = k / 4;
    const float u0 = sd_bits<float>(sd_lane(a[2 * up], g * 4 + q)), u1 = sd_bits<float>(sd_lane(a[2 * up + 1], g * 4 + q)),
                v0 = sd_bits<float>(sd_lane(up ? b1 : b0, 8 * t + q)), v1 = sd_bits<float>(sd_lane(up ? b1 : b0, 8 * t + 4 + q));
    c[0] = fmaf(u0, v0, c[0]), c[1] = fmaf(u0, v1, c[1]), c[2] = fmaf(u1, v0, c[2]), c[3] = fmaf(u1, v1, c[3]);
  }
#endif
}
// Bytes, 32 steps: as 16-bit elements that are two steps each. XS, YS: the factor is signed.
#if __CUDA_ARCH__ >= 800
#define SD_MMA_BYTES(x, y)                                                                                             \
  asm("mma.sync.aligned.m16n8k32.row.col.s32." x "." y ".s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"    \
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1))
#else
#define SD_MMA_HALF(x, y, i, a, b)                                                                                     \
  asm("mma.sync.aligned.m8n8k16.row.col.s32." x "." y ".s32 {%0,%1}, {%2}, {%3}, {%0,%1};"                             \
      : "+r"(c[i]), "+r"(c[i + 1]) : "r"(a), "r"(b))
#define SD_MMA_BYTES(x, y)                                                                                             \
  do {                                                                                                                 \
    SD_MMA_HALF(x, y, 0, a[0], b0); SD_MMA_HALF(x, y, 0, a[2], b1);                                                    \
    SD_MMA_HALF(x, y, 2, a[1], b0); SD_MMA_HALF(x, y, 2, a[3], b1);                                                    \
  } while (0)
#endif
template <bool XS, bool YS> SD_FN void sd_mma_bytes(int (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  if constexpr (XS && YS) SD_MMA_BYTES("s8", "s8");
  else if constexpr (XS) SD_MMA_BYTES("s8", "u8");
  else if constexpr (YS) SD_MMA_BYTES("u8", "s8");
  else SD_MMA_BYTES("u8", "u8");
}
#endif

// Where 16-byte chunk c of row r stands, in chunks, in a slice with rows of CHUNKS chunks (1, 2, 4, or a multiple of 8): the
// same chunk of eight neighbouring rows, which ldmatrix reads at once, lies in eight different groups of banks.
template <int CHUNKS> SD_FN int sd_swizzle(int r, int c) {
  const int turn = CHUNKS == 1 ? 0 : CHUNKS == 2 ? r >> 2 & 1 : CHUNKS == 4 ? r >> 1 & 3 : r & 7;
  return r * CHUNKS + (c ^ turn);
}
