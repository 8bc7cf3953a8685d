// Shared by the files of the back end's driver: the steps on their way from the graph to the artifact.
#pragma once
#include "codegen/artifact_write.h"
#include "codegen/choose_cuda_matrix.h"
#include "codegen/compile_units.h"
#include "codegen/cuda/cuda.h"
#include "codegen/cuda/device.h"
#include "codegen/pack.h"

// What a step's buffer is bound to.
typedef struct sd_binding { sd_value *value; const sd_pack *pack; bool written; } sd_binding;
typedef SD_VEC(sd_dim) sd_dims;

typedef struct sd_cuda_launches {
  const sd_cuda_source *small; // NULL: none is wanted
  const sd_cuda_source *large; // for batches from SD_CUDA_LARGE on, NULL: the same
  sd_dim batch;                // largest batch in its sizes
} sd_cuda_launches;

typedef struct sd_step {
  sard_art_stepkind kind;
  const sd_node *node;
  uint32_t unit;         // DISPATCH
  uint64_t kernel;       // where schedules are tuned: see sd_tuned
  sd_binding *bufs;
  uint32_t n_bufs;
  sd_dim trip;           // LOOP: SD_DIM_NONE = no bound
  sd_dims dims, defs;    // but for DISPATCH: sizes; symbols
  sd_value *const *held; // LOOP: further values that live as long as it
  uint32_t n_held;
  uint32_t body, other;  // steps that follow
  sd_dim flops, bytes;   // SD_DIM_NONE: not known
  sd_cuda_launches cuda, cuda_only; // DISPATCH for CUDA devices; for sm_90a, where that makes a difference
  const sd_cuda_matrix *matrix; // DISPATCH for CUDA devices that is a product of matrices, else NULL
  bool live;
} sd_step;
typedef SD_VEC(sd_step) sd_steps;
typedef SD_VEC(sd_unit) sd_units;
typedef struct sd_packed { const sd_const *source; uint64_t hash; uint32_t buf; } sd_packed;
typedef SD_VEC(sd_packed) sd_packed_list;

typedef struct sd_gen {
  sd_arena *a;
  sd_module *m;
  const sd_codegen_options *o;
  sd_steps steps;
  sd_units units;
  uint64_t *unit_hash; // parallel to units, capacity unit_cap
  uint32_t unit_cap;
  sd_artifact *x;
  sd_art_weights *weights;
  bool keeps; // constants that its steps do not read any more: parts behind it do
  uint32_t *value_buf; // BUFS index + 1 by value id (of the storage root)
  sd_packed_list packed;
  sd_pack_room packs;
  const sd_cuda_device *device; // NULL: processors only
} sd_gen;

// ---- codegen/codegen.c ----
sard_status *sd_gen_kernel(sd_gen *g, sd_node *n, sd_arena *scratch); // one dispatch
// ---- codegen/flow.c ----
// Appends the steps of a graph, loops and branches included, to g->steps.
sard_status *sd_gen_graph(sd_gen *g, sd_graph *graph, sd_arena *scratch, int depth);
// Removes steps whose results nobody reads, and kernels that no step runs.
void sd_gen_sweep(sd_gen *g);
// ---- codegen/gen_cuda.c ----
#define SD_CUDA_LARGE 16
sard_status *sd_gen_cuda_kernel(sd_gen *g, const sd_node *n, sd_arena *scratch, sd_step *s); // sets s->cuda
// Compiles the kernels of the steps and adds their tables to g->x, whose steps are those of g.
sard_status *sd_gen_cuda_plan(sd_gen *g, const sd_cuda_device *d, sd_codegen_stats *stats);
// ---- codegen/plan_write.c ----
// Tables of the artifact from steps and compiled units, into g->x.
sard_status *sd_gen_plan(sd_gen *g, sd_codegen_stats *stats);
// Of a model in parts: what its inputs and outputs are, and the wires.
sard_status *sd_gen_parts(sd_gen *g, const sd_parts *parts);
