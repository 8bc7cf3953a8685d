// What steps of schedules have in common that make several nests of a kernel of one.
#pragma once
#include "ir/tile.h"

// The only item of k, which has no grid yet; its points may be made in any order, its axes end where their extents say, and its stores are
// not read. NULL: k is no such kernel.
sd_nest *sd_lone_nest(const sd_kernel *k);

typedef struct sd_product {
  const sd_expr *sum, *x, *w; // the sum over x * w, loads of f32; w is constant
  uint32_t w_loads;           // of the nest, of w's buffer
} sd_product;
// The only sum of the nest, where it is one of products by a constant. `a`: scratch.
bool sd_product_find(sd_kernel *k, const sd_nest *n, sd_arena *a, sd_product *p);
// The stores of `from`, of which `by` takes the place of the sum, in `to`.
void sd_product_stores(sd_kernel *k, sd_nest *to, const sd_nest *from, const sd_expr *sum, sd_expr *by);
