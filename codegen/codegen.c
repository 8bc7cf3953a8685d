// The back end's driver: nodes to kernels, kernels to code, and the flat plan of steps.
#include "codegen/codegen.h"

#include "codegen/access.h"
#include "codegen/artifact_write.h"
#include "codegen/choose.h"
#include "codegen/compile_units.h"
#include "codegen/pack.h"
#include "runtime/base/alloc.h"
#include "runtime/base/hash.h"
#include "runtime/base/thread.h"

typedef struct binding { sd_value *value; const sd_pack *pack; } binding; // what a kernel parameter is bound to

typedef struct step {
  const sd_node *node;
  uint32_t unit;
  binding *bufs;
  uint32_t n_bufs;
  sd_dim flops, bytes;
} step;

typedef struct packed { const sd_const *source; uint64_t hash; uint32_t buf; } packed;
typedef SD_VEC(packed) packed_list;
typedef SD_VEC(step) step_list;
typedef SD_VEC(sd_unit) unit_list;

typedef struct gen {
  sd_arena *a;
  sd_module *m;
  const sd_codegen_options *o;
  step_list steps;
  unit_list units;
  uint64_t *unit_hash; // parallel to units, capacity unit_cap
  uint32_t unit_cap;
  sd_artifact *x;
  uint32_t *value_buf; // BUFS index + 1 by value id (of the storage root)
  packed_list packed;
} gen;

static sd_value *root(sd_value *v) {
  while (v->storage) v = v->storage;
  return v;
}

// ---- lowering ----

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
    sd_dim points = times;
    for (uint32_t q = 0; q < it->nest->n_axes; q++) points = sd_dim_mul(t, points, it->nest->axes[q]->extent);
    w->total = sd_dim_add(t, w->total, points);
    for (uint32_t r = 0; r < reductions.len; r++) {
      sd_dim p = sd_dim_mul(t, times, sd_dim_const(t, 2));
      for (uint32_t q = 0; q < it->nest->n_axes; q++)
        if (sd_x_uses_axis(reductions.at[r].expr, it->nest->axes[q])) p = sd_dim_mul(t, p, it->nest->axes[q]->extent);
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
    if (b->kind != SD_BUF_LOCAL) sum = sd_dim_add(k->dims, sum, sd_dim_mul(k->dims, b->count, sd_dim_const(k->dims, (sd_dtype_bits(b->dtype) + 7) / 8)));
  }
  return sum;
}

static uint32_t unit_of(gen *g, const char *text) {
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
  sd_vec_push(g->a, &g->units, ((sd_unit){.text = text, .symbol = sd_arena_printf(g->a, "k%u", g->units.len)}));
  return g->units.len - 1;
}

static sard_status *kernel_text(const sd_kernel *k, sd_arena *a, const char **out) {
  sd_str text = {0};
  sard_status *st = sd_kernel_print(k, &text);
  if (!st && text.failed) st = SD_ERR(NOMEM, "out of memory while printing a kernel");
  if (!st) *out = sd_arena_strndup(a, text.p, text.len);
  sd_str_free(&text);
  return st;
}

// Hands the texts of a kernel to the caller of the compiler, with the node that first needed it.
static sard_status *show_kernel(const gen *g, const sd_node *n, const sd_unit *u, const char *lowered, sd_arena *scratch) {
  const char *head = sd_arena_printf(scratch, "// %s: %s '%s'\n", u->symbol, n->op->name, n->name);
  SD_TRY(g->o->kernel_fn(g->o->kernel_user, "lower", sd_arena_printf(scratch, "%s%s", head, lowered)));
  return g->o->kernel_fn(g->o->kernel_user, "kernels", sd_arena_printf(scratch, "%s%s", head, u->text));
}

