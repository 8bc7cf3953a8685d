// The functions that ir/ops/grad.def names.
#pragma once
#include "ir/ops/grad.h"

#define SD_GRAD(op, text)
#define SD_GRAD_REDUCED(op, text)
#define SD_GRAD_FN(op, fn) void sd_grad_##fn(sd_grad *r);
#include "ir/ops/grad.def"
#undef SD_GRAD
#undef SD_GRAD_REDUCED
#undef SD_GRAD_FN
