// Samples of a data set in batches, for evaluation and calibration. Memory depends on the size of a batch, not on the
// number of samples. Contents are untrusted.
#pragma once
#include "runtime/base/arena.h"
#include "runtime/base/status.h"

typedef struct sd_data_options {
  const char *path;
  const char *label;              // name of the array with labels, file with labels of images; NULL: the usual ones
  const char *preprocess;         // of images (prepare.h); NULL: none
  const sard_tensor_desc *inputs; // of the model, in its order; dims of -1 are symbolic
  int n_inputs;
} sd_data_options;

typedef struct sd_batch {
  int64_t first, count;   // samples; 0 at the end
  sard_tensor **in;       // in the model's order. Where the model fixes the batch there are rows behind `count`
  sard_tensor *label;     // count rows; NULL: none
  sard_tensor **expected; // outputs that belong to them; NULL: none
  int n_in, n_expected;
  bool whole; // one sample, whose tensors have no axis of samples
} sd_batch;

typedef struct sd_data sd_data;
// Finds the kind of data at the path and checks it against the model's inputs. Lives in `a` but for files and readers:
// to be closed. Errors: SARD_E_USAGE where the data do not fit the model, SARD_E_MODEL where a file is damaged,
// SARD_E_IO.
sard_status *sd_data_open(sd_arena *a, sard_context *ctx, const sd_data_options *o, sd_data **out);
const char *sd_data_kind_name(const sd_data *d);
int64_t sd_data_count(const sd_data *d);                              // samples
const sard_tensor_desc *sd_data_inputs(const sd_data *d, int *out_n); // as given
bool sd_data_has_labels(const sd_data *d);
// The batch that the model fixes, 0 where it takes any.
int64_t sd_data_fixed_batch(const sd_data *d);
// The next samples, at most `want`; to be freed, after an error too.
sard_status *sd_data_next(sd_data *d, int64_t want, sd_batch *out);
sard_status *sd_data_rewind(sd_data *d);
// From the start; with `only` batches have labels and no inputs, which are not read.
sard_status *sd_data_labels(sd_data *d, bool only);
void sd_data_close(sd_data *d); // NULL ok
void sd_batch_free(sd_batch *b);

// One sample of a tensor whose rows (axis 0) are samples, or the whole of it (row -1), widened to double. dims and rank
// are those of the sample.
typedef struct sd_sample {
  double *at;
  uint64_t n, room;
  int rank;
  int64_t dims[SARD_MAX_RANK];
} sd_sample;
sard_status *sd_sample_take(sard_tensor *t, int64_t row, sd_sample *s); // s->at is grown; to be freed with sd_free
