// Reference interpreter: compiles every nest to a flat program over groups of points and runs it.
//
// The points of a nest are enumerated in loop order and taken SD_LANES at a time (one at a time in sequential nests).
// Each expression is computed at the outermost level that knows its axes: once per run of the nest, once per group of
// points, or once per turn of a reduction loop. Pure copies are done as strided copies.
#include <string.h>

#include "ir/tile_eval_priv.h"
#include "runtime/base/alloc.h"
#include "runtime/base/status.h"

#define NONE UINT32_MAX
#define MAX_LEVELS (SD_MAX_DEPTH + 2)

typedef struct level { sd_block block; uint32_t reg; int64_t extent; uint32_t limit; const sd_axis *axis; } level;

typedef struct reduction {
  uint32_t n;
  level *levels[SD_MAX_AXES];
  uint32_t value, acc;
  sd_inst_fn accumulate;
  sd_scalar identity;
  sd_dtype dtype, acc_dtype;
} reduction;

typedef struct program program;
struct program {
  const sd_nest *nest;
  SD_VEC(program *) before; // reductions over fewer axes, see hoist_reductions
  level entry, points; // entry: once per run
  int64_t extents[SD_MAX_AXES], total;
  uint32_t regs[SD_MAX_AXES], limits[SD_MAX_AXES]; // registers of the axes and their limits (NONE)
  uint32_t n_regs;
  uint8_t *storage;
  bool has_limit;
  uint32_t n_limit_insts; // the first instructions of `points` compute limits
};

// Results of a hoisted reduction for all points of the axes that it depends on, row-major.
typedef struct table { void *data; int64_t count; const sd_nest *nest; int64_t stride[SD_MAX_AXES]; } table;

typedef struct ev {
  const sd_kernel *k;
  sd_arena *arena;
  void **data;
  int64_t *count;   // elements of the buffers
  int64_t *axis_at; // values of grid and loop axes by axis id
  bool *outer;      // axis id: a grid or loop axis that has its value now
  sd_expr **by_id;
  sd_axis_sets free;
  sd_symfn sym;
  void *user;
  sard_status *error;
  program **programs; // in order of their nests
  uint32_t n_programs, next;
  // While compiling one nest:
  program *p;
  level *open[MAX_LEVELS];
  uint32_t n_open;
  struct { uint32_t reg; level *at; } *memo; // by expression id
  table **tables; // by expression id
  bool *pinned; // by expression id: reads what the nest writes, so it is not computed once for all points
} ev;

static bool set_error(ev *v, sard_status *st) {
  if (v->error) sard_status_free(st);
  else v->error = st;
  return false;
}

static bool dim_value(ev *v, sd_dim d, int64_t *out) {
  if (d != SD_DIM_NONE && sd_dim_eval(v->k->dims, d, v->sym, v->user, out)) return true;
  sd_str s = {0};
  sd_dim_print(v->k->dims, d, &s);
  set_error(v, SD_ERR(USAGE, "kernel '%s': dim %s has no value", v->k->name, s.p ? s.p : "?"));
  sd_str_free(&s);
  *out = 0;
  return false;
}

// ---- compiling ----
static uint32_t new_reg(ev *v) { return v->p->n_regs++; }

static void emit(ev *v, level *at, sd_inst i) { sd_vec_push(v->arena, &at->block, i); }

// The innermost open level that an expression depends on.
static level *level_of(ev *v, const sd_expr *e) {
  for (uint32_t i = v->n_open; i-- > 2;) {
    if (sd_axis_sets_has(&v->free, e, v->open[i]->axis)) return v->open[i];
  }
  for (uint32_t i = 0; i < v->p->nest->n_axes; i++) {
    if (sd_axis_sets_has(&v->free, e, v->p->nest->axes[i])) return v->open[1];
  }
  return v->open[v->pinned[e->id]];
}

static bool is_open(const ev *v, const level *l) {
  for (uint32_t i = 0; i < v->n_open; i++) {
    if (v->open[i] == l) return true;
  }
  return false;
}

static void splat_inst(sd_vm *vm, const sd_inst *i) {
  const sd_scalar *s = i->data;
  sd_eval_splat(vm, i->dst, (sd_dtype)i->imm, *s);
}
static void axis_inst(sd_vm *vm, const sd_inst *i) {
  sd_eval_splat(vm, i->dst, SD_I64, (sd_scalar){.i = *(const int64_t *)i->data});
}
static void reduce_inst(sd_vm *vm, const sd_inst *i);

