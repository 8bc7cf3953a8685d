// An ONNX model that is opened, changed and written again: its own nodes, values and names stay as they are, what is
// not changed is kept byte for byte. Everything lives in an arena.
#pragma once
#include "frontend/onnx/internal.h"
#include "frontend/onnx/packed.h"

typedef struct sd_proto {
  sd_arena *a;
  sd_opened o;
  Onnx__ModelProto *model;
  Onnx__GraphProto *graph;
  sd_external external;
  sd_tensors tensors;
  int64_t opset;                   // of ONNX's own operators
  sd_names weights;                // name -> Onnx__TensorProto: initializers and values of Constant nodes
  sd_names taken;                  // names of values and nodes
  sd_names spare;                  // results of nodes that go where nothing reads them (sd_proto_sweep)
  SD_VEC(Onnx__NodeProto *) nodes; // of the main graph; written back when it is packed (packed.h)
  SD_VEC(Onnx__TensorProto *) initializers;
  SD_VEC(Onnx__ValueInfoProto *) outputs;
} sd_proto;

// Opens the model. The source has to live as long as the edit.
sard_status *sd_proto_open(sd_arena *a, const sard_source *src, sd_proto *out);

// Ends the edit: the model in its arena, which has to live as long as what is opened from it.
sard_status *sd_proto_pack(sd_proto *e, const sd_packed **out);

// A constant by the name of its value, through Identity nodes; NULL: it is none.
const Onnx__TensorProto *sd_proto_weight(const sd_proto *e, const char *name);
sard_status *sd_proto_const(sd_proto *e, const Onnx__TensorProto *p, sd_const **out);
// A name that is not taken yet: base, or base_1, ...
const char *sd_proto_name(sd_proto *e, const char *base);
// Adds a tensor with these elements (kept, not copied) under a new name, which is returned.
const char *sd_proto_tensor(sd_proto *e, const char *base, sd_dtype t, int rank, const int64_t *dims, const void *data);
const char *sd_proto_scalar(sd_proto *e, const char *base, sd_dtype t, const void *element);
// Takes away initializers, Constant nodes and spare nodes that nothing reads.
void sd_proto_sweep(sd_proto *e);

// Nodes are made apart and put where they belong.
Onnx__NodeProto *sd_proto_node(sd_proto *e, const char *base, const char *domain, const char *op, const char *const *in,
                               size_t n_in, const char *out);
// Attributes of a node are a list that another node may share; it is not changed.
void sd_proto_drop(sd_proto *e, Onnx__NodeProto *n, const char *name);
void sd_proto_int(sd_proto *e, Onnx__NodeProto *n, const char *name, int64_t v);
void sd_proto_ints(sd_proto *e, Onnx__NodeProto *n, const char *name, const int64_t *v, size_t count);
// A node as `n` is, with operands and outputs of its own, which may be changed, under a new name.
Onnx__NodeProto *sd_proto_copy(sd_proto *e, const Onnx__NodeProto *n, const char *base);
int64_t sd_proto_get_int(const Onnx__NodeProto *n, const char *name, int64_t absent);
float sd_proto_get_float(const Onnx__NodeProto *n, const char *name, float absent);
bool sd_proto_is(const Onnx__NodeProto *n, const char *domain, const char *op);
// Another output of the model.
void sd_proto_show(sd_proto *e, const char *name);
// Imports a domain at least at that version.
void sd_proto_opset(sd_proto *e, const char *domain, int64_t version);
