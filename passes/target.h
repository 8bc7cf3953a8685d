// What passes ask of the machines that a model is compiled for. No pass asks which machine that is: a fact
// says what to do, and a new machine is a new row in target.c.
#pragma once
#include <stdbool.h>

// Rates of an instruction set (passes/sparse_rates.def): products of a cycle.
typedef struct sd_sparse_rates {
  const char *isa;
  int lanes;
  double dense, matrix, own, shared, dense8, blocks8, pairs8, words8;
} sd_sparse_rates;
const sd_sparse_rates *sd_sparse_rates_of(const char *isa); // NULL: not measured

typedef struct sd_pass_target {
  bool channels_last;  // convolutions run on [N, spatial..., C]
  bool model_turns;    // what the model itself transposes from channels last counts as such
  bool output_rows;    // their weights are [M, k..., C/group], a row for each output channel, and those of matrix products
                       // [N, K]; else [k..., C/group, M], and as the model has them
  int channel_vector;  // images get zeros up to a multiple of so many channels where that is little; 0: they
                       // do not
  bool padded_copies;  // zero borders of convolutions are written to memory; else what reads them has
                       // conditions
  bool joint_products; // products of one operand with several constants are made at once
  bool joint_sizes;    // equal tensors of sizes are one, also where they are far apart
  bool winograd;       // 3x3 convolutions with fewer multiplications
  int lanes, registers; // vectors of f32: lanes of one, and how many there are; 0: not known
  const sd_sparse_rates *sparse; // weights that are mostly 0 are kept without, where these gain; NULL: they stay dense
  bool two_of_four;    // weights of products of which two of four along the sum are 0 are kept without these (ir/two_of_four.h)
  bool panels;         // products of two computed matrices read one of them in panels
  bool byte_products;  // products of dequantized bytes are computed from the bytes
  bool row_ranges;     // the range of a tensor is found row by row
  int wide_rows;       // products of at most so many rows widen constant bytes where they read them
  int rounded_bits;    // products that may round their input to 8 bits do so for weights of at most so many bits
  bool bf16_parts;     // products of f32 are made of products of bf16: fewer where a constant is bf16
  bool epilogues;      // a map rather ends the contraction that feeds it than begins what reads it
  bool strided_reads; // products and attention read parts and permutations of their operands in place; chains
                      // of views alone are no kernels
  int tiles;          // of attention at least, else its keys are worked on in parts; of reductions too; 0: any number will do
  bool apart_rows;    // rows whose distance is a multiple of 4 KiB get a distance that is none
} sd_pass_target;

// Of processors alone; of CUDA devices, where processors run the same graph when there is no device.
sd_pass_target sd_pass_target_cpu(void);
sd_pass_target sd_pass_target_cuda(void);
