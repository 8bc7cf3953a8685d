// Checks the contents of an artifact before anything of it is used: after this no index can lead outside.
#include <string.h>

#include "runtime/artifact_read.h"
#include "runtime/base/alloc.h"
#include "runtime/base/dtype.h"
#include "runtime/dimcode.h"
#include "runtime/objects.h"

enum { MAX_DEPTH = 64, MAX_LIST = 1 << 14 }; // lists may overlap: without a limit a small file could ask for endless checks

#define BAD(...) SD_ERR(MODEL, "the artifact is damaged: " __VA_ARGS__)

static sard_status *check_text(const sd_art *a, uint32_t offset, const char *what, uint32_t index) {
  if (offset < a->text_size) return NULL; // the section ends with a NUL: see check_text_section
  return BAD("the name of %s %u lies outside of the text section", what, index);
}

static sard_status *check_text_section(const sd_art *a) {
  if (!a->text_size) return BAD("it has no text section");
  if (a->text[0] || a->text[a->text_size - 1]) return BAD("its text section has no end");
  return NULL;
}

static sard_status *check_dims(const sd_art *a) {
  for (uint32_t i = 0; i < a->n_dims; i++) {
    const sard_art_dim *d = &a->dims[i];
    if (d->op > SARD_AD_MAX) return BAD("size %u has unknown operation %u", i, d->op);
    if (d->op == SARD_AD_CONST) continue;
    if (d->op == SARD_AD_SYM) {
      if (d->a >= a->n_syms) return BAD("size %u reads symbol %u of %u", i, d->a, a->n_syms);
    } else if (d->a >= i || d->b >= i) {
      return BAD("size %u reads size %u, which does not stand before it", i, d->a >= i ? d->a : d->b);
    }
  }
  return NULL;
}

static sard_status *check_slot(const sd_art *a, uint32_t slot, const char *what, uint32_t index) {
  return slot < a->n_dims ? NULL : BAD("%s %u uses size %u of %u", what, index, slot, a->n_dims);
}

static sard_status *check_list(const sd_art *a, uint32_t at, uint32_t n, uint32_t limit, const char *what,
                               uint32_t index) {
  if (n > a->n_lists || at > a->n_lists - n)
    return BAD("a list of %s %u lies outside of the list section", what, index);
  if (n > MAX_LIST) return BAD("a list of %s %u has %u entries, the limit is %d", what, index, n, MAX_LIST);
  for (uint32_t i = 0; i < n; i++)
    if (a->lists[at + i] >= limit)
      return BAD("a list of %s %u has entry %u, the limit is %u", what, index, a->lists[at + i], limit);
  return NULL;
}

static sard_status *check_syms(const sd_art *a) {
  for (uint32_t i = 0; i < a->n_syms; i++) {
    const sard_art_sym *s = &a->syms[i];
    SD_TRY(check_text(a, s->name, "symbol", i));
    const char *name = sd_art_text(a, s->name);
    if (s->min > s->max || (s->min < 0 && s->input != SARD_ART_NONE))
      return BAD("symbol '%s' has the range %lld to %lld", name, (long long)s->min, (long long)s->max);
    if (s->input == SARD_ART_NONE) continue; // a step defines it
    if (s->input >= a->n_in) return BAD("symbol '%s' is bound by input %u of %u", name, s->input, a->n_in);
    const sard_art_io *io = &a->io[s->input];
    if (s->axis >= io->rank)
      return BAD("symbol '%s' is bound by axis %u of an input of rank %u", name, s->axis, io->rank);
    const sard_art_dim *d = &a->dims[a->lists[io->dims + s->axis]];
    if (d->op != SARD_AD_SYM || d->a != i) return BAD("symbol '%s' is bound by a dim that is not this symbol", name);
  }
  return NULL;
}

