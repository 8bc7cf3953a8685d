// A run whose batch is cut into parts, one for each device, or for those that are fast enough to have one.
#include "runtime/collective/inside.h"

static void run_share(sd_device *d) {
  const sd_art *a = &d->session->model->art;
  if (!d->share.count) return;
  for (uint32_t i = 0; i < a->n_in; i++) d->bytes_in += d->share.in[i]->bytes;
  sd_device_run(d, d->share.in, d->share.out);
  for (uint32_t i = 0; i < a->n_out && !d->st; i++) {
    bool cut = a->batch[1 + a->n_in + i] != SARD_ART_NONE;
    if (cut || d->share.begin == 0) d->bytes_out += d->share.out[i]->bytes;
  }
}

// How long devices take for an element, as the compiler predicted it where they are of both kinds; false: no one knows.
static bool find_times(const sard_session *s, double *each) {
  const sd_art *a = &s->model->art;
  double speed = 0;
  for (uint32_t i = 0; i < a->n_ways; i++)
    if (a->ways[i].how == SD_SPLIT_BATCH) speed = a->ways[i].speed / 256.0;
  for (int k = 0; k < s->split->n; k++) each[k] = s->split->at[k].session->cu ? 1 / speed : 1;
  return speed > 0;
}

// The parts of those devices that have one, and which these are.
static int choose_shares(const sard_session *s, int64_t batch, int *used, sd_share *at) {
  double each[SD_DEVICES_MOST];
  int n = 0;
  bool known = find_times(s, each);
  for (int k = 0; k < s->split->n; k++) at[k] = s->split->at[k].share;
  sd_batch_share(batch, known ? each : NULL, at, s->split->n);
  for (int k = 0; k < s->split->n; k++) {
    s->split->at[k].share.count = at[k].count;
    if (at[k].count) used[n] = k, at[n++] = at[k];
  }
  return n;
}

sard_status *sd_run_batch(sard_session *s, sard_tensor *const *in, int n_in, sard_tensor **out, int n_out) {
  const sd_art *a = &s->model->art;
  sd_share at[SD_DEVICES_MOST];
  int used[SD_DEVICES_MOST];
  int64_t batch;
  if (n_out < 0 || (uint32_t)n_out != a->n_out ||
      !sd_batch_size(a, in, n_in, &batch)) // the error, or an empty batch
    return sd_session_go(s->split->at[0].session, in, n_in, out, n_out);
  SD_TRY(sd_session_apart(s, in, out));
  int n = choose_shares(s, batch, used, at);
  sard_status *st = sd_batch_give(s, in, out, batch, at, n);
  for (int k = 0; k < n; k++) s->split->at[used[k]].share = at[k];
  if (!st) {
    sd_split_work(s->split, s->split->n, run_share);
    st = sd_split_error(s->split, s->split->n);
  }
  if (!st) st = sd_batch_join(s, out, at, n);
  sd_batch_clear(s, in, out, at, n);
  return st;
}
