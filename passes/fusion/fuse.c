// Groups nodes into kernels: from each root upward, producers whose element can be recomputed where it is used.
//
// Lowering substitutes the expression of a member at its use (ir/lower.h), so the question for a producer is how often
// the consumer asks for each of its elements: once, a few times (the passes of a softmax over a row), or many times
// (operand of a contraction, broadcast). Contractions join where each element is asked for once: that is the epilogue.
#include "passes/edit.h"
#include "passes/fusion/strided.h"

#define MAX_MEMBERS 48
#define MAX_INPUTS  24

typedef enum demand { ONCE, FEW, ROWS, MANY } demand; // ROWS: many times, but the same value along the innermost axes

typedef enum turn { STRAIGHT, ROWS_STAY, TURNED } turn; // ROWS_STAY: axes are permuted, but the last one stays last

typedef struct group {
  sd_node *members[MAX_MEMBERS]; // root first
  demand asked[MAX_MEMBERS];
  bool lookup[MAX_MEMBERS]; // a map of a table that the group looks up
  turn turned[MAX_MEMBERS]; // between its result and that of the root
  uint32_t n;
  bool contraction, composite;
  bool expected; // a map has joined that shall end the contraction in front of it
  const sd_pass_target *target;
} group;

static int member_index(const group *g, const sd_node *n) {
  for (uint32_t i = 0; i < g->n; i++)
    if (g->members[i] == n) return (int)i;
  return -1;
}

// Same shape, or differing only by dims of 1.
static bool same_count(const sd_value *a, const sd_value *b) { return sd_value_count(a) == sd_value_count(b); }

// Every element is asked for exactly as often as the result.
static bool bijective_move(const sd_node *n) { return sd_op_has(n->op, SD_RENAMES | SD_PERMUTES | SD_REGROUPS); }

// Moves whose index map is affine: free to read through.
static bool affine_move(const sd_node *n) { return sd_op_has(n->op, SD_RENAMES | SD_PERMUTES | SD_CUTS | SD_REPEATS); }

// Reshape after a permutation needs division: leave the permutation to a kernel of its own.
static bool transposes(const sd_node *n) { return sd_op_has(n->op, SD_PERMUTES | SD_REGROUPS); }

// Its operands are computed in its memory (passes/memory).
static bool joins(const sd_node *n) { return sd_op_has(n->op, SD_JOINS); }

static bool costly_map(const sd_node *n) {
  static const char *const slow[] = {"exp(", "log(", "pow(", "erf(", "tanh(", "sin(", "cos(", "tan(", "sinh(", "cosh(", "asin(", "acos(", "atan(", NULL};
  if (!n->op->text) return strcmp(n->op->name, "Cast") != 0;
  for (int i = 0; slow[i]; i++)
    if (strstr(n->op->text, slow[i])) return true;
  return false;
}

// The last axis stays last (or there is only one axis).
static bool keeps_last_axis(const sd_node *n) {
  const sd_attr *perm = sd_node_attr(n, "perm");
  if (!sd_op_has(n->op, SD_PERMUTES)) return true;
  return perm && perm->kind == SD_ATTR_INTS && perm->n > 0 && perm->ints[perm->n - 1] == (int64_t)perm->n - 1;
}

static bool last_dim_equal(const sd_value *a, const sd_value *b) {
  return a->rank > 0 && b->rank > 0 && a->dims[a->rank - 1] == b->dims[b->rank - 1];
}

// Reduction over trailing axes only (constant axes), so that its value is the same along the innermost loops.
static bool reduces_trailing(const sd_node *n) {
  const sd_value *x = n->in[0], *y = n->out[0];
  if (x->rank < 1 || y->rank != x->rank) return false; // keepdims
  bool tail = true;
  for (int d = x->rank - 1; d >= 0; d--) {
    bool reduced = x->dims[d] != y->dims[d];
    if (reduced && !tail) return false;
    if (!reduced) tail = false;
  }
  return true;
}