static sard_status *check_io(const sd_art *a, uint32_t i) {
  const sard_art_io *io = &a->io[i];
  bool output = i >= a->n_in;
  const char *what = output ? "output" : "input";
  uint32_t index = output ? i - a->n_in : i;
  SD_TRY(check_text(a, io->name, what, index));
  if (io->rank > SARD_ART_MAXRANK)
    return BAD("%s %u has rank %u, the limit is %d", what, index, io->rank, SARD_ART_MAXRANK);
  if (sd_dtype_bits((sd_dtype)io->dtype) == 0) return BAD("%s %u has unknown element type %u", what, index, io->dtype);
  SD_TRY(check_text(a, io->type, what, index));
  if (io->kind > SD_OBJ_MAP || (io->kind == SD_OBJ_NONE) != (io->dtype != SD_OBJECT) || (io->kind && io->rank) || (io->item && !sd_dtype_of_tensors(io->item)))
    return BAD("%s %u is of unknown kind %u", what, index, io->kind);
  SD_TRY(check_list(a, io->dims, io->rank, a->n_dims, what, index));
  if (io->symbols != SARD_ART_NONE) SD_TRY(check_list(a, io->symbols, io->rank, (uint32_t)a->text_size, what, index));
  if (io->buf == SARD_ART_NONE) // of the model, where buffers are those of parts
    return output && !a->parts ? BAD("output %u has no buffer", index) : NULL;
  if (io->buf >= a->n_bufs) return BAD("%s %u has buffer %u of %u", what, index, io->buf, a->n_bufs);
  const sard_art_buf *b = &a->bufs[io->buf];
  if (b->kind != (output ? SARD_AB_OUTPUT : SARD_AB_INPUT) || b->offset != index)
    return BAD("%s %u has a buffer that belongs to something else", what, index);
  return NULL;
}

static sard_status *check_const(const sd_art *a, uint32_t i, const int64_t *value, const uint8_t *known) {
  const sard_art_buf *b = &a->bufs[i];
  uint64_t end;
  if (!known[b->bytes] || value[b->bytes] < 0) return BAD("constant %u has no constant size", i);
  if (b->offset % 64) return BAD("constant %u is not aligned", i);
  if (!sd_ck_add(b->offset, (uint64_t)value[b->bytes], &end) || !sd_ck_add(end, 64, &end) || end > a->const_size)
    return BAD("constant %u (%lld bytes at %llu) lies outside of the weights", i, (long long)value[b->bytes],
               (unsigned long long)b->offset);
  return NULL;
}

static sard_status *check_buf(const sd_art *a, uint32_t i, const int64_t *value, const uint8_t *known) {
  const sard_art_buf *b = &a->bufs[i];
  SD_TRY(check_slot(a, b->bytes, "buffer", i));
  if (known[b->bytes] && value[b->bytes] < 0) return BAD("buffer %u has %lld bytes", i, (long long)value[b->bytes]);
  uint32_t limit = b->kind == SARD_AB_INPUT ? a->n_in : a->n_out;
  switch (b->kind) {
  case SARD_AB_ARENA:
    if (b->first == SARD_ART_NONE && b->last == SARD_ART_NONE) return NULL; // nothing uses it
    if (b->first > b->last || b->last >= a->n_steps)
      return BAD("buffer %u lives from step %u to %u of %u", i, b->first, b->last, a->n_steps);
    return NULL;
  case SARD_AB_CONST: return check_const(a, i, value, known);
  case SARD_AB_INPUT:
  case SARD_AB_OUTPUT:
    if (b->offset >= limit) return BAD("buffer %u belongs to input or output %llu", i, (unsigned long long)b->offset);
    return NULL;
  default: return BAD("buffer %u is of unknown kind %u", i, b->kind);
  }
}

static sard_status *check_kernel(const sd_art *a, uint32_t i) {
  const sard_art_kernel *k = &a->kernels[i];
  uint64_t end;
  SD_TRY(check_text(a, k->symbol, "kernel", i));
  SD_TRY(check_text(a, k->schedule, "kernel", i));
  if (!sd_ck_add(k->offset, k->size, &end) || end > a->code_size || k->size == 0)
    return BAD("the code of kernel '%s' lies outside of the code section", sd_art_text(a, k->symbol));
  return NULL;
}

// The buffers of a step: in their lifetime, and a copy does not write what is read-only.
static sard_status *check_step_bufs(const sd_art *a, uint32_t i) {
  const sard_art_step *s = &a->steps[i];
  for (uint32_t k = 0; k < s->n_buf; k++) {
    uint32_t index = a->lists[s->bufs + k];
    const sard_art_buf *b = &a->bufs[index];
    if (b->kind == SARD_AB_ARENA && (b->first == SARD_ART_NONE || i < b->first || i > b->last))
      return BAD("step %u uses buffer %u outside of its lifetime (%u to %u)", i, index, b->first, b->last);
    bool readonly = b->kind == SARD_AB_CONST || b->kind == SARD_AB_INPUT;
    if (s->kind == SARD_AS_COPY && k == 1 && readonly) return BAD("step %u copies to read-only buffer %u", i, index);
  }
  return NULL;
}

