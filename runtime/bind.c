// Binds tensors to a session: names, types and dims checked, symbols solved, memory planned when dims changed.
#include <stdio.h>
#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/base/dtype.h"
#include "runtime/cuda/session.h"
#include "runtime/dimcode.h"
#include "runtime/session.h"

enum { TEXT = 400, SLACK = 64 };

// "input 'x' (0)", for messages.
static const char *io_text(const sd_art *a, uint32_t i, char *out, size_t size) {
  bool output = i >= a->n_in;
  snprintf(out, size, "%s '%s' (%u)", output ? "output" : "input", sd_art_text(a, a->io[i].name),
           output ? i - a->n_in : i);
  return out;
}

// What the model declares: "f32[N,3,224,224]".
static const char *declared(const sard_session *s, uint32_t i, char *out, size_t size) {
  const sd_art *a = &s->model->art;
  const sard_art_io *io = &a->io[i];
  size_t n = (size_t)snprintf(out, size, "%s[", sd_dtype_name((sd_dtype)io->dtype));
  for (uint32_t k = 0; k < io->rank && n < size; k++) {
    uint32_t slot = a->lists[io->dims + k];
    const char *sym = io->symbols == SARD_ART_NONE ? "" : sd_art_text(a, a->lists[io->symbols + k]);
    const char *comma = k ? "," : "";
    n += (size_t)(s->model->dim_known[slot]
                      ? snprintf(out + n, size - n, "%s%lld", comma, (long long)s->model->dim_value[slot])
                      : snprintf(out + n, size - n, "%s%s", comma, *sym ? sym : "?"));
  }
  if (n < size) snprintf(out + n, size - n, "]");
  return out;
}

static bool fits_type(const sard_art_io *io, const sard_tensor_desc *d) {
  switch (io->kind) {
  case SD_OBJ_NONE: return d->dtype == (int32_t)io->dtype && d->rank == (int32_t)io->rank;
  case SD_OBJ_TENSOR: return d->dtype == (int32_t)io->item;
  case SD_OBJ_SEQUENCE: return d->dtype == SARD_SEQUENCE;
  case SD_OBJ_OPTIONAL: return d->dtype == SARD_OPTIONAL;
  default: return d->dtype == SARD_MAP;
  }
}

// Dtype and rank of a tensor against the model's declaration.
static sard_status *check_type(const sard_session *s, uint32_t i, const sard_tensor *t) {
  const sard_art_io *io = &s->model->art.io[i];
  char what[TEXT], got[TEXT], want[TEXT];
  if (!t) return SD_ERR(USAGE, "%s is NULL", io_text(&s->model->art, i, what, sizeof what));
  if (t->desc.device && !s->cu) return SD_ERR(USAGE, "%s lies on a device, but the model runs on the processor", io_text(&s->model->art, i, what, sizeof what));
  if (fits_type(io, &t->desc)) return NULL;
  return SD_ERR(USAGE, "%s is %s, but the model takes %s", io_text(&s->model->art, i, what, sizeof what),
                sd_tensor_text(t->desc.dtype, t->desc.rank, t->desc.dims, got, sizeof got),
                io->kind ? sd_art_text(&s->model->art, io->type) : declared(s, i, want, sizeof want));
}

static sard_status *bind_symbols(sard_session *s, sard_tensor *const *in) {
  const sd_art *a = &s->model->art;
  for (uint32_t i = 0; i < a->n_syms; i++) {
    const sard_art_sym *y = &a->syms[i];
    s->new_sym[i] = 0;
    if (y->input == SARD_ART_NONE) continue; // a step defines it
    int64_t v = in[y->input]->desc.dims[y->axis];
    char what[TEXT];
    if (v < y->min || v > y->max)
      return SD_ERR(USAGE, "%s: dim %u ('%s') is %lld, the model takes %lld to %lld",
                    io_text(a, y->input, what, sizeof what), y->axis, sd_art_text(a, y->name), (long long)v,
                    (long long)y->min, (long long)y->max);
    s->new_sym[i] = v;
  }
  return NULL;
}

