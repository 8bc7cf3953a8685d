// Finds how a batch goes through the graph: from the inputs that have its symbol on, along the letters of
// each node's iteration space (ir/axes.h). Where every value has the batch along one axis, or not at all, and
// no node works across it, parts of the batch are computed independently, and the results are those parts of
// the whole ones. Changes nothing.
//
// An axis may have the batch inside (sequence, batch and heads that were made one): then there are `front`
// elements of it for each element of the batch, one batch apart, and inputs and outputs are not like that.
#include <string.h>

#include "ir/axes.h"
#include "passes/pass.h"

enum { MOST_TRIED = 8 };
enum { WHOLE = -1, SIZES = -2 }; // else the axis of the batch. SIZES: integers that follow from its size

typedef struct finding {
  sd_module *m;
  sd_arena *a;
  sd_dim batch;
  const char *name; // of the symbol
  int *axis;        // by id of values
  sd_dim *front;    // by id: what stands in front of the batch inside of that axis
  bool *read;       // by id: more than its size
  const char *why;  // NULL: it can be split so far
} finding;

static bool uses(const sd_dimtab *t, sd_dim d, sd_dim symbol) {
  if (d == SD_DIM_NONE) return false;
  if (d == symbol) return true;
  const sd_dimnode *x = sd_dim_get(t, d);
  for (uint32_t i = 0; i < x->n; i++)
    if (uses(t, x->args[i], symbol)) return true;
  return false;
}

static sd_dim one(void *user, const char *name) {
  const finding *f = user;
  return strcmp(name, f->name) == 0 ? sd_dim_const(f->m->dims, 1) : SD_DIM_NONE;
}

// The axis whose size is a multiple of the batch. False: several sizes follow from it, or one in another way.
static bool find_axis(finding *f, const sd_value *v, int *axis) {
  sd_dimtab *t = f->m->dims;
  *axis = WHOLE;
  for (int d = 0; d < v->rank; d++) {
    if (!uses(t, v->dims[d], f->batch)) continue;
    sd_dim each = sd_dim_subst(t, v->dims[d], one, f);
    if (*axis != WHOLE || each == SD_DIM_NONE || sd_dim_mul(t, each, f->batch) != v->dims[d]) return false;
    *axis = d;
  }
  return true;
}

static bool holds_sizes(const finding *f, const sd_value *v) {
  for (uint32_t i = 0; v->elems && i < v->n_elems; i++)
    if (uses(f->m->dims, v->elems[i], f->batch)) return true;
  return false;
}

static void refuse(finding *f, const sd_node *n, const char *what) {
  f->why =
      sd_arena_printf(f->a, "node '%s' (%s) %s '%s'", n->name ? n->name : "", n->op->name, what, f->name);
}

// Two axes of one letter have the batch at the same place. Where there is something in front of it they are
// equally long.
static bool same_place(const finding *f, const sd_value *a, int d, const sd_value *b, int e) {
  const sd_dimtab *t = f->m->dims;
  sd_dim front = f->front[a->id];
  return f->front[b->id] == front && (sd_dim_is(t, front, 1) || sd_dim_eq(t, a->dims[d], b->dims[e]) == 1);
}

// The first operand that is split, NULL: none is.
static const sd_value *first_split(const finding *f, const sd_node *n) {
  for (uint32_t i = 0; i < n->n_in; i++)
    if (n->in[i] && f->axis[n->in[i]->id] >= 0) return n->in[i];
  return NULL;
}

// The letter along which operands are split; 0: none is. False: they do not fit together.
static bool common_letter(const finding *f, const sd_node *n, const sd_axes *x, sd_letter *letter) {
  const sd_value *first = first_split(f, n);
  *letter = 0;
  for (uint32_t i = 0; i < n->n_in; i++) {
    int axis = n->in[i] ? f->axis[n->in[i]->id] : WHOLE;
    if (axis < 0) continue;
    sd_letter l = x->in[i][axis];
    if (!l || (*letter && *letter != l) || !same_place(f, first, f->axis[first->id], n->in[i], axis))
      return false;
    *letter = l;
  }
  for (uint32_t i = 0; *letter && i < n->n_in; i++)
    for (int d = 0; n->in[i] && d < n->in[i]->rank; d++)
      if (x->in[i][d] == *letter && f->axis[n->in[i]->id] != d) return false;
  return true;
}

