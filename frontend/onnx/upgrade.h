// Actions of upgrade.def that are more than moving an attribute; shared by upgrade.c and upgrade_shape.c.
#pragma once
#include "frontend/onnx/internal.h"

typedef sard_status *(*sd_upgrade_fn)(sd_import *im, sd_onnx_node *n, const char *text, int64_t number);

sard_status *sd_upgrade_set_operand(sd_import *im, sd_onnx_node *n, const char *attr, uint32_t operand, sd_value *v);
sard_status *sd_upgrade_int(sd_onnx_node *n, const char *name, int64_t absent, int64_t *out); // int attribute

// Split into equal parts without sizes: the number of parts is an attribute now.
sard_status *sd_upgrade_split_outputs(sd_import *im, sd_onnx_node *n, const char *text, int64_t number);
// BatchNormalization: only statistics by channel are left.
sard_status *sd_upgrade_spatial(sd_import *im, sd_onnx_node *n, const char *text, int64_t number);
// Softmax over the flattened axes from `axis` (default 1) on: Flatten, Softmax, Reshape where that is not the last
// axis.
sard_status *sd_upgrade_flat_softmax(sd_import *im, sd_onnx_node *n, const char *text, int64_t number);
// Upsample: floats attribute becomes an f32 operand.
sard_status *sd_upgrade_scales_operand(sd_import *im, sd_onnx_node *n, const char *text, int64_t number);
// Upsample, and Resize of opset 10, with operands (x, scales): Resize(x, -, scales), asymmetric, floor.
sard_status *sd_upgrade_old_resize(sd_import *im, sd_onnx_node *n, const char *text, int64_t number);
// Constants without elements stand for omitted operands, from operand `number` on.
sard_status *sd_upgrade_drop_empty(sd_import *im, sd_onnx_node *n, const char *text, int64_t number);
// GridSample's names of modes: bilinear is linear, bicubic is cubic.
sard_status *sd_upgrade_grid_modes(sd_import *im, sd_onnx_node *n, const char *text, int64_t number);
// GroupNormalization: scale and bias by group become scale and bias by channel.
sard_status *sd_upgrade_group_channels(sd_import *im, sd_onnx_node *n, const char *text, int64_t number);
