// The check of artifacts: every kind of damage is named, and no damage gets through or crashes.
#include "runtime/dimcode.h"
#include "tests/unit/runtime_build.h"

static sard_status *verify(const parts *m) {
  uint64_t size;
  uint8_t *p = write_parts(m, &size);
  sd_art a;
  sard_status *st = sd_artifact_open(p, size, size, &a);
  if (!st) st = sd_verify_artifact(&a);
  if (!st) st = sd_artifact_runs_here(&a);
  sd_free_aligned(p);
  return st;
}

static void good(void) {
  parts m = make_parts(NULL, 0);
  uint64_t size;
  uint8_t *p = write_parts(&m, &size);
  sd_art a;
  CHECK_OK(sd_artifact_open(p, size, size, &a));
  CHECK_OK(sd_verify_artifact(&a));
  CHECK(a.n_in == 1 && a.n_out == 2 && a.n_steps == 3 && a.consts != NULL);
  CHECK_TEXT(sd_art_text(&a, a.steps[1].name), "second");
  sd_free_aligned(p);
  drop_parts(&m);
}

// One wrong value each: `text` is part of the message.
#define WRONG(change, code, text)                                                                                      \
  do {                                                                                                                 \
    parts m = make_parts(NULL, 0);                                                                                     \
    change;                                                                                                            \
    CHECK_ERR(verify(&m), code, text);                                                                                 \
    drop_parts(&m);                                                                                                    \
  } while (0)

static void wrong_values(void) {
  WRONG(m.dims[2].op = 77, MODEL, "size 2 has unknown operation 77");
  WRONG(m.dims[2].a = 2, MODEL, "size 2 reads size 2");
  WRONG(m.dims[2].b = 4000000000u, MODEL, "does not stand before it");
  WRONG(m.dims[0].a = 1, MODEL, "reads symbol 1 of 1");
  WRONG(m.syms[0].input = 1, MODEL, "symbol 'N' is bound by input 1 of 1");
  WRONG(m.syms[0].axis = 2, MODEL, "axis 2 of an input of rank 2");
  WRONG(m.syms[0].axis = 1, MODEL, "a dim that is not this symbol");
  WRONG(m.syms[0].min = -1, MODEL, "range -1");
  WRONG(m.syms[0].name = 9999, MODEL, "name of symbol 0");
  WRONG(m.io[0].rank = 17, MODEL, "input 0 has rank 17");
  WRONG(m.io[0].dtype = 0, MODEL, "input 0 has unknown element type 0");
  WRONG(m.io[1].dtype = 4000, MODEL, "output 0 has unknown element type 4000");
  WRONG(m.io[0].dims = 12, MODEL, "a list of input 0 lies outside");
  WRONG(m.io[0].dims = UINT32_MAX, MODEL, "a list of input 0 lies outside");
  WRONG(m.io[0].symbols = 100, MODEL, "a list of input 0");
  WRONG(m.io[0].buf = 5, MODEL, "input 0 has buffer 5 of 5");
  WRONG(m.io[0].buf = 1, MODEL, "belongs to something else");
  WRONG(m.io[1].buf = SARD_ART_NONE, MODEL, "output 0 has no buffer");
  WRONG(m.io[2].buf = 1, MODEL, "belongs to something else");
  WRONG(m.n_in = 0, MODEL, "");
  WRONG(m.n_in = 4, MODEL, "section IO");
  WRONG(m.bufs[3].kind = 9, MODEL, "buffer 3 is of unknown kind 9");
  WRONG(m.bufs[3].bytes = 9, MODEL, "buffer 3 uses size 9 of 9");
  WRONG(m.bufs[3].last = 3, MODEL, "lives from step 0 to 3 of 3");
  WRONG(m.bufs[3].first = 2, MODEL, "lives from step 2 to 1");
  WRONG(m.bufs[3].first = 1, MODEL, "step 0 uses buffer 3 outside of its lifetime");
  WRONG(m.bufs[3].first = m.bufs[3].last = SARD_ART_NONE, MODEL, "outside of its lifetime");
  WRONG(m.bufs[4].bytes = 3, MODEL, "constant 4 has no constant size");
  WRONG(m.bufs[4].offset = 32, MODEL, "constant 4 is not aligned");
  WRONG(m.bufs[4].offset = 128, MODEL, "constant 4 (64 bytes at 128) lies outside");
  WRONG(m.bufs[4].offset = UINT64_MAX - 63, MODEL, "lies outside of the weights");
  WRONG(m.dims[7].value = -64, MODEL, "buffer 4 has -64 bytes");
  WRONG(m.bufs[1].offset = 2, MODEL, "buffer 1 belongs to input or output 2");
  WRONG(m.kernels[0].offset = 1u << 30, MODEL, "code of kernel 'add' lies outside");
  WRONG(m.kernels[0].size = UINT64_MAX, MODEL, "code of kernel 'add' lies outside");
  WRONG(m.kernels[0].size = 0, MODEL, "code of kernel 'add' lies outside");
  WRONG(m.kernels[1].symbol = 9999, MODEL, "name of kernel 1");
  WRONG(m.kernels[1].n_buf = 3, MODEL, "which takes 3 and 1");
  WRONG(m.steps[0].kind = 99, MODEL, "step 0 is of unknown kind 99");
  WRONG(m.steps[0].kernel = 2, MODEL, "step 0 runs kernel 2 of 2");
  WRONG(m.steps[0].bufs = 12, MODEL, "a list of step 0");
  WRONG(m.lists[4] = 5, MODEL, "a list of step 0 has entry 5");
  WRONG(m.steps[0].dims = 99, MODEL, "a list of step 0");
  WRONG(m.steps[0].tiles = 9, MODEL, "step 0 uses size 9 of 9");
  WRONG(m.steps[1].scratch = 9, MODEL, "step 1 uses size 9 of 9");
  WRONG(m.steps[0].flops = 9, MODEL, "step 0 uses size 9 of 9");
  WRONG(m.steps[0].op = 9999, MODEL, "name of step 0");
  WRONG(m.steps[2].n_buf = 1, MODEL, "copy step 2 has 1 buffers");
  WRONG(m.lists[9] = 0, MODEL, "copies to read-only buffer 0");
  WRONG(m.cuda[0].step = 3, MODEL, "CUDA launch 0 belongs to step 3, which runs no kernel");
  WRONG(m.cuda[0].step = 2, MODEL, "CUDA launch 0 belongs to step 2, which runs no kernel");
  WRONG(m.cuda[0].symbol = 9999, MODEL, "name of CUDA launch 0");
  WRONG(m.cuda[0].dims = 99, MODEL, "a list of CUDA launch 0");
  WRONG(m.cuda[0].blocks = 9, MODEL, "CUDA launch 0 uses size 9 of 9");
  WRONG(m.cuda[0].scratch = 9, MODEL, "CUDA launch 0 uses size 9 of 9");
  WRONG(m.cuda[0].threads = 0, MODEL, "blocks of 0 threads");
  WRONG(m.cuda[0].threads = 2048, MODEL, "blocks of 2048 threads");
  WRONG(m.images[0].kind = 3, MODEL, "CUDA image 0 is of unknown kind 3");
  WRONG(m.images[0].offset = 70, MODEL, "CUDA image 0 lies outside");
  WRONG(m.images[0].size = UINT64_MAX, MODEL, "CUDA image 0 lies outside");
  WRONG(m.images[1].size = 0, MODEL, "CUDA image 1 lies outside");
  WRONG(m.image_bytes[95] = 'x', MODEL, "CUDA image 1 is a text without end");
  WRONG(m.text[m.n_text - 1] = 'x', MODEL, "text section has no end");
  WRONG(m.n_text = 0, MODEL, "no text section");
  WRONG(strcpy(m.isa, "avx9000"), DEVICE, "instruction set 'avx9000'");
  WRONG((m.dims[8] = (sard_art_dim){SARD_AD_FLOORDIV, 1, 6, 0, 0}), MODEL, "size 8 overflows (4 floordiv 0)");
}