static uint32_t constant(ev *v, sd_dtype t, sd_scalar s) {
  sd_inst i = {.fn = splat_inst, .dst = new_reg(v), .imm = t, .data = sd_arena_dup(v->arena, &s, sizeof s)};
  emit(v, v->open[0], i);
  return i.dst;
}

static uint32_t compile(ev *v, const sd_expr *e);

static uint32_t compile_axis(ev *v, const sd_axis *a) {
  for (uint32_t i = 2; i < v->n_open; i++) {
    if (v->open[i]->axis == a) return v->open[i]->reg;
  }
  for (uint32_t i = 0; i < v->p->nest->n_axes; i++) {
    if (v->p->nest->axes[i] == a) return v->p->regs[i];
  }
  sd_inst i = {.fn = axis_inst, .dst = new_reg(v), .data = &v->axis_at[a->id]};
  emit(v, v->open[0], i);
  return i.dst;
}

// Partial sums level by level, from the outside in.
static uint32_t compile_affine(ev *v, const sd_expr *e) {
  int64_t c = 0;
  dim_value(v, e->dim, &c);
  uint32_t sum = c || !e->n ? constant(v, SD_I64, (sd_scalar){.i = c}) : NONE;
  uint32_t *regs = SD_NEW_ARRAY(v->arena, uint32_t, e->n + 1);
  level **at = SD_NEW_ARRAY(v->arena, level *, e->n + 1);
  for (uint32_t i = 0; i < e->n; i++) {
    regs[i] = compile(v, e->a[i]);
    at[i] = level_of(v, e->a[i]);
  }
  for (uint32_t l = 0; l < v->n_open; l++) {
    for (uint32_t i = 0; i < e->n; i++) {
      if (at[i] != v->open[l]) continue;
      dim_value(v, e->coef[i], &c);
      sd_inst in = {.fn = sd_eval_scale_add, .dst = new_reg(v), .x = sum, .y = regs[i], .imm = c};
      if (sum != NONE && e->a[i]->op == SD_X_AXIS && l != 1) in.fn = sd_eval_add_uniform;
      emit(v, at[i], in);
      sum = in.dst;
    }
  }
  return sum;
}

static uint32_t compile_reduce(ev *v, const sd_expr *e, level *at) {
  reduction *r = SD_NEW(v->arena, reduction);
  // What the reduction is hoisted out of is not visible inside of it.
  level *saved[MAX_LEVELS];
  uint32_t n_saved = v->n_open;
  memcpy(saved, v->open, sizeof saved);
  while (v->n_open > 2 && v->open[v->n_open - 1] != at) v->n_open--; // the first two stay, each in its place
  if (v->n_open + e->n_axes > MAX_LEVELS) {
    set_error(v, SD_ERR(UNSUPPORTED, "kernel '%s': reductions nested too deeply", v->k->name));
    v->n_open = n_saved;
    return new_reg(v);
  }
  *r = (reduction){.n = e->n_axes, .dtype = e->dtype, .acc_dtype = e->dtype, .acc = new_reg(v)};
  bool sums = e->rop == SD_R_SUM || e->rop == SD_R_PROD;
  if (e->dtype == SD_F32 && sums) r->acc_dtype = SD_F64;
  r->accumulate = sd_eval_accumulate_fn(e->rop, e->dtype);
  r->identity = sd_eval_identity(e->rop, e->dtype);
  int64_t turns = 1;
  for (uint32_t i = 0; i < e->n_axes; i++) {
    level *l = r->levels[i] = SD_NEW(v->arena, level);
    *l = (level){.axis = e->axes[i], .limit = NONE};
    dim_value(v, e->axes[i]->extent, &l->extent);
    if (e->axes[i]->limit) l->limit = compile(v, e->axes[i]->limit);
    l->reg = new_reg(v);
    v->open[v->n_open++] = l;
    if (l->extent <= 0) turns = 0;
  }
  if (turns) r->value = compile(v, e->a[0]); // nothing of an empty loop may run, hoisted or not
  else r->n = 0, r->accumulate = NULL;
  memcpy(v->open, saved, sizeof saved);
  v->n_open = n_saved;
  sd_inst in = {.fn = reduce_inst, .dst = new_reg(v), .data = r, .e = e};
  emit(v, at, in);
  return in.dst;
}

static uint32_t compile_load(ev *v, const sd_expr *e, level *at) {
  sd_inst in = {.fn = sd_eval_load_fn(e->buf->dtype), .x = compile(v, e->a[0]), .y = NONE, .e = e};
  if (e->a[1]) in.y = compile(v, e->a[1]);
  in.imm = v->count[e->buf->id];
  in.data = v->data[e->buf->id];
  in.dst = new_reg(v);
  emit(v, at, in);
  return in.dst;
}

