// Interprets a case node by node, and keeps for each node with a kernel what goes in and out.
#include "tests/cuda/gather.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "codegen/codegen.h"
#include "frontend/onnx/import.h"
#include "ir/eval.h"
#include "passes/pass.h"
#include "runtime/base/alloc.h"
#include "runtime/base/hash.h"
#include "runtime/io/tensor_io.h"

enum { MAX_TENSORS = 64, MOST_BYTES = 1 << 20, SLACK = 64, MOST_PASSES = 2 };

typedef struct run {
  gathered *g;
  sd_module *m;
  uint8_t *passes; // by the id of a node's first output: launches of it, in bodies
  const char *folder, *file;
} run;

static void *grow(void *p, uint32_t n, size_t size) {
  if (n & (n + 1)) return p; // room for the next power of two
  p = realloc(p, (size_t)(2 * n + 2) * size);
  if (!p) abort();
  return p;
}

static void *copy(const void *from, uint64_t bytes) {
  char *p = calloc(1, bytes + SLACK);
  if (!p) abort();
  if (bytes) memcpy(p, from, bytes);
  return p;
}

// ---- kernels and launches ----
static uint32_t kernel_of(gathered *g, const sd_cuda_source *s, const char *label) {
  uint64_t h = sd_hash_bytes(s->text, strlen(s->text), 0);
  for (uint32_t i = 0; i < g->n_kernels; i++)
    if (g->kernels[i].hash == h) return i;
  g->kernels = grow(g->kernels, g->n_kernels, sizeof *g->kernels);
  bool waits = strstr(s->text, "__syncthreads") || strstr(s->text, "_reduce<") || strstr(s->text, "sd_scan<");
  g->kernels[g->n_kernels] = (gathered_kernel){strdup(s->text), h, !waits, s->threads, strdup(label), NULL};
  return g->n_kernels++;
}

static bool size_of(const run *r, const sd_eval_step *s, sd_dim d, int64_t *out) {
  return sd_dim_eval(r->m->dims, d, s->symbol, s->symbols, out);
}

static bool bind_buf(run *r, const sd_eval_step *s, const sd_buf *b, gathered_buf *to) {
  const sd_evalue *e = NULL;
  int64_t count;
  *to = (gathered_buf){.dtype = b->dtype, .out = b->kind == SD_BUF_OUT};
  if (!size_of(r, s, b->count, &count) || count < 0) return false;
  to->count = (uint64_t)count;
  if (!sd_dtype_bytes(b->dtype, to->count, &to->bytes) || to->bytes > MOST_BYTES) return false;
  const void *data = b->value->data ? b->value->data->data : NULL;
  for (uint32_t i = 0; i < s->n->n_out && to->out; i++)
    if (s->n->out[i] == b->value) e = &s->out[i];
  for (uint32_t i = 0; i < s->n->n_in && !to->out; i++)
    if (s->n->in[i] == b->value) e = &s->in[i];
  if (e) data = e->data;
  if (!data && to->bytes && !to->out) return false;
  to->data = data ? copy(data, to->bytes) : NULL; // an output that nobody uses has none
  return true;
}

// Results are as exact as partial results in a narrow type; in f64, as the f32 that they are computed from.
static void note_inner(gathered_launch *l, const sd_buf *b) {
  bool narrow = b->kind == SD_BUF_LOCAL && (b->dtype == SD_F16 || b->dtype == SD_BF16);
  if (narrow && l->inner != SD_BF16) l->inner = b->dtype;
  if (b->kind == SD_BUF_IN && b->dtype == SD_F32 && !l->inner) l->inner = SD_F32;
}

static bool add_launch(run *r, const sd_eval_step *at, const sd_kernel *k, const sd_cuda_source *s,
                       const char *label) {
  gathered *g = r->g;
  gathered_launch l = {.label = strdup(label), .n_dims = (int)s->n_dims};
  l.bufs = calloc(k->bufs.len + 1, sizeof *l.bufs), l.dims = calloc(s->n_dims + 1, sizeof *l.dims);
  bool ok =
      l.bufs && l.dims && size_of(r, at, s->blocks, &l.blocks) && size_of(r, at, s->scratch, &l.scratch);
  for (uint32_t i = 0; ok && i < s->n_dims; i++) ok = size_of(r, at, s->dims[i], &l.dims[i]);
  for (uint32_t i = 0; ok && i < k->bufs.len; i++) {
    const sd_buf *b = k->bufs.at[i];
    note_inner(&l, b);
    if (b->kind != SD_BUF_LOCAL) ok = bind_buf(r, at, b, &l.bufs[l.n_bufs++]);
  }
  if (!ok || l.scratch > MOST_BYTES) { // what was copied stays: this is a test
    g->left_out++;
    return false;
  }
  l.kernel = kernel_of(g, s, label);
  g->launches = grow(g->launches, g->n_launches, sizeof *g->launches);
  g->launches[g->n_launches++] = l;
  return true;
}

