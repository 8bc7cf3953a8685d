// For programs that fork for each case.
#pragma once
#include "sard/sard_compile.h"

// Makes what a process makes once (LLVM, its targets, tables): 35 ms of processor time that children need not
// spend. A context of one thread, so that no thread is left behind by a fork; NULL, with a message, where
// nothing can be compiled.
sard_context *warm_up(void);
