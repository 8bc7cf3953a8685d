// What a simulation is told: a device set, and a model as a file or as the sizes of a decoder.
#pragma once
#include "frontend/driver/driver.h"
#include "passes/partition/scale.h"

// Reads a device set (docs/scaling.md has the members).
sard_status *sd_simulate_machine(sd_arena *a, const char *path, sd_machine *out);

// A decoder of text by its sizes.
typedef struct sd_decoder {
  const char *name;
  sd_dtype type; // of weights, caches and activations
  int64_t layers, hidden, heads, kv_heads, head, ffn, vocabulary;
  bool gated; // the feed-forward part has a second product and a Swish; else one and a Gelu
  int64_t batch, prompt, context; // sequences; tokens of each given; and in all at the end
  int64_t parameters;             // weights, once they are known
} sd_decoder;
sard_status *sd_simulate_decoder_read(sd_arena *a, const char *path, sd_decoder *out);
// The decoder as a graph whose weights and caches are inputs. Symbols: batch, tokens (new ones), keys (all
// that are attended to). *roles: by id, in `a`.
sard_status *sd_simulate_decoder(const sd_decoder *d, sd_module **out);
// Roles of the inputs and outputs of m by id, as sd_simulate_decoder made them; of other models all are
// values.
uint8_t *sd_simulate_roles(const sd_module *m, bool decoder, sd_arena *a);

// Runs the passes as for devices with kernels, and finds the operations of each node. m lives as long as
// *out.
sard_status *sd_simulate_work(sd_module *m, bool decoder, const sd_driver_options *o, sd_arena *a,
                              sd_work *out);
