// Kernels with faults that the model has to find: FAULT(name, part of the complaint). The first one has none.
struct sd_fault_args { float *out; unsigned *error; };

FAULT(right, "")
  SD_SHARED(float, s, 64);
  SD_ST(s, threadIdx.x, 1.0f);
  __syncthreads();
  SD_ST(A.out, threadIdx.x, SD_LD(s, 63 - threadIdx.x));
END

FAULT(no_barrier, "race")
  SD_SHARED(float, s, 64);
  SD_ST(s, threadIdx.x, 0.0f);
  __syncthreads();
  SD_ST(s, threadIdx.x, 1.0f);
  if (threadIdx.x >= 32) SD_ST(A.out, threadIdx.x, SD_LD(s, 63 - threadIdx.x));
END

FAULT(no_second_barrier, "race")
  SD_SHARED(float, s, 64);
  float sum = 0;
  for (int i = 0; i < 2; i++) {
    SD_ST(s, threadIdx.x, (float)i);
    __syncthreads();
    sum += SD_LD(s, 63 - threadIdx.x);
  }
  SD_ST(A.out, threadIdx.x, sum);
END

FAULT(two_writers, "race")
  SD_ST(A.out, threadIdx.x / 2, 1.0f);
END

FAULT(undefined_shared, "which nobody wrote")
  SD_SHARED(float, s, 64);
  if (threadIdx.x != 5) SD_ST(s, threadIdx.x, 1.0f);
  __syncthreads();
  SD_ST(A.out, threadIdx.x, SD_LD(s, 63 - threadIdx.x));
END

FAULT(undefined_output, "which nobody wrote")
  SD_ST(A.out, threadIdx.x, SD_LD(A.out, threadIdx.x) + 1);
END

FAULT(outside, "which has 64")
  SD_ST(A.out, threadIdx.x + 1, 1.0f);
END

FAULT(misaligned_vector, "which is no multiple")
  float x[4] = {1, 2, 3, 4};
  if (threadIdx.x < 8) sd_store_vector<4>(A.out, threadIdx.x * 4 + 2, x);
END

FAULT(part_of_a_barrier, "a barrier that thread")
  if (threadIdx.x < 40) __syncthreads();
  SD_ST(A.out, threadIdx.x, 1.0f);
END

FAULT(two_barriers, "a barrier that thread")
  if (threadIdx.x < 40)
    __syncthreads();
  else
    __syncthreads();
END

FAULT(part_of_a_shuffle, "a shuffle that thread")
  float x = 1;
  if (threadIdx.x % 32 < 31) x = sd_warp_reduce<sd_op_sum>(x);
  SD_ST(A.out, threadIdx.x, x);
END

// ---- tensor cores: fragments as codegen/cuda/mma.cuh says, against sums written out ----
#define EXPECT(x) do { if (!(x)) SD_ST(A.out, -1, 0.0f); } while (0)
#define SMALL(i, k) ((i) * 5 % 7 - (k) * 3 % 5)

FAULT(matrices_of_16_bits, "")
  SD_DYNAMIC(s, 1536);
  u16 *const x = (u16 *)s, *const y = (u16 *)(s + 512), *const z = (u16 *)(s + 1024); // [16][16]: m k, n k, k n
  for (int e = threadIdx.x; e < 256; e += 64) {
    SD_ST(x, e, sd_to_f16((float)SMALL(e / 16, e % 16)));
    SD_ST(y, e, sd_to_f16((float)SMALL(e / 16 + 3, e % 16)));
    SD_ST(z, e, sd_to_bf16((float)SMALL(e % 16 + 3, e / 16)));
  }
  __syncthreads();
  const int l = threadIdx.x % 32, g = l / 4, t = l % 4;
  unsigned a[4], b[4], bt[4];
  float c[2][4] = {}, d[2][4] = {};
  sd_ldmatrix(a, s, (l & 15) * 32 + (l >> 4) * 16);
  sd_ldmatrix(b, s, 512 + ((l & 7) + (l >> 4) * 8) * 32 + (l >> 3 & 1) * 16);
  sd_ldmatrix_t(bt, s, 1024 + (l & 15) * 32 + (l >> 4) * 16);
  for (int j = 0; j < 2; j++) {
    sd_mma_f16(c[j], a, b[2 * j], b[2 * j + 1]);
    unsigned w[4];
    for (int i = 0; i < 4; i++)
      w[i] = sd_to_bf16(sd_from_f16((u16)a[i])) | (unsigned)sd_to_bf16(sd_from_f16((u16)(a[i] >> 16))) << 16;
    sd_mma_bf16(d[j], w, bt[2 * j], bt[2 * j + 1]);
    for (int i = 0; i < 4; i++) {
      float sum = 0;
      for (int k = 0; k < 16; k++) sum += (float)(SMALL(g + i / 2 * 8, k) * SMALL(8 * j + 2 * t + i % 2 + 3, k));
      EXPECT(c[j][i] == sum && d[j][i] == sum);
    }
  }
