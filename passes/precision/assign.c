// Products of f32 become products of f16 or bf16, and what only moves or maps narrow values follows them.
// Each value that is narrow exists as f32, too, where something reads it so: what nothing reads goes with
// pass `dce`.
#include <string.h>

#include "passes/edit.h"
#include "passes/precision/precision.h"
#include "runtime/base/half.h"

#define MARGIN      4.0  // of f16's range, for samples that were not seen
#define LEAST_TABLE 1024 // elements of a constant that is worth a cast of what is read from it

sard_status *sd_pass_dce(sd_module *m, const sd_pass_options *o, sd_arena *scratch, sd_pass_report *r);

typedef struct known { // of a constant
  bool measured;
  double most, tiny;
  sd_value *f16, *bf16;
} known;

typedef struct assigning {
  const sd_pass_options *o;
  const sd_precision *p;
  sd_pass_report *r;
  sd_arena *scratch;
  known *constants; // by value id
  uint32_t n_ids;
  SD_VEC(const sd_value *) tables; // read from narrow constants: what maps them stays f32
} assigning;

// ---- values ----

// The narrow value that v is the f32 of.
static sd_value *narrow_of(const sd_value *v, sd_dtype t) {
  return sd_edit_is(v->def, "Cast") && v->dtype == SD_F32 && v->def->in[0]->dtype == t ? v->def->in[0] : NULL;
}

static sard_status *cast(sd_graph *g, sd_node *before, sd_value *v, sd_dtype to, const sd_node *named,
                         sd_value **out) {
  const sd_op *op = sd_op_find("Cast");
  if (!op) return SD_ERR(INTERNAL, "the operator table has no Cast");
  sd_node *n = sd_node_new(g, before, op, &v, 1, 1);
  sd_node_set_int(n, "to", to);
  n->name = named->name;
  *out = n->out[0];
  return sd_node_infer(n);
}

static known *facts(assigning *w, const sd_value *v) {
  known *k = &w->constants[v->id];
  if (!k->measured) sd_precision_measure(v->data->data, v->data->count, &k->most, &k->tiny);
  k->measured = true;
  return k;
}

static void narrow_numbers(sd_dtype t, const sd_const *c, uint16_t *to) {
  for (uint64_t i = 0; i < c->count; i++) {
    float x;
    memcpy(&x, (const uint8_t *)c->data + i * sizeof x, sizeof x); // weights lie in files as they are
    to[i] = t == SD_F16 ? sd_f32_to_f16(x) : sd_f32_to_bf16(x);
  }
}

static sard_status *narrow_constant(assigning *w, sd_value *v, sd_dtype t, sd_value **out) {
  sd_value **at = t == SD_F16 ? &w->constants[v->id].f16 : &w->constants[v->id].bf16;
  sd_arena *a = v->graph->module->arena;
  uint64_t bytes;
  if (!*at) {
    if (!sd_dtype_bytes(t, v->data->count, &bytes)) return SD_ERR(NOMEM, "a constant is too large");
    uint16_t *data = sd_arena_aligned(a, bytes + 64, 64);
    narrow_numbers(t, v->data, data);
    *at = sd_value_const(v->graph, v->name, t, v->data->rank, v->data->dims, data);
    if (!*at) return SD_ERR(INTERNAL, "a narrow constant has no valid type");
    sd_const_release(v->graph->module, v->data, false);
  }
  *out = *at;
  return NULL;
}

// v as type t. A cast stands where v is made, so that all readers, in bodies too, have the same.
static sard_status *narrow(assigning *w, sd_value *v, sd_dtype t, const sd_node *reader, sd_value **out) {
  *out = narrow_of(v, t);
  if (*out) return NULL;
  if (v->data && v->id < w->n_ids) return narrow_constant(w, v, t, out);
  for (uint32_t i = 0; i < v->uses.len; i++) {
    const sd_node *n = v->uses.at[i].node;
    if (!sd_edit_is(n, "Cast") || n->graph != v->graph || n->out[0]->dtype != t) continue;
    if (n->prev == v->def || n == v->graph->first) return *out = n->out[0], NULL;
  }
  if (w->o->precision_report) w->o->precision_report->casts++;
  return cast(v->graph, v->def ? v->def->next : v->graph->first, v, t, reader, out);
}