// Offset of the point in a table.
static uint32_t table_offset(ev *v, const table *t) {
  uint32_t sum = NONE;
  for (uint32_t i = 0; i < t->nest->n_axes; i++) {
    sd_inst in = {.fn = sd_eval_scale_add, .x = sum, .y = compile_axis(v, t->nest->axes[i]), .imm = t->stride[i]};
    sum = in.dst = new_reg(v);
    emit(v, v->open[1], in);
  }
  return sum == NONE ? constant(v, SD_I64, (sd_scalar){.i = 0}) : sum;
}

static uint32_t compile_table_load(ev *v, const sd_expr *e, const table *t) {
  sd_inst in = {.fn = sd_eval_load_fn(e->dtype), .x = table_offset(v, t), .y = NONE, .imm = t->count, .data = t->data,
      .e = e};
  in.dst = new_reg(v);
  emit(v, v->open[t->nest->n_axes > 0], in);
  return in.dst;
}

static uint32_t compile_new(ev *v, const sd_expr *e, level *at) {
  sd_scalar s = {0};
  switch (e->op) {
  case SD_X_CONST:
    if (sd_dtype_is_float(e->dtype)) s.f = e->f;
    else s.i = e->i;
    return constant(v, e->dtype, s);
  case SD_X_AFFINE: return compile_affine(v, e);
  case SD_X_AXIS: return compile_axis(v, e->axis);
  case SD_X_LOAD: return compile_load(v, e, at);
  case SD_X_REDUCE: return compile_reduce(v, e, at);
  default: break;
  }
  sd_inst in = {.fn = e->op == SD_X_INDEX ? sd_eval_index : sd_eval_fn(e), .e = e};
  uint32_t *regs[3] = {&in.x, &in.y, &in.z};
  for (uint32_t i = 0; i < e->n && i < 3; i++) *regs[i] = compile(v, e->a[i]);
  in.data = e->n == 2 ? (void *)sd_scalar_float_fns2(e->op) : (void *)sd_scalar_float_fns(e->op);
  in.dst = new_reg(v);
  emit(v, at, in);
  return in.dst;
}

static uint32_t compile(ev *v, const sd_expr *e) {
  level *at = level_of(v, e);
  if (v->memo[e->id].at && v->memo[e->id].at == at && is_open(v, at)) return v->memo[e->id].reg;
  uint32_t r = v->tables[e->id] ? compile_table_load(v, e, v->tables[e->id]) : compile_new(v, e, at);
  v->memo[e->id].reg = r;
  v->memo[e->id].at = at;
  return r;
}

static bool writes(const sd_nest *n, const sd_buf *b) {
  for (uint32_t i = 0; i < n->stores.len; i++) {
    if (n->stores.at[i].buf == b) return true;
  }
  return false;
}

// Forgets earlier nests; returns whether the nest reads what it writes.
static bool begin_nest(ev *v, const sd_nest *n) {
  bool any = false;
  for (uint32_t id = 0; id < v->k->n_expr; id++) {
    const sd_expr *e = v->by_id[id];
    v->tables[id] = NULL;
    v->pinned[id] = e->op == SD_X_LOAD && writes(n, e->buf);
    for (uint32_t i = 0; i < e->n; i++) v->pinned[id] |= e->a[i] && v->pinned[e->a[i]->id];
    any |= v->pinned[id];
  }
  return any;
}

static void forget(ev *v) {
  for (uint32_t id = 0; id < v->k->n_expr; id++) v->memo[id].at = NULL;
}

static program *begin_program(ev *v, const sd_nest *n) {
  program *p = v->p = SD_NEW(v->arena, program);
  p->nest = n;
  p->total = 1;
  v->open[0] = &p->entry;
  v->open[1] = &p->points;
  v->n_open = 2;
  forget(v);
  for (uint32_t i = 0; i < n->n_axes; i++) {
    dim_value(v, n->axes[i]->extent, &p->extents[i]);
    p->regs[i] = new_reg(v);
    p->limits[i] = NONE;
    if (p->extents[i] < 0) p->extents[i] = 0;
    if (!sd_ck_mul_i64(p->total, p->extents[i], &p->total))
      set_error(v, SD_ERR(NOMEM, "kernel '%s': too many points", v->k->name));
  }
  return p;
}

static void end_program(ev *v, program *p) {
  p->storage = sd_arena_aligned(v->arena, (size_t)(p->n_regs + 1) * SD_LANES * 8, 64);
}

