// Trials as a picture: the goal along x (right is better), the drop along y (up is better), the size as that
// of the circle; those that no other one beats in both are joined.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/cli/optimize.h"

enum { WIDTH = 900, LEFT = 90, RIGHT = 590, TOP = 50, BOTTOM = 430, LEGEND = 620, ROW = 17 };

typedef struct point {
  const sd_trial *t;
  double gain, drop;
  int number;
  bool front;
} point;

typedef struct place {
  double x, y;
} place;

typedef struct plot {
  sd_optimize *q;
  point *at;
  int n;
  double x0, x1, y0, y1; // of the axes: logarithms of gains, drops
  place *labels;         // where numbers stand
  int n_labels;
} plot;

static double at_x(const plot *p, double gain) {
  return LEFT + (log(gain) - p->x0) / (p->x1 - p->x0) * (RIGHT - LEFT);
}
static double at_y(const plot *p, double drop) {
  double y = TOP + (drop - p->y0) / (p->y1 - p->y0) * (BOTTOM - TOP);
  return fmin(fmax(y, TOP), BOTTOM);
}

static int by_gain(const void *a, const void *b) {
  double x = ((const point *)a)->gain, y = ((const point *)b)->gain;
  return (x < y) - (x > y);
}

static void collect(plot *p) {
  const sd_optimize *q = p->q;
  double first = sd_optimize_value(q, &q->trials.at[0], q->goal), least = INFINITY, most = q->max_drop;
  p->at = SD_NEW_ARRAY(q->c->arena, point, q->trials.len + 1);
  p->labels = SD_NEW_ARRAY(q->c->arena, place, q->trials.len + 1);
  for (uint32_t i = 0; i < q->trials.len; i++) {
    const sd_trial *t = &q->trials.at[i];
    double v = t->state == SD_TRIAL_MEASURED ? sd_optimize_value(q, t, q->goal) : 0;
    if (v > 0) p->at[p->n++] = (point){.t = t, .gain = first / v, .drop = t->drop};
  }
  qsort(p->at, (size_t)p->n, sizeof *p->at, by_gain);
  p->x0 = INFINITY, p->x1 = -INFINITY, p->y0 = 0;
  for (int i = 0; i < p->n; i++) {
    point *k = &p->at[i];
    k->number = i + 1, k->front = k->drop < least, least = fmin(least, k->drop);
    p->x0 = fmin(p->x0, log(k->gain)), p->x1 = fmax(p->x1, log(k->gain)), p->y0 = fmin(p->y0, k->drop);
    if (k->t->kept) most = fmax(most, k->t->bound);
  }
  double free = fmax(0.1, (p->x1 - p->x0) * 0.08);
  p->x0 -= free, p->x1 += free;
  p->y1 = most > 0 ? 2.5 * most : 1e-6; // what loses more stands at the lower edge
  p->y0 -= (p->y1 - p->y0) * 0.08;
}

static void put_axes(const plot *p, sd_str *s) {
  static const double ticks[] = {0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50};
  static const char *const goals[] = {[SD_LATENCY] = "times as fast as the model as it is",
                                      [SD_THROUGHPUT] = "times the samples in a second",
                                      [SD_SIZE] = "times smaller on disk",
                                      [SD_MEMORY] = "times less memory"};
  char text[48];
  sd_strf(s, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" class=\"b\"/>\n", LEFT, TOP, RIGHT - LEFT,
          BOTTOM - TOP);
  double last = -INFINITY;
  for (size_t i = 0; i < sizeof ticks / sizeof *ticks; i++) {
    double x = at_x(p, ticks[i]);
    if (x < LEFT || x > RIGHT || x - last < 34) continue;
    last = x;
    sd_strf(s, "<path class=\"g\" d=\"M%.1f %dV%d\"/><text x=\"%.1f\" y=\"%d\" class=\"m\">%gx</text>\n", x,
            TOP, BOTTOM, x, BOTTOM + 18, ticks[i]);
  }
  for (int i = 0; i <= 5; i++) {
    double v = p->y1 * i / 5, y = at_y(p, v);
    sd_strf(s, "<path class=\"g\" d=\"M%d %.1fH%d\"/><text x=\"%d\" y=\"%.1f\" class=\"e\">%s</text>\n", LEFT,
            y, RIGHT, LEFT - 6, y + 4, sd_metric_text(p->q->judge.metric, v, text));
  }
  sd_strf(s, "<text x=\"%d\" y=\"%d\" class=\"m\">%s</text>\n", (LEFT + RIGHT) / 2, BOTTOM + 40,
          goals[p->q->goal]);
  sd_strf(
      s,
      "<text transform=\"translate(18,%d) rotate(-90)\" class=\"m\">drop of %s (bar: up to, 95 %%)</text>\n",
      (TOP + BOTTOM) / 2, p->q->judge.metric->name);
  double y = at_y(p, p->q->max_drop);
  sd_strf(s, "<path class=\"w\" d=\"M%d %.1fH%d\"/><text x=\"%d\" y=\"%.1f\" class=\"r\">allowed</text>\n",
          LEFT, y, RIGHT, LEFT + 5, y - 4);
}

