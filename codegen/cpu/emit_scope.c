// Bookkeeping of the emitter: scopes and what they remember, bindings of axes, loops and branches with carried values.
#include "codegen/cpu/emit.h"

void sd_emit_fail(sd_emit *E, sard_status *st) {
  if (!E->error)
    E->error = st;
  else
    sard_status_free(st);
}

// ---- axes below expressions ----
int sd_emit_axis_no(sd_emit *E, const sd_axis *a) {
  uint16_t *no = &E->axis_no[a->id];
  if (!*no) {
    if (E->n_axis == SD_EMIT_AXES) {
      sd_emit_fail(E, SD_ERR(UNSUPPORTED, "kernel %s has more than %d axes", E->k->name, SD_EMIT_AXES));
      return 0;
    }
    E->axes[E->n_axis] = a;
    *no = (uint16_t)++E->n_axis;
  }
  return *no - 1;
}

static void join(sd_emit_axset *s, const sd_emit_axset *t) {
  for (int i = 0; i < SD_EMIT_AXES / 64; i++) s->w[i] |= t->w[i];
}

static void find_axes(sd_emit *E, const sd_expr *e, int depth) {
  sd_emit_info *x = &E->info[e->id];
  if (x->set_done) return;
  if (depth > SD_EMIT_DEPTH) {
    sd_emit_fail(E, SD_ERR(UNSUPPORTED, "kernel %s has an expression nested deeper than %d", E->k->name, SD_EMIT_DEPTH));
    return;
  }
  sd_emit_axset s = {{0}};
  for (uint32_t i = 0; i < e->n; i++) {
    if (!e->a[i]) continue;
    find_axes(E, e->a[i], depth + 1);
    join(&s, &E->info[e->a[i]->id].set);
  }
  if (e->op == SD_X_AXIS) {
    int no = sd_emit_axis_no(E, e->axis);
    s.w[no / 64] |= 1ull << no % 64;
  }
  for (uint32_t i = e->op == SD_X_REDUCE ? e->n_axes : 0; i-- > 0;) { // inner axes may be limited by outer ones
    int no = sd_emit_axis_no(E, e->axes[i]);
    s.w[no / 64] &= ~(1ull << no % 64);
    if (!e->axes[i]->limit) continue;
    find_axes(E, e->axes[i]->limit, depth + 1);
    join(&s, &E->info[e->axes[i]->limit->id].set);
  }
  x->set = s;
  x->set_done = true;
}

sd_emit_info *sd_emit_info_of(sd_emit *E, const sd_expr *e) {
  sd_emit_info *x = &E->info[e->id];
  if (x->epoch == E->epoch) return x;
  if (!x->set_done) find_axes(E, e, 0);
  x->epoch = E->epoch;
  x->ready = true;
  x->lanes = false;
  x->slots = 0;
  for (int w = 0; w < SD_EMIT_AXES / 64; w++)
    for (uint64_t bits = x->set.w[w]; bits; bits &= bits - 1) {
      int no = w * 64 + __builtin_ctzll(bits);
      const sd_emit_bind *b = &E->bind[no];
      if (!b->bound) x->ready = false;
      if (b->slot >= 0) x->slots |= 1u << b->slot;
      if (E->axes[no] == E->lane.axis) x->lanes = true;
    }
  return x;
}

bool sd_emit_ready(sd_emit *E, const sd_expr *e) { return sd_emit_info_of(E, e)->ready; }

// ---- scopes ----
void sd_emit_scope_open(sd_emit *E) {
  if (E->n_scope == E->scopes.len) {
    sd_emit_scope s = {0};
    sd_vec_push(E->a, &E->scopes, s);
  }
  sd_emit_scope *s = &E->scopes.at[E->n_scope++];
  s->cells.len = s->addrs.len = 0;
}

void sd_emit_scope_close(sd_emit *E) {
  sd_emit_scope *s = &E->scopes.at[--E->n_scope];
  for (uint32_t i = 0; i < s->cells.len; i++) *s->cells.at[i] = NULL;
  for (uint32_t i = s->addrs.len; i-- > 0;) s->addrs.at[i]->top = s->addrs.at[i]->top->below;
}

