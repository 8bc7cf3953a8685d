// Jumps to the functions of LLVM, through pointers that sd_llvm_open sets.
#include "codegen/cpu/llvm.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "llvm_library.h" // SARD_LLVM_NAME, SARD_LLVM_PATH: what the build was configured with

#if defined __x86_64__
#define JUMP(pointer) "jmp *" pointer "(%rip)"
#elif defined __aarch64__
#define JUMP(pointer) "adrp x16, " pointer "\nldr x16, [x16, :lo12:" pointer "]\nbr x16"
#else
#error "a jump through a pointer is missing for this architecture"
#endif

#define LLVM(name)                                                                                           \
  __attribute__((visibility("hidden"), used)) void *sd_llvm_at_##name;                                       \
  __asm__(".text\n.globl sd_llvm_" #name "\n.hidden sd_llvm_" #name "\n.type sd_llvm_" #name ", %function\n" \
          "sd_llvm_" #name ":\n" JUMP("sd_llvm_at_" #name));
#include "codegen/cpu/llvm.def"
#undef LLVM

static const struct {
  const char *name;
  void **at;
} functions[] = {
#define LLVM(name) {"LLVM" #name, &sd_llvm_at_##name},
#include "codegen/cpu/llvm.def"
#undef LLVM
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static char failure[512]; // why the library is not there

static void open_library(void) {
  const char *named = getenv("SARD_LLVM");
  void *library = dlopen(named ? named : SARD_LLVM_NAME, RTLD_NOW | RTLD_LOCAL);
  if (!library && !named) library = dlopen(SARD_LLVM_PATH, RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    snprintf(failure, sizeof failure, "%s", dlerror());
    return;
  }
  for (size_t i = 0; i < sizeof functions / sizeof *functions && !*failure; i++) {
    *functions[i].at = dlsym(library, functions[i].name);
    if (!*functions[i].at)
      snprintf(failure, sizeof failure, "%s has no function %s", named ? named : SARD_LLVM_NAME,
               functions[i].name);
  }
}

sard_status *sd_llvm_open(void) {
  pthread_once(&once, open_library);
  if (!*failure) return NULL;
  return sd_status_field(SD_ERR(UNSUPPORTED, "no code can be generated without LLVM: %s", failure),
                         SARD_TEXT_HINT, "install %s or name it in SARD_LLVM; compiled models run without it",
                         SARD_LLVM_NAME);
}
