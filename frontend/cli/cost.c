// What the nodes of a model would take: each that becomes a kernel is lowered, which also tells whether it can be.
#include <string.h>

#include "frontend/cli/tools.h"

typedef struct sizes {
  const sd_fixed_dims *dims;
} sizes;

static bool size_of(void *user, const char *name, int64_t *out) {
  const sizes *s = user;
  *out = 1;
  for (uint32_t i = 0; i < s->dims->len; i++)
    if (strcmp(s->dims->at[i].name, name) == 0) *out = s->dims->at[i].value;
  return true;
}

static void cost_node(sd_module *m, const sd_node *n, sizes *s, sd_node_cost *out) {
  sd_kernel *k;
  int64_t flops = 0;
  jmp_buf oom;
  out->node = n;
  if (sd_codegen_runs(n) != SD_RUNS_KERNEL) return; // nothing is known of what host functions and loops take
  sd_arena *scratch = sd_arena_new();
  if (!scratch || setjmp(oom)) {
    sd_arena_free(scratch);
    return; // the cost stays unknown
  }
  sd_arena_set_oom(scratch, &oom);
  out->error = sd_lower_node(scratch, m, n, &k);
  if (!out->error && sd_dim_eval(m->dims, sd_codegen_flops(k, scratch), size_of, s, &flops))
    out->flops = (double)flops;
  sd_arena_free(scratch);
}

sard_status *sd_cost_module(sd_cli *c, sd_module *m, const sd_fixed_dims *dims, sd_costs *out) {
  jmp_buf oom;
  sizes s = {dims};
  *out = (sd_costs){0};
  uint32_t n = 0;
  for (const sd_node *x = m->main->first; x; x = x->next) n++;
  out->at = SD_NEW_ARRAY(c->arena, sd_node_cost, n + 1);
  if (setjmp(oom)) return SD_ERR(NOMEM, "out of memory");
  sd_arena_set_oom(m->arena, &oom);
  for (const sd_node *x = m->main->first; x; x = x->next) {
    sd_node_cost *k = &out->at[out->n++];
    cost_node(m, x, &s, k);
    out->flops += k->flops;
    out->failed += k->error != NULL;
    if (sd_stop_asked()) break;
  }
  sd_arena_set_oom(m->arena, NULL);
  return NULL;
}

void sd_cost_free(sd_costs *k) {
  for (uint32_t i = 0; i < k->n; i++) sard_status_free(k->at[i].error);
  k->n = 0;
}
