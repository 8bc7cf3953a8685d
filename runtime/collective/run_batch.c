// A run whose batch is cut into parts, one for each device.
#include "runtime/collective/inside.h"

static void run_share(sd_device *d) {
  const sd_art *a = &d->session->model->art;
  for (uint32_t i = 0; i < a->n_in; i++) d->bytes_in += d->share.in[i]->bytes;
  sd_device_run(d, d->share.in, d->share.out);
  for (uint32_t i = 0; i < a->n_out && !d->st; i++) {
    bool cut = a->batch[1 + a->n_in + i] != SARD_ART_NONE;
    if (cut || d->index == 0) d->bytes_out += d->share.out[i]->bytes;
  }
}

sard_status *sd_run_batch(sard_session *s, sard_tensor *const *in, int n_in, sard_tensor **out, int n_out) {
  const sd_art *a = &s->model->art;
  sd_share at[SD_DEVICES_MOST];
  int64_t batch;
  if (n_out < 0 || (uint32_t)n_out != a->n_out ||
      !sd_batch_size(a, in, n_in, &batch)) // the error, or an empty batch
    return sd_session_go(s->split->at[0].session, in, n_in, out, n_out);
  SD_TRY(sd_session_apart(s, in, out));
  int n = batch < s->split->n ? (int)batch : s->split->n;
  for (int k = 0; k < n; k++) at[k] = s->split->at[k].share;
  sard_status *st = sd_batch_give(s, in, out, batch, at, n);
  for (int k = 0; k < n; k++) s->split->at[k].share = at[k];
  if (!st) {
    sd_split_work(s->split, n, run_share);
    st = sd_split_error(s->split, n);
  }
  if (!st) st = sd_batch_join(s, out, at, n);
  sd_batch_clear(s, in, out, at, n);
  return st;
}
