// Constants of 2 and 4 bits that a sum widens: the steps of a word of 32 bits are taken apart from the others, and stand side by
// side for each lane. A vector of words then serves as many steps, each with one shift, and no element is looked for in its byte.
#pragma once
#include "codegen/choose_nest.h"

// The reductions of the nest over such constants, where they can be packed, get that form. Loads and reductions are collected anew.
sard_status *sd_words_choose(sd_choice *c);
// Steps side by side in a word of `load`, where its reduction r has that form; 1 for others.
int64_t sd_words_side(sd_kernel *k, const sd_expr *r, const sd_expr *load);
// The element of `load` at step `side` of the word at `offset`; its buffer becomes one of words. sliced: the bits are in the order of
// sd_words_slice, else in that of memory.
sd_expr *sd_words_element(sd_kernel *k, const sd_expr *load, sd_expr *offset, sd_axis *side, bool sliced);
// Step `side` of a word of unsigned elements of 2, 4 or 8 bits where neighbours stand in neighbouring bytes: a mask over all of the word
// gives four of them (codegen/blocks.h).
sd_expr *sd_words_slice(sd_kernel *k, sd_expr *word, sd_axis *side, int bits);
