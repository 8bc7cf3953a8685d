// Modules: their image is CUDA C (null.h), compiled as C++ and kept by hash; launches.
#include "tests/cuda/null/null.h"

#include <dlfcn.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/cuda/model.h"

extern char **environ;
enum { MOST_THREADS = 1024, MOST_STATIC = 48 << 10, ATTRIBUTE_DYNAMIC = 8 };

typedef struct module {
  null_object object;
  void *so;
} module;

// ---- images ----
typedef struct image {
  bool ptx;
  int arch, toolkit;
  const char *text;
} image;

static int read_image(const char *p, image *out) {
  bool cubin = strncmp(p, NULL_CUBIN, strlen(NULL_CUBIN)) == 0;
  out->ptx = strncmp(p, NULL_PTX, strlen(NULL_PTX)) == 0;
  const char *numbers = cubin ? p + strlen(NULL_CUBIN) : p + strlen(NULL_PTX);
  if ((!cubin && !out->ptx) || sscanf(numbers, "%d %d", &out->arch, &out->toolkit) != 2 || !strchr(p, '\n'))
    return INVALID_IMAGE;
  out->text = strchr(p, '\n') + 1;
  if (cubin && (out->arch / 10 != null_set.cc / 10 || out->arch % 10 > null_set.cc % 10)) return NO_BINARY;
  if (cubin && out->toolkit / 1000 > null_set.version / 1000) return NO_BINARY;
  if (out->ptx && out->arch > null_set.cc) return NO_BINARY;
  return out->ptx && out->toolkit > null_set.version ? UNSUPPORTED_PTX : OK;
}

// For each kernel what a launch has to know; kernels stand between #define sd_kernel NAME and the next one.
static void write_tables(FILE *f, const char *text) {
  static const char mark[] = "#define sd_kernel ";
  for (const char *p = strstr(text, mark), *next; p; p = next) {
    char name[64] = "";
    sscanf(p + strlen(mark), "%63[A-Za-z0-9_]", name);
    next = strstr(p + 1, mark);
    size_t n = next ? (size_t)(next - p) : strlen(p);
    char *part = strndup(p, n), *bounds = strstr(part, "__launch_bounds__(");
    static const char *const together[] = {"sync", "_reduce", "shuffle", "shfl", "mma", "matrix", "lane(", "_cp", "sd_scan<"};
    bool waits = false; // too often is slow, too seldom is an error of the model
    for (size_t i = 0; i < sizeof together / sizeof *together; i++) waits |= strstr(part, together[i]) != NULL;
    fprintf(f,
            "extern \"C\" void run_%s(const void *words) { %s(*(const %s_args *)words); }\n"
            "extern \"C\" { extern const unsigned facts_%s[3] = {sizeof(%s_args), %u, %d}; }\n",
            name, name, name, name, name, bounds ? (unsigned)atoi(bounds + 18) : 0u, !waits);
    free(part);
  }
}

static uint64_t hash(uint64_t h, const char *text) {
  for (; *text; text++) h = (h ^ (uint8_t)*text) * 1099511628211ull;
  return h;
}

static uint64_t hash_file(uint64_t h, const char *path) {
  char line[4096];
  FILE *f = fopen(path, "r");
  while (f && fgets(line, sizeof line, f)) h = hash(h, line);
  if (f) fclose(f);
  return h;
}

static const char *const compiler[] = {"g++",
                                       "-std=c++17",
                                       "-Og",
                                       "-shared",
                                       "-fPIC",
                                       "-w",
                                       "-ffp-contract=off",
                                       "-fno-strict-aliasing",
                                       "-fno-exceptions",
                                       "-ftrivial-auto-var-init=pattern",
                                       "-I" SARD_SOURCE};
enum { N_COMPILER = sizeof compiler / sizeof *compiler };

static bool compile(const char *in, const char *out) {
  const char *argv[N_COMPILER + 4];
  memcpy(argv, compiler, sizeof compiler);
  memcpy(argv + N_COMPILER, (const char *[]){in, "-o", out, NULL}, 4 * sizeof *argv);
  pid_t pid;
  int status = 1;
  if (posix_spawnp(&pid, argv[0], NULL, NULL, (char **)(uintptr_t)argv, environ) != 0) return false;
  return waitpid(pid, &status, 0) == pid && status == 0;
}

