// Opens an artifact: header, section table, hash. What the sections hold is checked in verify.c.
#include "runtime/artifact_read.h"

#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/base/hash.h"
#include "runtime/cpu.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "artifacts are used in place: little-endian machines only");
_Static_assert(sizeof(sard_art_header) == 96 && sizeof(sard_art_section) == 24, "layout");

bool sd_artifact_sniff(const void *data, uint64_t size) { return size >= 8 && !memcmp(data, SARD_ART_MAGIC, 8); }

uint64_t sd_artifact_hash(const void *head, uint64_t head_size, uint64_t const_offset, uint64_t const_size) {
  const uint8_t *p = head;
  uint64_t from = sizeof(sard_art_header), to = const_offset ? const_offset : head_size;
  uint64_t h = sd_hash_bytes(p + from, to - from, 0), behind = const_offset + const_size;
  return const_offset && behind < head_size ? sd_hash_bytes(p + behind, head_size - behind, h) : h;
}

static bool terminated(const char *s, size_t n) { return memchr(s, 0, n) != NULL; }

static sard_status *check_header(const sard_art_header *h, uint64_t head_size, uint64_t whole_size) {
  if (head_size < sizeof *h)
    return SD_ERR(MODEL, "the artifact is cut off: %llu bytes, less than its header", (unsigned long long)whole_size);
  if (!sd_artifact_sniff(h, head_size)) return SD_ERR(MODEL, "this is not a Sard artifact");
  if (h->version != SARD_ART_VERSION)
    return sd_status_field(SD_ERR(MODEL, "the artifact has format version %u, this runtime reads version %u",
                                  h->version, SARD_ART_VERSION),
                           SARD_TEXT_HINT, "compile the model again with this version of Sard");
  if (h->file_size != whole_size)
    return SD_ERR(MODEL, "the artifact is damaged: it should have %llu bytes and has %llu",
                  (unsigned long long)h->file_size, (unsigned long long)whole_size);
  if (!terminated(h->isa, sizeof h->isa) || !terminated(h->arch, sizeof h->arch) ||
      !terminated(h->compiler, sizeof h->compiler))
    return SD_ERR(MODEL, "the artifact is damaged: a text of its header has no end");
  if (h->n_sections > SD_ART_MAXSECTIONS || sizeof *h + h->n_sections * sizeof(sard_art_section) > head_size)
    return SD_ERR(MODEL, "the artifact is damaged: %u sections", h->n_sections);
  return NULL;
}

// Element size of the sections that are arrays; 0 for those that are bytes.
static size_t element_size(uint32_t kind) {
  switch (kind) {
  case SARD_ART_DIMS: return sizeof(sard_art_dim);
  case SARD_ART_SYMS: return sizeof(sard_art_sym);
  case SARD_ART_IO: return sizeof(sard_art_io);
  case SARD_ART_BUFS: return sizeof(sard_art_buf);
  case SARD_ART_KERNELS: return sizeof(sard_art_kernel);
  case SARD_ART_STEPS: return sizeof(sard_art_step);
  case SARD_ART_LISTS: return sizeof(uint32_t);
  case SARD_ART_CHECKS: return sizeof(sard_art_check);
  case SARD_ART_STRINGS:
  case SARD_ART_PARTS:
  case SARD_ART_BATCH: return sizeof(uint32_t);
  case SARD_ART_WAYS: return sizeof(sard_art_way);
  case SARD_ART_CUDA: return sizeof(sard_art_cuda);
  case SARD_ART_CUDA_IMAGES: return sizeof(sard_art_cuda_image);
  case SARD_ART_CUDA_PRODUCTS: return sizeof(sard_art_product);
  default: return 0;
  }
}

static const char *section_name(uint32_t kind) {
  static const char *const names[] = {"?",     "TEXT",  "DIMS", "SYMS", "IO", "BUFS", "KERNELS",
                                      "STEPS", "LISTS", "CODE", "CONST", "IR", "META", "CHECKS", "STRINGS",
                                      "CUDA",  "CUDA_IMAGES", "CUDA_CODE", "BATCH", "PARTS", "WAYS", "CUDA_PRODUCTS"};
  return kind < sizeof names / sizeof *names ? names[kind] : "?";
}

static sard_status *check_section(const sard_art_section *s, uint64_t head_size, uint64_t whole_size, bool *seen) {
  uint32_t kind = SARD_ART_KIND(s->kind);
  const char *name = section_name(kind);
  uint64_t end;
  size_t element = element_size(kind);
  if (!sd_ck_add(s->offset, s->size, &end) || end > whole_size || s->offset < sizeof(sard_art_header))
    return SD_ERR(MODEL, "the artifact is damaged: section %s lies outside of the file (offset %llu, size %llu)", name,
                  (unsigned long long)s->offset, (unsigned long long)s->size);
  if (s->offset % 64) return SD_ERR(MODEL, "the artifact is damaged: section %s is not aligned", name);
  if (kind != SARD_ART_CONST && end > head_size)
    return SD_ERR(MODEL, "the artifact is damaged: section %s stands behind the weights", name);
  // IO: the count is that of the inputs; the outputs follow them.
  bool fits = kind == SARD_ART_IO
                  ? s->size % element == 0 && s->count <= s->size / element && s->size / element <= UINT32_MAX
                  : (uint64_t)s->count * element == s->size;
  if (element && !fits)
    return SD_ERR(MODEL, "the artifact is damaged: section %s has %llu bytes for %u entries", name,
                  (unsigned long long)s->size, s->count);
  if (SARD_ART_PART(s->kind) && (kind == SARD_ART_CONST || kind == SARD_ART_PARTS))
    return SD_ERR(MODEL, "the artifact is damaged: section %s belongs to a part of the model", name);
  if (*seen) return SD_ERR(MODEL, "the artifact is damaged: section %s occurs twice", name);
  *seen = true;
  return NULL;
}

