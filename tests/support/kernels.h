// Kernels that models of the tests have in common are compiled once.
#pragma once

// By this process and those that it makes, where no file says that others share them, too: $SARD_TEST_KERNELS, which all programs of
// one build may use from their start on, and none of another.
void share_kernels(void);
