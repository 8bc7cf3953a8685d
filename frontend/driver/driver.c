// The compilation pipeline as one function; options and report are values.
#include "frontend/driver/driver.h"

#include <stdio.h>
#include <stdlib.h>

#include "codegen/blocks.h"
#include "codegen/cuda/device.h"
#include "frontend/driver/parts.h"
#include "passes/partition/parts.h"
#include "frontend/driver/precision.h"
#include "frontend/onnx/import.h"
#include "runtime/base/alloc.h"
#include "runtime/base/file.h"
#include "runtime/base/thread.h"

void sd_driver_defaults(sd_driver_options *o) {
  *o = (sd_driver_options){.opt = 3, .bisect = -1, .verify = getenv("SARD_VERIFY") != NULL};
}

static sard_status *read_sparsity(const sard_options *from, bool *two_of_four) {
  const char *text = sd_options_get(from, "sparsity");
  *two_of_four = text && strcmp(text, "2:4") == 0;
  if (!text || *two_of_four || strcmp(text, "no") == 0) return NULL;
  return SD_ERR(USAGE, "sparsity: '%s' is neither no nor 2:4", text);
}

sard_status *sd_driver_options_read(const sard_options *from, sd_arena *a, sd_driver_options *o) {
  int64_t opt, threads, keep, free_dims;
  const char *key, *value;
  SD_TRY(sd_options_int(from, "opt", 0, 3, o->opt, &opt));
  SD_TRY(sd_options_int(from, "threads", 0, 1024, 0, &threads));
  SD_TRY(sd_options_int(from, "keep-ir", 0, 1, o->keep_ir, &keep));
  SD_TRY(sd_options_int(from, "free-dims", 0, 1, o->free_dims, &free_dims));
  o->free_dims = free_dims != 0;
  o->opt = (int)opt, o->threads = (int)threads, o->keep_ir = keep != 0;
  o->target = sd_options_get(from, "target");
  SD_TRY(sd_devices_read(from, &o->devices));
  SD_TRY(read_sparsity(from, &o->two_of_four));
  SD_TRY(sd_precision_read(a, sd_options_get(from, "precision"), &o->tf32, &o->precision));
  for (size_t i = 0; sd_options_at(from, i, &key, &value); i++) {
    bool dim = strncmp(key, "dim:", 4) == 0, rank = strncmp(key, "rank:", 5) == 0;
    if (!dim && !rank) continue;
    char *end;
    long long v = strtoll(value, &end, 10), most = rank ? SD_MAX_RANK : INT32_MAX;
    if (!*value || *end || v < 0 || v > most)
      return SD_ERR(USAGE, "%s '%s' of %s '%s' is no number from 0 to %lld", dim ? "size" : "rank", value,
                    dim ? "dim" : "input", strchr(key, ':') + 1, most);
    if (dim) sd_vec_push(a, &o->dims, ((sd_fixed_dim){key + 4, v}));
    else sd_vec_push(a, &o->ranks, ((sd_fixed_dim){key + 5, v}));
  }
  return NULL;
}

void sd_driver_archs(sd_driver_options *o, const char *given) {
  o->device = given ? given : sd_devices_cuda(&o->devices) ? "cuda" : NULL;
}

// ---- loading ----

static bool looks_like_text(const uint8_t *p, uint64_t n) {
  for (uint64_t i = 0; i < n && i < 512; i++)
    if (p[i] == 0 || (p[i] < 32 && p[i] != '\n' && p[i] != '\r' && p[i] != '\t')) return false;
  return n > 0;
}

// Text comes from people: what would be a bug of Sard behind a pass is a mistake in the text here.
static sard_status *check_text(const char *text, const char *file, sd_module **out) {
  sard_status *st = sd_module_parse(text, file, out);
  if (!st) st = sd_module_verify(*out);
  if (sard_status_code(st) != SARD_E_INTERNAL) return st;
  sard_status *mistake = SD_ERR(MODEL, "%s: %s", file, sard_status_text(st, SARD_TEXT_MESSAGE));
  sard_status_free(st);
  return mistake;
}

