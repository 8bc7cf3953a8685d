// Products of two computed matrices: the operand whose columns become vectors is brought into panels of 32 columns, each
// row after row, where its own layout is a bad one: columns that are far apart (the sum runs along its rows), or rows
// whose distance is such that they share few places of the caches. The copy costs one pass over the operand.
//
// MatMul and Einsum become an Einsum over [..., panel, k, column], whose result is viewed in the shape it had.
#include <string.h>

#include "passes/edit.h"

enum { COLUMNS = 32, LEAST_ROWS = 64, LEAST_SUM = 32, FAR_SUM = 256, FAR_BYTES = 2048 };

// Labels: letters of an equation of two terms.
typedef struct product {
  char term[2][SD_MAX_RANK + 1], out[SD_MAX_RANK + 1];
  int64_t size[128]; // of a label; 0: there is none
  int v;             // the operand with the columns
  char column;
} product;

static bool read_equation(const sd_node *n, product *p) {
  const char *q = sd_node_str(n, "equation", "");
  size_t a = strspn(q, "abcdefghijklmnopqrstuvwxyz"), b;
  if (q[a] != ',' || a > SD_MAX_RANK) return false;
  b = strspn(q + a + 1, "abcdefghijklmnopqrstuvwxyz");
  const char *out = q + a + 1 + b;
  if (strncmp(out, "->", 2) != 0 || b > SD_MAX_RANK || strlen(out + 2) > SD_MAX_RANK) return false;
  memcpy(p->term[0], q, a), memcpy(p->term[1], q + a + 1, b), strcpy(p->out, out + 2);
  return strspn(p->out, "abcdefghijklmnopqrstuvwxyz") == strlen(p->out);
}

// [b..., i, k] x [b..., k, j]
static bool matmul_equation(const sd_node *n, product *p) {
  int rank = n->in[0]->rank;
  if (rank < 2 || rank > 10 || n->in[1]->rank != rank) return false;
  for (int d = 0; d < rank - 2; d++) p->term[0][d] = p->term[1][d] = p->out[d] = (char)('a' + d);
  memcpy(p->term[0] + rank - 2, "xy", 2), memcpy(p->term[1] + rank - 2, "yz", 2), memcpy(p->out + rank - 2, "xz", 2);
  return true;
}

// Sizes are known and equal; no label stands twice in a term.
static bool read_sizes(const sd_node *n, product *p) {
  for (int i = 0; i < 2; i++) {
    const sd_value *v = n->in[i];
    if ((int)strlen(p->term[i]) != v->rank) return false;
    for (int d = 0; d < v->rank; d++) {
      int64_t s, *have = &p->size[(int)p->term[i][d]];
      if (!sd_dim_is_const(n->graph->module->dims, v->dims[d], &s) || s < 1 || (*have && *have != s)) return false;
      if (strchr(p->term[i] + d + 1, p->term[i][d])) return false;
      *have = s;
    }
  }
  for (const char *q = p->out; *q; q++)
    if (!p->size[(int)*q] || strchr(q + 1, *q)) return false;
  return true;
}

static bool reads(const sd_node *n, const sd_pass_target *t, product *p) {
  if (n->n_in != 2 || !n->in[0] || !n->in[1] || n->in[0]->data || n->in[1]->data || n->in[0] == n->in[1]) return false;
  if (n->in[1]->def && sd_edit_packed_weight(n->in[1]->def, t)) return false; // widened inside of the product
  if (n->in[0]->dtype != SD_F32 || n->in[0]->rank > SD_MAX_RANK || n->in[1]->rank > SD_MAX_RANK) return false;
  memset(p, 0, sizeof *p);
  bool known = sd_edit_is(n, "Einsum") ? read_equation(n, p) : sd_edit_is(n, "MatMul") && matmul_equation(n, p);
  if (!known || !read_sizes(n, p) || !*p->out || strlen(p->out) >= SD_MAX_RANK) return false;
  p->column = p->out[strlen(p->out) - 1];
  p->v = strchr(p->term[1], p->column) != NULL;
  return strchr(p->term[p->v], p->column) && !strchr(p->term[!p->v], p->column);
}

