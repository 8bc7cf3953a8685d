// What the two forms of attention's nests share: all scores of a block of rows at once (attention.c), and tiles of keys
// one after the other (attention_tiles.c).
#pragma once
#include "ir/ops/xbuild.h"

enum { Q, K, V, MASK, KV_LEN, PAST, SINK };

typedef struct attn {
  const sd_node *n;
  int64_t layout[4]; // of q, k, v, y
  sd_dim B, H, Hk, S, T, D, Dv;
  int64_t rows, blocks;                // query rows of a block, blocks of a tile
  sd_items *items;                     // what is done for each block
  bool pack;                           // keys are transposed first
  int64_t panel;                       // keys that lie together then
  int64_t columns;                     // of values that lie together for all keys; 0: they stay where they are
  sd_dtype type;                       // compute type
  sd_expr *b, *h, *hk, *row0, *offset; // of the tile
  sd_expr *reach;                      // keys that the tile may attend are below it, NULL = all
  sd_dim pitch;                        // from a row of scores to the next
  sd_buf *keys, *values, *scores, *max, *sum;
} attn;

sard_status *sd_attn_read(const sd_node *n, attn *a);                // checks; fills layout and B .. Dv
sd_axis *sd_attn_grid(sd_tb *b, const char *name, sd_dim extent); // a new axis of the grid
void sd_attn_positions(sd_tb *b, attn *a);                        // compute type, offset of the rows; needs a->b
// Index into an operand or the output `which` (0..3: q, k, v, y) in the order of its layout.
void sd_attn_index(const attn *a, int which, sd_expr *b, sd_expr *h, sd_expr *s, sd_expr *d, sd_expr **out);
// Score of query row s (of head a->h) and key t from the sum of their products: scaled, capped, masked. `stages` become
// the scores of the modes 0..2 of the second output.
sd_expr *sd_attn_score(sd_tb *b, const attn *a, sd_expr *x, sd_expr *s, sd_expr *t, sd_expr **stages);
// One more score of each row, which takes its share of the probabilities but has no value; NULL where there is none.
sd_expr *sd_attn_sink(sd_tb *b, const attn *a);
// Makes nests over tiles of keys with a running maximum and sum, as large as b->tile says; a->B .. a->Dv are read
// already. False: the target wants none, or the sizes do not suit; nothing was made.
bool sd_attn_tiles(sd_tb *b, attn *a);
