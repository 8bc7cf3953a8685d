// HOST steps: tensors from the step's lists, and symbols from the sizes of the results.
#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/execute.h"
#include "runtime/host.h"

enum { MAX_TENSORS = 32 };

typedef struct call {
  sard_session *s;
  const sard_art_step *step;
  sd_host_tensor in[MAX_TENSORS], out[MAX_TENSORS];
  uint32_t out_buf[MAX_TENSORS], out_dims[MAX_TENSORS]; // buffer; position of the first dim in the step's list
  uint32_t at, buf; // read so far
  sd_pool *pool;
} call;

static sard_status *next_value(call *c, int64_t *out) {
  const sd_art *a = &c->s->model->art;
  if (c->at >= c->step->n_dim) return SD_ERR(MODEL, "the description of a host function ends early");
  return sd_late_value(c->s, a->lists[c->step->dims + c->at++], out);
}

// dtype and rank of the next tensor, and its buffer.
static sard_status *read_head(call *c, sd_host_tensor *t, uint32_t *buf) {
  int64_t type, rank;
  SD_TRY(next_value(c, &type));
  SD_TRY(next_value(c, &rank));
  if (rank < 0 || rank > SD_HOST_RANK || (type && sd_dtype_bits((sd_dtype)type) == 0))
    return SD_ERR(MODEL, "a tensor of a host function has type %lld and rank %lld", (long long)type, (long long)rank);
  *t = (sd_host_tensor){.dtype = (sd_dtype)type, .rank = (int)rank};
  if (!type) return NULL;
  if (c->buf >= c->step->n_buf) return SD_ERR(MODEL, "a tensor of a host function has no buffer");
  *buf = c->s->model->art.lists[c->step->bufs + c->buf++];
  return NULL;
}

static sard_status *count_bytes(sd_host_tensor *t, uint64_t *bytes) {
  t->count = 1;
  for (int i = 0; i < t->rank; i++)
    if (t->dims[i] < 0 || !sd_ck_mul(t->count, (uint64_t)t->dims[i], &t->count)) return SD_ERR(MODEL, "a tensor of a host function is too large");
  return sd_dtype_bytes(t->dtype, t->count, bytes) ? NULL : SD_ERR(MODEL, "a tensor of a host function is too large");
}

static sard_status *read_input(call *c, sd_host_tensor *t) {
  sard_session *s = c->s;
  uint32_t buf = 0, slot;
  uint64_t bytes;
  SD_TRY(read_head(c, t, &buf));
  for (int i = 0; i < t->rank; i++) SD_TRY(next_value(c, &t->dims[i]));
  if (!t->dtype) return NULL;
  SD_TRY(count_bytes(t, &bytes));
  slot = s->model->art.bufs[buf].bytes;
  if (s->late.slot[slot]) SD_TRY(sd_late_place(s, buf));
  if ((uint64_t)s->dim[slot] < bytes || (bytes && !s->buf[buf])) return SD_ERR(MODEL, "a tensor of a host function has a buffer that is too small");
  t->data = s->buf[buf];
  t->fixed = s->model->art.bufs[buf].kind == SARD_AB_CONST;
  return NULL;
}

// A dim that is a late symbol gets its value; any other must be what the function gives.
static sard_status *give_dim(call *c, uint32_t position, int64_t value) {
  const sd_art *a = &c->s->model->art;
  uint32_t slot = a->lists[c->step->dims + position];
  const sard_art_dim *d = &a->dims[slot];
  int64_t want;
  if (d->op == SARD_AD_SYM && a->syms[d->a].input == SARD_ART_NONE) return sd_late_set(c->s, d->a, value);
  SD_TRY(sd_late_value(c->s, slot, &want));
  return want == value ? NULL : SD_ERR(MODEL, "a dim of the result is %lld, not %lld", (long long)value, (long long)want);
}

static sard_status *make_output(sd_host_call *h, uint32_t i, const int64_t *dims) {
  call *c = h->user;
  sard_session *s = c->s;
  sd_host_tensor *t = &c->out[i];
  uint64_t bytes;
  if (!t->dtype) return NULL;
  for (int d = 0; d < t->rank; d++) {
    t->dims[d] = dims[d];
    SD_TRY(give_dim(c, c->out_dims[i] + (uint32_t)d, dims[d]));
  }
  SD_TRY(count_bytes(t, &bytes));
  uint32_t buf = c->out_buf[i], slot = s->model->art.bufs[buf].bytes;
  if (s->late.slot[slot]) SD_TRY(sd_late_place(s, buf));
  if ((uint64_t)s->dim[slot] < bytes || (bytes && !s->buf[buf])) return SD_ERR(MODEL, "a result has %llu bytes, its buffer %lld", (unsigned long long)bytes, (long long)s->dim[slot]);
  t->data = s->buf[buf];
  return NULL;
}

static sard_status *run(call *c, const sd_host_op *op) {
  int64_t n_in, n_out, param[MAX_TENSORS * SD_HOST_RANK];
  SD_TRY(next_value(c, &n_in));
  SD_TRY(next_value(c, &n_out));
  if (n_in < 0 || n_in > MAX_TENSORS || n_out < 0 || n_out > MAX_TENSORS)
    return SD_ERR(MODEL, "a host function has %lld inputs and %lld outputs", (long long)n_in, (long long)n_out);
  for (int64_t i = 0; i < n_in; i++) SD_TRY(read_input(c, &c->in[i]));
  for (int64_t i = 0; i < n_out; i++) {
    SD_TRY(read_head(c, &c->out[i], &c->out_buf[i]));
    c->out_dims[i] = c->at;
    c->at += (uint32_t)c->out[i].rank;
  }
  if (c->at > c->step->n_dim) return SD_ERR(MODEL, "the description of a host function ends early");
  uint32_t n_param = c->step->n_dim - c->at;
  if (n_param > sizeof param / sizeof *param) return SD_ERR(MODEL, "a host function has %u parameters", n_param);
  for (uint32_t i = 0; i < n_param; i++) SD_TRY(next_value(c, &param[i]));
  sd_host_call h = {(uint32_t)n_in, (uint32_t)n_out, n_param, c->in, c->out, param, make_output, c, c->pool, c->s->values.strings, c->s->values.objects,
                    &c->s->kept[c->step - c->s->model->art.steps], c->s->group};
  sd_late_limit_objects(c->s);
  return sd_host_run(op, &h);
}

sard_status *sd_execute_host(sard_session *s, uint32_t step, bool pooled) {
  const sd_art *a = &s->model->art;
  const sd_host_op *op = sd_host_find(sd_art_text(a, a->steps[step].op));
  call c = {.s = s, .step = &a->steps[step], .pool = pooled ? s->pool : NULL};
  if (!op) return SD_ERR(MODEL, "this runtime has no host function '%s'", sd_art_text(a, a->steps[step].op));
  return run(&c, op);
}
