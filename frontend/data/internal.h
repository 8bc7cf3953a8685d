// Kinds of data sources: a row each in data.c.
#pragma once
#include "frontend/data/data.h"

typedef struct sd_data_kind {
  const char *name;
  bool (*is)(const char *path);
  // Sets state, count, fixed_batch and has_labels.
  sard_status *(*open)(sd_data *d);
  // Fills b->in (n_in entries, NULL at first) and the rest with samples [b->first, b->first + b->count).
  sard_status *(*read)(sd_data *d, sd_batch *b);
  sard_status *(*rewind)(sd_data *d);
  void (*close)(sd_data *d);
} sd_data_kind;

struct sd_data {
  const sd_data_kind *kind;
  sd_arena *a;
  sard_context *ctx;
  sd_data_options o;
  int64_t count, at, fixed_batch;
  bool has_labels, only_labels;
  void *state;
};

// ---- arrays.c: named arrays whose rows are samples, in an .npz or a folder of .npy ----
bool sd_data_is_npz(const char *path);
bool sd_data_is_arrays(const char *path);
sard_status *sd_data_open_npz(sd_data *d);
sard_status *sd_data_open_arrays(sd_data *d);
sard_status *sd_data_read_arrays(sd_data *d, sd_batch *b);
sard_status *sd_data_rewind_arrays(sd_data *d);
void sd_data_close_arrays(sd_data *d);

// ---- sets.c: folders test_data_set_N of input_I.pb and output_I.pb; each is one sample ----
bool sd_data_is_sets(const char *path);
sard_status *sd_data_open_sets(sd_data *d);
sard_status *sd_data_read_sets(sd_data *d, sd_batch *b);

// ---- images.c ----
bool sd_data_is_images(const char *path);
sard_status *sd_data_open_images(sd_data *d);
sard_status *sd_data_read_images(sd_data *d, sd_batch *b);

// Entries of a folder in the order of their names; those that begin with a dot are left out.
typedef SD_VEC(const char *) sd_data_names;
bool sd_data_is_folder(const char *path);
sard_status *sd_data_list(sd_arena *a, const char *folder, sd_data_names *out);
const char *sd_data_type(sd_arena *a, const sard_tensor_desc *t); // "f32[N,3]"
// An integer or float tensor from another type of the same class: SARD_E_USAGE where a value does not fit.
sard_status *sd_data_convert(const void *from, int32_t from_type, void *to, int32_t to_type, uint64_t n,
                             const char *what);