static void place_section(const uint8_t *head, const sard_art_section *s, sd_art *out) {
  const void *p = head + s->offset;
  switch (SARD_ART_KIND(s->kind)) {
  case SARD_ART_TEXT: out->text = p, out->text_size = s->size; break;
  case SARD_ART_DIMS: out->dims = p, out->n_dims = s->count; break;
  case SARD_ART_SYMS: out->syms = p, out->n_syms = s->count; break;
  case SARD_ART_IO: out->io = p, out->n_in = s->count, out->n_io = (uint32_t)(s->size / sizeof *out->io); break;
  case SARD_ART_BUFS: out->bufs = p, out->n_bufs = s->count; break;
  case SARD_ART_KERNELS: out->kernels = p, out->n_kernels = s->count; break;
  case SARD_ART_STEPS: out->steps = p, out->n_steps = s->count; break;
  case SARD_ART_LISTS: out->lists = p, out->n_lists = s->count; break;
  case SARD_ART_CODE: out->code = p, out->code_size = s->size; break;
  case SARD_ART_CONST: out->const_offset = s->offset, out->const_size = s->size; break;
  case SARD_ART_IR: out->ir = p, out->ir_size = s->size; break;
  case SARD_ART_META: out->meta = p, out->meta_size = s->size; break;
  case SARD_ART_CHECKS: out->checks = p, out->n_checks = s->count; break;
  case SARD_ART_STRINGS: out->strings = p, out->n_strings = s->count; break;
  case SARD_ART_BATCH: out->batch = p, out->n_batch = s->count; break;
  case SARD_ART_PARTS: out->parts = p, out->n_parts_words = s->count; break;
  case SARD_ART_WAYS: out->ways = p, out->n_ways = s->count; break;
  case SARD_ART_CUDA: out->cuda = p, out->n_cuda = s->count; break;
  case SARD_ART_CUDA_IMAGES: out->cuda_images = p, out->n_cuda_images = s->count; break;
  case SARD_ART_CUDA_PRODUCTS: out->products = p, out->n_products = s->count; break;
  case SARD_ART_CUDA_CODE: out->cuda_code = p, out->cuda_code_size = s->size; break;
  default: break;
  }
}

sard_status *sd_artifact_open(const void *head, uint64_t head_size, uint64_t whole_size, sd_art *out) {
  const sard_art_header *h = head;
  SD_TRY(check_header(h, head_size, whole_size));
  *out = (sd_art){.header = h, .table = (const sard_art_section *)(h + 1)};
  bool seen[SARD_ART_MAXPARTS + 1][SARD_ART_KINDS] = {{false}};
  for (uint32_t i = 0; i < h->n_sections; i++) {
    const sard_art_section *s = &out->table[i];
    uint32_t kind = SARD_ART_KIND(s->kind), part = SARD_ART_PART(s->kind);
    bool unknown = kind == 0 || kind >= SARD_ART_KINDS || part > SARD_ART_MAXPARTS, ignored = false;
    SD_TRY(check_section(s, head_size, whole_size, unknown ? &ignored : &seen[part][kind]));
    if (!unknown && !part) place_section(head, s, out);
  }
  if (out->const_offset && out->const_offset > head_size)
    return SD_ERR(MODEL, "the artifact is damaged: the weights begin at %llu", (unsigned long long)out->const_offset);
  if (out->const_offset + out->const_size <= head_size) out->consts = (const uint8_t *)head + out->const_offset;
  if (out->const_offset && out->const_offset < sizeof *h + h->n_sections * sizeof(sard_art_section))
    return SD_ERR(MODEL, "the artifact is damaged: the weights overlap the section table");
  if (sd_artifact_hash(head, head_size, out->const_offset, out->const_size) != h->hash)
    return sd_status_field(SD_ERR(MODEL, "the artifact is damaged: its contents do not match its checksum"),
                           SARD_TEXT_HINT, "copy the file again or compile the model again");
  return NULL;
}

void sd_artifact_part(const sd_art *whole, uint32_t part, sd_art *out) {
  *out = (sd_art){.header = whole->header, .table = whole->table, .consts = whole->consts};
  out->const_offset = whole->const_offset, out->const_size = whole->const_size;
  for (uint32_t i = 0; i < whole->header->n_sections; i++)
    if (SARD_ART_PART(whole->table[i].kind) == part) place_section((const uint8_t *)whole->header, &whole->table[i], out);
}

sard_status *sd_artifact_runs_here(const sd_art *a) {
  const char *missing = "";
  if (strcmp(a->header->arch, sd_cpu_arch()))
    return SD_ERR(DEVICE, "the artifact is compiled for %s, this machine is %s", a->header->arch, sd_cpu_arch());
  if (!sd_cpu_has_isa(a->header->isa, &missing))
    return sd_status_field(SD_ERR(DEVICE, "the artifact is compiled for instruction set '%s', but this CPU lacks %s",
                                  a->header->isa, missing),
                           SARD_TEXT_HINT, "compile it with --target baseline, or for this machine");
  return NULL;
}
