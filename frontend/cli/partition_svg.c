// Parts of a model side by side, as SVG: a column for each device, nodes in their order from top to bottom,
// neighbours folded into one box where there are many, and what crosses from column to column.
#include <math.h>
#include <string.h>

#include "frontend/cli/partition.h"

typedef struct wire {
  uint32_t from, to;
  uint64_t bytes, values;
} wire;
typedef struct drawing {
  const sd_partition *k;
  sd_arena *a;
  SD_VEC(sd_svg_box) boxes;
  SD_VEC(wire) wires;
  uint32_t *of_node; // box of each node
  uint32_t rows;
} drawing;

// Colours that differ from each other also where there are many.
static void put_colour(sd_str *s, int device, int light) {
  sd_strf(s, "hsl(%d,%d%%,%d%%)", (device * 137 + 210) % 360, light > 60 ? 70 : 55, light);
}

static void make_boxes(drawing *d) {
  const sd_layer_plan *plan = &d->k->report.split.layer;
  for (uint32_t p = 0; p < plan->n; p++) {
    uint32_t n = plan->at[p].n, boxes = n < SD_SVG_MOST ? n : SD_SVG_MOST;
    if (boxes > d->rows) d->rows = boxes;
    for (uint32_t b = 0; b < boxes; b++) {
      uint32_t first = (uint32_t)((uint64_t)n * b / boxes), end = (uint32_t)((uint64_t)n * (b + 1) / boxes);
      sd_svg_box x = {plan->at[p].first + first,
               end - first,
               (int)p,
               sd_svg_column((int)p),
               SD_SVG_HEAD + b * (double)SD_SVG_ROW,
               0};
      for (uint32_t i = x.first; i < x.first + x.n; i++)
        x.flops += d->k->costs.at[i].flops, d->of_node[i] = d->boxes.len;
      sd_vec_push(d->a, &d->boxes, x);
    }
  }
}

static void add_wire(drawing *d, uint32_t from, uint32_t to, uint64_t bytes) {
  for (uint32_t i = d->wires.len; i-- > 0;)
    if (d->wires.at[i].to != to) break;
    else if (d->wires.at[i].from == from) {
      d->wires.at[i].bytes += bytes, d->wires.at[i].values++;
      return;
    }
  sd_vec_push(d->a, &d->wires, ((wire){from, to, bytes, 1}));
}

static void read_node(drawing *d, const sd_node *n, const uint32_t *made, uint32_t *seen, uint32_t at) {
  for (uint32_t i = 0; i < n->n_in; i++) {
    const sd_value *v = n->in[i];
    if (!v || !made[v->id] || seen[v->id] == at + 1) continue;
    seen[v->id] = at + 1; // a box has a value once
    if (made[v->id] - 1 != at) add_wire(d, made[v->id] - 1, at, sd_driver_value_bytes(d->k->module, v));
  }
  for (uint32_t b = 0; b < n->n_body; b++)
    for (const sd_node *x = n->bodies[b]->first; x; x = x->next) read_node(d, x, made, seen, at);
}

static void make_wires(drawing *d) {
  uint32_t ids = d->k->module->next_id + 1, i = 0;
  uint32_t *made = SD_NEW_ARRAY(d->a, uint32_t, ids), *seen = SD_NEW_ARRAY(d->a, uint32_t, ids);
  for (const sd_node *n = d->k->module->main->first; n; n = n->next, i++) {
    read_node(d, n, made, seen, d->of_node[i]);
    for (uint32_t o = 0; o < n->n_out; o++)
      if (n->out[o]) made[n->out[o]->id] = d->of_node[i] + 1;
  }
}

// ---- text ----

// What a node is, for people: of a group the product in it, else its last node.
static const char *op_of(const sd_node *n) {
  if (n->n_body != 1 || strcmp(n->op->name, "sard.Fused") != 0) return n->op->name;
  for (const sd_node *x = n->bodies[0]->first; x; x = x->next)
    if (x->op->kind == SD_CONTRACT) return x->op->name;
  return n->bodies[0]->last ? n->bodies[0]->last->op->name : n->op->name;
}

void sd_partition_svg_box(const sd_partition *k, sd_str *s, const sd_svg_box *b) {
  const sd_node_cost *at = k->costs.at;
  sd_strf(s, "<g transform=\"translate(%.0f,%.0f)\"><title>", b->x, b->y);
  for (uint32_t i = b->first; i < b->first + b->n && i < b->first + 40; i++) {
    sd_cli_markup(s, op_of(at[i].node), 60), sd_str_put(s, " "), sd_cli_markup(s, at[i].node->name, 80);
    sd_strf(s, " %.4g MFLOP\n", at[i].flops * 1e-6);
  }
  sd_strf(s, "</title><rect width=\"%d\" height=\"%d\" rx=\"4\" fill=\"", SD_SVG_WIDE, SD_SVG_TALL);
  put_colour(s, b->column, 85);
  sd_str_put(s, "\" stroke=\""), put_colour(s, b->column, 40),
      sd_strf(s, "\"/><text class=\"l\" x=\"%d\" y=\"17\">", SD_SVG_WIDE / 2);
  sd_cli_markup(s, op_of(at[b->first].node), b->n > 1 ? 16 : 28);
  if (b->n > 1) sd_strf(s, " and %u more", b->n - 1);
  sd_strf(s, "</text><text class=\"d\" x=\"%d\" y=\"32\">", SD_SVG_WIDE / 2);
  sd_cli_markup(s, at[b->first].node->name, 20);
  sd_strf(s, "%s%.3g MFLOP</text></g>\n", *at[b->first].node->name ? ", " : "", b->flops * 1e-6);
}

