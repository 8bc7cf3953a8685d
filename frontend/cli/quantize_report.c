// What quantization did: for people, as JSON, as a page.
#include <math.h>
#include <string.h>

#include "frontend/cli/quantize.h"

enum { SHOWN = 20, PICTURE_BINS = 64 };

static const char *mode_name(const sd_quantize *q) {
  return q->o.mode == SD_QUANT_STATIC ? "static" : q->o.mode == SD_QUANT_DYNAMIC ? "dynamic" : "weights";
}

static const char *type_name(const sd_quantize *q) {
  return q->o.type != SD_I8 ? sd_dtype_name(q->o.type)
         : q->o.bits == 8   ? "8-bit"
         : q->o.bits == 4   ? "4-bit"
                            : "2-bit";
}

static const sd_quantize_layer *layer_of(const sd_quantize *q, uint32_t unit) {
  for (uint32_t i = 0; i < q->layers.len; i++)
    if (q->layers.at[i].unit == unit) return &q->layers.at[i];
  return NULL;
}

static int tensor_of(const sd_quantize *q, const char *name) {
  for (uint32_t i = 0; i < q->tensors.len; i++)
    if (strcmp(q->tensors.at[i].name, name) == 0 && q->tensors.at[i].integer && q->ranges[i].count) return (int)i;
  return -1;
}

// Range that the integers of a tensor cover.
static void covered(const sd_quantize *q, int i, double *lo, double *hi) {
  const sd_affine *a = &q->tensors.at[i].affine;
  int32_t least, most;
  sd_quantize_reach(q, &least, &most);
  *lo = (double)(least - a->zero) * a->scale, *hi = (double)(most - a->zero) * a->scale;
}

static uint32_t count(const sd_quantize *q, bool keep) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < q->units.len; i++) n += q->units.at[i].keep == keep;
  return n;
}

// ---- for people ----

static void show_summary(sd_quantize *q) {
  sd_cli *c = q->c;
  char a[24], b[24];
  sd_cli_say(c, "quantized  %s, %s weights, %u of %u nodes", mode_name(q), type_name(q), count(q, false),
             q->units.len);
  if (q->samples)
    sd_cli_say(c, ", %s over %lld samples", q->o.mode == SD_QUANT_STATIC ? q->method->name : "second moments",
               (long long)q->samples);
  if (q->packed)
    sd_cli_say(c, "\nsize       %s to %s (%.2f)", sd_cli_bytes(q->size_before, a), sd_cli_bytes(q->packed->size, b),
               (double)q->packed->size / (double)(q->size_before ? q->size_before : 1));
  if (q->timed)
    sd_cli_say(c, "\ntime       %.4g ms to %.4g ms a run of %lld samples (%.2fx as fast)", q->ms_before, q->ms_after,
               (long long)q->judge.batch, q->ms_before / q->ms_after);
  if (q->equalized) sd_cli_say(c, "\nequalized  %u pairs of layers", q->equalized);
  if (q->balanced)
    sd_cli_say(c, "\nscaled     channels of %u activations, %u with a Mul of their own", q->balanced, q->inserted);
  sd_cli_say(c, "\n");
}

static void show_float(sd_quantize *q) {
  uint32_t shown = 0, all = count(q, true);
  for (uint32_t i = 0; i < q->units.len && shown < SHOWN; i++) {
    const sd_quant_unit *u = &q->units.at[i];
    if (u->keep)
      sd_cli_say(q->c, "%s %s (%s): %s\n", shown++ ? "          " : "float     ", u->name, u->op,
                 u->why ? u->why : "asked for");
  }
  if (all > shown) sd_cli_say(q->c, "           ... and %u more\n", all - shown);
}

static void show_by_run(sd_quantize *q) {
  uint32_t shown = 0;
  for (uint32_t i = 0; i < q->units.len && q->o.mode == SD_QUANT_STATIC && shown < SHOWN; i++) {
    const sd_quant_unit *u = &q->units.at[i];
    if (u->by_run)
      sd_cli_say(q->c, "%s %s (%s): each run finds its ranges\n", shown++ ? "          " : "dynamic   ",
                 u->name, u->op);
  }
}

static void show_layers(sd_quantize *q) {
  for (uint32_t i = 0; i < q->layers.len && i < SHOWN; i++) {
    const sd_quant_unit *u = &q->units.at[q->layers.at[i].unit];
    sd_cli_say(q->c, "%s %6.1f dB  %s (%s)\n", i ? "          " : "alone     ", q->layers.at[i].snr, u->name, u->op);
  }
}

static void show_costs(sd_quantize *q) {
  for (uint32_t i = 0; i < q->steps.n && i < SHOWN && q->steps.at[i].ms_after > q->steps.at[i].ms_before; i++)
    sd_cli_say(q->c, "%s %+9.4f ms  %s (%s)\n", i ? "          " : "slower    ",
               q->steps.at[i].ms_after - q->steps.at[i].ms_before, q->steps.at[i].name, q->steps.at[i].op);
}

