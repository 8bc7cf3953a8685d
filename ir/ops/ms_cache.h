// The caches of GroupQueryAttention, [B,kv_heads,C,D]: plain, quantized to 8 or 4 bits, or a window of the
// sequence.
#pragma once
#include "ir/ops/ms_attention.h"

typedef struct sd_ms_cache {
  uint32_t past, scale; // operands
  const char *type;     // attribute with the way of quantization
  sd_value *fresh;      // new rows [B,S,kv_heads*D], NULL: none
  sd_value *row;        // i64 [B]: where they go
  sd_value
      *first; // i64 [B]: first row of what was written that stays in a window; NULL: the cache is no window
  sd_dim T;   // rows of the present cache
  int64_t heads;

  sd_value *attend;  // [B,kv_heads,rows,D] of the type of the query
  sd_value *present; // [B,kv_heads,T,D] as it is stored
} sd_ms_cache;
sard_status *sd_ms_cache_write(xg *g, sd_ms_cache *c);

// Rows that a window cache of C rows holds of a sequence of `length` i64 [B]: at least the last `window`,
// compacted by C - window + 1 rows at once.
sd_value *sd_ms_window_rows(xg *g, sd_value *length, sd_dim C, int64_t window);
// A bias [.,.,S,total] by position of the keys, as one by row of what is attended, where rows start
// elsewhere.
sd_value *sd_ms_window_bias(xg *g, sd_value *bias, sd_value *past_len, sd_value *row, sd_value *attend);
