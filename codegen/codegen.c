// The back end's driver: nodes to kernels, kernels to code; the plan of steps is made in flow.c and plan_write.c.
#include "codegen/codegen.h"

#include "codegen/access.h"
#include "codegen/choose.h"
#include "codegen/cuda/cuda.h"
#include "codegen/describe.h"
#include "codegen/gen.h"
#include "codegen/tuning.h"
#include "ir/parts.h"
#include "runtime/base/alloc.h"
#include "runtime/base/hash.h"
#include "runtime/base/thread.h"

// ---- lowering ----

// Do `inner` and `outer` go over limit->dim points in pieces, of which the last one is shorter?
static bool in_pieces(sd_kernel *k, const sd_axis *inner, const sd_axis *outer) {
  const sd_expr *l = inner->limit;
  if (!l || l->op != SD_X_AFFINE || l->n != 1 || l->a[0]->op != SD_X_AXIS || l->a[0]->axis != outer) return false;
  return sd_dim_is(k->dims, sd_dim_add(k->dims, l->coef[0], inner->extent), 0) &&
         sd_dim_eq(k->dims, outer->extent, sd_dim_ceildiv(k->dims, l->dim, inner->extent)) == 1;
}

// `times` the points of the axes of the nest that `of` uses, NULL: of all.
static sd_dim nest_points(sd_kernel *k, const sd_nest *n, const sd_expr *of, sd_dim times) {
  for (uint32_t i = 0; i < n->n_axes; i++) {
    sd_dim extent = n->axes[i]->extent;
    for (uint32_t j = 0; j < n->n_axes; j++) {
      if (in_pieces(k, n->axes[i], n->axes[j])) extent = n->axes[i]->limit->dim;
      if (in_pieces(k, n->axes[j], n->axes[i])) extent = sd_dim_const(k->dims, 1);
    }
    if (!of || sd_x_uses_axis(of, n->axes[i])) times = sd_dim_mul(k->dims, times, extent);
  }
  return times;
}

// Operations of a kernel for profiles: a multiply and an add for each step of each reduction, one for each store.
typedef struct walker { sd_kernel *k; sd_arena *a; sd_dim total; } walker;
static void count_items(walker *w, const sd_items *items, sd_dim times) {
  sd_dimtab *t = w->k->dims;
  for (uint32_t i = 0; i < items->len; i++) {
    const sd_item *it = &items->at[i];
    if (it->loop) {
      count_items(w, it->body, sd_dim_mul(t, times, it->loop->extent));
      continue;
    }
    sd_accesses loads = {0};
    sd_reductions reductions = {0};
    sd_access_collect(w->k, it->nest, w->a, &loads, &reductions);
    w->total = sd_dim_add(t, w->total, nest_points(w->k, it->nest, NULL, times));
    for (uint32_t r = 0; r < reductions.len; r++) {
      sd_dim p = nest_points(w->k, it->nest, reductions.at[r].expr, sd_dim_mul(t, times, sd_dim_const(t, 2)));
      for (uint32_t q = 0; q < reductions.at[r].expr->n_axes; q++) p = sd_dim_mul(t, p, reductions.at[r].expr->axes[q]->extent);
      w->total = sd_dim_add(t, w->total, p);
    }
  }
}

sd_dim sd_codegen_flops(sd_kernel *k, sd_arena *a) {
  walker w = {k, a, sd_dim_const(k->dims, 0)};
  sd_dim times = sd_dim_const(k->dims, 1);
  for (uint32_t i = 0; i < k->grid.len; i++) times = sd_dim_mul(k->dims, times, k->grid.at[i]->extent);
  count_items(&w, &k->items, times);
  return w.total;
}

static sd_dim kernel_bytes(const sd_kernel *k) {
  sd_dim sum = sd_dim_const(k->dims, 0);
  for (uint32_t i = 0; i < k->bufs.len; i++) {
    const sd_buf *b = k->bufs.at[i];
    if (b->kind != SD_BUF_LOCAL) sum = sd_dim_add(k->dims, sum, sd_dim_bytes(k->dims, b->dtype, b->count));
  }
  return sum;
}

