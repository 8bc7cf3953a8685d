// A run whose batch is cut into parts, one for each device: the larger parts first where the sizes are
// uneven.
#include "runtime/collective/batch.h"

#include <string.h>

#include "runtime/base/dtype.h"
#include "runtime/collective/split.h"

enum { TEXT = 400 };

static uint32_t axis_of(const sd_art *a, uint32_t io) { return a->batch[1 + io]; }

// Bytes from one position of the axis to the next.
static uint64_t stride(const sard_tensor *t, uint32_t axis) {
  uint64_t n = (uint64_t)sd_dtype_bits((sd_dtype)t->desc.dtype) / 8;
  for (int d = (int)axis + 1; d < t->desc.rank; d++) n *= (uint64_t)t->desc.dims[d];
  return n;
}

static uint64_t rows(const sard_tensor *t, uint32_t axis) {
  uint64_t n = 1;
  for (uint32_t d = 0; d < axis; d++) n *= (uint64_t)t->desc.dims[d];
  return n;
}

// Copies `from`, which is positions [at, ...) of the axis of `to`, to its place; or, with `out`, that part of
// `to` into `from`.
static void copy_part(sard_tensor *to, sard_tensor *from, uint32_t axis, int64_t at, bool out) {
  uint64_t step = stride(to, axis), n = step * (uint64_t)from->desc.dims[axis],
           all = step * (uint64_t)to->desc.dims[axis];
  for (uint64_t r = 0, count = rows(to, axis); n && r < count; r++) {
    char *whole = (char *)to->data + r * all + (uint64_t)at * step, *part = (char *)from->data + r * n;
    memcpy(out ? part : whole, out ? whole : part, n);
  }
}

// The size of the batch. False: the inputs do not fit the model, which a run of the whole tells better.
static bool batch_size(const sd_art *a, sard_tensor *const *in, int n_in, int64_t *out) {
  *out = INT64_MAX;
  if (n_in < 0 || (uint32_t)n_in != a->n_in) return false;
  for (uint32_t i = 0; i < a->n_in; i++) {
    uint32_t axis = axis_of(a, i);
    if (!in[i]) return false;
    if (axis == SARD_ART_NONE) continue;
    if (in[i]->desc.rank != (int32_t)a->io[i].rank || in[i]->desc.dtype != (int32_t)a->io[i].dtype ||
        in[i]->desc.device)
      return false;
    if (in[i]->desc.dims[axis] < *out) *out = in[i]->desc.dims[axis];
  }
  if (*out < 1 || *out == INT64_MAX) return false;
  for (uint32_t i = 0; i < a->n_in; i++)
    if (axis_of(a, i) != SARD_ART_NONE && in[i]->desc.dims[axis_of(a, i)] % *out) return false;
  return true;
}

// The part of a tensor of the caller as one of its own memory; false where it is not in one piece.
static bool view_part(sard_tensor *whole, uint32_t axis, int64_t at, int64_t count, sard_tensor *view) {
  *view = *whole;
  view->owned = false, view->release = NULL;
  view->desc.dims[axis] = count;
  view->bytes = stride(whole, axis) * (uint64_t)count * rows(whole, axis);
  view->data = (char *)whole->data + stride(whole, axis) * (uint64_t)at;
  return rows(whole, axis) == 1;
}

static sard_status *give_input(sd_device *d, uint32_t i, sard_tensor *t, int64_t batch) {
  uint32_t axis = axis_of(&d->session->model->art, i);
  d->in[i] = t;
  d->bytes_in += t->bytes;
  if (axis == SARD_ART_NONE) return NULL;
  int64_t each = t->desc.dims[axis] / batch;
  bool whole = view_part(t, axis, d->begin * each, d->count * each, &d->views[i]);
  d->bytes_in -= t->bytes - d->views[i].bytes;
  d->in[i] = &d->views[i];
  if (whole) return NULL;
  sard_tensor_desc desc = d->views[i].desc;
  SD_TRY(sard_tensor_new(d->session->model->ctx, &desc, &d->in[i]));
  copy_part(t, d->in[i], axis, d->begin * each, true);
  return NULL;
}

// What the device writes in place; other results it makes.
static void give_output(sd_device *d, uint32_t i, sard_tensor *t, int64_t batch) {
  const sd_art *a = &d->session->model->art;
  uint32_t axis = axis_of(a, a->n_in + i);
  d->out[i] = NULL;
  if (!t) return;
  if (axis == SARD_ART_NONE) {
    if (d->begin == 0) d->out[i] = t; // it is the same in all parts
    return;
  }
  if (t->desc.rank != (int32_t)a->io[a->n_in + i].rank || t->desc.dims[axis] % batch) return;
  int64_t each = t->desc.dims[axis] / batch;
  sard_tensor *view = &d->views[a->n_in + i];
  if (view_part(t, axis, d->begin * each, d->count * each, view)) d->out[i] = view;
}