// ---- JSON ----

static void json_number(sd_str *s, const char *name, double v) {
  sd_strf(s, ",\"%s\":", name), sd_str_json_number(s, v);
}

static void json_layer(sd_quantize *q, sd_str *s, uint32_t i) {
  const sd_quant_unit *u = &q->units.at[i];
  const sd_quantize_layer *l = layer_of(q, i);
  int t = u->keep ? -1 : tensor_of(q, u->x);
  sd_str_put(s, i ? ",{\"name\":" : "{\"name\":"), sd_str_json(s, u->name);
  sd_str_put(s, ",\"op\":"), sd_str_json(s, u->op);
  sd_str_put(s, ",\"weight\":"), sd_str_json(s, u->weight);
  sd_strf(s, ",\"bits\":%d,\"bytes_before\":%llu,\"bytes_after\":%llu", u->bits ? u->bits : 32,
          (unsigned long long)u->bytes_before, (unsigned long long)u->bytes_after);
  if (u->keep) sd_str_put(s, ",\"float\":"), sd_str_json(s, u->why ? u->why : "asked for");
  else
    json_number(s, "weight_snr", u->snr);
  if (u->by_run) sd_str_put(s, ",\"ranges\":\"run\"");
  if (l) json_number(s, "alone_snr", l->snr);
  if (t >= 0) {
    double lo, hi;
    const sd_range *r = &q->ranges[t];
    covered(q, t, &lo, &hi);
    sd_str_put(s, ",\"input\":"), sd_str_json(s, u->x);
    json_number(s, "scale", q->tensors.at[t].affine.scale), sd_strf(s, ",\"zero\":%d", q->tensors.at[t].affine.zero);
    json_number(s, "min", r->min), json_number(s, "max", r->max);
    json_number(s, "saturated", sd_range_outside(r, lo, hi));
  }
  sd_str_put(s, "}");
}

static void json_all(sd_quantize *q) {
  sd_str *s = &q->c->json;
  sd_strf(s,
          ",\"mode\":\"%s\",\"bits\":%d,\"weights\":\"%s\",\"method\":\"%s\",\"samples\":%lld,\"size_"
          "before\":%llu,\"size_after\":%llu,"
          "\"partial\":%s",
          mode_name(q), q->o.bits, type_name(q), q->method->name, (long long)q->samples,
          (unsigned long long)q->size_before, (unsigned long long)(q->packed ? q->packed->size : 0),
          q->interrupted ? "true" : "false");
  sd_strf(s, ",\"equalized\":%u,\"scaled\":%u,\"inserted\":%u", q->equalized, q->balanced, q->inserted);
  sd_strf(s, ",\"peak_rss_mb\":%.3f", sd_peak_memory_mb());
  if (q->verdict) sd_str_put(s, ",\"refused\":"), sd_str_json(s, q->verdict);
  if (q->timed) json_number(s, "ms_before", q->ms_before), json_number(s, "ms_after", q->ms_after);
  if (q->judged) sd_pair_json(&q->judge, q->max_drop);
  sd_str_put(s, ",\"slower\":[");
  for (uint32_t i = 0; i < q->steps.n; i++) {
    const sd_pair_step *k = &q->steps.at[i];
    sd_str_put(s, i ? ",{\"name\":" : "{\"name\":"), sd_str_json(s, k->name), sd_str_put(s, ",\"op\":"),
        sd_str_json(s, k->op);
    json_number(s, "ms_before", k->ms_before), json_number(s, "ms_after", k->ms_after), sd_str_put(s, "}");
  }
  sd_strf(s, "],\"calibrated\":%lld,\"recalled\":%u,\"sensitivity\":[", (long long)q->calibrated, q->recalled);
  for (uint32_t i = 0; i < q->layers.len; i++) {
    const sd_quant_unit *u = &q->units.at[q->layers.at[i].unit];
    sd_str_put(s, i ? ",{\"name\":" : "{\"name\":"), sd_str_json(s, u->name);
    json_number(s, "snr", q->layers.at[i].snr), sd_str_put(s, "}");
  }
  sd_str_put(s, "],\"layers\":[");
  for (uint32_t i = 0; i < q->units.len; i++) json_layer(q, s, i);
  sd_str_put(s, "]");
}

void sd_quantize_report(sd_quantize *q) {
  show_summary(q);
  if (q->judged) sd_pair_say(&q->judge, q->max_drop, !q->judge.skip && q->samples);
  show_layers(q);
  show_float(q);
  show_by_run(q);
  show_costs(q);
  json_all(q);
}

// ---- page ----

