// Symbols that get their values during a run: dependent sizes, and memory for buffers that follow from them.
#include "runtime/late.h"

#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/dimcode.h"
#include "runtime/session.h"

enum { SLACK = 64, MAX_WORK = 1 << 28 };

// ---- tables ----

typedef struct spread { const sd_art *a; uint8_t *mark; } spread;

// Marks the slots that depend on a symbol.
static void mark_slots(const spread *x, uint32_t symbol) {
  for (uint32_t i = 0; i < x->a->n_dims; i++) {
    const sard_art_dim *d = &x->a->dims[i];
    x->mark[i] = d->op == SARD_AD_SYM ? d->a == symbol : d->op != SARD_AD_CONST && (x->mark[d->a] || x->mark[d->b]);
  }
}

static uint64_t count_marks(const spread *x, uint64_t *checks) {
  uint64_t n = 0;
  for (uint32_t i = 0; i < x->a->n_dims; i++) n += x->mark[i];
  for (uint32_t i = 0; i < x->a->n_checks; i++) *checks += x->mark[x->a->checks[i].a] || x->mark[x->a->checks[i].b];
  return n;
}

static bool late_symbol(const sd_art *a, uint32_t i) { return a->syms[i].input == SARD_ART_NONE; }

static bool make_lists(sd_late *l, const spread *x) {
  const sd_art *a = x->a;
  uint64_t slots = 0, checks = 0;
  for (uint32_t i = 0; i < a->n_syms; i++) {
    if (!late_symbol(a, i)) continue;
    mark_slots(x, i);
    slots += count_marks(x, &checks);
  }
  if (slots > UINT32_MAX || checks > UINT32_MAX) return false;
  l->slots = sd_calloc(slots, sizeof *l->slots);
  l->checks = sd_calloc(checks, sizeof *l->checks);
  if (!l->slots || !l->checks) return false;
  uint32_t ns = 0, nc = 0;
  for (uint32_t i = 0; i < a->n_syms; i++) {
    l->slot_first[i] = ns, l->check_first[i] = nc;
    if (!late_symbol(a, i)) continue;
    mark_slots(x, i);
    for (uint32_t d = 0; d < a->n_dims; d++)
      if (x->mark[d]) l->slots[ns++] = d;
    for (uint32_t c = 0; c < a->n_checks; c++)
      if (x->mark[a->checks[c].a] || x->mark[a->checks[c].b]) l->checks[nc++] = c;
  }
  l->slot_first[a->n_syms] = ns, l->check_first[a->n_syms] = nc;
  return true;
}

static bool step_is_late(const sd_art *a, const sd_late *l, uint32_t i) {
  const sard_art_step *t = &a->steps[i];
  bool late = false;
  for (uint32_t k = 0; k < t->n_buf; k++) late |= l->slot[a->bufs[a->lists[t->bufs + k]].bytes];
  for (uint32_t k = 0; k < t->n_dim; k++) late |= l->slot[a->lists[t->dims + k]];
  if (t->kind == SARD_AS_DISPATCH) late |= l->slot[t->tiles] || l->slot[t->scratch];
  return late;
}

// Steps that give values: a symbol of a host function's dims is given by the first one that has it, unless SET or loops do.
static void find_givers(const sd_art *a, uint32_t *giver) {
  for (uint32_t i = 0; i < a->n_syms; i++) giver[i] = SARD_ART_NONE;
  for (uint32_t i = a->n_steps; i-- > 0;) {
    const sard_art_step *t = &a->steps[i];
    for (uint32_t k = 0; t->kind == SARD_AS_HOST && k < t->n_dim; k++) {
      const sard_art_dim *d = &a->dims[a->lists[t->dims + k]];
      if (d->op == SARD_AD_SYM && late_symbol(a, d->a)) giver[d->a] = i;
    }
  }
  for (uint32_t i = a->n_steps; i-- > 0;)
    for (uint32_t k = 0; k < a->steps[i].n_def; k++) giver[a->lists[a->steps[i].defs + k]] = a->steps[i].kind == SARD_AS_DEFINE ? i : SARD_ART_NONE;
}

static sard_status *no_memory(void) { return SD_ERR(NOMEM, "out of memory while making a session"); }