// ---- what becomes of a node ----

typedef struct verdict {
  sd_dtype to;
  const char *why; // of F32
  bool by_rule;
  bool table; // its result counts as f32
} verdict;

static const sd_precision_choice *choice_of(const assigning *w, const char *name) {
  for (uint32_t i = 0; i < w->p->choices.len; i++)
    if (strcmp(w->p->choices.at[i].name, name) == 0) return &w->p->choices.at[i];
  return NULL;
}

static const char *misfit(assigning *w, const sd_value *v) {
  if (v->data) {
    if (v->id >= w->n_ids) return NULL;
    const known *k = facts(w, v);
    return sd_precision_misfit(w->scratch, sd_arena_printf(w->scratch, "the constant '%s'", v->name), k->most,
                               k->tiny, 1);
  }
  for (uint32_t i = 0; i < w->p->ranges.len && *v->name; i++) {
    const sd_precision_range *r = &w->p->ranges.at[i];
    if (strcmp(r->name, v->name) != 0) continue;
    return sd_precision_misfit(w->scratch, sd_arena_printf(w->scratch, "'%s'", v->name), r->most, r->tiny,
                               MARGIN);
  }
  return NULL;
}

static const char *overflow(assigning *w, const sd_node *n) {
  const char *why = NULL;
  for (uint32_t i = 0; i < n->n_in && !why; i++)
    if (sd_precision_takes(n, i)) why = misfit(w, n->in[i]);
  for (uint32_t i = 0; i < n->n_out && !why; i++)
    if (n->out[i] && n->out[i]->dtype == SD_F32) why = misfit(w, n->out[i]);
  return why;
}

static bool is_table(const assigning *w, const sd_value *v) {
  for (uint32_t i = 0; i < w->tables.len; i++)
    if (w->tables.at[i] == v) return true;
  return false;
}

// Whether all that n reads is narrow. Nothing but a large constant that it moves: a table.
static bool follows(const assigning *w, const sd_node *n, verdict *v) {
  bool some = false;
  uint64_t constant = 0;
  for (uint32_t i = 0; i < n->n_in; i++) {
    if (!sd_precision_takes(n, i)) continue;
    if (n->in[i]->data) constant += n->in[i]->data->count;
    else if (!narrow_of(n->in[i], v->to) || is_table(w, n->in[i]))
      return false;
    else
      some = true;
  }
  v->table = !some && n->op->kind == SD_MOVE && constant >= LEAST_TABLE;
  return some || v->table;
}

static bool of_integers(const sd_node *n) {
  for (uint32_t i = 0; i < n->n_in; i++)
    if (sd_precision_takes(n, i) && sd_precision_of_integers(n->in[i])) return true;
  return false;
}

static const char *rule(const assigning *w, const sd_node *n, verdict *v) {
  if (n->op->narrow == SD_NARROW_NO) return "what it computes needs f32";
  if (n->op->narrow == SD_NARROW_FOLLOW && !follows(w, n, v)) return "it reads f32";
  if (n->op->narrow == SD_NARROW_YES && of_integers(n)) return "it computes with integers";
  return NULL;
}

static sard_status *judge(assigning *w, const sd_node *n, verdict *v) {
  const sd_precision_choice *c = choice_of(w, sd_precision_name(n));
  sd_dtype asked = c ? c->to : w->p->to;
  *v = (verdict){.to = asked};
  if (asked == SD_F32) return v->why = c && c->why ? c->why : "asked for", NULL;
  v->why = rule(w, n, v), v->by_rule = v->why != NULL;
  if (!v->why && asked == SD_F16) v->why = overflow(w, n);
  if (v->why) v->to = SD_F32;
  if (!c || !v->by_rule || n->op->narrow != SD_NARROW_NO) return NULL;
  return SD_ERR(USAGE, "precision: '%s' (%s) cannot be %s: %s", c->name, n->op->name, sd_dtype_name(asked),
                v->why);
}

