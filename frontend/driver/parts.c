// Finds what nodes take, measured or estimated, and compares the ways to use several devices.
#include "frontend/driver/parts.h"

#include <math.h>
#include <string.h>

#include "frontend/driver/measure.h"
#include "passes/partition/machine.h"
#include "runtime/base/thread.h"
#include "runtime/collective/batch.h"

// What a thread computes and moves in a second, and what a step costs beside that. Only the ratios matter for
// a cut.
// FLOPS_A_BYTE: on f32, of each byte of a vector register: 4 bytes, 2 for a multiply-add, 2 pipes, about 3
// GHz.
static const double FLOPS_A_BYTE = 3e9, BYTES_A_SECOND = 3e10, STEP_SECONDS = 1e-6;
// Until all devices are at an exchange and go on, beside its bytes, or one goes on with what another has made: about
// what threads take that wait for each other. Parts of a batch are given out and collected.
static const double EXCHANGE_SECONDS = 5e-6;

// ---- sizes ----

static double number(sd_module *m, sd_dim d) {
  int64_t v;
  return d != SD_DIM_NONE && sd_dim_eval(m->dims, d, sd_dim_usual, m->dims, &v) && v > 0 ? (double)v : 0;
}

uint64_t sd_driver_value_bytes(void *user, const sd_value *v) {
  sd_module *m = user;
  if (v->rank < 0 || v->dtype == SD_DT_NONE) return 0;
  return (uint64_t)number(m, sd_dim_bytes(m->dims, v->dtype, sd_value_count(v)));
}

// ---- seconds ----

static double operand_bytes(sd_module *m, const sd_node *n) {
  double sum = 0;
  for (uint32_t i = 0; i < n->n_in; i++)
    if (n->in[i]) sum += n->in[i]->data ? (double)n->in[i]->data->bytes : (double)sd_driver_value_bytes(m, n->in[i]);
  for (uint32_t i = 0; i < n->n_out; i++)
    if (n->out[i]) sum += (double)sd_driver_value_bytes(m, n->out[i]);
  return sum;
}

static double kernel_flops(sd_module *m, const sd_node *n) {
  sd_kernel *k;
  jmp_buf oom;
  sd_arena *volatile a = sd_arena_new();
  if (!a || setjmp(oom)) {
    sd_arena_free(a);
    return 0;
  }
  sd_arena_set_oom(a, &oom);
  sard_status *st = sd_lower_node(a, m, n, &k);
  double flops = st ? 0 : number(m, sd_codegen_flops(k, a));
  sard_status_free(st); // code generation tells it
  sd_arena_free(a);
  return flops;
}

// Of tables of the simulator (docs/examples/devices/h100x8.json). It is the ratios that count.
static const sd_machine_device usual_gpu = {
    .kind = "H100 SXM",
    .flops = {[SD_F32] = 67e12, [SD_F16] = 989e12, [SD_BF16] = 989e12, [SD_I8] = 1979e12, [SD_U8] = 1979e12},
    .bandwidth = 3.35e12,
    .launch = 3e-6,
    .compute = 0.6,
    .moving = 0.85};

// The type that decides how fast products are: of the first operand.
static sd_dtype type_of(const sd_node *n) {
  const sd_value *v = n->n_in && n->in[0] ? n->in[0] : n->n_out ? n->out[0] : NULL;
  return v ? v->dtype : SD_DT_NONE;
}

// Functions of the host are so for both, and what they read comes from the GPU.
static double seconds(sd_module *m, const sd_node *n, const sd_isa *isa) {
  const sd_machine_device *g = isa ? NULL : &usual_gpu;
  bool kernel = sd_codegen_runs(n) == SD_RUNS_KERNEL;
  double sum = g ? g->launch : STEP_SECONDS;
  if (sd_codegen_runs(n) == SD_RUNS_STEPS) {
    for (uint32_t b = 0; b < n->n_body; b++)
      for (const sd_node *x = n->bodies[b]->first; x; x = x->next) sum += seconds(m, x, isa);
    return sum;
  }
  double bytes = operand_bytes(m, n) / (g && kernel ? g->bandwidth * g->moving : BYTES_A_SECOND);
  double flops = kernel ? kernel_flops(m, n) / (g ? sd_machine_flops(g, type_of(n)) : (double)isa->vector_bytes * FLOPS_A_BYTE) : 0;
  return sum + (flops > bytes ? flops : bytes);
}

