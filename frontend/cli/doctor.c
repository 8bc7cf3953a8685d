// sard doctor: libraries that are wanted and found, features of the processor, and the speed this machine reaches.
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "codegen/codegen.h"
#include "frontend/cli/tools.h"
#include "frontend/driver/cache.h"
#include "runtime/base/thread.h"
#include "runtime/cpu.h"

// ---- libraries ----

typedef struct library {
  const char *name, *files, *what; // files: names to try, separated by spaces
  bool needed;
  bool (*version)(void *handle, char out[64]);
} library;

static bool llvm_version(void *handle, char out[64]) {
  (void)handle;
  sard_status *st = sd_codegen_version(out);
  sard_status_free(st);
  return !st;
}

static bool text_version(void *handle, const char *symbol, char out[64]) {
  const char *(*get)(void);
  *(void **)&get = dlsym(handle, symbol);
  if (!get) return false;
  snprintf(out, 64, "%s", get());
  return true;
}
static bool protobuf_version(void *handle, char out[64]) { return text_version(handle, "protobuf_c_version", out); }
static bool zlib_version(void *handle, char out[64]) { return text_version(handle, "zlibVersion", out); }

static bool number_version(void *handle, const char *symbol, char out[64]) {
  int v = 0, (*get)(int *);
  *(void **)&get = dlsym(handle, symbol);
  if (!get || get(&v) != 0) return false;
  snprintf(out, 64, "CUDA %d.%d", v / 1000, v % 1000 / 10);
  return true;
}
static bool driver_version(void *handle, char out[64]) { return number_version(handle, "cuDriverGetVersion", out); }

static bool nvrtc_version(void *handle, char out[64]) {
  int a, b, (*get)(int *, int *);
  *(void **)&get = dlsym(handle, "nvrtcVersion");
  if (!get || get(&a, &b) != 0) return false;
  snprintf(out, 64, "%d.%d", a, b);
  return true;
}

static bool blas_version(void *handle, char out[64]) {
  size_t (*get)(void);
  *(void **)&get = dlsym(handle, "cublasLtGetVersion");
  if (!get) return false;
  snprintf(out, 64, "%zu", get());
  return true;
}

static const library libraries[] = {
    {"LLVM", "", "generates code", true, llvm_version},
    {"protobuf-c", "", "reads .onnx files (linked)", true, protobuf_version},
    {"zlib", "", "reads .npz files (linked)", true, zlib_version},
    {"CUDA driver", "libcuda.so.1", "NVIDIA devices (optional)", false, driver_version},
    {"NVRTC", "libnvrtc.so libnvrtc.so.13 libnvrtc.so.12", "compiles for NVIDIA devices (optional)",
     false, nvrtc_version},
    {"cuBLASLt", "libcublasLt.so libcublasLt.so.13 libcublasLt.so.12",
     "products of matrices on NVIDIA devices (optional)", false, blas_version},
};

static void *open_first(const char *files) {
  char name[64];
  for (const char *p = files; *p;) {
    size_t n = strcspn(p, " ");
    snprintf(name, sizeof name, "%.*s", (int)n, p);
    void *h = dlopen(name, RTLD_LAZY | RTLD_LOCAL);
    if (h) return h;
    p += n + (p[n] == ' ');
  }
  return NULL;
}

static void show_libraries(sd_cli *c) {
  sd_cli_say(c, "libraries\n");
  sd_str_put(&c->json, ",\"libraries\":[");
  for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++) {
    const library *l = &libraries[i];
    char version[64] = "";
    void *h = *l->files ? open_first(l->files) : dlopen(NULL, RTLD_LAZY);
    bool found = h && l->version(h, version);
    sd_cli_say(c, "  %-12s %-14s %s\n", l->name, found ? version : h && *l->files ? "found" : "not found", l->what);
    sd_strf(&c->json, "%s{\"name\":\"%s\",\"needed\":%s,\"found\":%s,\"version\":", i ? "," : "", l->name,
            l->needed ? "true" : "false", found || (h && *l->files) ? "true" : "false");
    sd_str_json(&c->json, found ? version : NULL), sd_str_put(&c->json, "}");
    // Not closed: the program ends soon, and libraries may not like to be unloaded.
    c->failed |= l->needed && !found;
  }
  sd_str_put(&c->json, "]");
}

// ---- processor ----

