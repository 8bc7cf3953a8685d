// Removes nodes none of whose outputs is used.
#include "passes/pass.h"

static bool dead(const sd_node *n) {
  for (uint32_t i = 0; i < n->n_out; i++)
    if (n->out[i] && (n->out[i]->uses.len || sd_value_is_output(n->out[i]))) return false;
  return true;
}

static void sweep(sd_graph *g, sd_pass_report *r) {
  for (sd_node *n = g->last, *prev; n; n = prev) {
    prev = n->prev;
    for (uint32_t i = 0; i < n->n_body; i++) sweep(n->bodies[i], r);
    if (dead(n)) sd_node_remove(n), r->rewrites++;
  }
}

sard_status *sd_pass_dce(sd_module *m, const sd_pass_options *o, sd_arena *scratch, sd_pass_report *r) {
  (void)o, (void)scratch;
  sweep(m->main, r);
  return NULL;
}
