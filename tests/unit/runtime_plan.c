// Memory plan: no two buffers that live at the same time overlap, and the total is sensible.
#include "runtime/base/alloc.h"
#include "runtime/plan.h"
#include "tests/unit/test.h"

enum { MAX = 200 };

static void check_plan(sd_plan_item *items, uint32_t n) {
  uint32_t work[MAX];
  uint64_t total, live = 0, sum = 0;
  CHECK(sd_plan_place(items, n, work, &total));
  unsigned bad = 0;
  for (uint32_t i = 0; i < n; i++) {
    sd_plan_item *a = &items[i];
    sum += a->size;
    bad += a->offset % 64 != 0 || a->offset + a->size > total;
    for (uint32_t k = 0; k < i; k++) {
      sd_plan_item *b = &items[k];
      bool meet = a->first <= b->last && b->first <= a->last;
      bad += meet && a->offset < b->offset + b->size && b->offset < a->offset + a->size;
    }
    uint64_t at_step = 0; // what lives at the first step of this one
    for (uint32_t k = 0; k < n; k++)
      if (items[k].first <= a->first && a->first <= items[k].last) at_step += items[k].size;
    if (at_step > live) live = at_step;
  }
  CHECK(bad == 0 && total >= live && total <= sum);
}

static void random_lifetimes(void) {
  uint64_t seed = 3;
  for (int round = 0; round < 300; round++) {
    sd_plan_item items[MAX];
    uint32_t n = (uint32_t)(test_random(&seed) % MAX), steps = 1 + (uint32_t)(test_random(&seed) % 60);
    for (uint32_t i = 0; i < n; i++) {
      uint32_t first = (uint32_t)(test_random(&seed) % steps), length = (uint32_t)(test_random(&seed) % 8);
      items[i] = (sd_plan_item){64 * (1 + test_random(&seed) % 1000), first, first + length, i, 0};
    }
    check_plan(items, n);
  }
}

// A chain where each step reads one buffer and writes the next needs two of them only.
static void chain(void) {
  sd_plan_item items[50];
  uint32_t work[50];
  uint64_t total;
  for (uint32_t i = 0; i < 50; i++) items[i] = (sd_plan_item){640, i, i + 1, i, 0};
  CHECK(sd_plan_place(items, 50, work, &total) && total == 1280);
  CHECK(sd_plan_place(items, 0, work, &total) && total == 0);
}

static void overflow(void) {
  sd_plan_item items[2] = {{UINT64_MAX - 63, 0, 0, 0, 0}, {64, 0, 0, 1, 0}};
  uint32_t work[2];
  uint64_t total;
  CHECK(!sd_plan_place(items, 2, work, &total));
}

int main(void) {
  RUN(random_lifetimes);
  RUN(chain);
  RUN(overflow);
  return check_end();
}
