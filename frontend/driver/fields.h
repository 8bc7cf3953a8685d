// Members of JSON objects that users write, checked: each has a place ("devices[0].memory"), a kind and
// bounds, and the error names file, line and place.
#pragma once
#include "frontend/driver/json.h"

typedef struct sd_fields {
  const char *file;
  const char *place; // of the object: "" or "devices[0]."
  const sd_json *object;
} sd_fields;

// SARD_E_MODEL: v is no object, or has a member that is none of `names` or is there twice. names ends with
// NULL.
sard_status *sd_fields_of(const sd_json *v, const char *file, const char *place, const char *const *names,
                          sd_fields *out);
// A number from least to most. Absent: *out stays, which is an error where it is NaN.
sard_status *sd_fields_number(const sd_fields *f, const char *name, double least, double most, double *out);
// The same of a whole number; absent it has to be at least `least`, or that is an error.
sard_status *sd_fields_int(const sd_fields *f, const char *name, int64_t least, int64_t most, int64_t *out);
sard_status *sd_fields_text(const sd_fields *f, const char *name, const char **out); // absent: unchanged
sard_status *sd_fields_bool(const sd_fields *f, const char *name, bool *out);        // absent: unchanged
// The list `name` with 1 to `most` items; *n of them.
sard_status *sd_fields_list(const sd_fields *f, const char *name, uint32_t most, const sd_json **first,
                            uint32_t *n);
__attribute__((format(printf, 3, 4))) sard_status *sd_fields_wrong(const sd_fields *f, const char *name,
                                                                   const char *fmt, ...);
// A file of at most a megabyte as a tree.
sard_status *sd_fields_read(sd_arena *a, const char *path, sd_json **out);
