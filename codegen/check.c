// How nodes would run, without keeping what is made for it.
#include "codegen/choose.h"
#include "codegen/cuda/cuda.h"
#include "runtime/host.h"

static sard_status *kernel(sd_arena *scratch, sd_module *m, const sd_node *n, const sd_isa *isa) {
  sd_kernel *k;
  sd_packs packs = {0};
  sd_machine_code o;
  SD_TRY(sd_lower_node(scratch, m, n, &k));
  k->name = "k";
  SD_TRY_MSG(sd_choose(k, isa, 0, scratch, &packs, NULL), "while scheduling node '%s' (%s)", n->name, n->op->name);
  return sd_node_error(n, sd_emit_llvm(k, isa, "k", 0, scratch, &o));
}

sd_runs sd_codegen_runs(const sd_node *n) {
  if (n->op->kind == SD_CONTROL && strcmp(n->op->name, "sard.Fused") != 0) return SD_RUNS_STEPS;
  if (strcmp(n->op->name, "sard.Define") == 0) return SD_RUNS_STEPS;
  return sd_kind_is_host(n->op->kind) ? SD_RUNS_HOST : SD_RUNS_KERNEL;
}

sard_status *sd_codegen_check(sd_arena *scratch, sd_module *m, const sd_node *n, const sd_isa *isa, bool cuda) {
  switch (sd_codegen_runs(n)) {
  case SD_RUNS_STEPS: return NULL;
  case SD_RUNS_HOST:
    return sd_host_find(n->op->name) ? NULL : sd_node_error(n, SD_ERR(UNSUPPORTED, "%s has no host function", n->op->name));
  default: return cuda ? sd_cuda_node_source(scratch, m, n, "k", NULL, NULL, &(sd_cuda_source){0}) : kernel(scratch, m, n, isa);
  }
}