// ---- bindings ----
sd_emit_bind *sd_emit_bind_of(sd_emit *E, const sd_axis *a) { return &E->bind[sd_emit_axis_no(E, a)]; }

static void bind(sd_emit *E, const sd_axis *a, sd_emit_bind b) {
  *sd_emit_bind_of(E, a) = b;
  E->epoch++;
}

void sd_emit_bind_base(sd_emit *E, const sd_axis *a, sd_ll base) {
  bind(E, a, (sd_emit_bind){.based = true, .base = base, .slot = -1, .step = 1});
}

void sd_emit_bind_point(sd_emit *E, const sd_axis *a, sd_ll base, int64_t add) {
  bind(E, a, (sd_emit_bind){.based = true, .bound = true, .base = base, .add = add, .slot = -1, .step = 1});
}

void sd_emit_bind_slot(sd_emit *E, const sd_axis *a, sd_ll base, uint32_t count, int64_t step) {
  int slot = -1;
  if (count > 1) {
    if (E->n_slot == SD_EMIT_SLOTS) {
      sd_emit_fail(E, SD_ERR(UNSUPPORTED, "kernel %s unrolls more than %d axes", E->k->name, SD_EMIT_SLOTS));
      E->n_slot--;
    }
    slot = (int)E->n_slot++;
    E->count[slot] = count;
    E->at[slot] = 0;
  }
  bind(E, a, (sd_emit_bind){.based = true, .bound = true, .base = base, .slot = slot, .step = step});
}

void sd_emit_unbind(sd_emit *E, const sd_axis *a) {
  if (sd_emit_bind_of(E, a)->slot >= 0) E->n_slot--;
  bind(E, a, (sd_emit_bind){.slot = -1, .step = 1});
}

void sd_emit_set_lane(sd_emit *E, sd_emit_lane l) {
  E->lane = l;
  E->epoch++;
}

// ---- coordinates ----
uint32_t sd_emit_coords(const sd_emit *E, uint32_t slots) {
  uint32_t n = 1;
  for (uint32_t s = slots; s; s &= s - 1) n *= E->count[__builtin_ctz(s)];
  return n;
}

uint32_t sd_emit_project(const sd_emit *E, uint32_t slots) {
  uint32_t i = 0;
  for (uint32_t s = slots; s; s &= s - 1) i = i * E->count[__builtin_ctz(s)] + E->at[__builtin_ctz(s)];
  return i;
}

void sd_emit_first(sd_emit *E, uint32_t slots) {
  for (uint32_t s = slots; s; s &= s - 1) E->at[__builtin_ctz(s)] = 0;
}

bool sd_emit_next(sd_emit *E, uint32_t slots) {
  while (slots) { // the last slot runs fastest
    int s = 31 - __builtin_clz(slots);
    if (++E->at[s] < E->count[s]) return true;
    E->at[s] = 0;
    slots &= ~(1u << s);
  }
  return false;
}

// ---- loops and branches ----
void sd_emit_carry_init(sd_emit *E, sd_emit_carry *c, uint32_t n) {
  c->n = n;
  c->v = SD_NEW_ARRAY(E->a, sd_ll, n ? n : 1);
}

static LLVMBasicBlockRef new_block(sd_emit *E) { return LLVMAppendBasicBlockInContext(E->c, E->fn, ""); }

static sd_ll *copy_values(sd_emit *E, const sd_emit_carry *c) {
  return c ? sd_arena_dup(E->a, c->v, (c->n ? c->n : 1) * sizeof *c->v) : NULL;
}

static void incoming(sd_ll phi, sd_ll v, LLVMBasicBlockRef from) { LLVMAddIncoming(phi, &v, &from, 1); }