// The histogram of a tensor, its range marked.
static void html_bins(sd_quantize *q, sd_str *s, int t) {
  const sd_range *r = &q->ranges[t];
  double lo, hi, span = r->max - r->min, most = 0, heights[PICTURE_BINS] = {0},
                 width = ldexp(2, r->exponent) / SD_RANGE_BINS;
  covered(q, t, &lo, &hi);
  if (!(span > 0)) return;
  for (int i = 0; i < SD_RANGE_BINS; i++) {
    double x = (i + 0.5 - SD_RANGE_BINS / 2) * width, at = (x - r->min) / span * PICTURE_BINS;
    if (!r->bins[i]) continue;
    heights[at < 0 ? 0 : at >= PICTURE_BINS ? PICTURE_BINS - 1 : (int)at] += (double)r->bins[i];
  }
  for (int i = 0; i < PICTURE_BINS; i++) most = fmax(most, heights[i] = heights[i] > 0 ? log10(1 + heights[i]) : 0);
  sd_strf(s, "<svg width='%d' height='40'>", PICTURE_BINS * 3);
  for (int i = 0; i < PICTURE_BINS; i++)
    sd_strf(s, "<rect x='%d' y='%.1f' width='2' height='%.1f' fill='#4a7'/>", i * 3, 40 - 38 * heights[i] / most,
            38 * heights[i] / most);
  for (int k = 0; k < 2; k++) {
    double x = ((k ? hi : lo) - r->min) / span * PICTURE_BINS * 3;
    if (x > 0 && x < PICTURE_BINS * 3) sd_strf(s, "<line x1='%.1f' x2='%.1f' y1='0' y2='40' stroke='#c33'/>", x, x);
  }
  sd_str_put(s, "</svg>");
}

static void html_row(sd_quantize *q, sd_str *s, uint32_t i) {
  const sd_quant_unit *u = &q->units.at[i];
  const sd_quantize_layer *l = layer_of(q, i);
  int t = u->keep ? -1 : tensor_of(q, u->x);
  sd_str_put(s, "<tr><td>"), sd_cli_markup(s, u->name, 400);
  sd_strf(s, "</td><td>%s</td><td>%llu x %llu</td><td>%d</td>", u->op, (unsigned long long)u->rows,
          (unsigned long long)u->k, u->bits ? u->bits : 32);
  if (u->keep) sd_str_put(s, "<td colspan='2'>"), sd_cli_markup(s, u->why ? u->why : "asked for", 400), sd_str_put(s, "</td>");
  else
    sd_strf(s, "<td>%.1f dB</td><td>%s</td>", u->snr, l ? sd_arena_printf(q->c->arena, "%.1f dB", l->snr) : "");
  if (t >= 0) {
    double lo, hi;
    covered(q, t, &lo, &hi);
    sd_strf(s, "<td>%.4g .. %.4g</td><td>%.4g .. %.4g</td><td>%.3g %%</td><td>", q->ranges[t].min, q->ranges[t].max, lo,
            hi, 100 * sd_range_outside(&q->ranges[t], lo, hi));
    html_bins(q, s, t);
    sd_str_put(s, "</td></tr>\n");
  } else {
    sd_str_put(s, "<td></td><td></td><td></td><td></td></tr>\n");
  }
}

sard_status *sd_quantize_html(sd_quantize *q, const char *path) {
  sd_str s = {0};
  char a[24], b[24], t[3][48];
  sd_str_put(
      &s,
      "<!doctype html><meta charset='utf-8'><title>sard quantize</title><style>body{font:14px sans-serif;margin:2em}"
      "td,th{padding:2px 8px;text-align:left;border-bottom:1px solid #ddd}table{border-collapse:collapse}</style><h1>");
  sd_cli_markup(&s, q->c->operands[0], 400);
  sd_strf(&s, "</h1><p>%s, %s weights, %u of %u nodes, %lld samples", mode_name(q), type_name(q),
          count(q, false), q->units.len, (long long)q->samples);
  if (q->packed) sd_strf(&s, "<br>size %s to %s", sd_cli_bytes(q->size_before, a), sd_cli_bytes(q->packed->size, b));
  if (q->timed) sd_strf(&s, "<br>%.4g ms to %.4g ms a run", q->ms_before, q->ms_after);
  if (q->judged)
    sd_strf(&s, "<br>%s %s to %s, drop %s", q->judge.metric->name,
            sd_metric_text(q->judge.metric, q->judge.metric->value(&q->judge.a.score, -1), t[0]),
            sd_metric_text(q->judge.metric, q->judge.metric->value(&q->judge.b.score, -1), t[1]),
            sd_metric_text(q->judge.metric, q->judge.paired.drop.value, t[2]));
  sd_str_put(&s, "</p><table><tr><th>node<th>op<th>outputs x "
                 "inputs<th>bits<th>weight<th>alone<th>seen<th>covered<th>saturated<th>input (logarithmic)</tr>\n");
  for (uint32_t i = 0; i < q->units.len; i++) html_row(q, &s, i);
  sd_str_put(&s, "</table>\n");
  sard_status *st = s.failed ? SD_ERR(NOMEM, "out of memory for the report") : sd_files_write(path, s.p, s.len);
  sd_str_free(&s);
  return st;
}
