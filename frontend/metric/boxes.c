// Mean average precision of detected boxes, as COCO counts it (101 points of recall, IoU 0.5 to 0.95 in steps of 0.05,
// at most 100 boxes for an image). Outputs and labels are rows of boxes: x1, y1, x2, y2, score, class; labels without a
// score. A label whose class is negative is none.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/metric/internal.h"
#include "runtime/base/alloc.h"

enum { LEVELS = 10, MOST_BOXES = 100, OUT_ROW = 6, LABEL_ROW = 5, MOST_CLASSES = 1 << 12, POINTS = 101 };

static double overlap(const double *a, const double *b) {
  double w = fmin(a[2], b[2]) - fmax(a[0], b[0]), h = fmin(a[3], b[3]) - fmax(a[1], b[1]);
  double both = w > 0 && h > 0 ? w * h : 0, all = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both;
  return all > 0 ? both / all : 0;
}

static int by_score_down(const void *a, const void *b) {
  double x = (*(const double *const *)a)[4], y = (*(const double *const *)b)[4];
  return (x < y) - (x > y);
}

// Of each class the labels are counted: in the sums.
static sard_status *count_labels(const sd_metric_case *c, sd_score *s) {
  for (uint64_t i = 0; i < c->want->n / LABEL_ROW; i++) {
    double k = c->want->at[LABEL_ROW * i + 4];
    if (k < 0) continue;
    if (k != floor(k) || k >= MOST_CLASSES)
      return SD_ERR(USAGE, "class %g of a box of sample %lld is no class", k, (long long)c->index);
    double *sums = sd_score_sums(s, (uint32_t)k + 1);
    if (!sums) return sd_metric_short_of_memory();
    sums[(uint32_t)k] += 1;
  }
  return NULL;
}

// The best free label of a box's class; each label is found once, by the best box.
static sard_status *match_level(const sd_metric_case *c, sd_score *s, const double **boxes, uint64_t n, int level,
                                char *found) {
  uint64_t n_label = c->want->n / LABEL_ROW;
  memset(found, 0, n_label);
  for (uint64_t i = 0; i < n; i++) {
    double best = 0.5 + 0.05 * level - 1e-9;
    uint64_t which = n_label;
    for (uint64_t k = 0; k < n_label; k++) {
      const double *label = c->want->at + LABEL_ROW * k;
      if (found[k] || label[4] != boxes[i][5]) continue;
      double o = overlap(boxes[i], label);
      if (o >= best) best = o, which = k;
    }
    if (which < n_label) found[which] = 1;
    SD_TRY(sd_score_list(s, boxes[i][4], (int32_t)boxes[i][5] * LEVELS + level, which < n_label));
  }
  return NULL;
}

sard_status *sd_metric_map_add(const sd_metric_case *c, sd_score *s) {
  uint64_t n = c->out->n / OUT_ROW;
  if (c->out->rank != 2 || c->out->dims[1] != OUT_ROW || c->want->rank != 2 || c->want->dims[1] != LABEL_ROW)
    return SD_ERR(USAGE, "map needs boxes of x1, y1, x2, y2, score, class in an output [boxes,6], and labels [boxes,5] "
                         "of x1, y1, x2, y2, class");
  SD_TRY(count_labels(c, s));
  const double **boxes = sd_malloc((n + 1) * sizeof *boxes);
  char *found = sd_malloc(c->want->n / LABEL_ROW + 1);
  sard_status *st = boxes && found ? NULL : sd_metric_short_of_memory();
  uint64_t good = 0;
  for (uint64_t i = 0; !st && i < n; i++) {
    const double *box = c->out->at + OUT_ROW * i;
    if (box[5] >= 0 && box[5] < MOST_CLASSES && !isnan(box[4])) boxes[good++] = box;
  }
  if (!st && good) qsort(boxes, good, sizeof *boxes, by_score_down);
  for (int level = 0; !st && level < LEVELS; level++)
    st = match_level(c, s, boxes, good < MOST_BOXES ? good : MOST_BOXES, level, found);
  sd_free(boxes), sd_free(found);
  return st;
}

static int by_group(const void *a, const void *b) {
  const sd_score_entry *x = a, *y = b;
  if (x->group != y->group) return (x->group > y->group) - (x->group < y->group);
  return (x->score < y->score) - (x->score > y->score);
}

// Average precision of the entries [from, to), in the order of falling scores, of `labels` boxes to be found: the area
// under precision made falling, at 101 points.
static double precision(const sd_score *s, uint64_t from, uint64_t to, int without, double labels) {
  double right = 0, all = 0, best[POINTS] = {0}, sum = 0;
  for (uint64_t i = from; i < to; i++) {
    if (s->list[i].block == without) continue;
    all += 1, right += s->list[i].right;
    int reached = (int)floor(right / labels * (POINTS - 1) + 1e-9);
    best[reached < POINTS ? reached : POINTS - 1] = fmax(best[reached < POINTS ? reached : POINTS - 1], right / all);
  }
  for (int i = POINTS - 1; i >= 0; i--) {
    if (i + 1 < POINTS) best[i] = fmax(best[i], best[i + 1]);
    sum += best[i];
  }
  return sum / POINTS;
}

double sd_metric_map_value(const sd_score *s, int without) {
  double sum = 0, classes = 0;
  qsort(s->list, s->n_list, sizeof *s->list, by_group);
  for (uint64_t i = 0, j; i < s->n_list; i = j) {
    for (j = i; j < s->n_list && s->list[j].group == s->list[i].group; j++) {
    }
    double labels = sd_score_sum(s, (uint32_t)(s->list[i].group / LEVELS), without);
    if (labels > 0) sum += precision(s, i, j, without, labels);
  }
  for (uint32_t k = 0; k < s->n_sums; k++) classes += sd_score_sum(s, k, without) > 0;
  return sum / (classes * LEVELS);
}