static void mark(const sd_expr *e, bool *seen) {
  if (!e || seen[e->id]) return;
  seen[e->id] = true;
  for (uint32_t i = 0; i < e->n; i++) mark(e->a[i], seen);
  for (uint32_t i = 0; i < e->n_axes; i++) mark(e->axes[i]->limit, seen);
}

// The axes of n that e depends on, as a nest without stores; NULL when it depends on axes of other reductions too.
static sd_nest *axes_of(ev *v, const sd_nest *n, const sd_expr *e) {
  sd_nest *sub = SD_NEW(v->arena, sd_nest);
  const uint64_t *row = v->free.bits + (size_t)e->id * v->free.words;
  uint32_t found = 0, all = 0;
  for (uint32_t w = 0; w < v->free.words; w++) all += (uint32_t)__builtin_popcountll(row[w]);
  for (uint32_t i = 0; i < n->n_axes; i++) {
    if (sd_axis_sets_has(&v->free, e, n->axes[i])) sub->axes[sub->n_axes++] = n->axes[i];
  }
  found = sub->n_axes;
  for (uint32_t a = 0; a < v->k->n_axis; a++) found += v->outer[a] && (row[a / 64] >> (a % 64) & 1);
  return found == all ? sub : NULL;
}

static void hoist(ev *v, program *into, const sd_nest *sub, const sd_expr *e) {
  program *p = begin_program(v, sub);
  if (v->error || p->total > into->total / 2 || p->total > (1 << 26)) return;
  table *t = SD_NEW(v->arena, table);
  int64_t stride = 1;
  for (uint32_t i = sub->n_axes; i-- > 0; stride *= p->extents[i]) t->stride[i] = stride;
  t->nest = sub;
  t->count = p->total;
  t->data = sd_arena_aligned(v->arena, (size_t)p->total * 8 + 64, 64);
  sd_inst in = {.fn = sd_eval_store_fn(e->dtype), .y = NONE, .imm = t->count, .data = t->data, .e = e};
  in.z = compile(v, e);
  in.x = table_offset(v, t);
  emit(v, &p->points, in);
  end_program(v, p);
  v->tables[e->id] = t;
  sd_vec_push(v->arena, &into->before, p);
}

// Reductions that depend on some of the axes only (mean and maximum of rows) are computed once for each combination
// of these, into a table.
static void hoist_reductions(ev *v, program *p, const sd_nest *n) {
  bool *seen = SD_NEW_ARRAY(v->arena, bool, v->k->n_expr + 1);
  for (uint32_t i = 0; i < n->n_axes; i++) {
    if (n->axes[i]->limit) return;
  }
  for (uint32_t i = 0; i < n->stores.len; i++) {
    mark(n->stores.at[i].offset, seen);
    mark(n->stores.at[i].value, seen);
    mark(n->stores.at[i].guard, seen);
  }
  for (uint32_t id = 0; id < v->k->n_expr; id++) { // inner ones first
    const sd_expr *e = v->by_id[id];
    if (!seen[id] || e->op != SD_X_REDUCE || v->pinned[id]) continue;
    sd_nest *sub = axes_of(v, n, e);
    if (sub && sub->n_axes && sub->n_axes < n->n_axes) hoist(v, p, sub, e);
  }
}

static program *compile_nest(ev *v, const sd_nest *n) {
  bool reads_own = begin_nest(v, n);
  program *p = begin_program(v, n);
  if (!p->total || v->error) return p;
  if (!n->sequential) {
    program *whole = p;
    hoist_reductions(v, whole, n);
    p = begin_program(v, n);
    p->before.at = whole->before.at;
    p->before.len = whole->before.len;
  }
  for (uint32_t i = 0; i < n->n_axes; i++) {
    if (!n->axes[i]->limit) continue;
    p->limits[i] = compile(v, n->axes[i]->limit);
    p->has_limit = true;
  }
  p->n_limit_insts = p->points.block.len;
  for (uint32_t i = 0; i < n->stores.len; i++) {
    const sd_store *s = &n->stores.at[i];
    sd_inst in = {.fn = sd_eval_store_fn(s->buf->dtype), .y = NONE};
    in.x = compile(v, s->offset);
    in.z = compile(v, s->value);
    if (s->guard) in.y = compile(v, s->guard);
    sd_expr *name = SD_NEW(v->arena, sd_expr); // carries the buffer for messages
    name->buf = s->buf;
    name->op = SD_X_LOAD;
    in.e = name;
    in.imm = v->count[s->buf->id];
    in.data = v->data[s->buf->id];
    emit(v, &p->points, in);
    if (reads_own) forget(v); // a later store of the same point may read what this one wrote
  }
  end_program(v, p);
  return p;
}