// The dims of a tensor against the values of their slots.
static sard_status *check_dims(const sard_session *s, uint32_t i, const sard_tensor *t) {
  const sd_art *a = &s->model->art;
  const sard_art_io *io = &a->io[i];
  for (uint32_t k = 0; k < io->rank; k++) {
    uint32_t slot = a->lists[io->dims + k];
    int64_t have = t->desc.dims[k], want = s->dim[slot];
    char what[TEXT], got[TEXT], model[TEXT];
    if (have == want) continue;
    io_text(a, i, what, sizeof what);
    sd_tensor_text(t->desc.dtype, t->desc.rank, t->desc.dims, got, sizeof got);
    declared(s, i, model, sizeof model);
    if (s->model->dim_known[slot])
      return SD_ERR(USAGE, "%s is %s, but the model takes %s: dim %u is %lld, not %lld", what, got, model, k,
                    (long long)have, (long long)want);
    sard_status *st = SD_ERR(USAGE,
                             "%s is %s, but with the other inputs given its dim %u must be %lld, not %lld (the model has %s)",
                             what, got, k, (long long)want, (long long)have, model);
    return sd_status_field(st, SARD_TEXT_HINT, "%s", "where a model's names of dims are wrong, compile it with --free-dims (option free-dims=1)");
  }
  return NULL;
}

// ---- sizes and memory ----

static sard_status *check_sizes(sard_session *s) {
  const sd_art *a = &s->model->art;
  for (uint32_t i = 0; i < a->n_bufs; i++)
    if (s->dim[a->bufs[i].bytes] < 0) // late ones are 0 until they are known
      return SD_ERR(USAGE, "with these inputs buffer %u would have %lld bytes", i, (long long)s->dim[a->bufs[i].bytes]);
  s->scratch_need = 0;
  for (uint32_t i = 0; i < a->n_steps; i++) {
    const sard_art_step *t = &a->steps[i];
    const char *name = sd_art_text(a, t->name);
    if (t->kind == SARD_AS_COPY && !s->late.step[i]) {
      int64_t from = s->dim[a->bufs[a->lists[t->bufs]].bytes], to = s->dim[a->bufs[a->lists[t->bufs + 1]].bytes];
      if (from != to)
        return SD_ERR(MODEL, "node '%s' copies %lld bytes into a buffer of %lld", name, (long long)from, (long long)to);
      continue;
    }
    if (t->kind != SARD_AS_DISPATCH) continue;
    int64_t tiles = s->dim[t->tiles], scratch = s->dim[t->scratch];
    if (tiles < 0 || tiles > UINT32_MAX || scratch < 0 || scratch > INT64_MAX / 4096)
      return SD_ERR(USAGE, "with these inputs node '%s' would have %lld tiles and %lld bytes of scratch", name,
                    (long long)tiles, (long long)scratch);
    if ((uint64_t)scratch > s->scratch_need) s->scratch_need = (uint64_t)scratch;
  }
  if (s->scratch_need) s->scratch_need = sd_align_up(s->scratch_need, 64) + SLACK;
  return NULL;
}

static sard_status *plan(sard_session *s) {
  const sd_art *a = &s->model->art;
  uint32_t n = 0;
  for (uint32_t i = 0; i < a->n_bufs; i++) {
    const sard_art_buf *b = &a->bufs[i];
    if (b->kind != SARD_AB_ARENA || b->first == SARD_ART_NONE || s->late.slot[b->bytes]) continue;
    uint64_t bytes = sd_align_up((uint64_t)s->dim[b->bytes], 64) + SLACK;
    s->items[n++] = (sd_plan_item){bytes, b->first, b->last, i, 0};
  }
  if (!sd_plan_place(s->items, n, s->work, &s->arena_need))
    return SD_ERR(NOMEM, "these inputs need more activation memory than this machine can address");
  for (uint32_t i = 0; i < n; i++) s->offset[s->items[i].id] = s->items[i].offset;
  s->plans++;
  return NULL;
}

