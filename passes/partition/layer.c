// The cut into ranges of nodes by dynamic programming.
#include "passes/partition/layer.h"

#include <math.h>
#include <string.h>

#include "ir/op.h"
#include "passes/partition/parts.h"
#include "runtime/artifact.h"

enum { EDGE_BUFFERS = 2 }; // of what crosses a cut: one is written while another is read

typedef SD_VEC(const sd_value *) values;
typedef struct cutter {
  sd_module *m;
  const sd_layer_costs *c;
  const sd_layer_device *devices;
  uint32_t n, nodes;
  sd_arena *a;
  const sd_node **node;
  double **upto;      // per device: seconds of the nodes before number i
  uint64_t *crossing; // bytes made by nodes before i and read from it on
  uint64_t *live;     // bytes of values while node i runs
  values *constants;  // that node i reads
  uint32_t *stamp;    // by id of constants: counted for
  bool *whole;        // no cut behind node i
  double *best;       // [k * (nodes + 1) + j]: the first j nodes on k + 1 devices
  uint32_t *from;     // where the last of these begins
} cutter;

// ---- what is read where ----

typedef struct reading {
  cutter *x;
  uint32_t *last;
  uint32_t at;
} reading; // last: 1 + the last node that reads the value

static void read_value(reading *r, const sd_value *v) {
  if (!v || v->graph->owner) return;
  if (!v->data) {
    r->last[v->id] = r->at + 1;
    return;
  }
  if (r->x->stamp[v->id] == r->at + 1) return; // the node reads it twice
  r->x->stamp[v->id] = r->at + 1;
  sd_vec_push(r->x->a, &r->x->constants[r->at], v);
}

static void read_node(reading *r, const sd_node *n) {
  for (uint32_t i = 0; i < n->n_in; i++) read_value(r, n->in[i]);
  for (uint32_t b = 0; b < n->n_body; b++) {
    const sd_graph *g = n->bodies[b];
    for (const sd_node *x = g->first; x; x = x->next) read_node(r, x);
    for (uint32_t i = 0; i < g->outputs.len; i++) read_value(r, g->outputs.at[i]);
  }
}

// Bytes at each node and across each cut, as sums of differences.
static void find_bytes(cutter *x) {
  uint32_t *last = SD_NEW_ARRAY(x->a, uint32_t, x->m->next_id + 1);
  reading r = {x, last, 0};
  for (; r.at < x->nodes; r.at++) read_node(&r, x->node[r.at]);
  for (uint32_t i = 0; i < x->nodes; i++)
    for (uint32_t k = 0; k < x->node[i]->n_out; k++) {
      const sd_value *v = x->node[i]->out[k];
      if (!v) continue;
      uint64_t bytes = x->c->bytes(x->c->user, v);
      uint32_t end = last[v->id] > i ? last[v->id] : i + 1; // one behind the last node that has it
      x->live[i] += bytes, x->live[end] -= bytes;
      x->crossing[i + 1] += bytes, x->crossing[end] -= bytes;
    }
  for (uint32_t i = 1; i <= x->nodes; i++) x->live[i] += x->live[i - 1], x->crossing[i] += x->crossing[i - 1];
}

// Bytes of the constants of node i that have not been counted for `stamp`.
static uint64_t more_weights(cutter *x, uint32_t i, uint32_t stamp) {
  uint64_t sum = 0;
  for (uint32_t k = 0; k < x->constants[i].len; k++) {
    const sd_value *v = x->constants[i].at[k];
    if (x->stamp[v->id] != stamp) sum += v->data->bytes;
    x->stamp[v->id] = stamp;
  }
  return sum;
}

// ---- the table ----

static double link_of(const cutter *x, uint32_t i) {
  return i ? x->c->link_seconds + (double)x->crossing[i] / x->c->link_bytes : 0;
}

static uint64_t edges(const cutter *x, uint32_t i, uint32_t j) {
  return EDGE_BUFFERS * (x->crossing[i] + x->crossing[j]);
}

// The best beginning of the part of device k that ends in front of node j.
static void fill(cutter *x, uint32_t k, uint32_t j, uint32_t stamp) {
  const sd_layer_device *d = &x->devices[k];
  const double *before = x->best + (size_t)(k ? k - 1 : 0) * (x->nodes + 1);
  double best = INFINITY;
  uint64_t weights = 0, most = 0;
  uint32_t from = 0;
  for (uint32_t i = j; i-- > k;) {
    double t = x->upto[k][j] - x->upto[k][i];
    if (t >= best) break;
    if (d->memory) {
      weights += more_weights(x, i, stamp);
      if (x->live[i] > most) most = x->live[i];
      if (weights > d->memory) break;
      if (weights + most + edges(x, i, j) > d->memory) continue;
    }
    if (k ? x->whole[i - 1] : i > 0) continue;
    t += link_of(x, i);
    if (k && before[i] > t) t = before[i];
    if (t < best) best = t, from = i;
  }
  x->best[(size_t)k * (x->nodes + 1) + j] = best;
  x->from[(size_t)k * (x->nodes + 1) + j] = from;
}

