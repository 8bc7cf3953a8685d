// What may be narrow, as far as it does not depend on what other nodes became.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "passes/edit.h"
#include "passes/precision/precision.h"

#define F16_MOST  65504.0
#define F16_LEAST 0x1p-14 // below, digits are lost
#define TINY      0.1     // share of such numbers that is too much
#define STEPS     8       // back from a product to where its operand comes from

const char *sd_precision_name(const sd_node *n) {
  if (n->name && *n->name) return n->name;
  return n->n_out && n->out[0] && n->out[0]->name ? n->out[0]->name : "";
}

// ---- names ----

typedef SD_VEC(const char *) names;

static void list_names(sd_arena *a, const sd_graph *g, names *out, int depth) {
  for (const sd_node *n = g->first; n; n = n->next) {
    sd_vec_push(a, out, sd_precision_name(n));
    for (uint32_t i = 0; i < n->n_body && depth < SD_MAX_DEPTH; i++)
      list_names(a, n->bodies[i], out, depth + 1);
  }
}

static int by_text(const void *a, const void *b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

sard_status *sd_precision_check(const sd_precision *p, const sd_module *m) {
  names all = {0};
  sard_status *st = NULL;
  if (!p || p->choices.len == 0) return NULL;
  sd_arena *scratch = sd_arena_scratch(m->arena);
  list_names(scratch, m->main, &all, 0);
  if (all.len) qsort(all.at, all.len, sizeof *all.at, by_text);
  for (uint32_t i = 0; i < p->choices.len && !st; i++) {
    const char *name = p->choices.at[i].name;
    if (all.len && bsearch(&name, all.at, all.len, sizeof *all.at, by_text)) continue;
    const char *near = sd_str_nearest(name, all.at, all.len);
    st = SD_ERR(USAGE, "precision: the model has no node '%s'", name);
    if (near) st = sd_status_field(st, SARD_TEXT_HINT, "did you mean '%s'?", near);
  }
  sd_arena_free(scratch);
  return st;
}

// ---- numbers ----

void sd_precision_measure(const float *at, uint64_t n, double *most, double *tiny) {
  uint64_t some = 0, small = 0;
  *most = 0;
  for (uint64_t i = 0; i < n; i++) {
    float v;
    memcpy(&v, at + i, sizeof v); // weights lie in files as they are
    double size = fabs((double)v);
    if (!isfinite(size) || size == 0) continue;
    if (size > *most) *most = size;
    some++, small += size < F16_LEAST;
  }
  *tiny = some ? (double)small / (double)some : 0;
}

const char *sd_precision_misfit(sd_arena *a, const char *what, double most, double tiny, double margin) {
  if (most * margin > F16_MOST) return sd_arena_printf(a, "%s reaches %.4g, f16 ends at 65504", what, most);
  if (tiny > TINY)
    return sd_arena_printf(a, "%.0f %% of %s is below the normal numbers of f16", 100 * tiny, what);
  return NULL;
}

// ---- operands ----

// Masks of attention and their like have a type of their own (class *).
bool sd_precision_operand(const sd_op *op, uint32_t operand) {
  if (op->n_in == 0) return false;
  const sd_operand *o = &op->ins[operand < op->n_in ? operand : op->n_in - 1u];
  if (o->cls != '*' && o->cls != 'V') return strchr("TRNF", o->cls) != NULL;
  for (uint32_t i = 0; i < op->n_in; i++)
    if (strchr("RNF*V", op->ins[i].cls)) return &op->ins[i] == o; // what T stands for
  return false;
}

bool sd_precision_takes(const sd_node *n, uint32_t operand) {
  return operand < n->n_in && n->in[operand] && n->in[operand]->dtype == SD_F32 &&
         sd_precision_operand(n->op, operand);
}

static bool of_integers(const sd_value *v, int steps) {
  const sd_node *n = v->def;
  bool some = false;
  if (!n || v->dtype != SD_F32 || steps == 0) return false;
  if (sd_edit_is(n, "Cast") && sd_dtype_is_int(n->in[0]->dtype)) return true;
  if (n->op->kind != SD_MAP && n->op->kind != SD_MOVE) return false;
  for (uint32_t i = 0; i < n->n_in; i++) {
    if (!n->in[i] || n->in[i]->data || n->in[i]->dtype != SD_F32) continue;
    if (!of_integers(n->in[i], steps - 1)) return false;
    some = true;
  }
  return some;
}

bool sd_precision_of_integers(const sd_value *v) { return of_integers(v, STEPS); }
