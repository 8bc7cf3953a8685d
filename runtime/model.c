// Models: an artifact checked and loaded, immutable from then on and shared by reference counts.
#include "runtime/model.h"

#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/base/str.h"
#include "runtime/collective/split.h"
#include "runtime/cuda/program.h"
#include "runtime/dimcode.h"
#include "runtime/objects.h"

void sd_model_hold(sard_model *m) { atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed); }

void sard_model_free(sard_model *m) {
  if (!m || atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) > 1) return;
  for (uint32_t i = 0; m->parts && i < sd_art_parts(&m->art); i++) sard_model_free(m->parts[i]);
  sd_free(m->parts);
  sd_cu_program_free(m->cu);
  for (int i = 0; m->replicas && i < m->devices.n; i++) sd_cu_program_free(m->replicas[i]);
  sd_free(m->replicas);
  sd_free(m->fallback);
  sd_free(m->cache.folder);
  sd_free(m->cache.why);
  sd_code_unload(&m->code);
  sd_free(m->entry);
  sd_free(m->consts);
  sd_free(m->dim_value);
  sd_free(m->dim_known);
  sd_strtab_free(m->strings);
  sd_free_aligned(m->head);
  if (!m->whole) sd_free(m->pieces);
  if (m->release) m->release(m->user);
  sard_context_free(m->ctx);
  sd_free(m);
}

// ---- bytes ----

// Copies the first `size` bytes of the pieces; false when memory is short.
static bool gather(sard_model *m, uint64_t size) {
  uint8_t *p = sd_alloc_aligned(size + 64);
  if (!p) return false;
  m->head = p;
  for (size_t i = 0; i < m->n_pieces && size; i++) {
    uint64_t n = m->pieces[i].size < size ? m->pieces[i].size : size;
    if (n) memcpy(p, m->pieces[i].data, n);
    p += n;
    size -= n;
  }
  memset(p, 0, 64);
  return true;
}

// Copies n bytes from offset `at` of the pieces; false past their end.
static bool peek(const sard_model *m, uint64_t at, void *out, uint64_t n) {
  uint8_t *to = out;
  for (size_t i = 0; i < m->n_pieces && n; i++) {
    uint64_t size = m->pieces[i].size;
    if (at < size) {
      uint64_t k = size - at < n ? size - at : n;
      memcpy(to, (const uint8_t *)m->pieces[i].data + at, k);
      to += k;
      n -= k;
      at = 0;
    } else {
      at -= size;
    }
  }
  return n == 0;
}

// Where the CONST section of pieces begins, so that only what stands before it has to be in one piece.
static uint64_t head_size(const sard_model *m) {
  sard_art_header h;
  sard_art_section s;
  if (m->n_pieces == 1 || !peek(m, 0, &h, sizeof h)) return m->file_size;
  for (uint32_t i = 0; i < h.n_sections && i < SD_ART_MAXSECTIONS; i++) {
    if (!peek(m, sizeof h + i * sizeof s, &s, sizeof s)) break;
    if (s.kind == SARD_ART_CONST && s.offset <= m->file_size && s.size == m->file_size - s.offset) return s.offset;
  }
  return m->file_size;
}

// Makes the part in front of the weights contiguous and aligned: in place where it already is.
static sard_status *open_bytes(sard_model *m) {
  uint64_t head = head_size(m);
  const void *p = m->n_pieces ? m->pieces[0].data : NULL;
  bool in_place = m->n_pieces && m->pieces[0].size >= head && (uintptr_t)p % 64 == 0;
  if (!in_place) {
    // Nothing of a file is worth a copy before it looks like an artifact.
    char magic[8];
    if (!peek(m, 0, magic, 8) || !sd_artifact_sniff(magic, 8)) return SD_ERR(MODEL, "this is not a Sard artifact");
    if (!gather(m, head)) return SD_ERR(NOMEM, "out of memory for %llu bytes of the model", (unsigned long long)head);
    p = m->head;
  }
  return sd_artifact_open(p, head, m->file_size, &m->art);
}

// Address of bytes [at, at+n) of the file when one piece holds them. Pieces are asked in rising order of `at`.
static const void *find_bytes(const sard_model *m, uint64_t at, uint64_t n, size_t *piece, uint64_t *start) {
  while (*piece < m->n_pieces && at >= *start + m->pieces[*piece].size) *start += m->pieces[(*piece)++].size;
  if (*piece == m->n_pieces || at + n > *start + m->pieces[*piece].size) return NULL;
  return (const uint8_t *)m->pieces[*piece].data + (at - *start);
}

