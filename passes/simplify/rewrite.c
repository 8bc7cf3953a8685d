// Expands nodes of SD_REWRITE rows into nodes of other rows, until none is left.
#include "passes/pass.h"

static sard_status *expand(sd_graph *g, sd_pass_report *r, int depth) {
  if (depth > SD_MAX_DEPTH) return SD_ERR(MODEL, "graphs are nested more than %d deep", SD_MAX_DEPTH);
  for (sd_node *n = g->first, *next; n; n = next) {
    for (uint32_t i = 0; i < n->n_body; i++) SD_TRY(expand(n->bodies[i], r, depth + 1));
    next = n->next;
    if (n->op->kind != SD_REWRITE) continue;
    sd_node *before = n->prev;
    sard_status *st = n->op->rewrite(n);
    if (st) return sd_node_error(n, st);
    r->rewrites++;
    next = before ? before->next : g->first; // what it expanded to may expand again
  }
  return NULL;
}

sard_status *sd_pass_rewrite(sd_module *m, const sd_pass_options *o, sd_arena *scratch, sd_pass_report *r) {
  (void)o, (void)scratch;
  return expand(m->main, r, 0);
}