END

FAULT(matrices_of_words, "")
  const int l = threadIdx.x % 32, g = l / 4, t = l % 4;
  unsigned a[4], b[2];
  float c[4] = {};
  for (int r = 0; r < 4; r++) a[r] = sd_bits<unsigned>((float)SMALL(g + r % 2 * 8, t + r / 2 * 4)) | 0x1fffu;
  for (int r = 0; r < 2; r++) b[r] = sd_bits<unsigned>((float)SMALL(g, t + 4 * r + 1));
  sd_mma_tf32(c, a, b[0], b[1]);
  for (int i = 0; i < 4; i++) {
    float sum = 0;
    for (int k = 0; k < 8; k++) sum += (float)(SMALL(g + i / 2 * 8, k) * SMALL(2 * t + i % 2, k + 1));
    EXPECT(c[i] == sum);
  }
END

FAULT(matrices_of_bytes, "")
  const int l = threadIdx.x % 32, g = l / 4, t = l % 4;
  unsigned a[4] = {}, b[2] = {};
  int c[4] = {}, d[4] = {};
  for (int j = 0; j < 4; j++) {
    for (int r = 0; r < 4; r++) a[r] |= (unsigned)(u8)(97 * SMALL(g + r % 2 * 8, 4 * t + j + r / 2 * 16)) << 8 * j;
    for (int r = 0; r < 2; r++) b[r] |= (unsigned)(u8)(97 * SMALL(g, 4 * t + j + 16 * r + 1)) << 8 * j;
  }
  sd_mma_bytes<true, true>(c, a, b[0], b[1]);
  sd_mma_bytes<false, true>(d, a, b[0], b[1]);
  for (int i = 0; i < 4; i++) {
    int sum = 0, mixed = 0;
    for (int k = 0; k < 32; k++) {
      const i8 x = (i8)(97 * SMALL(g + i / 2 * 8, k)), y = (i8)(97 * SMALL(2 * t + i % 2, k + 1));
      sum += x * y, mixed += (u8)x * y;
    }
    EXPECT(c[i] == sum && d[i] == mixed);
  }
END

FAULT(part_of_a_product, "a shuffle that thread")
  unsigned a[4] = {};
  float c[4] = {};
  if (threadIdx.x % 32 < 31) sd_mma_tf32(c, a, 0, 0);
  SD_ST(A.out, threadIdx.x, c[0]);
END

FAULT(row_not_aligned, "does not begin at a multiple of 16")
  SD_DYNAMIC(s, 1024);
  unsigned a[4];
  sd_ldmatrix(a, s, (int)threadIdx.x % 32 * 8);
  SD_ST(A.out, threadIdx.x, (float)a[0]);
END