static sard_status *load_text(const char *file, const uint8_t *data, uint64_t size, sd_module **out) {
  char *text = sd_malloc(size + 1);
  if (!text) return SD_ERR(NOMEM, "out of memory for %s", file);
  memcpy(text, data, size);
  text[size] = 0;
  sard_status *st = check_text(text, file, out);
  sd_free(text);
  if (st) sd_module_free(*out), *out = NULL;
  return st;
}

static sard_status *find_rank(void *user, uint32_t index, const char *name, int *out) {
  const sd_driver_options *o = user;
  for (uint32_t i = 0; i < o->ranks.len; i++)
    if (strcmp(o->ranks.at[i].name, name) == 0) return *out = (int)o->ranks.at[i].value, NULL;
  return o->more_ranks.rank ? o->more_ranks.rank(o->more_ranks.user, index, name, out) : NULL;
}

static sard_status *load_any(const sard_source *src, const sd_driver_options *o, sd_module **out) {
  sd_import_shapes shapes = {find_rank, (void *)o, o->free_dims};
  sd_map map = {0};
  const uint8_t *data = src->data;
  uint64_t size = src->bytes;
  if (src->path) {
    SD_TRY(sd_file_map(src->path, &map));
    data = map.data, size = map.size;
  }
  const char *file = src->path ? src->path : "<memory>";
  sard_status *st;
  if (looks_like_text(data, size)) st = load_text(file, data, size, out);
  else st = sd_import_onnx_shaped(src, &shapes, out);
  if (src->path) sd_file_unmap(&map);
  return st;
}

typedef struct fixing { sd_module *m; const sd_fixed_dims *dims; } fixing;
static sd_dim fixed_value(void *user, const char *name) {
  const fixing *f = user;
  for (uint32_t i = 0; i < f->dims->len; i++)
    if (strcmp(f->dims->at[i].name, name) == 0) return sd_dim_const(f->m->dims, f->dims->at[i].value);
  return SD_DIM_NONE;
}

static sard_status *check_names(sd_module *m, const sd_fixed_dims *dims) {
  for (uint32_t i = 0; i < dims->len; i++) {
    sd_str known = {0};
    bool found = false;
    for (uint32_t k = 0; k < m->main->inputs.len; k++)
      for (int d = 0; d < m->main->inputs.at[k]->rank; d++) {
        const sd_dimnode *n = sd_dim_get(m->dims, m->main->inputs.at[k]->dims[d]);
        if (n->op != SD_DIM_SYM) continue;
        found |= strcmp(n->name, dims->at[i].name) == 0;
        if (!known.p || !strstr(known.p, n->name)) sd_strf(&known, "%s%s", known.p ? ", " : "", n->name);
      }
    sard_status *st = found ? NULL
                            : SD_ERR(USAGE, "no input has a symbolic dim '%s' (symbolic dims: %s)", dims->at[i].name, known.p ? known.p : "none");
    sd_str_free(&known);
    if (st) return st;
  }
  return NULL;
}

// Nodes that import made have dims as texts.
static void fix_texts(sd_node *n, fixing *f) {
  for (uint32_t i = 0; i < n->n_attr && strncmp(n->op->name, "sard.", 5) == 0; i++) {
    sd_attr *a = &n->attrs[i];
    if (a->kind != SD_ATTR_STRINGS) continue;
    const char **texts = SD_NEW_ARRAY(f->m->arena, const char *, a->n + 1);
    for (uint32_t k = 0; k < a->n; k++) {
      const char *p = a->strings[k];
      sd_dim d = sd_dim_parse(f->m->dims, &p);
      texts[k] = d == SD_DIM_NONE || *p ? a->strings[k] : sd_dim_text(f->m->dims, sd_dim_subst(f->m->dims, d, fixed_value, f), f->m->arena);
    }
    a->strings = texts;
  }
}