void sd_emit_loop_open(sd_emit *E, sd_emit_loop *l, sd_ll lo, sd_ll last, int64_t step, bool sure, sd_emit_carry *c) {
  *l = (sd_emit_loop){.lo = lo, .last = last, .step = step, .sure = sure, .carry = c};
  l->init = copy_values(E, c);
  l->pre = LLVMGetInsertBlock(E->b);
  l->head = new_block(E);
  l->exit = new_block(E);
  if (sure)
    LLVMBuildBr(E->b, l->head);
  else
    LLVMBuildCondBr(E->b, LLVMBuildICmp(E->b, LLVMIntSLE, lo, last, ""), l->head, l->exit);
  LLVMPositionBuilderAtEnd(E->b, l->head);
  l->iv = LLVMBuildPhi(E->b, E->i64, "");
  incoming(l->iv, lo, l->pre);
  if (c && c->n) l->phi = SD_NEW_ARRAY(E->a, sd_ll, c->n);
  for (uint32_t i = 0; c && i < c->n; i++) {
    l->phi[i] = LLVMBuildPhi(E->b, LLVMTypeOf(c->v[i]), "");
    incoming(l->phi[i], c->v[i], l->pre);
    c->v[i] = l->phi[i];
  }
  sd_emit_scope_open(E);
}

void sd_emit_loop_close(sd_emit *E, sd_emit_loop *l) {
  sd_emit_scope_close(E);
  sd_emit_carry *c = l->carry;
  sd_ll next = LLVMBuildNSWAdd(E->b, l->iv, sd_emit_i64(E, l->step), "");
  LLVMBasicBlockRef latch = LLVMGetInsertBlock(E->b);
  LLVMBuildCondBr(E->b, LLVMBuildICmp(E->b, LLVMIntSLE, next, l->last, ""), l->head, l->exit);
  incoming(l->iv, next, latch);
  for (uint32_t i = 0; c && i < c->n; i++) incoming(l->phi[i], c->v[i], latch);
  LLVMPositionBuilderAtEnd(E->b, l->exit);
  l->end = next;
  if (l->sure) return;
  l->end = LLVMBuildPhi(E->b, E->i64, "");
  incoming(l->end, l->lo, l->pre);
  incoming(l->end, next, latch);
  for (uint32_t i = 0; c && i < c->n; i++) {
    sd_ll phi = LLVMBuildPhi(E->b, LLVMTypeOf(c->v[i]), "");
    incoming(phi, l->init[i], l->pre);
    incoming(phi, c->v[i], latch);
    c->v[i] = phi;
  }
}

void sd_emit_if_open(sd_emit *E, sd_emit_if *f, sd_ll cond, sd_emit_carry *c) {
  *f = (sd_emit_if){.from = LLVMGetInsertBlock(E->b), .carry = c};
  LLVMBasicBlockRef then = new_block(E);
  f->other = new_block(E);
  f->init = copy_values(E, c);
  LLVMBuildCondBr(E->b, cond, then, f->other);
  LLVMPositionBuilderAtEnd(E->b, then);
  sd_emit_scope_open(E);
}

void sd_emit_if_else(sd_emit *E, sd_emit_if *f) {
  sd_emit_scope_close(E);
  f->then_end = LLVMGetInsertBlock(E->b);
  f->join = new_block(E);
  LLVMBuildBr(E->b, f->join);
  f->then_v = copy_values(E, f->carry);
  for (uint32_t i = 0; f->carry && i < f->carry->n; i++) f->carry->v[i] = f->init[i];
  LLVMPositionBuilderAtEnd(E->b, f->other);
  sd_emit_scope_open(E);
}

void sd_emit_if_close(sd_emit *E, sd_emit_if *f) {
  if (!f->join) sd_emit_if_else(E, f);
  sd_emit_scope_close(E);
  LLVMBasicBlockRef end = LLVMGetInsertBlock(E->b);
  LLVMBuildBr(E->b, f->join);
  LLVMPositionBuilderAtEnd(E->b, f->join);
  for (uint32_t i = 0; f->carry && i < f->carry->n; i++) {
    sd_ll a = f->then_v[i], b = f->carry->v[i];
    if (a == b) continue;
    f->carry->v[i] = LLVMBuildPhi(E->b, LLVMTypeOf(a), "");
    incoming(f->carry->v[i], a, f->then_end);
    incoming(f->carry->v[i], b, end);
  }
}

sd_ll sd_emit_axis_end(sd_emit *E, const sd_axis *a) {
  sd_ll end = sd_emit_dim(E, a->extent);
  if (!a->limit) return end;
  sd_ll limit = sd_emit_value(E, a->limit);
  return LLVMBuildSelect(E->b, LLVMBuildICmp(E->b, LLVMIntSLT, limit, end, ""), limit, end, "");
}
