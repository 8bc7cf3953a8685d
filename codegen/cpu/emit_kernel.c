// From a scheduled kernel to an object: the function with its tile loop, grid decoding, items, buffers and dims.
#include "codegen/cpu/emit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codegen/vmath.h"
#include "runtime/artifact.h"

// ---- small values ----
sd_ll sd_emit_i64(sd_emit *E, int64_t v) { return LLVMConstInt(E->i64, (uint64_t)v, true); }

bool sd_emit_const(sd_ll v, int64_t *out) {
  if (!LLVMIsAConstantInt(v)) return false;
  *out = LLVMConstIntGetSExtValue(v);
  return true;
}

sd_ll sd_emit_dim(sd_emit *E, sd_dim d) {
  int64_t v;
  if (sd_dim_is_const(E->k->dims, d, &v)) return sd_emit_i64(E, v);
  for (uint32_t i = 0; i < E->dims.len; i++)
    if (E->dims.at[i] == d) return E->dim_v.at[i];
  sd_ll index = sd_emit_i64(E, E->dims.len);
  sd_ll x = LLVMBuildLoad2(E->entry, E->i64, LLVMBuildGEP2(E->entry, E->i64, E->dim_ptr, &index, 1, ""), "");
  sd_vec_push(E->a, &E->dims, d);
  sd_vec_push(E->a, &E->dim_v, x);
  return x;
}

// ---- before LLVM: expressions with the functions expanded, vector width, sizes ----
static void find_roots(sd_emit *E, const sd_items *items) {
  for (uint32_t i = 0; i < items->len; i++) {
    const sd_item *it = &items->at[i];
    if (it->loop) {
      find_roots(E, it->body);
      continue;
    }
    struct sd_emit_nestroots n = {it->nest, SD_NEW_ARRAY(E->a, sd_emit_root, it->nest->stores.len)};
    for (uint32_t s = 0; s < it->nest->stores.len; s++) {
      const sd_store *st = &it->nest->stores.at[s];
      n.root[s] = (sd_emit_root){st->buf, st->offset, sd_vmath_expand(E->k, st->value, E->isa->vector_bytes == 64 ? SD_VMATH_SCALE : SD_VMATH_PLAIN), st->guard};
    }
    sd_vec_push(E->a, &E->nests, n);
  }
}

static bool has_f64(const sd_expr *e, uint8_t *seen) {
  if (seen[e->id]) return false;
  seen[e->id] = 1;
  if (e->dtype == SD_F64 && e->op != SD_X_CONST) return true;
  for (uint32_t i = 0; i < e->n; i++)
    if (e->a[i] && has_f64(e->a[i], seen)) return true;
  return false;
}

static bool items_f64(const sd_items *items, uint8_t *seen) {
  for (uint32_t i = 0; i < items->len; i++) {
    if (items->at[i].loop && items_f64(items->at[i].body, seen)) return true;
    for (uint32_t s = 0; items->at[i].nest && s < items->at[i].nest->stores.len; s++)
      if (has_f64(items->at[i].nest->stores.at[s].value, seen)) return true;
  }
  return false;
}

int sd_emit_lanes(const sd_kernel *k, const sd_isa *isa) {
  uint8_t *seen = SD_NEW_ARRAY(k->arena, uint8_t, k->n_expr);
  return isa->vector_bytes / (items_f64(&k->items, seen) ? 8 : 4);
}

static sd_dim align64(sd_dimtab *t, sd_dim bytes) {
  sd_dim q = sd_dim_const(t, 64);
  return sd_dim_mul(t, sd_dim_ceildiv(t, bytes, q), q);
}

typedef struct layout { sd_dim *local; sd_dim scratch, tiles; sd_dim *axis_tiles; const sd_nest *split; } layout;

