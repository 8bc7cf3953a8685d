#include "runtime/cuda/program.h"

#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/base/str.h"

enum { FREE_SHARED = 48 * 1024, SHARED_ATTRIBUTE = 8, LOG_BUFFER = 5, LOG_BYTES = 6, LOG = 4096, ALIGN = 256 };

// ---- images ----

static int capability(const sd_cu_device *d) { return 10 * d->major + d->minor; }

// A cubin runs where the major version is the same and the minor one not below; PTX also on all later devices.
static bool serves(const sard_art_cuda_image *m, const sd_cu_device *d) {
  return (int)m->arch <= capability(d) && (m->kind == SARD_ACI_PTX || (int)m->arch / 10 == d->major);
}

enum { ANY_PART = UINT32_MAX };

// The newest image of a kind that the device executes.
static const sard_art_cuda_image *find_image(const sd_art *a, const sd_cu_device *d, sard_art_cuda_kind kind, uint32_t part) {
  const sard_art_cuda_image *best = NULL;
  for (uint32_t i = 0; i < a->n_cuda_images; i++) {
    const sard_art_cuda_image *m = &a->cuda_images[i];
    bool wanted = m->kind == (uint32_t)kind && (m->part == part || part == ANY_PART) && serves(m, d);
    if (wanted && (!best || m->arch > best->arch)) best = m;
  }
  return best;
}

// Launches for cubins of one architecture stand behind the common ones of a step, and in their place there.
static bool takes(const sd_cu_program *p, const sd_art *a, const sard_art_cuda *e) {
  if (e->arch) return e->arch == p->arch;
  for (const sard_art_cuda *o = e; p->arch && o < a->cuda + a->n_cuda && o->step == e->step; o++)
    if (o->arch == p->arch) return false;
  return true;
}

static sard_status *no_image(const sd_art *a, const sd_cu_device *d) {
  sd_str has = {0};
  for (uint32_t i = 0; i < a->n_cuda_images; i++)
    if (a->cuda_images[i].part == 0)
      sd_strf(&has, "%s%s for sm_%u", has.len ? ", " : "", a->cuda_images[i].kind == SARD_ACI_PTX ? "PTX" : "a cubin", a->cuda_images[i].arch);
  sard_status *st = SD_ERR(DEVICE, "the artifact has no code for %s (sm_%d); it has %s", d->name, capability(d), has.p ? has.p : "none for GPUs");
  sd_str_free(&has);
  return sd_status_field(st, SARD_TEXT_HINT, "sard compile MODEL.onnx -o MODEL.sard --device cuda:sm_%d", capability(d));
}

static int load_image(sd_cu_program *p, uint32_t part, const void *image, char *log) {
  int options[] = {LOG_BUFFER, LOG_BYTES};
  void *values[] = {log, (void *)(uintptr_t)LOG};
  *log = 0;
  return p->device->api->module_load(&p->modules[part], image, 2, options, values);
}

// *out_other: the driver cannot use this image.
static sard_status *load_module(sd_cu_program *p, const sd_art *a, sard_art_cuda_kind kind, uint32_t part, bool *out_other) {
  const sd_cu_device *d = p->device;
  const sard_art_cuda_image *m = find_image(a, d, kind, part);
  char log[LOG];
  if (!m) return no_image(a, d);
  int result = load_image(p, part, a->cuda_code + m->offset, log);
  if (result == 0) return NULL;
  *out_other = result == SD_CU_NO_BINARY || result == SD_CU_BAD_PTX || result == SD_CU_OLD_PTX;
  p->modules[part] = NULL;
  sard_status *st = sd_cu_check(d->api, result, "loading the model's CUDA code");
  return *log ? sd_status_field(st, SARD_TEXT_HINT, "the driver says: %.*s", (int)strcspn(log, "\n"), log) : st;
}

// ---- functions ----

static sard_status *find_function(sd_cu_program *p, const sd_art *a, const sard_art_cuda *e) {
  const sd_cu_device *d = p->device;
  const char *name = sd_art_text(a, e->symbol);
  if (!takes(p, a, e)) return NULL;
  void **f = &p->function[e - a->cuda];
  SD_TRY_MSG(sd_cu_check(d->api, d->api->module_function(f, p->modules[e->part], name), "finding a kernel"), "%s", name);
  if ((int)e->shared > d->most_shared)
    return SD_ERR(DEVICE, "kernel %s of node '%s' needs %u bytes of shared memory, %s has %d", name,
                  sd_art_text(a, a->steps[e->step].name), e->shared, d->name, d->most_shared);
  if (e->shared > FREE_SHARED)
    SD_TRY(sd_cu_check(d->api, d->api->function_set(*f, SHARED_ATTRIBUTE, (int)e->shared), "asking for shared memory"));
  if (!p->launch[e->step]) p->launch[e->step] = e;
  return NULL;
}

// ---- weights ----

static uint64_t const_bytes(const sard_model *m, uint32_t buf) { return (uint64_t)m->dim_value[m->art.bufs[buf].bytes]; }