// Results have the batch where they have the letter. One that is made of no part of it (a filled tensor)
// where its size says so.
static bool take_results(finding *f, const sd_node *n, const sd_axes *x, sd_letter letter) {
  const sd_value *first = first_split(f, n);
  for (uint32_t i = 0; i < n->n_out; i++) {
    int axis, at = WHOLE;
    if (!n->out[i]) continue;
    if (!find_axis(f, n->out[i], &axis)) return false;
    for (int d = 0; letter && d < n->out[i]->rank; d++)
      if (x->out[i][d] == letter) at = d;
    if (letter && (at == WHOLE || at != axis)) return false;
    if (!letter && axis != WHOLE && !x->out[i][axis]) return false;
    for (uint32_t k = 0; !letter && axis != WHOLE && k < n->n_in; k++)
      for (int d = 0; n->in[k] && d < n->in[k]->rank; d++)
        if (x->in[k][d] == x->out[i][axis]) return false; // a whole operand that varies along it
    f->axis[n->out[i]->id] = axis;
    if (letter) f->front[n->out[i]->id] = f->front[first->id];
    if (letter && !same_place(f, first, f->axis[first->id], n->out[i], at)) return false;
  }
  return true;
}

static bool divides(sd_dimtab *t, sd_dim all, sd_dim by, sd_dim *out) {
  *out = sd_dim_floordiv(t, all, by);
  return *out != SD_DIM_NONE && sd_dim_mul(t, *out, by) == all;
}

// The same elements in the same order: as many stand in front of the batch in the result.
static bool take_linear(finding *f, const sd_value *a, const sd_value *y) {
  sd_dimtab *t = f->m->dims;
  sd_dim each;
  int from = f->axis[a->id], *to = &f->axis[y->id];
  if (!find_axis(f, y, to) || *to < 0) return false;
  sd_dim front = sd_dim_mul(t, sd_dim_product(t, a->dims, from), f->front[a->id]);
  if (!divides(t, front, sd_dim_product(t, y->dims, *to), &f->front[y->id])) return false;
  return divides(t, sd_dim_subst(t, y->dims[*to], one, f), f->front[y->id], &each);
}

// Contents of all results are sizes that the graph knows: each part has its own.
static bool is_sizes(const finding *f, const sd_node *n) {
  bool some = false;
  for (uint32_t i = 0; i < n->n_out; i++) {
    if (!n->out[i]) continue;
    if (!n->out[i]->elems) return false;
    some |= holds_sizes(f, n->out[i]);
  }
  if (some)
    for (uint32_t i = 0; i < n->n_out; i++)
      if (n->out[i]) f->axis[n->out[i]->id] = SIZES;
  return true; // WHOLE where the batch is not in them
}

// Nothing of the node depends on the batch.
static bool is_whole(finding *f, const sd_node *n) {
  for (uint32_t i = 0; i < n->n_in; i++)
    if (n->in[i] && f->axis[n->in[i]->id] != WHOLE) return false;
  for (uint32_t i = 0; i < n->n_out; i++)
    for (int d = 0; n->out[i] && d < n->out[i]->rank; d++)
      if (uses(f->m->dims, n->out[i]->dims[d], f->batch)) return false;
  return n->n_body == 0; // bodies may read values around them
}

static void visit(finding *f, const sd_node *n) {
  sd_axes x;
  sd_letter letter;
  if (is_sizes(f, n) || is_whole(f, n)) return;
  if (n->n_body || !sd_axes_of(n, f->a, &x)) {
    refuse(f, n, "is not known to work independently along");
    return;
  }
  for (uint32_t i = 0; i < n->n_in; i++)
    if (n->in[i] && f->axis[n->in[i]->id] == SIZES && !(i < 32 && x.sizes >> i & 1)) {
      refuse(f, n, "computes with the size of");
      return;
    }
  bool known = sd_op_has(n->op, SD_RENAMES) && f->axis[n->in[0]->id] >= 0
                   ? take_linear(f, n->in[0], n->out[0])
                   : common_letter(f, n, &x, &letter) && take_results(f, n, &x, letter);
  if (!known) refuse(f, n, "works across");
}

static void start(finding *f) {
  const sd_graph *g = f->m->main;
  for (uint32_t i = 0; i < f->m->next_id; i++) f->axis[i] = WHOLE, f->front[i] = sd_dim_const(f->m->dims, 1);
  for (uint32_t i = 0; i < g->inputs.len && !f->why; i++)
    if (!find_axis(f, g->inputs.at[i], &f->axis[g->inputs.at[i]->id]))
      f->why = sd_arena_printf(f->a, "input '%s' has several sizes that follow from '%s'",
                               g->inputs.at[i]->name, f->name);
}