// What the compiler is given, owned by the caller.
static char *program_of(const image *i) {
  char *text = NULL;
  size_t n;
  FILE *f = open_memstream(&text, &n);
  if (!f) abort();
  fprintf(f, "#include \"tests/cuda/host.h\"\n%s", i->text);
  write_tables(f, i->text);
  fclose(f);
  return text;
}

// Everything that the compiled program depends on, but for the compiler itself.
static uint64_t key_of(const char *program) {
  static const char *const headers[] = {"host.h", "host_mma.h", "host_wgmma.h", "model.h"};
  char path[1100];
  uint64_t h = hash(14695981039346656037ull, program);
  for (int k = 0; k < N_COMPILER; k++) h = hash(h, compiler[k]);
  for (size_t k = 0; k < sizeof headers / sizeof *headers; k++) {
    snprintf(path, sizeof path, SARD_SOURCE "/tests/cuda/%s", headers[k]);
    h = hash_file(h, path);
  }
  return h;
}

static bool make_library(const char *program, const char *folder, uint64_t key, const char *path) {
  char in[1100], made[1100];
  snprintf(in, sizeof in, "%s/%016llx.%d.cc", folder, (unsigned long long)key, (int)getpid());
  snprintf(made, sizeof made, "%s/%016llx.%d.so", folder, (unsigned long long)key, (int)getpid());
  FILE *f = fopen(in, "w");
  if (!f) return null_finding("%s cannot be written", in), false;
  fputs(program, f);
  fclose(f);
  bool ok = compile(in, made) && rename(made, path) == 0;
  if (ok) unlink(in);
  else
    null_finding("%s does not compile", in);
  return ok;
}

// Path of the compiled program: an old one, or made now. Two processes may make it at once.
static bool library_of(const image *i, char *path, size_t room) {
  const char *folder = getenv("SARD_NULL_CACHE");
  if (!folder || !*folder) folder = SARD_NULL_FOLDER;
  mkdir(folder, 0777);
  char *program = program_of(i);
  uint64_t key = key_of(program);
  snprintf(path, room, "%s/%016llx.so", folder, (unsigned long long)key);
  bool ok = access(path, R_OK) == 0 || make_library(program, folder, key, path);
  free(program);
  return ok;
}

// What kernels call is in this library: they have to find it.
static void show_symbols(void) {
  static bool shown;
  Dl_info here;
  if (!shown && dladdr((void *)(uintptr_t)show_symbols, &here))
    shown = dlopen(here.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_GLOBAL) != NULL;
}

static int load(const void *data, module **out) {
  image i;
  char path[1100];
  int rc = read_image(data, &i);
  if (rc) return rc;
  if (!library_of(&i, path, sizeof path)) return INVALID_PTX;
  show_symbols();
  void *so = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!so) return null_finding("%s", dlerror()), INVALID_IMAGE;
  module *m = null_object_new(MODULE, sizeof *m);
  m->so = so;
  *out = m;
  return OK;
}

int null_module_load(void **out, const void *data, unsigned n, int *options, void **values) {
  int rc = null_enter(N_module_load, IN_CONTEXT | NOT_IN_CAPTURE, NULL, "image, %u", n);
  module *m = NULL;
  (void)options, (void)values;
  if (!rc) rc = load(data, &m);
  if (!rc) *out = m;
  return null_leave(rc);
}

int null_module_unload(void *handle) {
  int rc = null_enter(N_module_unload, IN_CONTEXT | NOT_IN_CAPTURE, NULL, "module");
  module *m = null_object_find(handle, MODULE);
  if (m && !rc) {
    work_finish(); // kernels of it may be queued
    dlclose(m->so);
  }
  if (m) null_object_drop(&m->object);
  return null_leave(rc ? rc : m ? OK : INVALID_HANDLE);
}

