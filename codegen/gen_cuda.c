// The steps of a plan on CUDA devices: kernels in CUDA C, their code for each architecture, the artifact's
// tables of them.
#include "codegen/gen.h"

#include "runtime/base/hash.h"
#include "runtime/base/thread.h"

// ---- kernels ----

static sard_status *make_source(sd_gen *g, const sd_node *n, sd_arena *scratch, sd_cuda_source **out) {
  sd_cuda_source *c = *out = SD_NEW(g->a, sd_cuda_source);
  SD_TRY(sd_cuda_node_source(scratch, g->m, n, SD_CUDA_SYMBOL, &(sd_cuda_options){.tf32 = g->o->tf32}, NULL, c));
  c->text = sd_arena_strndup(g->a, c->text, strlen(c->text));
  sd_dim *dims = SD_NEW_ARRAY(g->a, sd_dim, c->n_dims + 1);
  if (c->n_dims) memcpy(dims, c->dims, c->n_dims * sizeof *dims);
  c->dims = dims;
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
sard_status *sd_gen_cuda_kernel(sd_gen *g, const sd_node *n, sd_arena *scratch, sd_step *s) {
  sd_dimtab *t = g->m->dims;
  sd_cuda_source *small, *large;
  SD_TRY(make_source(g, n, scratch, &small));
  s->cuda = small;
  s->cuda_batch = find_batch(t, small->blocks, sd_dim_const(t, 0));
  for (uint32_t i = 0; i < small->n_dims; i++) s->cuda_batch = find_batch(t, small->dims[i], s->cuda_batch);
  if (sd_dim_is(t, s->cuda_batch, 0)) return NULL;
  sd_dim_guess_batch(t, 4 * SD_CUDA_LARGE);
  sard_status *st = make_source(g, n, scratch, &large);
  sd_dim_guess_batch(t, 1);
  if (!st && strcmp(small->text, large->text) != 0) s->cuda_large = large;
  return st;
}

// ---- equal kernels once ----
typedef struct texts {
  const char **at;
  uint64_t *hash;
  uint32_t n;
} texts;

static uint32_t text_of(texts *t, const char *text) {
  uint64_t h = sd_hash_bytes(text, strlen(text), 0);
  uint32_t i = 0;
  while (i < t->n && (t->hash[i] != h || strcmp(t->at[i], text) != 0)) i++;
  if (i == t->n) t->at[i] = text, t->hash[i] = h, t->n++;
  return i;
}

static uint32_t list_dims(sd_gen *g, const sd_cuda_source *c) {
  uint32_t *slots = SD_NEW_ARRAY(g->a, uint32_t, c->n_dims + 1);
  for (uint32_t i = 0; i < c->n_dims; i++) slots[i] = sd_dimslots_get(&g->x->slots, c->dims[i]);
  return sd_artifact_list(g->x, slots, c->n_dims);
}

static void add_launch(sd_gen *g, uint32_t step, const sd_cuda_source *c, uint32_t text) {
  sard_art_cuda e = {.step = step, .n_dim = c->n_dims, .threads = (uint32_t)c->threads, .shared = (uint32_t)c->shared, .part = text / SD_CUDA_PART};
  e.symbol = sd_artifact_text(g->x, sd_arena_printf(g->a, "c%u", text));
  e.dims = list_dims(g, c);
  e.blocks = sd_dimslots_get(&g->x->slots, c->blocks), e.scratch = sd_dimslots_get(&g->x->slots, c->scratch);
  bool large = c == g->steps.at[step].cuda_large;
  e.size = large ? sd_dimslots_get(&g->x->slots, g->steps.at[step].cuda_batch) : SARD_ART_NONE, e.least = large ? SD_CUDA_LARGE : 0;
  sd_vec_push(g->a, &g->x->cuda, e);
}

static void add_image(sd_gen *g, uint32_t kind, int arch, uint32_t part, const void *data, uint64_t bytes) {
  sard_art_cuda_image e = {kind, (uint32_t)arch, part, 0, sd_artifact_image(g->x, data, bytes), bytes};
  sd_vec_push(g->a, &g->x->cuda_images, e);
}

sard_status *sd_gen_cuda_plan(sd_gen *g, const sd_cuda_device *d, sd_codegen_stats *stats) {
  texts t = {SD_NEW_ARRAY(g->a, const char *, 2 * g->steps.len + 1), SD_NEW_ARRAY(g->a, uint64_t, 2 * g->steps.len + 1), 0};
  for (uint32_t i = 0; i < g->steps.len; i++) {
    const sd_step *s = &g->steps.at[i];
    if (s->cuda) add_launch(g, i, s->cuda, text_of(&t, s->cuda->text));
    if (s->cuda_large) add_launch(g, i, s->cuda_large, text_of(&t, s->cuda_large->text));
  }
  if (t.n == 0) return NULL;
  int64_t t0 = sd_now_ns();
  uint32_t parts = sd_cuda_parts(t.n);
  sd_cubin *cubins = SD_NEW_ARRAY(g->a, sd_cubin, parts * (uint32_t)d->n_archs);
  SD_TRY(sd_cuda_compile(d, t.at, t.n, g->o->threads, g->a, cubins));
  stats->cuda_s = (double)(sd_now_ns() - t0) * 1e-9;
  for (uint32_t p = 0; p < parts; p++) {
    const sd_cubin *c = cubins + p * (uint32_t)d->n_archs;
    for (int i = 0; i < d->n_archs; i++) add_image(g, SARD_ACI_CUBIN, d->archs[i], p, c[i].data, c[i].bytes);
    // later GPUs compile the text of the first architecture when it is loaded
    add_image(g, SARD_ACI_PTX, d->archs[0], p, c[0].ptx, strlen(c[0].ptx) + 1);
  }
  stats->cuda_kernels = t.n, stats->cuda_bytes = g->x->images.len;
  return NULL;
}