// Of loops the first passes: the others make the same launches.
static bool repeats(run *r, const sd_node *n) {
  if (n->graph == r->m->main || n->n_out == 0 || !n->out[0]) return false;
  uint8_t *passes = &r->passes[n->out[0]->id];
  return *passes == MOST_PASSES || ++*passes == 0;
}

static sard_status *after_node(void *user, const sd_eval_step *at) {
  run *r = user;
  const sd_node *n = at->n;
  if (sd_codegen_runs(n) != SD_RUNS_KERNEL || repeats(r, n)) return NULL;
  sd_arena *a = sd_arena_new();
  sd_kernel *k;
  sd_cuda_source s;
  char label[400];
  snprintf(label, sizeof label, "%.200s/%.40s %s '%.80s'",
           strrchr(r->folder, '/') ? strrchr(r->folder, '/') + 1 : r->folder, r->file, n->op->name, n->name);
  sard_status *st = sd_cuda_node_source(a, r->m, n, "sd_kernel", &r->g->options, &k, &s);
  if (!st) {
    add_launch(r, at, k, &s, label);
  } else {
    r->g->failed++;
    printf("FAIL %s: %s\n", label, sard_status_text(st, SARD_TEXT_MESSAGE));
    sard_status_free(st);
  }
  sd_arena_free(a);
  return NULL;
}

// ---- cases ----
typedef struct inputs { // names in the order of the files, none: that of the model
  int n;
  char *names[MAX_TENSORS];
  bool large;
} inputs;

static bool read_case(const char *folder, inputs *in) {
  char path[4200], line[4096];
  snprintf(path, sizeof path, "%s/case.txt", folder);
  FILE *f = fopen(path, "r");
  if (!f) { // a model of the corpus: its inputs are numbered
    snprintf(path, sizeof path, "%s/meta.json", folder);
    return access(path, R_OK) == 0;
  }
  if (!fgets(line, sizeof line, f)) line[0] = 0;
  in->large = strstr(line, "large") != NULL;
  while (in->n < MAX_TENSORS && fgets(line, sizeof line, f)) {
    line[strcspn(line, "\n")] = 0;
    in->names[in->n++] = strdup(line);
  }
  fclose(f);
  return true;
}

static sard_status *read_inputs(run *r, sard_context *ctx, const inputs *in, sd_evalue *to) {
  for (uint32_t i = 0; i < r->m->main->inputs.len; i++) {
    const sd_value *v = r->m->main->inputs.at[i];
    char path[4300];
    int at = in->n ? 0 : (int)i;
    while (at < in->n && strcmp(in->names[at], v->name)) at++;
    snprintf(path, sizeof path, "%s/test_data_set_0/input_%d.pb", r->folder, at);
    sard_tensor *t;
    sard_tensor_desc d = {.size = sizeof d};
    SD_TRY(sd_value_read(ctx, path, (int32_t)v->dtype, &t));
    to[i].data = sard_tensor_data(t, &d);
    to[i].dtype = (sd_dtype)d.dtype, to[i].rank = d.rank;
    uint64_t count = 1;
    for (int k = 0; k < d.rank; k++) to[i].dims[k] = d.dims[k], count *= (uint64_t)d.dims[k];
    sd_dtype_bytes(to[i].dtype, count, &to[i].bytes);
    to[i].data = copy(to[i].data, to[i].bytes);
    sard_tensor_free(t);
  }
  return NULL;
}

static bool has_numbers(const sd_module *m) { // what the interpreter computes with
  for (uint32_t i = 0; i < m->main->inputs.len + m->main->outputs.len; i++) {
    const sd_value *v =
        i < m->main->inputs.len ? m->main->inputs.at[i] : m->main->outputs.at[i - m->main->inputs.len];
    if (v->dtype == SD_STRING || v->dtype == SD_OBJECT) return false;
  }
  return m->main->inputs.len <= MAX_TENSORS && m->main->outputs.len <= MAX_TENSORS;
}

static sard_status *interpret(run *r, sard_context *ctx, const inputs *in) {
  sd_evalue given[MAX_TENSORS] = {0}, out[MAX_TENSORS];
  r->passes = calloc(r->m->next_id + 1, 1);
  sard_status *st = read_inputs(r, ctx, in, given);
  if (!st)
    st = sd_eval_module(r->m, given, r->m->main->inputs.len, out, r->m->main->outputs.len, after_node, r);
  for (uint32_t i = 0; !st && i < r->m->main->outputs.len; i++) sd_eval_free(&out[i]);
  for (uint32_t i = 0; i < r->m->main->inputs.len; i++) free(given[i].data);
  free(r->passes);
  return st;
}