// How often consumer c (asked for `d` itself) asks for each element of its operand v.
static demand demand_of(const sd_node *c, demand d, const sd_value *v) {
  switch (c->op->kind) {
  case SD_MAP: {
    if (same_count(v, c->out[0])) return d;
    // broadcast along trailing axes: hoisted out of the inner loops
    const sd_value *y = c->out[0];
    int last = v->rank - 1;
    if (d <= FEW && v->rank == y->rank && v->rank > 0 && sd_dim_is(v->graph->module->dims, v->dims[last], 1) &&
        !sd_dim_is(v->graph->module->dims, y->dims[last], 1))
      return ROWS;
    return MANY;
  }
  case SD_MOVE: return bijective_move(c) || sd_op_has(c->op, SD_CUTS | SD_JOINS) ? d : MANY;
  case SD_REDUCE: return d;
  case SD_COMPOSITE: return d <= FEW && v == c->in[0] ? FEW : MANY;
  default: return MANY;
  }
}

static demand worst_demand(const group *g, const sd_value *v) {
  demand worst = ONCE;
  int uses = 0;
  for (uint32_t i = 0; i < v->uses.len; i++) {
    int c = member_index(g, v->uses.at[i].node);
    demand d = demand_of(v->uses.at[i].node, g->asked[c], v);
    if (d > worst) worst = d;
    uses++;
  }
  if (uses > 1 && worst == ONCE) {
    bool same = true; // one consumer that uses it twice, or maps over the same shape: still computed once
    for (uint32_t i = 0; i < v->uses.len; i++) same &= v->uses.at[i].node->op->kind == SD_MAP;
    if (!same) worst = FEW;
  }
  return worst;
}

static bool contracts(const sd_node *n) { return n->op->kind == SD_CONTRACT || n->op->kind == SD_NESTS; }

// Rows of a table that is computed from one that is stored (dequantized weights): rather those that are looked up than all.
static bool looked_up(const group *g, const sd_value *v) {
  for (uint32_t i = 0; i < v->uses.len; i++) {
    const sd_node *c = v->uses.at[i].node;
    int at = member_index(g, c);
    if (at < 0) return false;
    bool table = sd_op_has(c->op, SD_LOOKS_UP) ? v->uses.at[i].operand == 0 : c->op->kind == SD_MAP && g->lookup[at];
    if (!table) return false;
  }
  return true;
}

static bool feeds_contraction(const group *g, const sd_value *v) {
  for (uint32_t i = 0; i < v->uses.len; i++)
    if (member_index(g, v->uses.at[i].node) >= 0 && contracts(v->uses.at[i].node)) return true;
  return false;
}

// Elements one after the other: of a convolution along the channels, of products along one of the last two axes.
static bool unit_stride(const sd_value *v, const sd_strided *s, const sd_node *reader, uint32_t operand) {
  sd_dimtab *t = v->graph->module->dims;
  bool product = sd_edit_is(reader, "MatMul") || sd_edit_is(reader, "Gemm") || sd_edit_is(reader, "Einsum");
  if (sd_op_has(reader->op, SD_TAKES_ANY) && operand > 2) return true; // what is added to scores
  if (s->rank < 1) return false;
  if (sd_dim_is(t, s->stride[s->rank - 1], 1)) return true;
  return product && s->rank > 1 && sd_dim_is(t, s->stride[s->rank - 2], 1);
}

// Do all readers of v, through moves of the group, find its elements at fixed distances? *s: how v lies.
static bool strided_readers(const group *g, const sd_value *v, const sd_strided *s, int depth) {
  for (uint32_t i = 0; i < v->uses.len; i++) {
    const sd_use *u = &v->uses.at[i];
    if (member_index(g, u->node) < 0 || depth > MAX_MEMBERS) return false;
    if (joins(u->node)) continue;
    if (u->node->op->kind == SD_CONTRACT || sd_op_has(u->node->op, SD_TAKES_ANY)) {
      if (!unit_stride(v, s, u->node, u->operand)) return false;
      continue;
    }
    sd_strided next = *s;
    if (u->operand != 0 || !sd_strided_move(u->node, &next)) return false;
    if (!strided_readers(g, u->node->out[0], &next, depth + 1)) return false;
  }
  return true;
}