static void wrong_files(void) {
  parts m = make_parts(NULL, 0);
  uint64_t size;
  uint8_t *p = write_parts(&m, &size);
  sard_art_header *h = (sard_art_header *)p;
  sard_art_section *s = (sard_art_section *)(h + 1);
  sd_art a;
#define WITH(change, restore, text)                                                                                    \
  change;                                                                                                              \
  CHECK_ERR(sd_artifact_open(p, size, size, &a), MODEL, text);                                                         \
  restore
  WITH(h->version = SARD_ART_VERSION + 1, h->version = SARD_ART_VERSION, "format version 9, this runtime reads version 8");
  WITH(p[0] = 'X', p[0] = 'S', "not a Sard artifact");
  WITH(h->file_size++, h->file_size--, "should have");
  WITH(h->n_sections = 1u << 31, h->n_sections = 14, "sections");
  WITH(s[1].offset = UINT64_MAX - 10, s[1].offset = 0, "section DIMS lies outside");
  p = (sd_free_aligned(p), write_parts(&m, &size));
  h = (sard_art_header *)p, s = (sard_art_section *)(h + 1);
  WITH(s[1].size = UINT64_MAX - 10, (void)0, "section DIMS lies outside");
  p = (sd_free_aligned(p), write_parts(&m, &size));
  h = (sard_art_header *)p, s = (sard_art_section *)(h + 1);
  WITH(s[1].count++, s[1].count--, "section DIMS has");
  WITH(s[1].kind = SARD_ART_SYMS, s[1].kind = SARD_ART_DIMS, "section SYMS");
  WITH(s[1].offset += 8, s[1].offset -= 8, "not aligned");
  WITH(p[size - sizeof m.weights - 70] ^= 1, p[size - sizeof m.weights - 70] ^= 1, "checksum");
  CHECK_OK(sd_artifact_open(p, size, size, &a));
#undef WITH
  uint8_t *cut = sd_alloc_aligned(size);
  for (uint64_t n = 0; n < size; n++) { // every prefix
    uint8_t *exact = malloc(n ? n : 1);
    memcpy(exact, p, n);
    if (take_code(sd_artifact_open(exact, n, n, &a)) != SARD_E_MODEL) CHECK(false);
    free(exact);
  }
  sd_free_aligned(cut);
  sd_free_aligned(p);
  drop_parts(&m);
}

