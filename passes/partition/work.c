// How nodes are taken apart over devices: states of values flow along letters.
#include "passes/partition/work.h"

#include <math.h>
#include <string.h>

#include "ir/axes.h"

enum { WHOLE = -1 };

typedef struct state {
  int8_t axis;  // WHOLE, or the dim that it is split along
  double share; // of it on each device
} state;

typedef struct sharder {
  const sd_work *w;
  const sd_work_sizes *sizes;
  sd_arena *scratch;
  sd_work_split *out;
  sd_work_node *at; // the node of the main graph at hand
  state *states;    // by id
  uint8_t *roles;   // of values in groups, too
  double *taken;    // share that the node at hand reads, by id
  bool *all;        // it reads all of that
  bool heavy;       // a product was seen in it
} sharder;

static double size_of(const sharder *s, sd_dim d) {
  int64_t v;
  return d != SD_DIM_NONE && sd_dim_eval(s->w->m->dims, d, s->sizes->size, s->sizes->user, &v) && v > 0
             ? (double)v
             : 0;
}

static double share_of(double size, uint32_t n) { return size > 0 ? ceil(size / n) / size : 1; }

static bool is_weight(const sharder *s, const sd_value *v) {
  return v->data || s->roles[v->id] == SD_ROLE_WEIGHT;
}

// ---- one node, of the main graph or of a group ----

static void exchange(sharder *s, sd_exchange what, const sd_value *v) {
  sd_vec_push(s->w->a, &s->at->exchanges, ((sd_work_exchange){what, v}));
}

static void gather(sharder *s, const sd_value *v) {
  if (s->states[v->id].axis == WHOLE) return;
  s->states[v->id] = (state){WHOLE, 1};
  exchange(s, SD_EXCHANGE_GATHER, v);
}

static void gather_all(sharder *s, const sd_node *n) {
  for (uint32_t i = 0; i < n->n_in; i++)
    if (n->in[i]) gather(s, n->in[i]);
}

static int dim_of(const sd_letter *letters, const sd_value *v, sd_letter l) {
  for (int d = 0; l && v && d < v->rank; d++)
    if (letters[d] == l) return d;
  return WHOLE;
}

// The letter of operands that are split; others of them are gathered.
static sd_letter given_letter(sharder *s, const sd_node *n, const sd_axes *x) {
  sd_letter letter = 0;
  for (uint32_t i = 0; i < n->n_in; i++) {
    int axis = n->in[i] ? s->states[n->in[i]->id].axis : WHOLE;
    if (axis == WHOLE) continue;
    sd_letter l = x->in[i][axis];
    if (!l || (letter && l != letter)) gather(s, n->in[i]);
    else
      letter = l;
  }
  return letter;
}

static bool only_of(const sd_node *n, const sd_axes *x, uint32_t operand, sd_letter l) {
  for (uint32_t i = 0; i < n->n_in; i++)
    if (i != operand && dim_of(x->in[i], n->in[i], l) != WHOLE) return false;
  return true;
}

// The letter of the largest dim that a matrix of weights alone has, with the result, and that n divides.
static sd_letter new_letter(const sharder *s, const sd_node *n, const sd_axes *x) {
  sd_letter best = 0;
  double most = 1;
  for (uint32_t i = 0; i < n->n_in; i++) {
    const sd_value *v = n->in[i];
    if (!v || v->rank < 2 || !is_weight(s, v)) continue;
    for (int d = 0; d < v->rank; d++) {
      double size = size_of(s, v->dims[d]);
      if (!x->in[i][d] || size <= most || fmod(size, s->out->n) != 0 || !only_of(n, x, i, x->in[i][d]))
        continue;
      if (dim_of(x->out[0], n->out[0], x->in[i][d]) != WHOLE) best = x->in[i][d], most = size;
    }
  }
  return best;
}