static sard_status *lower_node(gen *g, sd_node *n, sd_arena *scratch) {
  sd_kernel *k;
  sd_packs packs = {0};
  const char *text, *lowered = "";
  uint32_t n_units = g->units.len;
  SD_TRY(sd_lower_node(scratch, g->m, n, &k));
  k->name = "k";
  if (g->o->kernel_fn) SD_TRY(kernel_text(k, scratch, &lowered));
  if (g->o->opt > 0) sd_kernel_simplify(k);
  step s = {.node = n, .flops = sd_codegen_flops(k, scratch), .bytes = kernel_bytes(k)};
  SD_TRY_MSG(sd_choose(k, g->o->isa, g->o->opt, scratch, &packs), "while scheduling node '%s' (%s)", n->name, n->op->name);
  s.bufs = SD_NEW_ARRAY(g->a, binding, k->bufs.len + 1);
  for (uint32_t i = 0; i < k->bufs.len; i++) {
    if (k->bufs.at[i]->kind == SD_BUF_LOCAL) continue;
    binding *b = &s.bufs[s.n_bufs++];
    b->value = k->bufs.at[i]->value;
    for (uint32_t p = 0; p < packs.len; p++)
      if (packs.at[p].buf == k->bufs.at[i]) b->pack = sd_arena_dup(g->a, &packs.at[p], sizeof packs.at[p]);
  }
  SD_TRY(kernel_text(k, g->a, &text));
  s.unit = unit_of(g, text);
  sd_vec_push(g->a, &g->steps, s);
  if (!g->o->kernel_fn || g->units.len == n_units) return NULL;
  return show_kernel(g, n, &g->units.at[s.unit], lowered, scratch);
}

static bool needs_code(const sd_node *n) {
  for (uint32_t i = 0; i < n->n_out; i++)
    if (n->out[i] && !n->out[i]->view) return true;
  return false;
}

static sard_status *lower_all(gen *g) {
  jmp_buf oom;
  sd_arena *volatile scratch = sd_arena_new();
  if (!scratch) return SD_ERR(NOMEM, "out of memory");
  if (setjmp(oom)) {
    sd_arena_free(scratch);
    sd_arena_oom(g->a);
  }
  sd_arena_set_oom(scratch, &oom);
  sard_status *st = NULL;
  for (sd_node *n = g->m->main->first; n && !st; n = n->next) {
    if (!needs_code(n)) continue;
    st = sd_node_error(n, lower_node(g, n, scratch));
    sd_arena_reset(scratch);
    sd_arena_set_oom(scratch, &oom);
  }
  sd_arena_free(scratch);
  return st;
}

// ---- buffers ----

static uint32_t byte_slot(gen *g, const sd_value *v) {
  sd_dim bytes = sd_dim_mul(g->m->dims, sd_value_count(v), sd_dim_const(g->m->dims, (sd_dtype_bits(v->dtype) + 7) / 8));
  return sd_dimslots_get(&g->x->slots, bytes);
}

static uint32_t add_buf(gen *g, sard_art_buf b) {
  sd_vec_push(g->a, &g->x->bufs, b);
  return g->x->bufs.len - 1;
}

// A constant and its packed forms are stored once for each distinct content.
static sard_status *const_buf(gen *g, const sd_const *c, const sd_pack *p, uint32_t *out) {
  uint64_t h = sd_hash_mix(sd_const_hash(c), p ? sd_pack_hash(p) : 0);
  const void *data = c->data;
  uint64_t bytes = c->bytes;
  for (uint32_t i = 0; i < g->packed.len; i++)
    if (g->packed.at[i].hash == h && g->packed.at[i].source->bytes == c->bytes) {
      *out = g->packed.at[i].buf;
      return NULL;
    }
  if (p) SD_TRY(sd_pack_const(g->a, p, c, &data, &bytes));
  *out = add_buf(g, (sard_art_buf){SARD_AB_CONST, sd_dimslots_const(&g->x->slots, (int64_t)bytes), 0, 0, sd_artifact_const(g->x, data, bytes)});
  sd_vec_push(g->a, &g->packed, ((packed){c, h, *out}));
  return NULL;
}

static sard_status *value_buf(gen *g, sd_value *v, uint32_t *out) {
  sd_value *r = root(v);
  if (r->data) return const_buf(g, r->data, NULL, out);
  if (!g->value_buf[r->id])
    g->value_buf[r->id] = 1 + add_buf(g, (sard_art_buf){SARD_AB_ARENA, byte_slot(g, r), SARD_ART_NONE, 0, 0});
  *out = g->value_buf[r->id] - 1;
  return NULL;
}

static void touch(gen *g, uint32_t buf, uint32_t at) {
  sard_art_buf *b = &g->x->bufs.at[buf];
  if (b->kind != SARD_AB_ARENA) return;
  if (b->first == SARD_ART_NONE) b->first = at;
  b->last = at;
}

