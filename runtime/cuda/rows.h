// A struct of the driver (cuda.h, CUDA_MEMCPY2D) that prototypes in api.def take.
#pragma once
#include <stddef.h>
#include <stdint.h>

enum { SD_CU_UNIFIED = 4 }; // the address tells the device
// Rows of `width` bytes, `from_pitch` and `to_pitch` apart.
typedef struct sd_cu_rows {
  size_t from_x, from_y;
  int from_type;
  const void *from_host;
  uint64_t from;
  void *from_array;
  size_t from_pitch, to_x, to_y;
  int to_type;
  void *to_host;
  uint64_t to;
  void *to_array;
  size_t to_pitch, width, height;
} sd_cu_rows;
