// The function: parameters, buffers, grid, items.
#include "codegen/cuda/print.h"

#include "codegen/vmath.h"
#include "runtime/base/alloc.h"

#define SHARED_LOCALS       32768 // bytes of local buffers that stand in shared memory, the rest in scratch memory
#define MOST_BLOCKS         65536
#define MOST_SCRATCH_BLOCKS 512

typedef struct locals {
  sd_dim *offset;
  sd_dim scratch;
  bool *shared;
} locals;

// ---- functions expanded ----
static void expand_items(sd_kernel *k, sd_items *items) {
  for (uint32_t i = 0; i < items->len; i++) {
    if (items->at[i].loop) {
      expand_items(k, items->at[i].body);
      continue;
    }
    sd_nest *n = items->at[i].nest;
    for (uint32_t s = 0; s < n->stores.len; s++)
      n->stores.at[s].value = sd_vmath_expand(k, n->stores.at[s].value, SD_VMATH_EXP);
  }
}

// ---- buffers ----
static sd_dim align(sd_dimtab *t, sd_dim bytes, int64_t to) {
  sd_dim q = sd_dim_const(t, to);
  return sd_dim_mul(t, sd_dim_ceildiv(t, bytes, q), q);
}

static sard_status *place_locals(sd_print *P, locals *l) {
  sd_dimtab *t = P->k->dims;
  int64_t used = 0, bytes;
  *l = (locals){SD_NEW_ARRAY(P->a, sd_dim, P->k->bufs.len + 1), sd_dim_const(t, 0),
                SD_NEW_ARRAY(P->a, bool, P->k->bufs.len + 1)};
  for (uint32_t i = 0; i < P->k->bufs.len; i++) {
    const sd_buf *b = P->k->bufs.at[i];
    if (b->kind != SD_BUF_LOCAL || P->plan->fragments) continue;
    sd_dim size = align(t, sd_dim_bytes(t, b->dtype, b->count), 256);
    if (sd_dim_is_const(t, size, &bytes) && bytes <= SHARED_LOCALS - used) {
      l->shared[i] = true, used += bytes;
      continue;
    }
    l->offset[i] = l->scratch;
    l->scratch = sd_dim_add(t, l->scratch, size);
  }
  return l->scratch == SD_DIM_NONE ? SD_ERR(UNSUPPORTED, "sizes of kernel %s overflow", P->k->name) : NULL;
}

static uint32_t print_buffers(sd_print *P, const locals *l) {
  uint32_t param = 0;
  for (uint32_t i = 0; i < P->k->bufs.len; i++) {
    const sd_buf *b = P->k->bufs.at[i];
    const char *t = sd_print_storage(b->dtype), *c = b->kind == SD_BUF_IN ? "const " : "";
    int64_t bytes = 0;
    if (b->kind != SD_BUF_LOCAL) {
      sd_print_line(P, "%s%s *const b%u = (%s%s *)A.b[%u];", c, t, i, c, t, param++);
    } else if (P->plan->fragments) { // in registers
      continue;
    } else if (l->shared[i]) {
      sd_dim_is_const(P->k->dims, sd_dim_bytes(P->k->dims, b->dtype, b->count), &bytes);
      int64_t size = sd_dtype_bits(b->dtype) < 8 ? 1 : sd_dtype_bits(b->dtype) / 8;
      sd_print_line(P, "SD_SHARED(%s, b%u, %lld);", t, i, (long long)(bytes / size + (bytes == 0)));
    } else {
      sd_print_line(P, "%s *const b%u = (%s *)((char *)A.scratch + blockIdx.x * (u64)%s + (u64)%s);", t, i, t,
                    sd_print_dim(P, l->scratch), sd_print_dim(P, l->offset[i]));
    }
  }
  return param;
}

// ---- items ----
static void print_items(sd_print *P, const sd_items *items) {
  for (uint32_t i = 0; i < items->len; i++) {
    if (items->at[i].nest) {
      sd_print_in_block(P, &P->plan->nests.at[P->next_nest++]);
      continue;
    }
    sd_print_loop(P, items->at[i].loop);
    print_items(P, items->at[i].body);
    sd_print_loop_end(P, items->at[i].loop);
  }
}

static void print_body(sd_print *P) {
  for (uint32_t i = 0; P->plan->whole && i < P->plan->nests.len; i++) {
    if (P->plan->nests.len > 1) sd_print_block(P);
    sd_print_whole(P, &P->plan->nests.at[i]);
    if (P->plan->nests.len > 1) sd_print_close(P);
  }
  if (P->plan->whole) return;
  const sd_axis *const *grid = (const sd_axis *const *)P->k->grid.at;
  bool small;
  const char *tiles = sd_print_count(P, grid, P->k->grid.len, &small), *t = sd_print_index_type(small);
  sd_print_open(P, "for (%s tile = blockIdx.x; tile < (%s)%s; tile += gridDim.x)", t, t, tiles);
  sd_print_bind_digits(P, grid, P->k->grid.len, "tile", small);
  if (P->plan->fragments) sd_print_fragments(P);
  else if (P->plan->scan)
    sd_print_scan(P);
  else
    print_items(P, &P->k->items);
  sd_print_close(P);
}

static bool uses_exchange(const sd_cuda_plan *p) {
  for (uint32_t i = 0; i < p->nests.len; i++)
    if (p->nests.at[i].form == SD_CUDA_ROWS && p->nests.at[i].group > SD_CUDA_WARP) return true;
  return false;
}