// ---- running ----
static void run_insts(sd_vm *vm, const sd_block *b, uint32_t from, uint32_t to) {
  for (uint32_t i = from; i < to; i++) b->at[i].fn(vm, &b->at[i]);
}
static void run_block(sd_vm *vm, const sd_block *b) { run_insts(vm, b, 0, b->len); }

static void reduce_level(sd_vm *vm, const reduction *r, uint32_t depth, const sd_inst *acc) {
  const level *l = r->levels[depth];
  const uint8_t *outer = vm->mask;
  uint8_t mask[SD_LANES];
  int64_t turns = l->extent, *limit = NULL;
  if (l->limit != NONE) {
    limit = sd_vm_reg(vm, l->limit);
    turns = 0;
    for (uint32_t i = 0; i < vm->n; i++) {
      if ((!outer || outer[i]) && limit[i] > turns) turns = limit[i] < l->extent ? limit[i] : l->extent;
    }
  }
  int64_t *x = sd_vm_reg(vm, l->reg);
  for (int64_t t = 0; t < turns && !vm->bad; t++) {
    for (uint32_t i = 0; i < SD_LANES; i++) x[i] = t;
    for (uint32_t i = 0; limit && i < vm->n; i++) mask[i] = (!outer || outer[i]) && t < limit[i];
    if (limit) vm->mask = mask;
    run_block(vm, &l->block);
    if (depth + 1 < r->n) reduce_level(vm, r, depth + 1, acc);
    else r->accumulate(vm, acc);
  }
  vm->mask = outer;
}

static void reduce_inst(sd_vm *vm, const sd_inst *i) {
  const reduction *r = i->data;
  sd_eval_splat(vm, r->acc, r->acc_dtype, r->identity);
  sd_inst acc = {.dst = r->acc, .x = r->value};
  if (r->accumulate) reduce_level(vm, r, 0, &acc);
  if (r->acc_dtype == r->dtype) {
    memcpy(sd_vm_reg(vm, i->dst), sd_vm_reg(vm, r->acc), SD_LANES * 8);
    return;
  }
  const double *from = sd_vm_reg(vm, r->acc);
  float *to = sd_vm_reg(vm, i->dst);
  for (uint32_t l = 0; l < SD_LANES; l++) to[l] = (float)from[l];
}

// Axis registers of `n` points from odometer position `at` on; at advances.
static void fill_points(sd_vm *vm, const program *p, int64_t *at, uint32_t n) {
  uint32_t axes = p->nest->n_axes;
  for (uint32_t lane = 0; lane < n;) {
    int64_t left = axes ? p->extents[axes - 1] - at[axes - 1] : 1;
    uint32_t run = left < (int64_t)(n - lane) ? (uint32_t)left : n - lane;
    for (uint32_t a = 0; a < axes; a++) {
      int64_t *r = sd_vm_reg(vm, p->regs[a]), step = a == axes - 1;
      for (uint32_t l = 0; l < run; l++) r[lane + l] = at[a] + step * (int64_t)l;
    }
    lane += run;
    if (!axes) continue;
    at[axes - 1] += run;
    for (uint32_t a = axes; a-- > 1 && at[a] == p->extents[a];) {
      at[a] = 0;
      at[a - 1]++;
    }
  }
}

static bool limits_mask(sd_vm *vm, const program *p, uint8_t *mask) {
  bool any = false;
  memset(mask, 1, SD_LANES);
  for (uint32_t a = 0; a < p->nest->n_axes; a++) {
    if (p->limits[a] == NONE) continue;
    const int64_t *x = sd_vm_reg(vm, p->regs[a]), *limit = sd_vm_reg(vm, p->limits[a]);
    for (uint32_t l = 0; l < vm->n; l++) mask[l] &= x[l] < limit[l];
  }
  for (uint32_t l = 0; l < vm->n; l++) any |= mask[l];
  return any;
}

static sard_status *failure(const ev *v, const sd_vm *vm) {
  if (vm->bad->op == SD_X_INDEX)
    return SD_ERR(MODEL, "index out of range: %lld is not in [0, %lld)", (long long)vm->bad_value,
        (long long)vm->bad_extent);
  return SD_ERR(INTERNAL, "kernel '%s': element %lld of buffer %u, which has %lld", v->k->name,
      (long long)vm->bad_value,
                vm->bad_buf ? vm->bad_buf->id : 0, (long long)vm->bad_extent);
}