static bool strided_operand(const group *g, const sd_node *p) {
  sd_strided s;
  if (!sd_strided_kind(p) || p->in[0]->rank < 0) return false;
  sd_strided_whole(p->in[0], &s);
  return sd_strided_move(p, &s) && strided_readers(g, p->out[0], &s, 0);
}

// Does what reads v, through moves of the group, contract? Then v is a factor.
static bool feeds_through_moves(const group *g, const sd_value *v, int depth) {
  for (uint32_t i = 0; i < v->uses.len; i++) {
    const sd_node *c = v->uses.at[i].node;
    if (member_index(g, c) < 0 || depth > MAX_MEMBERS) continue;
    if (contracts(c) || (c->op->kind == SD_MOVE && feeds_through_moves(g, c->out[0], depth + 1))) return true;
  }
  return false;
}

// A concatenation of values that no kernel computes: each of them would be copied by a kernel of its own, and one for all
// reads them where they are. Others are computed where they will lie (passes/memory).
static bool only_copies(const sd_node *n) {
  if (!sd_edit_is(n, "Concat") || n->n_in < 2) return false;
  for (uint32_t i = 0; i < n->n_in; i++) {
    const sd_node *d = n->in[i] ? n->in[i]->def : NULL;
    sd_strided s;
    if (!n->in[i] || n->in[i]->rank < 0) return false;
    if (!d) continue;
    if (!sd_strided_kind(d) || d->in[0]->rank < 0) return false;
    sd_strided_whole(d->in[0], &s);
    if (!sd_strided_move(d, &s)) return false;
  }
  return true;
}

static bool is_factor(const group *g, const sd_value *v) {
  return g->target->strided_reads ? feeds_through_moves(g, v, 0) : feeds_contraction(g, v);
}

// May a move be read through by the contraction that uses it?
static bool readable_operand(const group *g, const sd_node *p) {
  const sd_value *v = p->out[0];
  if (g->target->strided_reads) return strided_operand(g, p);
  if (!affine_move(p)) return false;
  if (sd_edit_is(p, "Reshape") && p->in[0]->def && transposes(p->in[0]->def)) return false;
  for (uint32_t i = 0; i < v->uses.len; i++) {
    const sd_use *u = &v->uses.at[i];
    if (member_index(g, u->node) < 0) return false;
    if (u->node->op->kind != SD_CONTRACT) return false;
    if (!sd_edit_is(u->node, "MatMul")) return false;
    if (!keeps_last_axis(p)) return false;
  }
  return true;
}

// Between a contraction and the root only maps and moves that keep the last axis stand.
static bool epilogue_only(const group *g, const sd_value *v) {
  for (uint32_t i = 0; i < g->n; i++) {
    const sd_node *c = g->members[i];
    if (c->op->kind == SD_MAP) continue;
    if (c->op->kind == SD_MOVE && bijective_move(c) && keeps_last_axis(c)) {
      const sd_value *x = c->in[0];
      int64_t a, b;
      if (last_dim_equal(x, c->out[0])) continue;
      // Reshape that splits the last axis is read affinely; one that merges axes after a transpose is not
      if (x->rank > 0 && c->out[0]->rank > x->rank && sd_dim_is_const(x->graph->module->dims, x->dims[x->rank - 1], &a) &&
          sd_dim_is_const(x->graph->module->dims, c->out[0]->dims[c->out[0]->rank - 1], &b) && b > 0 && a % b == 0 && b >= 16)
        continue;
    }
    return false;
  }
  (void)v;
  return true;
}

static bool maps_only(const group *g, const sd_value *v) {
  for (uint32_t i = 0; i < g->n; i++) {
    const sd_value *y = g->members[i]->out[0];
    if (g->members[i]->op->kind != SD_MAP || y->rank != v->rank || memcmp(y->dims, v->dims, (size_t)v->rank * sizeof *v->dims) != 0) return false;
  }
  return true;
}

static turn turned_after(const group *g, const sd_value *v) {
  turn most = STRAIGHT;
  for (uint32_t i = 0; i < v->uses.len; i++) {
    const sd_node *c = v->uses.at[i].node;
    int at = member_index(g, c);
    if (at < 0) continue;
    turn mine = !transposes(c) ? STRAIGHT : sd_op_has(c->op, SD_PERMUTES) && keeps_last_axis(c) ? ROWS_STAY : TURNED;
    if (g->turned[at] > mine) mine = g->turned[at];
    if (mine > most) most = mine;
  }
  return most;
}