// Nodes of which more than sizes is read, behind the graph's outputs. Bodies may read anything.
static void find_read(finding *f) {
  const sd_graph *g = f->m->main;
  bool bodies = false;
  for (const sd_node *n = g->first; n; n = n->next) bodies |= n->n_body > 0;
  for (uint32_t i = 0; i < f->m->next_id; i++) f->read[i] = bodies;
  for (uint32_t i = 0; i < g->outputs.len; i++) f->read[g->outputs.at[i]->id] = true;
  for (const sd_node *n = g->last; n; n = n->prev) {
    bool some = false;
    for (uint32_t i = 0; i < n->n_out; i++) some |= n->out[i] && f->read[n->out[i]->id] && !n->out[i]->elems;
    for (uint32_t i = 0; some && i < n->n_in; i++)
      if (n->in[i]) f->read[n->in[i]->id] = true;
  }
}

static bool is_read(const finding *f, const sd_node *n) {
  for (uint32_t i = 0; i < n->n_out; i++)
    if (n->out[i] && f->read[n->out[i]->id]) return true;
  return false;
}

static const char *follow(finding *f, sd_dim symbol, int *axes) {
  const sd_graph *g = f->m->main;
  f->batch = symbol, f->name = sd_dim_get(f->m->dims, symbol)->name, f->why = NULL;
  start(f);
  for (const sd_node *n = g->first; n && !f->why; n = n->next)
    if (is_read(f, n)) visit(f, n);
  for (uint32_t i = 0; i < g->outputs.len && !f->why; i++) {
    const sd_value *v = g->outputs.at[i];
    bool sizes = f->axis[v->id] == SIZES;
    if (sizes || !sd_dim_is(f->m->dims, f->front[v->id], 1))
      f->why = sd_arena_printf(f->a, "output '%s' %s '%s'", v->name,
                               sizes ? "is the size of" : "has inside of an axis", f->name);
  }
  for (uint32_t i = 0; i < g->inputs.len; i++) axes[i] = f->axis[g->inputs.at[i]->id];
  for (uint32_t i = 0; i < g->outputs.len; i++) axes[g->inputs.len + i] = f->axis[g->outputs.at[i]->id];
  return f->why;
}

// The candidates: first dims of inputs that are symbols, then symbols whose names say so.
static bool candidate(const sd_module *m, const sd_value *v, int d, bool by_name, sd_dim *out) {
  if (d >= v->rank || v->dims[d] == SD_DIM_NONE) return false;
  const sd_dimnode *s = sd_dim_get(m->dims, v->dims[d]);
  *out = v->dims[d];
  return s->op == SD_DIM_SYM && (by_name ? d > 0 && sd_dim_is_batch(s->name) : d == 0);
}

// Whether the symbol was followed before; else it is now. A model with many of them is not looked at from all
// sides.
static bool was_tried(sd_dim *tried, uint32_t *n, sd_dim symbol) {
  for (uint32_t i = 0; i < *n; i++)
    if (tried[i] == symbol) return true;
  if (*n == MOST_TRIED) return true;
  tried[(*n)++] = symbol;
  return false;
}

sard_status *sd_pass_batch(sd_module *m, const sd_pass_options *o, sd_arena *scratch, sd_pass_report *r) {
  (void)o, (void)r;
  const sd_graph *g = m->main;
  int *axes = SD_NEW_ARRAY(m->arena, int, g->inputs.len + g->outputs.len + 1);
  finding f = {.m = m,
               .a = scratch,
               .axis = SD_NEW_ARRAY(scratch, int, m->next_id + 1),
               .front = SD_NEW_ARRAY(scratch, sd_dim, m->next_id + 1),
               .read = SD_NEW_ARRAY(scratch, bool, m->next_id + 1)};
  const char *why = NULL;
  sd_dim symbol, tried[MOST_TRIED];
  uint32_t n_tried = 0;
  find_read(&f);
  m->batch_axes = axes, m->batch_n = g->inputs.len + g->outputs.len, m->batch = SD_DIM_NONE;
  for (int by_name = 0; by_name < 2; by_name++)
    for (uint32_t i = 0; i < g->inputs.len; i++)
      for (int d = 0; d < SD_MAX_RANK; d++) {
        if (!candidate(m, g->inputs.at[i], d, by_name, &symbol) || was_tried(tried, &n_tried, symbol))
          continue;
        const char *reason = follow(&f, symbol, axes);
        if (!reason) return m->batch_why = "", m->batch = symbol, NULL;
        if (!why) why = reason;
      }
  m->batch_why = why ? sd_arena_strdup(m->arena, why) : "no input leaves its first dim open";
  return NULL;
}