static sard_status *reinfer(sd_graph *g, fixing *f, int depth) {
  for (sd_node *n = g->first; n; n = n->next) {
    fix_texts(n, f);
    SD_TRY(sd_node_infer(n));
    if (depth < SD_MAX_DEPTH)
      for (uint32_t i = 0; i < n->n_body; i++) SD_TRY(reinfer(n->bodies[i], f, depth + 1));
  }
  return NULL;
}

static sard_status *fix_dims(sd_module *m, const sd_fixed_dims *dims) {
  fixing f = {m, dims};
  if (dims->len == 0) return NULL;
  SD_TRY(check_names(m, dims));
  for (uint32_t i = 0; i < m->main->inputs.len; i++) {
    sd_value *v = m->main->inputs.at[i];
    for (int d = 0; d < v->rank; d++) v->dims[d] = sd_dim_subst(m->dims, v->dims[d], fixed_value, &f);
  }
  return reinfer(m->main, &f, 0);
}

static sard_status *guarded(sd_module *m, sard_status *(*fn)(sd_module *m, const void *arg), const void *arg) {
  jmp_buf oom;
  if (setjmp(oom)) return SD_ERR(NOMEM, "out of memory");
  sd_arena_set_oom(m->arena, &oom);
  sard_status *st = fn(m, arg);
  sd_arena_set_oom(m->arena, NULL);
  return st;
}
static sard_status *fix_dims_fn(sd_module *m, const void *arg) { return fix_dims(m, arg); }

sard_status *sd_driver_load(const sard_source *src, const sd_driver_options *o, sd_module **out) {
  SD_TRY(load_any(src, o, out));
  sard_status *st = guarded(*out, fix_dims_fn, &o->dims);
  if (st) sd_module_free(*out), *out = NULL;
  return st;
}

// ---- passes ----

typedef struct hook_state { const sd_driver_options *o; sd_driver_report *r; sd_arena *a; int step; } hook_state;

static bool dumps(const sd_driver_options *o, const char *pass) { return o->dump && (strcmp(o->dump, "all") == 0 || strcmp(o->dump, pass) == 0); }

static bool dumps_cuda(const sd_driver_options *o) { return o->dump && strcmp(o->dump, "cuda") == 0; }

static bool dumps_kernels(const sd_driver_options *o) {
  return o->dump && (strcmp(o->dump, "lower") == 0 || strcmp(o->dump, "kernels") == 0 || dumps_cuda(o));
}

static sard_status *dump_text(const sd_driver_options *o, const char *pass, const sd_str *s) {
  char path[4096];
  if (s->failed || !s->p) return SD_ERR(NOMEM, "out of memory for the dump after %s", pass);
  if (o->dump_fn) SD_TRY(o->dump_fn(o->dump_user, pass, s->p));
  if (!o->dump_dir) return NULL;
  snprintf(path, sizeof path, "%s/%s.sard-ir", o->dump_dir, pass);
  return sd_file_write(path, &(sd_piece){s->p, s->len}, 1);
}

static bool dumps_parts(const sd_driver_options *o) { return o->dump && strcmp(o->dump, "parts") == 0; }

static sard_status *dump_parts(const sd_driver_options *o, const sd_parts *parts) {
  sd_str s = {0};
  sard_status *st = sd_driver_print_parts(parts, &s);
  if (!st) st = dump_text(o, "parts", &s);
  sd_str_free(&s);
  return st;
}

static sard_status *dump_module(const sd_driver_options *o, const char *pass, const sd_module *m) {
  sd_str s = {0};
  sard_status *st = sd_module_print(m, true, &s);
  if (!st) st = dump_text(o, pass, &s);
  sd_str_free(&s);
  return st;
}

static sard_status *nothing_sparse(void) {
  sard_status *st = SD_ERR(UNSUPPORTED, "sparsity 2:4: no product of 16 rows or more has constant weights of f16, bf16 or 8 bits of which two of four along the sum are 0");
  return sd_status_field(st, SARD_TEXT_HINT, "sard prune MODEL -o OUT --pattern 2:4 makes them, --precision f16 narrows weights of f32, --dim batch=64 gives an open size");
}

