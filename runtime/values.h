// Strings, sequences, optionals and maps between what callers hold (sard_tensor) and what steps work on (numbers of
// strings and objects).
#pragma once
#include "runtime/base/strtab.h"
#include "runtime/model.h"
#include "runtime/objects.h"

typedef struct sd_values { sd_strtab *strings; sd_objects *objects; } sd_values;

// Numbers of the strings of a tensor, `count` of them. SARD_E_NOMEM.
sard_status *sd_values_take_strings(const sd_values *v, const sard_tensor *t, uint64_t count, uint64_t *out);
// In place: numbers in the memory of t become texts that t owns. After a failure all of them are "".
sard_status *sd_values_give_strings(const sd_values *v, sard_tensor *t);
void sd_values_clear_strings(sard_tensor *t); // all "": what is left after a run that failed
// The object for a value or tensor. `item`: element type that its tensors must have, SD_DT_NONE for any.
sard_status *sd_values_take(const sd_values *v, const sard_tensor *t, sd_dtype item, uint64_t *out);
// A value for an object; `kind` is what an empty one becomes, SD_OBJ_TENSOR gives a plain tensor.
sard_status *sd_values_give(const sd_values *v, sard_context *ctx, uint64_t number, sd_object_kind kind, sard_tensor **out);