// Sizes in dims: offsets of local buffers, number of tiles.
static sard_status *make_layout(sd_emit *E, layout *l) {
  sd_dimtab *t = E->k->dims;
  l->local = SD_NEW_ARRAY(E->a, sd_dim, E->k->bufs.len);
  l->scratch = sd_dim_const(t, 0);
  for (uint32_t i = 0; i < E->k->bufs.len; i++) {
    const sd_buf *b = E->k->bufs.at[i];
    if (b->kind != SD_BUF_LOCAL) continue;
    l->local[i] = l->scratch;
    l->scratch = sd_dim_add(t, l->scratch, align64(t, sd_dim_bytes(t, b->dtype, b->count)));
  }
  l->tiles = sd_dim_const(t, 1);
  for (uint32_t i = 0; i < E->k->grid.len; i++) l->tiles = sd_dim_mul(t, l->tiles, E->k->grid.at[i]->extent);
  if (E->k->items.len == 1 && E->k->items.at[0].nest) l->split = E->k->items.at[0].nest;
  for (uint32_t n = 0; n < E->nests.len; n++)
    for (uint32_t i = 0; i < E->nests.at[n].nest->n_axes; i++)
      if (E->nests.at[n].nest->axes[i]->block > 0 && E->nests.at[n].nest != l->split)
        return SD_ERR(INTERNAL, "kernel %s has several items and blocks axis %s", E->k->name, E->nests.at[n].nest->axes[i]->name);
  l->axis_tiles = SD_NEW_ARRAY(E->a, sd_dim, SD_MAX_AXES);
  for (uint32_t i = 0; l->split && i < l->split->n_axes; i++) {
    const sd_axis *a = l->split->axes[i];
    if (a->block <= 0) continue;
    l->axis_tiles[i] = sd_dim_ceildiv(t, a->extent, sd_dim_const(t, a->block));
    l->tiles = sd_dim_mul(t, l->tiles, l->axis_tiles[i]);
  }
  if (!l->tiles || !l->scratch) return SD_ERR(UNSUPPORTED, "sizes of kernel %s overflow", E->k->name);
  return NULL;
}

// ---- the function ----
static void attribute(sd_emit *E, const char *name, const char *value) {
  LLVMAttributeRef a;
  if (value)
    a = LLVMCreateStringAttribute(E->c, name, (unsigned)strlen(name), value, (unsigned)strlen(value));
  else
    a = LLVMCreateEnumAttribute(E->c, LLVMGetEnumAttributeKindForName(name, strlen(name)), 0);
  LLVMAddAttributeAtIndex(E->fn, LLVMAttributeFunctionIndex, a);
}

static void make_types(sd_emit *E) {
  LLVMContextRef c = E->c;
  E->i1 = LLVMInt1TypeInContext(c), E->i8 = LLVMInt8TypeInContext(c), E->i16 = LLVMInt16TypeInContext(c);
  E->i32 = LLVMInt32TypeInContext(c), E->i64 = LLVMInt64TypeInContext(c);
  E->f16 = LLVMHalfTypeInContext(c), E->f32 = LLVMFloatTypeInContext(c), E->f64 = LLVMDoubleTypeInContext(c);
  E->ptr = LLVMPointerTypeInContext(c, 0);
  E->md_invariant = LLVMGetMDKindIDInContext(c, "invariant.load", 14);
  E->md_empty = LLVMMDNodeInContext(c, NULL, 0);
}

static sd_ll field(sd_emit *E, size_t offset) {
  sd_ll i = sd_emit_i64(E, (int64_t)offset);
  return LLVMBuildLoad2(E->entry, E->ptr, LLVMBuildGEP2(E->entry, E->i8, E->dispatch, &i, 1, ""), "");
}

static void make_buffers(sd_emit *E, const layout *l) {
  sd_ll bufs = field(E, offsetof(sard_dispatch, buf)), scratch = NULL;
  E->dim_ptr = field(E, offsetof(sard_dispatch, dim));
  E->buf_v = SD_NEW_ARRAY(E->a, sd_ll, E->k->bufs.len);
  E->asked = SD_NEW_ARRAY(E->a, const sd_nest *, E->k->bufs.len);
  uint32_t param = 0;
  for (uint32_t i = 0; i < E->k->bufs.len; i++) {
    if (E->k->bufs.at[i]->kind != SD_BUF_LOCAL) {
      sd_ll n = sd_emit_i64(E, param++);
      E->buf_v[i] = LLVMBuildLoad2(E->entry, E->ptr, LLVMBuildGEP2(E->entry, E->ptr, bufs, &n, 1, ""), "");
      continue;
    }
    if (!scratch) scratch = field(E, offsetof(sard_dispatch, scratch));
    sd_ll off = sd_emit_dim(E, l->local[i]);
    E->buf_v[i] = LLVMBuildGEP2(E->entry, E->i8, scratch, &off, 1, "");
  }
}

static void make_zeros(sd_emit *E) {
  LLVMTypeRef t = LLVMArrayType(E->i8, (unsigned)E->lanes_full * 8);
  E->zeros = LLVMAddGlobal(E->m, t, "sard.zeros");
  LLVMSetInitializer(E->zeros, LLVMConstNull(t));
  LLVMSetGlobalConstant(E->zeros, true);
  LLVMSetLinkage(E->zeros, LLVMPrivateLinkage);
  LLVMSetAlignment(E->zeros, 64);
}

