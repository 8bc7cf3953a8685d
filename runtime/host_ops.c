// The table of host functions.
#include "runtime/host.h"

#include <string.h>

static const sd_host_op table[] = {
    {"", NULL, 0, 0, 0},
};

const sd_host_op *sd_host_find(const char *name) {
  for (size_t i = 1; i < sizeof table / sizeof *table; i++)
    if (strcmp(table[i].name, name) == 0) return &table[i];
  return NULL;
}

sard_status *sd_host_run(const sd_host_op *op, sd_host_call *c) {
  bool given = c->n_in >= op->min_in && c->n_param >= op->n_param && c->n_out <= op->n_out;
  for (uint32_t i = 0; i < op->min_in && given; i++) given = c->in[i].dtype != SD_DT_NONE;
  if (!given) return SD_ERR(MODEL, "%s has %u inputs, %u outputs and %u parameters", op->name, c->n_in, c->n_out, c->n_param);
  return op->fn(c);
}