static sard_status *check_dispatch(const sd_art *a, uint32_t i) {
  const sard_art_step *s = &a->steps[i];
  if (s->kernel >= a->n_kernels) return BAD("step %u runs kernel %u of %u", i, s->kernel, a->n_kernels);
  const sard_art_kernel *k = &a->kernels[s->kernel];
  if (k->n_buf != s->n_buf || k->n_dim != s->n_dim)
    return BAD("step %u gives %u buffers and %u sizes to kernel '%s', which takes %u and %u", i, s->n_buf, s->n_dim,
               sd_art_text(a, k->symbol), k->n_buf, k->n_dim);
  SD_TRY(check_slot(a, s->tiles, "step", i));
  return check_slot(a, s->scratch, "step", i);
}

static bool is_packed(int64_t dtype) {
  int bits = dtype > 0 && dtype < SD_DT_COUNT ? sd_dtype_bits((sd_dtype)dtype) : 0;
  return bits > 0 && bits < 8;
}

// Numbers of buffers, sizes and symbols that each kind of step takes.
static sard_status *check_shape(const sd_art *a, uint32_t i, const int64_t *value, const uint8_t *known) {
  const sard_art_step *s = &a->steps[i];
  bool ok = true;
  switch (s->kind) {
  case SARD_AS_COPY:
    if (s->n_buf != 2) return BAD("copy step %u has %u buffers", i, s->n_buf);
    break;
  case SARD_AS_LOOP:
    ok = s->n_def >= 1 && s->n_def <= 2 && (s->tiles == SARD_ART_NONE ? s->n_buf >= 1 : s->tiles < a->n_dims);
    for (uint32_t k = 1; k < s->n_buf && ok; k++) ok = a->bufs[a->lists[s->bufs + k]].kind != SARD_AB_CONST;
    break;
  case SARD_AS_BRANCH: ok = s->n_buf == 1 && !s->n_def; break;
  case SARD_AS_DEFINE:
    ok = s->n_buf == 1 && s->n_dim == 2 && known[a->lists[s->dims]] && known[a->lists[s->dims + 1]] &&
         sd_dtype_is_int((sd_dtype)value[a->lists[s->dims]]);
    break;
  case SARD_AS_SET: ok = s->n_dim == s->n_def && s->n_def <= 64; break;
  case SARD_AS_APPEND: // to a late buffer: see check_late
    ok = s->n_buf == 2 && (s->n_dim == 0 || (s->n_dim == 2 && known[a->lists[s->dims]] && is_packed(value[a->lists[s->dims]])));
    break;
  case SARD_AS_HOST: break; // its lists are read with checks
  case SARD_AS_CHECK: ok = s->n_dim == 3 && known[a->lists[s->dims + 2]]; break;
  default: return BAD("step %u is of unknown kind %u", i, s->kind);
  }
  return ok ? NULL : BAD("step %u has %u buffers, %u sizes and %u symbols", i, s->n_buf, s->n_dim, s->n_def);
}

static sard_status *check_step(const sd_art *a, uint32_t i, const int64_t *value, const uint8_t *known) {
  const sard_art_step *s = &a->steps[i];
  SD_TRY(check_text(a, s->name, "step", i));
  SD_TRY(check_text(a, s->op, "step", i));
  SD_TRY(check_text(a, s->shapes, "step", i));
  SD_TRY(check_list(a, s->bufs, s->n_buf, a->n_bufs, "step", i));
  SD_TRY(check_list(a, s->writes, s->n_buf, 2, "step", i));
  SD_TRY(check_step_bufs(a, i));
  if (s->flops != SARD_ART_NONE) SD_TRY(check_slot(a, s->flops, "step", i));
  if (s->bytes != SARD_ART_NONE) SD_TRY(check_slot(a, s->bytes, "step", i));
  SD_TRY(check_list(a, s->dims, s->n_dim, a->n_dims, "step", i));
  SD_TRY(check_list(a, s->defs, s->n_def, a->n_syms, "step", i));
  for (uint32_t k = 0; k < s->n_def; k++)
    if (a->syms[a->lists[s->defs + k]].input != SARD_ART_NONE) return BAD("step %u defines a symbol that an input binds", i);
  if (s->kind == SARD_AS_DISPATCH) return check_dispatch(a, i);
  return check_shape(a, i, value, known);
}

