// Re-lays constant operands as choose.c planned them.
#pragma once
#include "codegen/choose.h"

// Memory for the packed constants of a model, in the order of their use: one behind the other, and in pages of 2 MiB where
// they are many. threads: that copy large ones together, 0: the calling one.
typedef struct sd_pack_room { sd_arena *a; uint8_t *at; uint64_t left, used; int threads; } sd_pack_room;

// The packed form of `src`, which lives as long as room->a (64-byte aligned, followed by at least 64 readable bytes).
sard_status *sd_pack_const(sd_pack_room *room, const sd_pack *p, const sd_const *src, const void **out, uint64_t *out_bytes);
// Equal for packings that give equal bytes of the same source.
uint64_t sd_pack_hash(const sd_pack *p);
