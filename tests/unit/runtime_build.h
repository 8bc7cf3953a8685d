// Hand-made artifacts for tests: a small model around two kernels of machine code.
//
// The model: x f32[N,4] -> y = ((x + 1) + 1), z = x (copied), with a weight that nothing needs to be right about.
#pragma once
#include <elf.h>

#include "runtime/artifact_read.h"
#include "runtime/base/alloc.h"
#include "runtime/cpu.h"
#include "tests/unit/test.h"

// Compiled from:
//   static const float one[4] = {1, 1, 1, 1};
//   int32_t k(const sard_dispatch *d, uint32_t begin, uint32_t end) {
//     const float *x = d->buf[0]; float *y = d->buf[1];
//     long n = d->dim[0], to = (long)end * 16; if (to > n) to = n;
//     for (long i = (long)begin * 16; i < to; i++) y[i] = x[i] + one[0];
//     return 0;
//   }
static const uint8_t code_add[] = {
    0x48, 0x8b, 0x07, 0x4c, 0x8b, 0x00, 0x48, 0x8b, 0x48, 0x08, 0x48, 0x8b, 0x7f, 0x08, 0x89, 0xd0, 0x48, 0xc1, 0xe0,
    0x04, 0x48, 0x8b, 0x17, 0x48, 0x39, 0xd0, 0x48, 0x0f, 0x4f, 0xc2, 0x89, 0xf6, 0x48, 0xc1, 0xe6, 0x04, 0x48, 0x39,
    0xf0, 0x7e, 0x1c, 0xf3, 0x0f, 0x10, 0x05, 0x00, 0x00, 0x00, 0x00, 0xf3, 0x41, 0x0f, 0x58, 0x04, 0xb0, 0xf3, 0x0f,
    0x11, 0x04, 0xb1, 0x48, 0x83, 0xc6, 0x01, 0x48, 0x39, 0xf0, 0x75, 0xe4, 0xb8, 0x00, 0x00, 0x00, 0x00, 0xc3};
enum { ADD_RELOCATION = 0x2d };
// mov rax,[rdi+24]; mov dword [rax],1; xor eax,eax; ret: sets the error flag.
static const uint8_t code_index[] = {0x48, 0x8b, 0x47, 0x18, 0xc7, 0x00, 0x01, 0x00, 0x00, 0x00, 0x31, 0xc0, 0xc3};
static const uint8_t code_fails[] = {0xb8, 0x07, 0x00, 0x00, 0x00, 0xc3}; // mov eax,7; ret

typedef struct bytes { uint8_t *p; size_t n; } bytes;

static inline void bytes_put(bytes *b, const void *p, size_t n) {
  b->p = realloc(b->p, b->n + n + 64);
  if (n) memcpy(b->p + b->n, p, n);
  b->n += n;
}

static inline void bytes_align(bytes *b, size_t a) {
  static const uint8_t zeros[64];
  bytes_put(b, zeros, (a - b->n % a) % a);
}

// One relocation at `offset` of .text against .rodata + addend; type 0: none.
typedef struct elf_relocation { uint32_t type; uint64_t offset; int64_t addend; } elf_relocation;

// A relocatable object: .text with function `symbol`, .rodata with four floats 1.0, perhaps a relocation.
static inline bytes make_elf(uint16_t machine, const char *symbol, const void *text, size_t n, elf_relocation r) {
  static const char names[] = "\0.text\0.rodata\0.rela.text\0.symtab\0.strtab";
  static const float ones[4] = {1, 1, 1, 1};
  Elf64_Ehdr h = {.e_type = ET_REL, .e_machine = machine, .e_version = 1, .e_ehsize = sizeof h,
                  .e_shentsize = sizeof(Elf64_Shdr), .e_shnum = 6, .e_shstrndx = 5};
  memcpy(h.e_ident, ELFMAG, SELFMAG);
  h.e_ident[EI_CLASS] = ELFCLASS64, h.e_ident[EI_DATA] = ELFDATA2LSB, h.e_ident[EI_VERSION] = 1;
  Elf64_Sym sym[3] = {
      {0},
      {.st_info = ELF64_ST_INFO(STB_LOCAL, STT_SECTION), .st_shndx = 2},
      {.st_name = sizeof names, .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC), .st_shndx = 1, .st_size = n}};
  Elf64_Rela rela = {r.offset, ELF64_R_INFO(1, r.type), r.addend};
  Elf64_Shdr s[6] = {{0}};
  bytes b = {0};
  bytes_put(&b, &h, sizeof h);
