// Estimates what nodes take, chooses the cut and makes the parts.
#include "frontend/driver/parts.h"

#include <string.h>

#include "passes/partition/parts.h"

// What a thread computes and moves in a second, and what a step costs beside that. Only the ratios matter for
// a cut.
enum {
  FLOPS_A_BYTE = 5
}; // f32 operations on each byte of a vector register: 4 bytes, 2 for a multiply-add, 2 pipes, 5 GHz
static const double BYTES_A_SECOND = 1.2e10, STEP_SECONDS = 1e-6;
enum { USUAL_SIZE = 128 };

// ---- sizes ----

static bool usual_size(void *user, const char *name, int64_t *out) {
  const sd_module *m = user;
  const sd_dimnode *s = sd_dim_get(m->dims, sd_dim_sym(m->dims, name));
  *out = sd_dim_is_batch(name) ? sd_dim_batch_guess(m->dims) : USUAL_SIZE;
  if (*out < s->min) *out = s->min;
  if (*out > s->max) *out = s->max;
  return true;
}

static double number(sd_module *m, sd_dim d) {
  int64_t v;
  return d != SD_DIM_NONE && sd_dim_eval(m->dims, d, usual_size, m, &v) && v > 0 ? (double)v : 0;
}

static uint64_t value_bytes(void *user, const sd_value *v) {
  sd_module *m = user;
  if (v->rank < 0 || v->dtype == SD_DT_NONE) return 0;
  return (uint64_t)number(m, sd_dim_bytes(m->dims, v->dtype, sd_value_count(v)));
}

// ---- seconds ----

static double operand_bytes(sd_module *m, const sd_node *n) {
  double sum = 0;
  for (uint32_t i = 0; i < n->n_in; i++)
    if (n->in[i]) sum += n->in[i]->data ? (double)n->in[i]->data->bytes : (double)value_bytes(m, n->in[i]);
  for (uint32_t i = 0; i < n->n_out; i++)
    if (n->out[i]) sum += (double)value_bytes(m, n->out[i]);
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
  double flops = (double)isa->vector_bytes * FLOPS_A_BYTE * 1e9;
  uint32_t n = 0;
  for (const sd_node *x = m->main->first; x; x = x->next) n++;
  *out = SD_NEW_ARRAY(a, double, n + 1);
  n = 0;
  for (const sd_node *x = m->main->first; x; x = x->next) (*out)[n++] = seconds(m, x, flops);
  return NULL;
}

// ---- the cut ----

static sard_status *choose(sd_module *m, const sd_driver_options *o, sd_arena *a, sd_layer_plan *plan) {
  sd_layer_device *devices = SD_NEW_ARRAY(a, sd_layer_device, o->devices.n);
  double *seconds_of;
  const sd_isa *isa;
  SD_TRY(sd_driver_target(o->target, &isa));
  SD_TRY(sd_driver_seconds(m, isa, a, &seconds_of));
  for (int i = 0; i < o->devices.n; i++) devices[i] = (sd_layer_device){.speed = 1};
  sd_layer_costs costs = {seconds_of, value_bytes, m, BYTES_A_SECOND, STEP_SECONDS};
  return sd_layer_cut(m, &costs, devices, (uint32_t)o->devices.n, a, plan);
}

sard_status *sd_driver_cut(sd_module *m, const sd_driver_options *o, const sd_pass_options *po,
                           sd_pass_hook hook, void *user, sd_parts *out) {
  sd_arena *a = sd_arena_scratch(m->arena);
  sd_layer_plan plan;
  sard_status *st = choose(m, o, a, &plan);
  if (!st) st = sd_parts_cut(m, plan.part_of, plan.n, out);
  sd_arena_free(a);
  SD_TRY(st);
  out->how = o->devices.split;
  for (uint32_t p = 0; p < out->n; p++)
    SD_TRY_MSG(sd_passes_run(out->at[p].module, po, "memory", NULL, hook, user), "in part %u", p + 1);
  return NULL;
}

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