static sard_status *after_pass(void *user, const sd_pass *p, sd_module *m, const sd_pass_report *r, double seconds) {
  hook_state *h = user;
  sd_vec_push(h->a, &h->r->phases, ((sd_phase){p->name, seconds, r->rewrites}));
  if (h->o->two_of_four && strcmp(p->name, "sparse") == 0 && r->rewrites == 0) return nothing_sparse();
  if (h->o->verify) SD_TRY_MSG(sd_module_verify(m), "after pass %s", p->name);
  if (dumps(h->o, p->name)) SD_TRY(dump_module(h->o, p->name, m));
  return NULL;
}

static uint32_t count_nodes(const sd_graph *g) {
  uint32_t n = 0;
  for (const sd_node *x = g->first; x; x = x->next) n++;
  return n;
}

static const char *group_kind(const sd_node *n) {
  if (n->n_body == 0) return NULL;
  bool contraction = false, composite = false, reduce = false, move = false;
  for (const sd_node *x = n->bodies[0]->first; x; x = x->next) {
    contraction |= x->op->kind == SD_CONTRACT || x->op->kind == SD_NESTS, composite |= x->op->kind == SD_COMPOSITE;
    reduce |= x->op->kind == SD_REDUCE, move |= x->op->kind == SD_MOVE;
  }
  return contraction ? "contraction with epilogue" : composite ? "normalization or softmax with maps" : reduce ? "reduction with maps" : move ? "moves with maps" : "elementwise";
}

static void count_fusions(const sd_module *m, sd_driver_report *r, sd_arena *a) {
  static const char *const kinds[] = {"contraction with epilogue", "normalization or softmax with maps", "reduction with maps", "moves with maps", "elementwise"};
  for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
    int count = 0;
    for (const sd_node *n = m->main->first; n; n = n->next) {
      const char *g = strcmp(n->op->name, "sard.Fused") == 0 ? group_kind(n) : NULL;
      count += g && strcmp(g, kinds[k]) == 0;
    }
    if (count) sd_vec_push(a, &r->fusions, ((sd_meta){kinds[k], sd_arena_printf(a, "%d", count)}));
  }
}

// A dump of CUDA C shows what GPUs would run, also where no code for them is wanted.
static sd_pass_target target_of(const sd_driver_options *o) {
  const sd_isa *isa = NULL;
  bool cuda = sd_cuda_device_named(o->device) || dumps_cuda(o);
  sd_pass_target t = cuda ? sd_pass_target_cuda() : sd_pass_target_cpu();
  t.two_of_four = cuda && o->two_of_four;
  if (cuda) return t;
  sard_status_free(sd_driver_target(o->target, &isa)); // an unknown one is told when code is made
  t.byte_products = t.byte_products && isa && isa->dot > 1; // else products of bytes are slower than of f32
  t.rounded_bits = isa && sd_blocks_on(isa, 8) ? 8 : isa && sd_blocks_on(isa, 4) ? 4 : 0;
  t.bf16_parts = isa && isa->matrix && isa->pairs > 1;
  t.sparse = isa ? sd_sparse_rates_of(isa->name) : NULL;
  if (isa) t.lanes = isa->vector_bytes / 4, t.registers = isa->registers;
  return t;
}

typedef struct pass_args {
  const sd_driver_options *o;
  sd_driver_report *r;
  sd_arena *a;
  const sard_source *src;
  sd_parts *parts; // NULL: whatever the options say, it stays one piece
  bool plan;       // the ways are compared, and nothing more; parts are those of a split by tensors
} pass_args;

static void count_result(const sd_module *m, const pass_args *p) {
  p->r->nodes_out = count_nodes(m->main);
  count_fusions(m, p->r, p->a);
}

