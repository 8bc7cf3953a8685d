// Common subexpression elimination: equal row, operands, attributes and no bodies give equal values.
#include "passes/edit.h"
#include "runtime/base/hash.h"

static uint64_t hash_attr(const sd_attr *a) {
  uint64_t h = sd_hash_mix((uint64_t)a->kind, a->n);
  switch (a->kind) {
  case SD_ATTR_INT: return sd_hash_mix(h, (uint64_t)a->i);
  case SD_ATTR_FLOAT: return sd_hash_bytes(&a->f, sizeof a->f, h);
  case SD_ATTR_STRING: return sd_hash_bytes(a->s, strlen(a->s), h);
  case SD_ATTR_INTS: return sd_hash_bytes(a->ints, a->n * sizeof *a->ints, h);
  case SD_ATTR_FLOATS: return sd_hash_bytes(a->floats, a->n * sizeof *a->floats, h);
  case SD_ATTR_STRINGS:
    for (uint32_t i = 0; i < a->n; i++) h = sd_hash_bytes(a->strings[i], strlen(a->strings[i]), h);
    return h;
  case SD_ATTR_TENSOR: return sd_hash_mix(h, sd_const_hash(a->tensor));
  default: return h;
  }
}

static bool same_attr(const sd_attr *a, const sd_attr *b) {
  if (a->kind != b->kind || a->n != b->n) return false;
  switch (a->kind) {
  case SD_ATTR_NONE: return true;
  case SD_ATTR_INT: return a->i == b->i;
  case SD_ATTR_FLOAT: return memcmp(&a->f, &b->f, sizeof a->f) == 0;
  case SD_ATTR_STRING: return strcmp(a->s, b->s) == 0;
  case SD_ATTR_INTS: return a->n == 0 || memcmp(a->ints, b->ints, a->n * sizeof *a->ints) == 0;
  case SD_ATTR_FLOATS: return a->n == 0 || memcmp(a->floats, b->floats, a->n * sizeof *a->floats) == 0;
  case SD_ATTR_TENSOR: return a->tensor == b->tensor;
  default: return false; // graphs: not merged
  }
}

static bool same_texts(const sd_attr *a, const sd_attr *b) {
  if (a->kind != SD_ATTR_STRINGS || b->kind != SD_ATTR_STRINGS || a->n != b->n) return false;
  for (uint32_t i = 0; i < a->n; i++)
    if (strcmp(a->strings[i], b->strings[i]) != 0) return false;
  return true;
}

static bool same_const(const sd_const *a, const sd_const *b) {
  return a->dtype == b->dtype && a->rank == b->rank && a->bytes == b->bytes &&
         (a->rank == 0 || memcmp(a->dims, b->dims, (size_t)a->rank * sizeof *a->dims) == 0) &&
         (a->data == b->data || memcmp(a->data, b->data, a->bytes) == 0);
}

static bool mergeable(const sd_node *n) { return n->n_body == 0 && n->op->kind != SD_HOST && n->op->kind != SD_COMM; }

static uint64_t hash_node(const sd_node *n) {
  uint64_t h = sd_hash_mix(n->op->index, sd_hash_mix(n->n_in, n->n_out));
  for (uint32_t i = 0; i < n->n_in; i++) h = sd_hash_mix(h, n->in[i] ? n->in[i]->id + 1 : 0);
  for (uint32_t i = 0; i < n->n_attr; i++) h = sd_hash_mix(h, hash_attr(&n->attrs[i]));
  return h;
}

// texts: lists of texts, as of sizes, may be attributes of both.
static bool same_node(const sd_node *a, const sd_node *b, bool texts) {
  if (a->op != b->op || a->n_in != b->n_in || a->n_out != b->n_out) return false;
  for (uint32_t i = 0; i < a->n_in; i++)
    if (a->in[i] != b->in[i]) return false;
  for (uint32_t i = 0; i < a->n_out; i++) { // sizes that depend on data have a symbol for each node
    const sd_value *x = a->out[i], *y = b->out[i];
    if (!x != !y || (x && (x->rank != y->rank || (x->rank > 0 && memcmp(x->dims, y->dims, (size_t)x->rank * sizeof x->dims[0]))))) return false;
  }
  for (uint32_t i = 0; i < a->n_attr; i++)
    if (!same_attr(&a->attrs[i], &b->attrs[i]) && !(texts && same_texts(&a->attrs[i], &b->attrs[i]))) return false;
  return true;
}

// Two outputs of the graph have two names.
static bool both_outputs(const sd_node *a, const sd_node *b) {
  for (uint32_t i = 0; i < a->n_out; i++)
    if (a->out[i] && sd_value_is_output(a->out[i]) && sd_value_is_output(b->out[i])) return true;
  return false;
}

typedef struct slot { uint64_t hash; void *item; } slot;
typedef struct set { slot *at; uint32_t cap; } set; // open addressing

static slot *find(const set *s, uint64_t h, const void *item, bool (*same)(const void *, const void *)) {
  for (uint64_t i = h;; i++) {
    slot *q = &s->at[i & (s->cap - 1)];
    if (!q->item || (q->hash == h && same(q->item, item))) return q;
  }
}
static bool same_nodes(const void *a, const void *b) { return same_node(a, b, false); }
static bool same_with_texts(const void *a, const void *b) { return same_node(a, b, true); }
static bool same_values(const void *a, const void *b) {
  return same_const(((const sd_value *)a)->data, ((const sd_value *)b)->data);
}

static void merge_constants(sd_graph *g, set *s, sd_pass_report *r) {
  for (sd_node *n = g->first; n; n = n->next)
    for (uint32_t i = 0; i < n->n_in; i++) {
      sd_value *v = n->in[i];
      if (!v || !v->data || v->graph != g) continue;
      slot *q = find(s, sd_const_hash(v->data), v, same_values);
      if (!q->item) *q = (slot){sd_const_hash(v->data), v};
      else if (q->item != v) sd_node_set_input(n, i, q->item), r->rewrites++;
    }
}

static uint32_t capacity(const sd_graph *g) {
  uint32_t n = 16, cap = 16;
  for (const sd_node *x = g->first; x; x = x->next) n += 1 + x->n_in;
  while (cap < 2 * n) cap *= 2;
  return cap;
}

typedef struct merging { sd_arena *scratch; sd_pass_report *r; bool texts; } merging;

static sard_status *merge_graph(sd_graph *g, void *user) {
  const merging *x = user;
  set s = {.cap = capacity(g)};
  s.at = SD_NEW_ARRAY(x->scratch, slot, s.cap);
  merge_constants(g, &s, x->r);
  memset(s.at, 0, s.cap * sizeof *s.at);
  for (sd_node *n = g->first, *next; n; n = next) {
    next = n->next;
    if (!mergeable(n)) continue;
    uint64_t h = hash_node(n);
    slot *q = find(&s, h, n, x->texts ? same_with_texts : same_nodes);
    if (!q->item) {
      *q = (slot){h, n};
      continue;
    }
    sd_node *first = q->item;
    if (both_outputs(n, first)) continue;
    for (uint32_t i = 0; i < n->n_out; i++)
      if (n->out[i]) sd_value_replace(n->out[i], first->out[i]);
    sd_node_remove(n), x->r->rewrites++;
  }
  return NULL;
}

sard_status *sd_pass_cse(sd_module *m, const sd_pass_options *o, sd_arena *scratch, sd_pass_report *r) {
  merging x = {scratch, r, o->target.joint_sizes};
  return sd_edit_graphs(m, merge_graph, &x);
}
