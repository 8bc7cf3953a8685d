// External data of a model: files beside it, opened so that a hostile model cannot reach anything else.
#pragma once
#include "frontend/onnx/names.h"
#include "ir/graph.h"
#include "onnx.proto3.pb-c.h"
#include "runtime/base/file.h"

typedef struct sd_external {
  sd_arena *arena;        // owns the maps: they live as long as it
  const char *model_path; // NULL: the model came as bytes
  const sard_source *source;
  sd_names files;         // location -> sd_map
  sd_module *module;      // learns of the maps; NULL ok
} sd_external;

// `arena` becomes the owner of all maps.
void sd_external_init(sd_external *x, sd_arena *arena, const sard_source *source);
// The `bytes` bytes that the external_data entries name. A location must be a relative path of plain names below the
// folder of the model; no component may be a symbolic link, the file must be a regular one with a single name. Errors:
// SARD_E_MODEL (bad keys, numbers, ranges, paths), SARD_E_IO (cannot open).
sard_status *sd_external_get(sd_external *x, Onnx__StringStringEntryProto *const *entries, size_t n, uint64_t bytes,
                             const void **out);