// That the points of a nest fill.
static sd_dim nest_blocks(sd_print *P, const sd_cuda_nest *n) {
  sd_dimtab *t = P->k->dims;
  int threads = P->plan->threads;
  if (n->form == SD_CUDA_TILES && n->product) return sd_print_product_blocks(P, n);
  if (n->form == SD_CUDA_TILES) return sd_print_tile_count(P, n, n->bm, n->bn);
  if (n->form == SD_CUDA_COLUMNS) return sd_print_column_blocks(P, n);
  if (n->form == SD_CUDA_TURNED) return sd_print_turned_blocks(P, n);
  if (n->form == SD_CUDA_ROWS)
    return sd_dim_ceildiv(t, sd_print_product(P, n->axes, n->n_rows), sd_dim_const(t, threads / n->group));
  sd_dim points = sd_print_product(P, n->axes, n->nest->n_axes);
  if (n->vec) // what the lanes leave over needs threads too
    points = sd_dim_ceildiv(t, sd_print_product(P, (const sd_axis *const *)n->plain->axes, n->plain->n_axes),
                            sd_dim_const(t, n->vec));
  return sd_dim_ceildiv(t, points, sd_dim_const(t, threads));
}

static sd_dim count_blocks(sd_print *P, const locals *l) {
  sd_dimtab *t = P->k->dims;
  sd_dim most = sd_dim_const(t, sd_dim_is(t, l->scratch, 0) ? MOST_BLOCKS : MOST_SCRATCH_BLOCKS),
         b = sd_dim_const(t, 0);
  if (!P->plan->whole) b = sd_print_product(P, (const sd_axis *const *)P->k->grid.at, P->k->grid.len);
  for (uint32_t i = 0; P->plan->whole && i < P->plan->nests.len; i++)
    b = sd_dim_max(t, b, nest_blocks(P, &P->plan->nests.at[i]));
  return sd_dim_min(t, b, most);
}

// ---- the function ----
static const char *head(sd_print *P, const char *symbol, uint32_t n_bufs) {
  const char *b = n_bufs ? sd_print_text(P, "void *b[%u]; ", n_bufs) : "",
             *d = P->dims.len ? sd_print_text(P, "i64 d[%u]; ", P->dims.len) : "";
  const char *blocks = P->plan->blocks > 1 ? sd_print_text(P, "SD_BLOCKS(%d)", P->plan->blocks) : "1";
  return sd_print_text(P,
                       "struct %s_args { %s%svoid *scratch; unsigned *error; };\n"
                       "extern \"C\" __global__ void __launch_bounds__(%d, %s) %s(const %s_args A) {\n",
                       symbol, b, d, P->plan->threads, blocks, symbol, symbol);
}

static sard_status *print_function(sd_print *P, const char *symbol, sd_cuda_source *out) {
  locals l;
  SD_TRY(place_locals(P, &l));
  P->indent = 1;
  sd_vec_push(P->a, &P->scopes, (sd_print_scope){0});
  P->n_scope = 1;
  uint32_t n_bufs = print_buffers(P, &l);
  if (uses_exchange(P->plan)) sd_print_line(P, "SD_SHARED(u64, exchange, %d);", SD_CUDA_WARP);
  if (P->plan->fragments) sd_print_line(P, "SD_DYNAMIC(slices, %d);", sd_print_fragment_bytes(P));
  print_body(P);
  sd_str_put(&P->whole, head(P, symbol, n_bufs));
  for (uint32_t i = 0; i < P->dims.len; i++) sd_strf(&P->whole, "  const i64 d%u = A.d[%u];\n", i, i);
  sd_str_put(&P->whole, P->out.p ? P->out.p : "");
  sd_str_put(&P->whole, "}\n");
  *out = (sd_cuda_source){.n_bufs = n_bufs,
                          .n_dims = P->dims.len,
                          .dims = P->dims.at,
                          .threads = P->plan->threads,
                          .scratch = l.scratch,
                          .shared = P->plan->fragments ? sd_print_fragment_bytes(P) : P->dynamic};
  out->blocks = count_blocks(P, &l);
  if (P->out.failed || P->whole.failed)
    return SD_ERR(NOMEM, "out of memory while printing kernel %s", P->k->name);
  out->text = sd_arena_keep(P->a, sd_str_take(&P->whole));
  return NULL;
}

static void drop_texts(void *p) { // also when memory was short in between
  sd_print *P = p;
  sd_str_free(&P->out), sd_str_free(&P->whole);
}

sard_status *sd_emit_cuda(sd_kernel *k, const char *symbol, const sd_cuda_options *o, sd_arena *a, sd_cuda_source *out) {
  sd_cuda_plan plan;
  expand_items(k, &k->items);
  SD_TRY(sd_choose_cuda(k, o, a, &plan));
  sd_print *P = SD_NEW(a, sd_print);
  *P = (sd_print){.k = k, .plan = &plan, .a = a, .words = k->n_axis / 64 + 1};
  P->info = SD_NEW_ARRAY(a, sd_print_info, k->n_expr + 1);
  P->axis = SD_NEW_ARRAY(a, const char *, P->words * 64);
  sd_arena_defer(a, drop_texts, P);
  sard_status *st = print_function(P, symbol, out);
  drop_texts(P);
  if (!P->error) return st;
  sard_status_free(st);
  return P->error;
}
