// Greedy memory plan: buffers by falling size, each into the tightest gap among those that live at the same time.
#include "runtime/plan.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/alloc.h"

static int by_size(const void *x, const void *y) {
  const sd_plan_item *a = x, *b = y;
  if (a->size != b->size) return a->size > b->size ? -1 : 1;
  if (a->first != b->first) return a->first < b->first ? -1 : 1;
  return a->id < b->id ? -1 : a->id > b->id; // a total order: the plan is the same everywhere
}

static bool meet(const sd_plan_item *a, const sd_plan_item *b) { return a->first <= b->last && b->first <= a->last; }

// Offset of the tightest gap for `it` between the placed items that live with it. `placed` is sorted by offset.
static uint64_t find_gap(const sd_plan_item *items, const uint32_t *placed, uint32_t n, const sd_plan_item *it) {
  uint64_t end = 0, best = UINT64_MAX, best_gap = UINT64_MAX;
  for (uint32_t i = 0; i < n; i++) {
    const sd_plan_item *p = &items[placed[i]];
    if (!meet(p, it)) continue;
    if (p->offset >= end && p->offset - end >= it->size && p->offset - end < best_gap) {
      best_gap = p->offset - end;
      best = end;
    }
    if (p->offset + p->size > end) end = p->offset + p->size;
  }
  return best != UINT64_MAX ? best : end;
}

bool sd_plan_place(sd_plan_item *items, uint32_t n, uint32_t *work, uint64_t *out_total) {
  uint64_t total = 0, sum = 0;
  for (uint32_t i = 0; i < n; i++)
    if (!sd_ck_add(sum, items[i].size, &sum) || sum > INT64_MAX) return false; // then no offset can overflow either
  if (n) qsort(items, n, sizeof *items, by_size);
  for (uint32_t i = 0; i < n; i++) {
    sd_plan_item *it = &items[i];
    it->offset = find_gap(items, work, i, it);
    if (it->offset + it->size > total) total = it->offset + it->size;
    uint32_t at = i;
    while (at > 0 && items[work[at - 1]].offset > it->offset) at--;
    memmove(work + at + 1, work + at, (i - at) * sizeof *work);
    work[at] = i;
  }
  *out_total = total;
  return true;
}
