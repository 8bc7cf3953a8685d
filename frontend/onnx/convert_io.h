// The last step of a conversion: types of inputs and outputs.
#pragma once
#include "frontend/onnx/proto.h"

// Of inputs and outputs that are cast, by `narrow` (name -> that of the narrow value; NULL: of all that are f32), the types become `to`:
// how many. Bodies read f32 as before.
uint32_t sd_convert_io(sd_proto *e, const sd_names *narrow, sd_dtype to);