static void put_wire(drawing *d, sd_str *s, const wire *w) {
  const sd_svg_box *a = &d->boxes.at[w->from], *b = &d->boxes.at[w->to];
  char t[24];
  if (a->column == b->column) {
    double bow = w->to == w->from + 1 ? 0 : 26, x = a->x + (bow > 0 ? 0 : SD_SVG_WIDE / 2);
    double y0 = a->y + (bow > 0 ? SD_SVG_TALL / 2 : SD_SVG_TALL), y1 = b->y + (bow > 0 ? SD_SVG_TALL / 2 : 0);
    sd_strf(s, "<path d=\"M%.0f %.0fC%.0f %.0f %.0f %.0f %.0f %.0f\"><title>%s</title></path>\n", x, y0,
            x - bow, y0, x - bow, y1, x, y1, sd_cli_bytes(w->bytes, t));
    return;
  }
  double x0 = a->x + SD_SVG_WIDE, y0 = a->y + SD_SVG_TALL / 2, x1 = b->x, y1 = b->y + SD_SVG_TALL / 2;
  sd_strf(s,
          "<path class=\"c\" d=\"M%.0f %.0fC%.0f %.0f %.0f %.0f %.0f %.0f\"><title>%llu value%s, "
          "%s</title></path>\n",
          x0, y0, x0 + SD_SVG_GAP / 2, y0, x1 - SD_SVG_GAP / 2, y1, x1, y1, (unsigned long long)w->values,
          w->values == 1 ? "" : "s", sd_cli_bytes(w->bytes, t));
}

static void put_head(drawing *d, sd_str *s, int p, double height) {
  const sd_layer_part *part = &d->k->report.split.layer.at[p];
  double x = sd_svg_column(p), flops = 0;
  char t[2][24], name[SD_PLACE_TEXT];
  for (uint32_t i = part->first; i < part->first + part->n; i++) flops += d->k->costs.at[i].flops;
  sd_strf(s, "<text class=\"t\" x=\"%.0f\" y=\"%d\">%s</text>", x, SD_SVG_HEAD - 48,
          sd_place_text(d->k->o.devices.at[p], name));
  sd_strf(s, "<text class=\"k\" x=\"%.0f\" y=\"%d\">%u nodes, %.4g MFLOP, weights %s</text>", x, SD_SVG_HEAD - 30,
          part->n, flops * 1e-6, sd_cli_bytes(part->weights, t[0]));
  sd_strf(s, "<text class=\"k\" x=\"%.0f\" y=\"%d\">about %.3g ms</text>\n", x, SD_SVG_HEAD - 14,
          part->seconds * 1e3);
  if (p == 0) return;
  double cut = x - SD_SVG_GAP / 2.0;
  sd_strf(s, "<line x1=\"%.0f\" x2=\"%.0f\" y1=\"%d\" y2=\"%.0f\"/>", cut, cut, SD_SVG_HEAD - 40, height - 20);
  sd_strf(s, "<text class=\"d\" x=\"%.0f\" y=\"%d\">%s</text>\n", cut, SD_SVG_HEAD - 48,
          sd_cli_bytes(part->bytes_in, t[1]));
}

void sd_partition_svg_begin(const sd_partition *k, double width, double height, sd_str *out) {
  sd_strf(out, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\">\n", width, height);
  sd_str_put(out,
             "<style>text{font-family:sans-serif;fill:#222}.l,.d{text-anchor:middle}.l{font-size:13px;font-"
             "weight:bold}"
             ".d{font-size:10px;fill:#555}.t{font-size:16px;font-weight:bold}.k{font-size:11px;fill:#555}"
             "path{fill:none;stroke:#999;stroke-width:1.2}path.c{stroke:#222;stroke-width:2}"
             "path:hover{stroke:#06c;stroke-width:3}line{stroke:#222;stroke-dasharray:6 5}</style>\n");
  sd_strf(out, "<rect width=\"%.0f\" height=\"%.0f\" fill=\"#fff\"/><text class=\"t\" x=\"40\" y=\"28\">",
          width, height);
  sd_cli_markup(out, k->c->operands[0], 80);
  sd_strf(out, "</text>\n");
}

void sd_partition_draw(const sd_partition *k, sd_str *out) {
  drawing d = {.k = k, .a = k->c->arena, .of_node = SD_NEW_ARRAY(k->c->arena, uint32_t, k->costs.n + 1)};
  make_boxes(&d);
  make_wires(&d);
  double width = sd_svg_column((int)k->report.split.layer.n) - SD_SVG_GAP + 40,
         height = SD_SVG_HEAD + d.rows * (double)SD_SVG_ROW + 20;
  sd_partition_svg_begin(k, width, height, out);
  for (int p = 0; p < (int)k->report.split.layer.n; p++) put_head(&d, out, p, height);
  for (uint32_t i = 0; i < d.wires.len; i++) put_wire(&d, out, &d.wires.at[i]);
  for (uint32_t i = 0; i < d.boxes.len; i++) sd_partition_svg_box(k, out, &d.boxes.at[i]);
  sd_str_put(out, "</svg>\n");
}
