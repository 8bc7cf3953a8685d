// Cuts a batch into parts and puts their results together.
#include "runtime/collective/batch.h"

#include <math.h>
#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/base/dtype.h"

enum { TEXT = 400 };

static uint32_t axis_of(const sd_art *a, uint32_t io) { return a->batch[1 + io]; }

static sard_status *cannot(const char *what, const char *why) {
  return sd_status_field(SD_ERR(UNSUPPORTED, "the model cannot be split by its batch: %s%s", what, why),
                         SARD_TEXT_HINT, "%s",
                         "sizes that --dim fixes are not open any more; give them by the inputs (--shape)");
}

sard_status *sd_batch_refuse(const sard_model *m) {
  const sd_art *a = &m->art;
  if (!a->batch)
    return cannot("the artifact does not tell how a batch goes through it", "; compile the model again");
  if (a->batch[0]) return cannot(sd_art_text(a, a->batch[0]), "");
  for (uint32_t i = 0; i < a->n_io; i++) {
    if (axis_of(a, i) == SARD_ART_NONE) continue;
    const char *name = sd_art_text(a, a->io[i].name);
    if (a->io[i].kind || sd_dtype_bits((sd_dtype)a->io[i].dtype) < 8)
      return cannot(name, " has elements below a byte, or is no tensor");
    if (i >= a->n_in && a->io[i].dtype == SARD_STRING) return cannot(name, " is an output of strings");
  }
  return NULL;
}

bool sd_share_new(const sd_art *a, sd_share *out) {
  *out = (sd_share){.views = sd_calloc(a->n_io, sizeof *out->views)};
  out->in = sd_calloc(a->n_in, sizeof *out->in);
  out->out = sd_calloc(a->n_out, sizeof *out->out);
  return out->views && out->in && out->out;
}

void sd_share_free(sd_share *s) {
  sd_free(s->views), sd_free(s->in), sd_free(s->out);
  *s = (sd_share){0};
}

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

bool sd_batch_size(const sd_art *a, sard_tensor *const *in, int n_in, int64_t *out) {
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

static sard_status *give_input(const sard_session *s, sd_share *d, uint32_t i, sard_tensor *t,
                               int64_t batch) {
  uint32_t axis = axis_of(&s->model->art, i);
  d->in[i] = t;
  if (axis == SARD_ART_NONE) return NULL;
  int64_t each = t->desc.dims[axis] / batch;
  bool whole = view_part(t, axis, d->begin * each, d->count * each, &d->views[i]);
  d->in[i] = &d->views[i];
  if (whole) return NULL;
  sard_tensor_desc desc = d->views[i].desc;
  SD_TRY(sard_tensor_new(s->model->ctx, &desc, &d->in[i]));
  copy_part(t, d->in[i], axis, d->begin * each, true);
  return NULL;
}

// What is written in place; other results are made.
static void give_output(const sd_art *a, sd_share *d, uint32_t i, sard_tensor *t, int64_t batch) {
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

// An even or, by speed, a rounded-down size for each; the rest one by one where it ends first.
void sd_batch_share(int64_t batch, const double *each, sd_share *at, int n) {
  double speed = 0;
  int64_t rest = batch;
  for (int k = 0; k < n; k++) speed += each ? 1 / each[k] : 1;
  for (int k = 0; k < n; k++) {
    at[k].count = each ? (int64_t)((double)batch / each[k] / speed) : batch / n;
    rest -= at[k].count;
  }
  for (; rest > 0; rest--) {
    int first = 0;
    double least = INFINITY, ends;
    for (int k = 0; k < n; k++)
      if ((ends = (double)(at[k].count + 1) * (each ? each[k] : 1)) < least) first = k, least = ends;
    at[first].count++;
  }
  for (int k = 0; k < n; k++) at[k].begin = k ? at[k - 1].begin + at[k - 1].count : 0;
}

sard_status *sd_batch_give(const sard_session *s, sard_tensor *const *in, sard_tensor *const *out,
                           int64_t batch, sd_share *at, int n) {
  const sd_art *a = &s->model->art;
  for (int k = 0; k < n; k++) {
    sd_share *d = &at[k];
    for (uint32_t i = 0; i < a->n_in; i++) SD_TRY(give_input(s, d, i, in[i], batch));
    for (uint32_t i = 0; i < a->n_out; i++) give_output(a, d, i, out[i], batch);
  }
  return NULL;
}

// ---- results ----

// The whole of an output from its parts: into `given`, or a new tensor.
static sard_status *join(const sard_session *s, uint32_t i, sd_share *at, int n, sard_tensor *given,
                         sard_tensor **out) {
  const sd_art *a = &s->model->art;
  uint32_t axis = axis_of(a, a->n_in + i);
  sard_tensor_desc desc = at[0].out[i]->desc;
  char got[TEXT], want[TEXT];
  int64_t begin = 0;
  for (int k = 1; k < n; k++) desc.dims[axis] += at[k].out[i]->desc.dims[axis];
  desc.name = sd_art_text(a, a->io[a->n_in + i].name);
  if (!given) SD_TRY(sard_tensor_new(s->model->ctx, &desc, out));
  sard_tensor *to = given ? given : *out;
  if (to->desc.dtype != desc.dtype || to->desc.rank != desc.rank ||
      memcmp(to->desc.dims, desc.dims, (size_t)desc.rank * sizeof *desc.dims))
    return SD_ERR(USAGE, "output '%s' (%u) is %s, the model gives %s", desc.name, i,
                  sd_tensor_text(to->desc.dtype, to->desc.rank, to->desc.dims, got, sizeof got),
                  sd_tensor_text(desc.dtype, desc.rank, desc.dims, want, sizeof want));
  for (int k = 0; k < n; k++) {
    sard_tensor *part = at[k].out[i];
    copy_part(to, part, axis, begin, false);
    begin += part->desc.dims[axis];
  }
  return NULL;
}

sard_status *sd_batch_join(sard_session *s, sard_tensor *const *out, sd_share *at, int n) {
  const sd_art *a = &s->model->art;
  for (uint32_t i = 0; i < a->n_out; i++) {
    bool cut = axis_of(a, a->n_in + i) != SARD_ART_NONE;
    if (cut && at[0].out[i] != &at[0].views[a->n_in + i]) SD_TRY(join(s, i, at, n, out[i], &s->made[i]));
    if (cut || out[i]) continue;
    s->made[i] = at[0].out[i], at[0].out[i] = NULL;
  }
  return NULL;
}

void sd_batch_clear(const sard_session *s, sard_tensor *const *in, sard_tensor *const *out, sd_share *at,
                    int n) {
  const sd_art *a = &s->model->art;
  for (int k = 0; k < n; k++) {
    sd_share *d = &at[k];
    for (uint32_t i = 0; i < a->n_in; i++) {
      if (d->in[i] != &d->views[i] && d->in[i] != in[i]) sard_tensor_free(d->in[i]);
      d->in[i] = NULL;
    }
    for (uint32_t i = 0; i < a->n_out; i++) {
      if (d->out[i] != &d->views[a->n_in + i] && d->out[i] != out[i]) sard_tensor_free(d->out[i]);
      d->out[i] = NULL;
    }
  }
}
