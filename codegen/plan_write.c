// The flat plan: buffers with lifetimes, inputs and outputs, symbols, and the artifact's steps.
#include "codegen/gen.h"

#include "runtime/base/hash.h"
#include "codegen/tuning.h"

// ---- buffers ----

static uint32_t byte_slot(sd_gen *g, const sd_value *v) {
  return sd_dimslots_get(&g->x->slots, sd_dim_bytes(g->m->dims, v->dtype, sd_value_count(v)));
}

static uint32_t add_buf(sd_gen *g, sard_art_buf b) {
  sd_vec_push(g->a, &g->x->bufs, b);
  return g->x->bufs.len - 1;
}

static const sd_stored *find_stored(const sd_art_weights *w, const sd_stored *like) {
  for (uint32_t i = 0; i < w->stored.len; i++)
    if (w->stored.at[i].hash == like->hash && w->stored.at[i].bytes == like->bytes) return &w->stored.at[i];
  return NULL;
}

// A constant and its packed forms are stored once for each distinct content.
static sard_status *const_buf(sd_gen *g, const sd_const *c, const sd_pack *p, uint32_t *out) {
  uint64_t h = sd_hash_mix(sd_const_hash(c), p ? sd_pack_hash(p) : 0);
  const void *data = c->data;
  uint64_t bytes = c->bytes;
  for (uint32_t i = 0; i < g->packed.len; i++)
    if (g->packed.at[i].hash == h && g->packed.at[i].source->bytes == c->bytes) {
      *out = g->packed.at[i].buf;
      return NULL;
    }
  sd_stored s = {.hash = h, .bytes = c->bytes};
  const sd_stored *other = find_stored(g->weights, &s); // of another part
  if (p && !other) SD_TRY(sd_pack_const(&g->packs, p, c, &data, &bytes));
  s.at = other ? other->at : sd_artifact_const(g->x, data, bytes);
  if (other && p) bytes = other->packed;
  s.packed = bytes;
  if (!other) sd_vec_push(g->a, &g->weights->stored, s);
  *out = add_buf(g, (sard_art_buf){SARD_AB_CONST, sd_dimslots_const(&g->x->slots, (int64_t)bytes), 0, 0, s.at});
  sd_vec_push(g->a, &g->packed, ((sd_packed){c, h, *out}));
  return NULL;
}

static sard_status *value_buf(sd_gen *g, sd_value *v, uint32_t *out) {
  sd_value *r = sd_value_root(v);
  if (r->data) return const_buf(g, r->data, NULL, out);
  if (!g->value_buf[r->id])
    g->value_buf[r->id] = 1 + add_buf(g, (sard_art_buf){SARD_AB_ARENA, byte_slot(g, r), SARD_ART_NONE, 0, 0});
  *out = g->value_buf[r->id] - 1;
  return NULL;
}

static void touch(sd_gen *g, uint32_t buf, uint32_t at) {
  sard_art_buf *b = &g->x->bufs.at[buf];
  if (b->kind != SARD_AB_ARENA) return;
  if (b->first == SARD_ART_NONE) b->first = at;
  b->last = at;
}

// ---- inputs and outputs ----

static void describe(sd_gen *g, const sd_value *v, sard_art_io *io) {
  sd_str s = {0};
  sd_type_print(g->m, v, &s);
  io->type = sd_artifact_text(g->x, sd_arena_keep(g->a, sd_str_take(&s)));
  if (v->dtype == SD_OBJECT) io->kind = v->object->kind;
  for (const sd_otype *t = v->object; t; t = t->of)
    if (t->kind == SD_OBJ_TENSOR) io->item = t->dtype;
}

static uint32_t io_entry(sd_gen *g, const sd_value *v, uint32_t buf) {
  sd_artifact *x = g->x;
  uint32_t dims[SD_MAX_RANK], symbols[SD_MAX_RANK];
  for (int d = 0; d < v->rank; d++) {
    dims[d] = sd_dimslots_get(&x->slots, v->dims[d]);
    symbols[d] = sd_dim_is_const(g->m->dims, v->dims[d], NULL) ? 0 : sd_artifact_text(x, sd_dim_text(g->m->dims, v->dims[d], g->a));
  }
  sard_art_io io = {sd_artifact_text(x, v->name), v->dtype, (uint32_t)v->rank, buf, 0, 0, 0, 0, 0};
  describe(g, v, &io);
  io.dims = sd_artifact_list(x, dims, (uint32_t)v->rank);
  io.symbols = sd_artifact_list(x, symbols, (uint32_t)v->rank);
  sd_vec_push(g->a, &x->io, io);
  return x->io.len - 1;
}