static sard_status *give_parts(sard_session *s, sard_tensor *const *in, sard_tensor *const *out,
                               int64_t batch, int n) {
  const sd_art *a = &s->model->art;
  int64_t begin = 0;
  for (int k = 0; k < n; k++) {
    sd_device *d = &s->split->at[k];
    d->begin = begin, d->count = batch / n + (k < batch % n);
    begin += d->count;
    for (uint32_t i = 0; i < a->n_in; i++) SD_TRY(give_input(d, i, in[i], batch));
    for (uint32_t i = 0; i < a->n_out; i++) give_output(d, i, out[i], batch);
  }
  return NULL;
}

// ---- results ----

// The whole of an output from its parts: into `given`, or a new tensor.
static sard_status *join(const sard_session *s, uint32_t i, int n, sard_tensor *given, sard_tensor **out) {
  const sd_art *a = &s->model->art;
  uint32_t axis = axis_of(a, a->n_in + i);
  sard_tensor_desc desc = s->split->at[0].out[i]->desc;
  char got[TEXT], want[TEXT];
  int64_t at = 0;
  for (int k = 1; k < n; k++) desc.dims[axis] += s->split->at[k].out[i]->desc.dims[axis];
  desc.name = sd_art_text(a, a->io[a->n_in + i].name);
  if (!given) SD_TRY(sard_tensor_new(s->model->ctx, &desc, out));
  sard_tensor *to = given ? given : *out;
  if (to->desc.dtype != desc.dtype || to->desc.rank != desc.rank ||
      memcmp(to->desc.dims, desc.dims, (size_t)desc.rank * sizeof *desc.dims))
    return SD_ERR(USAGE, "output '%s' (%u) is %s, the model gives %s", desc.name, i,
                  sd_tensor_text(to->desc.dtype, to->desc.rank, to->desc.dims, got, sizeof got),
                  sd_tensor_text(desc.dtype, desc.rank, desc.dims, want, sizeof want));
  for (int k = 0; k < n; k++) {
    sard_tensor *part = s->split->at[k].out[i];
    copy_part(to, part, axis, at, false);
    at += part->desc.dims[axis];
  }
  return NULL;
}

// `made`: room for new outputs. Whole ones are those of the first device.
static sard_status *join_all(sard_session *s, sard_tensor *const *out, int n, sard_tensor **made) {
  const sd_art *a = &s->model->art;
  for (uint32_t i = 0; i < a->n_out; i++) {
    sd_device *first = &s->split->at[0];
    bool cut = axis_of(a, a->n_in + i) != SARD_ART_NONE;
    for (int k = 0; k < n && (cut || k == 0); k++) s->split->at[k].bytes_out += s->split->at[k].out[i]->bytes;
    if (cut && first->out[i] != &first->views[a->n_in + i]) SD_TRY(join(s, i, n, out[i], &made[i]));
    if (cut || out[i]) continue;
    made[i] = first->out[i], first->out[i] = NULL;
  }
  return NULL;
}

// Takes back what devices made for the run, and the most telling error: one that is not the cancelling of the
// others.
static sard_status *clear(sard_session *s, sard_tensor *const *in, sard_tensor *const *out, int n) {
  const sd_art *a = &s->model->art;
  sard_status *st = NULL;
  for (int k = 0; k < n; k++) {
    sd_device *d = &s->split->at[k];
    for (uint32_t i = 0; i < a->n_in; i++) {
      if (d->in[i] != &d->views[i] && d->in[i] != in[i]) sard_tensor_free(d->in[i]);
      d->in[i] = NULL;
    }
    for (uint32_t i = 0; i < a->n_out; i++) {
      if (d->out[i] != &d->views[a->n_in + i] && d->out[i] != out[i]) sard_tensor_free(d->out[i]);
      d->out[i] = NULL;
    }
    bool better = d->st && (!st || sard_status_code(st) == SARD_E_CANCELLED);
    if (better) sard_status_free(st), st = sd_status_context(d->st, "device %s", d->name);
    else
      sard_status_free(d->st);
    d->st = NULL, d->runs++;
  }
  return st;
}

sard_status *sd_split_run(sard_session *s, sard_tensor *const *in, int n_in, sard_tensor **out, int n_out) {
  const sd_art *a = &s->model->art;
  int64_t batch;
  sd_split_cancel(s, 0);
  if (n_out < 0 || (uint32_t)n_out != a->n_out ||
      !batch_size(a, in, n_in, &batch)) // the error, or an empty batch
    return sd_session_go(s->split->at[0].session, in, n_in, out, n_out);
  SD_TRY(sd_session_apart(s, in, out));
  int n = batch < s->split->n ? (int)batch : s->split->n;
  sard_status *st = give_parts(s, in, out, batch, n), *failed;
  if (!st) sd_split_work(s->split, n);
  for (int k = 0; !st && k < n; k++)
    if (s->split->at[k].st) st = SD_ERR(CANCELLED, "the run failed on device %s", s->split->at[k].name);
  if (!st) st = join_all(s, out, n, s->made);
  failed = clear(s, in, out, n);
  if (failed) {
    sard_status_free(st);
    st = failed;
  }
  for (uint32_t i = 0; i < a->n_out; i++) {
    if (s->made[i] && st) sard_tensor_free(s->made[i]);
    else if (s->made[i])
      out[i] = s->made[i];
    s->made[i] = NULL;
  }
  return st;
}
