
// ---- products of slices in shared memory ----
// A block computes BM x BN sums. Its warps stand as WM x WN x WK: those along WK share the steps of a slice between them.
// A slice of a factor has rows of 16-byte chunks: XK (YK): a row for each row (column) of the product, along the steps,
// swizzled; else a row for each step. KC: chunks of BK steps. All positions are bytes in `s`.

// As sd_swizzle, where the rows t, t + 1, t + 2, t + 3 of two neighbouring chunks are read at once.
template <int CHUNKS> SD_FN int sd_swizzle_words(int r, int c) {
  const int turn = CHUNKS < 4 ? 0 : CHUNKS == 4 ? (r >> 1 & 1) << 1 : (r & 3) << 1;
  return r * CHUNKS + (c ^ turn);
}

template <int BM_, int BN_, int KC_, int WM_, int WN_, int WK_, bool XK_, bool YK_> struct sd_tile {
  static const int BM = BM_, BN = BN_, KC = KC_, WM = WM_, WN = WN_, WK = WK_;
  static const bool XK = XK_, YK = YK_;
  static const int MI = BM / WM / 16, NI = BN / WN / 8; // mma results of a warp
  // of a thread's warp
  static SD_FN int row(int thread) { return thread / 32 % WM * (BM / WM); }
  static SD_FN int column(int thread) { return thread / 32 / WM % WN * (BN / WN); }
  static SD_FN int part(int thread) { return thread / 32 / (WM * WN); }
};

