// Inside of contexts, models and tensors: what the compiler library and the command line use beyond sard.h.
#pragma once
#include <pthread.h>
#include <stdatomic.h>

#include "runtime/artifact_read.h"
#include "runtime/base/strtab.h"
#include "runtime/code_elf.h"
#include "runtime/collective/devices.h"
#include "runtime/cuda/products.h"
#include "runtime/options.h"
#include "runtime/pool.h"

// ---- context ----
// Compiles a model that is no artifact. Installed by the compiler library; the runtime alone has none.
typedef sard_status *(*sd_compile_fn)(sard_context *ctx, const sard_source *source, const sard_options *options,
                                      sard_model **out);
void sd_context_set_compiler(sard_context *ctx, sd_compile_fn fn);
const char *sd_context_isa(const sard_context *ctx); // option "isa", "auto" by default
int sd_context_threads(const sard_context *ctx);

enum { SD_CU_DEVICES = 64 };
struct sard_context {
  atomic_int refs;
  pthread_mutex_t lock;                      // of `cuda`
  struct sd_cu_device *cuda[SD_CU_DEVICES]; // opened so far
  sd_pool *pool;
  int threads; // option "threads", 0: as many as there are
  char isa[16];
  _Atomic(sd_compile_fn) compiler;
};
void sd_context_hold(sard_context *ctx);
// A CUDA device by its number, opened once; it stays the context's.
sard_status *sd_context_cuda(sard_context *ctx, int ordinal, const struct sd_cu_device **out);

// ---- model ----
// How a model that was compiled in memory stands to the compile cache.
typedef struct sd_model_cache {
  const char *state;  // "hit": it comes from there; "stored": it is kept there now; "unused", "off"; NULL: an artifact
  char *folder, *why; // the folder, NULL for "off"; for "unused" the reason
  double store_s;     // time that keeping it took
} sd_model_cache;

struct sard_model {
  atomic_int refs;
  sard_context *ctx;
  sd_art art;
  sd_piece *pieces; // all bytes of the artifact, in order
  size_t n_pieces;
  uint64_t file_size;
  void *head;            // own copy of the part in front of CONST, NULL when it is used in place
  const void **consts;   // per buffer: address of a CONST one
  sard_kernel_fn *entry; // per kernel
  sd_code code;
  int64_t *dim_value;    // slots that depend on no symbol
  uint8_t *dim_known;
  uint32_t n_step_bufs, n_step_dims; // sums over the steps
  sd_strtab *strings;    // of its constants
  struct sd_cu_program *cu; // its code on a CUDA device, NULL: it runs on the processor
  sd_cu_library library; // option "library"
  char *fallback;        // why it does although a device was asked for, NULL: it was not
  sd_devices devices; // option "devices": n is 0 where it runs on one
  struct sd_cu_program *
      *replicas; // of a model that several devices run as a whole: its code on each, NULL on processors; else NULL
  struct sard_model **parts; // of a model in parts, which have all steps and code and share its bytes; else NULL
  const struct sard_model *whole; // of a part: the model
  sd_model_cache cache;
  void (*release)(void *);
  void *user;
};

// Makes a model of an artifact whose bytes lie in pieces, in order of the file: sections may be cut anywhere, a
// constant must lie within one piece. The bytes must stay valid, and readable for 64 bytes behind each piece, until
// release(user) is called (when the model goes, or at once when this fails; NULL ok). `pieces` itself is copied; only
// what stands in front of the CONST section is copied, and only when it is in several pieces or misaligned. Where
// pieces are many, the CONST section has to be the last one.
sard_status *sd_model_from_bytes(sard_context *ctx, const sd_piece *pieces, size_t n, void (*release)(void *),
                                 void *user, sard_model **out);
void sd_model_hold(sard_model *m);
// Words of the options that say where a model runs. SARD_E_USAGE: one that is unknown, told before anything is compiled or
// looked for. sd_model_place takes options that have passed.
sard_status *sd_place_check(const sard_options *options);
// Options "device" and "fallback": loads the code for the device. Once, before sessions are made.
sard_status *sd_model_place(sard_model *m, const sard_options *options);
// The model runs on the processor, as the device cannot be used: `why` (taken) is what reports tell.
sard_status *sd_model_fall_back(sard_model *m, sard_status *why);
// Activation memory of a model without symbolic dims (arena, and scratch of one worker); false when it has some.
bool sd_model_static_memory(const sard_model *m, uint64_t *arena, uint64_t *scratch);

const char *sd_step_text(uint32_t kind); // "copy", "loop", ...: what a step that is no dispatch does

// ---- tensors ----
struct sard_tensor {
  sard_tensor_desc desc;
  char *name; // desc.name
  void *data;
  uint64_t bytes;
  void (*release)(void *); // NULL and `owned`: sd_free_aligned
  void *user;
  bool owned;
  const struct sd_cu_device *place; // of memory on a device that it owns
  sard_context *ctx;   // keeps the device open
  sd_strtab *texts;    // of strings that it owns
  sard_tensor **items; // of a sequence, optional or map
  int64_t n_items;
};
// Element i of a tensor of strings: a copy of n bytes.
sard_status *sd_tensor_put_string(sard_tensor *t, uint64_t i, const char *text, size_t n);
// Bytes of a dense tensor; SARD_E_USAGE for bad rank, dims, strides or dtype, naming `what`.
sard_status *sd_tensor_size(const sard_tensor_desc *d, const char *what, uint64_t *out_bytes);
// "f32[2,3]" into a buffer.
const char *sd_tensor_text(int32_t dtype, int32_t rank, const int64_t *dims, char *out, size_t size);
