// Factors of symmetric matrices of doubles, for what second moments of inputs say about weights.
#pragma once
#include <stdbool.h>
#include <stdint.h>

// a = l l', in place, lower triangle; false where a ([n][n]) is not positive definite.
bool sd_factor_cholesky(double *a, uint64_t n);
// u: the upper factor of the inverse of h + damping times the mean of its diagonal, u' u; columns of inputs
// that are always 0 stand alone. `u` and `work` are [n][n]. False where that is not positive definite.
bool sd_factor_inverse(const double *h, uint64_t n, double damping, double *u, double *work);
