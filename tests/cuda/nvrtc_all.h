// Every kernel through NVRTC, for several architectures, where there is an NVRTC.
#pragma once
#include "tests/cuda/gather.h"

// arch: one architecture, 0: sm_75, 80, 90 and the newest.
int compile_with_nvrtc(const gathered *g, int jobs,
                       int arch); // exit code; the last line is "N passed, M failed"
