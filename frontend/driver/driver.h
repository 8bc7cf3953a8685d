// From a source to an artifact: import, passes, code; with dumps, checks and a report on the way.
#pragma once
#include "codegen/tuning.h"
#include "frontend/onnx/import.h"
#include "passes/partition/layer.h"
#include "passes/partition/tensor.h"
#include "passes/pass.h"
#include "runtime/collective/devices.h"
#include "runtime/options.h"

typedef struct sd_fixed_dim { const char *name; int64_t value; } sd_fixed_dim;
typedef SD_VEC(sd_fixed_dim) sd_fixed_dims;

typedef struct sd_driver_progress {
  // Called before each phase (step of `of`); a status stops the compilation (cancellation).
  sard_status *(*fn)(void *user, int step, int of, const char *name);
  // Called before files of the cache are written and after: an interrupt in between leaves a part. NULL: nobody asks.
  void (*writing)(void *user, bool on);
  void *user;
} sd_driver_progress;

// What is added here and changes code has to be added to the key of the cache as well (put_options in cache.c).
typedef struct sd_driver_options {
  int opt;                    // 0..3
  const char *target;         // instruction set, NULL = best of this machine
  const char *device;         // as in sd_codegen_options; NULL: processors only
  sd_devices devices;         // several that have a part each, where split says so
  bool tf32;                  // products of f32 on GPUs may drop the last 13 bits of their factors
  bool two_of_four;           // weights that keep two of four are kept so for GPUs (ir/two_of_four.h)
  const sd_precision *precision; // NULL: floats stay what they are
  bool watch;                 // all f32 values of the main graph are outputs, behind its own
  sd_tuning *tuning;          // as in sd_codegen_options
  int threads;                // of the compiler, 0 = all
  bool keep_ir;
  bool verify;                // verify the module after every pass
  // Pass name or "all": the module after it goes to dump_dir or through dump_fn; "lower", "kernels", "cuda": the kernels as
  // lowered, as scheduled, in CUDA C.
  const char *dump;
  const char *dump_dir;
  const char *from, *stop_after; // pass names, NULL = from the first, to the last
  int64_t bisect;             // -1 = off
  sard_status *(*dump_fn)(void *user, const char *pass, const char *text);
  void *dump_user;
  sd_fixed_dims dims;
  bool free_dims;             // see sd_import_shapes
  sd_fixed_dims ranks;        // of inputs by name, where the model declares no shape
  sd_import_shapes more_ranks; // asked where `ranks` has no entry; .rank may be NULL
  sd_driver_progress progress;
} sd_driver_options;

// How several devices share a model, and what was compared.
typedef struct sd_split_choice {
  sd_ways ways;
  sd_split_kind chosen; // 0: nothing was compared
  sd_layer_plan layer;  // of SD_SPLIT_LAYER
  bool measured;        // what nodes take, on this machine
  const char *why;      // else: why it is estimated
} sd_split_choice;

typedef struct sd_phase { const char *name; double seconds; uint32_t rewrites; } sd_phase;
typedef struct sd_driver_report {
  SD_VEC(sd_phase) phases;
  uint32_t nodes_in, nodes_out;
  SD_VEC(sd_meta) fusions;    // kind of group -> count as text
  sd_codegen_stats code;
  sd_precision_report precision; // of the option "precision"
  sd_split_choice split;      // of the option "split"
  sd_tensor_report tensor;    // of split=tensor
  const char *isa;
  double total_s;
} sd_driver_report;

typedef struct sd_compiled {
  sd_arena *arena;            // owns the pieces (and the report)
  sd_module *module;          // owns the mapped weights that pieces point into
  sd_parts parts;             // of the module, which is inputs and outputs only then; n 0: it is one piece
  sd_piece *pieces;
  size_t n_pieces;
  sd_driver_report report;
} sd_compiled;

void sd_driver_defaults(sd_driver_options *o);
// Reads "opt", "target", "dim:NAME", "free-dims", "threads", "keep-ir", "precision"; the texts stay those of `from`. Dims
// and plans are put into `a`.
sard_status *sd_driver_options_read(const sard_options *from, sd_arena *a, sd_driver_options *o);

// Sets o->device for code that runs elsewhere: what is given, else, where some of o->devices are GPUs, the usual
// architectures.
void sd_driver_archs(sd_driver_options *o, const char *given);

// The instruction set of the option "target": a name, or NULL, "host" or "auto" for the best of this machine.
sard_status *sd_driver_target(const char *target, const sd_isa **out);

// Reads a model: .onnx or graph text. Dims are fixed as `o` says.
sard_status *sd_driver_load(const sard_source *src, const sd_driver_options *o, sd_module **out);
// Runs the passes on a loaded module.
sard_status *sd_driver_passes(sd_module *m, const sd_driver_options *o, sd_driver_report *r, sd_arena *a);
// All of it. With stop_after set there are no pieces. The caller frees with sd_compiled_free.
sard_status *sd_driver_compile(const sard_source *src, const sd_driver_options *o, sd_compiled **out);
void sd_compiled_free(void *compiled); // NULL ok
// Compiles for the device of the options ("device", "fallback"), or finds in the cache ("cache", "cache-limit"), and loads the
// model there. `json`, `seconds`: the report and the time of the compilation, 0 for none; NULL: not wanted.
sard_status *sd_driver_open(sard_context *ctx, const sard_source *src, const sard_options *options, sd_driver_options *o,
                            char **json, double *seconds, sard_model **out);
// The report as JSON text, owned by the caller (sd_free); NULL when memory is short.
char *sd_driver_report_json(const sd_driver_report *r);
// Its nodes, as the members of a JSON array.
void sd_driver_precision_json(const sd_precision_report *p, sd_str *out);