// ---- inputs and outputs ----

static uint32_t io_entry(gen *g, const sd_value *v, uint32_t buf) {
  sd_artifact *x = g->x;
  uint32_t dims[SD_MAX_RANK], symbols[SD_MAX_RANK];
  for (int d = 0; d < v->rank; d++) {
    sd_str s = {0};
    dims[d] = sd_dimslots_get(&x->slots, v->dims[d]);
    symbols[d] = 0;
    if (!sd_dim_is_const(g->m->dims, v->dims[d], NULL)) {
      sd_dim_print(g->m->dims, v->dims[d], &s);
      symbols[d] = sd_artifact_text(x, s.p);
      sd_str_free(&s);
    }
  }
  sard_art_io io = {sd_artifact_text(x, v->name), v->dtype, (uint32_t)v->rank, buf, 0, 0};
  io.dims = sd_artifact_list(x, dims, (uint32_t)v->rank);
  io.symbols = sd_artifact_list(x, symbols, (uint32_t)v->rank);
  sd_vec_push(g->a, &x->io, io);
  return x->io.len - 1;
}

static sard_status *add_inputs(gen *g) {
  const sd_graph *main = g->m->main;
  for (uint32_t i = 0; i < main->inputs.len; i++) {
    sd_value *v = main->inputs.at[i];
    if (v->dtype == SD_DT_NONE || v->rank < 0) return SD_ERR(UNSUPPORTED, "input '%s' has no type or rank in the model", v->name);
    uint32_t buf = add_buf(g, (sard_art_buf){SARD_AB_INPUT, byte_slot(g, v), 0, 0, i});
    g->value_buf[v->id] = buf + 1;
    io_entry(g, v, buf);
  }
  g->x->n_inputs = main->inputs.len;
  return NULL;
}

// An output that a step computes is written in place; one that is an input, a constant or a second name is copied.
static sard_status *add_outputs(gen *g, bool *copy) {
  const sd_graph *main = g->m->main;
  for (uint32_t i = 0; i < main->outputs.len; i++) {
    sd_value *v = main->outputs.at[i], *r = root(v);
    if (v->dtype == SD_DT_NONE || v->rank < 0) return SD_ERR(UNSUPPORTED, "the type of output '%s' is not known", v->name);
    uint32_t buf = add_buf(g, (sard_art_buf){SARD_AB_OUTPUT, byte_slot(g, v), 0, 0, i});
    copy[i] = r->data || g->value_buf[r->id];
    if (!copy[i]) g->value_buf[r->id] = buf + 1;
    io_entry(g, v, buf);
  }
  return NULL;
}

static bool is_input_symbol(const gen *g, const char *name) {
  const sd_graph *main = g->m->main;
  for (uint32_t i = 0; i < main->inputs.len; i++)
    for (int d = 0; d < main->inputs.at[i]->rank; d++) {
      const sd_dimnode *q = sd_dim_get(g->m->dims, main->inputs.at[i]->dims[d]);
      if (q->op == SD_DIM_SYM && strcmp(q->name, name) == 0) return true;
    }
  return false;
}

static bool from_inputs(const gen *g, sd_dim d) {
  const sd_dimnode *n = sd_dim_get(g->m->dims, d);
  if (n->op == SD_DIM_SYM) return is_input_symbol(g, n->name);
  for (uint32_t i = 0; i < n->n; i++)
    if (!from_inputs(g, n->args[i])) return false;
  return true;
}

static sard_status *add_symbols(gen *g) {
  sd_artifact *x = g->x;
  const sd_graph *main = g->m->main;
  for (uint32_t s = 0; s < x->slots.symbols.len; s++) {
    const char *name = x->slots.symbols.at[s];
    const sd_dimnode *node = NULL;
    sard_art_sym e = {.name = sd_artifact_text(x, name), .input = SARD_ART_NONE};
    for (uint32_t i = 0; i < main->inputs.len && e.input == SARD_ART_NONE; i++)
      for (int d = 0; d < main->inputs.at[i]->rank; d++) {
        const sd_dimnode *q = sd_dim_get(g->m->dims, main->inputs.at[i]->dims[d]);
        if (q->op != SD_DIM_SYM || strcmp(q->name, name) != 0) continue;
        node = q, e.input = i, e.axis = (uint32_t)d;
        break;
      }
    if (!node)
      return SD_ERR(UNSUPPORTED, "the size '%s' is not given by the shape of any input: it depends on data, which is not supported yet", name);
    e.min = node->min, e.max = node->max;
    sd_vec_push(g->a, &x->syms, e);
  }
  return NULL;
}

