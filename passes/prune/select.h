// Which of many numbers are least, in time and memory that do not grow as those of sorting do.
#pragma once
#include <stdbool.h>
#include <stdint.h>

// The number of rank `rank`, from 0: all numbers are seen once in each of a few passes, in any order.
//   sd_select_begin(&s, rank); do { sd_select_see(&s, x) of each x } while (sd_select_again(&s));
// Then as many as s.rank of those that are equal to it come before it.
typedef struct sd_select {
  uint64_t key, rank, count[1 << 11];
  int pass;
} sd_select;

void sd_select_begin(sd_select *s, uint64_t rank);
void sd_select_see(sd_select *s, double x);
bool sd_select_again(sd_select *s); // false: it is found
bool sd_select_below(const sd_select *s, double x);
bool sd_select_equal(const sd_select *s, double x);
// Numbers that are not negative, the least first; `room` for as many.
void sd_select_sort(float *x, float *room, uint64_t n);