static bool run_program(ev *v, program *p) {
  uint8_t mask[SD_LANES];
  int64_t at[SD_MAX_AXES] = {0};
  sd_vm vm = {.regs = p->storage, .n = SD_LANES};
  if (!p->total) return true;
  for (uint32_t i = 0; i < p->before.len; i++) {
    if (!run_program(v, p->before.at[i])) return false;
  }
  run_block(&vm, &p->entry.block);
  uint32_t step = p->nest->sequential ? 1 : SD_LANES;
  for (int64_t done = 0; done < p->total && !vm.bad; done += vm.n) {
    vm.n = p->total - done < step ? (uint32_t)(p->total - done) : step;
    fill_points(&vm, p, at, vm.n);
    vm.mask = NULL;
    run_insts(&vm, &p->points.block, 0, p->n_limit_insts);
    if (p->has_limit) {
      vm.mask = mask;
      if (!limits_mask(&vm, p, mask)) continue;
    }
    run_insts(&vm, &p->points.block, p->n_limit_insts, p->points.block.len);
  }
  return vm.bad ? set_error(v, failure(v, &vm)) : true;
}

// ---- pure copies ----
typedef struct copy { uint32_t n; int64_t extent[SD_MAX_AXES], from[SD_MAX_AXES], to[SD_MAX_AXES]; size_t size; } copy;

// Strides of an offset over the axes of the nest, base from the axes around it; false when it is not affine in axes.
static bool strides(ev *v, const sd_nest *n, const sd_expr *e, int64_t *base, int64_t *stride) {
  int64_t c;
  memset(stride, 0, SD_MAX_AXES * sizeof *stride);
  *base = 0;
  if (e->op == SD_X_AFFINE && !dim_value(v, e->dim, base)) return false;
  uint32_t terms = e->op == SD_X_AFFINE ? e->n : 1;
  for (uint32_t t = 0; t < terms; t++) {
    const sd_expr *a = e->op == SD_X_AFFINE ? e->a[t] : e;
    uint32_t i = 0;
    if (a->op != SD_X_AXIS) return false;
    if (e->op != SD_X_AFFINE) c = 1;
    else if (!dim_value(v, e->coef[t], &c)) return false;
    while (i < n->n_axes && n->axes[i] != a->axis) i++;
    if (i < n->n_axes) stride[i] = c;
    else *base += c * v->axis_at[a->axis->id];
  }
  return true;
}

static bool range_ok(const copy *c, int64_t base, const int64_t *stride, int64_t count) {
  int64_t lo = base, hi = base, d;
  for (uint32_t i = 0; i < c->n; i++) {
    if (!sd_ck_mul_i64(stride[i], c->extent[i] - 1, &d)) return false;
    if (!sd_ck_add_i64(d < 0 ? lo : hi, d, d < 0 ? &lo : &hi)) return false;
  }
  return lo >= 0 && hi < count;
}

static void copy_elements(uint8_t *to, const uint8_t *from, int64_t n, int64_t ts, int64_t fs, size_t size) {
#define COPY(T) { T *d = (T *)to; const T *s = (const T *)from; for (int64_t i = 0; i < n; i++) d[i * ts] = s[i * fs]; return; }
  switch (size) {
  case 1: COPY(uint8_t)
  case 2: COPY(uint16_t)
  case 4: COPY(uint32_t)
  case 8: COPY(uint64_t)
  }
#undef COPY
}

static void copy_box(const copy *c, uint32_t d, uint8_t *to, const uint8_t *from) {
  if (d + 1 >= c->n) {
    int64_t n = c->n ? c->extent[c->n - 1] : 1, ts = c->n ? c->to[c->n - 1] : 1, fs = c->n ? c->from[c->n - 1] : 1;
    if (ts == 1 && fs == 1) memcpy(to, from, (size_t)n * c->size);
    else copy_elements(to, from, n, ts, fs, c->size);
    return;
  }
  // A transpose of two large inner axes is done in square blocks.
  if (d + 2 == c->n && c->extent[d] > 16 && c->extent[d + 1] > 16 && (c->from[d + 1] != 1 || c->to[d + 1] != 1)) {
    for (int64_t i = 0; i < c->extent[d]; i += 16) {
      for (int64_t j = 0; j < c->extent[d + 1]; j += 16) {
        int64_t ni = sd_min_i64(16, c->extent[d] - i), nj = sd_min_i64(16, c->extent[d + 1] - j);
        for (int64_t x = i; x < i + ni; x++) {
          copy_elements(to + (x * c->to[d] + j * c->to[d + 1]) * (int64_t)c->size,
                        from + (x * c->from[d] + j * c->from[d + 1]) * (int64_t)c->size, nj, c->to[d + 1],
                        c->from[d + 1], c->size);
        }
      }
    }
    return;
  }
  for (int64_t i = 0; i < c->extent[d]; i++) {
    copy_box(c, d + 1, to + i * c->to[d] * (int64_t)c->size, from + i * c->from[d] * (int64_t)c->size);
  }
}

