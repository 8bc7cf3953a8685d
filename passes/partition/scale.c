// Predicted times of splits.
#include "passes/partition/scale.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "passes/partition/layer.h"
#include "runtime/artifact.h"

enum { MOST_PIECES = 64, EDGE_BUFFERS = 2, MOST_STAGES = SARD_ART_MAXPARTS };

// ---- sizes ----

typedef struct sized {
  const sd_scale_phase *phase;
  int64_t parts; // of the batch
} sized;

static bool size_of(void *user, const char *name, int64_t *out) {
  const sized *s = user;
  *out = 1;
  for (uint32_t i = 0; i < s->phase->n_sizes; i++) {
    const sd_scale_size *x = &s->phase->sizes[i];
    if (strcmp(x->name, name) == 0) *out = x->batch ? (x->value + s->parts - 1) / s->parts : x->value;
  }
  return true;
}

// ---- nodes ----

typedef struct cost {
  double compute, memory, launch, exchange, sent, flops, bytes;
} cost;

static double seconds_of(const cost *c) { return c->compute + c->memory + c->launch + c->exchange; }

static void add(cost *to, const cost *c, double times) {
  to->compute += times * c->compute, to->memory += times * c->memory, to->launch += times * c->launch;
  to->exchange += times * c->exchange, to->sent += times * c->sent;
  to->flops += times * c->flops, to->bytes += times * c->bytes;
}

static double bytes_of(const sd_work_node *n, const sd_work_load *l) {
  double in = 0, out = 0;
  for (uint32_t i = 0; i < n->n_out; i++) out += l->bytes[n->out[i].v->id] * n->out[i].share;
  for (uint32_t i = 0; i < n->n_in; i++) {
    double b = l->bytes[n->in[i].v->id] * n->in[i].share;
    in += n->in[i].no_more ? fmin(b, out) : b;
  }
  return in + out;
}

static cost cost_of(const sd_machine *m, const sd_machine_device *d, const sd_work_split *s,
                    const sd_work_load *l, uint32_t i) {
  const sd_work_node *n = &s->at[i];
  cost c = {0};
  if (!n->free) {
    c.flops = l->flops[i] * n->share, c.bytes = bytes_of(n, l), c.launch = d->launch;
    double compute = c.flops / sd_machine_flops(d, n->type), memory = c.bytes / (d->bandwidth * d->moving);
    if (compute > memory) c.compute = compute;
    else
      c.memory = memory;
  }
  for (uint32_t k = 0; k < n->exchanges.len; k++) {
    double sent;
    c.exchange +=
        sd_machine_exchange(m, n->exchanges.at[k].what, s->n, l->bytes[n->exchanges.at[k].v->id], &sent);
    c.sent += sent;
  }
  return c;
}

// ---- one split ----

typedef struct predicting {
  sd_scale_job *job;
  sd_scale_split split;
  sd_arena *a;
  sd_work_split *shares;
  sd_machine_device *stages; // what each stage is as fast as
  sd_layer_plan plan;
} predicting;

static sd_work_load load_of_sizes(const predicting *p, const sd_scale_phase *phase, int64_t parts) {
  sd_scale_cache *c = &p->job->cache;
  sized s = {phase, parts};
  for (uint32_t i = 0; i < c->loads.len; i++)
    if (c->loads.at[i].sizes == phase->sizes && c->loads.at[i].parts == parts) return c->loads.at[i].load;
  sd_scale_load more = {phase->sizes, parts, sd_work_load_of(p->job->work, &(sd_work_sizes){size_of, &s})};
  sd_vec_push(p->job->work->a, &c->loads, more);
  return more.load;
}
static sd_work_load load_of(const predicting *p, uint32_t phase, int64_t parts) {
  return load_of_sizes(p, &p->job->phases[phase], parts);
}

// The worst of the devices that a stage has in all pipelines.
static sd_machine_device stage_device(const predicting *p, uint32_t stage) {
  uint32_t t = p->split.tensor, each = t * p->split.layer;
  sd_machine_device d = sd_machine_worst(p->job->machine, stage * t, t);
  for (uint32_t r = 1; r < p->split.batch; r++) {
    sd_machine both = {.n_kinds = 2,
                       .kinds = {d, sd_machine_worst(p->job->machine, r * each + stage * t, t)}};
    both.kinds[0].count = both.kinds[1].count = 1;
    d = sd_machine_worst(&both, 0, 2);
  }
  return d;
}