// Other processes compile the other ranks' parts.
static sard_status *rank_passes(sd_module *m, const pass_args *p, const sd_pass_options *po, hook_state *h) {
  const sd_devices *d = &p->o->devices;
  SD_TRY(sd_passes_run(m, po, p->o->from, SD_TENSORS_AFTER, after_pass, h));
  count_result(m, p);
  SD_TRY(sd_tensor_cut(m, (uint32_t)d->ranks, p->parts, &p->r->tensor));
  p->parts->how = SD_SPLIT_TENSOR;
  sd_parts_take(m, p->parts, (uint32_t)d->rank);
  return sd_passes_run(m, po, SD_TENSORS_NEXT, NULL, after_pass, h);
}

// Up to where ways are compared. The cut by tensors is made for what it shows; m goes on for the others.
static sard_status *passes_to_plan(sd_module *m, const pass_args *p, sd_pass_options *po, hook_state *h,
                                   sd_parts *tensors) {
  const sd_devices *d = &p->o->devices;
  bool cut = d->split == SD_SPLIT_TENSOR || d->split == SD_SPLIT_AUTO;
  sd_measured measured;
  *tensors = (sd_parts){0};
  SD_TRY(sd_driver_measure(m, p->src, p->o, p->a, &measured));
  SD_TRY(sd_passes_run(m, po, p->o->from, cut ? SD_TENSORS_AFTER : SD_PARTS_AFTER, after_pass, h));
  if (cut) {
    SD_TRY(sd_tensor_cut(m, (uint32_t)d->n, tensors, &p->r->tensor));
    SD_TRY(sd_passes_run(m, po, SD_TENSORS_NEXT, SD_PARTS_AFTER, after_pass, h));
    po->precision_report = NULL; // of m it is complete
    SD_TRY_MSG(sd_passes_run(tensors->at[0].module, po, SD_TENSORS_NEXT, SD_PARTS_AFTER, after_pass, h),
               "in part 1");
  }
  count_result(m, p);
  sd_split_job job = {m, p->o, cut ? tensors : NULL, &p->r->tensor, &measured};
  SD_TRY(sd_driver_plan(&job, p->a, &p->r->split));
  if (p->r->split.chosen != SD_SPLIT_TENSOR) p->r->tensor = (sd_tensor_report){0};
  return NULL;
}

static sard_status *split_passes(sd_module *m, const pass_args *p, sd_pass_options *po, hook_state *h) {
  sd_parts tensors;
  SD_TRY(passes_to_plan(m, p, po, h, &tensors));
  const sd_split_choice *split = &p->r->split;
  bool ranks = split->chosen == SD_SPLIT_TENSOR;
  if (p->plan || ranks) *p->parts = tensors;
  if (p->plan) return NULL;
  if (split->chosen == SD_SPLIT_LAYER)
    SD_TRY(sd_parts_cut(m, split->layer.part_of, split->layer.n, p->parts));
  p->parts->how = split->chosen;
  if (!p->parts->n) return sd_passes_run(m, po, SD_PARTS_NEXT, NULL, after_pass, h);
  for (uint32_t k = 0; k < p->parts->n; k++)
    SD_TRY_MSG(sd_passes_run(p->parts->at[k].module, po, ranks && k ? SD_TENSORS_NEXT : SD_PARTS_NEXT, NULL,
                             after_pass, h),
               "in part %u", k + 1);
  return dumps_parts(p->o) ? dump_parts(p->o, p->parts) : NULL;
}

static sard_status *passes_fn(sd_module *m, const void *arg) {
  const pass_args *p = arg;
  hook_state h = {p->o, p->r, p->a, 0};
  sd_pass_options po = {.opt = p->o->opt, .target = target_of(p->o), .bisect = p->o->bisect, .precision = p->o->precision};
  po.precision_report = &p->r->precision, p->r->precision.arena = p->a;
  SD_TRY(sd_precision_check(p->o->precision, m));
  p->r->nodes_in = count_nodes(m->main);
  if (p->o->verify) SD_TRY_MSG(sd_module_verify(m), "after import");
  if (dumps(p->o, "import")) SD_TRY(dump_module(p->o, "import", m));
  if (p->o->stop_after && strcmp(p->o->stop_after, "import") == 0) return NULL;
  const sd_devices *d = &p->o->devices;
  bool told = d->split == SD_SPLIT_BATCH && // by a plan: whether it fits, and who is how fast
              (sd_devices_least_memory(d) > 0 || sd_devices_mixed(d));
  if (p->parts && (p->plan || told || sd_split_in_parts(d->split)))
    return d->mpi ? rank_passes(m, p, &po, &h) : split_passes(m, p, &po, &h);
  SD_TRY(sd_passes_run(m, &po, p->o->from, p->o->stop_after, after_pass, &h));
  count_result(m, p);
  return NULL;
}

