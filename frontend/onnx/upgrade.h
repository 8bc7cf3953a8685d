// Actions of upgrade.def that are more than moving an attribute; shared by upgrade.c and upgrade_shape.c.
#pragma once
#include "frontend/onnx/internal.h"

typedef sard_status *(*sd_upgrade_fn)(sd_import *im, sd_onnx_node *n, const char *text, int64_t number);

sard_status *sd_upgrade_set_operand(sd_import *im, sd_onnx_node *n, const char *attr, uint32_t operand, sd_value *v);
sard_status *sd_upgrade_int(sd_onnx_node *n, const char *name, int64_t absent, int64_t *out); // int attribute

// Operand `i`, which must be given and of known rank.
sard_status *sd_upgrade_operand(const sd_onnx_node *n, uint32_t i, sd_value **out);
// A node of row `op` without attributes in front of n: its first output, typed, a constant where it is known.
sard_status *sd_upgrade_emit(sd_import *im, sd_onnx_node *n, const char *op, sd_value *const *in, uint32_t n_in,
                             sd_value **out);

// Split into equal parts without sizes: the number of parts is an attribute now.
sard_status *sd_upgrade_split_outputs(sd_import *im, sd_onnx_node *n, const char *text, int64_t number);
// Softmax over the flattened axes from `axis` (default 1) on: Flatten, Softmax, Reshape where that is not the last
// axis.
sard_status *sd_upgrade_flat_softmax(sd_import *im, sd_onnx_node *n, const char *text, int64_t number);
// Upsample: floats attribute becomes an f32 operand.
sard_status *sd_upgrade_scales_operand(sd_import *im, sd_onnx_node *n, const char *text, int64_t number);
// Upsample, and Resize of opset 10, with operands (x, scales): Resize(x, -, scales), asymmetric, floor.
sard_status *sd_upgrade_old_resize(sd_import *im, sd_onnx_node *n, const char *text, int64_t number);
// Constants without elements stand for omitted operands, from operand `number` on.
sard_status *sd_upgrade_drop_empty(sd_import *im, sd_onnx_node *n, const char *text, int64_t number);
// Cast and CastLike from or to strings: a host function, op `text`, whose attribute `to` says it.
sard_status *sd_upgrade_text_cast(sd_import *im, sd_onnx_node *n, const char *text, int64_t number);
// Squeeze of sizes that may be 1: the rank of the result is known to the run only.
sard_status *sd_upgrade_open_squeeze(sd_import *im, sd_onnx_node *n, const char *text, int64_t number);
// GridSample's names of modes: bilinear is linear, bicubic is cubic.
sard_status *sd_upgrade_grid_modes(sd_import *im, sd_onnx_node *n, const char *text, int64_t number);
// GroupNormalization: scale and bias by group become scale and bias by channel.
sard_status *sd_upgrade_group_channels(sd_import *im, sd_onnx_node *n, const char *text, int64_t number);

// ---- opsets 1 to 6 (upgrade_first.c) ----
// Operands (a, b) with broadcast=1 and axis: the axes of b stand at those of a from `axis` on.
sard_status *sd_upgrade_axis_broadcast(sd_import *im, sd_onnx_node *n, const char *text, int64_t number);
// PRelu: a slope of rank 1 is by channel.
sard_status *sd_upgrade_channel_slope(sd_import *im, sd_onnx_node *n, const char *text, int64_t number);
// The name of an element type becomes its number.
sard_status *sd_upgrade_type_name(sd_import *im, sd_onnx_node *n, const char *text, int64_t number);
// "attribute=value": a default that the newest form does not have; integer, float or text.
sard_status *sd_upgrade_absent(sd_import *im, sd_onnx_node *n, const char *text, int64_t number);
// A float attribute that is an integer now.
sard_status *sd_upgrade_whole_number(sd_import *im, sd_onnx_node *n, const char *text, int64_t number);
// Operand `number`, perhaps of the data's type, becomes i64.
sard_status *sd_upgrade_int_type(sd_import *im, sd_onnx_node *n, const char *text, int64_t number);
// Tile(x, tiles, axis) to Tile(x, repeats).
sard_status *sd_upgrade_tile(sd_import *im, sd_onnx_node *n, const char *text, int64_t number);
// Upsample of images: height_scale and width_scale become operand `number`.
sard_status *sd_upgrade_image_scales(sd_import *im, sd_onnx_node *n, const char *text, int64_t number);
// Dropout with is_test: without it the training form.
sard_status *sd_upgrade_training_switch(sd_import *im, sd_onnx_node *n, const char *text, int64_t number);
// Dropout: the mask has the type of the data.
sard_status *sd_upgrade_number_mask(sd_import *im, sd_onnx_node *n, const char *text, int64_t number);
// BatchNormalization: further outputs mean training; those from `number` on are gone: refused where they are
// named. Where nothing reads any of them it is inference.
sard_status *sd_upgrade_batch_training(sd_import *im, sd_onnx_node *n, const char *text, int64_t number);
// The result has the type of operand `number`, not that of the data: ONNX Runtime's LayerNormalization before opset 17.
sard_status *sd_upgrade_type_of_scale(sd_import *im, sd_onnx_node *n, const char *text, int64_t number);
// BatchNormalization with statistics by element.
sard_status *sd_upgrade_spatial(sd_import *im, sd_onnx_node *n, const char *text, int64_t number);

// ---- operators that went away (upgrade_gone.c) ----
sard_status *sd_upgrade_crop(sd_import *im, sd_onnx_node *n, const char *text, int64_t number);
sard_status *sd_upgrade_image_scaler(sd_import *im, sd_onnx_node *n, const char *text, int64_t number);
sard_status *sd_upgrade_constant_fill(sd_import *im, sd_onnx_node *n, const char *text, int64_t number);
sard_status *sd_upgrade_given_fill(sd_import *im, sd_onnx_node *n, const char *text, int64_t number);
sard_status *sd_upgrade_across_channels(sd_import *im, sd_onnx_node *n, const char *text, int64_t number);

// Scan of opset 8, over batches: a Scan over the batch of Scans over the sequence (upgrade_scan.c).
sard_status *sd_upgrade_batched_scan(sd_import *im, sd_onnx_node *n, const char *text, int64_t number);
// Gradient: the tensors that the attributes xs, zs and y name become operands behind its own.
sard_status *sd_upgrade_named_operands(sd_import *im, sd_onnx_node *n, const char *text, int64_t number);