// ---- the plan ----

// The original of a packed constant goes as soon as no later step reads it, so that weights are not held twice.
static void release_original(const gen *g, const step *s, const sd_const *c) {
  const step *end = g->steps.at + g->steps.len;
  for (uint32_t i = 0; i < g->m->main->outputs.len; i++)
    if (root(g->m->main->outputs.at[i])->data == c) return;
  for (const step *t = g->steps.at; t < end; t++)
    for (uint32_t i = 0; i < t->n_bufs; i++) {
      const sd_value *v = t->bufs[i].value;
      if (v && v->data == c && (t > s || !t->bufs[i].pack)) return;
    }
  sd_const_release(g->m, c, true);
}

static sard_status *add_step(gen *g, const step *s, const uint32_t *kernel_of_unit) {
  sd_artifact *x = g->x;
  const sd_unit *u = &g->units.at[s->unit];
  uint32_t *bufs = SD_NEW_ARRAY(g->a, uint32_t, s->n_bufs + 1), *dims = SD_NEW_ARRAY(g->a, uint32_t, u->n_dims + 1), at = x->steps.len;
  for (uint32_t i = 0; i < s->n_bufs; i++) {
    if (s->bufs[i].pack) SD_TRY(const_buf(g, s->bufs[i].value->data, s->bufs[i].pack, &bufs[i]));
    else SD_TRY(value_buf(g, s->bufs[i].value, &bufs[i]));
    touch(g, bufs[i], at);
  }
  for (uint32_t i = 0; i < s->n_bufs; i++)
    if (s->bufs[i].pack) release_original(g, s, s->bufs[i].value->data);
  for (uint32_t i = 0; i < u->n_dims; i++) dims[i] = sd_dimslots_get(&x->slots, u->dims[i]);
  sard_art_step e = {.kind = SARD_AS_DISPATCH, .kernel = kernel_of_unit[s->unit], .n_buf = s->n_bufs, .n_dim = u->n_dims};
  e.bufs = sd_artifact_list(x, bufs, s->n_bufs);
  e.dims = sd_artifact_list(x, dims, u->n_dims);
  e.tiles = sd_dimslots_get(&x->slots, u->tiles);
  e.scratch = sd_dimslots_get(&x->slots, u->scratch);
  e.name = sd_artifact_text(x, s->node->name), e.op = sd_artifact_text(x, s->node->op->name);
  e.flops = s->flops == SD_DIM_NONE ? SARD_ART_NONE : sd_dimslots_get(&x->slots, s->flops);
  e.bytes = s->bytes == SD_DIM_NONE ? SARD_ART_NONE : sd_dimslots_get(&x->slots, s->bytes);
  sd_vec_push(g->a, &x->steps, e);
  return NULL;
}

static sard_status *add_copies(gen *g, const bool *copy) {
  sd_artifact *x = g->x;
  const sd_graph *main = g->m->main;
  uint32_t none = sd_dimslots_const(&x->slots, 0), one = sd_dimslots_const(&x->slots, 1), bytes;
  for (uint32_t i = 0; i < main->outputs.len; i++) {
    uint32_t bufs[2], at = x->steps.len;
    if (!copy[i]) continue;
    SD_TRY(value_buf(g, main->outputs.at[i], &bufs[0]));
    bufs[1] = x->io.at[x->n_inputs + i].buf;
    bytes = x->bufs.at[bufs[1]].bytes;
    touch(g, bufs[0], at);
    sard_art_step e = {.kind = SARD_AS_COPY, .kernel = SARD_ART_NONE, .n_buf = 2, .tiles = one, .scratch = none, .flops = SARD_ART_NONE, .bytes = bytes};
    e.bufs = sd_artifact_list(x, bufs, 2);
    e.name = sd_artifact_text(x, main->outputs.at[i]->name), e.op = sd_artifact_text(x, "Copy");
    sd_vec_push(g->a, &x->steps, e);
  }
  return NULL;
}

