// Estimates what nodes take, chooses the cut and makes the parts.
#include "frontend/driver/parts.h"

#include <string.h>

#include "passes/partition/parts.h"

// What a thread computes and moves in a second, and what a step costs beside that. Only the ratios matter for
// a cut.
// FLOPS_A_BYTE: on f32, of each byte of a vector register: 4 bytes, 2 for a multiply-add, 2 pipes, about 3
// GHz.
static const double FLOPS_A_BYTE = 3e9, BYTES_A_SECOND = 3e10, STEP_SECONDS = 1e-6;

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

static double seconds(sd_module *m, const sd_node *n, double flops_a_second) {
  double sum = STEP_SECONDS, bytes = operand_bytes(m, n) / BYTES_A_SECOND;
  if (sd_codegen_runs(n) == SD_RUNS_STEPS) {
    for (uint32_t b = 0; b < n->n_body; b++)
      for (const sd_node *x = n->bodies[b]->first; x; x = x->next) sum += seconds(m, x, flops_a_second);
    return sum;
  }
  double flops = sd_codegen_runs(n) == SD_RUNS_KERNEL ? kernel_flops(m, n) / flops_a_second : 0;
  return sum + (flops > bytes ? flops : bytes);
}

sard_status *sd_driver_seconds(sd_module *m, const sd_isa *isa, sd_arena *a, double **out) {
  double flops = (double)isa->vector_bytes * FLOPS_A_BYTE;
  uint32_t n = 0;
  for (const sd_node *x = m->main->first; x; x = x->next) n++;
  *out = SD_NEW_ARRAY(a, double, n + 1);
  n = 0;
  for (const sd_node *x = m->main->first; x; x = x->next) (*out)[n++] = seconds(m, x, flops);
  return NULL;
}

// ---- ways ----

enum { PIECES_EACH = 4 }; // of a batch, for each device: what a run is predicted for

typedef struct considering {
  sd_module *m;
  const sd_driver_options *o;
  sd_arena *a;
  double *seconds; // per node
  sd_layer_plan one, layer;
} considering;

static sard_status *cut(considering *c, uint32_t n, uint64_t memory, sd_layer_plan *out) {
  sd_layer_device *devices = SD_NEW_ARRAY(c->a, sd_layer_device, n);
  sd_layer_costs costs = {c->seconds, sd_driver_value_bytes, c->m, BYTES_A_SECOND, STEP_SECONDS};
  for (uint32_t i = 0; i < n; i++) devices[i] = (sd_layer_device){.speed = 1, .memory = memory};
  return sd_layer_cut(c->m, &costs, devices, n, c->a, out);
}

static uint64_t most_bytes(const sd_layer_plan *p) {
  uint64_t most = 0;
  for (uint32_t i = 0; i < p->n; i++)
    if (p->at[i].weights + p->at[i].values > most) most = p->at[i].weights + p->at[i].values;
  return most;
}

static void add_way(const considering *c, sd_ways *w, sd_split_kind how, double seconds, uint64_t bytes) {
  uint64_t room = c->o->devices.memory;
  w->at[w->n++] = (sd_way){how, !room || bytes <= room, seconds, bytes};
}

// Predicts each way for a batch that keeps all devices at work, where it can be split, else for what it is.
static sard_status *consider(considering *c, sd_split_choice *out) {
  uint32_t n = (uint32_t)c->o->devices.n;
  bool open = c->m->batch_why && !*c->m->batch_why;
  sd_ways *w = &out->ways;
  w->pieces = open ? n * PIECES_EACH : 1;
  SD_TRY(cut(c, 1, 0, &c->one));
  add_way(c, w, 0, sd_layer_seconds(&c->one, w->pieces) * w->pieces, most_bytes(&c->one));
  if (open)
    add_way(c, w, SD_SPLIT_BATCH, sd_layer_seconds(&c->one, PIECES_EACH) * PIECES_EACH, most_bytes(&c->one));
  sard_status *st = cut(c, n, c->o->devices.memory, &c->layer);
  if (!st)
    add_way(c, w, SD_SPLIT_LAYER, sd_layer_seconds(&c->layer, w->pieces) * w->pieces, most_bytes(&c->layer));
  bool other = c->o->devices.split == SD_SPLIT_AUTO && (w->at[0].fits || (open && w->at[1].fits));
  if (!other) return st;
  sard_status_free(st); // there is no such way
  return NULL;
}

static const char *way_name(uint32_t how) { return how ? sd_split_name((sd_split_kind)how) : "one device"; }

// The fastest that fits; one device is no way to split.
static sard_status *choose(const considering *c, sd_split_choice *r) {
  const sd_way *best = NULL;
  const sd_ways *w = &r->ways;
  sd_str s = {0};
  for (uint32_t i = 0; i < w->n; i++) {
    sd_strf(&s, "%s%s %.3g ms%s", i ? ", " : "", way_name(w->at[i].how), w->at[i].seconds * 1e3,
            w->at[i].fits ? "" : " (does not fit)");
    if (w->at[i].fits && (!best || w->at[i].seconds < best->seconds)) best = &w->at[i];
  }
  if (best) r->chosen = (sd_split_kind)best->how;
  sard_status *st =
      r->chosen
          ? NULL
          : sd_status_field(
                SD_ERR(UNSUPPORTED,
                       "split=auto: no split over %d devices is predicted to be faster than one: %s",
                       c->o->devices.n, s.p ? s.p : ""),
                SARD_TEXT_HINT, "name one to use it all the same: split=%s", way_name(w->at[w->n - 1].how));
  sd_str_free(&s);
  return st;
}

static sard_status *plan(considering *c, sd_split_choice *out, sd_arena *kept) {
  const sd_isa *isa;
  SD_TRY(sd_driver_target(c->o->target, &isa));
  SD_TRY(sd_driver_seconds(c->m, isa, c->a, &c->seconds));
  SD_TRY(consider(c, out));
  out->chosen = c->o->devices.split;
  if (out->chosen == SD_SPLIT_AUTO) SD_TRY(choose(c, out));
  if (out->chosen == SD_SPLIT_LAYER)
    out->layer = c->layer, out->layer.at = sd_arena_dup(kept, c->layer.at, c->layer.n * sizeof *c->layer.at);
  return NULL;
}

sard_status *sd_driver_plan(sd_module *m, const sd_driver_options *o, sd_arena *a, sd_split_choice *out) {
  considering c = {.m = m, .o = o, .a = a};
  return plan(&c, out, a);
}

sard_status *sd_driver_split(sd_module *m, const sd_driver_options *o, sd_arena *kept,
                             sd_split_choice *report, sd_parts *out) {
  sd_arena *a = sd_arena_scratch(m->arena);
  considering c = {.m = m, .o = o, .a = a};
  sard_status *st = plan(&c, report, kept);
  if (!st && report->chosen == SD_SPLIT_LAYER) st = sd_parts_cut(m, c.layer.part_of, c.layer.n, out);
  sd_arena_free(a);
  report->layer.part_of = NULL;
  out->how = report->chosen;
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
