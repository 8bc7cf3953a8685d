// The last step of a conversion: types of inputs and outputs.
#pragma once
#include "frontend/onnx/proto.h"

// Of inputs and outputs that are cast, by `narrow` (name -> that of the narrow value), the types become `to`:
// how many. None where nodes have bodies, which read values by name.
uint32_t sd_convert_io(sd_proto *e, const sd_names *narrow, sd_dtype to);
