// Host functions that rank: TopK and NonMaxSuppression.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/host_ops.h"

// ---- TopK ----
typedef struct pair { int64_t key, index; } pair; // smaller key first, then smaller index

static bool before(const pair *a, const pair *b) { return a->key != b->key ? a->key < b->key : a->index < b->index; }

static int compare_pairs(const void *a, const void *b) { return before(a, b) ? -1 : before(b, a); }

// Heap with the last pair in front.
static void sift(pair *heap, uint64_t n, uint64_t i) {
  for (;;) {
    uint64_t child = 2 * i + 1;
    if (child >= n) return;
    if (child + 1 < n && before(&heap[child], &heap[child + 1])) child++;
    if (!before(&heap[i], &heap[child])) return;
    pair t = heap[i];
    heap[i] = heap[child], heap[child] = t;
    i = child;
  }
}

static void select_row(const sd_host_tensor *x, uint64_t start, uint64_t stride, uint64_t len, bool largest, pair *heap, uint64_t k) {
  for (uint64_t i = 0; i < len; i++) {
    int64_t key = sd_host_key(x->dtype, x->data, start + i * stride);
    pair p = {largest ? ~key : key, (int64_t)i}; // ~ turns the order round
    if (i < k) {
      heap[i] = p;
      if (i + 1 == k)
        for (uint64_t h = k / 2; h-- > 0;) sift(heap, k, h);
    } else if (before(&p, &heap[0])) {
      heap[0] = p;
      sift(heap, k, 0);
    }
  }
  qsort(heap, k, sizeof *heap, compare_pairs);
}

sard_status *sd_host_topk(sd_host_call *c) {
  const sd_host_tensor *x = &c->in[0];
  int64_t dims[SD_HOST_RANK], k;
  int axis = (int)(c->param[0] < 0 ? c->param[0] + x->rank : c->param[0]);
  uint64_t outer = 1, inner = 1;
  size_t size = (size_t)sd_dtype_bits(x->dtype) / 8;
  if (axis < 0 || axis >= x->rank || c->in[1].count != 1) return SD_ERR(MODEL, "axis %d of a tensor of rank %d", axis, x->rank);
  if (!size) return SD_ERR(UNSUPPORTED, "tensors of type %s", sd_dtype_name(x->dtype));
  k = sd_dtype_get_i64(c->in[1].dtype, c->in[1].data, 0);
  if (k < 0 || k > x->dims[axis]) return SD_ERR(MODEL, "%lld of %lld elements are asked for", (long long)k, (long long)x->dims[axis]);
  for (int d = 0; d < x->rank; d++) {
    dims[d] = d == axis ? k : x->dims[d];
    if (d != axis) *(d < axis ? &outer : &inner) *= (uint64_t)x->dims[d];
  }
  for (uint32_t i = 0; i < c->n_out; i++) SD_TRY(c->make(c, i, dims));
  pair *heap = sd_calloc((uint64_t)k + 1, sizeof *heap);
  if (!heap) return SD_ERR(NOMEM, "out of memory for %lld elements", (long long)k);
  uint64_t len = (uint64_t)x->dims[axis];
  for (uint64_t row = 0; row < outer * inner && k; row++) {
    uint64_t from = row / inner * len * inner + row % inner, to = row / inner * (uint64_t)k * inner + row % inner;
    select_row(x, from, inner, len, c->param[1] != 0, heap, (uint64_t)k);
    for (uint64_t i = 0; i < (uint64_t)k; i++, to += inner) {
      if (c->out[0].dtype) memcpy((char *)c->out[0].data + to * size, (const char *)x->data + (from + (uint64_t)heap[i].index * inner) * size, size);
      if (c->n_out > 1 && c->out[1].dtype) ((int64_t *)c->out[1].data)[to] = heap[i].index;
    }
  }
  sd_free(heap);
  return NULL;
}

// ---- NonMaxSuppression ----
typedef struct box { double y0, x0, y1, x1, area; } box;

static box read_box(const sd_host_tensor *t, uint64_t i, bool center) {
  double v[4];
  for (int k = 0; k < 4; k++) v[k] = sd_dtype_get_f64(t->dtype, t->data, i * 4 + (uint64_t)k);
  box b = {v[0], v[1], v[2], v[3], 0};
  if (center) b = (box){v[1] - v[3] / 2, v[0] - v[2] / 2, v[1] + v[3] / 2, v[0] + v[2] / 2, 0};
  if (b.y0 > b.y1) v[0] = b.y0, b.y0 = b.y1, b.y1 = v[0];
  if (b.x0 > b.x1) v[0] = b.x0, b.x0 = b.x1, b.x1 = v[0];
  b.area = (b.y1 - b.y0) * (b.x1 - b.x0);
  return b;
}