static bool gains(const product *p) {
  const char *v = p->term[p->v], *other = p->term[!p->v];
  int64_t rows = 1, sum = 1, stride = 4;
  bool turned = v[strlen(v) - 1] != p->column;
  for (const char *q = other; *q; q++) {
    if (strchr(p->out, *q) && !strchr(v, *q)) rows *= p->size[(int)*q];
    if (!strchr(p->out, *q) && !strchr(v, *q)) return false; // a sum over one operand alone
  }
  for (const char *q = v + strlen(v); q-- > v;) {
    if (strchr(p->out, *q)) {
      if (!strchr(other, *q) && *q != p->column) return false;
    } else {
      if (!strchr(other, *q)) return false;
      if (sum == 1 && !turned && stride % FAR_BYTES) return false;
      sum *= p->size[(int)*q];
    }
    stride *= p->size[(int)*q];
  }
  if (p->size[(int)p->column] % COLUMNS || p->size[(int)p->column] == COLUMNS) return false;
  return rows >= LEAST_ROWS && sum >= (turned ? LEAST_SUM : FAR_SUM);
}

// The operand as [labels of the result..., panel, labels of the sum..., column]; `term` becomes that.
static sard_status *make_panels(sd_node *n, product *p, char panel, sd_value **out) {
  const char *v = p->term[p->v];
  char split[SD_MAX_RANK + 2] = {0}, order[SD_MAX_RANK + 2] = {0};
  int64_t dims[SD_MAX_RANK + 1], perm[SD_MAX_RANK + 1];
  int rank = 0, at = 0;
  for (const char *q = v; *q; q++) {
    if (*q == p->column) split[rank] = panel, dims[rank++] = p->size[(int)*q] / COLUMNS;
    split[rank] = *q, dims[rank++] = *q == p->column ? COLUMNS : p->size[(int)*q];
  }
  for (const char *q = split; *q; q++)
    if (*q != panel && *q != p->column && strchr(p->out, *q)) order[at++] = *q;
  order[at++] = panel;
  for (const char *q = split; *q; q++)
    if (*q != panel && !strchr(p->out, *q)) order[at++] = *q;
  order[at] = p->column;
  for (int i = 0; i < rank; i++) perm[i] = strchr(split, order[i]) - split;
  SD_TRY(sd_edit_reshape(n->graph, n, n->in[p->v], dims, rank, out));
  SD_TRY(sd_edit_transpose(n->graph, n, *out, perm, (uint32_t)rank, out));
  memcpy(p->term[p->v], order, (size_t)rank + 1);
  return NULL;
}

static sard_status *replace(sd_node *n, product *p) {
  sd_module *m = n->graph->module;
  int64_t dims[SD_MAX_RANK];
  char panel = 'a';
  size_t rank = strlen(p->out);
  while (panel <= 'z' && p->size[(int)panel]) panel++;
  if (panel > 'z' || n->in[p->v]->rank >= SD_MAX_RANK) return NULL;
  sd_value *in[2] = {n->in[0], n->in[1]}, *y;
  for (size_t i = 0; i < rank; i++) dims[i] = p->size[(int)p->out[i]];
  SD_TRY(make_panels(n, p, panel, &in[p->v]));
  p->out[rank - 1] = panel, p->out[rank] = p->column;
  sd_node *e = sd_node_new(n->graph, n, sd_op_find("Einsum"), in, 2, 1);
  e->name = n->name, e->onnx_index = n->onnx_index;
  const char *equation = sd_arena_printf(m->arena, "%s,%s->%.*s", p->term[0], p->term[1], (int)rank + 1, p->out);
  *sd_node_attr(e, "equation") = (sd_attr){.kind = SD_ATTR_STRING, .s = equation};
  SD_TRY(sd_node_infer(e));
  SD_TRY(sd_edit_reshape(n->graph, n, e->out[0], dims, (int)rank, &y));
  y->name = n->out[0]->name;
  sd_value_replace(n->out[0], y);
  sd_node_remove(n);
  return NULL;
}

static sard_status *rewrite(sd_node *n, const sd_pass_target *t, bool *done) {
  product p;
  *done = reads(n, t, &p) && gains(&p);
  return *done ? replace(n, &p) : NULL;
}

sard_status *sd_pass_panels(sd_module *m, const sd_pass_options *o, sd_arena *scratch, sd_pass_report *r) {
  (void)scratch;
  return o->target.panels ? sd_edit_nodes_for(m, o, r, rewrite) : NULL;
}
