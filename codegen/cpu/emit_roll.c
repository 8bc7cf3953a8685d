// Long epilogues: what follows the sums of a register tile (an activation by polynomials, say) is emitted once, in a loop
// over one unrolled axis, instead of once per accumulator. The sums go through the stack; code and compile time shrink
// several times and the speed stays, since a loop turn still has all vectors of a row side by side.
#include "codegen/cpu/emit.h"

#define LONG_EPILOGUE 250 // expressions times coordinates

typedef struct spilled { const sd_expr *e; sd_ll array; LLVMTypeRef t; uint32_t weight[SD_EMIT_SLOTS]; } spilled;
typedef struct stash { sd_ll *cell; uint32_t n; } stash;
typedef struct stash_addr { sd_emit_addr *ad; sd_emit_ptr *top; } stash_addr;

typedef struct roll {
  const sd_axis *axis;
  uint32_t bit;  // of its slot
  uint32_t cost; // expressions that differ along it
  SD_VEC(spilled) sums;
} roll;

// Counts what depends on the slot and finds the sums it starts from.
static void survey(sd_emit *E, roll *r, const sd_expr *e) {
  sd_emit_info *x = sd_emit_info_of(E, e);
  if (x->seen == E->stamp || !(x->slots & r->bit)) return;
  x->seen = E->stamp;
  if (e->op == SD_X_REDUCE) {
    spilled s = {.e = e};
    sd_vec_push(E->a, &r->sums, s);
    return;
  }
  r->cost += e->op != SD_X_AXIS && e->op != SD_X_AFFINE;
  for (uint32_t i = 0; i < e->n; i++)
    if (e->a[i]) survey(E, r, e->a[i]);
}

static void survey_all(sd_emit *E, roll *r) {
  uint32_t stamp = E->stamp;
  E->stamp = ++E->n_stamp;
  for (uint32_t i = 0; i < E->n_root; i++) {
    survey(E, r, E->root[i].value);
    if (E->root[i].guard) survey(E, r, E->root[i].guard);
  }
  E->stamp = stamp;
}

static bool choose(sd_emit *E, roll *r) {
  for (uint32_t i = 0; i < E->nest->n_axes; i++) {
    const sd_axis *a = E->nest->axes[i];
    const sd_emit_bind *b = sd_emit_bind_of(E, a);
    if (b->slot < 0 || a == E->lane.axis || E->count[b->slot] < 4) continue;
    if (r->axis && E->count[b->slot] <= sd_emit_coords(E, r->bit)) continue;
    r->axis = a;
    r->bit = 1u << b->slot;
  }
  if (!r->axis) return false;
  survey_all(E, r);
  if (!E->in_memory.len && r->cost * sd_emit_coords(E, (1u << E->n_slot) - 1) < LONG_EPILOGUE) return false;
  for (uint32_t i = 0; i < r->sums.len; i++)
    if (E->info[r->sums.at[i].e->id].rw) return false;
  return true;
}

// Of the current coordinate, `row` further along the axis.
static sd_ll element(sd_emit *E, const roll *r, const spilled *s, sd_ll row) {
  uint32_t slots = sd_emit_info_of(E, s->e)->slots, at = 0;
  for (uint32_t rest = slots; rest; rest &= rest - 1) at += E->at[__builtin_ctz(rest)] * s->weight[__builtin_ctz(rest)];
  sd_ll i = sd_emit_i64(E, at);
  if (row) i = LLVMBuildAdd(E->b, LLVMBuildMul(E->b, row, sd_emit_i64(E, s->weight[__builtin_ctz(r->bit)]), ""), i, "");
  return LLVMBuildGEP2(E->b, s->t, s->array, &i, 1, "");
}

static void spill(sd_emit *E, const roll *r, spilled *s) {
  uint32_t slots = sd_emit_info_of(E, s->e)->slots, weight = 1;
  for (uint32_t rest = slots; rest; rest &= ~(1u << (31 - __builtin_clz(rest)))) {
    int slot = 31 - __builtin_clz(rest);
    s->weight[slot] = weight;
    weight *= E->count[slot];
  }
  memset(E->at, 0, sizeof E->at);
  s->array = E->info[s->e->id].sums;
  if (s->array) {
    s->t = sd_emit_vtype(E, sd_emit_type(E, s->e->dtype), true);
    return;
  }
  s->t = LLVMTypeOf(sd_emit_value(E, s->e));
  s->array = LLVMBuildArrayAlloca(E->entry, s->t, LLVMConstInt(E->i32, weight, 0), "");
  do
    LLVMBuildStore(E->b, sd_emit_value(E, s->e), element(E, r, s, NULL));
  while (sd_emit_next(E, slots));
}