double *sd_driver_seconds(sd_module *m, const sd_isa *isa, sd_arena *a) {
  uint32_t n = 0;
  for (const sd_node *x = m->main->first; x; x = x->next) n++;
  double *out = SD_NEW_ARRAY(a, double, n + 1);
  n = 0;
  for (const sd_node *x = m->main->first; x; x = x->next) out[n++] = seconds(m, x, isa);
  return out;
}

// ---- costs ----

typedef struct considering {
  const sd_split_job *job;
  sd_module *m;
  const sd_driver_options *o;
  sd_arena *a, *kept;
  double *seconds; // per node, of a processor
  double *gpu;     // per node, of a GPU; NULL: there is none
  double scale;    // of `seconds` to estimates
  sd_split_choice *out;
  uint32_t alone;     // the device that is fastest by itself, the first of them
  sd_layer_plan one;  // of that one
  sd_layer_plan layer;
} considering;

static double sum_of(sd_module *m, const double *seconds) {
  double sum = 0;
  for (const sd_node *n = m->main->first; n; n = n->next) sum += *seconds++;
  return sum;
}

// Why nothing can be measured; NULL: it can.
static const char *cannot_measure(const sard_source *src, const sd_driver_options *o) {
  if (o->devices.costs == SD_COSTS_ESTIMATED) return "as it was asked for";
  if (o->target && *o->target && strcmp(o->target, "host") != 0 && strcmp(o->target, "auto") != 0)
    return "the code is for a target that was named";
  if (o->devices.split == SD_SPLIT_BATCH && !o->devices.costs) return "all devices have the same nodes";
  if (sd_devices_cuda(&o->devices)) return "some of the devices are GPUs";
  if (!o->devices.costs && o->devices.n_cuts) return "the cuts are given";
  return src ? NULL : "there is no model to run";
}

// What a device has of the batch, as far as more elements make a difference for what one of them takes.
static int64_t measured_batch(const sd_devices *d) {
  int64_t share = d->batch ? d->batch / (d->n ? d->n : 1) : SD_MICRO_EACH;
  return share < 1 ? 1 : share < SD_MICRO_EACH ? share : SD_MICRO_EACH;
}

sard_status *sd_driver_measure(sd_module *m, const sard_source *src, const sd_driver_options *o, sd_arena *a,
                               sd_measured *out) {
  int n = o->devices.n ? o->devices.n : 1, threads = sd_cpu_count() / n;
  *out = (sd_measured){.why = cannot_measure(src, o)};
  if (!out->why) SD_TRY(sd_measure_nodes(src, o, threads > 0 ? threads : 1, measured_batch(&o->devices), a, out));
  if (out->n) sd_dim_guess_size(m->dims, out->size);
  if (out->why && o->devices.costs == SD_COSTS_MEASURED)
    return SD_ERR(UNSUPPORTED, "costs=measured: %s", out->why);
  return NULL;
}

// Seconds of the nodes for an element of the batch; what a run takes beside them those that take some have an even part
// of. NULL: nodes are missing.
static double *times_of(const considering *c, const sd_measured *x) {
  uint32_t nodes = 0, i = 0, some = 0;
  for (const sd_node *n = c->m->main->first; n; n = n->next) nodes++;
  double *seconds = SD_NEW_ARRAY(c->a, double, nodes + 1), rest = x->run_seconds;
  for (const sd_node *n = c->m->main->first; n; n = n->next, i++) {
    uint32_t id = n->n_out && n->out[0] ? n->out[0]->id : x->n;
    if (id >= x->n || x->ops[id] != n->op) return NULL;
    seconds[i] = x->seconds[id], rest -= seconds[i], some += seconds[i] > 0;
  }
  while (i-- > 0) {
    if (seconds[i] > 0 && rest > 0) seconds[i] += rest / some;
    seconds[i] /= x->batch;
  }
  return seconds;
}