// Offsets + 1 of the constants that launches read, into p->consts.
static void place_weights(sd_cu_program *p, const sard_model *m) {
  const sd_art *a = &m->art;
  for (uint32_t i = 0; i < a->n_cuda; i++) {
    const sard_art_step *t = &a->steps[a->cuda[i].step];
    for (uint32_t k = 0; k < t->n_buf; k++) {
      uint32_t b = a->lists[t->bufs + k];
      if (a->bufs[b].kind != SARD_AB_CONST || p->consts[b]) continue;
      p->consts[b] = p->weight_bytes + 1;
      p->weight_bytes += sd_align_up(const_bytes(m, b), ALIGN);
    }
  }
}

static sard_status *copy_weights(sd_cu_program *p, const sard_model *m) {
  place_weights(p, m);
  SD_TRY_MSG(sd_cu_alloc(p->device, p->weight_bytes, &p->weights), "the weights of the model");
  for (uint32_t i = 0; i < m->art.n_bufs; i++) {
    if (!p->consts[i]) continue;
    p->consts[i] += p->weights - 1;
    SD_TRY_MSG(sd_cu_write(p->device, p->consts[i], m->consts[i], const_bytes(m, i)), "the weights of the model");
  }
  return NULL;
}

static bool has_kernels(const sd_art *a) {
  for (uint32_t i = 0; i < a->n_steps; i++)
    if (a->steps[i].kind == SARD_AS_DISPATCH) return true;
  return false;
}

static void unload(sd_cu_program *p) {
  for (uint32_t i = 0; i < p->n_modules; i++)
    if (p->modules[i]) p->device->api->module_unload(p->modules[i]), p->modules[i] = NULL;
}

// All parts that launches are in, by images of one kind.
static sard_status *load_kind(sd_cu_program *p, const sd_art *a, sard_art_cuda_kind kind, bool *out_other) {
  const sard_art_cuda_image *newest = find_image(a, p->device, kind, ANY_PART);
  bool done = false;
  if (!newest) return no_image(a, p->device);
  p->arch = kind == SARD_ACI_CUBIN ? newest->arch : 0;
  for (uint32_t i = 0; i < a->n_cuda; i++) {
    uint32_t part = a->cuda[i].part;
    if (!takes(p, a, &a->cuda[i]) || p->modules[part]) continue;
    SD_TRY(load_module(p, a, kind, part, out_other));
    done = true;
  }
  return done ? NULL : no_image(a, p->device);
}

static sard_status *load_modules(sd_cu_program *p, const sd_art *a) {
  if (!a->n_cuda && !has_kernels(a)) return NULL; // a model of host steps only needs none
  for (uint32_t i = 0; i < a->n_cuda; i++)
    if (a->cuda[i].part >= p->n_modules) p->n_modules = a->cuda[i].part + 1;
  p->modules = sd_calloc(p->n_modules + 1, sizeof *p->modules);
  if (!p->modules) return SD_ERR(NOMEM, "out of memory while loading CUDA code");
  bool cubin = find_image(a, p->device, SARD_ACI_CUBIN, ANY_PART), other = !cubin;
  sard_status *st = cubin ? load_kind(p, a, SARD_ACI_CUBIN, &other) : NULL;
  if (!other || (st && !find_image(a, p->device, SARD_ACI_PTX, ANY_PART))) return st;
  unload(p);
  sard_status_free(st);
  return load_kind(p, a, SARD_ACI_PTX, &other);
}

static sard_status *fill_program(sd_cu_program *p, const sard_model *m) {
  const sd_art *a = &m->art;
  p->launch = sd_calloc(a->n_steps, sizeof *p->launch);
  p->function = sd_calloc(a->n_cuda, sizeof *p->function);
  p->consts = sd_calloc(a->n_bufs, sizeof *p->consts);
  if (!p->launch || !p->function || !p->consts) return SD_ERR(NOMEM, "out of memory while loading CUDA code");
  SD_TRY(sd_cu_products_new(a, (m->whole ? m->whole : m)->library, &p->products));
  SD_TRY(sd_cu_enter(p->device));
  SD_TRY(load_modules(p, a));
  for (uint32_t i = 0; i < a->n_cuda; i++) SD_TRY(find_function(p, a, &a->cuda[i]));
  SD_TRY(copy_weights(p, m));
  return sd_cu_products_widen(p->products, m, p->device);
}

sard_status *sd_cu_program_new(const sard_model *m, const sd_cu_device *device, sd_cu_program **out) {
  sd_cu_program *p = sd_calloc(1, sizeof *p);
  *out = NULL;
  if (!p) return SD_ERR(NOMEM, "out of memory while loading CUDA code");
  p->device = device;
  sard_status *st = fill_program(p, m);
  if (st) sd_cu_program_free(p);
  else *out = p;
  return st;
}

void sd_cu_program_free(sd_cu_program *p) {
  if (!p) return;
  sd_cu_free(p->device, p->weights);
  sd_cu_products_free(p->products, p->device);
  sd_cu_return(p->device);
  unload(p);
  sd_free(p->modules);
  sd_free(p->launch);
  sd_free(p->function);
  sd_free(p->consts);
  sd_free(p);
}