// Steps [from, to): the steps inside of loops and branches lie in the range, to a limited depth.
static sard_status *check_range(const sd_art *a, uint32_t from, uint32_t to, int depth) {
  if (depth > MAX_DEPTH) return BAD("its loops are nested more than %d deep", MAX_DEPTH);
  for (uint32_t i = from; i < to;) {
    const sard_art_step *s = &a->steps[i];
    uint32_t rest = to - i - 1;
    bool inner = s->kind == SARD_AS_LOOP || s->kind == SARD_AS_BRANCH;
    if (s->body > rest || s->other > rest - s->body || (!inner && s->body) || (s->kind != SARD_AS_BRANCH && s->other))
      return BAD("step %u contains %u and %u of %u steps", i, s->body, s->other, rest);
    if (inner) SD_TRY(check_range(a, i + 1, i + 1 + s->body, depth + 1));
    if (inner) SD_TRY(check_range(a, i + 1 + s->body, i + 1 + s->body + s->other, depth + 1));
    i += 1 + s->body + s->other;
  }
  return NULL;
}

// The sizes of inputs and constants do not depend on what steps define; what grows by APPEND steps does.
static sard_status *check_late(const sd_art *a) {
  uint8_t *late = sd_calloc(a->n_dims, 1);
  sard_status *st = NULL;
  if (!late) return SD_ERR(NOMEM, "out of memory while checking an artifact of %u sizes", a->n_dims);
  sd_dimcode_late(a, late);
  for (uint32_t i = 0; i < a->n_in && !st; i++)
    for (uint32_t k = 0; k < a->io[i].rank && !st; k++)
      if (late[a->lists[a->io[i].dims + k]]) st = BAD("dim %u of input %u is defined by a step", k, i);
  for (uint32_t i = 0; i < a->n_bufs && !st; i++)
    if (late[a->bufs[i].bytes] && (a->bufs[i].kind == SARD_AB_INPUT || a->bufs[i].kind == SARD_AB_CONST))
      st = BAD("the size of buffer %u is defined by a step", i);
  for (uint32_t i = 0; i < a->n_steps && !st; i++) {
    const sard_art_step *s = &a->steps[i];
    bool listed = s->n_buf <= a->n_lists && s->bufs <= a->n_lists - s->n_buf; // check_step says more about it
    uint32_t first = s->kind == SARD_AS_APPEND || s->kind == SARD_AS_LOOP ? 1 : s->n_buf;
    for (uint32_t k = first; k < s->n_buf && listed && !st; k++)
      if (a->lists[s->bufs + k] >= a->n_bufs || !late[a->bufs[a->lists[s->bufs + k]].bytes])
        st = BAD("step %u appends to a buffer of fixed size", i);
  }
  sd_free(late);
  return st;
}

// ---- CUDA ----
static sard_status *check_cuda(const sd_art *a, uint32_t i) {
  const sard_art_cuda *c = &a->cuda[i];
  if (c->step >= a->n_steps || a->steps[c->step].kind != SARD_AS_DISPATCH)
    return BAD("CUDA launch %u belongs to step %u, which runs no kernel", i, c->step);
  SD_TRY(check_text(a, c->symbol, "CUDA launch", i));
  bool again = i > 0 && a->cuda[i - 1].step == c->step, another = again && a->cuda[i - 1].arch == c->arch;
  if (again && a->cuda[i - 1].arch > c->arch) return BAD("CUDA launch %u is behind one for another architecture", i);
  if ((c->size == SARD_ART_NONE) == another) return BAD("CUDA launch %u is %s of its step", i, another ? "one more" : "the first");
  if (another) SD_TRY(check_slot(a, c->size, "CUDA launch", i));
  if (c->part >= a->n_cuda) return BAD("CUDA launch %u is in part %u", i, c->part);
  SD_TRY(check_list(a, c->dims, c->n_dim, a->n_dims, "CUDA launch", i));
  SD_TRY(check_slot(a, c->blocks, "CUDA launch", i));
  SD_TRY(check_slot(a, c->scratch, "CUDA launch", i));
  if (c->shared > 1u << 20) return BAD("CUDA launch %u has %u bytes of shared memory", i, c->shared);
  return c->threads && c->threads <= 1024 && c->threads % 32 == 0
             ? NULL
             : BAD("CUDA launch %u has blocks of %u threads", i, c->threads);
}