// Beside a GPU it matters how many threads a processor has.
static void share_threads(considering *c) {
  double threads = fmax(1, sd_cpu_count() / c->o->devices.n);
  double *at = c->seconds;
  c->scale /= threads;
  for (const sd_node *n = c->m->main->first; n; n = n->next) *at++ /= threads;
}

static sard_status *find_seconds(considering *c) {
  const sd_isa *isa;
  const sd_measured *x = c->job->measured;
  SD_TRY(sd_driver_target(c->o->target, &isa));
  c->seconds = sd_driver_seconds(c->m, isa, c->a);
  if (sd_devices_cuda(&c->o->devices)) c->gpu = sd_driver_seconds(c->m, NULL, c->a);
  double *seconds = x->why ? NULL : times_of(c, x), estimated = sum_of(c->m, c->seconds);
  c->scale = 1, c->out->measured = seconds != NULL;
  c->out->why = x->why ? x->why : seconds ? NULL : "its nodes are others when it runs on one device";
  if (!seconds && c->gpu) share_threads(c);
  if (!seconds) return NULL;
  if (estimated > 0) c->scale = sum_of(c->m, seconds) / estimated;
  c->seconds = seconds;
  return NULL;
}

// ---- ways ----

static sd_layer_costs costs_of(sd_module *m, const double *seconds) {
  return (sd_layer_costs){seconds, sd_driver_value_bytes, m, BYTES_A_SECOND, EXCHANGE_SECONDS};
}

// Of n devices from `first` on; with their memory or without a limit.
static sard_status *cut(considering *c, uint32_t first, uint32_t n, const uint64_t *memory, sd_layer_plan *out) {
  const sd_devices *d = &c->o->devices;
  sd_layer_device *devices = SD_NEW_ARRAY(c->a, sd_layer_device, n);
  sd_layer_costs costs = costs_of(c->m, c->seconds);
  for (uint32_t i = 0; i < n; i++)
    devices[i] = (sd_layer_device){.seconds = d->at[first + i].cuda ? c->gpu : NULL, .memory = memory ? memory[i] : 0};
  if (n > 1 && d->n_cuts) return sd_layer_cut_at(c->m, &costs, devices, n, d->cuts, c->a, out);
  return sd_layer_cut(c->m, &costs, devices, n, c->a, out);
}

static sard_status *find_alone(considering *c) {
  for (uint32_t i = 0; i < (uint32_t)c->o->devices.n; i++) {
    sd_layer_plan p;
    if (i && c->o->devices.at[i].cuda == c->o->devices.at[i - 1].cuda) continue; // as the one before
    SD_TRY(cut(c, i, 1, NULL, &p));
    if (!i || p.sum < c->one.sum) c->one = p, c->alone = i;
  }
  return NULL;
}

static uint64_t most_bytes(const sd_layer_plan *p) {
  uint64_t most = 0;
  for (uint32_t i = 0; i < p->n; i++)
    if (p->at[i].weights + p->at[i].values > most) most = p->at[i].weights + p->at[i].values;
  return most;
}

static void add_way(considering *c, sd_split_kind how, double seconds, uint64_t bytes, uint64_t room) {
  sd_ways *w = &c->out->ways;
  w->at[w->n++] = (sd_way){how, !room || bytes <= room, seconds, bytes, 0};
}

// Of a way in which all devices have the same nodes, those of m.
static sard_status *check_room(considering *c, sd_module *m, const sd_layer_costs *costs, uint64_t bytes) {
  uint64_t room = sd_devices_least_memory(&c->o->devices), node;
  if (!room || bytes <= room) return NULL;
  const sd_node *n = sd_layer_largest(m, costs, c->a, &node);
  return SD_ERR(
      NOMEM,
      "split=%s: a device needs %llu bytes and has %llu; node '%s' (%s) alone needs %llu of them with its "
      "operands and results; %llu bytes on each device would be enough",
      sd_split_name(c->o->devices.split), (unsigned long long)bytes, (unsigned long long)room,
      n ? n->name : "", n ? n->op->name : "", (unsigned long long)node, (unsigned long long)bytes);
}