// The reductions of a composite serve the innermost loops. Where axes are permuted after it they would be made again for each
// element, unless they run along the last axis and that stays last.
static bool rows_permuted(const group *g, const sd_node *p) {
  const sd_attr *axis = sd_node_attr(p, "axis");
  bool along_last = axis && axis->kind == SD_ATTR_INT && (axis->i == -1 || axis->i == p->in[0]->rank - 1);
  return turned_after(g, p->out[0]) > (along_last ? ROWS_STAY : STRAIGHT);
}

static bool takes_epilogue(const sd_node *n) { return n->op->kind == SD_CONTRACT || sd_op_has(n->op, SD_FOLLOWED); }

// Could p, a map, end a contraction that feeds it, alone or behind other maps?
static bool ends_contraction(const sd_node *p, int depth) {
  const sd_value *y = p->out[0];
  for (uint32_t i = 0; i < p->n_in; i++) {
    const sd_value *v = p->in[i];
    const sd_node *d = v ? v->def : NULL;
    if (!d || d->graph != p->graph || d->n_out != 1 || !sd_edit_only_use(v) || !same_count(v, y)) continue;
    if (takes_epilogue(d)) return true;
    bool passes = d->op->kind == SD_MAP || (bijective_move(d) && keeps_last_axis(d));
    if (passes && depth < MAX_MEMBERS && ends_contraction(d, depth + 1)) return true;
  }
  return false;
}

// Its result takes fewer bits than what it is made of: rather that in memory.
static bool narrows(const sd_node *p) {
  for (uint32_t i = 0; i < p->n_in; i++)
    if (p->in[i] && same_count(p->in[i], p->out[0]) && sd_dtype_bits(p->in[i]->dtype) <= sd_dtype_bits(p->out[0]->dtype)) return false;
  return true;
}

// The group has no room for the contraction in front of p, so p stays behind that.
static bool better_behind(const group *g, const sd_node *p, demand d) {
  bool room = d == ONCE && !g->contraction && !g->composite && epilogue_only(g, p->out[0]), thin = narrows(p);
  return (g->target->epilogues || thin) && (!room || (thin && g->expected)) && ends_contraction(p, 0);
}

// A Pad of what no kernel computes, before nothing but a permutation: one copy instead of two.
static bool widens_input(const group *g, const sd_node *p) {
  return g->target->strided_reads && p->in[0] && !p->in[0]->def && g->n == 1 && sd_op_has(g->members[0]->op, SD_PERMUTES);
}

// Bytes that a convolution of single channels reads as f32: each load serves few products, and a fourth of the memory is read.
static bool widened_channels(const group *g, const sd_node *p) {
  const sd_value *x = p->n_in ? p->in[0] : NULL, *y = p->out[0];
  if (g->target->strided_reads || !sd_edit_is(p, "Cast") || sd_dtype_bits(x->dtype) != 8 || !sd_edit_only_use(y)) return false;
  const sd_use *u = &y->uses.at[0];
  if (!sd_edit_is(u->node, "Conv") || u->operand != 0 || sd_node_int(u->node, "channels_last", 0) != 1) return false;
  const sd_value *w = u->node->in[1];
  return sd_dim_is(w->graph->module->dims, w->dims[w->rank - 2], 1);
}