static sard_status *get_memory(sard_session *s) {
  uint64_t need, scratch;
  bool ok = sd_ck_mul(s->scratch_need, (uint64_t)s->workers, &scratch) && sd_ck_add(s->arena_need, scratch, &need);
  if (ok && s->memory_limit && need > s->memory_limit)
    return SD_ERR(NOMEM, "these inputs need %llu bytes of activation memory, the memory-limit is %llu",
                  (unsigned long long)need, (unsigned long long)s->memory_limit);
  if (ok && need <= s->memory_size) return NULL;
  sd_free_aligned(s->memory); // nothing in it is needed any more: old and new are never held together
  s->memory = NULL;
  s->memory_size = 0;
  s->memory = ok ? sd_alloc_aligned(need) : NULL;
  if (!s->memory)
    return SD_ERR(NOMEM, "out of memory: %llu bytes of activations (%llu for buffers, %llu for scratch)",
                  (unsigned long long)(ok ? need : UINT64_MAX), (unsigned long long)s->arena_need,
                  (unsigned long long)(ok ? scratch : UINT64_MAX));
  s->memory_size = need;
  return NULL;
}

static void fill_step_dims(sard_session *s) {
  const sd_art *a = &s->model->art;
  int64_t *to = s->step_dim;
  for (uint32_t i = 0; i < a->n_steps; i++) {
    const sard_art_step *t = &a->steps[i];
    for (uint32_t k = 0; t->kind == SARD_AS_DISPATCH && k < t->n_dim; k++) *to++ = s->dim[a->lists[t->dims + k]];
  }
}

// What the compiler could not prove about sizes: without this a kernel could read outside of its buffers.
static sard_status *check_requirements(const sard_session *s) {
  const sd_art *a = &s->model->art;
  for (uint32_t i = 0; i < a->n_checks; i++) {
    const sard_art_check *c = &a->checks[i];
    int64_t x = s->dim[c->a], y = s->dim[c->b];
    if (s->late.slot[c->a] || s->late.slot[c->b]) continue; // sd_late_set checks it
    if (x == y || (c->broadcast && (x == 1 || y == 1))) continue;
    return SD_ERR(USAGE, "the shapes of the inputs do not fit together: node '%s' gets sizes %lld and %lld, which must %s",
                  sd_art_text(a, c->name), (long long)x, (long long)y, c->broadcast ? "be equal or 1" : "be equal");
  }
  return NULL;
}

// Everything that follows from the symbol values.
static sard_status *resize(sard_session *s) {
  const sd_art *a = &s->model->art;
  s->sized = false;
  if (a->n_syms) memcpy(s->sym, s->new_sym, a->n_syms * sizeof *s->sym);
  SD_TRY(sd_dimcode_eval(a, s->sym, s->late.slot, s->dim));
  SD_TRY(check_requirements(s));
  SD_TRY(check_sizes(s));
  SD_TRY(plan(s));
  fill_step_dims(s);
  s->sized = true;
  return NULL;
}

// Strings and objects are worked on as numbers, in memory of the session.
static sard_status *take_input(sard_session *s, uint32_t i, const sard_tensor *t) {
  const sard_art_io *io = &s->model->art.io[i];
  uint64_t size = io->kind ? sizeof(uint64_t) : t->bytes;
  sd_free_aligned(s->taken[i]);
  s->taken[i] = sd_alloc_aligned(size + SLACK);
  if (!s->taken[i]) return SD_ERR(NOMEM, "out of memory for %llu bytes", (unsigned long long)size);
  if (io->kind) return sd_values_take(&s->values, t, (sd_dtype)io->item, s->taken[i]);
  return sd_values_take_strings(&s->values, t, t->bytes / sizeof(uint64_t), s->taken[i]);
}