static uint32_t unit_of(sd_gen *g, const char *text, const char *schedule) {
  uint64_t h = sd_hash_bytes(text, strlen(text), 0);
  for (uint32_t i = 0; i < g->units.len; i++)
    if (g->unit_hash[i] == h && strcmp(g->units.at[i].text, text) == 0) return i;
  if (g->units.len == g->unit_cap) {
    uint32_t cap = g->unit_cap ? 2 * g->unit_cap : 64;
    uint64_t *hash = SD_NEW_ARRAY(g->a, uint64_t, cap);
    if (g->unit_cap) memcpy(hash, g->unit_hash, g->unit_cap * sizeof *hash);
    g->unit_hash = hash, g->unit_cap = cap;
  }
  g->unit_hash[g->units.len] = h;
  const char *symbol = sd_arena_printf(g->a, "k%u", g->units.len);
  sd_vec_push(g->a, &g->units, ((sd_unit){.text = text, .symbol = symbol, .schedule = schedule}));
  return g->units.len - 1;
}

static sard_status *kernel_text(const sd_kernel *k, sd_arena *a, const char **out) {
  sd_str text = {0};
  sard_status *st = sd_kernel_print(k, &text);
  if (st) sd_str_free(&text);
  else *out = sd_arena_keep(a, sd_str_take(&text));
  return st;
}

// Hands the texts of a kernel to the caller of the compiler, with the node that first needed it.
static sard_status *show_cuda(const sd_gen *g, const sd_node *n, const char *symbol, sd_arena *scratch) {
  sd_cuda_source s;
  sd_str text = {0};
  SD_TRY(sd_cuda_node_source(scratch, g->m, n, symbol, &(sd_cuda_options){.tf32 = g->o->tf32}, NULL, &s));
  sd_strf(&text, "// %s: %s '%s'\n// blocks ", symbol, n->op->name, n->name);
  sd_dim_print(g->m->dims, s.blocks, &text);
  for (uint32_t i = 0; i < s.n_dims; i++) sd_strf(&text, "; d%u = ", i), sd_dim_print(g->m->dims, s.dims[i], &text);
  if (!sd_dim_is(g->m->dims, s.scratch, 0)) sd_str_put(&text, "; scratch "), sd_dim_print(g->m->dims, s.scratch, &text);
  sd_strf(&text, "\n%s", s.text);
  const char *all = sd_arena_keep(scratch, sd_str_take(&text));
  return g->o->kernel_fn(g->o->kernel_user, "cuda", all);
}

static sard_status *show_kernel(sd_gen *g, const sd_node *n, const sd_unit *u, const char *lowered, sd_arena *scratch) {
  if (g->o->show_cuda) return show_cuda(g, n, u->symbol, scratch);
  const char *head = sd_arena_printf(scratch, "# %s: %s '%s'\n", u->symbol, n->op->name, n->name);
  SD_TRY(g->o->kernel_fn(g->o->kernel_user, "lower", sd_arena_printf(scratch, "%s%s", head, lowered)));
  return g->o->kernel_fn(g->o->kernel_user, "kernels", sd_arena_printf(scratch, "%s%s", head, u->text));
}

// ---- indices into nothing ----

// An index out of range is reported, and the kernel goes on with 0: which exists only where the indexed size is not 0.
typedef struct index_walk {
  sd_gen *g;
  sd_kernel *k;
  const sd_node *n;
  uint8_t *seen; // by expression id
  sd_dim count;  // points of the nest at hand
  sard_status *st;
} index_walk;

static void check_extent(index_walk *w, sd_dim extent) {
  sd_dimtab *t = w->k->dims;
  sd_dim one = sd_dim_const(t, 1), some = sd_dim_min(t, one, w->count), both = sd_dim_mul(t, some, sd_dim_min(t, one, extent));
  if (w->st || some == both || sd_dim_get(t, extent)->min >= 1) return;
  const char *what = sd_arena_printf(w->g->a, "an index of %s into a dimension", *w->n->name ? w->n->name : w->n->op->name);
  if (sd_dim_eq(t, some, both) == 0) w->st = SD_ERR(MODEL, "an index into a dimension of size 0");
  else if (!w->n->graph->owner) sd_module_require(w->g->m, both, some, false, what);
  else {
    sd_step s = {.kind = SARD_AS_CHECK, .node = w->n};
    sd_vec_push(w->g->a, &s.dims, both);
    sd_vec_push(w->g->a, &s.dims, some);
    sd_vec_push(w->g->a, &s.dims, sd_dim_const(t, 0));
    sd_vec_push(w->g->a, &w->g->steps, s);
  }
}

static void find_indices(index_walk *w, const sd_expr *e) {
  if (!e || w->seen[e->id]) return;
  w->seen[e->id] = 1;
  if (e->op == SD_X_INDEX && e->a[1]->op == SD_X_AFFINE && e->a[1]->n == 0) check_extent(w, e->a[1]->dim);
  sd_dim outside = w->count;
  for (uint32_t i = 0; e->op == SD_X_REDUCE && i < e->n_axes; i++) w->count = sd_dim_mul(w->k->dims, w->count, e->axes[i]->extent);
  for (uint32_t i = 0; i < e->n; i++) find_indices(w, e->a[i]);
  w->count = outside;
}