sard_status *sd_late_init(sard_session *s) {
  const sd_art *a = &s->model->art;
  sd_late *l = &s->late;
  l->slot = sd_calloc(a->n_dims, 1);
  l->step = sd_calloc(a->n_steps, 1);
  l->known = sd_calloc(a->n_dims, 1);
  l->given = sd_calloc(a->n_syms, 1);
  l->giver = sd_calloc(a->n_syms, sizeof *l->giver);
  l->slot_first = sd_calloc((size_t)a->n_syms + 1, sizeof *l->slot_first);
  l->check_first = sd_calloc((size_t)a->n_syms + 1, sizeof *l->check_first);
  l->bufs = sd_calloc(a->n_bufs, sizeof *l->bufs);
  l->block = sd_calloc(a->n_bufs, sizeof *l->block);
  l->free = sd_calloc(a->n_bufs, sizeof *l->free);
  l->target = sd_calloc(a->n_bufs, sizeof *l->target);
  if (!l->slot || !l->step || !l->known || !l->given || !l->giver || !l->slot_first || !l->check_first ||
      !l->bufs || !l->block || !l->free || !l->target)
    return no_memory();
  uint64_t symbols = 0;
  for (uint32_t i = 0; i < a->n_syms; i++) symbols += late_symbol(a, i);
  if (symbols * ((uint64_t)a->n_dims + a->n_checks) > MAX_WORK)
    return SD_ERR(MODEL, "the artifact defines %llu symbols in its steps, which is too many", (unsigned long long)symbols);
  sd_dimcode_late(a, l->slot);
  for (uint32_t i = 0; i < a->n_dims; i++) l->known[i] = !l->slot[i];
  for (uint32_t i = 0; i < a->n_steps; i++) l->step[i] = step_is_late(a, l, i);
  for (uint32_t i = 0; i < a->n_bufs; i++)
    if (l->slot[a->bufs[i].bytes]) l->bufs[l->n_bufs++] = i;
  find_givers(a, l->giver);
  spread x = {a, sd_calloc(a->n_dims, 1)};
  bool ok = x.mark && make_lists(l, &x);
  sd_free(x.mark);
  return ok ? NULL : no_memory();
}

void sd_late_free(sard_session *s) {
  sd_late *l = &s->late;
  sd_late_reset(s);
  void *tables[] = {l->slot,        l->step,   l->known, l->given, l->giver, l->slot_first, l->slots,
                    l->check_first, l->checks, l->bufs,  l->block, l->free,  l->target};
  for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) sd_free(tables[i]);
}

// ---- values ----

void sd_late_begin(sard_session *s) {
  const sd_art *a = &s->model->art;
  sd_late *l = &s->late;
  if (!l->slot_first[a->n_syms] && !l->n_bufs) return;
  memset(l->given, 0, a->n_syms);
  for (uint32_t i = 0; i < a->n_dims; i++) l->known[i] = !l->slot[i];
  sd_late_release(s, 0, 0, SARD_ART_NONE);
}

static sard_status *check_late(const sard_session *s, uint32_t symbol) {
  const sd_art *a = &s->model->art;
  const sd_late *l = &s->late;
  for (uint32_t i = l->check_first[symbol]; i < l->check_first[symbol + 1]; i++) {
    const sard_art_check *c = &a->checks[l->checks[i]];
    int64_t x = s->dim[c->a], y = s->dim[c->b];
    if (!l->known[c->a] || !l->known[c->b] || x == y || (c->broadcast && (x == 1 || y == 1))) continue;
    return SD_ERR(MODEL, "the shapes of the data do not fit together: node '%s' gets sizes %lld and %lld, which must %s",
                  sd_art_text(a, c->name), (long long)x, (long long)y, c->broadcast ? "be equal or 1" : "be equal");
  }
  return NULL;
}

