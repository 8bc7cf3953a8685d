// Conversions between f32 and the narrow float formats; round to nearest even, NaN and infinities kept.
#pragma once
#include <stdint.h>

uint16_t sd_f32_to_f16(float x);
float sd_f16_to_f32(uint16_t h);
uint16_t sd_f32_to_bf16(float x);
float sd_bf16_to_f32(uint16_t h);