#define SECTION(i, nm, ty, fl, al, data, size, ...)                                                                  \
  bytes_align(&b, 16);                                                                                               \
  s[i] = (Elf64_Shdr){.sh_name = nm,                                                                                 \
                      .sh_type = ty,                                                                                 \
                      .sh_flags = fl,                                                                                \
                      .sh_addralign = al,                                                                            \
                      .sh_offset = b.n,                                                                              \
                      .sh_size = size,                                                                               \
                      __VA_ARGS__};                                                                                  \
  bytes_put(&b, data, size)
  SECTION(1, 1, SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, 16, text, n, .sh_link = 0);
  SECTION(2, 7, SHT_PROGBITS, SHF_ALLOC, 16, ones, sizeof ones, .sh_link = 0);
  SECTION(3, 15, SHT_RELA, SHF_INFO_LINK, 8, &rela, r.type ? sizeof rela : 0, .sh_link = 4, .sh_info = 1,
          .sh_entsize = sizeof rela);
  SECTION(4, 26, SHT_SYMTAB, 0, 8, sym, sizeof sym, .sh_link = 5, .sh_info = 2, .sh_entsize = sizeof *sym);
  SECTION(5, 34, SHT_STRTAB, 0, 1, names, sizeof names, .sh_link = 0);
#undef SECTION
  bytes_put(&b, symbol, strlen(symbol) + 1);
  s[5].sh_size += strlen(symbol) + 1;
  bytes_align(&b, 16);
  h.e_shoff = b.n;
  bytes_put(&b, s, sizeof s);
  memcpy(b.p, &h, sizeof h);
  return b;
}

// Parts of the model that a test may change before it is written.
typedef struct parts {
  sard_art_dim dims[16];
  sard_art_sym syms[2];
  sard_art_io io[3];
  sard_art_buf bufs[6];
  sard_art_kernel kernels[2];
  sard_art_step steps[3];
  sard_art_cuda cuda[1];
  sard_art_cuda_image images[2];
  uint8_t image_bytes[96];
  uint32_t lists[32];
  uint32_t n_dims, n_syms, n_io, n_in, n_bufs, n_kernels, n_steps, n_lists;
  char text[256];
  uint32_t n_text;
  bytes code;
  uint8_t weights[192];
  char isa[16];
} parts;

static inline uint32_t part_text(parts *m, const char *s) {
  uint32_t at = m->n_text;
  memcpy(m->text + at, s, strlen(s) + 1);
  m->n_text += (uint32_t)strlen(s) + 1;
  return at;
}

static inline uint32_t part_code(parts *m, bytes elf) {
  bytes_align(&m->code, 64);
  uint32_t at = (uint32_t)m->code.n;
  bytes_put(&m->code, elf.p, elf.n);
  free(elf.p);
  return at;
}

// second: what the second step runs, e.g. code_fails; NULL: the addition again.
static inline parts make_parts(const uint8_t *second, size_t n_second) {
  parts m = {.n_dims = 9, .n_syms = 1, .n_io = 3, .n_in = 1, .n_bufs = 5, .n_kernels = 2, .n_steps = 3, .n_lists = 13};
  m.n_text = 1;
  strcpy(m.isa, "baseline");
  // 0: N  1: 4  2: 4N  3: 16N bytes  4: 16  5: tiles  6: 0  7: 64  8: 3
  sard_art_dim dims[] = {{SARD_AD_SYM, 0, 0, 0, 0}, {SARD_AD_CONST, 0, 0, 0, 4}, {SARD_AD_MUL, 0, 1, 0, 0},
                         {SARD_AD_MUL, 1, 2, 0, 0}, {SARD_AD_CONST, 0, 0, 0, 16}, {SARD_AD_CEILDIV, 2, 4, 0, 0},
                         {SARD_AD_CONST, 0, 0, 0, 0}, {SARD_AD_CONST, 0, 0, 0, 64}, {SARD_AD_CONST, 0, 0, 0, 3}};
  memcpy(m.dims, dims, sizeof dims);
  uint32_t lists[] = {0, 1 /* dims of x, y, z */, 0, 0 /* symbols */, 0, 3 /* step 0 */, 3, 1 /* step 1 */,
                      0, 2 /* copy */, 2 /* count */, 2, 4};
  memcpy(m.lists, lists, sizeof lists);
  m.lists[2] = part_text(&m, "N");
  m.syms[0] = (sard_art_sym){m.lists[2], 0, 0, 0, 1, 1000000};
  m.io[0] = (sard_art_io){part_text(&m, "x"), SARD_F32, 2, 0, 0, 2, 0, 0, 0};
  m.io[1] = (sard_art_io){part_text(&m, "y"), SARD_F32, 2, 1, 0, 2, 0, 0, 0};
  m.io[2] = (sard_art_io){part_text(&m, "z"), SARD_F32, 2, 2, 0, 2, 0, 0, 0};
  m.bufs[0] = (sard_art_buf){SARD_AB_INPUT, 3, 0, 0, 0};
  m.bufs[1] = (sard_art_buf){SARD_AB_OUTPUT, 3, 0, 0, 0};
  m.bufs[2] = (sard_art_buf){SARD_AB_OUTPUT, 3, 0, 0, 1};
  m.bufs[3] = (sard_art_buf){SARD_AB_ARENA, 3, 0, 1, 0};
  m.bufs[4] = (sard_art_buf){SARD_AB_CONST, 7, 0, 0, 64};
  elf_relocation r = {R_X86_64_PC32, ADD_RELOCATION, -4};
  bytes add = make_elf(EM_X86_64, "add", code_add, sizeof code_add, r);
  size_t n = add.n;
  m.kernels[0] = (sard_art_kernel){part_code(&m, add), n, part_text(&m, "add"), 2, 1, 0};
  bytes two = second ? make_elf(EM_X86_64, "two", second, n_second, (elf_relocation){0})
                     : make_elf(EM_X86_64, "two", code_add, sizeof code_add, r);
  n = two.n;
  m.kernels[1] = (sard_art_kernel){part_code(&m, two), n, part_text(&m, "two"), 2, 1, 0};
  uint32_t none = SARD_ART_NONE;
  m.steps[0] =
      (sard_art_step){.kind = SARD_AS_DISPATCH, .kernel = 0, .bufs = 4, .n_buf = 2, .dims = 10, .n_dim = 1, .tiles = 5, .scratch = 7, .name = part_text(&m, "first"), .op = part_text(&m, "Add"), .flops = 2, .bytes = 3};
  m.steps[1] =
      (sard_art_step){.kind = SARD_AS_DISPATCH, .kernel = 1, .bufs = 6, .n_buf = 2, .dims = 10, .n_dim = 1, .tiles = 5, .scratch = 6, .name = part_text(&m, "second"), .op = m.steps[0].op, .flops = none, .bytes = none};
  m.steps[2] = (sard_art_step){.kind = SARD_AS_COPY, .kernel = 0, .bufs = 8, .n_buf = 2, .dims = 0, .n_dim = 0, .tiles = 0, .scratch = 0, .name = part_text(&m, "third"), .op = m.steps[0].op, .flops = none, .bytes = none};
  m.cuda[0] = (sard_art_cuda){.step = 0, .symbol = m.kernels[0].symbol, .dims = 10, .n_dim = 1, .blocks = 5, .scratch = 6, .threads = 256, .size = SARD_ART_NONE};
  m.images[0] = (sard_art_cuda_image){SARD_ACI_CUBIN, 80, 0, 0, 0, 32};
  m.images[1] = (sard_art_cuda_image){SARD_ACI_PTX, 80, 0, 0, 64, 32};
  return m;
}

