// LLVM's C interface, whose library is opened when the first kernel is compiled: who runs artifacts, also
// those of the cache, neither waits for it nor has it in memory. The names of llvm.def mean jumps of llvm.c,
// so that programs may link LLVM themselves.
#pragma once
#define SD_PRAGMA(text) _Pragma(#text)
#define LLVM(name)      SD_PRAGMA(redefine_extname LLVM##name sd_llvm_##name)
#include "codegen/cpu/llvm.def"
#undef LLVM

#include <llvm-c/Analysis.h>
#include <llvm-c/Core.h>
#include <llvm-c/Error.h>
#include <llvm-c/Support.h>
#include <llvm-c/Target.h>
#include <llvm-c/TargetMachine.h>
#include <llvm-c/Transforms/PassBuilder.h>

#include "runtime/base/status.h"

// Opens the library, once; before any function of LLVM is called. SARD_LLVM in the environment names another
// file. Any thread. Errors: UNSUPPORTED where the library cannot be opened or lacks a function.
sard_status *sd_llvm_open(void);