static sard_status *check_operand(const sd_art *a, uint32_t i, const sard_art_operand *o, bool optional, bool written) {
  const sard_art_step *t = &a->steps[a->products[i].step];
  if (o->buf == SARD_ART_NONE ? !optional : o->buf >= t->n_buf) return BAD("product %u has operand %u of %u", i, o->buf, t->n_buf);
  if (written && !a->lists[t->writes + o->buf]) return BAD("product %u writes what its step only reads", i);
  SD_TRY(check_slot(a, o->first, "product", i));
  SD_TRY(check_slot(a, o->step, "product", i));
  return check_slot(a, o->batch, "product", i);
}

static sard_status *check_product(const sd_art *a, uint32_t i) {
  const sard_art_product *p = &a->products[i];
  if (p->step >= a->n_steps || (i > 0 && a->products[i - 1].step >= p->step)) return BAD("product %u is not in the order of steps", i);
  if (a->steps[p->step].kind != SARD_AS_DISPATCH) return BAD("product %u belongs to step %u, which runs no kernel", i, p->step);
  bool known = p->in == SD_F16 || p->in == SD_BF16 || p->in == SD_F32;
  if (!known || (p->out != p->in && p->out != SD_F32)) return BAD("product %u has types %u and %u", i, p->in, p->out);
  if (p->of_bias != p->out && p->of_bias != p->in) return BAD("product %u has a bias of type %u", i, p->of_bias);
  const uint32_t slots[] = {p->m, p->n, p->k, p->batch};
  for (size_t j = 0; j < sizeof slots / sizeof *slots; j++) SD_TRY(check_slot(a, slots[j], "product", i));
  SD_TRY(check_operand(a, i, &p->x, false, false));
  SD_TRY(check_operand(a, i, &p->y, false, false));
  SD_TRY(check_operand(a, i, &p->c, true, false));
  SD_TRY(check_operand(a, i, &p->bias, true, false));
  return check_operand(a, i, &p->result, false, true);
}

static sard_status *check_image(const sd_art *a, uint32_t i) {
  const sard_art_cuda_image *m = &a->cuda_images[i];
  uint64_t end;
  if (m->kind != SARD_ACI_CUBIN && m->kind != SARD_ACI_PTX)
    return BAD("CUDA image %u is of unknown kind %u", i, m->kind);
  if (!sd_ck_add(m->offset, m->size, &end) || end > a->cuda_code_size || m->size == 0)
    return BAD("CUDA image %u lies outside of its section", i);
  if (m->kind == SARD_ACI_PTX && a->cuda_code[end - 1]) return BAD("CUDA image %u is a text without end", i);
  return NULL;
}

static sard_status *check_batch(const sd_art *a) {
  if (!a->batch) return NULL;
  if (a->n_batch != a->n_io + 1) return BAD("it has axes of a batch for %u inputs and outputs of %u", a->n_batch - 1, a->n_io);
  SD_TRY(check_text(a, a->batch[0], "batch", 0));
  for (uint32_t i = 0; i < a->n_io; i++)
    if (a->batch[1 + i] != SARD_ART_NONE && a->batch[1 + i] >= a->io[i].rank)
      return BAD("the batch of input or output %u lies along axis %u of %u", i, a->batch[1 + i], a->io[i].rank);
  return NULL;
}

static sard_status *check_tables(const sd_art *a, int64_t *value, uint8_t *known) {
  SD_TRY(sd_dimcode_static(a, value, known));
  for (uint32_t i = 0; i < a->n_bufs; i++) SD_TRY(check_buf(a, i, value, known));
  for (uint32_t i = 0; i < a->n_io; i++) SD_TRY(check_io(a, i));
  SD_TRY(check_syms(a)); // reads the dims of inputs, so after them
  for (uint32_t i = 0; i < a->n_checks; i++) {
    SD_TRY(check_slot(a, a->checks[i].a, "check", i));
    SD_TRY(check_slot(a, a->checks[i].b, "check", i));
    SD_TRY(check_text(a, a->checks[i].name, "check", i));
  }
  for (uint32_t i = 0; i < a->n_strings; i++) SD_TRY(check_text(a, a->strings[i], "string", i));
  SD_TRY(check_batch(a));
  for (uint32_t i = 0; i < a->n_kernels; i++) SD_TRY(check_kernel(a, i));
  SD_TRY(check_late(a));
  for (uint32_t i = 0; i < a->n_steps; i++) SD_TRY(check_step(a, i, value, known));
  for (uint32_t i = 0; i < a->n_cuda; i++) SD_TRY(check_cuda(a, i));
  for (uint32_t i = 0; i < a->n_cuda_images; i++) SD_TRY(check_image(a, i));
  for (uint32_t i = 0; i < a->n_products; i++) SD_TRY(check_product(a, i));
  return check_range(a, 0, a->n_steps, 0);
}

