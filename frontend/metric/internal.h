// The functions that rows of metric.def name.
#pragma once
#include "frontend/metric/metric.h"

#define SD_METRIC(name, labels, share, higher, unit, add, value, what)                                                 \
  sard_status *sd_metric_##add(const sd_metric_case *c, sd_score *s);                                                  \
  double sd_metric_##value(const sd_score *s, int without);
#include "frontend/metric/metric.def"
#undef SD_METRIC

// The label as a class; SARD_E_USAGE where it is no whole number below `classes`.
sard_status *sd_metric_class(const sd_metric_case *c, uint64_t classes, uint64_t *out);
// Index of the largest; NaN is never it. n where there is none.
uint64_t sd_metric_largest(const double *v, uint64_t n);
sard_status *sd_metric_short_of_memory(void);
