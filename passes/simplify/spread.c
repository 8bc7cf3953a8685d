// Attention of few rows and heads over many keys (the decoding of a text) becomes attention over parts of the keys and what
// joins them, so that there are tiles for all of a machine.
#include "ir/op.h"
#include "passes/edit.h"

enum { Q, K, V, SINK = 6, TILE_KEYS = 64, TILE_ROWS = 64, LEAST_TILES = 2, MOST_PARTS = 64, SOME_PARTS = 16, LEAST_KEYS = 256 };

typedef struct shape { // sizes, 0 where they are not known
  int64_t b, h, hk, s, t;
} shape;

static int64_t known(const sd_node *n, sd_dim d) {
  int64_t v;
  return sd_dim_is_const(n->graph->module->dims, d, &v) ? v : 0;
}

static bool read_shape(const sd_node *n, shape *x) {
  const sd_attr *l = sd_node_attr(n, "layout");
  bool q = l && l->kind == SD_ATTR_INTS && l->n == 4 && l->ints[0], k = l && l->kind == SD_ATTR_INTS && l->n == 4 && l->ints[1];
  for (uint32_t i = 0; i < 3; i++)
    if (!n->in[i] || n->in[i]->rank != 4 || n->in[i]->dtype != n->in[Q]->dtype) return false;
  for (int i = 0; i < 4 && l && l->kind == SD_ATTR_INTS && l->n == 4; i++)
    if (l->ints[i] > 1) return false; // parts are joined in the other orders only
  const sd_dim *dq = n->in[Q]->dims, *dk = n->in[K]->dims;
  *x = (shape){known(n, dq[0]), known(n, dq[q ? 2 : 1]), known(n, dk[k ? 2 : 1]), known(n, dq[q ? 1 : 2]), known(n, dk[k ? 1 : 2])};
  return x->h > 0 && x->hk > 0 && x->s > 0 && known(n, dq[3]) > 1;
}

// Parts into which the keys go; 1: none.
static int64_t parts_of(const shape *x, int tiles) {
  int64_t heads = x->s < TILE_ROWS / 4 ? x->hk : x->h, rows = x->s * (x->h / heads);
  int64_t have = (x->b ? x->b : 1) * heads * ((rows + TILE_ROWS - 1) / TILE_ROWS), parts = tiles / have;
  if (x->t && x->t < LEAST_KEYS) return 1;
  int64_t most = x->t ? x->t / (TILE_KEYS * LEAST_TILES) : SOME_PARTS;
  parts = parts > most ? most : parts > MOST_PARTS ? MOST_PARTS : parts;
  if (!x->t || parts < 2) return parts;
  int64_t units = (x->t + TILE_KEYS - 1) / TILE_KEYS, per = (units + parts - 1) / parts;
  return (units + per - 1) / per; // none without keys
}

static void copy_attributes(const sd_node *n, sd_node *to) {
  static const char *const names[] = {"scale",    "softcap",     "causal",       "offset",
                                      "pad_mask", "window_left", "window_right", "layout", "masked"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) *sd_node_attr(to, names[i]) = *sd_node_attr(n, names[i]);
}

static sard_status *split(sd_node *n, int64_t parts) {
  const sd_attr *l = sd_node_attr(n, "layout");
  sd_graph *g = n->graph;
  sd_node *p = sd_node_new(g, n, sd_op_find("sard.AttentionPart"), n->in, n->n_in < SINK ? n->n_in : SINK, 3);
  copy_attributes(n, p);
  sd_node_set_int(p, "parts", parts);
  p->name = n->name;
  SD_TRY(sd_node_infer(p));
  sd_node *j = sd_node_new(g, n, sd_op_find("sard.AttentionJoin"), p->out, 3, 1);
  sd_node_set_int(j, "to", (int64_t)n->out[0]->dtype);
  sd_node_set_int(j, "heads_inside", l && l->kind == SD_ATTR_INTS && l->n == 4 && l->ints[3]);
  j->name = n->name;
  SD_TRY(sd_node_infer(j));
  sd_value_replace(n->out[0], j->out[0]);
  sd_node_remove(n);
  return NULL;
}

static sard_status *rewrite(sd_node *n, const sd_pass_target *target, bool *done) {
  shape s;
  bool scores = n->n_out > 1 && n->out[1];
  if (!sd_edit_is(n, "sard.Attention") || scores || (n->n_in > SINK && n->in[SINK]) || !read_shape(n, &s)) return NULL;
  sd_dtype t = n->in[Q]->dtype;
  int64_t parts = parts_of(&s, target->tiles);
  *done = parts >= 2 && (t == SD_F32 || t == SD_F16 || t == SD_BF16);
  return *done ? split(n, parts) : NULL;
}

sard_status *sd_pass_spread(sd_module *m, const sd_pass_options *o, sd_arena *scratch, sd_pass_report *r) {
  (void)scratch;
  return o->target.tiles ? sd_edit_nodes_for(m, o, r, rewrite) : NULL;
}