static void walk_indices(index_walk *w, const sd_items *items, sd_dim times) {
  for (uint32_t i = 0; i < items->len; i++) {
    const sd_item *it = &items->at[i];
    if (it->loop) {
      walk_indices(w, it->body, sd_dim_mul(w->k->dims, times, it->loop->extent));
      continue;
    }
    w->count = times;
    for (uint32_t q = 0; q < it->nest->n_axes; q++) w->count = sd_dim_mul(w->k->dims, w->count, it->nest->axes[q]->extent);
    for (uint32_t s = 0; s < it->nest->stores.len; s++) {
      const sd_store *st = &it->nest->stores.at[s];
      find_indices(w, st->value), find_indices(w, st->offset), find_indices(w, st->guard);
    }
  }
}

static sard_status *check_indices(sd_gen *g, sd_kernel *k, const sd_node *n, sd_arena *scratch) {
  index_walk w = {g, k, n, SD_NEW_ARRAY(scratch, uint8_t, k->n_expr + 1), SD_DIM_NONE, NULL};
  walk_indices(&w, &k->items, sd_dim_const(k->dims, 1));
  return w.st;
}

sard_status *sd_gen_kernel(sd_gen *g, sd_node *n, sd_arena *scratch) {
  sd_kernel *k;
  sd_packs packs = {0};
  const char *text, *lowered = "";
  uint32_t n_units = g->units.len;
  SD_TRY(sd_lower_node(scratch, g->m, n, &k));
  k->name = "k", k->rows_apart = sd_node_rows_apart(n);
  SD_TRY(check_indices(g, k, n, scratch));
  if (g->o->kernel_fn || g->o->tuning) SD_TRY(kernel_text(k, scratch, &lowered));
  if (g->o->opt > 0) sd_kernel_simplify(k);
  sd_step s = {.kind = SARD_AS_DISPATCH, .node = n, .flops = sd_codegen_flops(k, scratch), .bytes = kernel_bytes(k)};
  if (g->o->tuning) s.kernel = sd_hash_bytes(lowered, strlen(lowered), 0);
  // of constants that GPUs read too there is no packed form
  SD_TRY_MSG(sd_choose(k, g->o->isa, g->o->opt, scratch, g->device ? NULL : &packs, sd_tuning_find(g->o->tuning, s.kernel)), "while scheduling node '%s' (%s)", n->name, n->op->name);
  s.bufs = SD_NEW_ARRAY(g->a, sd_binding, k->bufs.len + 1);
  for (uint32_t i = 0; i < k->bufs.len; i++) {
    if (k->bufs.at[i]->kind == SD_BUF_LOCAL) continue;
    sd_binding *b = &s.bufs[s.n_bufs++];
    b->value = k->bufs.at[i]->value, b->written = k->bufs.at[i]->kind == SD_BUF_OUT;
    for (uint32_t p = 0; p < packs.len; p++)
      if (packs.at[p].buf == k->bufs.at[i]) b->pack = sd_arena_dup(g->a, &packs.at[p], sizeof packs.at[p]);
  }
  SD_TRY(kernel_text(k, g->a, &text));
  s.unit = unit_of(g, text, sd_describe_schedule(k, g->o->isa, packs.len > 0, g->a));
  if (g->device) SD_TRY(sd_gen_cuda_kernel(g, n, scratch, &s));
  sd_vec_push(g->a, &g->steps, s);
  if (!g->o->kernel_fn || g->units.len == n_units) return NULL;
  return show_kernel(g, n, &g->units.at[s.unit], lowered, scratch);
}

static sard_status *lower_all(sd_gen *g) {
  sd_arena *scratch = sd_arena_scratch(g->m->arena);
  sard_status *st = sd_gen_graph(g, g->m->main, scratch, 0);
  sd_arena_free(scratch);
  if (!st && g->o->opt > 0) sd_gen_sweep(g);
  return st;
}

static sard_status *add_ir(sd_gen *g) {
  sd_str ir = {0};
  sard_status *st = sd_module_print(g->m, false, &ir);
  if (st) sd_str_free(&ir);
  else g->x->ir = sd_arena_keep(g->a, sd_str_take(&ir));
  return st;
}

