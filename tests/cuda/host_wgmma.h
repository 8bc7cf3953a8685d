// Stand-ins of codegen/cuda/wgmma.cuh's helpers. The sums of products that nobody waited for yet are poison to the
// kernel; what the products read must have been there, behind a fence and a barrier, and must not change before the wait.
#pragma once

enum { HOST_WIDE_SUMS = 128, HOST_WIDE_READS = 24 };
// Of a thread; zero when it begins.
typedef struct host_wide {
  int begun, under_way; // a fence came since the last wait; products that are not waited for
  unsigned group, n_reads, n_sums;
  struct {
    const unsigned char *s;
    int at, block, rows, steps; // rows (columns) of the product; steps 0: along them
    unsigned group, sum;
  } reads[HOST_WIDE_READS];
  unsigned sums[HOST_WIDE_SUMS]; // as they will be
} host_wide;
static inline host_wide *host_wide_here() { return (host_wide *)model_thread(sizeof(host_wide)); }

// Byte of row (column) m, byte b of the 32 of the steps; across the steps of element b / 2.
static inline int host_wide_byte(int at, int block, bool along, int m, int b) {
  const int row = along ? m : b / 2, byte = along ? at % 128 + b : m % 64 * 2 + b % 2;
  const int first = along ? at / 128 * 128 : at + m / 64 * block;
  const int turn = (first / 128 + row) % 8; // slices begin at multiples of 1024 bytes
  return first + row * 128 + ((byte / 16 ^ turn) * 16 + byte % 16);
}
static inline unsigned host_wide_sum(const unsigned char *s, int at, int block, bool along, int rows) {
  unsigned h = 0;
  for (int m = threadIdx.x % 128; m < rows; m += 128)
    for (int b = 0; b < 32; b++) h = h * 31 + s[host_wide_byte(at, block, along, m, b)];
  return h;
}
// Each of the 128 threads looks after some of the rows.
static inline void host_wide_read(host_wide *w, const unsigned char *s, int at, int block, bool along, int rows) {
  if (w->n_reads == HOST_WIDE_READS) return model_complain("more than %d factors are being read", HOST_WIDE_READS);
  if (along ? at % 32 != 0 : at % 1024 != 0) return model_complain("a factor that begins at byte %d", at);
  for (int m = threadIdx.x % 128; m < rows; m += 128)
    for (int b = 0; b < 32; b += 2)
      if (!model_tensor_read(s, host_wide_byte(at, block, along, m, b), 2)) return;
  w->reads[w->n_reads].s = s, w->reads[w->n_reads].at = at, w->reads[w->n_reads].block = block;
  w->reads[w->n_reads].rows = rows, w->reads[w->n_reads].steps = !along, w->reads[w->n_reads].group = w->group;
  w->reads[w->n_reads++].sum = host_wide_sum(s, at, block, along, rows);
}

static inline void sd_wide_fence() { model_fence(); }
static inline void sd_wide_begin() { host_wide_here()->begun = 1; }
static inline void sd_wide_commit() { host_wide_here()->group++; }

template <int SIZE> static inline unsigned host_wide_element(const unsigned char *s, int at, int block, bool along, int m, int k) {
  unsigned x = 0;
  memcpy(&x, s + host_wide_byte(at, block, along, m, k * SIZE), SIZE);
  return x;
}

template <int N, bool XK, bool YK, int SIZE, class A, class X, class Y>
static inline void host_wide_mma(A (&c)[N / 8][4], const unsigned char *s, int xs, int ys, int block, X x_of, Y y_of) {
  host_wide *const w = host_wide_here();
  const int lane = threadIdx.x % 32, first = threadIdx.x / 32 % 4 * 16;
  if (!w->begun) return model_complain("thread %d multiplies without a fence", (int)threadIdx.x);
  host_wide_read(w, s, xs, block, XK, 64);
  host_wide_read(w, s, ys, block, YK, N);
  if (!w->under_way) memcpy(w->sums, c, sizeof c);
  w->under_way++, w->n_sums = N / 2;
  A sums[N / 8][4];
  memcpy(sums, w->sums, sizeof c);
  for (int i = 0; i < 4; i++)
    for (int k = 0; k < 32 / SIZE; k++) {
      const A x = x_of(host_wide_element<SIZE>(s, xs, block, XK, first + lane / 4 + i / 2 * 8, k));
      for (int j = 0; j < N / 8; j++)
        sums[j][i] += x * y_of(host_wide_element<SIZE>(s, ys, block, YK, j * 8 + lane % 4 * 2 + i % 2, k));
    }
  memcpy(w->sums, sums, sizeof c);
  memset(c, 0xff, sizeof c);
}

template <int GROUPS, int M, class A> static inline void sd_wide_wait(A (&c)[M][4]) {
  host_wide *const w = host_wide_here();
  unsigned left = 0;
  for (unsigned i = 0; i < w->n_reads; i++) {
    if (w->reads[i].group + GROUPS >= w->group) {
      w->reads[left++] = w->reads[i];
    } else if (host_wide_sum(w->reads[i].s, w->reads[i].at, w->reads[i].block, !w->reads[i].steps, w->reads[i].rows) != w->reads[i].sum) {
      return model_complain("thread %d: a factor changed while it was being multiplied", (int)threadIdx.x);
    }
  }
  w->n_reads = left;
  if (left || !w->under_way) return;
  if (w->n_sums != 4 * M) return model_complain("other sums than those of the products");
  memcpy(c, w->sums, sizeof c);
  w->under_way = 0, w->begun = 0;
}

template <int N, bool XK, bool YK> static inline void sd_wide_f16(float (&c)[N / 8][4], const unsigned char *s, int xs, int ys, int block) {
  host_wide_mma<N, XK, YK, 2>(c, s, xs, ys, block, host_f16, host_f16);
}
template <int N, bool XK, bool YK> static inline void sd_wide_bf16(float (&c)[N / 8][4], const unsigned char *s, int xs, int ys, int block) {
  host_wide_mma<N, XK, YK, 2>(c, s, xs, ys, block, host_bf16, host_bf16);
}
template <int N, bool XS, bool YS> static inline void sd_wide_bytes(int (&c)[N / 8][4], const unsigned char *s, int xs, int ys, int block) {
  host_wide_mma<N, true, true, 1>(c, s, xs, ys, block, XS ? host_s8 : host_u8, YS ? host_s8 : host_u8);
}
template <int N, bool XK, bool YK> static inline void sd_wide_tf32(float (&c)[N / 8][4], const unsigned char *s, int xs, int ys, int block) {
  host_wide_mma<N, XK, YK, 4>(c, s, xs, ys, block, host_tf32, host_tf32);
}
