// Devices that all have the whole graph, as SVG: a part of the batch each, or a part of the tensors, with the
// exchanges between them as bars across all columns.
#include <string.h>

#include "frontend/cli/partition.h"

enum { MOST_ROWS = 48 };

// Nodes, and the exchanges that end them.
typedef struct row {
  uint32_t first, n, exchanges;
  double flops;
  uint64_t bytes;
  const char *op; // of the last exchange
} row;
typedef SD_VEC(row) rows;

static uint32_t count_exchanges(const sd_costs *c) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < c->n; i++) n += c->at[i].node->op->kind == SD_COMM;
  return n;
}

// Each exchange ends a row where there are not too many, else every so many of them.
static void make_rows(const sd_partition *k, rows *out) {
  const sd_costs *c = &k->costs;
  uint32_t exchanges = count_exchanges(c), each = (exchanges + MOST_ROWS - 1) / MOST_ROWS;
  uint32_t nodes = exchanges ? c->n : (c->n + SD_SVG_MOST - 1) / SD_SVG_MOST;
  row r = {0};
  for (uint32_t i = 0; i < c->n; i++) {
    const sd_node *n = c->at[i].node;
    bool exchange = n->op->kind == SD_COMM;
    r.n++, r.flops += c->at[i].flops;
    if (exchange)
      r.exchanges++, r.op = n->op->name, r.bytes += sd_driver_value_bytes((void *)k->shown, n->out[0]);
    if (r.exchanges < (each ? each : 1) && r.n < nodes && i + 1 < c->n) continue;
    sd_vec_push(k->c->arena, out, r);
    r = (row){.first = i + 1};
  }
}

static void put_head(const sd_partition *k, sd_str *s, int p) {
  const sd_split_choice *split = &k->report.split;
  const sd_way *way = NULL;
  char bytes[24], name[SD_PLACE_TEXT];
  double x = sd_svg_column(p);
  for (uint32_t i = 0; i < split->ways.n; i++)
    if (split->ways.at[i].how == (uint32_t)split->chosen) way = &split->ways.at[i];
  sd_strf(s, "<text class=\"t\" x=\"%.0f\" y=\"%d\">%s</text>", x, SD_SVG_HEAD - 48,
          sd_place_text(k->o.devices.at[p], name));
  sd_strf(s, "<text class=\"k\" x=\"%.0f\" y=\"%d\">%s of %d%s</text>", x, SD_SVG_HEAD - 30,
          split->chosen == SD_SPLIT_BATCH ? "part of the batch" : "rank", k->o.devices.n,
          split->chosen == SD_SPLIT_BATCH ? ", one copy of the weights" : "");
  sd_strf(s, "<text class=\"k\" x=\"%.0f\" y=\"%d\">%.4g MFLOP, weights and values %s</text>\n", x,
          SD_SVG_HEAD - 14, k->costs.flops * 1e-6, sd_cli_bytes(way ? way->bytes : 0, bytes));
}

static void put_exchange(const sd_partition *k, sd_str *s, const row *r, double y) {
  char bytes[24];
  int last = k->o.devices.n - 1;
  double at = y + (SD_SVG_TALL + SD_SVG_ROW) / 2.0;
  const char *op = strchr(r->op, '.') ? strchr(r->op, '.') + 1 : r->op;
  sd_strf(s, "<path class=\"c\" d=\"M%.0f %.0fL%.0f %.0f\"><title>", sd_svg_column(0), at,
          sd_svg_column(last) + SD_SVG_WIDE, at);
  if (r->exchanges > 1) sd_strf(s, "%u exchanges", r->exchanges);
  else
    sd_cli_markup(s, op, 40);
  sd_strf(s, ", %s</title></path>", sd_cli_bytes(r->bytes, bytes));
  for (int p = 0; p < last; p++) {
    sd_strf(s, "<text class=\"d\" x=\"%.0f\" y=\"%.0f\">", sd_svg_column(p) + SD_SVG_WIDE + SD_SVG_GAP / 2.0,
            at - 4);
    sd_cli_markup(s, op, 20), sd_strf(s, " %s</text>", bytes);
  }
  sd_str_put(s, "\n");
}

static void put_row(const sd_partition *k, sd_str *s, const row *r, uint32_t i, bool last) {
  double y = SD_SVG_HEAD + i * (double)SD_SVG_ROW;
  for (int p = 0; p < k->o.devices.n; p++) {
    sd_svg_box b = {r->first, r->n, p, sd_svg_column(p), y, r->flops};
    double x = b.x + SD_SVG_WIDE / 2;
    if (!last) sd_strf(s, "<path d=\"M%.0f %.0fL%.0f %.0f\"/>", x, y + SD_SVG_TALL, x, y + SD_SVG_ROW);
    sd_partition_svg_box(k, s, &b);
  }
  if (r->exchanges) put_exchange(k, s, r, y);
}

void sd_partition_draw_whole(const sd_partition *k, sd_str *out) {
  rows all = {0};
  int n = k->o.devices.n;
  make_rows(k, &all);
  sd_partition_svg_begin(k, sd_svg_column(n) - SD_SVG_GAP + 40, SD_SVG_HEAD + all.len * (double)SD_SVG_ROW + 20,
                         out);
  for (int p = 0; p < n; p++) put_head(k, out, p);
  for (uint32_t i = 0; i < all.len; i++) put_row(k, out, &all.at[i], i, i + 1 == all.len);
  sd_str_put(out, "</svg>\n");
}
