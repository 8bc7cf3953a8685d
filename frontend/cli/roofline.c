// sard bench --html: one page with the roofline of the machine, the kernels under it, and the time of each kernel, for
// each device in turn. It
// needs no other file, and follows the reader's light or dark setting.
#include <math.h>
#include <string.h>

#include "frontend/cli/profile.h"

enum { WIDTH = 860, HEIGHT = 420, LEFT = 64, RIGHT = 20, TOP = 16, BOTTOM = 48, BARS = 40, BAR = 22 };

static const char page_head[] =
    "<style>\n"
    ":root{color-scheme:light "
    "dark;--ink:#1b1f24;--dim:#5b6470;--line:#d3d8de;--paper:#fff;--compute:#1f6fc4;--memory:#c2570c}\n"
    "@media(prefers-color-scheme:dark){:root{--ink:#e6e9ed;--dim:#9aa4b0;--line:#3a424c;--paper:#14181d;--compute:#"
    "6cb2ff;--memory:#ffa15c}}\n"
    "body{margin:2rem auto;max-width:900px;padding:0 1rem;font:15px/1.5 "
    "system-ui,sans-serif;color:var(--ink);background:var(--paper)}\n"
    "h1{font-size:1.3rem;overflow-wrap:anywhere}h2{font-size:1.05rem;margin-top:2rem}p{color:var(--dim)}\n"
    "svg{width:100%;height:auto}text{fill:var(--ink);font:12px system-ui,sans-serif}.dim{fill:var(--dim)}\n"
    ".grid{stroke:var(--line)}.roof{stroke:var(--ink);fill:none;stroke-width:1.5}\n"
    ".compute{fill:var(--compute)}.memory{fill:var(--memory)}circle{fill-opacity:.6;stroke:var(--paper)}\n"
    "div{overflow-x:auto}table{border-collapse:collapse;font-size:13px}td,th{padding:.2rem .6rem;border-bottom:1px "
    "solid var(--line);text-align:left}\n"
    "td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}\n"
    "</style>\n";

// ---- scales ----

typedef struct axes {
  double x0, x1, y0, y1;
} axes; // decimal logarithms

static double at_x(const axes *a, double intensity) {
  return LEFT + (log10(intensity) - a->x0) / (a->x1 - a->x0) * (WIDTH - LEFT - RIGHT);
}
static double at_y(const axes *a, double gflops) {
  return HEIGHT - BOTTOM - (log10(gflops) - a->y0) / (a->y1 - a->y0) * (HEIGHT - TOP - BOTTOM);
}

static bool has_place(const sd_profile_row *r) { return r->ns > 0 && r->flops > 0 && r->bytes > 0; }

static void widen(double *low, double *high, double v) {
  *low = fmin(*low, floor(log10(v))), *high = fmax(*high, ceil(log10(v)));
}

static axes find_axes(const sd_profile *p) {
  axes a = {-1, 2, 0, 2};
  if (p->peak.gflops > 0) widen(&a.y0, &a.y1, p->peak.gflops * 1.2);
  if (p->peak.gbs > 0) widen(&a.x0, &a.x1, p->peak.gflops / p->peak.gbs);
  for (uint32_t i = 0; i < p->n; i++) {
    if (!has_place(&p->rows[i]) || p->rows[i].ns < 1e-3 * p->ns) continue;
    widen(&a.x0, &a.x1, p->rows[i].flops / p->rows[i].bytes);
    widen(&a.y0, &a.y1, sd_profile_gflops(&p->rows[i]));
  }
  a.x0 = fmax(a.x0, -3), a.y0 = fmax(a.y0, -3);
  return a;
}

// ---- the roofline ----