static sard_status *add_inputs(sd_gen *g) {
  const sd_graph *main = g->m->main;
  for (uint32_t i = 0; i < main->inputs.len; i++) {
    sd_value *v = main->inputs.at[i];
    if (v->dtype == SD_DT_NONE || v->rank < 0 || (v->dtype == SD_OBJECT && !v->object)) return SD_ERR(UNSUPPORTED, "input '%s' has no type or rank in the model", v->name);
    uint32_t buf = add_buf(g, (sard_art_buf){SARD_AB_INPUT, byte_slot(g, v), 0, 0, i});
    g->value_buf[v->id] = buf + 1;
    io_entry(g, v, buf);
  }
  g->x->n_inputs = main->inputs.len;
  return NULL;
}

// The size of an output's buffer is that of what is computed there, which may be known before the dims of a view of it are.
static const sd_value *sized_like(const sd_value *v, const sd_value *root) {
  for (const sd_value *x = v; x != root; x = x->storage)
    if (x->window) return v;
  return sd_dtype_bits(v->dtype) == sd_dtype_bits(root->dtype) ? root : v;
}

// An output that a step computes is written in place; one that is an input, a constant or a second name is copied.
static sard_status *add_outputs(sd_gen *g, bool *copy) {
  const sd_graph *main = g->m->main;
  for (uint32_t i = 0; i < main->outputs.len; i++) {
    sd_value *v = main->outputs.at[i], *r = sd_value_root(v);
    if (v->dtype == SD_DT_NONE || v->rank < 0 || (v->dtype == SD_OBJECT && !v->object)) return SD_ERR(UNSUPPORTED, "the type of output '%s' is not known", v->name);
    copy[i] = r->data || g->value_buf[r->id];
    uint32_t buf = add_buf(g, (sard_art_buf){SARD_AB_OUTPUT, byte_slot(g, copy[i] ? v : sized_like(v, r)), 0, 0, i});
    if (!copy[i]) g->value_buf[r->id] = buf + 1;
    io_entry(g, v, buf);
  }
  return NULL;
}

static bool input_symbol(const sd_gen *g, const char *name, uint32_t *input, uint32_t *axis) {
  const sd_graph *main = g->m->main;
  for (uint32_t i = 0; i < main->inputs.len; i++)
    for (int d = 0; d < main->inputs.at[i]->rank; d++) {
      const sd_dimnode *q = sd_dim_get(g->m->dims, main->inputs.at[i]->dims[d]);
      if (q->op != SD_DIM_SYM || strcmp(q->name, name) != 0) continue;
      *input = i, *axis = (uint32_t)d;
      return true;
    }
  return false;
}

static bool defines(const sd_gen *g, const sd_step *s, const char *name) {
  for (uint32_t i = 0; i < s->defs.len; i++)
    if (strcmp(sd_dim_get(g->m->dims, s->defs.at[i])->name, name) == 0) return true;
  for (uint32_t i = 0; i < s->dims.len && s->kind == SARD_AS_HOST; i++) {
    const sd_dimnode *d = sd_dim_get(g->m->dims, s->dims.at[i]);
    if (d->op == SD_DIM_SYM && strcmp(d->name, name) == 0) return true;
  }
  return false;
}

static bool step_symbol(const sd_gen *g, const char *name) {
  for (uint32_t i = 0; i < g->steps.len; i++)
    if (defines(g, &g->steps.at[i], name)) return true;
  return false;
}

// All symbols of d get a value, from an input or from a step.
static bool is_bound(const sd_gen *g, sd_dim d) {
  const sd_dimnode *n = sd_dim_get(g->m->dims, d);
  uint32_t input, axis;
  if (!n) return false;
  if (n->op == SD_DIM_SYM) return input_symbol(g, n->name, &input, &axis) || step_symbol(g, n->name);
  for (uint32_t i = 0; i < n->n; i++)
    if (!is_bound(g, n->args[i])) return false;
  return true;
}