sard_status *sd_late_set(sard_session *s, uint32_t symbol, int64_t value) {
  const sd_art *a = &s->model->art;
  sd_late *l = &s->late;
  const sard_art_sym *y = &a->syms[symbol];
  if (value < y->min || value > y->max)
    return SD_ERR(MODEL, "the size '%s' that the data gives is %lld, it must be %lld to %lld", sd_art_text(a, y->name),
                  (long long)value, (long long)y->min, (long long)y->max);
  s->sym[symbol] = value;
  l->given[symbol] = 1;
  for (uint32_t i = l->slot_first[symbol]; i < l->slot_first[symbol + 1]; i++) {
    uint32_t slot = l->slots[i];
    const sard_art_dim *d = &a->dims[slot];
    l->known[slot] = d->op == SARD_AD_SYM || (l->known[d->a] && l->known[d->b]);
    if (l->known[slot] && !sd_dimcode_slot(a, slot, s->sym, s->dim))
      return SD_ERR(MODEL, "a size that follows from '%s' = %lld overflows", sd_art_text(a, y->name), (long long)value);
  }
  return check_late(s, symbol);
}

void sd_late_forget(sard_session *s, uint32_t symbol) {
  sd_late *l = &s->late;
  l->given[symbol] = 0;
  for (uint32_t i = l->slot_first[symbol]; i < l->slot_first[symbol + 1]; i++) l->known[l->slots[i]] = 0;
}

void sd_late_forget_steps(sard_session *s, uint32_t from, uint32_t to) {
  const sd_late *l = &s->late;
  for (uint32_t i = 0; i < s->model->art.n_syms; i++)
    if (l->giver[i] >= from && l->giver[i] < to) sd_late_forget(s, i);
}

sard_status *sd_late_value(const sard_session *s, uint32_t slot, int64_t *out) {
  if (!s->late.known[slot]) return SD_ERR(MODEL, "a size is used before a step gives it a value");
  *out = s->dim[slot];
  return NULL;
}

// ---- memory ----

uint64_t sd_late_room(const sard_session *s, uint32_t buf) {
  uint32_t slot = s->model->art.bufs[buf].bytes;
  return s->late.slot[slot] ? s->late.block[buf].size : (uint64_t)s->dim[slot];
}

static void drop_free(sd_late *l) {
  for (; l->n_free; l->n_free--) {
    l->bytes -= l->free[l->n_free - 1].size;
    sd_free_aligned(l->free[l->n_free - 1].p);
  }
}

void sd_late_reset(sard_session *s) {
  sd_late *l = &s->late;
  if (!l->block || !l->free) return;
  sd_late_release(s, 0, 0, SARD_ART_NONE);
  drop_free(l);
  sd_free_aligned(l->scratch);
  l->scratch = NULL;
  l->scratch_size = 0;
}

// Gives the block of a buffer to those that wait. Their list has room for one of each buffer: what is more goes.
static void give_back(const sard_session *s, sd_late *l, uint32_t buf) {
  sd_block *b = &l->block[buf];
  if (b->lent) b->p = NULL; // the caller's
  if (b->p && l->n_free < s->model->art.n_bufs) {
    l->free[l->n_free++] = *b;
  } else if (b->p) {
    l->bytes -= b->size;
    sd_free_aligned(b->p);
  }
  *b = (sd_block){0};
}

void sd_late_release(sard_session *s, uint32_t scope, uint32_t from, uint32_t to) {
  sd_late *l = &s->late;
  for (uint32_t i = 0; i < l->n_bufs; i++) {
    const sard_art_buf *b = &s->model->art.bufs[l->bufs[i]];
    bool ends = b->kind == SARD_AB_ARENA && b->first != SARD_ART_NONE && b->last >= from && b->last <= to && b->first >= scope;
    if (ends || to == SARD_ART_NONE) give_back(s, l, l->bufs[i]);
  }
}

static uint64_t buffer_bytes(const sard_session *s) { return s->memory_size + s->late.bytes + s->late.scratch_size; }

// Blocks that wait for a buffer go where objects would have less than they take.
void sd_late_limit_objects(sard_session *s) {
  uint64_t waiting = 0, limit = s->memory_limit, held = buffer_bytes(s);
  if (!limit) return;
  for (uint32_t i = 0; i < s->late.n_free; i++) waiting += s->late.free[i].size;
  if (held > limit || limit - held < sd_objects_bytes(s->values.objects) + waiting) {
    drop_free(&s->late);
    held = buffer_bytes(s);
  }
  sd_objects_limit(s->values.objects, held < limit ? limit - held : 1);
}

