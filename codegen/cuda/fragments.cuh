
// ---- rows in registers (codegen/cuda/print_fragments.c) ----
#if defined(SD_HOST) || __CUDA_ARCH__ >= 800
#define SD_ROOMY // registers are left
static constexpr int sd_copies = 4; // that a thread has under way
#else
static constexpr int sd_copies = 1; // they need registers
#endif

// A row is spread over the four lanes of a quad.
template <class OP, class T> SD_FN T sd_quad_reduce(T x) {
  x = OP::template of<T>(x, sd_shuffle(x, 1));
  return OP::template of<T>(x, sd_shuffle(x, 2));
}

#if !defined(SD_HOST) && __CUDA_ARCH__ >= 800
SD_FN unsigned sd_pack_f16(float low, float high) {
  unsigned x;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(x) : "f"(high), "f"(low));
  return x;
}
SD_FN unsigned sd_pack_bf16(float low, float high) {
  unsigned x;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(x) : "f"(high), "f"(low));
  return x;
}
#else
SD_FN unsigned sd_pack_f16(float low, float high) { return sd_to_f16(low) | (unsigned)sd_to_f16(high) << 16; }
SD_FN unsigned sd_pack_bf16(float low, float high) { return sd_to_bf16(low) | (unsigned)sd_to_bf16(high) << 16; }
#endif
// Of two neighbours in a register, those whose positions k and k + 1 are below n.
SD_FN unsigned sd_pair_below(int k, i64 n) { return (k < n ? 0xffffu : 0) | (k + 1 < n ? 0xffff0000u : 0); }

// x, of which the compiler knows nothing.
SD_FN float sd_opaque(float x) {
#ifndef SD_HOST
  asm volatile("" : "+f"(x));
#endif
  return x;
}

SD_FN void sd_ld_pair(float (&y)[2], const float *p, int i) {
#ifdef SD_HOST
  y[0] = SD_LD(p, i), y[1] = SD_LD(p, i + 1);
#else
  const float2 v = *(const float2 *)(p + i);
  y[0] = v.x, y[1] = v.y;
#endif
}

// c += a b for 16 x 8 results and 8 steps of f32: each factor is the sum of two with short mantissas, whose last product is
// below the rounding of the sum. Of a and b neighbouring steps 2t, 2t + 1 stand in one lane: any order of steps will do.
SD_FN unsigned sd_high_tf32(float x) { return (sd_bits<unsigned>(x) + 0x1000u) & 0xffffe000u; }
SD_FN void sd_mma_f32(float (&c)[4], const float (&a)[4], float b0, float b1) {
#if defined(SD_HOST) || __CUDA_ARCH__ >= 800
  unsigned h[4], l[4];
#pragma unroll
  for (int i = 0; i < 4; i++) h[i] = sd_high_tf32(a[i]), l[i] = sd_bits<unsigned>(a[i] - sd_bits<float>(h[i]));
  const unsigned h0 = sd_high_tf32(b0), h1 = sd_high_tf32(b1);
  const unsigned l0 = sd_bits<unsigned>(b0 - sd_bits<float>(h0)), l1 = sd_bits<unsigned>(b1 - sd_bits<float>(h1));
  sd_mma_tf32(c, l, h0, h1);
  sd_mma_tf32(c, h, l0, l1);
  sd_mma_tf32(c, h, h0, h1);
#else // the same steps without tensor cores
  const int l = threadIdx.x % 32, g = l / 4 * 4, t = l % 4 * 8;
#pragma unroll 1
  for (int q = 0; q < 4; q++) {
    const float u0 = __shfl_sync(0xffffffffu, a[0], g + q), u1 = __shfl_sync(0xffffffffu, a[1], g + q),
                u2 = __shfl_sync(0xffffffffu, a[2], g + q), u3 = __shfl_sync(0xffffffffu, a[3], g + q),
                v0 = __shfl_sync(0xffffffffu, b0, t + q), v1 = __shfl_sync(0xffffffffu, b0, t + 4 + q),
                v2 = __shfl_sync(0xffffffffu, b1, t + q), v3 = __shfl_sync(0xffffffffu, b1, t + 4 + q);
    c[0] = fmaf(u2, v2, fmaf(u0, v0, c[0])), c[1] = fmaf(u2, v3, fmaf(u0, v1, c[1]));
    c[2] = fmaf(u3, v2, fmaf(u1, v0, c[2])), c[3] = fmaf(u3, v3, fmaf(u1, v1, c[3]));
  }
#endif
}