// The artifact's bytes, 64-byte aligned (sd_free_aligned); the checksum is right.
static inline uint8_t *write_parts(const parts *m, uint64_t *out_size) {
  struct { uint32_t kind, count; const void *p; uint64_t n; } in[] = {
      {SARD_ART_TEXT, 0, m->text, m->n_text},
      {SARD_ART_DIMS, m->n_dims, m->dims, m->n_dims * sizeof *m->dims},
      {SARD_ART_SYMS, m->n_syms, m->syms, m->n_syms * sizeof *m->syms},
      {SARD_ART_IO, m->n_in, m->io, m->n_io * sizeof *m->io},
      {SARD_ART_BUFS, m->n_bufs, m->bufs, m->n_bufs * sizeof *m->bufs},
      {SARD_ART_KERNELS, m->n_kernels, m->kernels, m->n_kernels * sizeof *m->kernels},
      {SARD_ART_STEPS, m->n_steps, m->steps, m->n_steps * sizeof *m->steps},
      {SARD_ART_LISTS, m->n_lists, m->lists, m->n_lists * sizeof *m->lists},
      {SARD_ART_CODE, 0, m->code.p, m->code.n},
      {SARD_ART_CUDA, 1, m->cuda, sizeof m->cuda},
      {SARD_ART_CUDA_IMAGES, 2, m->images, sizeof m->images},
      {SARD_ART_CUDA_CODE, 0, m->image_bytes, sizeof m->image_bytes},
      {99, 0, "unknown kinds are skipped", 20},
      {SARD_ART_CONST, 0, m->weights, sizeof m->weights},
  };
  enum { N = sizeof in / sizeof *in };
  uint64_t at = sizeof(sard_art_header) + N * sizeof(sard_art_section), offset[N];
  for (int i = 0; i < N; i++) {
    offset[i] = sd_align_up(at, 64);
    at = offset[i] + in[i].n;
  }
  uint8_t *p = sd_alloc_aligned(at);
  memset(p, 0, at);
  sard_art_header h = {.version = SARD_ART_VERSION, .n_sections = N, .file_size = at};
  memcpy(h.magic, SARD_ART_MAGIC, 8);
  strcpy(h.isa, m->isa);
  strcpy(h.arch, sd_cpu_arch());
  strcpy(h.compiler, "test");
  for (int i = 0; i < N; i++) {
    sard_art_section s = {in[i].kind, in[i].count, offset[i], in[i].n};
    memcpy(p + sizeof h + (size_t)i * sizeof s, &s, sizeof s);
    if (in[i].n) memcpy(p + offset[i], in[i].p, in[i].n);
  }
  h.hash = sd_artifact_hash(p, at, offset[N - 1], sizeof m->weights);
  memcpy(p, &h, sizeof h);
  *out_size = at;
  return p;
}

static inline void drop_parts(parts *m) { free(m->code.p); }
