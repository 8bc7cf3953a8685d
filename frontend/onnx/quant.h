// Quantization of ONNX models: the nodes that can be computed with integers, and the model written such. The original's
// names stay; what is added has names of its own. Nothing here runs a model: ranges of activations are given.
#pragma once
#include "frontend/onnx/packed.h"
#include "passes/quantize/affine.h"
#include "passes/quantize/balance.h"
#include "runtime/base/arena.h"
#include "runtime/base/dtype.h"
#include "runtime/base/status.h"

typedef enum sd_quant_mode { SD_QUANT_STATIC, SD_QUANT_DYNAMIC, SD_QUANT_WEIGHTS } sd_quant_mode;
typedef enum sd_quant_format { SD_QUANT_QDQ, SD_QUANT_NBITS, SD_QUANT_QOPERATOR } sd_quant_format;

typedef enum sd_quant_rounding { SD_QUANT_NEAREST, SD_QUANT_GPTQ, SD_QUANT_ADAPTIVE } sd_quant_rounding;

typedef struct sd_quant_options {
  sd_quant_mode mode;
  sd_quant_format format; // NBITS: weights of 4 and 2 bits; QOPERATOR: static
  int bits;               // of weights: 8, 4, 2
  sd_dtype type;          // of weights of 8 bits: SD_I8, or a float8, which activations of STATIC have, too
  int64_t group;          // weights in a row that share a scale, for 4 and 2 bits
  bool symmetric;         // groups without zero points
  bool round_inputs;      // of NBITS: what they are multiplied with may be rounded to 8 bits
  bool signed_acts;       // s8 activations, zero point 0
  bool per_tensor;        // one scale for each weight
  bool reduce_range;      // weights from -64 to 63: sums of pairs fit 16 bits
  sd_quant_rounding rounding; // of integers
  bool clip;                  // ranges of 4 and 2 bits made smaller, as far as outputs gain from it
  sard_status *(*check)(void); // asked before each weight is made: an error ends the writing; NULL: nobody
} sd_quant_options;

// A node with a weight.
typedef struct sd_quant_unit {
  const char *name, *op; // of the node; "Conv_12" where it has no name
  const char *x, *weight;
  int rank;
  const int64_t *dims; // of the weight
  uint64_t rows, k;    // as a matrix: outputs, inputs of each
  uint64_t groups;     // of outputs that share their inputs
  bool open;           // a weight of it is no constant
  bool keep;           // it stays float: set before writing
  const char *why;     // or has to: the reason (keep is true)
  int bits;            // what was written: 0 = float
  bool by_run;         // written such that each run finds the ranges of what it reads, of static models, too
  double snr;          // of the weight, in decibels
  uint64_t bytes_before, bytes_after;
  uint32_t sums; // 1 + the tensor that stands for the second moments of its inputs; 0: they are not asked for
} sd_quant_unit;
typedef SD_VEC(sd_quant_unit) sd_quant_units;

// An activation that has to be known.
typedef struct sd_quant_tensor {
  const char *name;
  sd_affine affine;      // set before writing
  bool integer;          // its values become integers
  bool by_channel;       // its channels' magnitudes are asked for
  bool by_moments;       // it stands for the second moments of what unit `unit` reads from it, and nothing else
  uint32_t unit;
  uint64_t groups, k;    // of that unit: outputs of a group share their k inputs
  const double *moments; // [groups][k][k], sums over rows of inputs; NULL: none
  const double *mean;    // of each input channel, for the correction of biases; NULL: none
  const float *largest, *typical; // [k], largest and mean magnitude of each channel; NULL: none
} sd_quant_tensor;
typedef SD_VEC(sd_quant_tensor) sd_quant_tensors;
// The second moments of what a unit reads.
sd_quant_tensor sd_quant_sums_of(const sd_quant_units *u, uint32_t unit);

// The nodes of the model that `o` could quantize, in order; those that cannot be say why. Errors: a model that is
// quantized already, or older than it can be written, is SARD_E_UNSUPPORTED.
sard_status *sd_quant_find(sd_arena *a, const sard_source *src, const sd_quant_options *o, sd_quant_units *out);
// The activations that matter when units are quantized but those that are kept. Sets `sums` of each unit.
sard_status *sd_quant_place(sd_arena *a, const sard_source *src, const sd_quant_options *o, sd_quant_units *u,
                            sd_quant_tensors *out);
// The model with those values as outputs behind its own; second moments as sums over the batch, f32[groups, k, k].
sard_status *sd_quant_watch(sd_arena *a, const sard_source *src, const sd_quant_options *o, const sd_quant_units *u,
                            const sd_quant_tensors *t, const sd_packed **out);
// The quantized model. Sets what was written in each unit.
sard_status *sd_quant_write(sd_arena *a, const sard_source *src, const sd_quant_options *o, sd_quant_units *u,
                            const sd_quant_tensors *t, const sd_packed **out);

// ---- before that: channels scaled against the weights that read them ----

typedef struct sd_quant_balance sd_quant_balance; // a model that is opened for it
typedef struct sd_quant_site {                    // an activation that products read
  const char *x;
  uint64_t k;          // channels
  bool conv;           // on axis 1; else the last one
  bool folded;         // the inverse goes into what makes it; else a Mul is put behind
  bool pair;           // that is a product, too
  bool wanted;         // a reader is quantized
  const sd_matrix *of; // weights that read it, as the model has them now
  uint32_t n_of;
  float *t;            // [k], set before writing; NULL: it stays as it is
} sd_quant_site;
typedef SD_VEC(sd_quant_site) sd_quant_sites;

// `sites` stay the balance's, all in the arena. The source has to live as long.
sard_status *sd_quant_balance_open(sd_arena *a, const sard_source *src, const sd_quant_options *o,
                                   const sd_quant_units *u, sd_quant_balance **out, sd_quant_sites **sites);
// Cross-layer equalization of all pairs until nothing moves: their weights are scaled in place.
sard_status *sd_quant_balance_equalize(sd_quant_balance *b, int *rounds);
// The model with the sites' t; it computes what the original does, but for rounding.
sard_status *sd_quant_balance_write(sd_quant_balance *b, const sd_packed **out);
