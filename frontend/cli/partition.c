// sard partition: how a model would be split over devices; those that are here, or (--simulate) not.
#include "frontend/cli/partition.h"

#include <string.h>

// Sizes that stay open are those that the cut is made for.
static sard_status *find_costs(sd_partition *k) {
  sd_fixed_dims dims = {0};
  const sd_module *m = k->module;
  if (m->batch) sd_dim_guess(m->dims, m->batch, 1);
  for (uint32_t i = 0; i < m->main->inputs.len; i++)
    for (int d = 0; d < m->main->inputs.at[i]->rank; d++) {
      const sd_dimnode *n = sd_dim_get(m->dims, m->main->inputs.at[i]->dims[d]);
      int64_t size;
      if (n->op == SD_DIM_SYM && sd_dim_usual(m->dims, n->name, &size))
        sd_vec_push(k->c->arena, &dims, ((sd_fixed_dim){n->name, size}));
    }
  return sd_cost_module(k->c, (sd_module *)k->shown, &dims, &k->costs);
}

static sard_status *load(sd_partition *k) {
  sard_source src = {.size = sizeof src, .path = k->c->operands[0]};
  if (!sd_args_given(k->c, "devices"))
    return sd_status_field(SD_ERR(USAGE, "partition: --devices is missing"), SARD_TEXT_HINT,
                           "--devices cpu:0,cpu:1, or --devices SPEC.json --simulate");
  SD_TRY(sd_tools_options(k->c, &k->o));
  if (!k->o.devices.split) k->o.devices.split = SD_SPLIT_AUTO;
  SD_TRY(sd_driver_load(&src, &k->o, &k->module));
  SD_TRY(sd_driver_plan_module(k->module, &src, &k->o, &k->report, k->c->arena, &k->tensors));
  k->shown = k->report.split.chosen == SD_SPLIT_TENSOR ? k->tensors.at[0].module : k->module;
  return find_costs(k);
}

// ---- the table ----

static void say_ways(sd_partition *k) {
  const sd_ways *w = &k->report.split.ways;
  for (uint32_t i = 0; i < w->n; i++) {
    const char *name = w->at[i].how ? sd_split_name((sd_split_kind)w->at[i].how) : "one device";
    sd_cli_say(k->c, "%-10s %.4g ms for a batch of %u%s%s\n", name, w->at[i].seconds * 1e3, w->pieces,
               w->at[i].fits ? "" : ", does not fit",
               (sd_split_kind)w->at[i].how == k->report.split.chosen ? "  <" : "");
    sd_strf(&k->c->json, "%s{\"split\":\"%s\",\"seconds\":%.6g,\"fits\":%s}", i ? "," : ",\"ways\":[", name,
            w->at[i].seconds, w->at[i].fits ? "true" : "false");
  }
  sd_strf(&k->c->json, "],\"split\":\"%s\",\"parts\":[", sd_split_name(k->report.split.chosen));
}

static void say_part(sd_partition *k, int device, const sd_layer_part *p) {
  char t[3][24], name[SD_PLACE_TEXT];
  double flops = 0;
  sd_place_text(k->o.devices.at[device], name);
  for (uint32_t i = p->first; i < p->first + p->n && i < k->costs.n; i++) flops += k->costs.at[i].flops;
  sd_cli_say(k->c, "%-9s %7u %12.4g %10s %10s %12s %10.4g\n", name, p->n, flops * 1e-6, sd_cli_bytes(p->weights, t[0]),
             sd_cli_bytes(p->values, t[1]), sd_cli_bytes(p->bytes_in, t[2]), p->seconds * 1e3);
  sd_strf(&k->c->json,
          "%s{\"device\":\"%s\",\"first\":%u,\"nodes\":%u,\"flops\":%.0f,\"weights\":%llu,\"values\":%llu,"
          "\"bytes_in\":%llu,\"seconds\":%.6g}",
          device ? "," : "", name, p->first, p->n, flops, (unsigned long long)p->weights, (unsigned long long)p->values,
          (unsigned long long)p->bytes_in, p->seconds);
}

static void say_tensors(sd_partition *k) {
  const sd_tensor_report *t = &k->report.tensor;
  char bytes[24];
  sd_cli_say(k->c,
             "\nall %d devices have the whole graph of %u nodes, and parts of its tensors: %u nodes are cut, "
             "%u exchanges, "
             "%s read by each in a run\n",
             k->o.devices.n, k->costs.n, t->cut, t->exchanges, sd_cli_bytes((uint64_t)t->bytes, bytes));
  for (uint32_t i = 0; i < t->nodes.len; i++)
    if (!t->nodes.at[i].cut)
      sd_cli_say(k->c, "whole     %s (%s): %s\n", t->nodes.at[i].name, t->nodes.at[i].op, t->nodes.at[i].how);
}

static void say_parts(sd_partition *k) {
  say_ways(k);
  sd_cli_say(k->c, "costs      %s%s\n", k->report.split.measured ? "measured on this machine" : "estimated: ",
             k->report.split.measured ? "" : k->report.split.why);
  if (k->report.split.chosen == SD_SPLIT_LAYER) {
    sd_cli_say(k->c, "\n%-9s %7s %12s %10s %10s %12s %10s\n", "device", "nodes", "MFLOP", "weights", "values",
               "crosses to", "about ms");
    for (int i = 0; i < k->o.devices.n; i++) say_part(k, i, &k->report.split.layer.at[i]);
  } else if (k->report.split.chosen == SD_SPLIT_TENSOR)
    say_tensors(k);
  else
    sd_cli_say(k->c, "\nall %d devices have the whole graph of %u nodes, and share its weights\n",
               k->o.devices.n, k->costs.n);
  sd_str_put(&k->c->json, "]");
}

static sard_status *draw(sd_partition *k, const char *path) {
  sd_str s = {0};
  if (k->report.split.chosen == SD_SPLIT_LAYER) sd_partition_draw(k, &s);
  else
    sd_partition_draw_whole(k, &s);
  sard_status *st =
      s.failed ? SD_ERR(NOMEM, "out of memory for the picture") : sd_files_write(path, s.p, s.len);
  sd_str_free(&s);
  return st;
}

static sard_status *steps(sd_partition *k) {
  const char *svg = sd_args_get(k->c, "svg");
  if (svg) SD_TRY(sd_files_can_write(svg));
  if (svg && strcmp(svg, "-") == 0) k->c->out = stderr;
  SD_TRY(load(k));
  say_parts(k);
  return svg ? draw(k, svg) : NULL;
}

sard_status *sd_verb_partition(sd_cli *c) {
  sd_partition k = {.c = c};
  if (sd_args_given(c, "simulate")) return sd_partition_simulate(c);
  sard_status *st = steps(&k);
  sd_cost_free(&k.costs);
  sd_module_free(k.module);
  return st;
}