// Each takes of the batch what it is predicted to be fast enough for.
static void add_batch(considering *c) {
  const sd_devices *d = &c->o->devices;
  sd_ways *w = &c->out->ways;
  double each[SD_DEVICES_MOST], processor = sum_of(c->m, c->seconds), gpu = c->gpu ? sum_of(c->m, c->gpu) : 0, last = 0;
  sd_share share[SD_DEVICES_MOST];
  for (int k = 0; k < d->n; k++) each[k] = d->at[k].cuda ? gpu : processor;
  sd_batch_share(w->pieces, each, share, d->n);
  for (int k = 0; k < d->n; k++) last = fmax(last, each[k] * (double)share[k].count);
  add_way(c, SD_SPLIT_BATCH, last + 2 * EXCHANGE_SECONDS, most_bytes(&c->one), sd_devices_least_memory(d));
  if (sd_devices_mixed(d) && gpu > 0) w->at[w->n - 1].speed = processor / gpu;
}

// The first rank computes as much as any other: its nodes are estimated, and come nearer to what is measured
// by the scale of the whole model.
static sard_status *add_tensor(considering *c) {
  const sd_tensor_report *r = c->job->tensor;
  const sd_devices *d = &c->o->devices;
  sd_module *m = c->job->tensors->at[0].module;
  const sd_isa *isa = NULL;
  bool wait = !sd_devices_cuda(d) || sd_devices_mixed(d); // for a processor
  sd_layer_plan plan;
  if (d->split == SD_SPLIT_AUTO && !r->cut) return NULL;
  if (wait) SD_TRY(sd_driver_target(c->o->target, &isa));
  sd_layer_costs costs = costs_of(m, sd_driver_seconds(m, isa, c->a));
  SD_TRY(sd_layer_cut(m, &costs, &(sd_layer_device){0}, 1, c->a, &plan));
  double each = plan.sum * (wait ? c->scale : 1) + r->bytes / SD_TENSOR_BYTES_A_SECOND;
  uint64_t bytes = most_bytes(&plan), room = sd_devices_least_memory(d);
  add_way(c, SD_SPLIT_TENSOR, each * c->out->ways.pieces + r->exchanges * EXCHANGE_SECONDS, bytes, room);
  return d->split == SD_SPLIT_TENSOR ? check_room(c, m, &costs, bytes) : NULL;
}

static bool any_fits(const sd_ways *w) {
  for (uint32_t i = 0; i < w->n; i++)
    if (w->at[i].fits) return true;
  return false;
}

// Predicts the ways for the batch that is told, else for one that keeps all devices at work; where it cannot be split,
// for what it is. Of auto all of them.
static sard_status *consider(considering *c) {
  const sd_devices *d = &c->o->devices;
  uint32_t n = (uint32_t)d->n;
  bool open = c->m->batch_why && !*c->m->batch_why;
  sd_ways *w = &c->out->ways;
  uint32_t micro = n * SD_MICRO_EACH;
  w->pieces = !open ? 1 : d->batch ? d->batch : micro;
  SD_TRY(find_alone(c));
  add_way(c, 0, c->one.sum * w->pieces, most_bytes(&c->one), d->memory[c->alone]);
  if (!open && d->split == SD_SPLIT_BATCH)
    return SD_ERR(UNSUPPORTED, "the model cannot be split by its batch: %s",
                  c->m->batch_why ? c->m->batch_why : "not known");
  if (open && d->split != SD_SPLIT_TENSOR)
    add_batch(c);
  if (c->job->tensors) SD_TRY(add_tensor(c));
  if (d->split == SD_SPLIT_TENSOR) return NULL;
  if (d->split == SD_SPLIT_BATCH) {
    sd_layer_costs costs = costs_of(c->m, c->seconds);
    return check_room(c, c->m, &costs, most_bytes(&c->one));
  }
  sard_status *st = cut(c, 0, n, d->memory, &c->layer);
  if (!st)
    add_way(c, SD_SPLIT_LAYER, sd_layer_seconds(&c->layer, w->pieces < micro ? w->pieces : micro) * w->pieces,
            most_bytes(&c->layer), 0);
  if (d->split != SD_SPLIT_AUTO || !any_fits(w)) return st;
  sard_status_free(st); // there is no such way
  return NULL;
}