static uint64_t bytes_for_cut(void *user, const sd_value *v) {
  const sd_work_load *l = user;
  return (uint64_t)fmin(l->bytes[v->id], 1e18);
}

// Seconds of each node in all phases on a stage's device.
static void seconds_on(const predicting *p, const sd_machine_device *d, double *each) {
  for (uint32_t f = 0; f < p->job->n_phases; f++) {
    sd_work_load l = load_of(p, f, p->split.batch);
    for (uint32_t i = 0; i < p->job->work->nodes; i++) {
      cost c = cost_of(p->job->machine, d, p->shares, &l, i);
      each[i] += seconds_of(&c) * p->job->phases[f].times;
    }
  }
}

// Devices that are slower get fewer nodes.
static sard_status *cut(predicting *p) {
  const sd_work *w = p->job->work;
  const sd_machine_level *links = &p->job->machine->levels[0];
  double *seconds = SD_NEW_ARRAY(p->a, double, w->nodes + 1);
  sd_layer_device *devices = SD_NEW_ARRAY(p->a, sd_layer_device, p->split.layer);
  for (uint32_t k = 0; k < p->split.layer; k++) {
    double *its = k ? SD_NEW_ARRAY(p->a, double, w->nodes + 1) : seconds;
    if (!k || p->stages[k].kind != p->stages[0].kind) seconds_on(p, &p->stages[k], its), devices[k].seconds = its;
  }
  sd_work_load l = load_of(p, p->job->n_phases - 1, p->split.batch);
  sd_layer_costs costs = {seconds, bytes_for_cut, &l, links->bandwidth, links->latency};
  return sd_layer_cut(w->m, &costs, devices, p->split.layer, p->a, &p->plan);
}

// A run of one piece of a pipeline's part: what it costs all the way, and the slowest stage.
typedef struct passage {
  cost sum;
  double seconds, slowest, sent;
} passage;

// Bytes that nodes in front of node i make and nodes from it on read, for each i; in p->a.
static double *crossing_of(const predicting *p, const sd_work_load *l) {
  const sd_work_split *s = p->shares;
  uint32_t nodes = p->job->work->nodes, ids = p->job->work->m->next_id + 1;
  double *at = SD_NEW_ARRAY(p->a, double, nodes + 1);
  uint32_t *made = SD_NEW_ARRAY(p->a, uint32_t, ids); // 1 + the node that makes it, or that read it last
  for (uint32_t i = 0; i < nodes; i++) {
    for (uint32_t k = 0; k < s->at[i].n_in; k++) {
      const sd_work_use *u = &s->at[i].in[k];
      if (!made[u->v->id]) continue;
      double bytes = l->bytes[u->v->id] * u->share;
      at[made[u->v->id]] += bytes, at[i + 1] -= bytes;
      made[u->v->id] = i + 1;
    }
    for (uint32_t k = 0; k < s->at[i].n_out; k++) made[s->at[i].out[k].v->id] = i + 1;
  }
  for (uint32_t i = 1; i <= nodes; i++) at[i] += at[i - 1];
  for (uint32_t i = 0; i <= nodes; i++) at[i] = fmax(at[i], 0); // sums of differences may end below
  return at;
}

static passage pass_through(const predicting *p, const sd_work_load *l) {
  passage out = {0};
  uint32_t t = p->split.tensor;
  const double *crossing = crossing_of(p, l);
  for (uint32_t k = 0; k < p->plan.n; k++) {
    const sd_layer_part *part = &p->plan.at[k];
    cost sum = {0};
    for (uint32_t i = part->first; i < part->first + part->n; i++) {
      cost c = cost_of(p->job->machine, &p->stages[k], p->shares, l, i);
      add(&sum, &c, 1);
    }
    if (k) {
      double bytes = crossing[part->first];
      sum.exchange += sd_machine_send(p->job->machine, k * t - 1, k * t, bytes), sum.sent += bytes;
    }
    out.slowest = fmax(out.slowest, seconds_of(&sum)), out.sent = fmax(out.sent, sum.sent);
    add(&out.sum, &sum, 1);
  }
  out.seconds = seconds_of(&out.sum);
  return out;
}

