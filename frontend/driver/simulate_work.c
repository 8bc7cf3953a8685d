// The operations of the nodes of a module.
#include "frontend/driver/simulate.h"

// Operations of a node as a dim, NONE where nothing is known of it (a function of the runtime). Of branches
// and loops: of one pass through all bodies.
static sd_dim node_flops(sd_module *m, const sd_node *n, sd_arena *scratch) {
  sd_kernel *k;
  sd_dim sum = sd_dim_const(m->dims, 0);
  if (sd_codegen_runs(n) == SD_RUNS_STEPS) {
    for (uint32_t b = 0; b < n->n_body; b++)
      for (const sd_node *x = n->bodies[b]->first; x; x = x->next) {
        sd_dim inner = node_flops(m, x, scratch);
        if (inner != SD_DIM_NONE) sum = sd_dim_add(m->dims, sum, inner);
      }
    return sum;
  }
  if (sd_codegen_runs(n) != SD_RUNS_KERNEL) return SD_DIM_NONE;
  sd_arena *a = sd_arena_scratch(scratch);
  sard_status *st = sd_lower_node(a, m, n, &k);
  if (!st) sum = sd_codegen_flops(k, a);
  sard_status_free(st); // it is told when code is made
  sd_arena_free(a);
  return sum;
}

static void find_flops(sd_module *m, sd_dim *flops, sd_arena *a) {
  sd_arena *scratch = sd_arena_scratch(a);
  uint32_t i = 0;
  for (const sd_node *n = m->main->first; n; n = n->next) flops[i++] = node_flops(m, n, scratch);
  sd_arena_free(scratch);
}

sard_status *sd_simulate_work(sd_module *m, bool decoder, const sd_driver_options *o, sd_arena *a,
                              sd_work *out) {
  sd_driver_options own = *o;
  sd_driver_report report = {0};
  jmp_buf oom;
  own.device = "cuda", own.stop_after = NULL, own.devices = (sd_devices){0};
  SD_TRY(sd_driver_passes(m, &own, &report, a));
  uint32_t n = 0;
  for (const sd_node *x = m->main->first; x; x = x->next) n++;
  sd_dim *flops = SD_NEW_ARRAY(a, sd_dim, n + 1);
  if (setjmp(oom)) return SD_ERR(NOMEM, "out of memory");
  sd_arena_set_oom(m->arena, &oom);
  find_flops(m, flops, a);
  sd_arena_set_oom(m->arena, NULL);
  *out = (sd_work){m, flops, sd_simulate_roles(m, decoder, a), a, n};
  return NULL;
}