// Random damage with a right checksum: open and verify say yes or no, under the sanitizers.
static void random_damage(void) {
  uint64_t seed = 5;
  parts m = make_parts(NULL, 0);
  uint64_t size;
  uint8_t *p = write_parts(&m, &size), *q = sd_alloc_aligned(size);
  int passed = 0;
  for (int i = 0; i < 20000; i++) {
    memcpy(q, p, size);
    int flips = 1 + (int)(test_random(&seed) % 3);
    for (int k = 0; k < flips; k++) {
      uint64_t r = test_random(&seed), at = 8 + (r >> 16) % (size - 8);
      q[at] = r & 1 ? (uint8_t)(r >> 8) : q[at] ^ (uint8_t)(1 << (r >> 8 & 7));
    }
    sard_art_header *h = (sard_art_header *)q;
    const sard_art_section *s = (const sard_art_section *)(h + 1);
    uint64_t at = s[13].offset, n = s[13].size;
    if (s[13].kind == SARD_ART_CONST && at <= size && n <= size - at && at >= sizeof *h)
      h->hash = sd_artifact_hash(q, size, at, n);
    sd_art a;
    sard_status *st = sd_artifact_open(q, size, size, &a);
    if (!st) st = sd_verify_artifact(&a);
    if (!st) {
      int64_t sym[4] = {5, 5, 5, 5}, dims[16];
      passed++;
      if (a.n_dims <= 16 && a.n_syms <= 4) sard_status_free(sd_dimcode_eval(&a, sym, NULL, dims));
    }
    sard_status_free(st);
  }
  CHECK(passed > 1000 && passed < 19000);
  sd_free_aligned(p);
  sd_free_aligned(q);
  drop_parts(&m);
}

static int64_t eval2(uint32_t op, int64_t x, int64_t y, bool *ok) {
  sard_art_dim dims[3] = {{SARD_AD_SYM, 0, 0, 0, 0}, {SARD_AD_CONST, 0, 0, 0, y}, {op, 0, 1, 0, 0}};
  sd_art a = {.dims = dims, .n_dims = 3, .n_syms = 1};
  int64_t out[3] = {0};
  *ok = take_code(sd_dimcode_eval(&a, &x, NULL, out)) == 0;
  return out[2];
}

static void sizes(void) {
  bool ok;
  CHECK(eval2(SARD_AD_ADD, 3, 4, &ok) == 7 && ok);
  CHECK(eval2(SARD_AD_MUL, -3, 4, &ok) == -12 && ok);
  CHECK(eval2(SARD_AD_FLOORDIV, -7, 2, &ok) == -4 && ok);
  CHECK(eval2(SARD_AD_FLOORDIV, 7, -2, &ok) == -4 && ok);
  CHECK(eval2(SARD_AD_CEILDIV, 7, 2, &ok) == 4 && ok);
  CHECK(eval2(SARD_AD_CEILDIV, -7, 2, &ok) == -3 && ok);
  CHECK(eval2(SARD_AD_MOD, -7, 2, &ok) == 1 && ok);
  CHECK(eval2(SARD_AD_MOD, 7, -4, &ok) == -1 && ok);
  CHECK(eval2(SARD_AD_MIN, 7, 2, &ok) == 2 && ok);
  CHECK(eval2(SARD_AD_MAX, 7, 2, &ok) == 7 && ok);
  CHECK(eval2(SARD_AD_MOD, INT64_MIN, 7, &ok) >= 0 && ok);
  eval2(SARD_AD_FLOORDIV, 1, 0, &ok);
  CHECK(!ok);
  eval2(SARD_AD_MOD, 1, 0, &ok);
  CHECK(!ok);
  eval2(SARD_AD_CEILDIV, INT64_MIN, -1, &ok);
  CHECK(!ok);
  eval2(SARD_AD_ADD, INT64_MAX, 1, &ok);
  CHECK(!ok);
  eval2(SARD_AD_MUL, INT64_MAX, 2, &ok);
  CHECK(!ok);
}

int main(void) {
  RUN(good);
  RUN(wrong_values);
  RUN(wrong_files);
  RUN(random_damage);
  RUN(sizes);
  return check_end();
}
