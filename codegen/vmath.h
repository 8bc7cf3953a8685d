// Transcendental functions as tile arithmetic, so that they vectorize, need no library and agree between targets.
#pragma once
#include "ir/tile.h"

// Rebuilds e with exp, log, tanh, erf, sin, pow, fmod... of floats replaced by additions, multiplications, selections and
// bit operations. New expressions go to k's tables; e itself stays. Errors: f32 within 2 units in the last place for exp,
// log, sqrt-like ones, within 5 for erf, tanh, sin and cos below 1e5; f64 within 1e-13 relative.
typedef enum sd_vmath {
  SD_VMATH_PLAIN,
  SD_VMATH_SCALE, // SHL of f32 operands stands for x * 2^y (y a whole number), right down to denormals and up to infinity
  SD_VMATH_EXP,   // the target has exp of f32: it stays; FLOORDIV of f32 operands stands for x / y within 2 units, y in [1, 2^100]
} sd_vmath;
sd_expr *sd_vmath_expand(sd_kernel *k, sd_expr *e, sd_vmath how);