static void add_ways(sd_gen *g) {
  const sd_ways *w = g->o->ways;
  for (uint32_t i = 0; w && i < w->n; i++) {
    double speed = w->at[i].speed * 256;
    uint32_t whole = speed < UINT32_MAX ? (uint32_t)speed : UINT32_MAX;
    sd_vec_push(g->a, &g->x->ways, ((sard_art_way){w->at[i].how, w->at[i].fits, w->pieces, whole, w->at[i].seconds, w->at[i].bytes}));
  }
}

// What belongs to the model, not to one of its parts.
static void add_meta(sd_gen *g) {
  sd_str meta = {0};
  sd_strf(&meta, "{\"producer\":"), sd_str_json(&meta, g->m->producer);
  sd_strf(&meta, ",\"ir_version\":%lld,\"opset\":%lld,\"metadata\":{", (long long)g->m->ir_version, (long long)g->m->opset);
  for (uint32_t i = 0; i < g->m->metadata.len; i++) {
    if (i) sd_str_put(&meta, ",");
    sd_str_json(&meta, g->m->metadata.at[i].key), sd_str_put(&meta, ":"), sd_str_json(&meta, g->m->metadata.at[i].value);
  }
  sd_str_put(&meta, "}}");
  g->x->meta = sd_arena_keep(g->a, sd_str_take(&meta));
  add_ways(g);
}

static const char *device_text(sd_arena *a, const sd_cuda_device *d) {
  int major, minor;
  sd_str s = {0};
  sd_nvrtc_version(d->nvrtc, &major, &minor);
  for (int i = 0; i < d->n_archs; i++) sd_strf(&s, "%ssm_%d", i ? ", " : "", d->archs[i]);
  sd_strf(&s, " by NVRTC %d.%d", major, minor);
  return sd_arena_keep(a, sd_str_take(&s));
}

// Steps, code and plan of one module, into g->x; adds to the counts.
static sard_status *generate(sd_gen *g, sd_codegen_stats *s) {
  const sd_codegen_options *o = g->o;
  double cuda_s = s->cuda_s;
  int64_t t0 = sd_now_ns(), t1, t2;
  SD_TRY(lower_all(g));
  t1 = sd_now_ns();
  SD_TRY(sd_units_compile(g->a, g->m->dims, g->units.at, g->units.len, o->isa, o->opt, o->threads));
  t2 = sd_now_ns();
  SD_TRY(sd_gen_plan(g, s));
  if (o->keep_ir) SD_TRY(add_ir(g));
  s->kernels += g->steps.len, s->unique_kernels += g->units.len, s->steps += g->x->steps.len, s->code_bytes += g->x->code.len;
  s->lower_s += (double)(t1 - t0) * 1e-9, s->emit_s += (double)(t2 - t1) * 1e-9;
  s->write_s += (double)(sd_now_ns() - t2) * 1e-9 - (s->cuda_s - cuda_s);
  return NULL;
}

// The module itself is x[0], its parts stand behind it.
static sard_status *generate_parts(const sd_gen *like, const sd_parts *parts, sd_artifact **x, sd_codegen_stats *s) {
  sd_gen whole = *like;
  SD_TRY(sd_gen_parts(&whole, parts));
  add_meta(&whole);
  x[0] = whole.x;
  for (uint32_t p = 0; p < parts->n; p++) {
    sd_gen g = *like;
    g.m = parts->at[p].module, g.keeps = p + 1 < parts->n;
    SD_TRY_MSG(generate(&g, s), "in part %u", p + 1);
    x[1 + p] = g.x;
  }
  return NULL;
}

sard_status *sd_codegen(sd_arena *a, sd_module *m, const sd_codegen_options *o, sd_piece **out_pieces, size_t *out_n,
                        sd_codegen_stats *stats) {
  sd_cuda_device *device;
  sd_codegen_stats s = {0};
  sd_art_weights weights = {0};
  uint32_t n = o->parts ? o->parts->n : 0;
  sd_artifact **x = SD_NEW_ARRAY(a, sd_artifact *, n + 1);
  SD_TRY(sd_cuda_device_open(a, o->device, &device));
  sd_gen g = {.a = a, .m = m, .o = o, .weights = &weights, .packs = {.a = a, .threads = o->threads}, .device = device};
  if (n) SD_TRY(generate_parts(&g, o->parts, x, &s));
  else {
    SD_TRY(generate(&g, &s));
    add_meta(&g);
    x[0] = g.x;
  }
  sd_artifact_write(x, n + 1, o->isa, out_pieces, out_n);
  s.const_bytes = weights.bytes, s.meta_bytes = (*out_pieces)[0].size - s.code_bytes - s.cuda_bytes;
  if (device) s.cuda = device_text(a, device);
  if (stats) *stats = s;
  return NULL;
}
