// The steps of a plan on CUDA devices: kernels in CUDA C, their code for each architecture, the artifact's
// tables of them.
#include "codegen/gen.h"

#include "runtime/base/hash.h"
#include "runtime/base/thread.h"

// ---- kernels ----

static sard_status *make_source(sd_gen *g, const sd_node *n, bool only, sd_arena *scratch, sd_kernel **kernel, const sd_cuda_source **out) {
  sd_cuda_source *c = SD_NEW(g->a, sd_cuda_source);
  SD_TRY(sd_cuda_node_source(scratch, g->m, n, SD_CUDA_SYMBOL, &(sd_cuda_options){.tf32 = g->o->tf32, .wide = only}, kernel, c));
  c->text = sd_arena_strndup(g->a, c->text, strlen(c->text));
  sd_dim *dims = SD_NEW_ARRAY(g->a, sd_dim, c->n_dims + 1);
  if (c->n_dims) memcpy(dims, c->dims, c->n_dims * sizeof *dims);
  c->dims = dims;
  *out = c;
  return NULL;
}

// The largest symbol in d that looks like a batch, and `most`.
static sd_dim find_batch(sd_dimtab *t, sd_dim d, sd_dim most) {
  const sd_dimnode *n = sd_dim_get(t, d);
  if (n->op == SD_DIM_SYM) return sd_dim_is_batch(n->name) ? sd_dim_max(t, most, d) : most;
  for (uint32_t i = 0; i < n->n; i++) most = find_batch(t, n->args[i], most);
  return most;
}

// Few and many rows want other schedules: where the batch is left open and makes a difference there are both.
static sard_status *make_launches(sd_gen *g, const sd_node *n, bool only, sd_arena *scratch, sd_kernel **kernel, sd_cuda_launches *out) {
  sd_dimtab *t = g->m->dims;
  const sd_cuda_source *large;
  SD_TRY(make_source(g, n, only, scratch, kernel, &out->small));
  out->batch = find_batch(t, out->small->blocks, sd_dim_const(t, 0));
  for (uint32_t i = 0; i < out->small->n_dims; i++) out->batch = find_batch(t, out->small->dims[i], out->batch);
  if (sd_dim_is(t, out->batch, 0)) return NULL;
  sd_dim_guess_batch(t, 4 * SD_CUDA_LARGE);
  sard_status *st = make_source(g, n, only, scratch, NULL, &large);
  sd_dim_guess_batch(t, 1);
  if (!st && strcmp(out->small->text, large->text) != 0) out->large = large;
  return st;
}

static bool same_text(const sd_cuda_source *x, const sd_cuda_source *y) {
  return x == y || (x && y && strcmp(x->text, y->text) == 0);
}

static const sd_cuda_matrix *find_matrix(const sd_gen *g, sd_kernel *k) {
  sd_cuda_matrix m;
  return sd_choose_cuda_matrix(k, g->o->tf32, &m) ? sd_arena_dup(g->a, &m, sizeof m) : NULL;
}

sard_status *sd_gen_cuda_kernel(sd_gen *g, const sd_node *n, sd_arena *scratch, sd_step *s) {
  sd_kernel *k;
  SD_TRY(make_launches(g, n, false, scratch, &k, &s->cuda));
  s->matrix = find_matrix(g, k);
  if (!sd_cuda_device_has_only(g->device)) return NULL;
  SD_TRY(make_launches(g, n, true, scratch, NULL, &s->cuda_only));
  if (same_text(s->cuda.small, s->cuda_only.small) && same_text(s->cuda.large, s->cuda_only.large)) s->cuda_only = (sd_cuda_launches){0};
  return NULL;
}

// ---- equal kernels once ----
typedef struct texts {
  sd_cuda_text *at;
  uint64_t *hash;
  uint32_t n;
} texts;

static uint32_t text_of(texts *t, const char *text) {
  uint64_t h = sd_hash_bytes(text, strlen(text), 0);
  uint32_t i = 0;
  while (i < t->n && (t->hash[i] != h || strcmp(t->at[i].text, text) != 0)) i++;
  if (i == t->n) t->at[i] = (sd_cuda_text){.text = text}, t->hash[i] = h, t->n++;
  return i;
}

static uint32_t list_dims(sd_gen *g, const sd_cuda_source *c) {
  uint32_t *slots = SD_NEW_ARRAY(g->a, uint32_t, c->n_dims + 1);
  for (uint32_t i = 0; i < c->n_dims; i++) slots[i] = sd_dimslots_get(&g->x->slots, c->dims[i]);
  return sd_artifact_list(g->x, slots, c->n_dims);
}

// Where a step's launches are wanted.
typedef struct place {
  uint32_t step;
  bool common, only; // in code for any architecture; in that for sm_90a
} place;