static sard_status *check_pass(const char *flag, const char *name) {
  if (!name || strcmp(name, "import") == 0 || sd_pass_find(name)) return NULL;
  const char *names[64];
  size_t n = 0;
  for (; n < 64 && sd_pass_at((uint32_t)n); n++) names[n] = sd_pass_at((uint32_t)n)->name;
  const char *near = sd_str_nearest(name, names, n);
  return SD_ERR(USAGE, "%s: there is no pass '%s'%s%s%s", flag, name, near ? " (did you mean '" : "", near ? near : "", near ? "'?)" : "");
}

// What is asked for is done, or it is told that it cannot be.
static sard_status *check_sparsity(const sd_driver_options *o) {
  if (!o->two_of_four) return NULL;
  if (!target_of(o).two_of_four) return SD_ERR(USAGE, "sparsity 2:4 is of GPUs: give --device cuda too");
  return o->opt < 2 ? SD_ERR(USAGE, "sparsity 2:4 needs -O2 or -O3") : NULL;
}

static sard_status *run_passes(sd_module *m, const pass_args *p) {
  const sd_driver_options *o = p->o;
  SD_TRY(check_sparsity(o));
  SD_TRY(check_pass("--from-pass", o->from));
  SD_TRY(check_pass("--stop-after", o->stop_after));
  if (o->dump && strcmp(o->dump, "all") != 0 && !dumps_kernels(o) && !dumps_parts(o)) SD_TRY(check_pass("--dump", o->dump));
  return guarded(m, passes_fn, p);
}

sard_status *sd_driver_passes(sd_module *m, const sd_driver_options *o, sd_driver_report *r, sd_arena *a) {
  return run_passes(m, &(pass_args){.o = o, .r = r, .a = a});
}

sard_status *sd_driver_plan_module(sd_module *m, const sard_source *src, const sd_driver_options *o,
                                   sd_driver_report *r, sd_arena *a, sd_parts *tensors) {
  *tensors = (sd_parts){0};
  return run_passes(m, &(pass_args){o, r, a, src, tensors, true});
}

// ---- everything ----

static sard_status *progress(const sd_driver_options *o, int step, const char *name) {
  return o->progress.fn ? o->progress.fn(o->progress.user, step, 3, name) : NULL;
}

typedef struct generate_args {
  const sd_driver_options *o;
  sd_compiled *c;
  sd_str *kernels; // their texts, where the dump is of kernels
} generate_args;

static sard_status *take_kernel(void *user, const char *stage, const char *text) {
  const generate_args *p = user;
  if (strcmp(stage, p->o->dump) == 0) sd_str_put(p->kernels, text);
  return NULL;
}

sard_status *sd_driver_target(const char *target, const sd_isa **out) {
  if (!target || !*target || strcmp(target, "host") == 0 || strcmp(target, "auto") == 0) return sd_isa_host(NULL, out);
  *out = sd_isa_find(target); // need not be of this machine
  if (*out) return NULL;
  sd_str names = {0};
  for (int i = 0; sd_isa_at(i); i++) sd_strf(&names, "%s%s", i ? ", " : "", sd_isa_at(i)->name);
  sard_status *st = SD_ERR(USAGE, "unknown target '%s' (known: %s)", target, names.p ? names.p : "");
  sd_str_free(&names);
  return st;
}

