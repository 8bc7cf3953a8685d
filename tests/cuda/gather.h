// Launches of kernels as ONNX's backend cases make them: CUDA C, contents of the operands, results of the
// interpreter.
#pragma once
#include "codegen/cuda/cuda.h"
#include "sard/sard.h"

typedef struct gathered_kernel {
  char *text; // the function is called sd_kernel
  uint64_t hash;
  bool alone; // no barriers, no shuffles
  int threads;
  const char *label; // case, form and node that first needed it
  void (*entry)(const void *words);
} gathered_kernel;

typedef struct gathered_buf {
  void *data; // IN: contents; OUT: what the interpreter gave
  uint64_t bytes, count;
  sd_dtype dtype;
  bool out;
} gathered_buf;

typedef struct gathered_launch {
  uint32_t kernel;
  char *label;
  int n_bufs, n_dims;
  gathered_buf *bufs;
  int64_t *dims, blocks, scratch;
  sd_dtype inner; // float type of partial results or operands that the results are as exact as, SD_DT_NONE: none
} gathered_launch;

typedef struct gathered {
  sd_cuda_options options;
  gathered_kernel *kernels;
  gathered_launch *launches;
  uint32_t n_kernels, n_launches;
  uint32_t left_out; // launches that are too large
  uint32_t failed;   // nodes without CUDA C
} gathered;

// Adds the launches of one case in that form (the model's file), optimized as for compiling or not at all.
void gather_case(gathered *g, sard_context *ctx, const char *folder, const char *file, int opt);
// Adds the kernels of a model, optimized as for compiling, without launches.
void gather_model(gathered *g, const char *path);
// Drops kernels all of whose lines stand, numbers aside, in those before; how many are gone. Launches are not looked at.
uint32_t gather_drop_alike(gathered *g);
