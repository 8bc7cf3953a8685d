
// ---- products whose first factor is kept without its zeros (ir/two_of_four.h) ----
// As those of mma.cuh with twice the steps: a, of the steps that are kept; b, register r: as two of theirs. e: the places of a; 16-bit
// elements: lanes t = 0 have those of the first 16 steps, t = 1 of the others, the low half for row g, the high one for row g + 8;
// bytes: lanes t = 0 those of the first 32 steps of row g, t = 1 of row g + 8, t = 2 and 3 of the others. (PTX, mma.sp.)
#if defined(SD_HOST) && !defined(SD_UNPACK) // tests/cuda/host_mma.h
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
#if __CUDACC_VER_MAJOR__ > 12 || (__CUDACC_VER_MAJOR__ == 12 && __CUDACC_VER_MINOR__ >= 5)
#define SD_PLACES "mma.sp::ordered_metadata.sync.aligned."
#else
#define SD_PLACES "mma.sp.sync.aligned."
#endif
#define SD_MMA_PLACES(form, reg)                                                                                       \
  asm(SD_PLACES form " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9,%10,%11}, {%0,%1,%2,%3}, %12, 0x0;"                        \
      : reg(c[0]), reg(c[1]), reg(c[2]), reg(c[3])                                                                     \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(b[2]), "r"(b[3]), "r"(e))
SD_FN void sd_places_f16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[4], unsigned e) {
  SD_MMA_PLACES("m16n8k32.row.col.f32.f16.f16.f32", "+f");
}
SD_FN void sd_places_bf16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[4], unsigned e) {
  SD_MMA_PLACES("m16n8k32.row.col.f32.bf16.bf16.f32", "+f");
}
template <bool XS, bool YS> SD_FN void sd_places_bytes(int (&c)[4], const unsigned (&a)[4], const unsigned (&b)[4], unsigned e) {
  if constexpr (XS && YS) SD_MMA_PLACES("m16n8k64.row.col.s32.s8.s8.s32", "+r");
  else if constexpr (XS) SD_MMA_PLACES("m16n8k64.row.col.s32.s8.u8.s32", "+r");
  else if constexpr (YS) SD_MMA_PLACES("m16n8k64.row.col.s32.u8.s8.s32", "+r");
  else SD_MMA_PLACES("m16n8k64.row.col.s32.u8.u8.s32", "+r");
}
#else
// Tensor cores that cannot do so get the zeros back. A register of kept elements becomes two; the steps of a product come in another
// order for it, the same for both factors: first two registers of b that are neighbours along the steps, then the next two.
template <int ELEMENT> SD_FN void sd_unpack(unsigned kept, unsigned places, unsigned &low, unsigned &high) {
  if constexpr (ELEMENT == 2) {
    const u64 all = (u64)(kept & 0xffff) << 16 * (places & 3) | (u64)(kept >> 16) << 16 * (places >> 2 & 3);
    low = (unsigned)all, high = (unsigned)(all >> 32);
  } else {
    low = (kept & 0xff) << 8 * (places & 3) | (kept >> 8 & 0xff) << 8 * (places >> 2 & 3);
    high = (kept >> 16 & 0xff) << 8 * (places >> 4 & 3) | (kept >> 24) << 8 * (places >> 6 & 3);
  }
}
template <int ELEMENT, auto MMA, class A>
SD_FN void sd_unpacked(A (&c)[4], const unsigned (&a)[4], const unsigned (&b)[4], unsigned e) {
  const int l = (int)threadIdx.x % 32, t = l % 4, first = l - t;
#pragma unroll
  for (int h = 0; h < 2; h++) { // half of the steps
    unsigned row, other, full[4], y[2];
    if constexpr (ELEMENT == 2) {
      const unsigned both = sd_lane(e, first + h);
      row = both >> 4 * t & 15, other = both >> (16 + 4 * t) & 15;
    } else {
      row = sd_lane(e, first + 2 * h) >> 8 * t & 255, other = sd_lane(e, first + 2 * h + 1) >> 8 * t & 255;
    }
    sd_unpack<ELEMENT>(a[2 * h], row, full[0], full[2]);
    sd_unpack<ELEMENT>(a[2 * h + 1], other, full[1], full[3]);
#pragma unroll
    for (int i = 0; i < 2; i++) { // register 2 t + i of the eight along the steps
      const unsigned near = sd_lane(b[2 * h], first + (2 * t + i) % 4), far = sd_lane(b[2 * h + 1], first + (2 * t + i) % 4);
      y[i] = t < 2 ? near : far;
    }
    MMA(c, full, y[0], y[1]);
  }
}
SD_FN void sd_places_f16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[4], unsigned e) { sd_unpacked<2, sd_mma_f16>(c, a, b, e); }
SD_FN void sd_places_bf16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[4], unsigned e) { sd_unpacked<2, sd_mma_bf16>(c, a, b, e); }
template <bool XS, bool YS> SD_FN void sd_places_bytes(int (&c)[4], const unsigned (&a)[4], const unsigned (&b)[4], unsigned e) {
  sd_unpacked<1, sd_mma_bytes<XS, YS>>(c, a, b, e);
}
#endif
