// Importer of ONNX models: file or bytes to a module of the graph level.
#pragma once
#include "ir/graph.h"

#define SD_ONNX_OPSET_MIN 1
#define SD_ONNX_OPSET_MAX 28
#define SD_ONNX_IR_MIN    1
#define SD_ONNX_IR_MAX    64 // fields of versions yet unknown are skipped; beyond this the number is nonsense

// Reads the model of `src` into a new module, which keeps the file mapped (weights are used in place); bytes given in
// `src` must outlive the module. All nodes are in the newest opset's form, functions are inlined, types inferred. The
// caller frees the module; its arena has no recovery point on return. Errors: SARD_E_MODEL, SARD_E_UNSUPPORTED (one
// status that lists every node that cannot be compiled), SARD_E_IO, SARD_E_NOMEM.
sard_status *sd_import_onnx(const sard_source *src, sd_module **out);

// Shapes of inputs where the model's declarations do not do. Ranks that it does not declare: `rank` is asked for the input
// `index` (of those that are no initializers) and sets *out, or leaves it at -1 where it does not know either. Their dims
// are symbols. `free_dims`: names of dims mean nothing, each is a symbol "<input>_d<axis>" of its own.
typedef struct sd_import_shapes {
  sard_status *(*rank)(void *user, uint32_t index, const char *name, int *out);
  void *user;
  bool free_dims;
} sd_import_shapes;
sard_status *sd_import_onnx_shaped(const sard_source *src, const sd_import_shapes *shapes, sd_module **out);

// True when the bytes look like an ONNX model (rather than an artifact or a text).
bool sd_import_sniff(const void *data, size_t n);

// ---- what is in a model, whether or not it can be compiled (sard inspect) ----
typedef struct sd_scan_io {
  const char *name, *type; // "f32[N,3,224,224]", "seq(f32[?])"
} sd_scan_io;
typedef struct sd_scan_node {
  const char *name, *op, *domain; // domain "" for ONNX's own
  int64_t opset;
  int index, depth;               // in its graph; 0 = main graph, 1 = a body or function, ...
  const char *graph;              // "" for the main graph, else the node or function that owns it
  uint32_t n_in, n_out;
  const char *const *in, *const *out;
  bool known;                     // there is a row for it, or a function of the model
} sd_scan_node;
typedef struct sd_scan_weight {
  const char *name, *external; // location, NULL when it is in the file
  sd_dtype dtype;
  int rank;
  const int64_t *dims;
  uint64_t bytes;              // 0 when not known
  bool sparse;
} sd_scan_weight;
typedef struct sd_scan_opset { const char *domain; int64_t version; } sd_scan_opset;
typedef struct sd_import_info {
  int64_t ir_version, model_version;
  const char *producer, *producer_version, *domain, *graph;
  uint64_t file_bytes, weight_bytes;
  SD_VEC(sd_scan_opset) opsets;
  SD_VEC(sd_scan_io) inputs; // those that are not initializers
  SD_VEC(sd_scan_io) outputs;
  SD_VEC(sd_scan_node) nodes; // bodies follow their node; functions come last
  SD_VEC(sd_scan_weight) weights;
  SD_VEC(sd_meta) metadata;
} sd_import_info;
// Everything in *out lives in `a`. External data is not opened.
sard_status *sd_import_scan(const sard_source *src, sd_arena *a, sd_import_info *out);
