// Layout of a graph in layers: a node stands below all that it reads; order and places within layers follow
// neighbours.
#include <stdlib.h>
#include <string.h>

#include "frontend/cli/tools.h"

enum { BOX = 190, ROW = 84, SWEEPS = 8, MAX_POINTS = 400000 };

// A point is a node, or a bend of an edge that crosses a layer.
typedef struct point {
  uint32_t layer;
  double x, want;
  double width;
  SD_VEC(uint32_t) up, down;
} point;

typedef SD_VEC(uint32_t) index_list;

typedef struct layout {
  sd_arena *a;
  sd_picture *p;
  SD_VEC(point) points; // nodes first
  index_list *layers;   // points of each layer, from left to right
  uint32_t n_layers;
} layout;

// Longest path from the inputs; then inputs and lone producers move down to just above their first reader.
static void assign_layers(layout *l) {
  sd_picture *p = l->p;
  int top = 0;
  for (uint32_t i = 0; i < p->nodes.len; i++) p->nodes.at[i].layer = 0;
  for (uint32_t round = 0; round < 3; round++) // edges are mostly in order of nodes; models of odd order need more
    for (uint32_t i = 0; i < p->edges.len; i++) {
      const sd_picture_node *f = &p->nodes.at[p->edges.at[i].from];
      sd_picture_node *t = &p->nodes.at[p->edges.at[i].to];
      if (t->layer <= f->layer) t->layer = f->layer + 1;
    }
  int *low = SD_NEW_ARRAY(l->a, int, p->nodes.len + 1);
  bool *reads = SD_NEW_ARRAY(l->a, bool, p->nodes.len + 1);
  for (uint32_t i = 0; i < p->nodes.len; i++) {
    low[i] = INT32_MAX;
    if (p->nodes.at[i].layer > top) top = p->nodes.at[i].layer;
  }
  for (uint32_t i = 0; i < p->edges.len; i++) {
    const sd_picture_edge *e = &p->edges.at[i];
    reads[e->to] = true;
    if (p->nodes.at[e->to].layer < low[e->from]) low[e->from] = p->nodes.at[e->to].layer;
  }
  for (uint32_t i = 0; i < p->nodes.len; i++)
    if (!reads[i] && low[i] != INT32_MAX && low[i] > 0) p->nodes.at[i].layer = low[i] - 1;
  l->n_layers = (uint32_t)top + 1;
}

static uint32_t add_point(layout *l, uint32_t layer, double width) {
  sd_vec_push(l->a, &l->points, ((point){.layer = layer, .width = width}));
  return l->points.len - 1;
}

static void connect(layout *l, uint32_t a, uint32_t b) {
  sd_vec_push(l->a, &l->points.at[a].down, b);
  sd_vec_push(l->a, &l->points.at[b].up, a);
}

static void make_points(layout *l) {
  for (uint32_t i = 0; i < l->p->nodes.len; i++) add_point(l, (uint32_t)l->p->nodes.at[i].layer, BOX);
  for (uint32_t i = 0; i < l->p->edges.len; i++) {
    const sd_picture_edge *e = &l->p->edges.at[i];
    int from = l->p->nodes.at[e->from].layer, to = l->p->nodes.at[e->to].layer;
    uint32_t at = e->from;
    for (int y = from + 1; y < to && l->points.len < MAX_POINTS; y++) {
      uint32_t bend = add_point(l, (uint32_t)y, 24);
      connect(l, at, bend);
      at = bend;
    }
    if (from < to) connect(l, at, e->to);
  }
  l->layers = SD_NEW_ARRAY(l->a, index_list, l->n_layers + 1);
  for (uint32_t i = 0; i < l->points.len; i++) sd_vec_push(l->a, &l->layers[l->points.at[i].layer], i);
}

static const layout *sorting; // qsort has no argument for it; the command line has one thread here
static int by_want(const void *a, const void *b) {
  double x = sorting->points.at[*(const uint32_t *)a].want, y = sorting->points.at[*(const uint32_t *)b].want;
  if (x != y) return x < y ? -1 : 1;
  return *(const uint32_t *)a < *(const uint32_t *)b ? -1 : 1;
}

static double mean_of(const layout *l, const point *p, bool up) {
  uint32_t n = up ? p->up.len : p->down.len;
  const uint32_t *list = up ? p->up.at : p->down.at;
  double sum = 0;
  for (uint32_t i = 0; i < n; i++) sum += l->points.at[list[i]].x;
  return n ? sum / n : p->x;
}

// Puts the points of a layer side by side in their order, as near to where they want to be as widths allow.
static void place(layout *l, uint32_t y) {
  uint32_t n = l->layers[y].len, *list = l->layers[y].at;
  double shift = 0;
  for (uint32_t i = 0; i < n; i++) {
    point *p = &l->points.at[list[i]];
    p->x = p->want;
    if (i == 0) continue;
    const point *q = &l->points.at[list[i - 1]];
    double least = q->x + (q->width + p->width) / 2 + 16;
    if (p->x < least) p->x = least;
  }
  for (uint32_t i = 0; i < n; i++) shift += l->points.at[list[i]].want - l->points.at[list[i]].x;
  for (uint32_t i = 0; i < n; i++) l->points.at[list[i]].x += shift / n;
}

static void sweep(layout *l, bool down, bool order) {
  for (uint32_t i = 0; i < l->n_layers; i++) {
    uint32_t y = down ? i : l->n_layers - 1 - i;
    if (l->layers[y].len == 0) continue;
    for (uint32_t k = 0; k < l->layers[y].len; k++) {
      point *p = &l->points.at[l->layers[y].at[k]];
      p->want = mean_of(l, p, down);
    }
    sorting = l;
    if (order) qsort(l->layers[y].at, l->layers[y].len, sizeof(uint32_t), by_want);
    place(l, y);
  }
}

void sd_picture_layout(sd_arena *a, sd_picture *p, double *width, double *height) {
  layout l = {.a = a, .p = p};
  double left = 0, right = 0;
  assign_layers(&l);
  make_points(&l);
  for (uint32_t y = 0; y < l.n_layers; y++)
    for (uint32_t k = 0; k < l.layers[y].len; k++) l.points.at[l.layers[y].at[k]].x = k * (BOX + 16.0);
  for (int i = 0; i < SWEEPS; i++) sweep(&l, i % 2 == 0, true);
  for (int i = 0; i < SWEEPS; i++) sweep(&l, i % 2 == 1, false);
  for (uint32_t i = 0; i < l.points.len; i++) {
    if (i == 0 || l.points.at[i].x < left) left = l.points.at[i].x;
    if (i == 0 || l.points.at[i].x > right) right = l.points.at[i].x;
  }
  for (uint32_t i = 0; i < p->nodes.len; i++) {
    p->nodes.at[i].x = l.points.at[i].x - left + BOX;
    p->nodes.at[i].y = p->nodes.at[i].layer * (double)ROW + ROW;
  }
  // Edges keep their bends: the points of each edge follow its start in the order they were made.
  uint32_t next = p->nodes.len;
  for (uint32_t i = 0; i < p->edges.len; i++) {
    sd_picture_edge *e = &p->edges.at[i];
    int span = p->nodes.at[e->to].layer - p->nodes.at[e->from].layer - 1;
    e->n_bends = 0;
    if (span <= 0) continue;
    e->bends = SD_NEW_ARRAY(a, double, span);
    for (int k = 0; k < span && next < l.points.len; k++) e->bends[e->n_bends++] = l.points.at[next++].x - left + BOX;
  }
  *width = right - left + 2 * BOX;
  *height = l.n_layers * (double)ROW + ROW;
}