void gather_case(gathered *g, sard_context *ctx, const char *folder, const char *file, int opt) {
  char path[4200];
  inputs in = {0};
  run r = {.g = g, .folder = folder, .file = file};
  sd_pass_options o = {.opt = opt, .target = sd_pass_target_cuda(), .bisect = -1};
  o.target.two_of_four = true;
  snprintf(path, sizeof path, "%s/%s", folder, file);
  if (access(path, R_OK) || !read_case(folder, &in) || in.large) return;
  sard_source src = {.size = sizeof src, .path = path};
  sard_status *st = sd_import_onnx(&src, &r.m);
  if (!st) st = sd_passes_run(r.m, &o, NULL, "fuse", NULL, NULL);
  if (!st && has_numbers(r.m)) st = interpret(&r, ctx, &in);
  sard_status_free(st); // cases that cannot run are judged by tests/onnx
  if (r.m) sd_module_free(r.m);
  for (int i = 0; i < in.n; i++) free(in.names[i]);
}

// ---- models ----
static sard_status *gather_graph(gathered *g, sd_module *m, const sd_graph *graph, const char *path,
                                 int depth) {
  for (const sd_node *n = graph->first; n; n = n->next) {
    sd_runs how = sd_codegen_runs(n);
    for (uint32_t i = 0; how == SD_RUNS_STEPS && i < n->n_body && depth < SD_MAX_DEPTH; i++)
      SD_TRY(gather_graph(g, m, n->bodies[i], path, depth + 1));
    if (how != SD_RUNS_KERNEL) continue;
    sd_arena *a = sd_arena_new();
    sd_cuda_source s;
    char label[400];
    snprintf(label, sizeof label, "%.200s %s '%.80s'", path, n->op->name, n->name);
    sard_status *st = sd_cuda_node_source(a, m, n, "sd_kernel", &g->options, NULL, &s);
    if (!st) kernel_of(g, &s, label);
    sd_arena_free(a);
    SD_TRY(st);
  }
  return NULL;
}

void gather_model(gathered *g, const char *path) {
  sd_module *m = NULL;
  sd_pass_options o = {.opt = 3, .target = sd_pass_target_cuda(), .bisect = -1};
  o.target.two_of_four = true;
  sard_source src = {.size = sizeof src, .path = path};
  sard_status *st = sd_import_onnx(&src, &m);
  if (!st) st = sd_passes_run(m, &o, NULL, NULL, NULL, NULL);
  if (!st) st = gather_graph(g, m, m->main, path, 0);
  if (st) g->failed++, printf("FAIL %s: %s\n", path, sard_status_text(st, SARD_TEXT_MESSAGE));
  sard_status_free(st);
  if (m) sd_module_free(m);
}

// ---- kernels that say nothing new ----
typedef struct lines { // hashes of lines; 0: free
  uint64_t *seen, mask;
} lines;

// Of the line at `text` without indentation and comment, with each number 0; *end: of the line.
static uint64_t pattern_of(const char *text, const char **end) {
  uint64_t h = 1;
  text += strspn(text, " ");
  for (const char *c = text; *(*end = c) && *c != '\n'; c++) {
    if (c[0] == '/' && c[1] == '/') return *end = c + strcspn(c, "\n"), h ? h : 1;
    bool digit = *c >= '0' && *c <= '9';
    if (!digit || c == text || c[-1] < '0' || c[-1] > '9')
      h = sd_hash_mix(h, digit ? '0' : (uint8_t)*c);
  }
  return h ? h : 1;
}

static bool add_line(lines *l, uint64_t h) { // false: it was there
  uint64_t at = h & l->mask;
  while (l->seen[at] && l->seen[at] != h) at = (at + 1) & l->mask;
  bool fresh = !l->seen[at];
  l->seen[at] = h;
  return fresh;
}

static bool add_lines(lines *l, const char *text) { // true: one of them at least is new
  bool fresh = false;
  for (const char *end = text; *text; text = *end ? end + 1 : end)
    fresh |= add_line(l, pattern_of(text, &end));
  return fresh;
}

uint32_t gather_drop_alike(gathered *g) {
  uint64_t count = 1, room = 1;
  for (uint32_t i = 0; i < g->n_kernels; i++)
    for (const char *c = g->kernels[i].text; *c; c++) count += *c == '\n' || !c[1];
  while (room < 2 * count) room *= 2;
  lines l = {calloc(room, sizeof *l.seen), room - 1};
  uint32_t all = g->n_kernels, n = 0;
  if (!l.seen) abort();
  for (uint32_t i = 0; i < all; i++)
    if (add_lines(&l, g->kernels[i].text)) g->kernels[n++] = g->kernels[i];
  free(l.seen);
  g->n_kernels = n;
  return all - n;
}