static void put_grid(sd_str *s, const axes *a) {
  for (double x = a->x0; x <= a->x1; x++) {
    double px = at_x(a, pow(10, x));
    sd_strf(s, "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/>", px, px, TOP, HEIGHT - BOTTOM);
    sd_strf(s, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%g</text>\n", px, HEIGHT - BOTTOM + 18, pow(10, x));
  }
  for (double y = a->y0; y <= a->y1; y++) {
    double py = at_y(a, pow(10, y));
    sd_strf(s, "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>", LEFT, WIDTH - RIGHT, py, py);
    sd_strf(s, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n", LEFT - 8, py + 4, pow(10, y));
  }
  sd_strf(s, "<text class=\"dim\" x=\"%d\" y=\"%d\" text-anchor=\"middle\">operations per byte</text>\n",
          (LEFT + WIDTH) / 2, HEIGHT - 10);
  sd_strf(s, "<text class=\"dim\" transform=\"translate(14,%d) rotate(-90)\" text-anchor=\"middle\">GFLOP/s</text>\n",
          HEIGHT / 2);
}

static void put_roof(sd_str *s, const sd_profile *p, const axes *a) {
  if (p->peak.gflops <= 0 || p->peak.gbs <= 0) return;
  double ridge = p->peak.gflops / p->peak.gbs, low = fmax(pow(10, a->x0), pow(10, a->y0) / p->peak.gbs);
  sd_strf(s, "<path class=\"roof\" d=\"M%.1f %.1fL%.1f %.1fH%d\"/>\n", at_x(a, low), at_y(a, low * p->peak.gbs),
          at_x(a, ridge), at_y(a, p->peak.gflops), WIDTH - RIGHT);
  sd_strf(s, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.0f GFLOP/s</text>\n", WIDTH - RIGHT,
          at_y(a, p->peak.gflops) - 6, p->peak.gflops);
  sd_strf(s, "<text x=\"%.1f\" y=\"%.1f\">%.1f GB/s</text>\n", at_x(a, low) + 10, at_y(a, low * p->peak.gbs) - 14,
          p->peak.gbs);
}

static void put_tip(sd_str *s, const sd_profile *p, const sd_profile_row *r) {
  bool by_memory;
  double roof = sd_profile_roof(p, r, &by_memory);
  sd_str_put(s, "<title>"), sd_cli_markup(s, r->op, 80), sd_str_put(s, " "), sd_cli_markup(s, r->name, 200);
  sd_strf(s, "\n%.1f us, %.1f %% of the steps\n%.1f GFLOP/s, %.1f GB/s, %.0f %% of the %s limit\n", r->ns * 1e-3,
          p->ns > 0 ? 100 * r->ns / p->ns : 0, sd_profile_gflops(r), sd_profile_gbs(r), 100 * roof,
          by_memory ? "memory" : "compute");
  sd_cli_markup(s, r->schedule, 200), sd_str_put(s, "\n"), sd_cli_markup(s, r->shapes, 400), sd_str_put(s, "</title>");
}

static const char *limit_class(const sd_profile *p, const sd_profile_row *r) {
  bool by_memory;
  sd_profile_roof(p, r, &by_memory);
  return by_memory ? "memory" : "compute";
}

static void put_heading(sd_str *s, const sd_profile *p, const char *text) {
  sd_strf(s, "<h2>%s%s%s</h2>\n", text, p->name ? ", " : "", p->name ? p->name : "");
}

static void put_roofline(sd_str *s, const sd_profile *p) {
  axes a = find_axes(p);
  put_heading(s, p, "Roofline");
  sd_str_put(s, "<p>Each circle is a kernel, as large as its share of the time; blue ones are "
                "nearer to the limit of the "
                "arithmetic, orange ones to that of memory. Bytes count every buffer once: data that is still in a "
                "cache lets a kernel stand above "
                "the line. Point at a circle to read more.</p>\n");
  sd_strf(s, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"Roofline\">\n", WIDTH, HEIGHT);
  put_grid(s, &a);
  put_roof(s, p, &a);
  for (uint32_t i = 0; i < p->n; i++) {
    const sd_profile_row *r = &p->rows[i];
    if (!has_place(r)) continue;
    double x = fmax(r->flops / r->bytes, pow(10, a.x0)), y = fmax(sd_profile_gflops(r), pow(10, a.y0));
    sd_strf(s, "<circle class=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\">", limit_class(p, r), at_x(&a, x), at_y(&a, y),
            3 + 40 * sqrt(p->ns > 0 ? r->ns / p->ns : 0));
    put_tip(s, p, r), sd_str_put(s, "</circle>\n");
  }
  sd_str_put(s, "</svg>\n");
}

// ---- time by kernel ----

static void put_bars(sd_str *s, const sd_profile *p) {
  uint32_t n = p->n < BARS ? p->n : BARS;
  const double from = 300, room = WIDTH - from - 130;
  put_heading(s, p, "Time by kernel");
  sd_strf(s, "<svg viewBox=\"0 0 %d %u\" role=\"img\" aria-label=\"Time by kernel\">\n", WIDTH, n * BAR + 4);
  for (uint32_t i = 0; i < n; i++) {
    const sd_profile_row *r = &p->rows[i];
    double part = p->n && p->rows[0].ns > 0 ? r->ns / p->rows[0].ns : 0;
    unsigned y = i * BAR;
    sd_str_put(s, "<g>"), put_tip(s, p, r);
    sd_strf(s, "<text x=\"%.0f\" y=\"%u\" text-anchor=\"end\">", from - 8, y + 15);
    sd_cli_markup(s, *r->name ? r->name : r->op, 42);
    sd_strf(s, "</text><rect class=\"%s\" x=\"%.0f\" y=\"%u\" width=\"%.1f\" height=\"%d\"/>", limit_class(p, r), from,
            y + 3, fmax(part * room, 1), BAR - 6);
    sd_strf(s, "<text x=\"%.1f\" y=\"%u\">%.1f us, %.1f %%</text></g>\n", from + part * room + 6, y + 15, r->ns * 1e-3,
            p->ns > 0 ? 100 * r->ns / p->ns : 0);
  }
  sd_str_put(s, "</svg>\n");
}

static void put_cell(sd_str *s, const char *text) {
  sd_str_put(s, "<td>"), sd_cli_markup(s, text, 300), sd_str_put(s, "</td>");
}

static void put_table(sd_str *s, const sd_profile *p) {
  put_heading(s, p, "Kernels");
  sd_str_put(s, "<div><table><tr><th class=\"n\">time us<th class=\"n\">share<th "
                "class=\"n\">steps<th class=\"n\">GFLOP/s<th class=\"n\">GB/s"
                "<th class=\"n\">of the roof<th>limit<th>op<th>schedule<th>first node<th>types</tr>\n");
  for (uint32_t i = 0; i < p->n; i++) {
    const sd_profile_row *r = &p->rows[i];
    bool by_memory;
    double roof = sd_profile_roof(p, r, &by_memory);
    sd_strf(s,
            "<tr><td class=\"n\">%.1f<td class=\"n\">%.1f %%<td class=\"n\">%u<td class=\"n\">%.1f<td "
            "class=\"n\">%.1f<td class=\"n\">%.0f %%<td>%s",
            r->ns * 1e-3, p->ns > 0 ? 100 * r->ns / p->ns : 0, r->steps, sd_profile_gflops(r), sd_profile_gbs(r),
            100 * roof, by_memory ? "memory" : "compute");
    put_cell(s, r->op), put_cell(s, *r->schedule ? r->schedule : r->kernel), put_cell(s, r->name),
        put_cell(s, r->shapes);
    sd_str_put(s, "</tr>\n");
  }
  sd_str_put(s, "</table></div>\n");
}

static void put_about(sd_str *s, const sd_profile *p) {
  sd_str_put(s, "<p>");
  if (p->name) sd_strf(s, "%s, busy for %.0f %% of the time: ", p->name, 100 * p->busy);
  sd_cli_markup(s, p->place, 200);
  sd_strf(s, ", %d thread%s: %.3f ms a run, of which steps take %.3f ms.", p->threads, p->threads == 1 ? "" : "s",
          p->run_ms, p->ns * 1e-6);
  if (p->peak.gflops > 0)
    sd_strf(s, " Measured beside it: %.1f GFLOP/s of multiply-adds in f32, %.1f GB/s read from memory.",
            p->peak.gflops, p->peak.gbs);
  sd_str_put(s, "</p>\n");
}

sard_status *sd_roofline_write(const sd_profile *p, int n, const char *path) {
  sd_str s = {0};
  sd_str_put(&s, "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" "
                 "content=\"width=device-width\">\n<title>");
  sd_cli_markup(&s, p->model, 200), sd_str_put(&s, "</title>\n"), sd_str_put(&s, page_head);
  sd_str_put(&s, "<h1>"), sd_cli_markup(&s, p->model, 400), sd_str_put(&s, "</h1>\n");
  for (int i = 0; i < n; i++) put_about(&s, &p[i]);
  for (int i = 0; i < n; i++) put_roofline(&s, &p[i]), put_bars(&s, &p[i]), put_table(&s, &p[i]);
  sd_strf(&s, "<p>Sard %s.</p>\n</html>\n", SARD_VERSION_TEXT);
  sard_status *st = s.failed ? SD_ERR(NOMEM, "out of memory for the page") : sd_files_write(path, s.p, s.len);
  sd_str_free(&s);
  return st;
}