static double with_pieces(const sd_scale_phase *f, const passage *w, double m) {
  return f->again ? fmax(w->seconds, m * w->slowest) : w->seconds + (m - 1) * w->slowest;
}

// The number of pieces that is fastest: a pipeline of one stage has one.
static sd_scale_time time_phase(const predicting *p, uint32_t phase) {
  const sd_scale_phase *f = &p->job->phases[phase];
  int64_t own = (p->job->batch + p->split.batch - 1) / p->split.batch;
  sd_scale_time best = {.seconds = INFINITY};
  for (uint32_t m = 1; m <= MOST_PIECES && m <= own && (m == 1 || p->split.layer > 1); m *= 2) {
    sd_work_load l = load_of(p, phase, (int64_t)p->split.batch * m);
    passage w = pass_through(p, &l);
    double seconds = with_pieces(f, &w, m), all = (double)p->split.tensor * p->split.batch * m;
    if (seconds >= best.seconds) continue;
    // each stage is busy m times its own; what is left of the time of all stages is the bubble
    double busy = w.seconds * m / p->split.layer / seconds, each = busy / (w.seconds > 0 ? w.seconds : 1);
    best = (sd_scale_time){.seconds = seconds, .pieces = m, .wait = fmax(0, 1 - busy), .sent = w.sent * m};
    best.compute = w.sum.compute * each, best.memory = w.sum.memory * each;
    best.launch = w.sum.launch * each, best.exchange = w.sum.exchange * each;
    best.flops = w.sum.flops * all, best.bytes = w.sum.bytes * all;
  }
  return best;
}

static void measure_stage(const predicting *p, const sd_work_load *l, uint32_t k, sd_scale_memory *out) {
  const sd_work *w = p->job->work;
  const sd_layer_part *part = &p->plan.at[k];
  sd_arena *scratch = sd_arena_scratch(p->a);
  bool *seen = SD_NEW_ARRAY(scratch, bool, w->m->next_id + 1);
  *out = (sd_scale_memory){.room = p->stages[k].memory, .stage = k};
  for (uint32_t i = part->first; i < part->first + part->n; i++)
    for (uint32_t u = 0; u < p->shares->at[i].n_in; u++) {
      const sd_value *v = p->shares->at[i].in[u].v;
      double bytes = l->bytes[v->id] * p->shares->weight[v->id];
      if (seen[v->id] || !sd_work_stays(w, v)) continue;
      seen[v->id] = true;
      if (w->roles[v->id] == SD_ROLE_CACHE) out->cache += bytes;
      else
        out->weights += bytes;
    }
  sd_arena_free(scratch);
}

static double values_of(const predicting *p, const sd_work_load *l, const double *crossing, uint32_t k) {
  const sd_layer_part *part = &p->plan.at[k];
  double edges = k ? crossing[part->first] : 0;
  if (k + 1 < p->plan.n) edges += crossing[part->first + part->n];
  return sd_work_live(p->job->work, p->shares, l, part->first, part->n) + EDGE_BUFFERS * edges;
}

static void measure(const predicting *p, sd_scale_plan *out) {
  sd_work_load loads[SD_SCALE_PHASES], all = load_of_sizes(p, &p->job->largest, p->split.batch);
  double worst = -1, *crossing[SD_SCALE_PHASES];
  for (uint32_t f = 0; f < p->job->n_phases; f++) {
    loads[f] = load_of(p, f, (int64_t)p->split.batch * out->phases[f].pieces);
    crossing[f] = crossing_of(p, &loads[f]);
  }
  out->fits = true;
  for (uint32_t k = 0; k < p->plan.n; k++) {
    sd_scale_memory m;
    measure_stage(p, &all, k, &m);
    for (uint32_t f = 0; f < p->job->n_phases; f++)
      m.values = fmax(m.values, values_of(p, &loads[f], crossing[f], k));
    double full = (m.weights + m.cache + m.values) / (double)m.room;
    if (full > 1) out->fits = false;
    if (full > worst) worst = full, out->memory = m;
  }
}