// `parts`: steps that make sizes are theirs.
static sard_status *add_symbols(sd_gen *g, bool parts) {
  sd_artifact *x = g->x;
  for (uint32_t s = 0; s < x->slots.symbols.len; s++) {
    const char *name = x->slots.symbols.at[s];
    const sd_dimnode *node = sd_dim_get(g->m->dims, sd_dim_sym(g->m->dims, name));
    sard_art_sym e = {.name = sd_artifact_text(x, name), .input = SARD_ART_NONE, .min = node->min, .max = node->max};
    bool bound = input_symbol(g, name, &e.input, &e.axis);
    if (bound && e.min < 0) e.min = 0; // a part may read from a shape what another one has from data
    if (!bound && !step_symbol(g, name) && !parts)
      return SD_ERR(UNSUPPORTED, "the size '%s' is given neither by the shape of an input nor by a step", name);
    sd_vec_push(g->a, &x->syms, e);
  }
  return NULL;
}

// ---- the plan ----

// Constants may share their contents.
static bool same_contents(const sd_const *a, const sd_const *b) { return a && a->data == b->data; }

// The original of a packed constant goes as soon as no later step reads it, so that weights are not held twice.
static void release_original(const sd_gen *g, const sd_step *s, const sd_const *c) {
  if (g->keeps) return;
  const sd_step *end = g->steps.at + g->steps.len;
  for (uint32_t i = 0; i < g->m->main->outputs.len; i++)
    if (same_contents(sd_value_root(g->m->main->outputs.at[i])->data, c)) return;
  for (const sd_step *t = g->steps.at; t < end; t++)
    for (uint32_t i = 0; i < t->n_bufs; i++) {
      const sd_value *v = t->bufs[i].value;
      if (v && same_contents(v->data, c) && (t > s || !t->bufs[i].pack)) return;
    }
  sd_const_release(g->m, c, true);
}

static uint32_t known_slot(sd_gen *g, sd_dim d) { return d == SD_DIM_NONE ? SARD_ART_NONE : sd_dimslots_get(&g->x->slots, d); }

static sard_status *step_bufs(sd_gen *g, const sd_step *s, sard_art_step *e) {
  uint32_t *bufs = SD_NEW_ARRAY(g->a, uint32_t, s->n_bufs + 1), at = g->x->steps.len, held;
  for (uint32_t i = 0; i < s->n_bufs; i++) {
    if (s->bufs[i].pack) SD_TRY(const_buf(g, s->bufs[i].value->data, s->bufs[i].pack, &bufs[i]));
    else SD_TRY(value_buf(g, s->bufs[i].value, &bufs[i]));
    touch(g, bufs[i], at);
  }
  for (uint32_t i = 0; i < s->n_held; i++) {
    SD_TRY(value_buf(g, s->held[i], &held));
    touch(g, held, at);
  }
  for (uint32_t i = 0; i < s->n_bufs; i++)
    if (s->bufs[i].pack) release_original(g, s, s->bufs[i].value->data);
  e->n_buf = s->n_bufs;
  e->bufs = sd_artifact_list(g->x, bufs, s->n_bufs);
  for (uint32_t i = 0; i < s->n_bufs; i++) bufs[i] = s->bufs[i].written;
  e->writes = sd_artifact_list(g->x, bufs, s->n_bufs);
  return NULL;
}

static void step_dims(sd_gen *g, const sd_dim *dims, uint32_t n, sard_art_step *e) {
  uint32_t *slots = SD_NEW_ARRAY(g->a, uint32_t, n + 1);
  for (uint32_t i = 0; i < n; i++) slots[i] = sd_dimslots_get(&g->x->slots, dims[i]);
  e->n_dim = n;
  e->dims = sd_artifact_list(g->x, slots, n);
}

static void step_defs(sd_gen *g, const sd_step *s, sard_art_step *e) {
  uint32_t *symbols = SD_NEW_ARRAY(g->a, uint32_t, s->defs.len + 1);
  for (uint32_t i = 0; i < s->defs.len; i++)
    symbols[i] = sd_dimslots_symbol(&g->x->slots, sd_dim_get(g->m->dims, s->defs.at[i])->name);
  e->n_def = s->defs.len;
  e->defs = sd_artifact_list(g->x, symbols, s->defs.len);
}

