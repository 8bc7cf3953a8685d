
// ---- products by four warps at once (wgmma of sm_90a): the factors stand in shared memory, the sums arrive later ----
// A slice begins at a multiple of 1024 bytes and has rows of 128 bytes, whose chunks stand as sd_swizzle<8> says. A factor
// along the steps (XK, YK): a row for each row (column) of the product, `at`: byte of its first row, 32 bytes for the steps of
// one product. Across the steps, of 16-bit elements: a row for each step, 64 rows (columns) of the product in it, `block` bytes
// from those to the next 64. 64 x N results: warp w of the four has rows 16 w and on, fragments as sd_mma_f16 says.
#ifdef SD_HOST // tests/cuda/host_wgmma.h
#else
// What this thread wrote to shared memory is there for products that threads issue behind the next barrier.
SD_FN void sd_wide_fence() { SD_VOLATILE("fence.proxy.async.shared::cta;" ::: "memory"); }
SD_FN void sd_wide_begin() { SD_VOLATILE("wgmma.fence.sync.aligned;" ::: "memory"); } // before the first of a group
SD_FN void sd_wide_commit() { SD_VOLATILE("wgmma.commit_group.sync.aligned;" ::: "memory"); } // those issued become a group
template <class A> SD_FN void sd_wide_hold(A &x) {
  if constexpr (sd_is_float<A>::value) SD_VOLATILE("" : "+f"(x)::"memory");
  else SD_VOLATILE("" : "+r"(x)::"memory");
}
// Until at most GROUPS groups are under way; c is whole when none is.
template <int GROUPS, int M, class A> SD_FN void sd_wide_wait(A (&c)[M][4]) {
  SD_VOLATILE("wgmma.wait_group.sync.aligned %0;" ::"n"(GROUPS) : "memory");
#pragma unroll
  for (int i = 0; i < M; i++)
#pragma unroll
    for (int r = 0; r < 4; r++) sd_wide_hold(c[i][r]);
}
// Rows of 128 bytes, eight of them in 1024; turned by the last three bits of their number.
SD_FN u64 sd_wide_slice(const u8 *s, int at, int block) {
  return (u64)(sd_shared_at(s, at) >> 4 & 0x3fff) | (u64)(block >> 4) << 16 | (u64)(1024 >> 4) << 32 | (u64)1 << 62;
}

#define SD_C4(c, i) c(sums[i][0]), c(sums[i][1]), c(sums[i][2]), c(sums[i][3])
#define SD_C16(c, i) SD_C4(c, i), SD_C4(c, i + 1), SD_C4(c, i + 2), SD_C4(c, i + 3)
#define SD_C64(c, i) SD_C16(c, i), SD_C16(c, i + 4), SD_C16(c, i + 8), SD_C16(c, i + 12)
#define SD_C_FLOAT(x) "+f"(x)
#define SD_C_INT(x) "+r"(x)
#define SD_P32 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24," \
  "%25,%26,%27,%28,%29,%30,%31"
#define SD_P64 SD_P32 ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53," \
  "%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define SD_P96 SD_P64 ",%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,%84,%85," \
  "%86,%87,%88,%89,%90,%91,%92,%93,%94,%95"
#define SD_P128 SD_P96 ",%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,%112,%113," \
  "%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"
#define SD_WIDE_TURNS(x, y) ", 1, 1, %" #x ", %" #y
#define SD_WIDE_NO_TURNS(x, y) ", 1, 1"
#define SD_WIDE_PLAIN(x, y)
#define SD_WIDE(n, rest, all, x_number, y_number, more, ...)                                                                 \
  SD_VOLATILE("{.reg .pred p; setp.eq.u32 p, 0, 0; wgmma.mma_async.sync.aligned.m64n" #n rest " {" all "}, %" #x_number      \
              ", %" #y_number ", p" more ";}"                                                                                \
              : __VA_ARGS__ : "l"(x), "l"(y), "n"(XK ? 0 : 1), "n"(YK ? 0 : 1))
#define SD_WIDE_ALL(c, rest, MORE)                                                                                           \
  const u64 x = sd_wide_slice(s, xs, block), y = sd_wide_slice(s, ys, block);                                                \
  if constexpr (N == 64) SD_WIDE(64, rest, SD_P32, 32, 33, MORE(34, 35), SD_C16(c, 0), SD_C16(c, 4));                        \
  else if constexpr (N == 128) SD_WIDE(128, rest, SD_P64, 64, 65, MORE(66, 67), SD_C64(c, 0));                               \
  else if constexpr (N == 192) SD_WIDE(192, rest, SD_P96, 96, 97, MORE(98, 99), SD_C64(c, 0), SD_C16(c, 16), SD_C16(c, 20)); \
  else SD_WIDE(256, rest, SD_P128, 128, 129, MORE(130, 131), SD_C64(c, 0), SD_C64(c, 16))
#define SD_WIDE_FN(type, rest, MORE)                                                                                          \
  template <int N, bool XK, bool YK> SD_FN void sd_wide_##type(float (&sums)[N / 8][4], const u8 *s, int xs, int ys, int block) { \
    SD_WIDE_ALL(SD_C_FLOAT, rest, MORE);                                                                                      \
  }
SD_WIDE_FN(f16, "k16.f32.f16.f16", SD_WIDE_TURNS)
SD_WIDE_FN(bf16, "k16.f32.bf16.bf16", SD_WIDE_TURNS)
SD_WIDE_FN(tf32, "k8.f32.tf32.tf32", SD_WIDE_NO_TURNS) // along the steps both
// Of bytes, signed (XS, YS) or not; along the steps both.
template <int N, bool XS, bool YS> SD_FN void sd_wide_bytes(int (&sums)[N / 8][4], const u8 *s, int xs, int ys, int block) {
  constexpr bool XK = true, YK = true;
  if constexpr (XS && YS) { SD_WIDE_ALL(SD_C_INT, "k32.s32.s8.s8", SD_WIDE_PLAIN); }
  else if constexpr (XS) { SD_WIDE_ALL(SD_C_INT, "k32.s32.s8.u8", SD_WIDE_PLAIN); }
  else if constexpr (YS) { SD_WIDE_ALL(SD_C_INT, "k32.s32.u8.s8", SD_WIDE_PLAIN); }
  else { SD_WIDE_ALL(SD_C_INT, "k32.s32.u8.u8", SD_WIDE_PLAIN); }
}
#endif

// Where chunk c of row r of a slice across the steps stands: blocks of 64 elements beside each other, ROWS rows in each.
template <int ROWS> SD_FN int sd_wide_across(int r, int c) { return (c / 8 * ROWS + r) * 8 + (c % 8 ^ (r & 7)); }
