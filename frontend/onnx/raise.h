// A model of an older opset written in a newer one.
#pragma once
#include "frontend/onnx/proto.h"

// Brings the model to ONNX's opset `to`, where it is older: its nodes, those of bodies, too, take the forms
// that they have there, by the rows of upgrade.def, and the file says so. `src` is what `p` was opened from.
// Errors: a node that would take other nodes to say is SARD_E_UNSUPPORTED, with its name and both opsets;
// then p is of no use any more.
sard_status *sd_proto_raise(sd_proto *p, const sard_source *src, int64_t to);