// Requirements on sizes that follow from the inputs; those of sizes made at run time are checked where they are made.
static void add_checks(gen *g) {
  for (uint32_t i = 0; i < g->m->requires.len; i++) {
    const sd_require *r = &g->m->requires.at[i];
    if (!from_inputs(g, r->a) || !from_inputs(g, r->b)) continue;
    sard_art_check c = {sd_dimslots_get(&g->x->slots, r->a), sd_dimslots_get(&g->x->slots, r->b), r->broadcast, sd_artifact_text(g->x, r->what)};
    sd_vec_push(g->a, &g->x->checks, c);
  }
}

static sard_status *build_plan(gen *g) {
  sd_artifact *x = g->x = sd_artifact_new(g->a, g->m->dims);
  uint32_t *kernel = SD_NEW_ARRAY(g->a, uint32_t, g->units.len + 1);
  bool *copy = SD_NEW_ARRAY(g->a, bool, g->m->main->outputs.len + 1);
  g->value_buf = SD_NEW_ARRAY(g->a, uint32_t, g->m->next_id + 1);
  for (uint32_t i = 0; i < g->units.len; i++) {
    const sd_unit *u = &g->units.at[i];
    uint32_t n_buf = 0;
    for (uint32_t s = 0; s < g->steps.len; s++)
      if (g->steps.at[s].unit == i) { n_buf = g->steps.at[s].n_bufs; break; }
    sard_art_kernel e = {.offset = sd_artifact_code(x, u->object, u->object_bytes), .size = u->object_bytes, .n_buf = n_buf, .n_dim = u->n_dims};
    e.symbol = sd_artifact_text(x, u->symbol);
    kernel[i] = x->kernels.len;
    sd_vec_push(g->a, &x->kernels, e);
  }
  SD_TRY(add_inputs(g));
  add_checks(g);
  SD_TRY(add_outputs(g, copy));
  for (uint32_t s = 0; s < g->steps.len; s++) SD_TRY(add_step(g, &g->steps.at[s], kernel));
  SD_TRY(add_copies(g, copy));
  return add_symbols(g);
}

static void add_texts(gen *g, sd_str *ir, sd_str *meta) {
  if (g->o->keep_ir && !sd_module_print(g->m, false, ir) && !ir->failed) g->x->ir = ir->p;
  sd_str_put(meta, "{");
  sd_strf(meta, "\"producer\":"), sd_str_json(meta, g->m->producer);
  sd_strf(meta, ",\"ir_version\":%lld,\"opset\":%lld,\"metadata\":{", (long long)g->m->ir_version, (long long)g->m->opset);
  for (uint32_t i = 0; i < g->m->metadata.len; i++) {
    if (i) sd_str_put(meta, ",");
    sd_str_json(meta, g->m->metadata.at[i].key), sd_str_put(meta, ":"), sd_str_json(meta, g->m->metadata.at[i].value);
  }
  sd_str_put(meta, "}}");
  if (!meta->failed) g->x->meta = meta->p;
}

sard_status *sd_codegen(sd_arena *a, sd_module *m, const sd_codegen_options *o, sd_piece **out_pieces, size_t *out_n,
                        sd_codegen_stats *stats) {
  gen g = {.a = a, .m = m, .o = o};
  int64_t t0 = sd_now_ns(), t1, t2;
  SD_TRY(lower_all(&g));
  t1 = sd_now_ns();
  SD_TRY(sd_units_compile(a, m->dims, g.units.at, g.units.len, o->isa, o->opt, o->threads));
  t2 = sd_now_ns();
  SD_TRY(build_plan(&g));
  sd_str ir = {0}, meta = {0};
  add_texts(&g, &ir, &meta);
  sd_artifact_write(g.x, o->isa, out_pieces, out_n);
  sd_str_free(&ir), sd_str_free(&meta);
  if (stats) {
    *stats = (sd_codegen_stats){.kernels = g.steps.len, .unique_kernels = g.units.len, .steps = g.x->steps.len, .code_bytes = g.x->code.len,
                                .const_bytes = g.x->const_bytes, .meta_bytes = (*out_pieces)[0].size - g.x->code.len};
    stats->lower_s = (double)(t1 - t0) * 1e-9, stats->emit_s = (double)(t2 - t1) * 1e-9, stats->write_s = (double)(sd_now_ns() - t2) * 1e-9;
  }
  return NULL;
}
