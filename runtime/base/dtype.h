// Element types. The enum values are ONNX's TensorProto.DataType numbers; 0 means unknown.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum sd_dtype {
  SD_DT_NONE = 0,
#define SD_DTYPE(name, text, onnx, bits, kind) SD_##name = onnx,
#include "runtime/base/dtype.def"
#undef SD_DTYPE
  SD_DT_COUNT
} sd_dtype;

typedef enum sd_dtype_kind { SD_DK_NONE, SD_DK_F, SD_DK_I, SD_DK_U, SD_DK_B, SD_DK_S, SD_DK_C, SD_DK_O } sd_dtype_kind;

const char *sd_dtype_name(sd_dtype t); // "f32"; "?" for an unknown one
sd_dtype sd_dtype_parse(const char *text); // SD_DT_NONE when unknown; also accepts ONNX's names ("FLOAT", "float32")
int sd_dtype_bits(sd_dtype t);         // 0 for an unknown one
bool sd_dtype_of_tensors(int64_t number); // one of ONNX's types: what model files may name
sd_dtype_kind sd_dtype_kind_of(sd_dtype t);
static inline bool sd_dtype_is_float(sd_dtype t) { return sd_dtype_kind_of(t) == SD_DK_F; }
static inline bool sd_dtype_is_int(sd_dtype t) {
  return sd_dtype_kind_of(t) == SD_DK_I || sd_dtype_kind_of(t) == SD_DK_U;
}
// Complex numbers are two parts each, real and imaginary; other elements one, of their own type.
sd_dtype sd_dtype_part(sd_dtype t); // F32 for C64, F64 for C128, else t
static inline uint64_t sd_dtype_parts(sd_dtype t) { return sd_dtype_kind_of(t) == SD_DK_C ? 2 : 1; }
// Bytes of `count` packed elements (sub-byte types round up); false on overflow or unknown type.
bool sd_dtype_bytes(sd_dtype t, uint64_t count, uint64_t *out_bytes);

// The same in ONNX's files, whose elements stand as in memory but for repacked types: of those four share three bytes,
// the first one in the low bits. The conversions read and write exactly these bytes.
bool sd_dtype_repacked(sd_dtype t);
bool sd_dtype_file_bytes(sd_dtype t, uint64_t count, uint64_t *out_bytes);
void sd_dtype_from_file(sd_dtype t, const void *file, uint64_t count, void *out);
void sd_dtype_to_file(sd_dtype t, const void *data, uint64_t count, void *file);

// Reads or writes element i of a packed array, widened: floats through double, integers and bools through int64.
// Strings are their numbers (runtime/base/strtab.h); complex numbers are read by their parts (else they give 0).
double sd_dtype_get_f64(sd_dtype t, const void *data, uint64_t i);
int64_t sd_dtype_get_i64(sd_dtype t, const void *data, uint64_t i);
void sd_dtype_set_f64(sd_dtype t, void *data, uint64_t i, double v); // rounds to nearest even
void sd_dtype_set_i64(sd_dtype t, void *data, uint64_t i, int64_t v);