// ---- copies: each thread brings 4 floats of `out`, which threads of the other warp read ----
FAULT(copies, "")
  SD_DYNAMIC(s, 1024);
  const float *const mine = (const float *)s;
  SD_ST(A.out, threadIdx.x, (float)threadIdx.x);
  __syncthreads();
  if (threadIdx.x < 16) sd_cp<16>(s, threadIdx.x * 16, A.out, threadIdx.x * 16, threadIdx.x < 15 ? 16 : 8);
  sd_cp_commit();
  sd_cp<4>(s, 256 + threadIdx.x * 4, A.out, 0, 0);
  sd_cp_commit();
  sd_cp_wait<1>();
  __syncthreads();
  const int i = 63 - threadIdx.x;
  EXPECT(SD_LD(mine, i) == (i < 62 ? (float)i : 0.0f));
  sd_cp_wait<0>();
  __syncthreads();
  EXPECT(SD_LD(mine, 64 + i) == 0.0f);
END

FAULT(copies_not_awaited, "-1 of buffer 0")
  SD_DYNAMIC(s, 1024);
  const float *const mine = (const float *)s;
  SD_ST(A.out, threadIdx.x, 1.0f);
  __syncthreads();
  sd_cp<4>(s, threadIdx.x * 4, A.out, threadIdx.x * 4, 4);
  sd_cp_commit();
  __syncthreads();
  EXPECT(SD_LD(mine, 63 - threadIdx.x) == 1.0f);
  sd_cp_wait<0>();
END

FAULT(copies_not_committed, "under way")
  SD_DYNAMIC(s, 1024);
  sd_cp<4>(s, threadIdx.x * 4, A.out, 0, 0);
  sd_cp_wait<0>();
END

FAULT(copies_without_barrier, "which nobody wrote")
  SD_DYNAMIC(s, 1024);
  const float *const mine = (const float *)s;
  sd_cp<4>(s, threadIdx.x * 4, A.out, 0, 0);
  sd_cp_commit();
  sd_cp_wait<0>();
  EXPECT(SD_LD(mine, 63 - threadIdx.x) == 0.0f);
END

FAULT(copy_not_aligned, "no multiple")
  SD_DYNAMIC(s, 1024);
  SD_ST(A.out, threadIdx.x, 1.0f);
  __syncthreads();
  if (threadIdx.x == 0) sd_cp<16>(s, 0, A.out, 8, 16);
  sd_cp_commit();
  sd_cp_wait<0>();
END

// ---- products by four warps, of which two are here: 32 of 64 rows, 64 columns ----
SD_FN void fill_wide(u8 *s, int at, bool along, int shift) { // 64 rows or columns, 16 steps
  for (int e = threadIdx.x; e < 64 * 16; e += 64) {
    const int m = e / 16, k = e % 16, r = along ? m : k, byte = along ? 2 * k : 2 * m;
    const int chunk = along ? sd_swizzle<8>(r, byte / 16) : sd_wide_across<16>(r, byte / 16);
    SD_ST((u16 *)(s + at), chunk * 8 + byte % 16 / 2, sd_to_f16((float)SMALL(m + shift, k)));
  }
}
SD_FN void multiply_wide(float (&c)[8][4], u8 *s) { // the factors of fill_wide(s, 0), (s, 8192); not awaited
  sd_wide_begin();
  sd_wide_f16<64, true, true>(c, s, 0, 8192, 2048);
  sd_wide_commit();
}
SD_FN void begin_wide(float (&c)[8][4], u8 *s) {
  fill_wide(s, 0, true, 0), fill_wide(s, 8192, true, 0);
  sd_wide_fence();
  __syncthreads();
  multiply_wide(c, s);
}
template <bool XK, bool YK> SD_FN bool wide_is_right(u8 *s, int xs, int ys) {
  const int l = threadIdx.x % 32, first = (int)threadIdx.x / 32 * 16 + l / 4;
  float c[8][4];
  bool right = true;
  for (int j = 0; j < 8; j++) c[j][0] = c[j][1] = c[j][2] = c[j][3] = 1;
  fill_wide(s, xs, XK, 0), fill_wide(s, ys, YK, 3);
  sd_wide_fence();
  __syncthreads();
  sd_wide_begin();
  sd_wide_f16<64, XK, YK>(c, s, xs, ys, 2048);
  sd_wide_commit();
  sd_wide_wait<0>(c);
  __syncthreads();
  for (int j = 0; j < 8; j++)
    for (int i = 0; i < 4; i++) {
      float sum = 1;
      for (int k = 0; k < 16; k++) sum += (float)(SMALL(first + i / 2 * 8, k) * SMALL(8 * j + l % 4 * 2 + i % 2 + 3, k));
      right = right && c[j][i] == sum;
    }
  return right;
}

