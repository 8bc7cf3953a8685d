// States that are inputs and outputs of the model, where --keep-io-sizes no lets them lose elements: what is
// left of them.
#include <string.h>

#include "frontend/cli/prune.h"
#include "runtime/base/dtype.h"

static bool loses(const sd_prune *q, const sd_prune_io *io) {
  for (uint32_t i = 0; i < io->parts * io->each; i++)
    if (!q->channels.labels.at[sd_prune_root(&q->channels, io->labels[i])].fixed) return true;
  return false;
}

sard_status *sd_prune_states_check(sd_prune *q) {
  const char *judged = sd_args_get(q->c, "judged");
  for (uint32_t k = 0; k < q->channels.io.len && judged && sd_args_given(q->c, "data"); k++) {
    const sd_prune_io *io = &q->channels.io.at[k];
    if (!io->input && strcmp(io->name, judged) == 0 && loses(q, io))
      return SD_ERR(USAGE,
                    "--judged: '%s' is a state that loses elements, so that nothing can be compared with it",
                    judged);
  }
  return NULL;
}

// ---- inputs of the data ----

// Row of the labels where the axes in front of the state's are at `outer`.
static uint32_t row_of(const sd_prune_io *io, const sard_tensor_desc *d, uint64_t outer) {
  uint64_t at[SARD_MAX_RANK];
  uint32_t row = 0;
  for (int i = io->axis - 1; i >= 0; i--) at[i] = outer % (uint64_t)d->dims[i], outer /= (uint64_t)d->dims[i];
  for (int i = 0; i < io->n_of; i++) row = row * io->sizes[i] + (uint32_t)at[io->of[i]];
  return row;
}

static void cut(const sd_prune *q, const sd_prune_io *io, const sard_tensor_desc *d, const uint8_t *from,
                uint8_t *to) {
  uint64_t inner = sd_dtype_bits((sd_dtype)d->dtype) / 8, outer = 1;
  for (int i = 0; i < d->rank; i++)
    if (i != io->axis) *(i < io->axis ? &outer : &inner) *= (uint64_t)d->dims[i];
  for (uint64_t o = 0; o < outer; o++) {
    const uint32_t *labels = io->labels + (uint64_t)row_of(io, d, o) * io->each;
    for (uint32_t i = 0; i < io->each; i++, from += inner) {
      if (q->channels.labels.at[sd_prune_root(&q->channels, labels[i])].gone) continue;
      memcpy(to, from, inner), to += inner;
    }
  }
}

sard_status *sd_prune_states_fit(const void *by, const sd_judged *m, int input, sard_tensor *from,
                                 sard_tensor **out) {
  const sd_prune *q = by;
  sard_tensor_desc d = {.size = sizeof d}, less;
  SD_TRY(sard_model_io(m->m.model, 0, input, &d));
  for (uint32_t k = 0; k < q->channels.io.len; k++) {
    const sd_prune_io *io = &q->channels.io.at[k];
    if (!io->input || strcmp(io->name, d.name) != 0) continue;
    const void *data = sard_tensor_data(from, &d);
    if (d.rank <= io->axis || d.dims[io->axis] != (int64_t)io->each)
      return SD_ERR(INTERNAL, "'%s' does not fit its labels", io->name);
    less = d, less.dims[io->axis] = sd_prune_io_left(&q->channels, io);
    SD_TRY(sard_tensor_new(q->judge.ctx, &less, out));
    cut(q, io, &d, data, sard_tensor_data(*out, &less));
    return NULL;
  }
  return NULL;
}

// ---- the report ----

// What io's axis becomes; -1: it stays, or is open.
static int64_t resized(const sd_prune *q, const sd_prune_io *io) {
  uint32_t left = sd_prune_io_left(&q->channels, io);
  return io->dim < 0 || left == io->each ? -1 : io->dim / io->each * left;
}

void sd_prune_states_say(sd_prune *q) {
  uint32_t shown = 0;
  if (q->channels.outside)
    sd_cli_say(q->c, "states     those that are inputs and outputs of the model stay, as keys and values of "
                     "earlier steps do (--keep-io-sizes no)\n");
  for (uint32_t k = 0; k < q->channels.io.len && q->packed; k++) {
    const sd_prune_io *io = &q->channels.io.at[k];
    int64_t after = resized(q, io);
    if (after < 0) continue;
    sd_cli_say(q->c, "%s %s '%s', axis %d: %lld to %lld\n", shown++ ? "          " : "states    ",
               io->input ? "input" : "output", io->name, io->axis, (long long)io->dim, (long long)after);
  }
}

void sd_prune_states_json(sd_prune *q, sd_str *s) {
  const char *comma = "";
  if (!sd_pattern_removes(q->pattern.kind)) return;
  sd_str_put(s, ",\"resized\":[");
  for (uint32_t k = 0; k < q->channels.io.len && q->packed; k++) {
    const sd_prune_io *io = &q->channels.io.at[k];
    int64_t after = resized(q, io);
    if (after < 0) continue;
    sd_strf(s, "%s{\"name\":", comma), sd_str_json(s, io->name), comma = ",";
    sd_strf(s, ",\"input\":%s,\"axis\":%d,\"before\":%lld,\"after\":%lld}", io->input ? "true" : "false",
            io->axis, (long long)io->dim, (long long)after);
  }
  sd_str_put(s, "]");
}