static bool in_all_results(const sd_node *n, const sd_axes *x, sd_letter l) {
  for (uint32_t i = 0; i < n->n_out; i++)
    if (n->out[i] && dim_of(x->out[i], n->out[i], l) == WHOLE) return false;
  return true;
}

static double least_share(const sharder *s, const sd_node *n, const sd_axes *x, sd_letter l) {
  double least = 1;
  for (uint32_t i = 0; i < n->n_in; i++) {
    int d = dim_of(x->in[i], n->in[i], l);
    if (d == WHOLE) continue;
    const state *t = &s->states[n->in[i]->id];
    least = fmin(least, t->axis == d ? t->share : share_of(size_of(s, n->in[i]->dims[d]), s->out->n));
  }
  return least;
}

static void read_operands(sharder *s, const sd_node *n, const sd_axes *x, sd_letter l) {
  for (uint32_t i = 0; i < n->n_in; i++) {
    const sd_value *v = n->in[i];
    if (!v) continue;
    int d = l ? dim_of(x->in[i], v, l) : WHOLE;
    const state *t = &s->states[v->id];
    double share = d == WHOLE ? 1 : t->axis == d ? t->share : share_of(size_of(s, v->dims[d]), s->out->n);
    s->taken[v->id] = fmax(s->taken[v->id], share);
    s->all[v->id] |= n->op->kind != SD_MOVE;
  }
}

static bool is_heavy(const sd_node *n) { return n->op->kind == SD_CONTRACT || n->op->kind == SD_NESTS; }

static void note_share(sharder *s, const sd_node *n, double share) {
  if (s->heavy && !is_heavy(n)) return;
  s->heavy |= is_heavy(n);
  s->at->share = share;
  const sd_value *v = s->heavy && n->n_in && n->in[0] ? n->in[0] : n->n_out ? n->out[0] : NULL;
  s->at->type = v ? v->dtype : SD_DT_NONE;
}

static void visit(sharder *s, const sd_node *n) {
  sd_axes x;
  sd_letter l = 0;
  bool known = n->n_body == 0 && sd_axes_of(n, s->scratch, &x), sum = false;
  if (!known) gather_all(s, n);
  else if ((l = given_letter(s, n, &x)) && !in_all_results(n, &x, l)) {
    sum = l == x.sum;
    if (!sum) gather_all(s, n), l = 0;
  }
  if (known && !l && s->out->n > 1) l = new_letter(s, n, &x);
  double least = l ? least_share(s, n, &x, l) : 1, share = least;
  read_operands(s, n, known ? &x : NULL, l);
  for (uint32_t i = 0; i < n->n_out; i++) {
    if (!n->out[i]) continue;
    int d = l && !sum ? dim_of(x.out[i], n->out[i], l) : WHOLE;
    state t = {(int8_t)d, d == WHOLE ? 1 : fmax(least, share_of(size_of(s, n->out[i]->dims[d]), s->out->n))};
    s->states[n->out[i]->id] = t;
    if (d != WHOLE && i == 0) share = t.share;
    if (sum) exchange(s, SD_EXCHANGE_REDUCE, n->out[i]);
  }
  note_share(s, n, share);
}

// ---- nodes of the main graph ----

static bool is_group(const sd_node *n) { return n->n_body == 1 && strcmp(n->op->name, "sard.Fused") == 0; }

static void visit_group(sharder *s, const sd_node *n) {
  const sd_graph *g = n->bodies[0];
  for (uint32_t i = 0; i < g->inputs.len && i < n->n_in; i++) {
    if (!n->in[i]) continue;
    uint32_t in = g->inputs.at[i]->id, from = n->in[i]->id;
    s->states[in] = s->states[from], s->roles[in] = is_weight(s, n->in[i]) ? SD_ROLE_WEIGHT : s->roles[from];
  }
  for (const sd_node *x = g->first; x; x = x->next) visit(s, x);
  for (uint32_t i = 0; i < g->inputs.len && i < n->n_in; i++) {
    if (!n->in[i]) continue;
    uint32_t in = g->inputs.at[i]->id, from = n->in[i]->id;
    s->states[from] = s->states[in];
    s->taken[from] = fmax(s->taken[from], s->taken[in]), s->all[from] |= s->all[in];
  }
  for (uint32_t i = 0; i < g->outputs.len && i < n->n_out; i++)
    if (n->out[i]) s->states[n->out[i]->id] = s->states[g->outputs.at[i]->id];
}