static sard_status *check(const sd_scale_job *job, sd_scale_split s) {
  uint64_t n = (uint64_t)s.tensor * s.layer * s.batch;
  if (n == 0 || n > job->machine->count)
    return SD_ERR(USAGE, "split: tensor %u x layer %u x batch %u is %llu devices, but there are %u", s.tensor,
                  s.layer, s.batch, (unsigned long long)n, job->machine->count);
  if (s.layer > MOST_STAGES)
    return SD_ERR(USAGE, "split: layer:%u is more than %d parts", s.layer, MOST_STAGES);
  if (s.batch > job->batch)
    return SD_ERR(USAGE, "split: a batch of %lld cannot be split into %u parts", (long long)job->batch,
                  s.batch);
  return NULL;
}

static double whole_share(const predicting *p) {
  sd_work_load l = load_of(p, p->job->n_phases - 1, 1);
  double all = 0, whole = 0;
  for (uint32_t i = 0; i < p->job->work->nodes; i++) {
    all += l.flops[i];
    if (p->shares->at[i].share == 1) whole += l.flops[i];
  }
  return all > 0 ? whole / all : 0;
}

static sd_work_split *shares_of(predicting *p) {
  sd_scale_cache *c = &p->job->cache;
  sized last = {&p->job->phases[p->job->n_phases - 1], 1};
  for (uint32_t i = 0; i < c->shares.len; i++)
    if (c->shares.at[i]->n == p->split.tensor) return c->shares.at[i];
  sd_work_split *s = sd_work_take_apart(p->job->work, &(sd_work_sizes){size_of, &last}, p->split.tensor);
  sd_vec_push(p->job->work->a, &c->shares, s);
  return s;
}

static sard_status *predict(predicting *p, sd_scale_plan *out) {
  const sd_scale_job *job = p->job;
  p->shares = shares_of(p);
  p->stages = SD_NEW_ARRAY(p->a, sd_machine_device, p->split.layer);
  for (uint32_t k = 0; k < p->split.layer; k++) p->stages[k] = stage_device(p, k);
  SD_TRY(cut(p));
  for (uint32_t f = 0; f < job->n_phases; f++) {
    out->phases[f] = time_phase(p, f);
    out->seconds += out->phases[f].seconds * job->phases[f].times;
  }
  measure(p, out);
  out->whole = p->split.tensor > 1 ? whole_share(p) : 0;
  return NULL;
}

sard_status *sd_scale_predict(sd_scale_job *job, sd_scale_split split, sd_scale_plan *out) {
  SD_TRY(check(job, split));
  sd_arena *scratch = sd_arena_scratch(job->work->a);
  predicting p = {.job = job, .split = split, .a = scratch};
  *out = (sd_scale_plan){.split = split, .devices = split.tensor * split.layer * split.batch};
  sard_status *st = predict(&p, out);
  sd_arena_free(scratch);
  return st;
}

void sd_scale_compare(sd_scale_plan *p, const sd_scale_plan *one, uint32_t n_phases) {
  for (uint32_t f = 0; f < n_phases; f++)
    p->phases[f].efficiency = one->phases[f].seconds / (p->devices * p->phases[f].seconds);
}

// ---- the search ----

static int by_time(const void *a, const void *b) {
  const sd_scale_plan *x = a, *y = b;
  if (x->fits != y->fits) return y->fits - x->fits;
  if (x->seconds != y->seconds) return x->seconds < y->seconds ? -1 : 1;
  return (x->devices > y->devices) - (x->devices < y->devices);
}

static sard_status *try_all(sd_scale_job *job, uint32_t devices, sd_scale_plans *out) {
  for (uint32_t t = 1; t <= devices; t++)
    for (uint32_t l = 1; devices % t == 0 && l <= devices / t && l <= MOST_STAGES; l++) {
      if (devices / t % l) continue;
      sd_scale_plan plan;
      sard_status *st = sd_scale_predict(job, (sd_scale_split){t, l, devices / t / l}, &plan);
      if (sard_status_code(st) == SARD_E_USAGE) {
        sard_status_free(st);
        continue;
      }
      SD_TRY(st);
      if (t == 1 || plan.whole < 1) sd_vec_push(job->work->a, out, plan);
    }
  return NULL;
}

sard_status *sd_scale_search(sd_scale_job *job, sd_scale_plans *out) {
  for (uint32_t n = 1; n <= job->machine->count; n++)
    if (job->machine->count % n == 0) SD_TRY(try_all(job, n, out));
  qsort(out->at, out->len, sizeof *out->at, by_time);
  return NULL;
}