static void fill_all(cutter *x) {
  uint32_t stamp = x->nodes + 1; // above those of reading
  memset(x->stamp, 0, (x->m->next_id + 1) * sizeof *x->stamp);
  for (uint32_t k = 0; k < x->n; k++)
    for (uint32_t j = k + 1; j <= x->nodes; j++) fill(x, k, j, stamp++);
}

// ---- the result ----

static void describe(cutter *x, uint32_t i, uint32_t j, uint32_t k, sd_layer_part *p) {
  uint32_t stamp = UINT32_MAX - k;
  *p = (sd_layer_part){.first = i, .n = j - i, .link = link_of(x, i), .bytes_in = i ? x->crossing[i] : 0};
  p->seconds = x->upto[k][j] - x->upto[k][i];
  for (uint32_t q = i; q < j; q++) {
    p->weights += more_weights(x, q, stamp);
    if (x->live[q] > p->values) p->values = x->live[q];
  }
  p->values += edges(x, i, j);
}

static void take_plan(cutter *x, sd_layer_plan *out) {
  uint32_t j = x->nodes;
  *out = (sd_layer_plan){.n = x->n, .nodes = x->nodes, .at = SD_NEW_ARRAY(x->a, sd_layer_part, x->n)};
  out->part_of = SD_NEW_ARRAY(x->a, uint32_t, x->nodes + 1);
  for (uint32_t k = x->n; k-- > 0;) {
    uint32_t i = x->from[(size_t)k * (x->nodes + 1) + j];
    describe(x, i, j, k, &out->at[k]);
    for (uint32_t q = i; q < j; q++) out->part_of[q] = k;
    double t = out->at[k].seconds + out->at[k].link;
    out->sum += t;
    if (t > out->slowest) out->slowest = t;
    j = i;
  }
}

static sard_status *too_many(const cutter *x) {
  uint32_t parts = x->nodes ? 1 : 0;
  for (uint32_t i = 0; i + 1 < x->nodes; i++) parts += !x->whole[i];
  if (x->n <= parts) return NULL;
  return SD_ERR(USAGE,
                "split=layer: %u devices, but the model can be cut into %u part%s at most (it has %u node%s "
                "when compiled)",
                x->n, parts, parts == 1 ? "" : "s", x->nodes, x->nodes == 1 ? "" : "s");
}

static bool fits(cutter *x) {
  for (size_t i = 0; i < (size_t)x->n * (x->nodes + 1); i++) x->best[i] = INFINITY;
  fill_all(x);
  return !x->nodes || !isinf(x->best[(size_t)(x->n - 1) * (x->nodes + 1) + x->nodes]);
}

// The least memory, to a hundredth, that is enough when all devices have it.
static uint64_t least_memory(cutter *x, uint64_t most) {
  sd_layer_device *same = SD_NEW_ARRAY(x->a, sd_layer_device, x->n);
  uint64_t less = 0;
  x->devices = same;
  while (most - less > most / 100 + 1) {
    uint64_t half = less + (most - less) / 2;
    for (uint32_t k = 0; k < x->n; k++) same[k].memory = half;
    if (fits(x)) most = half;
    else
      less = half;
  }
  return most;
}

// Of the node that needs most, which no cut makes smaller; *all: what all together need at most.
static const sd_node *largest_node(cutter *x, uint64_t *bytes, uint64_t *all) {
  uint32_t at = 0, stamp = UINT32_MAX - SARD_ART_MAXPARTS;
  *bytes = *all = 0;
  for (uint32_t i = 0; i < x->nodes; i++) {
    uint64_t need = more_weights(x, i, --stamp) + x->live[i];
    if (need > *bytes) *bytes = need, at = i;
    *all += need + edges(x, i, i + 1);
  }
  return x->nodes ? x->node[at] : NULL;
}

// Why no cut fits, and what would be enough.
static sard_status *no_room(cutter *x) {
  uint64_t worst, all, largest = 0;
  for (uint32_t k = 0; k < x->n; k++)
    if (x->devices[k].memory > largest) largest = x->devices[k].memory;
  const sd_node *n = largest_node(x, &worst, &all);
  return SD_ERR(
      NOMEM,
      "split=layer: no cut for %u devices fits into their memory, %llu bytes at most: node '%s' (%s) alone "
      "needs %llu with its operands and results; %llu bytes on each device would be enough",
      x->n, (unsigned long long)largest, n->name, n->op->name, (unsigned long long)worst,
      (unsigned long long)least_memory(x, all));
}