static void emit_items(sd_emit *E, const sd_items *items, uint32_t *nest) {
  for (uint32_t i = 0; i < items->len; i++) {
    const sd_item *it = &items->at[i];
    if (it->nest) {
      sd_emit_nest(E, &E->nests.at[(*nest)++]);
      continue;
    }
    sd_emit_loop l;
    sd_emit_scope_open(E);
    sd_ll end = sd_emit_axis_end(E, it->loop), last = LLVMBuildSub(E->b, end, sd_emit_i64(E, 1), "");
    sd_emit_loop_open(E, &l, sd_emit_i64(E, 0), last, 1, false, NULL);
    sd_emit_bind_point(E, it->loop, l.iv, 0);
    const sd_axis *outer = E->row;
    E->row = it->loop;
    emit_items(E, it->body, nest);
    E->row = outer;
    sd_emit_unbind(E, it->loop);
    sd_emit_loop_close(E, &l);
    sd_emit_scope_close(E);
  }
}

// Splits off the last dimension of a row-major tile index: returns index % n and leaves index / n.
static sd_ll digit(sd_emit *E, sd_ll *index, sd_dim n, bool first) {
  if (first) return *index;
  sd_ll d = sd_emit_dim(E, n), r = LLVMBuildURem(E->b, *index, d, "");
  *index = LLVMBuildUDiv(E->b, *index, d, "");
  return r;
}

// One tile: binds grid axes and ranges of blocked axes from its index.
static void emit_tile(sd_emit *E, const layout *l, sd_ll index) {
  uint32_t n_axes = l->split ? l->split->n_axes : 0, parts = E->k->grid.len, nest = 0;
  for (uint32_t i = 0; i < n_axes; i++) parts += l->axis_tiles[i] != SD_DIM_NONE;
  for (uint32_t i = n_axes; i-- > 0;) {
    if (!l->axis_tiles[i]) continue;
    const sd_axis *a = l->split->axes[i];
    sd_ll block = sd_emit_i64(E, a->block), end = sd_emit_dim(E, a->extent);
    sd_ll lo = LLVMBuildMul(E->b, digit(E, &index, l->axis_tiles[i], --parts == 0), block, "");
    sd_ll hi = LLVMBuildAdd(E->b, lo, block, "");
    int64_t n;
    if (!sd_dim_is_const(E->k->dims, a->extent, &n) || n % a->block)
      hi = LLVMBuildSelect(E->b, LLVMBuildICmp(E->b, LLVMIntSLT, hi, end, ""), hi, end, "");
    int no = sd_emit_axis_no(E, a);
    E->block_lo[no] = lo, E->block_hi[no] = hi;
  }
  for (uint32_t i = E->k->grid.len; i-- > 0;) {
    const sd_axis *a = E->k->grid.at[i];
    sd_emit_bind_point(E, a, digit(E, &index, a->extent, --parts == 0), 0);
  }
  emit_items(E, &E->k->items, &nest);
}

static void write_error(sd_emit *E) { // the flag collected on the stack goes to the dispatch
  sd_emit_if f;
  sd_ll bad = LLVMBuildLoad2(E->b, E->i32, E->err, "");
  sd_emit_if_open(E, &f, LLVMBuildICmp(E->b, LLVMIntNE, bad, LLVMConstInt(E->i32, 0, 0), ""), NULL);
  sd_ll i = sd_emit_i64(E, offsetof(sard_dispatch, error));
  sd_ll p = LLVMBuildLoad2(E->b, E->ptr, LLVMBuildGEP2(E->b, E->i8, E->dispatch, &i, 1, ""), "");
  LLVMBuildStore(E->b, LLVMConstInt(E->i32, SARD_KE_INDEX, 0), p);
  sd_emit_if_close(E, &f);
}

