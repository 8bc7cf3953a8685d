// The flat program that the reference interpreter makes of a nest: instructions over registers of LANES points.
#pragma once
#include "ir/tile_priv.h"

#define SD_LANES 64

typedef struct sd_vm sd_vm;
typedef struct sd_inst sd_inst;
typedef void (*sd_inst_fn)(sd_vm *v, const sd_inst *i);

struct sd_inst {
  sd_inst_fn fn;
  uint32_t dst, x, y, z; // registers
  int64_t imm;           // count of a buffer, coefficient
  void *data;            // memory of a buffer, function, loop
  const sd_expr *e;
};

typedef SD_VEC(sd_inst) sd_block;

struct sd_vm {
  uint8_t *regs;       // LANES * 8 bytes each
  uint32_t n;          // active lanes of this chunk
  const uint8_t *mask; // per lane, NULL = all: points that limits exclude
  // First failure.
  const sd_expr *bad;
  const sd_buf *bad_buf;
  int64_t bad_value, bad_extent;
};

static inline void *sd_vm_reg(const sd_vm *v, uint32_t r) { return v->regs + (size_t)r * SD_LANES * 8; }
static inline bool sd_vm_on(const sd_vm *v, uint32_t lane) { return !v->mask || v->mask[lane]; }

// The instruction for e with operands of type `from`; NULL when e is not a plain operation.
sd_inst_fn sd_eval_fn(const sd_expr *e);
sd_inst_fn sd_eval_load_fn(sd_dtype storage);  // x offset, y guard (UINT32_MAX none), imm count, data
sd_inst_fn sd_eval_store_fn(sd_dtype storage); // x offset, y guard, z value
void sd_eval_scale_add(sd_vm *v, const sd_inst *i); // I64: dst = x + imm*y, x UINT32_MAX = nothing
void sd_eval_add_uniform(sd_vm *v, const sd_inst *i); // the same where all lanes of y are equal
void sd_eval_index(sd_vm *v, const sd_inst *i);
// acc op= x for the active lanes; f32 sums are accumulated in f64 (acc register holds doubles).
sd_inst_fn sd_eval_accumulate_fn(sd_rop r, sd_dtype t);
void sd_eval_splat(sd_vm *v, uint32_t reg, sd_dtype t, sd_scalar s); // all lanes
sd_scalar sd_eval_identity(sd_rop r, sd_dtype t);
sd_scalar sd_eval_lane(const sd_vm *v, uint32_t reg, sd_dtype t, uint32_t lane);