sard_status *sd_bind_inputs(sard_session *s, sard_tensor *const *in, int n_in) {
  const sd_art *a = &s->model->art;
  if (n_in < 0 || (uint32_t)n_in != a->n_in)
    return SD_ERR(USAGE, "%d inputs are given, the model has %u", n_in, a->n_in);
  for (uint32_t i = 0; i < a->n_in; i++) SD_TRY(check_type(s, i, in[i]));
  SD_TRY(bind_symbols(s, in));
  bool same = s->sized;
  for (uint32_t i = 0; i < a->n_syms && same; i++) same = a->syms[i].input == SARD_ART_NONE || s->sym[i] == s->new_sym[i];
  if (!same) SD_TRY(resize(s));
  for (uint32_t i = 0; i < a->n_in; i++) {
    SD_TRY(check_dims(s, i, in[i]));
    uint32_t b = a->io[i].buf;
    if (b == SARD_ART_NONE) continue;
    char what[TEXT];
    if (a->io[i].kind || a->io[i].dtype == SD_STRING) {
      SD_TRY_MSG(take_input(s, i, in[i]), "%s", io_text(a, i, what, sizeof what));
      s->buf[b] = s->taken[i];
      continue;
    }
    if (s->dim[a->bufs[b].bytes] != (int64_t)in[i]->bytes)
      return SD_ERR(MODEL, "%s has %llu bytes, the model reads %lld", io_text(a, i, what, sizeof what),
                    (unsigned long long)in[i]->bytes, (long long)s->dim[a->bufs[b].bytes]);
    s->buf[b] = in[i]->data;
  }
  SD_TRY(get_memory(s));
  if (!s->cu) return NULL;
  SD_TRY(sd_cu_place(s));
  return sd_cu_bind_inputs(s, in);
}

// ---- outputs ----

// The shape of output i is known during the run only.
static bool output_is_late(const sard_session *s, uint32_t i) {
  const sd_art *a = &s->model->art;
  const sard_art_io *io = &a->io[a->n_in + i];
  bool late = s->late.slot[a->bufs[io->buf].bytes];
  for (uint32_t k = 0; k < io->rank; k++) late |= s->late.slot[a->lists[io->dims + k]];
  return late;
}

// The tensor kept for output i, where it is one like that.
static bool take_spare(sard_session *s, uint32_t i, const sard_tensor_desc *d) {
  sard_tensor *t = s->spare ? s->spare[i] : NULL;
  if (!t || d->dtype == SARD_STRING || t->desc.dtype != d->dtype || t->desc.rank != d->rank ||
      t->desc.device != d->device || memcmp(t->desc.dims, d->dims, (size_t)d->rank * sizeof *d->dims))
    return false;
  s->made[i] = t, s->spare[i] = NULL;
  return true;
}

// For an object: a number, which sd_bind_finish replaces by the value.
static sard_status *make_output(sard_session *s, uint32_t i) {
  const sd_art *a = &s->model->art;
  const sard_art_io *io = &a->io[a->n_in + i];
  sard_tensor_desc d = {.size = sizeof d, .dtype = io->kind ? SARD_U64 : (int32_t)io->dtype, .rank = (int32_t)io->rank};
  for (uint32_t k = 0; k < io->rank; k++) d.dims[k] = s->dim[a->lists[io->dims + k]];
  d.name = sd_art_text(a, io->name);
  if (s->stay && s->stay[i] && !output_is_late(s, i)) d.device = SARD_CUDA, d.device_id = s->cu->device->ordinal;
  if (!io->kind && take_spare(s, i, &d)) return NULL;
  return sard_tensor_new(s->model->ctx, &d, &s->made[i]);
}

