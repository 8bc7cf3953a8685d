// NVIDIA's runtime compiler, loaded when it is asked for: the same binary runs where there is none.
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/arena.h"
#include "runtime/base/status.h"
#include "runtime/base/str.h"

#define SD_NVRTC_OLDEST 12 // major version; older ones lack the options and C++17

typedef struct sd_nvrtc sd_nvrtc; // use by several threads at once is fine

// Loads the library named by SARD_NVRTC in the environment, else libnvrtc.so of version 13 or 12 where the
// loader finds it or under /usr/local/cuda. The error (SARD_E_DEVICE) tells what was looked for and what was
// found.
sard_status *sd_nvrtc_open(sd_nvrtc **out);
void sd_nvrtc_close(sd_nvrtc *n); // NULL ok
void sd_nvrtc_version(const sd_nvrtc *n, int *major, int *minor);
const char *sd_nvrtc_path(const sd_nvrtc *n);
void sd_nvrtc_basis(const sd_nvrtc *n, sd_str *s); // a line of what its code depends on: version, file, size and time of that
// Architectures that it compiles for (75, 80, ...), ascending; returns their number, `out` has room for
// `room`.
int sd_nvrtc_archs(const sd_nvrtc *n, int *out, int room);

sard_status *sd_nvrtc_check_arch(const sd_nvrtc *n, int arch); // SARD_E_UNSUPPORTED names those that it knows

// Code of one program for one architecture, in the arena given.
typedef struct sd_cubin {
  const void *data;
  uint64_t bytes;
  const char *ptx; // NUL-terminated
  const char *log; // of the compiler and of ptxas: registers, stack, spills of each function
} sd_cubin;
// `arch`: the number behind sm_; `only`: with what no other architecture has (sm_90a), which then runs there alone. Errors: SARD_E_UNSUPPORTED for an architecture that it does not know,
// SARD_E_INTERNAL with the compiler's messages for a program that does not compile.
sard_status *sd_nvrtc_compile(const sd_nvrtc *n, const char *source, const char *name, int arch, bool only,
                              sd_arena *a, sd_cubin *out);