static bool may_join(const group *g, const sd_node *p) {
  const sd_value *v = p->out[0];
  if (p->n_out != 1 || !v || sd_value_is_output(v) || v->uses.len == 0 || v->rank < 0 || g->n == MAX_MEMBERS) return false;
  for (uint32_t i = 0; i < v->uses.len; i++)
    if (member_index(g, v->uses.at[i].node) < 0) return false;
  demand d = worst_demand(g, v);
  switch (p->op->kind) {
  case SD_MAP:
    if (better_behind(g, p, d) || joins(g->members[0])) return false;
    if (is_factor(g, v)) return sd_edit_packed_weight(p, g->target) || widened_channels(g, p);
    if (looked_up(g, v)) return !costly_map(p);
    return d == ONCE || ((d == FEW || d == ROWS) && !costly_map(p)) || (d == ROWS && !g->contraction);
  case SD_MOVE:
    if (is_factor(g, v)) return sd_edit_packed_weight(p, g->target) || readable_operand(g, p);
    if (joins(p)) return d == ONCE && sd_op_has(p->op, SD_BORDERS) && widens_input(g, p);
    if (joins(g->members[0])) return strided_operand(g, p);
    if (transposes(p) && !keeps_last_axis(p)) return d == ONCE && !g->contraction && !g->composite;
    return affine_move(p) || d == ONCE || d == FEW;
  case SD_REDUCE: return (d == ONCE && same_count(v, g->members[0]->out[0])) || (d <= ROWS && reduces_trailing(p) && !g->contraction);
  case SD_COMPOSITE: return d == ONCE && !g->contraction && !g->composite && same_count(v, g->members[0]->out[0]) && !rows_permuted(g, p);
  case SD_CONTRACT: return d == ONCE && !g->contraction && !g->composite && epilogue_only(g, v);
  case SD_NESTS: return sd_op_has(p->op, SD_FOLLOWED) && d == ONCE && !g->contraction && !g->composite && maps_only(g, v);
  default: return false;
  }
}

static bool can_root(const sd_node *n, const sd_pass_target *t) {
  if (n->n_out != 1 || n->n_body) return false;
  if (t->strided_reads && (sd_op_has(n->op, SD_TAKES_ANY) || only_copies(n))) return true;
  if (joins(n)) return false;
  return n->op->kind <= SD_COMPOSITE;
}

static uint32_t count_inputs(const group *g) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < g->n; i++)
    for (uint32_t k = 0; k < g->members[i]->n_in; k++) {
      const sd_value *v = g->members[i]->in[k];
      n += v && (!v->def || member_index(g, v->def) < 0);
    }
  return n;
}

// Adds producers until nothing changes; contractions last-computed first, so that the longest chain gets the epilogue.
static void grow(group *g) {
  for (bool changed = true; changed;) {
    changed = false;
    for (uint32_t i = 0; i < g->n && !changed; i++) {
      if (joins(g->members[i]) && i > 0) continue;
      for (uint32_t k = g->members[i]->n_in; k-- > 0 && !changed;) {
        sd_node *p = g->members[i]->in[k] ? g->members[i]->in[k]->def : NULL;
        if (!p || p->graph != g->members[0]->graph || member_index(g, p) >= 0 || p->n_body) continue;
        if (!may_join(g, p)) continue;
        g->asked[g->n] = worst_demand(g, p->out[0]);
        g->lookup[g->n] = p->op->kind == SD_MAP && looked_up(g, p->out[0]);
        g->turned[g->n] = turned_after(g, p->out[0]);
        g->members[g->n++] = p;
        g->expected |= narrows(p) && ends_contraction(p, 0);
        g->contraction |= contracts(p), g->composite |= p->op->kind == SD_COMPOSITE;
        changed = true;
      }
    }
    if (count_inputs(g) > MAX_INPUTS) return;
  }
}

// All members rename elements: passes/memory makes views of them.
static bool only_views(const group *g) {
  for (uint32_t i = 0; i < g->n; i++)
    if (!sd_op_has(g->members[i]->op, SD_RENAMES) && !sd_edit_is(g->members[i], "sard.Dims")) return false;
  return true;
}

// ---- making the group node ----

typedef struct map_entry { sd_value *outer, *inner; } map_entry;
typedef SD_VEC(map_entry) map_list;

static sd_value *mapped(const map_list *l, const sd_value *v) {
  for (uint32_t i = 0; i < l->len; i++)
    if (l->at[i].outer == v) return l->at[i].inner;
  return NULL;
}

// Position in the graph: members in topological order.
static void sort_members(group *g) {
  sd_node *sorted[MAX_MEMBERS];
  uint32_t n = 0;
  for (sd_node *x = g->members[0]; x && n < g->n; x = x->prev)
    if (member_index(g, x) >= 0) sorted[g->n - 1 - n++] = x;
  memcpy(g->members, sorted, sizeof sorted[0] * g->n);
}