static sard_status *place_consts(sard_model *m) {
  const sd_art *a = &m->art;
  m->consts = sd_calloc(a->n_bufs, sizeof *m->consts);
  if (!m->consts) return SD_ERR(NOMEM, "out of memory for %u buffers", a->n_bufs);
  size_t piece = 0;
  uint64_t start = 0, last = 0;
  for (uint32_t i = 0; i < a->n_bufs; i++) {
    const sard_art_buf *b = &a->bufs[i];
    if (b->kind != SARD_AB_CONST) continue;
    if (a->consts) {
      m->consts[i] = a->consts + b->offset;
      continue;
    }
    uint64_t bytes = (uint64_t)m->dim_value[b->bytes];
    if (bytes == 0) {
      m->consts[i] = a->header;
      continue;
    }
    if (b->offset < last) piece = 0, start = 0; // not in order: search from the beginning
    last = b->offset;
    m->consts[i] = find_bytes(m, a->const_offset + b->offset, bytes, &piece, &start);
    if (!m->consts[i])
      return SD_ERR(INTERNAL, "constant %u of %llu bytes lies in several pieces", i, (unsigned long long)bytes);
  }
  return NULL;
}

static sard_status *load_code(sard_model *m) {
  const sd_art *a = &m->art;
  sd_code_object *objects = sd_calloc(a->n_kernels, sizeof *objects);
  m->entry = sd_calloc(a->n_kernels, sizeof *m->entry);
  if (!objects || !m->entry) {
    sd_free(objects);
    return SD_ERR(NOMEM, "out of memory for %u kernels", a->n_kernels);
  }
  for (uint32_t i = 0; i < a->n_kernels; i++) {
    const sard_art_kernel *k = &a->kernels[i];
    objects[i] = (sd_code_object){a->code + k->offset, k->size, sd_art_text(a, k->symbol), NULL};
  }
  sard_status *st = sd_code_load(objects, a->n_kernels, &m->code);
  for (uint32_t i = 0; !st && i < a->n_kernels; i++) m->entry[i] = (sard_kernel_fn)(uintptr_t)objects[i].entry;
  sd_free(objects);
  return st;
}

// Numbers that sessions need for their tables.
static sard_status *count_steps(sard_model *m) {
  uint64_t bufs = 0, dims = 0;
  for (uint32_t i = 0; i < m->art.n_steps; i++) {
    bufs += m->art.steps[i].n_buf;
    if (m->art.steps[i].kind == SARD_AS_DISPATCH) dims += m->art.steps[i].n_dim;
  }
  if (bufs > UINT32_MAX || dims > UINT32_MAX)
    return SD_ERR(MODEL, "the artifact is damaged: its steps use too many buffers");
  m->n_step_bufs = (uint32_t)bufs;
  m->n_step_dims = (uint32_t)dims;
  return NULL;
}

// String i of the artifact must have the number i: they are distinct, and the first one is empty.
static sard_status *load_strings(sard_model *m) {
  const sd_art *a = &m->art;
  m->strings = sd_strtab_new(NULL);
  if (!m->strings) return SD_ERR(NOMEM, "out of memory while loading a model");
  for (uint32_t i = 0; i < a->n_strings; i++) {
    const char *text = sd_art_text(a, a->strings[i]);
    uint64_t number;
    if (!sd_strtab_add(m->strings, text, strlen(text), &number)) return SD_ERR(NOMEM, "out of memory for the strings of a model");
    if (number != i) return SD_ERR(MODEL, "the artifact is damaged: its string %u occurs twice", i);
  }
  return NULL;
}

// What the sections of m hold, which is the model or a part of it.
static sard_status *load_sections(sard_model *m) {
  SD_TRY(sd_verify_artifact(&m->art));
  SD_TRY(sd_artifact_runs_here(&m->art));
  m->dim_value = sd_calloc(m->art.n_dims, sizeof *m->dim_value);
  m->dim_known = sd_calloc(m->art.n_dims, 1);
  if (!m->dim_value || !m->dim_known) return SD_ERR(NOMEM, "out of memory for %u sizes", m->art.n_dims);
  SD_TRY(sd_dimcode_static(&m->art, m->dim_value, m->dim_known));
  SD_TRY(place_consts(m));
  SD_TRY(count_steps(m));
  SD_TRY(load_strings(m));
  return load_code(m);
}

// A part is a model of its own over the same bytes.
static sard_status *load_part(sard_model *m, uint32_t i) {
  sard_model *p = m->parts[i] = sd_calloc(1, sizeof *p);
  if (!p) return SD_ERR(NOMEM, "out of memory while loading a model");
  atomic_init(&p->refs, 1);
  sd_context_hold(m->ctx);
  p->ctx = m->ctx, p->pieces = m->pieces, p->n_pieces = m->n_pieces, p->file_size = m->file_size, p->whole = m;
  sd_artifact_part(&m->art, i + 1, &p->art);
  return sd_status_context(load_sections(p), "part %u", i + 1);
}