static bool abs_before(const copy *c, uint32_t i, uint32_t j) { // i outside of j
  int64_t ti = c->to[i] < 0 ? -c->to[i] : c->to[i], tj = c->to[j] < 0 ? -c->to[j] : c->to[j];
  return ti > tj;
}

// Outer axes first by the stride of what is written; contiguous neighbours become one.
static void copy_normalize(copy *c) {
  for (uint32_t i = 1; i < c->n; i++) {
    for (uint32_t j = i; j > 0 && abs_before(c, j, j - 1); j--) {
      int64_t e = c->extent[j], f = c->from[j], t = c->to[j];
      c->extent[j] = c->extent[j - 1], c->from[j] = c->from[j - 1], c->to[j] = c->to[j - 1];
      c->extent[j - 1] = e, c->from[j - 1] = f, c->to[j - 1] = t;
    }
  }
  uint32_t n = 0;
  for (uint32_t i = 0; i < c->n; i++) {
    if (c->extent[i] == 1) continue;
    if (n && c->from[n - 1] == c->from[i] * c->extent[i] && c->to[n - 1] == c->to[i] * c->extent[i]) {
      c->extent[n - 1] *= c->extent[i];
      c->from[n - 1] = c->from[i];
      c->to[n - 1] = c->to[i];
      continue;
    }
    c->extent[n] = c->extent[i], c->from[n] = c->from[i], c->to[n] = c->to[i];
    n++;
  }
  c->n = n;
}

static bool is_copy(const sd_nest *n) {
  for (uint32_t i = 0; i < n->n_axes; i++) {
    if (n->axes[i]->limit) return false;
  }
  for (uint32_t i = 0; i < n->stores.len; i++) {
    const sd_store *s = &n->stores.at[i];
    if (s->guard || s->value->op != SD_X_LOAD || s->value->a[1] || s->value->buf->dtype != s->buf->dtype) return false;
    if (sd_dtype_bits(s->buf->dtype) % 8) return false;
    for (uint32_t j = 0; j < n->stores.len; j++) {
      if (n->stores.at[j].buf == s->value->buf) return false;
    }
  }
  return n->stores.len > 0;
}

// False: not done (the general way reports what is wrong, if anything).
static bool run_copies(ev *v, const sd_nest *n) {
  copy c = {.n = n->n_axes};
  for (int pass = 0; pass < 2; pass++) {
    for (uint32_t i = 0; i < n->stores.len; i++) {
      const sd_store *s = &n->stores.at[i];
      const sd_buf *from = s->value->buf;
      int64_t fb, tb;
      c.n = n->n_axes;
      c.size = (size_t)sd_dtype_bits(s->buf->dtype) / 8;
      for (uint32_t a = 0; a < c.n; a++) {
        if (!dim_value(v, n->axes[a]->extent, &c.extent[a])) return false;
        if (c.extent[a] <= 0) return true;
      }
      if (!strides(v, n, s->value->a[0], &fb, c.from) || !strides(v, n, s->offset, &tb, c.to)) return false;
      if (!pass) {
        if (!range_ok(&c, fb, c.from, v->count[from->id]) || !range_ok(&c, tb, c.to, v->count[s->buf->id]))
          return false;
        continue;
      }
      copy_normalize(&c);
      copy_box(&c, 0, (uint8_t *)v->data[s->buf->id] + tb * (int64_t)c.size,
               (const uint8_t *)v->data[from->id] + fb * (int64_t)c.size);
    }
  }
  return true;
}

// ---- kernels ----
static program *program_of(ev *v, const sd_nest *n) {
  for (uint32_t i = 0; i < v->n_programs; i++) { // nests run in turns: the wanted one is mostly the next
    program *p = v->programs[(v->next + i) % v->n_programs];
    if (p->nest != n) continue;
    v->next = (v->next + i + 1) % v->n_programs;
    return p;
  }
  program **more = SD_NEW_ARRAY(v->arena, program *, v->n_programs + 1);
  if (v->n_programs) memcpy(more, v->programs, v->n_programs * sizeof *more);
  more[v->n_programs] = compile_nest(v, n);
  v->programs = more;
  return more[v->n_programs++];
}

