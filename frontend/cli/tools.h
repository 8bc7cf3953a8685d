// The verbs of sard that need the compiler, and what they share.
#pragma once
#include "frontend/cli/cli.h"
#include "frontend/driver/driver.h"
#include "frontend/onnx/import.h"
#include "frontend/onnx/packed.h"

sard_status *sd_verb_compile(sd_cli *c);
sard_status *sd_verb_inspect(sd_cli *c);
sard_status *sd_verb_compare(sd_cli *c);
sard_status *sd_verb_doctor(sd_cli *c);
sard_status *sd_verb_tune(sd_cli *c);
sard_status *sd_verb_eval(sd_cli *c);
sard_status *sd_verb_quantize(sd_cli *c);
sard_status *sd_verb_prune(sd_cli *c);
sard_status *sd_verb_convert(sd_cli *c);
sard_status *sd_verb_optimize(sd_cli *c);
sard_status *sd_verb_partition(sd_cli *c);

// ---- tools.c ----
sard_status *sd_tools_options(sd_cli *c, sd_driver_options *o); // of the flags -O, --target, --dim, --threads; with progress
// sd_cli_compiler
sard_status *sd_tools_compile(sd_cli *c, sard_context *ctx, const sard_source *src, const sard_options *o, sard_model **out,
                              double *out_seconds);
// To a file, the weights to another one beyond 2 GB or with --external-data.
sard_status *sd_tools_write_model(sd_cli *c, const char *path, const sd_packed *model);
sard_status *sd_tools_external(sd_cli *c, const char *path,
                               uint64_t *bytes); // of weights that are in other files than the model
sard_status *sd_tools_check(sd_cli *c, sard_context *ctx, const sd_cli_tensors *in, const sd_cli_tensors *out); // check.c

// ---- change.c: flags of the verbs that write another model than MODEL ----
// `what` goes to *out, by -o. SARD_E_USAGE, SARD_E_IO: it cannot go there, or flags lack others.
sard_status *sd_change_flags(sd_cli *c, const char *what, const char **out);
sard_status *sd_change_out(sd_cli *c, const char *out); // SARD_E_USAGE: it is MODEL itself
// What an earlier run has to have in common for its results to count: adds MODEL, --data, by size and time, and all given flags but
// the n of `apart` to s.
void sd_change_key(sd_cli *c, const char *const *apart, size_t n, sd_str *s);
// Of what --resume keeps, as pieces of memory: their bytes; and filling them from where they lie one behind the other.
uint64_t sd_change_bytes(const sd_piece *at, size_t n);
void sd_change_fill(const sd_piece *at, size_t n, const uint8_t *from);

// Settles --precision auto, and types beside --data, into a plan for the model (c->precision), which goes to --plan.
sard_status *sd_precision_settle(sd_cli *c, const char *model); // precision.c

// ---- observe.c: a model compiled such that the value of every node can be seen ----
typedef struct sd_observed {
  const char *name, *op; // name of the value, "" when it has none; op of the node that makes it
  const char *node;      // name of that node and number of the output, "" when it has none
  const sd_value *value; // NULL for a compiled artifact
  sard_tensor *tensor;   // NULL before the run
} sd_observed;
typedef struct sd_observer {
  sd_arena *arena;
  sd_module *module;     // after all passes; NULL for a compiled artifact, which shows its outputs only
  sd_module *compiled;   // after a reload: the one that was compiled
  sd_cli_model loaded;   // ctx is the caller's
  sd_observed *at;       // in the order of nodes
  int n;
  sard_tensor **outputs; // the graph's own outputs
  int n_outputs;
} sd_observer;
// Compiles the model of `path`. The passes run as they would, so that the nodes seen are those that are compiled; only
// memory is not shared between values. An artifact shows its outputs.
sard_status *sd_observe_open(sd_cli *c, sard_context *ctx, const char *path, const sd_driver_options *o, sd_observer *out);
// Code generation may give up weights of the module: this makes w->module and the values anew, fit to be interpreted.
sard_status *sd_observe_reload(sd_observer *w, const char *path, const sd_driver_options *o);
sard_status *sd_observe_run(sd_observer *w, sard_tensor *const *in, int n_in);
void sd_observe_close(sd_observer *w);

// ---- cost.c: what a model would take ----
typedef struct sd_node_cost {
  const sd_node *node;
  double flops;        // symbolic dims as --dim says, else 1; 0 when not known
  sard_status *error;  // it cannot be lowered: why, owned by the list
} sd_node_cost;
typedef struct sd_costs { sd_node_cost *at; uint32_t n, failed; double flops; } sd_costs;
sard_status *sd_cost_module(sd_cli *c, sd_module *m, const sd_fixed_dims *dims, sd_costs *out); // in c->arena
void sd_cost_free(sd_costs *k);

// ---- coverage.c: how each node will run on a target, or why it cannot ----
typedef struct sd_cover_part { const char *op, *how; uint32_t n; } sd_cover_part;
typedef struct sd_covered {
  const char *name, *op, *domain, *graph; // as in sd_scan_node
  int index, depth;
  int64_t opset;
  bool known, imported;          // there is a row for it; the importer made a node of it
  const char *reason;            // it cannot run: why
  SD_VEC(sd_cover_part) parts;   // what it became
} sd_covered;
// A value that is computed on one side and read on the other one.
typedef struct sd_cover_copy { const char *value, *node, *op; bool to_device; } sd_cover_copy;
typedef struct sd_cover_key { const char *name; uint32_t node; } sd_cover_key;
enum { SD_SIDE_HOST = 1, SD_SIDE_DEVICE = 2 };
typedef struct sd_coverage {
  const sd_isa *isa;             // the target
  bool cuda;                     // of kernels: a CUDA device
  uint8_t *sides;                // by value id: where its contents are, SD_SIDE_*
  SD_VEC(sd_cover_copy) copies;
  SD_VEC(sd_covered) nodes;      // in the order of the file
  SD_VEC(sd_cover_key) keys;     // names of imported nodes, by address
  bool judged;
} sd_coverage;
// In this order, in c->arena: the nodes of the file; those of the imported module (before passes run on it); what the passes
// at -O0 made of them; or, where import or a pass failed, the nodes that its message names.
void sd_coverage_of_scan(sd_cli *c, const sd_import_info *info, sd_coverage *k);
void sd_coverage_of_module(sd_cli *c, sd_module *m, sd_coverage *k);
sard_status *sd_coverage_judge(sd_cli *c, sd_module *m, sd_coverage *k);
void sd_coverage_blame(sd_cli *c, const char *message, sd_coverage *k);
// As text and as members of the JSON object; the number of nodes that cannot run.
uint32_t sd_coverage_show(sd_cli *c, const sd_coverage *k);

// ---- picture.c, svg.c: a graph drawn in layers ----
typedef struct sd_picture_node {
  const char *label, *detail, *tip; // text in the box, smaller text under it, text shown when pointed at
  double cost;                      // colour
  bool bad, port;                   // cannot be compiled; an input or output
  int layer;
  double x, y;                      // centre; set by the layout
} sd_picture_node;
typedef struct sd_picture_edge {
  uint32_t from, to;
  const char *tip;
  uint32_t n_bends; // x in each layer between the two; set by the layout
  double *bends;
} sd_picture_edge;
typedef struct sd_picture {
  const char *title;
  SD_VEC(sd_picture_node) nodes; // in topological order
  SD_VEC(sd_picture_edge) edges;
} sd_picture;
void sd_picture_layout(sd_arena *a, sd_picture *p, double *width, double *height);
void sd_svg_write(sd_arena *a, sd_picture *p, sd_str *out);