static sard_status *load_parts(sard_model *m) {
  uint32_t n = sd_art_parts(&m->art);
  const sd_art *arts[SARD_ART_MAXPARTS];
  if (!n) return NULL;
  m->parts = sd_calloc(n, sizeof *m->parts);
  if (!m->parts) return SD_ERR(NOMEM, "out of memory while loading a model");
  for (uint32_t i = 0; i < n; i++) {
    SD_TRY(load_part(m, i));
    arts[i] = &m->parts[i]->art;
  }
  return sd_verify_parts(&m->art, arts);
}

static sard_status *load(sard_model *m) {
  SD_TRY(open_bytes(m));
  SD_TRY(load_sections(m));
  return load_parts(m);
}

sard_status *sd_model_from_bytes(sard_context *ctx, const sd_piece *pieces, size_t n, void (*release)(void *),
                                 void *user, sard_model **out) {
  *out = NULL;
  sard_model *m = sd_calloc(1, sizeof *m);
  sd_piece *copy = sd_calloc(n, sizeof *copy);
  if (!m || !copy) {
    sd_free(m);
    sd_free(copy);
    if (release) release(user);
    return SD_ERR(NOMEM, "out of memory while loading a model");
  }
  if (n) memcpy(copy, pieces, n * sizeof *copy);
  atomic_init(&m->refs, 1);
  sd_context_hold(ctx);
  *m = (sard_model){.refs = 1, .ctx = ctx, .pieces = copy, .n_pieces = n, .release = release, .user = user};
  bool ok = true;
  for (size_t i = 0; i < n; i++) ok = ok && sd_ck_add(m->file_size, copy[i].size, &m->file_size);
  sard_status *st = ok ? load(m) : SD_ERR(MODEL, "the model is too large");
  if (st) {
    sard_model_free(m);
    return st;
  }
  *out = m;
  return NULL;
}

// ---- files ----

static void release_map(void *user) {
  sd_file_unmap(user);
  sd_free(user);
}

static sard_status *no_compiler(const char *what) {
  return sd_status_field(SD_ERR(UNSUPPORTED,
                                "'%s' is not a compiled artifact, and this program links the runtime only; "
                                "compile it first with sard compile",
                                what),
                         SARD_TEXT_HINT, "sard compile MODEL.onnx -o MODEL.sard");
}

static sard_status *open_artifact(sard_context *ctx, const sd_map *map, sard_model **out) {
  sd_map *owned = sd_malloc(sizeof *owned);
  if (!owned) {
    sd_file_unmap(&(sd_map){map->data, map->size});
    return SD_ERR(NOMEM, "out of memory while opening a model");
  }
  *owned = *map;
  return sd_model_from_bytes(ctx, &(sd_piece){map->data, map->size}, 1, release_map, owned, out);
}

static sard_status *open_path(sard_context *ctx, const sard_source *source, const sard_options *options,
                              sard_model **out) {
  sd_map map;
  SD_TRY(sd_file_map(source->path, &map));
  if (sd_artifact_sniff(map.data, map.size)) {
    sard_status *st = open_artifact(ctx, &map, out);
    return sd_status_field(sd_status_context(st, "'%s'", source->path), SARD_TEXT_FILE, "%s", source->path);
  }
  bool empty = map.size == 0;
  sd_file_unmap(&map); // the compiler maps it itself
  if (empty) return sd_status_field(SD_ERR(MODEL, "'%s' is empty", source->path), SARD_TEXT_FILE, "%s", source->path);
  sd_compile_fn compile = atomic_load(&ctx->compiler);
  return compile ? compile(ctx, source, options, out) : no_compiler(source->path);
}

// ---- devices ----

static sard_status *place_on(sard_model *m, const char *device) {
  const sd_cu_device *d;
  int ordinal;
  SD_TRY(sd_cu_parse(device, &ordinal));
  if (ordinal < 0) return NULL;
  SD_TRY(sd_context_cuda(m->ctx, ordinal, &d));
  return sd_cu_program_new(m, d, &m->cu);
}

sard_status *sd_model_fall_back(sard_model *m, sard_status *why) {
  m->fallback = sd_strdup(sard_status_text(why, SARD_TEXT_MESSAGE));
  sard_status_free(why);
  return m->fallback ? NULL : SD_ERR(NOMEM, "out of memory while loading a model");
}