// "f32[N,64] f32[64,8] -> f32[N,8]": what a dispatch reads and writes.
static uint32_t step_shapes(sd_gen *g, const sd_step *s) {
  sd_str text = {0};
  for (int written = 0; written < 2; written++) {
    if (written) sd_str_put(&text, "->");
    for (uint32_t i = 0; i < s->n_bufs; i++) {
      if (s->bufs[i].written != (written == 1) || !s->bufs[i].value) continue;
      if (text.len) sd_str_put(&text, " ");
      sd_type_print(g->m, s->bufs[i].value, &text);
    }
    if (!written && text.len) sd_str_put(&text, " ");
  }
  uint32_t at = sd_artifact_text(g->x, s->kind == SARD_AS_DISPATCH && text.p ? text.p : "");
  sd_str_free(&text);
  return at;
}

static sard_status *add_step(sd_gen *g, const sd_step *s, const uint32_t *kernel_of_unit,
                             sd_codegen_stats *stats) {
  sd_artifact *x = g->x;
  const sd_unit *u = s->kind == SARD_AS_DISPATCH ? &g->units.at[s->unit] : NULL;
  sard_art_step e = {.kind = s->kind, .kernel = u ? kernel_of_unit[s->unit] : SARD_ART_NONE, .body = s->body, .other = s->other};
  SD_TRY(step_bufs(g, s, &e));
  sd_dim nothing[3] = {sd_dim_const(g->m->dims, 0), sd_dim_const(g->m->dims, 0), sd_dim_const(g->m->dims, 0)};
  bool check = s->kind == SARD_AS_CHECK, open = check && (!is_bound(g, s->dims.at[0]) || !is_bound(g, s->dims.at[1]));
  step_dims(g, u ? u->dims : open ? nothing : s->dims.at, u ? u->n_dims : s->dims.len, &e); // a size that nothing has is not checked
  step_defs(g, s, &e);
  e.tiles = known_slot(g, u ? u->tiles : s->trip);
  e.scratch = u ? known_slot(g, u->scratch) : sd_dimslots_const(&x->slots, 0);
  e.name = sd_artifact_text(x, s->node->name), e.op = sd_artifact_text(x, s->node->op->name);
  e.flops = known_slot(g, s->flops), e.bytes = known_slot(g, s->bytes), e.shapes = step_shapes(g, s);
  sd_vec_push(g->a, &x->steps, e);
  sd_vec_push(g->a, &stats->step_nodes, s->node);
  if (g->o->tuning) sd_vec_push(g->a, &g->o->tuning->steps, s->kernel);
  return NULL;
}

// What a loop finds when it starts lives until its last pass ends. Inner loops first.
static void extend_lifetimes(sd_gen *g) {
  sd_artifact *x = g->x;
  for (uint32_t i = x->steps.len; i-- > 0;) {
    uint32_t end = i + x->steps.at[i].body;
    if (x->steps.at[i].kind != SARD_AS_LOOP) continue;
    for (uint32_t b = 0; b < x->bufs.len; b++) {
      sard_art_buf *q = &x->bufs.at[b];
      if (q->kind == SARD_AB_ARENA && q->first != SARD_ART_NONE && q->first <= i && q->last >= i && q->last < end) q->last = end;
    }
  }
}

static sard_status *add_copies(sd_gen *g, const bool *copy) {
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
    e.bufs = sd_artifact_list(x, bufs, 2), e.writes = sd_artifact_list(x, (uint32_t[]){0, 1}, 2);
    e.name = sd_artifact_text(x, main->outputs.at[i]->name), e.op = sd_artifact_text(x, "Copy");
    sd_vec_push(g->a, &x->steps, e);
  }
  return NULL;
}

// Requirements on sizes: of inputs they are checked at the start, others once the steps before have made the sizes.
static void add_checks(sd_gen *g) {
  for (uint32_t i = 0; i < g->m->requires.len; i++) {
    const sd_require *r = &g->m->requires.at[i];
    if (!is_bound(g, r->a) || !is_bound(g, r->b)) continue;
    sard_art_check c = {sd_dimslots_get(&g->x->slots, r->a), sd_dimslots_get(&g->x->slots, r->b), r->broadcast, sd_artifact_text(g->x, r->what)};
    sd_vec_push(g->a, &g->x->checks, c);
  }
}