static void make_tables(cutter *x) {
  uint32_t i = 0;
  for (const sd_node *q = x->m->main->first; q; q = q->next) x->nodes++;
  size_t nodes = x->nodes + 1, all = x->n * nodes;
  x->node = SD_NEW_ARRAY(x->a, const sd_node *, nodes);
  x->upto = SD_NEW_ARRAY(x->a, double *, x->n);
  x->crossing = SD_NEW_ARRAY(x->a, uint64_t, nodes + 1);
  x->live = SD_NEW_ARRAY(x->a, uint64_t, nodes + 1);
  x->constants = SD_NEW_ARRAY(x->a, values, nodes);
  x->stamp = SD_NEW_ARRAY(x->a, uint32_t, x->m->next_id + 1);
  x->whole = SD_NEW_ARRAY(x->a, bool, nodes);
  x->best = SD_NEW_ARRAY(x->a, double, all);
  x->from = SD_NEW_ARRAY(x->a, uint32_t, all);
  for (const sd_node *q = x->m->main->first; q; q = q->next) x->node[i++] = q;
  for (uint32_t k = 0; k < x->n; k++) {
    const double *seconds = x->devices && x->devices[k].seconds ? x->devices[k].seconds : x->c->seconds;
    x->upto[k] = SD_NEW_ARRAY(x->a, double, nodes);
    for (i = 0; i < x->nodes; i++) x->upto[k][i + 1] = x->upto[k][i] + seconds[i];
  }
}

static void prepare(cutter *x) {
  make_tables(x);
  sd_parts_bound(x->m, x->whole, x->a);
  find_bytes(x);
}

sard_status *sd_layer_cut(sd_module *m, const sd_layer_costs *c, const sd_layer_device *devices, uint32_t n,
                          sd_arena *a, sd_layer_plan *out) {
  cutter x = {.m = m, .c = c, .devices = devices, .n = n, .a = a};
  prepare(&x);
  SD_TRY(too_many(&x));
  if (!fits(&x)) return no_room(&x);
  take_plan(&x, out);
  return NULL;
}

static sard_status *check_parts(const cutter *x, const sd_layer_plan *p) {
  for (uint32_t k = 0; k < p->n; k++) {
    uint64_t need = p->at[k].weights + p->at[k].values, room = x->devices[k].memory;
    if (room && need > room)
      return SD_ERR(NOMEM, "cuts: part %u needs %llu bytes, and its device has %llu", k + 1,
                    (unsigned long long)need, (unsigned long long)room);
  }
  return NULL;
}

sard_status *sd_layer_cut_at(sd_module *m, const sd_layer_costs *c, const sd_layer_device *devices,
                             uint32_t n, const uint32_t *cuts, sd_arena *a, sd_layer_plan *out) {
  cutter x = {.m = m, .c = c, .devices = devices, .n = n, .a = a};
  prepare(&x);
  for (uint32_t k = 0; k + 1 < n; k++) {
    if (cuts[k] >= x.nodes || cuts[k] <= (k ? cuts[k - 1] : 0))
      return SD_ERR(USAGE, "cuts: node %u is none of 1 to %u, in rising order, at which a part can begin",
                    cuts[k], x.nodes ? x.nodes - 1 : 0);
    const sd_node *at = x.node[cuts[k]];
    if (x.whole[cuts[k] - 1])
      return SD_ERR(USAGE,
                    "cuts: no part can begin at node %u ('%s', %s), which needs a size that only nodes in "
                    "front of it know",
                    cuts[k], at->name, at->op->name);
  }
  for (uint32_t k = 0; k < n; k++)
    x.from[(size_t)k * (x.nodes + 1) + (k + 1 < n ? cuts[k] : x.nodes)] = k ? cuts[k - 1] : 0;
  take_plan(&x, out);
  return check_parts(&x, out);
}

const sd_node *sd_layer_largest(sd_module *m, const sd_layer_costs *c, sd_arena *a, uint64_t *bytes) {
  cutter x = {.m = m, .c = c, .n = 1, .a = a};
  uint64_t all;
  prepare(&x);
  return largest_node(&x, bytes, &all);
}

double sd_layer_seconds(const sd_layer_plan *p, uint32_t pieces) {
  return pieces ? (p->sum + (pieces - 1) * p->slowest) / pieces : p->sum;
}
