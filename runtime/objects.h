// Values that are not dense tensors: sequences, optionals, maps, and tensors whose shape or rank only the run knows.
//
// Compiled code sees them as numbers: a value of type SD_OBJECT is one 64-bit element, the number of an object in the
// table of the session. Objects never change once others can see them, so copying the number copies the value. Number 0
// is the empty object: a sequence, an optional or a map without contents. Host functions make and read them.
#pragma once
#include "runtime/base/dtype.h"
#include "runtime/base/status.h"

#define SD_OBJECT_RANK 16

typedef enum sd_object_kind { SD_OBJ_NONE, SD_OBJ_TENSOR, SD_OBJ_SEQUENCE, SD_OBJ_OPTIONAL, SD_OBJ_MAP } sd_object_kind;

typedef struct sd_object {
  sd_object_kind kind;
  // TENSOR: row-major and packed; strings as numbers of the session's table
  sd_dtype dtype;
  int rank;
  int64_t dims[SD_OBJECT_RANK];
  uint64_t count, bytes;
  void *data;
  // SEQUENCE: its items; OPTIONAL: one; MAP: keys and values, tensors of rank 1 and of the same length
  const uint64_t *items;
  uint64_t n;
} sd_object;

typedef struct sd_objects sd_objects;

sd_objects *sd_objects_new(void); // NULL: no memory
void sd_objects_free(sd_objects *o); // NULL ok
void sd_objects_reset(sd_objects *o); // forgets all of them
uint64_t sd_objects_bytes(const sd_objects *o);
// The most memory that it may take, 0 = no limit; SARD_E_NOMEM beyond it.
void sd_objects_limit(sd_objects *o, uint64_t bytes);

// A tensor of these dims, contents not set. SARD_E_MODEL for negative dims or an unknown type.
sard_status *sd_objects_tensor(sd_objects *o, sd_dtype t, int rank, const int64_t *dims, uint64_t *out, void **out_data);
// A sequence, an optional or a map of these items (copied).
sard_status *sd_objects_list(sd_objects *o, sd_object_kind kind, const uint64_t *items, uint64_t n, uint64_t *out);
// The sequence with one more item at its end. Appending again and again costs no copies of what is there.
sard_status *sd_objects_append(sd_objects *o, uint64_t sequence, uint64_t item, uint64_t *out);
// What has the number; an object of kind SD_OBJ_NONE without items for 0 and for numbers that it does not have.
const sd_object *sd_objects_get(const sd_objects *o, uint64_t number);
// The same, and SARD_E_MODEL where it is something other than `kind` (an empty one is fine, except as a tensor).
sard_status *sd_objects_need(const sd_objects *o, uint64_t number, sd_object_kind kind, const sd_object **out);
const char *sd_object_kind_text(sd_object_kind k);
