// NVRTC without NVIDIA: the code that it gives is the program's text, which the null driver compiles (null.h).
//   SARD_FAKE_NVRTC_VERSION=13.0  SARD_FAKE_NVRTC_ARCHS=75,80,90,100,120  SARD_FAKE_NVRTC_FAIL=nvrtcCompileProgram:1:6
// are read at each call. Result 6 (a compile error) leaves a message in the log.
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/cuda/null/null.h"

#define API __attribute__((visibility("default")))
enum { N_CALLS = 13, ROOM = 64 };

typedef struct program {
  char *text;
  int arch;
  bool compiled;
  char log[200];
} program;

static const char *text_of(const char *name, const char * or) {
  const char *v = getenv(name);
  return v && *v ? v : or ;
}

static int failure(const char *call) {
  static long counts[N_CALLS];
  static const char *names[N_CALLS];
  static char last[200];
  char name[64];
  long at;
  int code, i = 0;
  const char *wanted = text_of("SARD_FAKE_NVRTC_FAIL", "");
  if (strcmp(wanted, last) != 0) memset(counts, 0, sizeof counts), snprintf(last, sizeof last, "%s", wanted);
  while (i < N_CALLS - 1 && names[i] && strcmp(names[i], call) != 0) i++;
  names[i] = call, counts[i]++;
  return sscanf(wanted, "%63[^:]:%ld:%d", name, &at, &code) == 3 && strcmp(name, call) == 0 && at == counts[i] ? code
                                                                                                               : 0;
}

API int nvrtcVersion(int *major, int *minor) {
  *major = 13, *minor = 0;
  sscanf(text_of("SARD_FAKE_NVRTC_VERSION", "13.0"), "%d.%d", major, minor);
  return failure("nvrtcVersion");
}

static int read_archs(int *out) {
  int n = 0;
  const char *p = text_of("SARD_FAKE_NVRTC_ARCHS", "75,80,90,100,120");
  for (; *p && n < ROOM; p += strcspn(p, ","), p += *p == ',') out[n++] = atoi(p);
  return n;
}

API int nvrtcGetNumSupportedArchs(int *n) {
  int archs[ROOM];
  *n = read_archs(archs);
  return failure("nvrtcGetNumSupportedArchs");
}

API int nvrtcGetSupportedArchs(int *archs) {
  read_archs(archs);
  return failure("nvrtcGetSupportedArchs");
}

API int nvrtcCreateProgram(program **out, const char *source, const char *name, int n, const char *const *headers,
                           const char *const *names) {
  int rc = failure("nvrtcCreateProgram");
  (void)name, (void)n, (void)headers, (void)names;
  if (rc) return rc;
  *out = calloc(1, sizeof **out);
  if (!*out || !((*out)->text = strdup(source))) abort();
  return 0;
}

API int nvrtcDestroyProgram(program **p) {
  int rc = failure("nvrtcDestroyProgram");
  if (*p) free((*p)->text);
  free(*p);
  *p = NULL;
  return rc;
}

API int nvrtcCompileProgram(program *p, int n, const char *const *options) {
  int rc = failure("nvrtcCompileProgram");
  for (int i = 0; i < n; i++) sscanf(options[i], "-arch=sm_%d", &p->arch);
  if (!rc && p->arch == 0) rc = 5;
  snprintf(p->log, sizeof p->log, "%s", rc ? "the model's kernels(1): error: words of the fake NVRTC\n" : "");
  p->compiled = !rc;
  return rc;
}

API int nvrtcGetProgramLogSize(const program *p, size_t *n) {
  *n = strlen(p->log) + 1;
  return failure("nvrtcGetProgramLogSize");
}

API int nvrtcGetProgramLog(const program *p, char *to) {
  memcpy(to, p->log, strlen(p->log) + 1);
  return failure("nvrtcGetProgramLog");
}

static size_t write_code(const program *p, const char *mark, char *to, size_t room) {
  int major, minor;
  nvrtcVersion(&major, &minor);
  return (size_t)snprintf(to, room, "%s%d %d\n%s", mark, p->arch, 1000 * major + 10 * minor, p->text) + 1;
}

API int nvrtcGetCUBINSize(const program *p, size_t *n) {
  *n = p->compiled ? write_code(p, NULL_CUBIN, NULL, 0) : 0;
  return failure("nvrtcGetCUBINSize");
}

API int nvrtcGetCUBIN(const program *p, char *to) {
  write_code(p, NULL_CUBIN, to, write_code(p, NULL_CUBIN, NULL, 0));
  return failure("nvrtcGetCUBIN");
}

API int nvrtcGetPTXSize(const program *p, size_t *n) {
  *n = write_code(p, NULL_PTX, NULL, 0);
  return failure("nvrtcGetPTXSize");
}

API int nvrtcGetPTX(const program *p, char *to) {
  write_code(p, NULL_PTX, to, write_code(p, NULL_PTX, NULL, 0));
  return failure("nvrtcGetPTX");
}

API const char *nvrtcGetErrorString(int code) {
  return code == 6   ? "NVRTC_ERROR_COMPILATION"
         : code == 5 ? "NVRTC_ERROR_INVALID_OPTION"
         : code == 1 ? "NVRTC_ERROR_OUT_OF_MEMORY"
                     : "NVRTC_ERROR";
}