static sard_status *generate_fn(sd_module *m, const void *arg) {
  const generate_args *p = arg;
  sd_compiled *c = p->c;
  const sd_isa *isa;
  SD_TRY(sd_driver_target(p->o->target, &isa));
  c->report.isa = isa->name;
  sd_codegen_options co = {.isa = isa, .opt = p->o->opt, .threads = p->o->threads ? p->o->threads : sd_cpu_count(), .keep_ir = p->o->keep_ir, .device = p->o->device, .tf32 = p->o->tf32, .parts = c->parts.n ? &c->parts : NULL, .ways = &c->report.split.ways, .tuning = p->o->tuning};
  if (dumps_kernels(p->o)) co.kernel_fn = take_kernel, co.kernel_user = (void *)arg, co.show_cuda = dumps_cuda(p->o);
  SD_TRY(sd_codegen(c->arena, m, &co, &c->pieces, &c->n_pieces, &c->report.code));
  return dumps_kernels(p->o) && p->kernels->p ? dump_text(p->o, p->o->dump, p->kernels) : NULL;
}

// Values whose ranges matter; the verb that asks reads their names off the model.
static sard_status *watch_fn(sd_module *m, const void *arg) {
  (void)arg;
  for (sd_node *n = m->main->first; n; n = n->next)
    for (uint32_t i = 0; i < n->n_out; i++) {
      sd_value *v = n->out[i];
      if (v && *v->name && v->dtype == SD_F32 && v->rank >= 0 && !sd_value_is_output(v)) sd_graph_output(m->main, v);
    }
  return NULL;
}

static sard_status *compile_into(const sard_source *src, const sd_driver_options *o, sd_compiled *c) {
  int64_t t0 = sd_now_ns();
  SD_TRY(progress(o, 1, "import"));
  SD_TRY(sd_driver_load(src, o, &c->module));
  if (o->watch) SD_TRY(guarded(c->module, watch_fn, NULL));
  sd_vec_push(c->arena, &c->report.phases, ((sd_phase){"import", (double)(sd_now_ns() - t0) * 1e-9, 0}));
  SD_TRY(progress(o, 2, "optimize"));
  pass_args passes = {o, &c->report, c->arena, src, o->stop_after || o->from ? NULL : &c->parts, false};
  SD_TRY(run_passes(c->module, &passes));
  if (o->stop_after) return NULL;
  SD_TRY(progress(o, 3, "generate code"));
  sd_str kernels = {0};
  generate_args p = {o, c, &kernels};
  sard_status *st = guarded(c->module, generate_fn, &p);
  sd_str_free(&kernels);
  SD_TRY(st);
  sd_vec_push(c->arena, &c->report.phases, ((sd_phase){"lower", c->report.code.lower_s, 0}));
  sd_vec_push(c->arena, &c->report.phases, ((sd_phase){"emit", c->report.code.emit_s, 0}));
  sd_vec_push(c->arena, &c->report.phases, ((sd_phase){"write", c->report.code.write_s, 0}));
  c->report.total_s = (double)(sd_now_ns() - t0) * 1e-9;
  return NULL;
}

sard_status *sd_driver_compile(const sard_source *src, const sd_driver_options *o, sd_compiled **out) {
  jmp_buf oom;
  sd_compiled *volatile c = sd_calloc(1, sizeof *c);
  *out = NULL;
  if (!c) return SD_ERR(NOMEM, "out of memory");
  c->arena = sd_arena_new();
  if (!c->arena || setjmp(oom)) {
    sd_compiled_free(c);
    return SD_ERR(NOMEM, "out of memory while compiling");
  }
  sd_arena_set_oom(c->arena, &oom);
  sard_status *st = compile_into(src, o, c);
  sd_arena_set_oom(c->arena, NULL);
  if (st) {
    if (src->path) st = sd_status_field(st, SARD_TEXT_FILE, "%s", src->path);
    sd_compiled_free(c);
    return st;
  }
  *out = c;
  return NULL;
}

void sd_compiled_free(void *compiled) {
  sd_compiled *c = compiled;
  if (!c) return;
  sd_module_free(c->module);
  sd_arena_free(c->arena);
  sd_free(c);
}
