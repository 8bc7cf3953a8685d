
// ---- walks along an axis (codegen/cuda/print_scan.c) ----
// Value of x in another lane of the warp, of any type.
template <class T> SD_FN T sd_of_lane(T x, int lane) {
  if constexpr (sizeof(T) == 8) {
    const u64 b = sd_bits<u64>(x);
    return sd_bits<T>((u64)sd_lane((unsigned)(b >> 32), lane) << 32 | sd_lane((unsigned)b, lane));
  } else if constexpr (sd_is_float<T>::value) {
    return sd_bits<T>(sd_lane(sd_bits<unsigned>(x), lane));
  } else {
    return (T)sd_lane((unsigned)x, lane);
  }
}
// Of the lanes up to this one.
template <class OP, class T> SD_FN T sd_scan(T x) {
  const int lane = (int)threadIdx.x % 32;
#pragma unroll
  for (int back = 1; back < 32; back <<= 1) {
    const T y = sd_of_lane<T>(x, lane < back ? lane : lane - back);
    if (lane >= back) x = OP::template of<T>(y, x);
  }
  return x;
}