static void begin(sharder *s, const sd_node *n) {
  s->heavy = false;
  *s->at = (sd_work_node){.node = n, .share = 1, .free = n->n_out > 0};
  for (uint32_t i = 0; i < n->n_out; i++) s->at->free &= !n->out[i] || n->out[i]->view;
  for (uint32_t i = 0; i < n->n_in; i++)
    if (n->in[i]) s->taken[n->in[i]->id] = 0, s->all[n->in[i]->id] = false;
}

static void end(sharder *s, const sd_node *n) {
  sd_work_node *w = s->at;
  w->in = SD_NEW_ARRAY(s->w->a, sd_work_use, n->n_in + 1),
  w->out = SD_NEW_ARRAY(s->w->a, sd_work_use, n->n_out + 1);
  for (uint32_t i = 0; i < n->n_in; i++) {
    const sd_value *v = n->in[i];
    if (!v) continue;
    bool again = false;
    for (uint32_t k = 0; k < i; k++) again |= n->in[k] == v;
    if (again) continue;
    double share = s->taken[v->id] > 0 ? s->taken[v->id] : 1;
    w->in[w->n_in++] = (sd_work_use){v, share, !s->all[v->id]};
    s->out->weight[v->id] = fmax(s->out->weight[v->id], share);
  }
  for (uint32_t i = 0; i < n->n_out; i++) {
    const sd_value *v = n->out[i];
    if (!v) continue;
    w->out[w->n_out++] = (sd_work_use){v, s->states[v->id].share, false};
    if (sd_value_is_output(v) && s->roles[v->id] != SD_ROLE_CACHE) gather(s, v);
  }
}

sd_work_split *sd_work_take_apart(const sd_work *w, const sd_work_sizes *sizes, uint32_t n) {
  uint32_t ids = w->m->next_id + 1;
  sd_work_split *out = SD_NEW(w->a, sd_work_split);
  sd_arena *scratch = sd_arena_scratch(w->a);
  sharder s = {.w = w, .sizes = sizes, .scratch = scratch, .out = out};
  *out = (sd_work_split){n, SD_NEW_ARRAY(w->a, sd_work_node, w->nodes + 1), SD_NEW_ARRAY(w->a, double, ids)};
  s.states = SD_NEW_ARRAY(scratch, state, ids), s.roles = SD_NEW_ARRAY(scratch, uint8_t, ids);
  s.taken = SD_NEW_ARRAY(scratch, double, ids), s.all = SD_NEW_ARRAY(scratch, bool, ids);
  memcpy(s.roles, w->roles, ids);
  for (uint32_t i = 0; i < ids; i++) s.states[i] = (state){WHOLE, 1};
  uint32_t i = 0;
  for (const sd_node *x = w->m->main->first; x; x = x->next) {
    s.at = &out->at[i++];
    begin(&s, x);
    if (is_group(x)) visit_group(&s, x);
    else
      visit(&s, x);
    end(&s, x);
  }
  sd_arena_free(scratch);
  return out;
}

// ---- numbers ----

static double number(const sd_work *w, const sd_work_sizes *sizes, sd_dim d) {
  int64_t v;
  return d != SD_DIM_NONE && sd_dim_eval(w->m->dims, d, sizes->size, sizes->user, &v) && v > 0 ? (double)v
                                                                                               : 0;
}