static void emit_function(sd_emit *E, const layout *l, const char *symbol) {
  LLVMTypeRef ft = LLVMFunctionType(E->i32, (LLVMTypeRef[]){E->ptr, E->i32, E->i32}, 3, false);
  E->fn = LLVMAddFunction(E->m, symbol, ft);
  attribute(E, "nounwind", NULL);
  attribute(E, "no-builtins", "");
  attribute(E, "target-cpu", E->isa->cpu);
  attribute(E, "target-features", E->isa->features);
  E->dispatch = LLVMGetParam(E->fn, 0);
  LLVMBasicBlockRef first = LLVMAppendBasicBlockInContext(E->c, E->fn, ""), body = LLVMAppendBasicBlockInContext(E->c, E->fn, "");
  LLVMPositionBuilderAtEnd(E->entry, first);
  LLVMPositionBuilderAtEnd(E->b, body);
  make_zeros(E);
  make_buffers(E, l);
  sd_emit_scope_open(E);
  sd_ll lo = LLVMBuildZExt(E->entry, LLVMGetParam(E->fn, 1), E->i64, "");
  sd_ll end = LLVMBuildZExt(E->entry, LLVMGetParam(E->fn, 2), E->i64, "");
  sd_emit_loop loop;
  sd_emit_loop_open(E, &loop, lo, LLVMBuildSub(E->b, end, sd_emit_i64(E, 1), ""), 1, false, NULL);
  emit_tile(E, l, loop.iv);
  sd_emit_loop_close(E, &loop);
  sd_emit_scope_close(E);
  if (E->err) write_error(E);
  sd_emit_matrix_begin(E);
  sd_emit_matrix_end(E);
  LLVMBuildRet(E->b, LLVMConstInt(E->i32, 0, 0));
  LLVMBuildBr(E->entry, body);
}

// ---- the call ----
static void prepare(sd_emit *E) {
  bool x86 = !strcmp(E->isa->arch, "x86_64");
  E->has_fma = !x86 || strstr(E->isa->features, "+fma");
  E->has_round = !x86 || strstr(E->isa->features, "+sse4.1");
  E->has_f16 = !x86 || strstr(E->isa->features, "+f16c");
  E->has_bf16 = x86 && strstr(E->isa->features, "+avx512bf16");
  find_roots(E, &E->k->items);
  E->n_info = E->k->n_expr;
  E->info = SD_NEW_ARRAY(E->a, sd_emit_info, E->n_info);
  E->axis_no = SD_NEW_ARRAY(E->a, uint16_t, E->k->n_axis);
  E->axes = SD_NEW_ARRAY(E->a, const sd_axis *, SD_EMIT_AXES);
  E->bind = SD_NEW_ARRAY(E->a, sd_emit_bind, SD_EMIT_AXES);
  for (int i = 0; i < SD_EMIT_AXES; i++) E->bind[i] = (sd_emit_bind){.slot = -1, .step = 1};
  E->block_lo = SD_NEW_ARRAY(E->a, sd_ll, SD_EMIT_AXES);
  E->block_hi = SD_NEW_ARRAY(E->a, sd_ll, SD_EMIT_AXES);
  E->epoch = 1;
}

static void check_depth(sd_emit *E) { // before anything walks the expressions without a limit of its own
  for (uint32_t n = 0; n < E->nests.len; n++)
    for (uint32_t s = 0; s < E->nests.at[n].nest->stores.len; s++) {
      const sd_emit_root *r = &E->nests.at[n].root[s];
      sd_emit_info_of(E, r->value);
      sd_emit_info_of(E, r->offset);
      if (r->guard) sd_emit_info_of(E, r->guard);
    }
}

static sard_status *emit(sd_object_thread *th, sd_emit *E, const char *symbol, int opt, sd_arena *out, sd_machine_code *o) {
  layout l = {0};
  prepare(E);
  check_depth(E);
  if (E->error) return E->error;
  SD_TRY(make_layout(E, &l));
  E->m = th->m = LLVMModuleCreateWithNameInContext(symbol, E->c);
  E->b = th->b = LLVMCreateBuilderInContext(E->c);
  E->entry = th->entry = LLVMCreateBuilderInContext(E->c);
  make_types(E);
  emit_function(E, &l, symbol);
  if (E->error) return E->error;
  *o = (sd_machine_code){.n_dims = E->dims.len, .tiles = l.tiles, .scratch = l.scratch};
  SD_TRY(sd_object_emit(th, E->isa, opt, symbol, out, o));
  o->dims = sd_arena_dup(out, E->dims.at, E->dims.len * sizeof *E->dims.at);
  return NULL;
}

sard_status *sd_emit_llvm(const sd_kernel *k, const sd_isa *isa, const char *symbol, int opt, sd_arena *out, sd_machine_code *o) {
  sd_object_thread *th;
  jmp_buf oom;
  SD_TRY(sd_object_begin(&th));
  sd_arena_set_oom(th->scratch, &oom);
  if (setjmp(oom)) return SD_ERR(NOMEM, "out of memory while emitting kernel %s", k->name);
  sd_emit *E = SD_NEW(th->scratch, sd_emit);
  E->a = th->scratch, E->c = th->ctx, E->isa = isa;
  E->k = (sd_kernel *)k; // only new expressions and dims are added to its tables; its stores stay as they are
  E->lanes_full = sd_emit_lanes(k, isa);
  sard_status *st = emit(th, E, symbol, opt, out, o);
  sd_object_end(th);
  return st;
}