static void add_launch(sd_gen *g, texts *t, const place *at, const sd_cuda_source *c, sd_dim batch) {
  if (!c) return;
  uint32_t text = text_of(t, c->text);
  t->at[text].common |= at->common, t->at[text].only |= at->only;
  sard_art_cuda e = {.step = at->step, .n_dim = c->n_dims, .threads = (uint32_t)c->threads, .shared = (uint32_t)c->shared, .part = text / SD_CUDA_PART};
  e.symbol = sd_artifact_text(g->x, sd_arena_printf(g->a, "c%u", text));
  e.dims = list_dims(g, c);
  e.blocks = sd_dimslots_get(&g->x->slots, c->blocks), e.scratch = sd_dimslots_get(&g->x->slots, c->scratch);
  bool large = batch != SD_DIM_NONE;
  e.size = large ? sd_dimslots_get(&g->x->slots, batch) : SARD_ART_NONE, e.least = large ? SD_CUDA_LARGE : 0;
  e.arch = at->common ? 0 : SD_CUDA_ONLY;
  sd_vec_push(g->a, &g->x->cuda, e);
}

static void add_launches(sd_gen *g, texts *t, place at, const sd_cuda_launches *l) {
  add_launch(g, t, &at, l->small, SD_DIM_NONE);
  add_launch(g, t, &at, l->large, l->batch);
}

static sard_art_operand operand(sd_gen *g, const sd_cuda_place *p) {
  uint32_t zero = sd_dimslots_const(&g->x->slots, 0);
  if (!p->buf) return (sard_art_operand){SARD_ART_NONE, zero, zero, zero};
  sd_dimslots *s = &g->x->slots;
  return (sard_art_operand){p->param, sd_dimslots_get(s, p->first), sd_dimslots_get(s, p->step), sd_dimslots_get(s, p->batch)};
}

static void add_product(sd_gen *g, uint32_t step, const sd_cuda_matrix *m) {
  if (!m) return;
  sd_dimslots *s = &g->x->slots;
  sard_art_product e = {.step = step, .in = m->in, .out = m->to, .of_bias = m->of_bias, .scale = m->scale};
  e.flags = (m->relu ? SARD_APF_RELU : 0) | (m->x.along_k ? SARD_APF_X_ALONG : 0) | (m->y.along_k ? SARD_APF_Y_ALONG : 0);
  e.m = sd_dimslots_get(s, m->m), e.n = sd_dimslots_get(s, m->n), e.k = sd_dimslots_get(s, m->k), e.batch = sd_dimslots_get(s, m->batch);
  e.x = operand(g, &m->x), e.y = operand(g, &m->y), e.c = operand(g, &m->c), e.bias = operand(g, &m->bias), e.result = operand(g, &m->out);
  sd_vec_push(g->a, &g->x->products, e);
}

static void add_image(sd_gen *g, uint32_t kind, int arch, uint32_t part, const void *data, uint64_t bytes) {
  sard_art_cuda_image e = {kind, (uint32_t)arch, part, 0, sd_artifact_image(g->x, data, bytes), bytes};
  sd_vec_push(g->a, &g->x->cuda_images, e);
}

static void add_images(sd_gen *g, const sd_cuda_build *b, uint32_t part, const sd_cubin *c) {
  if (!c->data) return;
  if (b->cubin) add_image(g, SARD_ACI_CUBIN, b->arch, part, c->data, c->bytes);
  if (b->ptx) add_image(g, SARD_ACI_PTX, b->arch, part, c->ptx, strlen(c->ptx) + 1);
}

sard_status *sd_gen_cuda_plan(sd_gen *g, const sd_cuda_device *d, sd_codegen_stats *stats) {
  uint32_t most = 4 * g->steps.len + 1;
  texts t = {SD_NEW_ARRAY(g->a, sd_cuda_text, most), SD_NEW_ARRAY(g->a, uint64_t, most), 0};
  for (uint32_t i = 0; i < g->steps.len; i++) {
    const sd_step *s = &g->steps.at[i];
    add_launches(g, &t, (place){i, true, !s->cuda_only.small}, &s->cuda);
    add_launches(g, &t, (place){i, false, true}, &s->cuda_only);
    add_product(g, i, s->matrix);
  }
  if (t.n == 0) return NULL;
  int64_t t0 = sd_now_ns();
  sd_cuda_build builds[SD_CUDA_BUILDS];
  uint32_t parts = sd_cuda_parts(t.n), n_builds = (uint32_t)sd_cuda_builds(d, builds);
  sd_cubin *cubins = SD_NEW_ARRAY(g->a, sd_cubin, parts * n_builds);
  SD_TRY(sd_cuda_compile(d, t.at, t.n, g->o->threads, g->a, cubins));
  stats->cuda_s = (double)(sd_now_ns() - t0) * 1e-9;
  for (uint32_t p = 0; p < parts; p++)
    for (uint32_t i = 0; i < n_builds; i++) add_images(g, &builds[i], p, &cubins[p * n_builds + i]);
  stats->cuda_kernels = t.n, stats->cuda_bytes = g->x->images.len;
  return NULL;
}
