// NonMaxSuppression: each class of each batch is a tile. Candidates are taken in order of their scores; as few of them are
// kept as a rule, only the best ones are sorted first. Numbers are floats, as the boxes are.
#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/host_ops.h"
#include "runtime/host_sort.h"

enum { BLOCK = 8, FIRST = 4 };

// Boxes as five arrays; y0 <= y1 and x0 <= x1.
typedef struct boxes { float *y0, *x0, *y1, *x1, *area; } boxes;
typedef struct box { float y0, x0, y1, x1, area; } box;

typedef struct nms {
  const sd_host_tensor *boxes, *scores;
  uint64_t classes, n;
  float iou, least;
  bool has_least, center;
  boxes box;         // of all batches
  int64_t *selected; // [batch * classes][most]: indices of boxes
  uint64_t *found, most;
  sd_item *items;    // [worker][2][room]
  uint64_t room;
  float *kept;       // [worker][5][n + BLOCK]
} nms;

static box get_box(const boxes *b, uint64_t i) { return (box){b->y0[i], b->x0[i], b->y1[i], b->x1[i], b->area[i]}; }

static void set_box(const boxes *b, uint64_t i, box v) {
  b->y0[i] = v.y0, b->x0[i] = v.x0, b->y1[i] = v.y1, b->x1[i] = v.x1, b->area[i] = v.area;
}

static boxes boxes_at(float *p, uint64_t stride) { return (boxes){p, p + stride, p + 2 * stride, p + 3 * stride, p + 4 * stride}; }

static box read_box(const sd_host_tensor *t, uint64_t i, bool center) {
  float v[4], s;
  for (int k = 0; k < 4; k++) v[k] = t->dtype == SD_F32 ? ((const float *)t->data)[i * 4 + (uint64_t)k] : (float)sd_dtype_get_f64(t->dtype, t->data, i * 4 + (uint64_t)k);
  box b = {v[0], v[1], v[2], v[3], 0};
  if (center) b = (box){v[1] - v[3] / 2, v[0] - v[2] / 2, v[1] + v[3] / 2, v[0] + v[2] / 2, 0};
  if (b.y0 > b.y1) s = b.y0, b.y0 = b.y1, b.y1 = s;
  if (b.x0 > b.x1) s = b.x0, b.x0 = b.x1, b.x1 = s;
  b.area = (b.y1 - b.y0) * (b.x1 - b.x0);
  return b;
}

static void read_boxes(void *user, int worker, uint32_t begin, uint32_t end) {
  const nms *s = user;
  (void)worker;
  for (uint64_t i = begin * s->n; i < end * s->n; i++) set_box(&s->box, i, read_box(s->boxes, i, s->center));
}

// Whether one of BLOCK boxes from k on overlaps b. Boxes without area overlap nothing.
static bool block_overlaps(const boxes *a, uint64_t k, const box *b, float limit) {
  int any = 0;
  for (int i = 0; i < BLOCK; i++) {
    float y0 = a->y0[k + i] > b->y0 ? a->y0[k + i] : b->y0, y1 = a->y1[k + i] < b->y1 ? a->y1[k + i] : b->y1;
    float x0 = a->x0[k + i] > b->x0 ? a->x0[k + i] : b->x0, x1 = a->x1[k + i] < b->x1 ? a->x1[k + i] : b->x1;
    float h = y1 - y0, w = x1 - x0, both = h * w, all = a->area[k + i] + b->area - both;
    any |= (h > 0) & (w > 0) & (all > 0) & (both / all > limit);
  }
  return any;
}

// ---- a class ----

static bool candidate(const nms *s, uint64_t i, uint64_t *key) {
  const sd_host_tensor *t = s->scores;
  float v = t->dtype == SD_F32 ? ((const float *)t->data)[i] : (float)sd_dtype_get_f64(t->dtype, t->data, i);
  if (s->has_least && !(v > s->least)) return false;
  sd_host_keys(t->dtype, t->data, i, 1, key);
  *key = ~*key; // highest first
  return true;
}

// The `want` best of the class, in order, as items.
static uint64_t best(const nms *s, uint64_t base, uint64_t want, sd_item *items) {
  sd_top t = {.items = items, .spare = items + s->room, .k = want, .room = sd_top_room(want, s->n)};
  uint64_t key;
  for (uint64_t i = 0; i < s->n; i++)
    if (candidate(s, base + i, &key)) sd_top_offer(&t, key, (int64_t)i);
  sd_top_settle(&t);
  return t.n;
}

