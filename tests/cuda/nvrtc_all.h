// Every kernel through NVRTC, for several architectures, where there is an NVRTC.
#pragma once
#include "tests/cuda/gather.h"

// Compiles for `arch`, 0: sm_75, 80, 90 and the newest; with `turns` each program for one of them, in turn. Exit code; the last
// line is "N passed, M failed".
int compile_with_nvrtc(const gathered *g, int jobs, int arch, bool turns);