sard_status *sd_bind_output(sard_session *s, uint32_t i, sard_tensor *given) {
  const sd_art *a = &s->model->art;
  uint32_t at = a->n_in + i, b = a->io[at].buf;
  char what[TEXT];
  io_text(a, at, what, sizeof what);
  if (given && a->io[at].kind) return SD_ERR(USAGE, "%s is no plain tensor: leave its place NULL", what);
  if (given && a->io[at].dtype == SD_STRING && !given->owned) return SD_ERR(USAGE, "%s has strings: give a tensor that owns its memory, or NULL", what);
  if (given && given->desc.device && output_is_late(s, i))
    return SD_ERR(UNSUPPORTED, "%s has a shape that the run decides: give a tensor of the host, or NULL", what);
  if (output_is_late(s, i)) {
    if (!s->late.slot[a->bufs[b].bytes] && s->dim[a->bufs[b].bytes]) // sizes that follow from data, their product does not
      return SD_ERR(UNSUPPORTED, "%s has %lld bytes whatever its shape is", what, (long long)s->dim[a->bufs[b].bytes]);
    s->late.target[b] = a->io[at].kind ? NULL : given;
    return given ? check_type(s, at, given) : NULL;
  }
  if (given) {
    SD_TRY(check_type(s, at, given));
    SD_TRY(check_dims(s, at, given));
  } else {
    SD_TRY_MSG(make_output(s, i), "%s", what);
    given = s->made[i];
  }
  if (s->dim[a->bufs[b].bytes] != (int64_t)given->bytes)
    return SD_ERR(MODEL, "%s has %llu bytes, the model writes %lld", what, (unsigned long long)given->bytes,
                  (long long)s->dim[a->bufs[b].bytes]);
  s->buf[b] = given->data;
  return given->desc.device ? sd_cu_bind(s, b, given) : NULL;
}

sard_status *sd_bind_late_output(sard_session *s, uint32_t i, sard_tensor *given) {
  const sd_art *a = &s->model->art;
  const sard_art_io *io = &a->io[a->n_in + i];
  int64_t bytes, dim;
  char what[TEXT];
  if (!output_is_late(s, i)) return NULL;
  io_text(a, a->n_in + i, what, sizeof what);
  for (uint32_t k = 0; k < io->rank; k++) SD_TRY_MSG(sd_late_value(s, a->lists[io->dims + k], &dim), "%s", what);
  SD_TRY_MSG(sd_late_value(s, a->bufs[io->buf].bytes, &bytes), "%s", what);
  if (given) {
    SD_TRY(check_dims(s, a->n_in + i, given));
  } else {
    SD_TRY_MSG(make_output(s, i), "%s", what);
    given = s->made[i];
  }
  const sd_block *from = &s->late.block[io->buf];
  if (bytes != (int64_t)given->bytes || from->size < given->bytes)
    return SD_ERR(MODEL, "%s has %llu bytes, the model wrote %llu", what, (unsigned long long)given->bytes,
                  (unsigned long long)from->size);
  if (bytes && from->p != given->data) memcpy(given->data, from->p, given->bytes);
  return NULL;
}

static sard_status *finish_value(sard_session *s, uint32_t i) {
  const sd_art *a = &s->model->art;
  const sard_art_io *io = &a->io[a->n_in + i];
  sard_tensor *number = s->made[i], *value = NULL;
  char what[TEXT];
  SD_TRY_MSG(sd_values_give(&s->values, s->model->ctx, *(const uint64_t *)number->data, (sd_object_kind)io->kind, &value), "%s",
             io_text(a, a->n_in + i, what, sizeof what));
  sd_free(value->name);
  value->name = number->name, number->name = NULL;
  value->desc.name = value->name ? value->name : "";
  sard_tensor_free(number);
  s->made[i] = value;
  return NULL;
}

sard_status *sd_bind_finish(sard_session *s, sard_tensor *const *given, bool failed) {
  const sd_art *a = &s->model->art;
  sard_status *st = NULL;
  for (uint32_t i = 0; i < a->n_out; i++) {
    const sard_art_io *io = &a->io[a->n_in + i];
    sard_tensor *t = s->made[i] ? s->made[i] : given[i];
    if (!t) continue;
    if (io->dtype == SD_STRING && t->desc.dtype == SARD_STRING && t->owned) {
      if (failed || st) sd_values_clear_strings(t);
      else st = sd_values_give_strings(&s->values, t);
    }
    if (io->kind && !failed && !st) st = finish_value(s, i);
  }
  return st;
}