static void load_value(const sd_work *w, const sd_work_sizes *sizes, const sd_value *v, sd_work_load *l) {
  if (v->data) l->bytes[v->id] = (double)v->data->bytes;
  else if (v->rank >= 0 && v->dtype != SD_DT_NONE)
    l->bytes[v->id] = number(w, sizes, sd_dim_bytes(w->m->dims, v->dtype, sd_value_count(v)));
}

static void load_nodes(const sd_work *w, const sd_work_sizes *sizes, const sd_graph *g, sd_work_load *l) {
  for (uint32_t i = 0; i < g->inputs.len; i++) load_value(w, sizes, g->inputs.at[i], l);
  for (const sd_node *n = g->first; n; n = n->next) {
    for (uint32_t i = 0; i < n->n_in; i++)
      if (n->in[i]) load_value(w, sizes, n->in[i], l);
    for (uint32_t i = 0; i < n->n_out; i++)
      if (n->out[i]) load_value(w, sizes, n->out[i], l);
    if (is_group(n)) load_nodes(w, sizes, n->bodies[0], l);
  }
}

sd_work_load sd_work_load_of(const sd_work *w, const sd_work_sizes *sizes) {
  sd_work_load l = {SD_NEW_ARRAY(w->a, double, w->m->next_id + 1), SD_NEW_ARRAY(w->a, double, w->nodes + 1)};
  load_nodes(w, sizes, w->m->main, &l);
  for (uint32_t i = 0; i < w->nodes; i++) l.flops[i] = number(w, sizes, w->flops[i]);
  return l;
}

bool sd_work_stays(const sd_work *w, const sd_value *v) {
  return v->data || w->roles[v->id] != SD_ROLE_VALUE;
}

// Values that live while a part of the nodes runs. Inputs of the graph come with their first reader.
typedef struct living {
  const sd_work *w;
  const sd_work_load *l;
  uint32_t *end; // by id: one behind the last node that needs it
  bool *there;   // by id
  double *gone;  // bytes that end behind a node
  double live;
} living;

static void bring(living *x, const sd_work_use *u) {
  const sd_value *v = sd_value_root((sd_value *)u->v);
  double bytes = x->l->bytes[v->id] * u->share;
  if (x->there[v->id] || sd_work_stays(x->w, v)) return;
  x->there[v->id] = true, x->live += bytes, x->gone[x->end[v->id] - 1] += bytes;
}

double sd_work_live(const sd_work *w, const sd_work_split *s, const sd_work_load *l, uint32_t first,
                    uint32_t n) {
  uint32_t ids = w->m->next_id + 1, end = first + n;
  sd_arena *scratch = sd_arena_scratch(w->a);
  living x = {w,
              l,
              SD_NEW_ARRAY(scratch, uint32_t, ids),
              SD_NEW_ARRAY(scratch, bool, ids),
              SD_NEW_ARRAY(scratch, double, end + 1),
              0};
  double most = 0;
  for (uint32_t i = first; i < end; i++) {
    const sd_work_node *k = &s->at[i];
    for (uint32_t u = 0; u < k->n_in; u++) x.end[sd_value_root((sd_value *)k->in[u].v)->id] = i + 1;
    for (uint32_t u = 0; u < k->n_out; u++) {
      uint32_t *at = &x.end[sd_value_root((sd_value *)k->out[u].v)->id];
      *at = sd_value_is_output(k->out[u].v) ? end : *at > i + 1 ? *at : i + 1;
    }
  }
  for (uint32_t i = first; i < end; i++) {
    const sd_work_node *k = &s->at[i];
    for (uint32_t u = 0; u < k->n_in; u++)
      if (!k->in[u].v->def) bring(&x, &k->in[u]);
    for (uint32_t u = 0; u < k->n_out; u++) bring(&x, &k->out[u]);
    most = fmax(most, x.live);
    x.live -= x.gone[i];
  }
  sd_arena_free(scratch);
  return most;
}