struct sd_with_f16 {
  static SD_FN void mma(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) { sd_mma_f16(c, a, b0, b1); }
  static SD_FN void places(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[4], unsigned e) { sd_places_f16(c, a, b, e); }
  template <int N, bool XK, bool YK> static SD_FN void wide(float (&c)[N / 8][4], const u8 *s, int xs, int ys, int block) {
    sd_wide_f16<N, XK, YK>(c, s, xs, ys, block);
  }
};
struct sd_with_bf16 {
  static SD_FN void mma(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) { sd_mma_bf16(c, a, b0, b1); }
  static SD_FN void places(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[4], unsigned e) { sd_places_bf16(c, a, b, e); }
  template <int N, bool XK, bool YK> static SD_FN void wide(float (&c)[N / 8][4], const u8 *s, int xs, int ys, int block) {
    sd_wide_bf16<N, XK, YK>(c, s, xs, ys, block);
  }
};
struct sd_with_tf32 {
  static SD_FN void mma(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) { sd_mma_tf32(c, a, b0, b1); }
  template <int N, bool XK, bool YK> static SD_FN void wide(float (&c)[N / 8][4], const u8 *s, int xs, int ys, int block) {
    sd_wide_tf32<N, XK, YK>(c, s, xs, ys, block);
  }
};
template <bool XS, bool YS> struct sd_with_bytes {
  static SD_FN void mma(int (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) { sd_mma_bytes<XS, YS>(c, a, b0, b1); }
  static SD_FN void places(int (&c)[4], const unsigned (&a)[4], const unsigned (&b)[4], unsigned e) { sd_places_bytes<YS, XS>(c, a, b, e); }
  template <int N, bool XK, bool YK> static SD_FN void wide(int (&c)[N / 8][4], const u8 *s, int xs, int ys, int block) {
    static_assert(XK && YK, "bytes stand along the steps");
    sd_wide_bytes<N, XS, YS>(c, s, xs, ys, block);
  }
};

// Fragments for the two chunks of steps from `chunk` on. ELEMENT: bytes of one; slices across steps have 2 or 4.
template <class T, int ELEMENT> SD_FN void sd_fragments_x(unsigned (&a)[T::MI][4], const u8 *s, int xs, int chunk) {
  const int l = (int)threadIdx.x % 32;
#pragma unroll
  for (int i = 0; i < T::MI; i++) {
    const int row = T::row((int)threadIdx.x) + i * 16;
    if constexpr (T::XK) {
      sd_ldmatrix(a[i], s, xs + sd_swizzle<T::KC>(row + (l & 15), chunk + (l >> 4)) * 16);
    } else if constexpr (ELEMENT == 2) {
      sd_ldmatrix_t(a[i], s, xs + sd_swizzle<T::BM / 8>(chunk * 8 + (l & 7) + (l >> 4) * 8, row / 8 + (l >> 3 & 1)) * 16);
    } else {
      const int g = l / 4, t = l % 4;
#pragma unroll
      for (int r = 0; r < 4; r++) {
        const int m = row + g + r % 2 * 8, k = chunk * 4 + t + r / 2 * 4;
        a[i][r] = SD_LD((const unsigned *)(s + xs), sd_swizzle_words<T::BM / 4>(k, m / 4) * 4 + m % 4);
      }
    }
  }
}
template <class T, int ELEMENT> SD_FN void sd_fragments_y(unsigned (&b)[T::NI][2], const u8 *s, int ys, int chunk) {
  const int l = (int)threadIdx.x % 32;
#pragma unroll
  for (int j = 0; j < T::NI; j += 2) {
    const int column = T::column((int)threadIdx.x) + j * 8;
    if constexpr (T::YK || ELEMENT == 2) {
      unsigned q[4];
      if constexpr (T::YK)
        sd_ldmatrix(q, s, ys + sd_swizzle<T::KC>(column + (l & 7) + (l >> 4) * 8, chunk + (l >> 3 & 1)) * 16);
      else
        sd_ldmatrix_t(q, s, ys + sd_swizzle<T::BN / 8>(chunk * 8 + (l & 15), column / 8 + (l >> 4)) * 16);
      b[j][0] = q[0], b[j][1] = q[1], b[j + 1][0] = q[2], b[j + 1][1] = q[3];
    } else {
      const int g = l / 4, t = l % 4;
#pragma unroll
      for (int r = 0; r < 4; r++) {
        const int n = column + g + r / 2 * 8, k = chunk * 4 + t + r % 2 * 4;
        b[j + r / 2][r % 2] = SD_LD((const unsigned *)(s + ys), sd_swizzle_words<T::BN / 4>(k, n / 4) * 4 + n % 4);
      }
    }
  }
}

template <class T, class WITH, int ELEMENT, class A>
SD_FN void sd_step(A (&acc)[T::MI * T::NI][4], const u8 *s, int xs, int ys) {
#pragma unroll
  for (int c = 0; c < T::KC; c += 2 * T::WK) {
    unsigned a[T::MI][4], b[T::NI][2];
    const int chunk = c + 2 * T::part((int)threadIdx.x);
    sd_fragments_x<T, ELEMENT>(a, s, xs, chunk);
    sd_fragments_y<T, ELEMENT>(b, s, ys, chunk);
#pragma unroll
    for (int i = 0; i < T::MI; i++)
#pragma unroll
      for (int j = 0; j < T::NI; j++) WITH::mma(acc[i * T::NI + j], a[i], b[j][0], b[j][1]);
  }
}

// The same where the second factor is kept without its zeros (ir/two_of_four.h), half the steps of the first: it is the one whose
// rows tensor cores take so, thus a result of theirs has 16 columns of the product and 8 rows. `ps`: rows of places.
// sums of a warp: those of columns i * 16 on, then of rows j * 8 on
template <class T> struct sd_turned {
  static const int CI = T::NI / 2, RI = T::MI * 2;
};
// As sd_places_* want them. Words that copies left 0 belong to nothing, and are made valid.
template <class T, int ELEMENT> SD_FN unsigned sd_places(const u8 *s, int ps, int column, int chunk) {
  const int l = (int)threadIdx.x % 32, t = l % 4;
  const int words = T::KC * 2 / ELEMENT;
  unsigned e;
  if constexpr (ELEMENT == 2) {
    const int at = (column + l / 4) * words + chunk + t % 2;
    e = SD_LD((const u16 *)(s + ps), at) | (unsigned)SD_LD((const u16 *)(s + ps), at + 8 * words) << 16;
  } else {
    e = SD_LD((const unsigned *)(s + ps), ((column + l / 4 + t % 2 * 8) * words + 2 * (chunk + t / 2)) / 2);
  }
  if (!(e & 0xffff)) e |= 0x4444;
  if (!(e >> 16)) e |= 0x44440000;
  return e;
}
template <class T, class WITH, int ELEMENT, class A>
SD_FN void sd_step_places(A (&acc)[T::MI * T::NI][4], const u8 *s, int xs, int ys, int ps) {
  const int l = (int)threadIdx.x % 32;
#pragma unroll
  for (int c = 0; c < T::KC; c += 2 * T::WK) {
    unsigned x[sd_turned<T>::RI][4];
    const int chunk = c + 2 * T::part((int)threadIdx.x);
#pragma unroll
    for (int j = 0; j < sd_turned<T>::RI; j++)
      sd_ldmatrix(x[j], s, xs + sd_swizzle<2 * T::KC>(T::row((int)threadIdx.x) + j * 8 + (l & 7), 2 * chunk + (l >> 3)) * 16);
#pragma unroll
    for (int i = 0; i < sd_turned<T>::CI; i++) {
      unsigned y[4];
      const int column = T::column((int)threadIdx.x) + i * 16;
      sd_ldmatrix(y, s, ys + sd_swizzle<T::KC>(column + (l & 15), chunk + (l >> 4)) * 16);
      const unsigned e = sd_places<T, ELEMENT>(s, ps, column, chunk);
#pragma unroll
      for (int j = 0; j < sd_turned<T>::RI; j++) WITH::places(acc[i * sd_turned<T>::RI + j], y, x[j], e);
    }
  }
}

// The same with four warps at once, 16 rows each, from slices as wgmma.cuh says: under way when it returns.
template <class T, class WITH, int ELEMENT, class A> SD_FN void sd_step_wide(A (&acc)[T::MI * T::NI][4], const u8 *s, int xs, int ys) {
  static_assert(T::KC == 8 && T::MI == 1 && T::WN == 1 && T::WK == 1, "rows of 128 bytes, a warp has 16 rows");
  const int block = T::KC * 16 / ELEMENT * 128, up = (int)threadIdx.x / 128;
  sd_wide_begin();
#pragma unroll
  for (int c = 0; c < T::KC; c += 2) {
    const int across = c * 16 / ELEMENT * 128;
    WITH::template wide<T::BN, T::XK, T::YK>(acc, s, xs + (T::XK ? up * 64 * 128 + c * 16 : up * block + across),
                                             ys + (T::YK ? c * 16 : across), block);
  }
  sd_wide_commit();
}

// x as the sum of two tf32 numbers, of which tensor cores do not see the last 13 bits: for one factor the first is rounded,
// so that the product of the second ones, which is left out, has any sign; for the other one it is x cut off, and costs
// nothing. The return value is not finite where x or the first number is not: then sd_split_again has to mend them.
SD_FN float sd_split(unsigned x, unsigned &big, unsigned &small, bool rounds) {
  big = rounds ? (x + 0x1000u) & 0xffffe000u : x;
  const float rest = sd_bits<float>(x) - sd_bits<float>(rounds ? big : x & 0xffffe000u);
  small = sd_bits<unsigned>(rest);
  return rest;
}
SD_FN void sd_split_again(unsigned x, unsigned &big, unsigned &small) {
  if (fabsf(sd_bits<float>(small)) <= 3.4e38f) return;
  big = x, small = 0;
}
template <int N, int R> SD_FN float sd_split_all(const unsigned (&x)[N][R], unsigned (&big)[N][R], unsigned (&small)[N][R], bool rounds) {
  float all = 0;
#pragma unroll
  for (int i = 0; i < N; i++)
#pragma unroll
    for (int r = 0; r < R; r++) all += sd_split(x[i][r], big[i][r], small[i][r], rounds);
  return all;
}
template <int N, int R> SD_FN void sd_mend_all(const unsigned (&x)[N][R], unsigned (&big)[N][R], unsigned (&small)[N][R]) {
#pragma unroll
  for (int i = 0; i < N; i++)
#pragma unroll
    for (int r = 0; r < R; r++) sd_split_again(x[i][r], big[i][r], small[i][r]);
}
// f32 by three products of tf32 numbers. Tensor cores cut sums off: those of 8 steps are added where sums are rounded.
template <class T> SD_FN void sd_step_split(float (&acc)[T::MI * T::NI][4], const u8 *s, int xs, int ys) {
#pragma unroll 1
  for (int c = 0; c < T::KC; c += 2 * T::WK) {
    unsigned x[T::MI][4], y[T::NI][2], a[T::MI][4], b[T::NI][2], as[T::MI][4], bs[T::NI][2];
    const int chunk = c + 2 * T::part((int)threadIdx.x);
    sd_fragments_x<T, 4>(x, s, xs, chunk);
    sd_fragments_y<T, 4>(y, s, ys, chunk);
    const float all = sd_split_all(x, a, as, true) + sd_split_all(y, b, bs, false);
    if (!(fabsf(all) <= 3.4e38f)) sd_mend_all(x, a, as), sd_mend_all(y, b, bs);
#pragma unroll
    for (int i = 0; i < T::MI; i++)
#pragma unroll
      for (int j = 0; j < T::NI; j++) {
        float sum[4] = {0, 0, 0, 0};
        sd_mma_tf32(sum, as[i], b[j][0], b[j][1]);
        sd_mma_tf32(sum, a[i], bs[j][0], bs[j][1]);
        sd_mma_tf32(sum, a[i], b[j][0], b[j][1]);
#pragma unroll
        for (int r = 0; r < 4; r++) acc[i * T::NI + j][r] += sum[r];
      }
  }
}

// f32 without tensor cores. A thread has 2 MI rows and 2 NI columns of its warp's part: neighbours stand 8 (4) apart where
// the slice is along the steps, else SIDE (four) side by side.
template <class T> struct sd_plain {
  static const int SIDE = T::MI == 1 ? 2 : 4;
  static SD_FN int row(int i, int thread) {
    const int l = thread % 32 / 4;
    return T::XK ? i * 8 + l : i / SIDE * 8 * SIDE + l * SIDE + i % SIDE;
  }
  static SD_FN int column(int j, int thread) { return T::YK ? j * 4 + thread % 4 : j / 4 * 16 + thread % 4 * 4 + j % 4; }
};
template <class T> SD_FN void sd_step_plain(float (&acc)[T::MI * T::NI][4], const u8 *s, int xs, int ys) {
  typedef sd_plain<T> P;
  const int R = 2 * T::MI, C = 2 * T::NI, SIDE = P::SIDE;
#pragma unroll 1
  for (int c = 0; c < T::KC; c += T::WK) {
    float x[R][4], y[4][4]; // row or column, step; y across the steps: step, column
    const int chunk = c + T::part((int)threadIdx.x);
#pragma unroll
    for (int i = 0; i < R; i++) {
      if constexpr (T::XK) {
        sd_load_vector<4>(x[i], (const float *)(s + xs), sd_swizzle<T::KC>(T::row((int)threadIdx.x) + P::row(i, (int)threadIdx.x), chunk) * 4);
      } else if (i % SIDE == 0) {
#pragma unroll
        for (int k = 0; k < 4; k++) {
          float v[SIDE];
          const int m = T::row((int)threadIdx.x) + P::row(i, (int)threadIdx.x);
          sd_load_vector<SIDE>(v, (const float *)(s + xs), sd_swizzle_words<T::BM / 4>(chunk * 4 + k, m / 4) * 4 + m % 4);
#pragma unroll
          for (int up = 0; up < SIDE; up++) x[i + up][k] = v[up];
        }
      }
    }
#pragma unroll
    for (int j = 0; j < C; j++) {
      if constexpr (T::YK) {
        sd_load_vector<4>(y[0], (const float *)(s + ys), sd_swizzle<T::KC>(T::column((int)threadIdx.x) + P::column(j, (int)threadIdx.x), chunk) * 4);
      } else if (j % 4 == 0) {
#pragma unroll
        for (int k = 0; k < 4; k++)
          sd_load_vector<4>(y[k], (const float *)(s + ys), sd_swizzle_words<T::BN / 4>(chunk * 4 + k, (T::column((int)threadIdx.x) + P::column(j, (int)threadIdx.x)) / 4) * 4);
      }
#pragma unroll
      for (int i = 0; i < R; i++)
#pragma unroll
        for (int k = 0; k < 4; k++) {
          float &to = acc[(i * C + j) / 4][(i * C + j) % 4];
          to = fmaf(x[i][k], T::YK ? y[0][k] : y[k][j % 4], to);
        }
    }
  }
}

// Which GPUs have three products of tf32 numbers in less time than one of f32.
#if defined(SD_HOST) || __CUDA_ARCH__ == 800 || __CUDA_ARCH__ == 870 || __CUDA_ARCH__ == 900 || __CUDA_ARCH__ == 1000 || __CUDA_ARCH__ == 1030
#define SD_F32_SPLIT true
#else
#define SD_F32_SPLIT false
#endif
template <class T> SD_FN void sd_step_f32(float (&acc)[T::MI * T::NI][4], const u8 *s, int xs, int ys) {
  if constexpr (SD_F32_SPLIT) sd_step_split<T>(acc, s, xs, ys);
  else sd_step_plain<T>(acc, s, xs, ys);
}

// ---- sums to shared memory: BM rows of BN words, from which threads take vectors along n ----
// Word n of row m. Neither rows m, m + 1, m + 2, m + 3 of two neighbouring chunks share banks, nor every other chunk of sixteen.
template <int BN> SD_FN int sd_sum_turn(int m) { return BN == 16 ? m & 2 : (m & 3) << 1; }
template <int BN> SD_FN int sd_sum_place(int m, int n) {
  const int c = n / 4;
  return m * BN + (c ^ sd_sum_turn<BN>(m) ^ (c >> 3 & 1)) * 4 + n % 4;
}
template <class T, class A> SD_FN void sd_put(u8 *s, int m, int n, A v, bool add) {
  A *const p = (A *)s;
  const int at = sd_sum_place<T::BN>(m, n);
  SD_ST(p, at, add ? sd_add<A>(SD_LD(p, at), v) : v);
}
template <class T, class A> SD_FN void sd_put_two(u8 *s, int at, A v, A w, bool add) {
  A *const p = (A *)s, q[2] = {v, w};
  if (add) {
    A old[2];
    sd_load_vector<2>(old, p, at);
    q[0] = sd_add<A>(old[0], v), q[1] = sd_add<A>(old[1], w);
  }
  sd_store_vector<2>(p, at, q);
}
// All slices are done with; ends with a barrier. PLAIN: acc is that of sd_step_plain, TURNED: that of sd_step_places.
template <class T, bool PLAIN, bool TURNED = false, class A> SD_FN void sd_stage(const A (&acc)[T::MI * T::NI][4], u8 *s) {
  int thread = (int)threadIdx.x;
  SD_HERE(thread);
  const int l = thread % 32;
#pragma unroll
  for (int w = 0; w < T::WK; w++) {
    if (T::part(thread) == w) {
#pragma unroll
      for (int i = 0; i < T::MI * T::NI; i++) {
        if constexpr (PLAIN) {
#pragma unroll
          for (int r = 0; r < 4; r++) {
            const int e = i * 4 + r, C = 2 * T::NI;
            sd_put<T, A>(s, T::row(thread) + sd_plain<T>::row(e / C, thread), T::column(thread) + sd_plain<T>::column(e % C, thread), acc[i][r], w > 0);
          }
        } else if constexpr (TURNED) {
          const int n = T::column(thread) + i / sd_turned<T>::RI * 16 + l / 4, m = T::row(thread) + i % sd_turned<T>::RI * 8 + l % 4 * 2;
#pragma unroll
          for (int r = 0; r < 4; r++) sd_put<T, A>(s, m + r % 2, n + r / 2 * 8, acc[i][r], w > 0);
        } else {
          // that of sd_sum_place, by parts: T::column is a multiple of 16 where it is not 0
          const int m = T::row(thread) + i / T::NI * 16 + l / 4, n = T::column(thread) + i % T::NI * 8;
          const int at = m * T::BN + ((n / 4 ^ sd_sum_turn<T::BN>(m)) + (l / 2 & 1 ^ (n >> 5 & 1))) * 4 + l % 2 * 2;
          sd_put_two<T, A>(s, at, acc[i][0], acc[i][1], w > 0);
          sd_put_two<T, A>(s, at + 8 * T::BN, acc[i][2], acc[i][3], w > 0);
        }
      }
    }
    __syncthreads();
  }
}
template <class T> SD_FN void sd_stage_f32(const float (&acc)[T::MI * T::NI][4], u8 *s) {
  sd_stage<T, !SD_F32_SPLIT>(acc, s);
}
template <class T, int N, class A> SD_FN void sd_staged(A (&to)[N], const u8 *s, int m, int n) {
  constexpr int SIDE = N < 4 ? N : 4;
#pragma unroll
  for (int j = 0; j < N; j += SIDE) sd_load_vector<SIDE>(to + j, (const A *)s, sd_sum_place<T::BN>(m, n + j));
}
