// The steps of a plan on CUDA devices: kernels in CUDA C, their code for each architecture, the artifact's
// tables of them.
#include "codegen/gen.h"

#include "runtime/base/hash.h"
#include "runtime/base/thread.h"

sard_status *sd_gen_cuda_kernel(sd_gen *g, const sd_node *n, sd_arena *scratch, sd_step *s) {
  sd_cuda_source *c = SD_NEW(g->a, sd_cuda_source);
  SD_TRY(sd_cuda_node_source(scratch, g->m, n, SD_CUDA_SYMBOL, &(sd_cuda_options){.tf32 = g->o->tf32}, NULL, c));
  c->text = sd_arena_strndup(g->a, c->text, strlen(c->text));
  sd_dim *dims = SD_NEW_ARRAY(g->a, sd_dim, c->n_dims + 1);
  if (c->n_dims) memcpy(dims, c->dims, c->n_dims * sizeof *dims);
  c->dims = dims;
  s->cuda = c;
  return NULL;
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

static void add_launch(sd_gen *g, uint32_t step, uint32_t text) {
  const sd_cuda_source *c = g->steps.at[step].cuda;
  sard_art_cuda e = {.step = step, .n_dim = c->n_dims, .threads = (uint32_t)c->threads, .shared = (uint32_t)c->shared, .part = text / SD_CUDA_PART};
  e.symbol = sd_artifact_text(g->x, sd_arena_printf(g->a, "c%u", text));
  e.dims = list_dims(g, c);
  e.blocks = sd_dimslots_get(&g->x->slots, c->blocks), e.scratch = sd_dimslots_get(&g->x->slots, c->scratch);
  sd_vec_push(g->a, &g->x->cuda, e);
}

static void add_image(sd_gen *g, uint32_t kind, int arch, uint32_t part, const void *data, uint64_t bytes) {
  sard_art_cuda_image e = {kind, (uint32_t)arch, part, 0, sd_artifact_image(g->x, data, bytes), bytes};
  sd_vec_push(g->a, &g->x->cuda_images, e);
}

sard_status *sd_gen_cuda_plan(sd_gen *g, const sd_cuda_device *d, sd_codegen_stats *stats) {
  texts t = {SD_NEW_ARRAY(g->a, const char *, g->steps.len + 1),
             SD_NEW_ARRAY(g->a, uint64_t, g->steps.len + 1), 0};
  for (uint32_t i = 0; i < g->steps.len; i++)
    if (g->steps.at[i].cuda) add_launch(g, i, text_of(&t, g->steps.at[i].cuda->text));
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