int null_module_function(void **out, void *handle, const char *name) {
  int rc = null_enter(N_module_function, IN_CONTEXT, NULL, "module, %s", name);
  module *m = rc ? NULL : null_object_find(handle, MODULE);
  char symbol[100];
  if (rc || !m) return null_leave(rc ? rc : INVALID_HANDLE);
  snprintf(symbol, sizeof symbol, "run_%s", name);
  union {
    void *p;
    void (*fn)(const void *);
  } run = {dlsym(m->so, symbol)};
  snprintf(symbol, sizeof symbol, "facts_%s", name);
  const unsigned *facts = dlsym(m->so, symbol);
  if (!run.p || !facts) return null_leave(NOT_FOUND);
  null_function *f = null_object_new(FUNCTION, sizeof *f);
  snprintf(f->name, sizeof f->name, "%s", name);
  f->module = &m->object, f->run = run.fn;
  f->word_bytes = facts[0], f->most_threads = facts[1] ? facts[1] : MOST_THREADS, f->alone = facts[2] != 0;
  *out = f;
  return null_leave(OK);
}

int null_function_set(void *function, int attribute, int value) {
  int rc = null_enter(N_function_set, IN_CONTEXT, NULL, "function, %d, %d", attribute, value);
  null_function *f = rc ? NULL : null_object_find(function, FUNCTION);
  if (rc || !f) return null_leave(rc ? rc : INVALID_HANDLE);
  if (attribute != ATTRIBUTE_DYNAMIC) return null_leave(OK); // the others are hints
  if (value < 0 || value > 232448) return null_leave(INVALID_VALUE);
  f->shared = (unsigned)value;
  return null_leave(OK);
}

// ---- launches ----
static int check_launch(const null_function *f, unsigned bx, unsigned others, unsigned tx, unsigned shared) {
  if (f->module->dead) return null_finding("%s is launched after its module is unloaded", f->name), INVALID_HANDLE;
  if (f->object.device != null_device())
    return null_finding("%s is launched on another device than it is loaded on", f->name), INVALID_HANDLE;
  if (others != 1)
    return null_finding("%s is launched with more than one dimension, which this driver cannot do", f->name),
           INVALID_VALUE;
  if (bx == 0 || bx > 0x7fffffffu || tx == 0 || tx > f->most_threads)
    return null_finding("%s is launched with %u blocks of %u threads (most: %u)", f->name, bx, tx, f->most_threads),
           INVALID_VALUE;
  if (shared <= MOST_STATIC || shared <= f->shared) return OK;
  return null_finding("%s is launched with %u bytes of shared memory, allowed are %u", f->name, shared, f->shared),
         INVALID_VALUE;
}

int null_launch(void *function, unsigned bx, unsigned by, unsigned bz, unsigned tx, unsigned ty, unsigned tz,
                unsigned shared, void *stream, void **params, void **extra) {
  int rc = null_enter(N_launch, IN_CONTEXT, stream, "%s, %u, %u, %u", function ? ((null_function *)function)->name : "",
                      bx, tx, shared);
  null_function *f = rc ? NULL : null_object_find(function, FUNCTION);
  if (rc || !f) return null_leave(rc ? rc : INVALID_HANDLE);
  rc = check_launch(f, bx, by * bz * ty * tz, tx, shared);
  if (extra || !params) rc = INVALID_VALUE, null_finding("%s is launched without an array of parameters", f->name);
  if (rc) return null_leave(rc);
  null_work w = {
      .kind = LAUNCH, .blocks = bx, .threads = tx, .shared = shared, .function = f, .word_bytes = f->word_bytes};
  if (!(w.words = malloc(w.word_bytes + 1))) abort();
  memcpy(w.words, params[0], w.word_bytes);
  return null_leave(work_add(stream, w));
}

const char *code_run(const null_work *w) {
  model_launch l = {.kernel = w->function->run,
                    .words = w->words,
                    .blocks = w->blocks,
                    .threads = w->threads,
                    .alone = w->function->alone,
                    .order = (model_order)(w->id % MODEL_ORDERS)};
  model_begin(NULL, 0);
  model_use(memory_kernel_access);
  return model_run(&l);
}
