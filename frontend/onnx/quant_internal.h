// Shared by the files of quantization.
#pragma once
#include "frontend/onnx/proto.h"
#include "frontend/onnx/quant.h"
#include "passes/quantize/groups.h"

typedef enum sd_quant_role {
  SD_ROLE_NONE,
  SD_ROLE_PRODUCT,
  SD_ROLE_CLIP,
  SD_ROLE_SAME,
  SD_ROLE_POOL,
  SD_ROLE_JOIN,
  SD_ROLE_TABLE, // those before it may compute on integers
  SD_ROLE_STATES,
  SD_ROLE_TURNED
} sd_quant_role;
typedef struct sd_quant_op {
  const char *op;
  sd_quant_role role;
  int x, weight, bias;
} sd_quant_op;
const sd_quant_op *sd_quant_op_of(const Onnx__NodeProto *n);   // NULL: none
const char *sd_quant_operand(const Onnx__NodeProto *n, int i); // "" where it is absent

// ---- quant_unit.c ----
sard_status *sd_quant_open(sd_arena *a, const sard_source *src, const sd_quant_options *o, sd_proto *out);
// The unit of a node, found by its place in the file (which opening anew gives again); NULL: it is none.
sd_quant_unit *sd_quant_unit_of(const sd_quant_units *u, uint32_t *next, const Onnx__NodeProto *n);
const char *sd_quant_node_name(sd_arena *a, const Onnx__NodeProto *n, uint32_t index);
uint64_t sd_quant_elements(const Onnx__TensorProto *t);
sd_dtype sd_quant_act_type(const sd_quant_options *o);                 // of activations in static models
// Axis of a weight along which its scales go.
int sd_quant_axis(const Onnx__NodeProto *n, int rank);
uint64_t sd_quant_repeats(
    const Onnx__NodeProto *n); // outputs for each scale: groups of a transposed convolution share them
// The weight [outer][channels][inner] of a node; a copy in `a` where it does not lie aligned.
sard_status *sd_quant_weight(sd_proto *p, sd_arena *a, const Onnx__NodeProto *n, const char *name, bool per_tensor,
                             sd_weight *out, const sd_const **out_const);

// ---- quant_fold.c ----
sard_status *sd_quant_fold(sd_proto *p);

// ---- quant_place.c: values and what becomes of them ----
typedef struct sd_flow {
  const char *name;
  Onnx__NodeProto *from;  // NULL: an input or a weight
  uint32_t uses;          // by nodes of the main graph
  Onnx__NodeProto *user;  // the last of them
  bool pinned;            // an output, or read by a body: it stays as it is
  bool lineage;           // made by convolutions and what can follow them on integers
  bool quantized, forced; // becomes integers; all who read it read these
  struct sd_flow *same;   // whose scale it has, NULL: one of its own
  const char *q;          // name of the integers, once they are made
} sd_flow;
typedef struct sd_places {
  sd_proto *p;
  sd_names flows;          // name -> sd_flow
  SD_VEC(sd_flow *) order; // by first appearance
  bool *integer;           // by node index: computed on integers
} sd_places;
void sd_quant_flows(sd_proto *p, sd_places *out); // values and who reads them, nothing placed
sard_status *sd_quant_places(sd_proto *p, const sd_quant_options *o, const sd_quant_units *u, sd_places *out);
const sd_flow *sd_quant_root(const sd_flow *f);

// ---- writers: quant_static.c, quant_dynamic.c, quant_weights.c, quant_states.c ----
typedef struct sd_quant_writer {
  sd_proto *p;
  const sd_quant_options *o;
  sd_quant_units *u;
  const sd_quant_tensors *t;
  SD_VEC(Onnx__NodeProto *) nodes; // of the new graph
  sd_names made;                   // what was made before, by a key: names of tensors
} sd_quant_writer;
sard_status *sd_quant_write_static(sd_quant_writer *w);
sard_status *sd_quant_to_operators(sd_quant_writer *w); // quant_qop.c: of what write_static made
sard_status *sd_quant_write_dynamic(sd_quant_writer *w);
sard_status *sd_quant_write_weights(sd_quant_writer *w);
// A recurrent node becomes one whose products are integers, in place. Why it cannot: NULL, it can be.
sard_status *sd_quant_states(sd_quant_writer *w, Onnx__NodeProto *n, sd_quant_unit *u);
const char *sd_quant_states_obstacle(const sd_proto *p, const Onnx__NodeProto *n, const sd_quant_options *o);
void sd_quant_emit(sd_quant_writer *w, Onnx__NodeProto *n);
const sd_quant_tensor *sd_quant_tensor_of(const sd_quant_writer *w, const char *name); // NULL: none
const double *sd_quant_moments(const sd_quant_writer *w, const sd_quant_unit *u);       // of a unit's inputs; NULL: none

// Integers of a weight with a scale for each channel: tensors of their own, made once for a name and axis.
typedef struct sd_quant_made {
  const char *q, *scale, *zero; // names
  const float *scales;
  uint64_t channels;
  double snr;
  sd_dtype type;
  const int8_t *values; // of the type, a byte each
} sd_quant_made;
sard_status *sd_quant_make_weight(sd_quant_writer *w, const Onnx__NodeProto *n, const sd_quant_unit *u, const char *name,
                                  const float *least, const sd_quant_made **out);
// A weight as [rows][k], in the arena where that is another order.
const float *sd_quant_rows(sd_arena *a, const sd_weight *w);
// Rounds rows by --rounding, as far as moments of their inputs are known.
sard_status *sd_quant_round_groups(const sd_quant_options *o, sd_groups *g, const float *rows, const double *moments);
// DequantizeLinear of an integer weight: the name of the floats.
const char *sd_quant_emit_weight(sd_quant_writer *w, const char *name, const sd_quant_made *m, int axis);
// Rows of a table by index, then the scale of each row.
sard_status *sd_quant_emit_table(sd_quant_writer *w, Onnx__NodeProto *n, sd_quant_unit *u);
void sd_quant_note(sd_quant_unit *u, const sd_quant_made *m, uint64_t elements);
