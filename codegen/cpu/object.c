// LLVM behind the emitter: contexts and target machines of each thread, passes, machine code, check of the object.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codegen/cpu/emit.h"
#include "llvm_library.h" // SARD_LLVM_VERSION
#include "runtime/base/alloc.h"
#include "runtime/code_elf.h"

#define MAX_ISAS       16
#define CONTEXT_KERNELS 64 // types and constants pile up in a context: a new one after that many kernels

typedef struct cache {
  sd_object_thread th;
  LLVMTargetMachineRef tm[MAX_ISAS][2];
} cache;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static bool key_ok;

void sd_object_end(sd_object_thread *th) {
  if (th->b) LLVMDisposeBuilder(th->b);
  if (th->entry) LLVMDisposeBuilder(th->entry);
  if (th->m) LLVMDisposeModule(th->m);
  if (th->code) LLVMDisposeMemoryBuffer(th->code);
  th->b = th->entry = NULL, th->m = NULL, th->code = NULL;
}

static void free_cache(void *p) { // at the end of its thread
  cache *c = p;
  sd_object_end(&c->th);
  for (int i = 0; i < MAX_ISAS; i++)
    for (int j = 0; j < 2; j++)
      if (c->tm[i][j]) LLVMDisposeTargetMachine(c->tm[i][j]);
  if (c->th.ctx) LLVMContextDispose(c->th.ctx);
  if (c->th.scratch) sd_arena_free(c->th.scratch);
  sd_free(c);
}

static void start(void) {
  key_ok = pthread_key_create(&key, free_cache) == 0;
  // Addresses are emitted in the form that the instructions take; strength reduction only costs time.
  const char *args[] = {"sard", "-disable-lsr"};
  LLVMParseCommandLineOptions(2, args, NULL);
}

static sard_status *my_cache(cache **out) {
  SD_TRY(sd_llvm_open());
  pthread_once(&once, start);
  if (!key_ok) return SD_ERR(INTERNAL, "no thread-specific storage is left");
  cache *c = pthread_getspecific(key);
  if (!c) {
    c = sd_calloc(1, sizeof *c);
    if (!c || pthread_setspecific(key, c)) {
      sd_free(c);
      return SD_ERR(NOMEM, "out of memory for the code generator");
    }
  }
  *out = c;
  return NULL;
}

sard_status *sd_object_begin(sd_object_thread **out) {
  cache *c;
  SD_TRY(my_cache(&c));
  sd_object_thread *th = &c->th;
  sd_object_end(th);
  if (th->ctx && th->uses++ >= CONTEXT_KERNELS) {
    LLVMContextDispose(th->ctx);
    th->ctx = NULL, th->uses = 0;
  }
  if (!th->ctx) th->ctx = LLVMContextCreate();
  if (!th->scratch) th->scratch = sd_arena_new();
  if (!th->scratch) return SD_ERR(NOMEM, "out of memory for the code generator");
  sd_arena_reset(th->scratch);
  *out = th;
  return NULL;
}

// LLVM's targets register themselves in a global table; once each.
#define TARGET(name, arch)                                                                                             \
  static void init_##arch(void) {                                                                                      \
    LLVMInitialize##name##TargetInfo();                                                                                \
    LLVMInitialize##name##Target();                                                                                    \
    LLVMInitialize##name##TargetMC();                                                                                  \
    LLVMInitialize##name##AsmPrinter();                                                                                \
  }
TARGET(X86, x86_64)
TARGET(AArch64, aarch64)

static sard_status *init_target(const char *arch) {
  static pthread_once_t x86 = PTHREAD_ONCE_INIT, arm = PTHREAD_ONCE_INIT;
  if (!strcmp(arch, "x86_64"))
    pthread_once(&x86, init_x86_64);
  else if (!strcmp(arch, "aarch64"))
    pthread_once(&arm, init_aarch64);
  else
    return SD_ERR(UNSUPPORTED, "no code generator for architecture '%s'", arch);
  return NULL;
}

