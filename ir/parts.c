// What a part of a model has to know of the whole.
#include "ir/parts.h"

#include "ir/op.h"

enum { MOST_JOINED = 8 }; // values inside of each other

static bool bordered(const sd_value *v, int depth) {
  for (uint32_t i = 0; v && i < v->uses.len && depth < MOST_JOINED; i++) {
    const sd_node *n = v->uses.at[i].node;
    if (sd_op_has(n->op, SD_BORDERS) ? v->uses.at[i].operand == 0
                                     : sd_op_has(n->op, SD_JOINS) && bordered(n->out[0], depth + 1))
      return true;
  }
  return false;
}

bool sd_node_rows_apart(const sd_node *n) {
  bool apart = n->rows_apart;
  for (uint32_t i = 0; i < n->n_in && !apart; i++)
    apart = n->in[i] && !n->in[i]->data && bordered(n->in[i], 0);
  for (uint32_t i = 0; i < n->n_out && !apart; i++) apart = bordered(n->out[i], 0);
  return apart;
}
