// The code loader: relocations, refusals, and damage of every byte of an object.
#include "runtime/code_elf.h"
#include "tests/unit/runtime_build.h"

static const elf_relocation pc32 = {R_X86_64_PC32, ADD_RELOCATION, -4};

static void runs(void) {
#if defined(__x86_64__)
  bytes a = make_elf(EM_X86_64, "a", code_add, sizeof code_add, pc32);
  bytes b = make_elf(EM_X86_64, "b", code_add, sizeof code_add, pc32);
  sd_code_object o[2] = {{a.p, a.n, "a", NULL}, {b.p, b.n, "b", NULL}};
  sd_code code;
  CHECK_OK(sd_code_load(o, 2, &code));
  for (int k = 0; k < 2; k++) {
    float x[40], y[40] = {0};
    for (int i = 0; i < 40; i++) x[i] = (float)i;
    void *buf[2] = {x, y};
    int64_t dim = 35;
    uint32_t error = 0;
    sard_dispatch d = {buf, &dim, NULL, &error};
    sard_kernel_fn f = (sard_kernel_fn)(uintptr_t)o[k].entry;
    CHECK(f(&d, 1, 3) == 0 && y[15] == 0 && y[16] == 17 && y[34] == 35 && y[35] == 0);
  }
  sd_code_unload(&code);
  sd_code_unload(&code);
  free(a.p);
  free(b.p);
#endif
}

static sard_status *check(uint16_t machine, elf_relocation r) {
  static const uint8_t text[64];
  bytes e = make_elf(machine, "f", text, sizeof text, r);
  sard_status *st = sd_code_check(e.p, e.n, "f");
  free(e.p);
  return st;
}

static void relocations(void) {
  static const uint32_t x86[] = {R_X86_64_PC32, R_X86_64_PLT32, R_X86_64_64, R_X86_64_PC64, R_X86_64_NONE};
  for (size_t i = 0; i < sizeof x86 / sizeof *x86; i++) CHECK_OK(check(EM_X86_64, (elf_relocation){x86[i], 8, 0}));
  static const uint32_t arm[] = {R_AARCH64_ABS64,
                                 R_AARCH64_PREL32,
                                 R_AARCH64_ADR_PREL_PG_HI21,
                                 R_AARCH64_ADD_ABS_LO12_NC,
                                 R_AARCH64_LDST8_ABS_LO12_NC,
                                 R_AARCH64_LDST16_ABS_LO12_NC,
                                 R_AARCH64_LDST32_ABS_LO12_NC,
                                 R_AARCH64_LDST64_ABS_LO12_NC,
                                 R_AARCH64_LDST128_ABS_LO12_NC,
                                 R_AARCH64_CALL26,
                                 R_AARCH64_JUMP26};
  for (size_t i = 0; i < sizeof arm / sizeof *arm; i++)
    CHECK_OK(check(EM_AARCH64, (elf_relocation){arm[i], 8, 0}));
  CHECK_ERR(check(EM_X86_64, (elf_relocation){R_X86_64_GOTPCREL, 8, 0}), MODEL, "unknown relocation type 9");
  CHECK_ERR(check(EM_X86_64, (elf_relocation){R_X86_64_PC32, 61, 0}), MODEL, "outside of its section");
  CHECK_ERR(check(EM_X86_64, (elf_relocation){R_X86_64_64, 60, 0}), MODEL, "outside of its section");
  CHECK_ERR(check(EM_X86_64, (elf_relocation){R_X86_64_PC32, UINT64_MAX - 1, 0}), MODEL, "outside of its section");
  CHECK_ERR(check(EM_X86_64, (elf_relocation){R_X86_64_PC32, 8, INT64_C(1) << 40}), MODEL, "does not reach");
  CHECK_ERR(check(EM_AARCH64, (elf_relocation){R_AARCH64_LDST128_ABS_LO12_NC, 8, 4}), MODEL, "does not reach");
  CHECK_ERR(check(EM_386, pc32), MODEL, "unknown machine");
}

static void local_function(void) {
  bytes e = make_elf(EM_X86_64, "f", code_add, sizeof code_add, pc32);
  Elf64_Ehdr h;
  Elf64_Shdr s;
  memcpy(&h, e.p, sizeof h);
  memcpy(&s, e.p + h.e_shoff + 4 * sizeof s, sizeof s); // of the symbols
  e.p[s.sh_offset + 2 * sizeof(Elf64_Sym) + offsetof(Elf64_Sym, st_info)] = ELF64_ST_INFO(STB_LOCAL, STT_FUNC);
  CHECK_ERR(sd_code_check(e.p, e.n, "f"), MODEL, "no global function");
  free(e.p);
}

static void other_machine(void) {
  uint16_t other = !strcmp(sd_cpu_arch(), "aarch64") ? EM_X86_64 : EM_AARCH64;
  static const uint8_t text[16];
  bytes e = make_elf(other, "f", text, sizeof text, (elf_relocation){0});
  sd_code_object o = {e.p, e.n, "f", NULL};
  sd_code code;
  CHECK_ERR(sd_code_load(&o, 1, &code), DEVICE, "another machine");
  free(e.p);
  CHECK_OK(sd_code_load(NULL, 0, &code));
  sd_code_unload(&code);
}

static void damage(void) {
  bytes e = make_elf(EM_X86_64, "f", code_add, sizeof code_add, pc32);
  CHECK_OK(sd_code_check(e.p, e.n, "f"));
  for (size_t n = 0; n < e.n; n++) { // every prefix
    uint8_t *cut = malloc(n ? n : 1);
    memcpy(cut, e.p, n);
    if (take_code(sd_code_check(cut, n, "f")) != SARD_E_MODEL) CHECK(false);
    free(cut);
  }
  uint64_t seed = 9;
  for (int i = 0; i < 30000; i++) {
    uint8_t *q = malloc(e.n);
    memcpy(q, e.p, e.n);
    for (int k = 0; k < 2; k++) {
      uint64_t r = test_random(&seed);
      q[(r >> 16) % e.n] = r & 1 ? (uint8_t)(r >> 8) : (uint8_t)(q[(r >> 16) % e.n] ^ 1 << (r >> 8 & 7));
    }
    sard_status_free(sd_code_check(q, e.n, "f"));
    free(q);
  }
  free(e.p);
}

int main(void) {
  RUN(runs);
  RUN(relocations);
  RUN(local_function);
  RUN(other_machine);
  RUN(damage);
  return check_end();
}