static void report(const assigning *w, const sd_node *n, const verdict *v) {
  sd_precision_report *r = w->o->precision_report;
  if (!r) return;
  sd_precision_node x = {sd_arena_strdup(r->arena, sd_precision_name(n)),
                         n->op->name,
                         n->n_out && n->out[0] ? sd_arena_strdup(r->arena, n->out[0]->name) : "",
                         v->to,
                         v->why ? sd_arena_strdup(r->arena, v->why) : NULL,
                         v->by_rule};
  sd_vec_push(r->arena, &r->nodes, x);
}

// ---- rewriting ----

static sard_status *replace(assigning *w, sd_node *n, const verdict *v) {
  sd_value **in = SD_NEW_ARRAY(w->scratch, sd_value *, n->n_in + 1);
  for (uint32_t i = 0; i < n->n_in; i++) {
    in[i] = n->in[i];
    if (sd_precision_takes(n, i)) SD_TRY(narrow(w, n->in[i], v->to, n, &in[i]));
  }
  sd_node *x = sd_node_like(n->graph, n, n, in, n->n_in, n->n_out);
  for (uint32_t i = 0; i < n->n_out; i++)
    if (!n->out[i]) x->out[i] = NULL;
  SD_TRY(sd_node_infer(x));
  for (uint32_t i = 0; i < n->n_out; i++) {
    sd_value *old = n->out[i], *y = x->out[i];
    if (!old) continue;
    if (y->dtype != old->dtype) SD_TRY(cast(n->graph, n, y, old->dtype, n, &y));
    y->name = old->name;
    sd_value_replace(old, y);
    if (v->table) sd_vec_push(w->scratch, &w->tables, y);
  }
  sd_node_remove(n);
  w->r->rewrites++;
  return NULL;
}

static bool concerns(const sd_node *n) {
  bool some = false;
  if (n->n_body || sd_edit_is(n, "Cast") || sd_edit_is(n, "sard.Fused")) return false;
  for (uint32_t i = 0; i < n->n_in; i++) some |= sd_precision_takes(n, i);
  return some;
}

static sard_status *assign_graph(assigning *w, sd_graph *g, int depth) {
  if (depth > SD_MAX_DEPTH) return SD_ERR(MODEL, "graphs are nested more than %d deep", SD_MAX_DEPTH);
  for (sd_node *n = g->first, *next; n; n = next) {
    next = n->next;
    if (w->o->bisect >= 0 && w->r->rewrites >= w->o->bisect) return NULL;
    if (!sd_edit_is(n, "sard.Fused"))
      for (uint32_t i = 0; i < n->n_body; i++) SD_TRY(assign_graph(w, n->bodies[i], depth + 1));
    if (!concerns(n)) continue;
    verdict v;
    SD_TRY(judge(w, n, &v));
    report(w, n, &v);
    if (v.to == SD_F32) continue;
    sard_status *st = replace(w, n, &v);
    if (st) return sd_node_error(n, st);
  }
  return NULL;
}

sard_status *sd_pass_precision(sd_module *m, const sd_pass_options *o, sd_arena *scratch, sd_pass_report *r) {
  sd_pass_report dead = {0};
  const sd_precision *p = o->precision;
  if (!p || (p->to == SD_F32 && p->choices.len == 0)) return NULL;
  SD_TRY(sd_pass_dce(m, o, scratch, &dead)); // what other passes left behind
  assigning w = {.o = o, .p = p, .r = r, .scratch = scratch, .n_ids = m->next_id};
  w.constants = SD_NEW_ARRAY(scratch, known, m->next_id + 1);
  return assign_graph(&w, m->main, 0);
}
