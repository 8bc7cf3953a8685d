// Random numbers as expressions: a hash of seed, stream and position.
#pragma once
#include "ir/lower.h"

// Uniform in [0, 1), f32. `at`: position of the element, I64 (NULL passes through).
sd_expr *sd_x_random(sd_tb *b, sd_expr *at, uint32_t seed, uint32_t stream);