sard_status *sd_verify_artifact(sd_art *a) {
  a->n_out = a->n_io - a->n_in;
  if (a->parts && (a->n_parts_words < 2 || !a->parts[0] || a->parts[0] > SARD_ART_MAXPARTS)) return BAD("it is in no part, or in more than %d", SARD_ART_MAXPARTS);
  if (a->text_size > UINT32_MAX) return BAD("its text section has %llu bytes", (unsigned long long)a->text_size);
  SD_TRY(check_text_section(a));
  SD_TRY(check_dims(a));
  int64_t *value = sd_calloc(a->n_dims, sizeof *value);
  uint8_t *known = sd_calloc(a->n_dims, 1);
  sard_status *st = value && known ? check_tables(a, value, known)
                                   : SD_ERR(NOMEM, "out of memory while checking an artifact of %u sizes", a->n_dims);
  sd_free(value);
  sd_free(known);
  return st;
}

// ---- parts ----

static bool same_type(const sard_art_io *a, const sard_art_io *b) {
  return a->dtype == b->dtype && a->rank == b->rank && a->kind == b->kind && a->item == b->item;
}

// `to` takes what the wire brings; only parts in front of number `before` have it by then.
static sard_status *check_wire(const sd_art *whole, const sd_art *const *parts, const sard_art_wire *w, uint32_t before,
                               const sard_art_io *to, bool output) {
  if (w->part >= before || w->sizes > 1) return BAD("a wire comes from part %u to part %u", w->part, before);
  if (output && (!w->part || w->sizes)) return BAD("an output of the model is made by no part");
  const sd_art *from = w->part ? parts[w->part - 1] : whole;
  uint32_t n = w->part ? from->n_out : from->n_in;
  if (w->at >= n) return BAD("a wire comes from number %u of %u of part %u", w->at, n, w->part);
  const sard_art_io *io = &from->io[w->part ? from->n_in + w->at : w->at];
  return same_type(io, to) ? NULL : BAD("a wire from part %u to part %u joins different types", w->part, before);
}

// Each output of the model has a source of its own: the part writes it there.
static sard_status *check_sources(const sd_art *whole, const sd_art *const *parts, const sard_art_wire *out) {
  uint64_t base[SARD_ART_MAXPARTS] = {0}, total = 0;
  sard_status *st = NULL;
  for (uint32_t p = 0; p < sd_art_parts(whole); p++) base[p] = total, total += parts[p]->n_out;
  uint8_t *taken = sd_calloc(total, 1);
  if (!taken) return SD_ERR(NOMEM, "out of memory while checking an artifact of %llu outputs", (unsigned long long)total);
  for (uint32_t i = 0; i < whole->n_out && !st; i++)
    if (taken[base[out[i].part - 1] + out[i].at]++) st = BAD("output %u of the model is also another one", i);
  sd_free(taken);
  return st;
}

sard_status *sd_verify_parts(const sd_art *whole, const sd_art *const *parts) {
  uint32_t n = sd_art_parts(whole);
  uint64_t wires = whole->n_out;
  const sard_art_wire *w = sd_art_wires(whole);
  for (uint32_t p = 0; p < n; p++) wires += parts[p]->n_in;
  if (whole->n_parts_words != 2 + 3 * wires) return BAD("it has %u words for %llu wires", whole->n_parts_words, (unsigned long long)wires);
  for (uint32_t p = 0; p < n; p++)
    for (uint32_t i = 0; i < parts[p]->n_in; i++) SD_TRY(check_wire(whole, parts, w++, p + 1, &parts[p]->io[i], false));
  for (uint32_t i = 0; i < whole->n_out; i++) SD_TRY(check_wire(whole, parts, w + i, n + 1, &whole->io[whole->n_in + i], true));
  return check_sources(whole, parts, w);
}