static sard_status *make_group(group *g, sd_arena *scratch) {
  sd_node *root = g->members[0];
  sd_value *ins[MAX_INPUTS * 4];
  uint32_t n_in = 0;
  const sd_op *fused = sd_op_find("sard.Fused");
  if (!fused) return SD_ERR(INTERNAL, "the operator table has no sard.Fused");
  sort_members(g);
  for (uint32_t i = 0; i < g->n; i++)
    for (uint32_t k = 0; k < g->members[i]->n_in; k++) {
      sd_value *v = g->members[i]->in[k];
      bool seen = !v || (v->def && member_index(g, v->def) >= 0);
      for (uint32_t q = 0; q < n_in && !seen; q++) seen = ins[q] == v;
      if (seen) continue;
      if (n_in == sizeof ins / sizeof *ins) return NULL; // leave it unfused
      ins[n_in++] = v;
    }
  sd_node *f = sd_node_new(root->graph, root->next, fused, ins, n_in, 1);
  f->name = root->name, f->onnx_index = root->onnx_index;
  sd_graph *body = sd_node_add_body(f, "fused");
  map_list map = {0};
  for (uint32_t i = 0; i < n_in; i++) {
    sd_value *v = sd_graph_input(body, ins[i]->name, ins[i]->dtype, ins[i]->rank, ins[i]->dims);
    v->data = ins[i]->data, v->elems = ins[i]->elems, v->n_elems = ins[i]->n_elems;
    sd_vec_push(scratch, &map, ((map_entry){ins[i], v}));
  }
  for (uint32_t i = 0; i < g->n; i++) {
    sd_node *src = g->members[i];
    sd_value **in = SD_NEW_ARRAY(scratch, sd_value *, src->n_in + 1);
    for (uint32_t k = 0; k < src->n_in; k++) in[k] = src->in[k] ? mapped(&map, src->in[k]) : NULL;
    sd_node *copy = sd_node_like(body, NULL, src, in, src->n_in, src->n_out);
    sd_value_copy_type(copy->out[0], src->out[0]);
    copy->out[0]->name = src->out[0]->name;
    copy->out[0]->elems = src->out[0]->elems, copy->out[0]->n_elems = src->out[0]->n_elems;
    sd_vec_push(scratch, &map, ((map_entry){src->out[0], copy->out[0]}));
  }
  sd_graph_output(body, mapped(&map, root->out[0]));
  sd_value_copy_type(f->out[0], root->out[0]);
  f->out[0]->name = root->out[0]->name;
  sd_value_replace(root->out[0], f->out[0]);
  for (uint32_t i = g->n; i-- > 0;) sd_node_remove(g->members[i]);
  return NULL;
}

typedef struct fuse { const sd_pass_options *o; sd_arena *scratch; sd_pass_report *r; } fuse;

static sard_status *fuse_graph(sd_graph *graph, void *user) {
  const fuse *f = user;
  sd_node *prev;
  for (sd_node *n = graph->last; n; n = prev) {
    prev = n->prev;
    if (!can_root(n, &f->o->target) || (f->o->bisect >= 0 && f->r->rewrites >= f->o->bisect)) continue;
    group g = {.members = {n}, .n = 1, .contraction = contracts(n), .composite = n->op->kind == SD_COMPOSITE};
    g.target = &f->o->target;
    grow(&g);
    if (g.n < 2 || (f->o->target.strided_reads && only_views(&g))) continue;
    sd_node *stop = n->next; // members lie before; continue above the group's place
    SD_TRY(make_group(&g, f->scratch));
    sd_node *made = stop ? stop->prev : graph->last;
    prev = made->prev;
    f->r->rewrites++;
  }
  return NULL;
}

sard_status *sd_pass_fuse(sd_module *m, const sd_pass_options *o, sd_arena *scratch, sd_pass_report *r) {
  fuse f = {o, scratch, r};
  return sd_edit_graphs(m, fuse_graph, &f);
}