static const char *colour(const plot *p, const sd_trial *t) {
  return t == p->q->chosen ? "#2a2" : !t->kept ? "#c44" : t->allowed ? "#36c" : "#888";
}

// A place beside a circle where no other number stands.
static place place_label(plot *p, double x, double y, double r) {
  const double right = r + 2, left = -r - 15;
  const place tries[] = {{right, -5},      {right, 9},      {left, -5},        {left, 9},
                         {right, -18},     {right, 22},     {left, -18},       {left, 22},
                         {right + 14, -5}, {right + 14, 9}, {right + 14, -18}, {right + 14, 22}};
  place at = {0};
  for (size_t k = 0; k < sizeof tries / sizeof *tries; k++) {
    bool free = true;
    at = (place){x + tries[k].x, y + tries[k].y};
    for (int i = 0; i < p->n_labels; i++)
      free &= fabs(p->labels[i].x - at.x) > 14 || fabs(p->labels[i].y - at.y) > 11;
    if (free) break;
  }
  return p->labels[p->n_labels++] = at;
}

static void put_point(plot *p, const point *k, sd_str *s) {
  const sd_trial *t = k->t;
  double x = at_x(p, k->gain), y = at_y(p, k->drop), end = at_y(p, isfinite(t->bound) ? t->bound : p->y1),
         r = fmin(4 + 6 * sqrt((double)t->bytes / (double)(p->q->trials.at[0].bytes + 1)), 14);
  const char *c = colour(p, t);
  sd_strf(s, "<g><title>"), sd_cli_markup(s, t->name, 200);
  sd_strf(s, "</title><path d=\"M%.1f %.1fV%.1f\" stroke=\"%s\" stroke-opacity=\"0.4\"/>", x, y, end, c);
  sd_strf(s, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\" fill=\"%s\" fill-opacity=\"%s\" stroke=\"%s\"/>", x,
          y, r, c, t->kept ? "0.55" : "0.1", c);
  place label = place_label(p, x, y, r);
  sd_strf(s, "<text x=\"%.1f\" y=\"%.1f\" class=\"n\">%d</text></g>\n", label.x, label.y, k->number);
}

static void put_legend(const plot *p, sd_str *s) {
  for (int i = 0; i < p->n; i++) {
    const sd_trial *t = p->at[i].t;
    sd_strf(s, "<circle cx=\"%d\" cy=\"%d\" r=\"5\" fill=\"%s\" fill-opacity=\"%s\" stroke=\"%s\"/>", LEGEND,
            TOP + 4 + i * ROW, colour(p, t), t->kept ? "0.55" : "0.1", colour(p, t));
    sd_strf(s, "<text x=\"%d\" y=\"%d\">%d  ", LEGEND + 12, TOP + 8 + i * ROW, p->at[i].number);
    sd_cli_markup(s, t->name, 38);
    sd_str_put(s, "</text>\n");
  }
  sd_strf(s,
          "<text x=\"%d\" y=\"%d\" class=\"k\"><tspan style=\"fill:#2a2\">chosen</tspan>, <tspan "
          "style=\"fill:#36c\">allowed</tspan>, "
          "<tspan style=\"fill:#c44\">loses too much</tspan>, <tspan style=\"fill:#888\">beyond a "
          "limit</tspan></text>\n",
          LEGEND, TOP + 20 + p->n * ROW);
}

void sd_optimize_svg(sd_optimize *q, sd_str *s) {
  plot p = {.q = q};
  collect(&p);
  int height = TOP + 40 + p.n * ROW > BOTTOM + 60 ? TOP + 40 + p.n * ROW : BOTTOM + 60;
  sd_strf(s, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\">\n",
          WIDTH, height, WIDTH, height);
  sd_str_put(
      s, "<style>text{font:12px sans-serif;fill:#222}.t{font-size:15px;font-weight:bold}"
         ".m{text-anchor:middle}.e{text-anchor:end}.r{fill:#c44}.n{font-size:11px}.k{font-size:11px}"
         ".b{fill:#fff;stroke:#999}.g{stroke:#eee;fill:none}.w{stroke:#c44;stroke-dasharray:5 4;fill:none}"
         ".f{stroke:#36c;stroke-width:1.5;fill:none;stroke-opacity:0.6}svg{background:#fff}</style>\n");
  sd_strf(s, "<text x=\"%d\" y=\"26\" class=\"t\">", LEFT), sd_cli_markup(s, q->c->operands[0], 90),
      sd_str_put(s, "</text>\n");
  put_axes(&p, s);
  bool begun = false;
  sd_str_put(s, "<path class=\"f\" d=\"");
  for (int i = 0; i < p.n; i++)
    if (p.at[i].front) {
      sd_strf(s, begun ? "H%.1fV%.1f" : "M%.1f %.1f", at_x(&p, p.at[i].gain), at_y(&p, p.at[i].drop));
      begun = true;
    }
  sd_str_put(s, begun ? "\"/>\n" : "M0 0\"/>\n");
  for (int i = 0; i < p.n; i++) put_point(&p, &p.at[i], s);
  put_legend(&p, s);
  sd_str_put(s, "</svg>\n");
}