FAULT(wide_products, "")
  SD_DYNAMIC(s, 16384);
  EXPECT((wide_is_right<true, true>(s, 0, 8192)));
  EXPECT((wide_is_right<true, false>(s, 0, 8192)));
  EXPECT((wide_is_right<false, true>(s, 8192, 0)));
END

FAULT(wide_without_fence, "without a fence behind it")
  SD_DYNAMIC(s, 16384);
  float c[8][4] = {};
  fill_wide(s, 0, true, 0), fill_wide(s, 8192, true, 0);
  __syncthreads();
  multiply_wide(c, s);
  sd_wide_wait<0>(c);
END

FAULT(wide_before_begin, "multiplies without a fence")
  SD_DYNAMIC(s, 16384);
  float c[8][4] = {};
  sd_wide_f16<64, true, true>(c, s, 0, 8192, 2048);
END

FAULT(wide_without_barrier, "race")
  SD_DYNAMIC(s, 16384);
  float c[8][4] = {};
  fill_wide(s, 0, true, 0), fill_wide(s, 8192, true, 0);
  sd_wide_fence();
  __syncthreads();
  fill_wide(s, 0, true, 0);
  sd_wide_fence();
  multiply_wide(c, s);
  sd_wide_wait<0>(c);
END

FAULT(wide_not_awaited, "-1 of buffer 0")
  SD_DYNAMIC(s, 16384);
  float c[8][4] = {};
  begin_wide(c, s);
  sd_wide_wait<1>(c);
  EXPECT(c[0][0] == c[0][0]); // poison is no number
  sd_wide_wait<0>(c);
END

FAULT(wide_changed, "a factor changed")
  SD_DYNAMIC(s, 16384);
  float c[8][4] = {};
  begin_wide(c, s);
  __syncthreads();
  fill_wide(s, 0, true, 5);
  sd_wide_wait<0>(c);
END