// How a batch goes through the model; nothing where no pass looked.
static void add_batch(sd_gen *g) {
  const sd_module *m = g->m;
  if (!m->batch_why || m->batch_n != m->main->inputs.len + m->main->outputs.len) return; // some were added since
  sd_vec_push(g->a, &g->x->batch, sd_artifact_text(g->x, m->batch_why));
  for (uint32_t i = 0; i < m->batch_n; i++)
    sd_vec_push(g->a, &g->x->batch, *m->batch_why || m->batch_axes[i] < 0 ? SARD_ART_NONE : (uint32_t)m->batch_axes[i]);
}

// All strings of the module: constants hold their numbers.
static void add_strings(sd_gen *g) {
  for (uint64_t i = 0; i < sd_strtab_count(g->m->strings); i++)
    sd_vec_push(g->a, &g->x->strings, sd_artifact_text(g->x, sd_strtab_text(g->m->strings, i)));
}

sard_status *sd_gen_plan(sd_gen *g, sd_codegen_stats *stats) {
  if (g->o->tuning) g->o->tuning->steps.at = NULL, g->o->tuning->steps.len = g->o->tuning->steps.cap = 0;
  sd_artifact *x = g->x = sd_artifact_new(g->a, g->m->dims, g->weights);
  uint32_t *kernel = SD_NEW_ARRAY(g->a, uint32_t, g->units.len + 1);
  bool *copy = SD_NEW_ARRAY(g->a, bool, g->m->main->outputs.len + 1);
  g->value_buf = SD_NEW_ARRAY(g->a, uint32_t, g->m->next_id + 1);
  for (uint32_t i = 0; i < g->units.len; i++) {
    const sd_unit *u = &g->units.at[i];
    uint32_t n_buf = 0;
    for (uint32_t s = 0; s < g->steps.len; s++)
      if (g->steps.at[s].kind == SARD_AS_DISPATCH && g->steps.at[s].unit == i) { n_buf = g->steps.at[s].n_bufs; break; }
    sard_art_kernel e = {.offset = sd_artifact_code(x, u->object, u->object_bytes), .size = u->object_bytes, .n_buf = n_buf, .n_dim = u->n_dims};
    e.symbol = sd_artifact_text(x, u->symbol), e.schedule = sd_artifact_text(x, u->schedule ? u->schedule : "");
    kernel[i] = x->kernels.len;
    sd_vec_push(g->a, &x->kernels, e);
  }
  SD_TRY(add_inputs(g));
  SD_TRY(add_outputs(g, copy));
  for (uint32_t s = 0; s < g->steps.len; s++) SD_TRY(add_step(g, &g->steps.at[s], kernel, stats));
  extend_lifetimes(g);
  SD_TRY(add_copies(g, copy));
  if (g->device) SD_TRY(sd_gen_cuda_plan(g, g->device, stats));
  add_checks(g);
  add_strings(g);
  add_batch(g);
  return add_symbols(g, false);
}

static void add_wire(sd_gen *g, sd_wire w) {
  uint32_t words[3] = {w.part, w.at, w.sizes};
  for (int i = 0; i < 3; i++) sd_vec_push(g->a, &g->x->parts, words[i]);
}

sard_status *sd_gen_parts(sd_gen *g, const sd_parts *parts) {
  const sd_graph *main = g->m->main;
  g->x = sd_artifact_new(g->a, g->m->dims, g->weights);
  for (uint32_t i = 0; i < main->inputs.len; i++) io_entry(g, main->inputs.at[i], SARD_ART_NONE);
  for (uint32_t i = 0; i < main->outputs.len; i++) io_entry(g, main->outputs.at[i], SARD_ART_NONE);
  g->x->n_inputs = main->inputs.len;
  sd_vec_push(g->a, &g->x->parts, parts->n);
  sd_vec_push(g->a, &g->x->parts, parts->how);
  for (uint32_t p = 0; p < parts->n; p++)
    for (uint32_t i = 0; i < parts->at[p].in.len; i++) add_wire(g, parts->at[p].in.at[i]);
  for (uint32_t i = 0; i < main->outputs.len; i++) add_wire(g, parts->out[i]);
  add_batch(g);
  return add_symbols(g, true);
}