static sard_status *machine(const sd_isa *isa, int opt, LLVMTargetMachineRef *out) {
  cache *c;
  SD_TRY(my_cache(&c));
  int row = 0;
  while (sd_isa_at(row) && sd_isa_at(row) != isa) row++;
  if (row >= MAX_ISAS) return SD_ERR(INTERNAL, "more than %d instruction set rows", MAX_ISAS);
  LLVMTargetMachineRef *tm = &c->tm[row][opt > 0];
  if (!*tm) {
    SD_TRY(init_target(isa->arch));
    LLVMTargetRef t;
    char *msg = NULL;
    if (LLVMGetTargetFromTriple(isa->triple, &t, &msg)) {
      sard_status *st = SD_ERR(UNSUPPORTED, "LLVM has no target '%s': %s", isa->triple, msg ? msg : "");
      LLVMDisposeMessage(msg);
      return st;
    }
    LLVMCodeGenOptLevel level = opt > 0 ? LLVMCodeGenLevelDefault : LLVMCodeGenLevelLess;
    *tm = LLVMCreateTargetMachine(t, isa->triple, isa->cpu, isa->features, level, LLVMRelocPIC, LLVMCodeModelSmall);
    if (!*tm) return SD_ERR(INTERNAL, "LLVM made no target machine for '%s'", isa->name);
  }
  *out = *tm;
  return NULL;
}

static sard_status *llvm_error(const char *what, const char *symbol, char *msg) {
  sard_status *st = SD_ERR(INTERNAL, "LLVM: %s of kernel %s: %s", what, symbol, msg ? msg : "");
  LLVMDisposeMessage(msg);
  return st;
}

static void dispose_buffer(void *p) { LLVMDisposeMemoryBuffer(p); }

static sard_status *run_passes(LLVMModuleRef m, LLVMTargetMachineRef tm, const char *symbol) {
  LLVMPassBuilderOptionsRef po = LLVMCreatePassBuilderOptions();
  LLVMErrorRef e = LLVMRunPasses(m, "function(early-cse,instsimplify)", tm, po);
  LLVMDisposePassBuilderOptions(po);
  if (!e) return NULL;
  char *msg = LLVMGetErrorMessage(e);
  sard_status *st = SD_ERR(INTERNAL, "LLVM: passes of kernel %s: %s", symbol, msg);
  LLVMDisposeErrorMessage(msg);
  return st;
}

sard_status *sd_object_emit(sd_object_thread *th, const sd_isa *isa, int opt, const char *symbol, sd_arena *out, sd_machine_code *o) {
  LLVMTargetMachineRef tm = NULL;
  LLVMModuleRef m = th->m;
  char *msg = NULL;
  SD_TRY(machine(isa, opt, &tm));
  LLVMSetTarget(m, isa->triple);
  LLVMTargetDataRef layout = LLVMCreateTargetDataLayout(tm);
  LLVMSetModuleDataLayout(m, layout);
  LLVMDisposeTargetData(layout);
#ifdef SARD_EMIT_VERIFY
  if (LLVMVerifyModule(m, LLVMReturnStatusAction, &msg)) return llvm_error("verification", symbol, msg);
  LLVMDisposeMessage(msg);
#endif
  if (opt > 0) SD_TRY(run_passes(m, tm, symbol));
  if (LLVMTargetMachineEmitToMemoryBuffer(tm, m, LLVMObjectFile, &msg, &th->code)) return llvm_error("code", symbol, msg);
  LLVMMemoryBufferRef code = th->code;
  th->code = NULL; // `out` has it from here on, also when the note about it finds no room
  sd_arena_defer(out, dispose_buffer, code);
  o->data = LLVMGetBufferStart(code);
  o->size = LLVMGetBufferSize(code);
  return sd_code_check(o->data, o->size, symbol);
}

void sd_codegen_basis(const sd_isa *isa, sd_str *out) {
  sd_strf(out, "isa %s %s %s %s vector %d registers %d masks %d LLVM %s\n", isa->name, isa->triple, isa->cpu, isa->features,
          isa->vector_bytes, isa->registers, isa->masks, SARD_LLVM_VERSION);
}

sard_status *sd_codegen_version(char out[64]) {
  unsigned major, minor, patch;
  SD_TRY(sd_llvm_open());
  LLVMGetVersion(&major, &minor, &patch);
  snprintf(out, 64, "%u.%u.%u", major, minor, patch);
  return NULL;
}