sard_status *sd_place_check(const sard_options *options) {
  const char *fallback = sd_options_get(options, "fallback");
  sd_devices devices;
  sd_cu_library library;
  int ordinal;
  SD_TRY(sd_devices_read(options, &devices));
  if (!devices.n && !devices.mpi) SD_TRY(sd_cu_parse(sd_options_get(options, "device"), &ordinal));
  SD_TRY(sd_cu_library_read(sd_options_get(options, "library"), &library));
  if (fallback && strcmp(fallback, "cpu") != 0) return SD_ERR(USAGE, "there is no fallback '%s' (known: cpu)", fallback);
  return NULL;
}

sard_status *sd_model_place(sard_model *m, const sard_options *options) {
  const char *device = sd_options_get(options, "device"), *fallback = sd_options_get(options, "fallback");
  SD_TRY(sd_devices_read(options, &m->devices));
  if (!m->cu) SD_TRY(sd_cu_library_read(sd_options_get(options, "library"), &m->library));
  SD_TRY(sd_split_place(m));
  if (m->cu || m->fallback) return NULL; // the compiler has done it
  sard_status *st = place_on(m, device);
  int code = sard_status_code(st);
  if (!fallback || (code != SARD_E_DEVICE && code != SARD_E_NOMEM)) return st;
  return sd_model_fall_back(m, st);
}

// ---- open ----

static sard_status *open_source(sard_context *ctx, const sard_source *source, const sard_options *options, sard_model **out) {
  if (source->path) return open_path(ctx, source, options, out);
  if (sd_artifact_sniff(source->data, source->bytes))
    return sd_model_from_bytes(ctx, &(sd_piece){source->data, source->bytes}, 1, NULL, NULL, out);
  sd_compile_fn compile = atomic_load(&ctx->compiler);
  return compile ? compile(ctx, source, options, out) : no_compiler("the data given");
}

sard_status *sard_model_open(sard_context *ctx, const sard_source *source, const sard_options *options,
                             sard_model **out) {
  if (!ctx || !source || !out) return SD_ERR(USAGE, "sard_model_open: context, source and out must not be NULL");
  *out = NULL;
  if (source->size < sizeof *source)
    return SD_ERR(USAGE, "sard_model_open: source.size is %zu, it must be %zu", source->size, sizeof *source);
  if (!source->path == !source->data) return SD_ERR(USAGE, "sard_model_open: give either a path or data");
  SD_TRY(sd_options_check(options, SD_OPT_MODEL));
  SD_TRY(sd_place_check(options));
  SD_TRY(open_source(ctx, source, options, out));
  sard_status *st = sd_model_place(*out, options);
  if (st) sard_model_free(*out), *out = NULL;
  return st;
}

// ---- questions ----

int sard_model_io_count(const sard_model *m, int is_output) { return (int)(is_output ? m->art.n_out : m->art.n_in); }

sard_status *sard_model_io(const sard_model *m, int is_output, int index, sard_tensor_desc *out) {
  if (!m || !out) return SD_ERR(USAGE, "sard_model_io: model and out must not be NULL");
  int n = sard_model_io_count(m, is_output);
  if (index < 0 || index >= n)
    return SD_ERR(USAGE, "the model has %d %s, there is no number %d", n, is_output ? "outputs" : "inputs", index);
  const sd_art *a = &m->art;
  const sard_art_io *io = &a->io[is_output ? a->n_in + (uint32_t)index : (uint32_t)index];
  *out = (sard_tensor_desc){.size = sizeof *out, .dtype = (int32_t)io->dtype, .rank = (int32_t)io->rank};
  static const int32_t kinds[] = {0, 0, SARD_SEQUENCE, SARD_OPTIONAL, SARD_MAP};
  if (io->kind > SD_OBJ_TENSOR) out->dtype = kinds[io->kind];
  if (io->kind == SD_OBJ_TENSOR) out->dtype = (int32_t)io->item, out->rank = -1;
  out->name = sd_art_text(a, io->name);
  for (uint32_t i = 0; i < io->rank; i++) {
    uint32_t slot = a->lists[io->dims + i];
    out->dims[i] = m->dim_known[slot] ? m->dim_value[slot] : -1;
    if (!m->dim_known[slot])
      out->symbols[i] = io->symbols == SARD_ART_NONE ? "" : sd_art_text(a, a->lists[io->symbols + i]);
  }
  return NULL;
}

const char *sard_model_io_type(const sard_model *m, int is_output, int index) {
  if (!m || index < 0 || index >= sard_model_io_count(m, is_output)) return "";
  return sd_art_text(&m->art, m->art.io[is_output ? m->art.n_in + (uint32_t)index : (uint32_t)index].type);
}

sard_status *sard_model_save(const sard_model *m, const char *path) {
  if (!m || !path) return SD_ERR(USAGE, "sard_model_save: model and path must not be NULL");
  return sd_file_write(path, m->pieces, m->n_pieces);
}