static bool run_nest(ev *v, const sd_nest *n) {
  if (!n->sequential && is_copy(n) && run_copies(v, n)) return true;
  if (v->error) return false;
  program *p = program_of(v, n);
  return v->error ? false : run_program(v, p);
}

// Value of an axis limit that uses only grid and loop axes.
static bool scalar_limit(ev *v, const sd_axis *a, int64_t *extent) {
  if (!dim_value(v, a->extent, extent)) return false;
  if (!a->limit) return true;
  static const sd_nest nowhere; // no axes: all is at the entry level
  begin_nest(v, &nowhere);
  program *p = begin_program(v, &nowhere);
  uint32_t r = compile(v, a->limit);
  end_program(v, p);
  sd_vm vm = {.regs = p->storage, .n = 1};
  run_block(&vm, &p->entry.block);
  if (vm.bad) return set_error(v, failure(v, &vm));
  *extent = sd_min_i64(*extent, sd_eval_lane(&vm, r, SD_I64, 0).i);
  return !v->error;
}

static bool run_items(ev *v, const sd_items *items) {
  for (uint32_t i = 0; i < items->len; i++) {
    const sd_item *it = &items->at[i];
    int64_t n = 0;
    if (it->nest) {
      if (!run_nest(v, it->nest)) return false;
      continue;
    }
    if (!scalar_limit(v, it->loop, &n)) return false;
    for (int64_t x = 0; x < n; x++) {
      v->axis_at[it->loop->id] = x;
      v->outer[it->loop->id] = true;
      if (!run_items(v, it->body)) return false;
    }
    v->outer[it->loop->id] = false;
  }
  return true;
}

static bool run_grid(ev *v, uint32_t d) {
  int64_t n;
  if (d == v->k->grid.len) return run_items(v, &v->k->items);
  const sd_axis *a = v->k->grid.at[d];
  if (!scalar_limit(v, a, &n)) return false;
  for (int64_t x = 0; x < n; x++) {
    v->axis_at[a->id] = x;
    v->outer[a->id] = true;
    if (!run_grid(v, d + 1)) return false;
  }
  return true;
}

static bool bind_buffers(ev *v, void *const *data) {
  for (uint32_t i = 0; i < v->k->bufs.len; i++) {
    const sd_buf *b = v->k->bufs.at[i];
    uint64_t bytes;
    if (!dim_value(v, b->count, &v->count[i])) return false;
    v->data[i] = data ? data[i] : NULL;
    if (v->count[i] < 0 || !sd_dtype_bytes(b->dtype, (uint64_t)v->count[i], &bytes))
      return set_error(v, SD_ERR(NOMEM, "kernel '%s': buffer %u is too large", v->k->name, i));
    if (v->data[i]) continue;
    if (b->kind != SD_BUF_LOCAL && v->count[i])
      return set_error(v, SD_ERR(INTERNAL, "kernel '%s': no memory given for buffer %u", v->k->name, i));
    v->data[i] = sd_arena_aligned(v->arena, bytes + 64, 64);
    memset(v->data[i], 0xa5, bytes); // reading what was not written shows
  }
  return true;
}

sard_status *sd_kernel_eval(const sd_kernel *k, void *const *data, sd_symfn sym, void *user) {
  jmp_buf oom;
  sd_arena *a = sd_arena_new();
  if (!a) return SD_ERR(NOMEM, "no memory to interpret kernel '%s'", k->name);
  sd_arena_set_oom(a, &oom);
  if (setjmp(oom)) {
    sd_arena_free(a);
    return SD_ERR(NOMEM, "no memory to interpret kernel '%s'", k->name);
  }
  ev *v = SD_NEW(a, ev);
  *v = (ev){.k = k, .arena = a, .sym = sym, .user = user};
  v->data = SD_NEW_ARRAY(a, void *, k->bufs.len + 1);
  v->count = SD_NEW_ARRAY(a, int64_t, k->bufs.len + 1);
  v->axis_at = SD_NEW_ARRAY(a, int64_t, k->n_axis + 1);
  v->outer = SD_NEW_ARRAY(a, bool, k->n_axis + 1);
  v->tables = SD_NEW_ARRAY(a, table *, k->n_expr + 1);
  v->pinned = SD_NEW_ARRAY(a, bool, k->n_expr + 1);
  v->memo = sd_arena_array(a, k->n_expr + 1, sizeof *v->memo);
  v->by_id = sd_tile_by_id(k, a);
  v->free = sd_tile_free_axes(k, v->by_id, a);
  if (bind_buffers(v, data)) run_grid(v, 0);
  sard_status *st = v->error;
  sd_arena_free(a);
  return st;
}
