// Instruction set rows: lookup by name, and the best one of this CPU.
#include "codegen/codegen.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/cpu.h"

static const sd_isa rows[] = {
#define SD_ISA(name, arch, triple, cpu, features, bytes, registers, masks, dot, pairs, matrix)                       \
  {name, arch, triple, cpu, features, bytes, registers, masks, dot, pairs, matrix},
#include "codegen/targets.def"
#undef SD_ISA
};
#define N_ROWS ((int)(sizeof rows / sizeof *rows))

const sd_isa *sd_isa_at(int index) { return index >= 0 && index < N_ROWS ? &rows[index] : NULL; }

const sd_isa *sd_isa_find(const char *name) {
  for (int i = 0; name && i < N_ROWS; i++)
    if (!strcmp(rows[i].name, name)) return &rows[i];
  return NULL;
}

sard_status *sd_isa_host(const char *wanted, const sd_isa **out) {
  if (!wanted || !*wanted || !strcmp(wanted, "auto")) wanted = getenv("SARD_ISA");
  if (!wanted || !*wanted || !strcmp(wanted, "auto")) {
    *out = NULL;
    for (int i = 0; i < N_ROWS; i++)
      if (sd_cpu_has_isa(rows[i].name, NULL)) *out = &rows[i];
    return *out ? NULL : SD_ERR(UNSUPPORTED, "no instruction set row for this CPU's architecture (%s)", sd_cpu_arch());
  }
  const sd_isa *r = sd_isa_find(wanted);
  if (!r) {
    sd_str names = {0};
    for (int i = 0; i < N_ROWS; i++) sd_strf(&names, "%s%s", i ? ", " : "", rows[i].name);
    sard_status *st = SD_ERR(USAGE, "unknown instruction set '%s' (known: %s)", wanted, names.p ? names.p : "");
    sd_str_free(&names);
    return st;
  }
  const char *missing = "";
  if (!sd_cpu_has_isa(wanted, &missing))
    return SD_ERR(DEVICE, "this CPU cannot run the instruction set '%s' (it lacks %s)", wanted, missing);
  *out = r;
  return NULL;
}
