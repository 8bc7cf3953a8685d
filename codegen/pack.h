// Re-lays constant operands as choose.c planned them.
#pragma once
#include "codegen/choose.h"

// The packed form of `src`, allocated in `a` (64-byte aligned, followed by at least 64 readable bytes).
sard_status *sd_pack_const(sd_arena *a, const sd_pack *p, const sd_const *src, const void **out, uint64_t *out_bytes);
// Equal for packings that give equal bytes of the same source.
uint64_t sd_pack_hash(const sd_pack *p);