static void show_cpu(sd_cli *c) {
  sd_str isas = {0};
  const sd_isa *host = NULL;
  sd_cli_say(c, "processor\n  %s (%s)\n", *sd_cpu_name() ? sd_cpu_name() : "unknown", sd_cpu_arch());
  sd_str_put(&c->json, ",\"cpu\":"), sd_str_json(&c->json, sd_cpu_name());
  sd_str_put(&c->json, ",\"isa\":{");
  for (int i = 0; sd_isa_at(i); i++) {
    const char *missing = "", *name = sd_isa_at(i)->name;
    bool has = sd_cpu_has_isa(name, &missing);
    if (strcmp(sd_isa_at(i)->arch, sd_cpu_arch()) != 0)
      sd_strf(&isas, "%s%s only as target", isas.p ? ", " : "", name);
    else if (has)
      sd_strf(&isas, "%s%s", isas.p ? ", " : "", name);
    else
      sd_strf(&isas, "%sno %s (lacks %s)", isas.p ? ", " : "", name, missing);
    sd_strf(&c->json, "%s\"%s\":%s", i ? "," : "", name, has ? "true" : "false");
  }
  sard_status *st = sd_isa_host(NULL, &host);
  sd_cli_say(c, "  instruction sets: %s\n  used: %s%s\n", isas.p ? isas.p : "none",
             host ? host->name : "none: ", st ? sard_status_text(st, SARD_TEXT_MESSAGE) : "");
  sd_strf(&c->json, "},\"used_isa\":\"%s\"", host ? host->name : "");
  sard_status_free(st);
  sd_str_free(&isas);
}

static void show_system(sd_cli *c) {
  struct utsname u;
  char total[24], cache[3][24];
  int cpus = sd_cpu_count();
  uint64_t memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
  long online = sysconf(_SC_NPROCESSORS_ONLN), l1 = sysconf(_SC_LEVEL1_DCACHE_SIZE),
       l2 = sysconf(_SC_LEVEL2_CACHE_SIZE), l3 = sysconf(_SC_LEVEL3_CACHE_SIZE);
  sd_cli_say(c, "  %ld processors online, %d for this process (affinity and quota)\n", online, cpus);
  sd_cli_say(c, "  caches %s, %s, %s; memory %s\n", sd_cli_bytes((uint64_t)(l1 > 0 ? l1 : 0), cache[0]),
             sd_cli_bytes((uint64_t)(l2 > 0 ? l2 : 0), cache[1]), sd_cli_bytes((uint64_t)(l3 > 0 ? l3 : 0), cache[2]),
             sd_cli_bytes(memory, total));
  if (uname(&u) == 0) sd_cli_say(c, "  %s %s\n", u.sysname, u.release);
  sd_strf(
      &c->json,
      ",\"processors\":%ld,\"threads\":%d,\"l1_bytes\":%ld,\"l2_bytes\":%ld,\"l3_bytes\":%ld,\"memory_bytes\":%llu",
      online, cpus, l1, l2, l3, (unsigned long long)memory);
}

static sard_status *show_speed(sd_cli *c) {
  int64_t threads = 0;
  SD_TRY(sd_args_int(c, "threads", 0, 256, &threads));
  if (threads == 0) threads = sd_cpu_count();
  sd_cli_progress(c, "measuring ...");
  sd_peak one = sd_peak_measure(1), all = threads > 1 ? sd_peak_measure((int)threads) : one;
  sd_cli_progress(c, NULL);
  sd_cli_say(c, "measured\n  1 thread:  %7.1f GFLOP/s (f32), %6.1f GB/s read\n", one.gflops, one.gbs);
  if (threads > 1)
    sd_cli_say(c, "  %d threads: %7.1f GFLOP/s (f32), %6.1f GB/s read\n", (int)threads, all.gflops, all.gbs);
  sd_strf(&c->json, ",\"gflops_1\":%.3f,\"gbs_1\":%.3f,\"gflops\":%.3f,\"gbs\":%.3f", one.gflops, one.gbs, all.gflops,
          all.gbs);
  return NULL;
}

static void show_cache(sd_cli *c) {
  sd_cache_summary s;
  char used[24], limit[24];
  sd_cache_summarize(c->arena, &s);
  if (!s.path) sd_cli_say(c, "compile cache\n  off\n");
  else if (s.why) sd_cli_say(c, "compile cache\n  not usable: %s\n", s.why);
  else sd_cli_say(c, "compile cache\n  %s: %u models, %s of %s\n", s.path, s.artifacts, sd_cli_bytes(s.bytes, used), sd_cli_bytes(s.limit, limit));
  sd_str_put(&c->json, ",\"cache\":{\"folder\":"), sd_str_json(&c->json, s.path);
  sd_str_put(&c->json, ",\"why\":"), sd_str_json(&c->json, s.why);
  sd_strf(&c->json, ",\"models\":%u,\"bytes\":%llu}", s.artifacts, (unsigned long long)s.bytes);
}

sard_status *sd_verb_doctor(sd_cli *c) {
  sd_cli_say(c, "sard %s\n", SARD_VERSION_TEXT);
  show_libraries(c);
  show_cpu(c);
  show_system(c);
  show_cache(c);
  return show_speed(c);
}
