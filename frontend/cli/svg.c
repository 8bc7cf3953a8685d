// A picture as SVG: boxes coloured by cost, with texts when pointed at; wheel and drag zoom and move it in a browser.
#include <math.h>
#include <string.h>

#include "frontend/cli/tools.h"

// White over yellow to red, by the square root of the share of the most expensive node.
static void put_colour(sd_str *s, double share) {
  static const double stop[4][3] = {{255, 255, 255}, {255, 241, 178}, {253, 164, 82}, {220, 60, 50}};
  double t = sqrt(share < 0 ? 0 : share > 1 ? 1 : share) * 3;
  int k = t >= 3 ? 2 : (int)t;
  double f = t - k;
  sd_strf(s, "#%02x%02x%02x", (int)(stop[k][0] + f * (stop[k + 1][0] - stop[k][0])),
          (int)(stop[k][1] + f * (stop[k + 1][1] - stop[k][1])),
          (int)(stop[k][2] + f * (stop[k + 1][2] - stop[k][2])));
}

static void put_edge(sd_str *s, const sd_picture *p, const sd_picture_edge *e) {
  const sd_picture_node *a = &p->nodes.at[e->from], *b = &p->nodes.at[e->to];
  double x = a->x, y = a->y + 20, row = 84;
  sd_strf(s, "<path d=\"M%.0f %.0f", x, y);
  for (uint32_t i = 0; i <= e->n_bends; i++) {
    double tx = i < e->n_bends ? e->bends[i] : b->x, ty = i < e->n_bends ? a->y + (i + 1) * row : b->y - 20;
    sd_strf(s, "C%.0f %.0f %.0f %.0f %.0f %.0f", x, (y + ty) / 2, tx, (y + ty) / 2, tx, ty);
    x = tx, y = ty;
  }
  sd_str_put(s, "\"><title>"), sd_cli_markup(s, e->tip, 200), sd_str_put(s, "</title></path>\n");
}

static void put_node(sd_str *s, const sd_picture_node *n, double most) {
  sd_strf(s, "<g transform=\"translate(%.0f,%.0f)\"><title>", n->x, n->y);
  sd_cli_markup(s, n->tip, 1000);
  sd_strf(s, "</title><rect x=\"-95\" y=\"-20\" width=\"190\" height=\"40\" rx=\"%d\" fill=\"", n->port ? 20 : 4);
  if (n->port) sd_str_put(s, "#dfe7f3");
  else if (n->bad)
    sd_str_put(s, "#d9c3f2");
  else
    put_colour(s, most > 0 ? n->cost / most : 0);
  sd_strf(s, "\"%s/><text y=\"-3\" class=\"l\">", n->bad ? " stroke-dasharray=\"4 3\"" : "");
  sd_cli_markup(s, n->label, 26);
  sd_str_put(s, "</text><text y=\"12\" class=\"d\">");
  sd_cli_markup(s, n->detail, 32);
  sd_str_put(s, "</text></g>\n");
}

static const char script[] =
    "<script><![CDATA[\n"
    "const s=document.documentElement,v=s.viewBox.baseVal;let d=null;\n"
    "s.addEventListener('wheel',e=>{e.preventDefault();const r=s.getBoundingClientRect(),k=Math.exp(e.deltaY*0.0015),"
    "u=Math.max(v.width/r.width,v.height/r.height),ox=(r.width*u-v.width)/2,oy=(r.height*u-v.height)/2,"
    "x=v.x-ox+(e.clientX-r.left)*u,y=v.y-oy+(e.clientY-r.top)*u;"
    "v.x=x-(x-v.x)*k;v.y=y-(y-v.y)*k;v.width*=k;v.height*=k;},{passive:false});\n"
    "s.addEventListener('mousedown',e=>{d=[e.clientX,e.clientY];e.preventDefault();});\n"
    "addEventListener('mouseup',()=>{d=null;});\n"
    "addEventListener('mousemove',e=>{if(!d)return;const "
    "r=s.getBoundingClientRect(),u=Math.max(v.width/r.width,v.height/r.height);"
    "v.x-=(e.clientX-d[0])*u;v.y-=(e.clientY-d[1])*u;d=[e.clientX,e.clientY];});\n"
    "]]></script>\n";

static const char style[] =
    "<style>text{font-family:sans-serif;text-anchor:middle;fill:#222}.l{font-size:13px;font-weight:bold}.d{font-size:"
    "10px;fill:#555}"
    ".t{font-size:16px;font-weight:bold;text-anchor:start}.k{font-size:11px;text-anchor:start;fill:#555}"
    "rect{stroke:#777}path{fill:none;stroke:#999;stroke-width:1.2}path:hover{stroke:#06c;stroke-width:3}g:hover "
    "rect{stroke:#06c;stroke-width:2}"
    "svg{background:#fff}</style>\n";

void sd_svg_write(sd_arena *a, sd_picture *p, sd_str *out) {
  double width, height, most = 0, total = 0;
  sd_picture_layout(a, p, &width, &height);
  for (uint32_t i = 0; i < p->nodes.len; i++) {
    total += p->nodes.at[i].cost;
    if (p->nodes.at[i].cost > most) most = p->nodes.at[i].cost;
  }
  if (width < 460) width = 460;
  sd_strf(out,
          "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 -40 %.0f %.0f\" preserveAspectRatio=\"xMidYMin "
          "meet\">\n",
          width, height + 60);
  sd_str_put(out, style);
  sd_str_put(out, "<text class=\"t\" x=\"10\" y=\"-18\">"), sd_cli_markup(out, p->title, 100);
  sd_strf(out, "</text><text class=\"k\" x=\"10\" y=\"0\">%u nodes", p->nodes.len);
  if (total > 0) sd_strf(out, ", %.3g GFLOP; red: %.3g MFLOP and more", total * 1e-9, most * 1e-6);
  sd_str_put(out, "; wheel zooms, drag moves, pointing shows more</text>\n");
  for (uint32_t i = 0; i < p->edges.len; i++) put_edge(out, p, &p->edges.at[i]);
  for (uint32_t i = 0; i < p->nodes.len; i++) put_node(out, &p->nodes.at[i], most);
  sd_str_put(out, script);
  sd_str_put(out, "</svg>\n");
}