static sard_status *over_limit(const sard_session *s, uint64_t size) {
  uint64_t held = buffer_bytes(s) + sd_objects_bytes(s->values.objects);
  if (!s->memory_limit || (held <= s->memory_limit && size <= s->memory_limit - held)) return NULL;
  return SD_ERR(NOMEM, "the data needs %llu bytes of activation memory beyond %llu, the memory-limit is %llu",
                (unsigned long long)size, (unsigned long long)held, (unsigned long long)s->memory_limit);
}

// A block of at least `size` bytes: the smallest free one that fits and is not much too large, or a new one.
static sard_status *take(sard_session *s, uint64_t size, sd_block *out) {
  sd_late *l = &s->late;
  uint32_t best = l->n_free;
  for (uint32_t i = 0; i < l->n_free; i++)
    if (l->free[i].size >= size && l->free[i].size / 8 <= size && (best == l->n_free || l->free[i].size < l->free[best].size)) best = i;
  if (best < l->n_free) {
    *out = (sd_block){.p = l->free[best].p, .size = l->free[best].size};
    l->free[best] = l->free[--l->n_free];
    return NULL;
  }
  sard_status *st = over_limit(s, size);
  if (st) {
    sard_status_free(st);
    drop_free(l);
    SD_TRY(over_limit(s, size));
  }
  out->p = sd_alloc_aligned(size);
  if (!out->p) return SD_ERR(NOMEM, "out of memory: %llu bytes for a buffer whose size depends on data", (unsigned long long)size);
  *out = (sd_block){.p = out->p, .size = size};
  l->bytes += size;
  return NULL;
}

sard_status *sd_late_grow(sard_session *s, uint32_t buf, uint64_t size) {
  sd_late *l = &s->late;
  sd_block *b = &l->block[buf], made;
  if (size > INT64_MAX / 4) return SD_ERR(NOMEM, "a buffer of %llu bytes", (unsigned long long)size);
  size = sd_align_up(size, 64) + SLACK;
  if (!b->p || b->size < size) {
    SD_TRY(take(s, b->p ? size + size / 2 : size, &made));
    if (b->used) memcpy(made.p, b->p, b->used);
    made.used = b->used, made.spare = b->spare;
    give_back(s, l, buf);
    *b = made;
  }
  s->buf[buf] = b->p;
  return NULL;
}

sard_status *sd_late_place(sard_session *s, uint32_t buf) {
  const sd_art *a = &s->model->art;
  int64_t bytes = 0;
  SD_TRY(sd_late_value(s, a->bufs[buf].bytes, &bytes));
  if (bytes < 0) return SD_ERR(MODEL, "with this data a buffer would have %lld bytes", (long long)bytes);
  sd_block *b = &s->late.block[buf];
  const sard_tensor *target = s->late.target[buf];
  if (!b->p && target && bytes && target->bytes == (uint64_t)bytes)
    *b = (sd_block){.p = target->data, .size = target->bytes, .lent = true};
  if (b->lent && (uint64_t)bytes <= b->size) { // without the room behind it that other blocks have
    s->buf[buf] = b->p;
    return NULL;
  }
  return sd_late_grow(s, buf, (uint64_t)bytes);
}

sard_status *sd_late_scratch(sard_session *s, uint64_t stride) {
  sd_late *l = &s->late;
  uint64_t need;
  stride = sd_align_up(stride, 64) + SLACK;
  if (!sd_ck_mul(stride, (uint64_t)s->workers, &need)) return SD_ERR(NOMEM, "scratch memory of %llu bytes", (unsigned long long)stride);
  l->scratch_stride = stride;
  if (l->scratch && l->scratch_size >= need) return NULL;
  sd_free_aligned(l->scratch);
  l->scratch = NULL, l->scratch_size = 0;
  SD_TRY(over_limit(s, need));
  l->scratch = sd_alloc_aligned(need);
  if (!l->scratch) return SD_ERR(NOMEM, "out of memory: %llu bytes of scratch", (unsigned long long)need);
  l->scratch_size = need;
  return NULL;
}
