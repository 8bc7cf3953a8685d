// Parts of a batch: views and copies of inputs, and results put together.
#pragma once
#include "runtime/session.h"

// What runs on a part of the batch: tensors of its part, those that are cut being views of the caller's
// memory where that is possible.
typedef struct sd_share {
  int64_t begin, count; // of the batch
  sard_tensor **in, **out;
  sard_tensor *views; // per input, then per output
} sd_share;

// Why runs of the model cannot be cut by its batch, with what is in the way; NULL: they can.
sard_status *sd_batch_refuse(const sard_model *m);
bool sd_share_new(const sd_art *a, sd_share *out); // false when memory is short; free what there is
void sd_share_free(sd_share *s);
// The size of the batch. False: the inputs do not fit the model, which a run of the whole tells better.
bool sd_batch_size(const sd_art *a, sard_tensor *const *in, int n_in, int64_t *out);
// Sizes of n parts for workers that take `each` for an element, in seconds or what is in proportion to them (NULL: all
// the same): the last one ends as early as can be, of equal ones the first has more. Some may have nothing.
void sd_batch_share(int64_t batch, const double *each, sd_share *at, int n);
// Cuts inputs into n parts of the batch that have their sizes; outputs that are written in place are set, too.
sard_status *sd_batch_give(const sard_session *s, sard_tensor *const *in, sard_tensor *const *out,
                           int64_t batch, sd_share *at, int n);
// Results from the parts, into `out` or, where that is NULL, new tensors in s->made. Whole ones are those of
// the first part.
sard_status *sd_batch_join(sard_session *s, sard_tensor *const *out, sd_share *at, int n);
// Takes back what was made for the run.
void sd_batch_clear(const sard_session *s, sard_tensor *const *in, sard_tensor *const *out, sd_share *at,
                    int n);
