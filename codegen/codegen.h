// From the final graph to an artifact: lower every node, choose a schedule, emit code, write the plan.
#pragma once
#include "ir/lower.h"
#include "ir/parts.h"

// Instruction set rows of codegen/targets.def.
typedef struct sd_isa {
  const char *name;     // "baseline", "avx2", "avxvnni", "avx512", "avx512vnni", "avx512bf16", "amx", "neon"
  const char *arch;     // "x86_64", "aarch64"
  const char *triple, *cpu, *features; // LLVM's
  int vector_bytes;     // 16, 32, 64
  int registers;        // vector registers
  bool masks;           // masked loads and stores are cheap
  int dot;              // products of 8-bit integers that one instruction adds to each i32 lane (1: none does)
  int pairs;            // products of bf16 that one instruction adds to each f32 lane (1: none does)
  bool matrix;          // matrix registers for both kinds of products
} sd_isa;
const sd_isa *sd_isa_find(const char *name); // NULL when unknown
const sd_isa *sd_isa_at(int index);          // NULL past the end
// Best row that this CPU has; SARD_ISA in the environment overrides it. Errors: unknown name, or CPU lacks it.
sard_status *sd_isa_host(const char *wanted, const sd_isa **out); // wanted: NULL, "", "auto" or a name

// Appends what code depends on beside the module and the options: the row, and the version of LLVM that the build found.
void sd_codegen_basis(const sd_isa *isa, sd_str *out);

// The version of LLVM at hand, which is opened for that. Errors: UNSUPPORTED where it is not there.
sard_status *sd_codegen_version(char out[64]);

// Code of one kernel.
typedef struct sd_machine_code {
  const void *data;     // ELF relocatable object, in the arena given
  uint64_t size;
  uint32_t n_dims;      // dims the code reads, in order: sard_dispatch.dim
  const sd_dim *dims;
  sd_dim tiles;         // grid size
  sd_dim scratch;       // bytes per worker
} sd_machine_code;

// Lanes of a vector (sd_axis.vec counts vectors of so many elements) in the code of k for that ISA.
int sd_emit_lanes(const sd_kernel *k, const sd_isa *isa);
// Emits the scheduled kernel with LLVM. `symbol` becomes the function's name. One call per thread at a time and arena;
// several threads may compile different kernels at once as long as none adds to the same dim table (the caller clones).
sard_status *sd_emit_llvm(const sd_kernel *k, const sd_isa *isa, const char *symbol, int opt, sd_arena *out, sd_machine_code *o);

// Operations of a kernel, for profiles and pictures: a multiply and an add for each step of each reduction, one for
// each store.
sd_dim sd_codegen_flops(sd_kernel *k, sd_arena *scratch);

// How a node of a module without rewritten rows runs.
typedef enum sd_runs {
  SD_RUNS_KERNEL, // compiled code
  SD_RUNS_HOST,   // a function of the runtime
  SD_RUNS_STEPS,  // control flow of the plan; its bodies are asked for by themselves
} sd_runs;
sd_runs sd_codegen_runs(const sd_node *n);
// Lowers and emits the node for that ISA (at -O0, nothing is kept); the error says why it cannot run.
sard_status *sd_codegen_check(sd_arena *scratch, sd_module *m, const sd_node *n, const sd_isa *isa, bool cuda);

typedef struct sd_tuning sd_tuning;
typedef struct sd_codegen_options {
  const sd_isa *isa;
  int opt;              // 0..3
  int threads;          // compiler threads
  bool keep_ir;         // final graph text into the artifact
  const char *device;   // NULL or "cpu"; "cuda", "cuda:sm_80,sm_90": code for GPUs too (codegen/cuda/device.h)
  bool tf32;            // products of f32 on GPUs may drop the last 13 bits of their factors
  const sd_parts *parts; // of the module, which is inputs and outputs only; NULL: it is one piece
  const sd_ways *ways;  // that were compared, for reports; NULL: none
  sd_tuning *tuning;    // NULL: schedules as estimated (codegen/tuning.h)
  // NULL, or called for each different kernel with its text as lowered (stage "lower") and as scheduled ("kernels"), or,
  // with show_cuda, as CUDA C ("cuda").
  sard_status *(*kernel_fn)(void *user, const char *stage, const char *text);
  void *kernel_user;
  bool show_cuda;
} sd_codegen_options;
typedef struct sd_codegen_stats {
  uint32_t kernels, unique_kernels, steps;
  uint64_t code_bytes, const_bytes, meta_bytes;
  double lower_s, emit_s, write_s, cuda_s;
  uint32_t cuda_kernels; // different ones
  uint64_t cuda_bytes;   // of their code for all architectures
  const char *cuda;      // compiler and architectures as text; NULL: processors only
  SD_VEC(const sd_node *) step_nodes; // of a model in one piece: the node of each step, in the arena
} sd_codegen_stats;
// The artifact's bytes as pieces (large weights stay where they are); valid while `a` and the module live.
#include "runtime/base/file.h"
sard_status *sd_codegen(sd_arena *a, sd_module *m, const sd_codegen_options *o, sd_piece **out_pieces, size_t *out_n,
                        sd_codegen_stats *stats);
