// What the values of a tensor are over calibration data, in memory that does not depend on their number, and the range
// that integers are to cover.
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"

#define SD_RANGE_BINS 4096

typedef struct sd_range {
  uint64_t count, bad;       // finite values; NaN and infinities
  double min, max;           // of finite values
  double mean_min, mean_max; // of batches, later ones count at least one hundredth
  uint64_t batches;
  int exponent;   // the bins cover [-2^exponent, 2^exponent)
  uint64_t *bins; // NULL where no method needs them
} sd_range;

// `bins` of SD_RANGE_BINS zeros stay the caller's; NULL: smallest and largest values only.
void sd_range_init(sd_range *r, uint64_t *bins);
// The values of one batch. A value outside of the bins doubles their width until it fits: bins are merged in pairs,
// which loses nothing.
void sd_range_add(sd_range *r, const float *x, uint64_t n);

typedef struct sd_range_method {
  const char *name, *what;
  bool bins;     // it needs them
  double number; // default of its number (percentile:99.99); 0: it has none
  void (*find)(const sd_range *r, double number, double *lo, double *hi);
} sd_range_method;
const sd_range_method *sd_range_method_at(uint32_t i); // NULL past the end
// "minmax", "percentile:99.9"; SARD_E_USAGE names the known ones.
sard_status *sd_range_method_find(const char *text, const sd_range_method **out, double *number);
// Share of the values outside of [lo, hi], by the bins; 0 where there are none.
double sd_range_outside(const sd_range *r, double lo, double hi);