static void one_class(const nms *s, uint64_t class, sd_item *items, float *memory) {
  uint64_t base = class * s->n, batch = class / s->classes, n = 0, want = s->most * FIRST;
  int64_t *selected = s->selected + class * s->most;
  boxes kept = boxes_at(memory, s->n + BLOCK);
  s->found[class] = 0;
  if (want < SD_TOP_FEW || want > s->n / 8) want = s->n;
  for (uint64_t i = 0; s->found[class] < s->most; i++) {
    if (i == n) { // all that there are, or the first of them, were looked at
      if (n == s->n || (n && n < want)) break;
      if (n) want = s->n;
      if ((n = best(s, base, want, items)) <= i) break;
    }
    box b = get_box(&s->box, batch * s->n + (uint64_t)items[i].at);
    bool free = true;
    for (uint64_t k = 0; k < s->found[class] && free; k += BLOCK) free = !block_overlaps(&kept, k, &b, s->iou);
    if (!free) continue;
    set_box(&kept, s->found[class], b);
    selected[s->found[class]++] = items[i].at;
    for (uint64_t k = s->found[class]; k % BLOCK; k++) set_box(&kept, k, (box){0});
  }
}

static void run_classes(void *user, int worker, uint32_t begin, uint32_t end) {
  const nms *s = user;
  for (uint32_t i = begin; i < end; i++)
    one_class(s, i, s->items + (uint64_t)worker * 2 * s->room, s->kept + (uint64_t)worker * 5 * (s->n + BLOCK));
}

// ---- the operator ----

static sard_status *write(sd_host_call *c, const nms *s, uint64_t classes) {
  int64_t dims[2] = {0, 3};
  for (uint64_t i = 0; i < classes; i++) dims[0] += (int64_t)s->found[i];
  SD_TRY(c->make(c, 0, dims));
  int64_t *to = c->out[0].data;
  for (uint64_t i = 0; i < classes && c->out[0].dtype; i++)
    for (uint64_t k = 0; k < s->found[i]; k++, to += 3) {
      to[0] = (int64_t)(i / s->classes), to[1] = (int64_t)(i % s->classes), to[2] = s->selected[i * s->most + k];
    }
  return NULL;
}

static bool get_memory(nms *s, uint64_t workers, uint64_t batches, uint64_t classes) {
  uint64_t all, chosen;
  if (!sd_ck_mul(batches, s->n, &all) || !sd_ck_mul(classes, s->most, &chosen)) return false;
  s->box = boxes_at(sd_calloc(all, 5 * sizeof(float)), all);
  s->selected = sd_calloc(chosen, sizeof *s->selected), s->found = sd_calloc(classes, sizeof *s->found);
  s->room = s->n < SD_TOP_FEW ? SD_TOP_FEW : s->n;
  s->items = sd_calloc(workers * 2, s->room * sizeof *s->items);
  s->kept = sd_calloc(workers * 5, (s->n + BLOCK) * sizeof *s->kept);
  return s->box.y0 && s->selected && s->found && s->items && s->kept;
}

static sard_status *select_boxes(sd_host_call *c, nms *s) {
  uint64_t batches = (uint64_t)s->boxes->dims[0], classes = batches * s->classes;
  sard_status *st = NULL;
  if (classes > UINT32_MAX) return SD_ERR(UNSUPPORTED, "%llu classes", (unsigned long long)classes);
  bool any = s->most && classes;
  if (any && !get_memory(s, (uint64_t)sd_host_workers(c), batches, classes))
    st = SD_ERR(NOMEM, "out of memory for %llu boxes", (unsigned long long)s->n);
  if (any && !st) {
    sd_host_tiles(c, read_boxes, s, (uint32_t)batches);
    sd_host_tiles(c, run_classes, s, (uint32_t)classes);
  }
  if (!st) st = write(c, s, any ? classes : 0);
  sd_free(s->box.y0), sd_free(s->selected), sd_free(s->found), sd_free(s->items), sd_free(s->kept);
  return st;
}

static const sd_host_tensor *optional(const sd_host_call *c, uint32_t i) {
  return i < c->n_in && c->in[i].dtype && c->in[i].count ? &c->in[i] : NULL;
}

sard_status *sd_host_nms(sd_host_call *c) {
  nms s = {.boxes = &c->in[0], .scores = &c->in[1], .center = c->param[0] != 0};
  const sd_host_tensor *limit = optional(c, 2), *iou = optional(c, 3), *least = optional(c, 4);
  if (s.boxes->rank != 3 || s.scores->rank != 3 || s.boxes->dims[2] != 4 || s.boxes->dims[0] != s.scores->dims[0] || s.boxes->dims[1] != s.scores->dims[2])
    return SD_ERR(MODEL, "boxes and scores do not fit together");
  s.n = (uint64_t)s.boxes->dims[1], s.classes = (uint64_t)s.scores->dims[1];
  int64_t most = limit ? sd_dtype_get_i64(limit->dtype, limit->data, 0) : 0;
  s.most = most <= 0 ? 0 : (uint64_t)most < s.n ? (uint64_t)most : s.n;
  if (iou) s.iou = (float)sd_dtype_get_f64(iou->dtype, iou->data, 0);
  if (least) s.has_least = true, s.least = (float)sd_dtype_get_f64(least->dtype, least->data, 0);
  return select_boxes(c, &s);
}