static const char *way_name(uint32_t how) { return how ? sd_split_name((sd_split_kind)how) : "one device"; }

static const sd_way *fastest(const sd_ways *w, bool one, bool fits) {
  const sd_way *best = NULL;
  for (uint32_t i = 0; i < w->n; i++)
    if ((one || w->at[i].how) && (!fits || w->at[i].fits) && (!best || w->at[i].seconds < best->seconds))
      best = &w->at[i];
  return best;
}

// The fastest that fits; one device is no way to split.
static sard_status *choose(const considering *c) {
  const sd_ways *w = &c->out->ways;
  const sd_way *best = fastest(w, true, true), *named = fastest(w, false, true);
  sd_str s = {0};
  if (best && best->how) {
    c->out->chosen = (sd_split_kind)best->how;
    return NULL;
  }
  for (uint32_t i = 0; i < w->n; i++)
    sd_strf(&s, "%s%s %.3g ms%s", i ? ", " : "", way_name(w->at[i].how), w->at[i].seconds * 1e3,
            w->at[i].fits ? "" : " (does not fit)");
  sard_status *st =
      SD_ERR(UNSUPPORTED, "split=auto: no split over %d devices is predicted to be faster than one for a batch of %u: %s",
             c->o->devices.n, w->pieces, s.p ? s.p : "");
  sd_str_free(&s);
  if (!named) named = fastest(w, false, false);
  return named ? sd_status_field(st, SARD_TEXT_HINT, "name one to use it all the same: split=%s",
                                 way_name(named->how))
               : st;
}

static sard_status *plan(considering *c) {
  sd_split_choice *out = c->out;
  SD_TRY(find_seconds(c));
  SD_TRY(consider(c));
  out->chosen = c->o->devices.split;
  if (out->chosen == SD_SPLIT_AUTO) SD_TRY(choose(c));
  if (out->chosen != SD_SPLIT_LAYER) return NULL;
  out->layer = c->layer;
  out->layer.at = sd_arena_dup(c->kept, c->layer.at, c->layer.n * sizeof *c->layer.at);
  out->layer.part_of =
      sd_arena_dup(c->kept, c->layer.part_of, (c->layer.nodes + 1) * sizeof *c->layer.part_of);
  return NULL;
}

sard_status *sd_driver_plan(const sd_split_job *job, sd_arena *kept, sd_split_choice *out) {
  sd_arena *a = sd_arena_scratch(job->m->arena);
  *out = (sd_split_choice){0};
  considering c = {.job = job, .m = job->m, .o = job->options, .a = a, .kept = kept, .out = out};
  if (job->m->batch) sd_dim_guess(job->m->dims, job->m->batch, 1); // a way takes so many of them
  sard_status *st = plan(&c);
  sd_dim_guess(job->m->dims, SD_DIM_NONE, 0);
  sd_arena_free(a);
  return st;
}

// ---- text ----

static void print_wire(sd_wire w, sd_str *out) {
  if (w.part) sd_strf(out, " part %u output %u", w.part, w.at);
  else
    sd_strf(out, " input %u", w.at);
  if (w.sizes) sd_str_put(out, " (sizes)");
}

sard_status *sd_driver_print_parts(const sd_parts *parts, sd_str *out) {
  for (uint32_t p = 0; p < parts->n; p++) {
    const sd_part *x = &parts->at[p];
    sd_strf(out, "# part %u\n", p + 1);
    for (uint32_t i = 0; i < x->in.len; i++) {
      sd_strf(out, "#   %s:", x->module->main->inputs.at[i]->name), print_wire(x->in.at[i], out),
          sd_str_put(out, "\n");
    }
    SD_TRY(sd_module_print(x->module, true, out));
  }
  return NULL;
}