static bool overlaps(const box *a, const box *b, double limit) {
  double h = fmin(a->y1, b->y1) - fmax(a->y0, b->y0), w = fmin(a->x1, b->x1) - fmax(a->x0, b->x0);
  if (h <= 0 || w <= 0) return false;
  double both = h * w, all = a->area + b->area - both;
  return all > 0 && both / all > limit;
}

typedef struct nms {
  const sd_host_tensor *boxes, *scores;
  uint64_t batch, classes, n, limit, found, room;
  double iou, least;
  bool has_least, center;
  pair *order;
  box *box, *kept;
  int64_t *selected; // triples
} nms;

static bool keep(nms *s, uint64_t batch, uint64_t class, int64_t index) {
  if (s->found == s->room) {
    uint64_t room = s->room ? 2 * s->room : 256;
    int64_t *grown = sd_realloc(s->selected, room * 3 * sizeof *grown);
    if (!grown) return false;
    s->selected = grown, s->room = room;
  }
  int64_t *to = s->selected + 3 * s->found++;
  to[0] = (int64_t)batch, to[1] = (int64_t)class, to[2] = index;
  return true;
}

static bool one_class(nms *s, uint64_t batch, uint64_t class) {
  uint64_t count = 0, kept = 0, base = (batch * s->classes + class) * s->n;
  for (uint64_t i = 0; i < s->n; i++) {
    if (s->has_least && !(sd_dtype_get_f64(s->scores->dtype, s->scores->data, base + i) > s->least)) continue;
    s->order[count++] = (pair){~sd_host_key(s->scores->dtype, s->scores->data, base + i), (int64_t)i};
  }
  qsort(s->order, count, sizeof *s->order, compare_pairs);
  for (uint64_t i = 0; i < count && kept < s->limit; i++) {
    const box *b = &s->box[s->order[i].index];
    bool free = true;
    for (uint64_t k = 0; k < kept && free; k++) free = !overlaps(b, &s->kept[k], s->iou);
    if (!free) continue;
    s->kept[kept++] = *b;
    if (!keep(s, batch, class, s->order[i].index)) return false;
  }
  return true;
}

static bool all_classes(nms *s) {
  for (uint64_t b = 0; b < s->batch; b++) {
    for (uint64_t i = 0; i < s->n; i++) s->box[i] = read_box(s->boxes, b * s->n + i, s->center);
    for (uint64_t c = 0; c < s->classes; c++)
      if (!one_class(s, b, c)) return false;
  }
  return true;
}

static const sd_host_tensor *optional(const sd_host_call *c, uint32_t i) {
  return i < c->n_in && c->in[i].dtype && c->in[i].count ? &c->in[i] : NULL;
}

sard_status *sd_host_nms(sd_host_call *c) {
  nms s = {.boxes = &c->in[0], .scores = &c->in[1], .center = c->param[0] != 0};
  const sd_host_tensor *limit = optional(c, 2), *iou = optional(c, 3), *least = optional(c, 4);
  if (s.boxes->rank != 3 || s.scores->rank != 3 || s.boxes->dims[2] != 4 || s.boxes->dims[0] != s.scores->dims[0] || s.boxes->dims[1] != s.scores->dims[2])
    return SD_ERR(MODEL, "boxes and scores do not fit together");
  s.batch = (uint64_t)s.boxes->dims[0], s.n = (uint64_t)s.boxes->dims[1], s.classes = (uint64_t)s.scores->dims[1];
  int64_t most = limit ? sd_dtype_get_i64(limit->dtype, limit->data, 0) : 0;
  s.limit = most > 0 ? (uint64_t)most : 0;
  if (iou) s.iou = sd_dtype_get_f64(iou->dtype, iou->data, 0);
  if (least) s.has_least = true, s.least = sd_dtype_get_f64(least->dtype, least->data, 0);
  s.order = sd_calloc(s.n, sizeof *s.order), s.box = sd_calloc(s.n, sizeof *s.box), s.kept = sd_calloc(s.n, sizeof *s.kept);
  bool ok = s.order && s.box && s.kept && (!s.limit || all_classes(&s));
  int64_t dims[2] = {(int64_t)s.found, 3};
  sard_status *st = ok ? c->make(c, 0, dims) : SD_ERR(NOMEM, "out of memory for %llu boxes", (unsigned long long)s.n);
  if (!st && s.found && c->out[0].dtype) memcpy(c->out[0].data, s.selected, s.found * 3 * sizeof *s.selected);
  sd_free(s.order), sd_free(s.box), sd_free(s.kept), sd_free(s.selected);
  return st;
}