// ---- products of slices (codegen/cuda/tiles.cuh) ----
// A number of 24 bits.
SD_FN float number(int i, int k) { return (float)((i * 7919 + k * 104729 + i * k * 31) % 16777213 - 8388607) * 0x1p-23f; }
template <class T, int ELEMENT> SD_FN int place(bool along_k, int size, int i, int k) { // of an element in a slice, in bytes
  const int PER = 16 / ELEMENT;
  if (along_k) return sd_swizzle<T::KC>(i, k / PER) * 16 + k % PER * ELEMENT;
  if (ELEMENT == 2) return (size == T::BM ? sd_swizzle<T::BM / PER>(k, i / PER) : sd_swizzle<T::BN / PER>(k, i / PER)) * 16 + i % PER * ELEMENT;
  return (size == T::BM ? sd_swizzle_words<T::BM / 4>(k, i / 4) : sd_swizzle_words<T::BN / 4>(k, i / 4)) * 16 + i % 4 * 4;
}
// HOW 0: f16, 1: f32 by tensor cores, 2: f32 without, 3: tf32. The error is that of f32 sums for 1 and 2.
template <class T, int HOW> SD_FN void product(const sd_fault_args &A) {
  const int ELEMENT = HOW == 0 ? 2 : 4, BK = T::KC * 16 / ELEMENT, XS = 0, YS = T::BM * T::KC * 16;
  SD_DYNAMIC(s, 32768);
  for (int e = threadIdx.x; e < (T::BM > T::BN ? T::BM : T::BN) * BK; e += 64) {
    const int i = e / BK, k = e % BK;
    const int x = XS + place<T, ELEMENT>(T::XK, T::BM, i, k), y = YS + place<T, ELEMENT>(T::YK, T::BN, i, k);
    if (HOW == 0) {
      if (i < T::BM) SD_ST((u16 *)(s + x), 0, sd_to_f16(number(i, k)));
      if (i < T::BN) SD_ST((u16 *)(s + y), 0, sd_to_f16(number(i + 99, k)));
    } else {
      if (i < T::BM) SD_ST((float *)(s + x), 0, number(i, k));
      if (i < T::BN) SD_ST((float *)(s + y), 0, number(i + 99, k));
    }
  }
  __syncthreads();
  float acc[T::MI * T::NI][4] = {};
  if (HOW == 0) sd_step<T, sd_with_f16, 2>(acc, s, XS, YS);
  if (HOW == 1) sd_step_split<T>(acc, s, XS, YS);
  if (HOW == 2) sd_step_plain<T>(acc, s, XS, YS);
  if (HOW == 3) sd_step<T, sd_with_tf32, 4>(acc, s, XS, YS);
  __syncthreads();
  sd_stage<T, HOW == 2>(acc, s);
  double worst = 0, plain = 0;
  for (int e = threadIdx.x; e < T::BM * T::BN / 4; e += 64) {
    const int m = e / (T::BN / 4), n = e % (T::BN / 4) * 4;
    float got[4];
    sd_staged<T>(got, s, m, n);
    for (int j = 0; j < 4; j++) {
      double sum = 0;
      float f = 0;
      for (int k = 0; k < BK; k++) {
        float x = number(m, k), y = number(n + j + 99, k);
        if (HOW == 0) x = sd_from_f16(sd_to_f16(x)), y = sd_from_f16(sd_to_f16(y));
        sum += (double)x * y, f = fmaf(x, y, f);
      }
      worst = fmax(worst, fabs(got[j] - sum)), plain = fmax(plain, fabs(f - sum));
    }
  }
  EXPECT(worst <= (HOW == 3 ? 0x1p-9 * BK : 2 * plain + 0x1p-24));
}
#define PRODUCT(name, how, ...) FAULT(name, "") product<sd_tile<__VA_ARGS__>, how>(A); END
PRODUCT(f16_along_both, 0, 32, 64, 4, 1, 2, 1, true, true)
PRODUCT(f16_across_both, 0, 64, 32, 8, 2, 1, 1, false, false)
PRODUCT(f16_parts, 0, 32, 16, 8, 1, 1, 2, true, false)
PRODUCT(f16_short, 0, 16, 64, 2, 1, 2, 1, false, true)
PRODUCT(split_along_both, 1, 32, 32, 8, 1, 2, 1, true, true)
PRODUCT(split_across_both, 1, 32, 64, 4, 1, 2, 1, false, false)
PRODUCT(split_parts, 1, 16, 32, 8, 1, 1, 2, false, true)
PRODUCT(plain_along_both, 2, 32, 32, 8, 2, 1, 1, true, true)
PRODUCT(plain_across_both, 2, 64, 64, 4, 2, 1, 1, false, false)
PRODUCT(plain_low, 2, 16, 64, 4, 1, 2, 1, false, false)
PRODUCT(plain_parts, 2, 32, 32, 8, 1, 1, 2, true, false)
PRODUCT(tf32_mixed, 3, 32, 32, 4, 1, 2, 1, false, true)

FAULT(split_of_what_is_not_finite, "")
  const unsigned x[1][4] = {{0x7f800000u, 0x7fffffffu, 0x7f7fffffu, 0x3f8ccccdu}}; // infinity, NaN, the largest, 1.1
  unsigned big[1][4], small[1][4];
  EXPECT(!(fabsf(sd_split_all(x, big, small, true)) <= 3.4e38f));
  sd_mend_all(x, big, small);
  for (int i = 0; i < 3; i++) EXPECT(big[0][i] == x[0][i] && small[0][i] == 0);
  EXPECT(sd_bits<float>(big[0][3]) + sd_bits<float>(small[0][3]) == 1.1f && (big[0][3] & 0x1fffu) == 0);
  SD_ST(A.out, threadIdx.x, 0.0f);
END