static void fetch(sd_emit *E, const roll *r, const spilled *s, sd_ll row) {
  uint32_t slots = sd_emit_info_of(E, s->e)->slots;
  memset(E->at, 0, sizeof E->at);
  do
    sd_emit_keep(E, s->e, LLVMBuildLoad2(E->b, s->t, element(E, r, s, row), ""));
  while (sd_emit_next(E, slots));
}

// ---- loops over copies ----
struct sd_emit_rows {
  const sd_axis *axis;
  sd_emit_bind old;
  uint32_t count;
  sd_emit_loop l;
  stash *cells; // by expression id
  SD_VEC(stash_addr) addrs;
};

// Hides what was remembered for single copies of the axis, since the loop has another meaning of its coordinate.
static void hide(sd_emit *E, sd_emit_rows *r) {
  r->cells = SD_NEW_ARRAY(E->a, stash, E->n_info);
  int no = sd_emit_axis_no(E, r->axis);
  for (uint32_t i = 0; i < E->n_info; i++) {
    sd_emit_info *x = &E->info[i];
    if (!x->set_done || !(x->set.w[no / 64] >> no % 64 & 1)) continue;
    r->cells[i] = (stash){x->cell, x->n};
    x->cell = NULL, x->n = 0;
    for (sd_emit_addr *ad = x->addr; ad; ad = ad->next) {
      stash_addr s = {ad, ad->top};
      sd_vec_push(E->a, &r->addrs, s);
      ad->top = NULL;
    }
  }
}

static void show(sd_emit *E, sd_emit_rows *r) {
  int no = sd_emit_axis_no(E, r->axis);
  for (uint32_t i = 0; i < E->n_info; i++)
    if (E->info[i].set_done && E->info[i].set.w[no / 64] >> no % 64 & 1) E->info[i].cell = r->cells[i].cell, E->info[i].n = r->cells[i].n;
  for (uint32_t i = 0; i < r->addrs.len; i++) r->addrs.at[i].ad->top = r->addrs.at[i].top;
}

sd_emit_rows *sd_emit_rows_open(sd_emit *E, const sd_axis *axis) {
  sd_emit_rows *r = SD_NEW(E->a, sd_emit_rows);
  r->axis = axis, r->old = *sd_emit_bind_of(E, axis);
  uint32_t *count = &E->count[r->old.slot];
  r->count = *count;
  hide(E, r);
  sd_emit_loop_open(E, &r->l, sd_emit_i64(E, 0), sd_emit_i64(E, *count - 1), 1, true, NULL);
  sd_ll x = r->old.base ? LLVMBuildAdd(E->b, r->old.base, r->l.iv, "") : r->l.iv;
  sd_emit_bind_point(E, axis, x, 0);
  *count = 1;
  return r;
}

sd_ll sd_emit_rows_at(const sd_emit_rows *r) { return r->l.iv; }

void sd_emit_rows_close(sd_emit *E, sd_emit_rows *r) {
  sd_emit_loop_close(E, &r->l);
  *sd_emit_bind_of(E, r->axis) = r->old;
  E->epoch++;
  E->count[r->old.slot] = r->count;
  show(E, r);
}

bool sd_emit_rolled(sd_emit *E, void (*body)(sd_emit *E)) {
  roll r = {.axis = NULL};
  if (E->nest->sequential || !choose(E, &r)) return false;
  for (uint32_t i = 0; i < r.sums.len; i++) spill(E, &r, &r.sums.at[i]);
  sd_emit_rows *rows = sd_emit_rows_open(E, r.axis);
  for (uint32_t i = 0; i < r.sums.len; i++) fetch(E, &r, &r.sums.at[i], sd_emit_rows_at(rows));
  body(E);
  sd_emit_rows_close(E, rows);
  return true;
}
