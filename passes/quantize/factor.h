// Factors of symmetric matrices of doubles, for what second moments of inputs say about weights.
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"

// Whether to go on: asked between blocks of rows and columns, its error ends the work and is returned. NULL: always.
typedef sard_status *(*sd_check)(void);

// a = l l', in place, lower triangle; *good false where a ([n][n]) is not positive definite.
sard_status *sd_factor_cholesky(double *a, uint64_t n, sd_check check, bool *good);
// u: the upper factor of the inverse of h + damping times the mean of its diagonal, u' u; columns of inputs
// that are always 0 stand alone. `u` and `work` are [n][n]. *good false where that is not positive definite.
sard_status *sd_factor_inverse(const double *h, uint64_t n, double damping, double *u, double *work,
                               sd_check check, bool *good);
// The same with the least damping from 0.01 up, in steps of ten, that does; *good false: none below 1e4 does.
sard_status *sd_factor_damped(const double *h, uint64_t n, double *u, double *work, sd_check check, bool *good);
