// Runs the CUDA C of ONNX's backend cases on the host: emits every kernel, compiles them as C++
// (tests/cuda/host.h), runs each launch in several orders of threads and blocks, and compares with the
// interpreter.
//
// usage: kernel_cases [-j JOBS] [-w FOLDER] [-x COMPILER] [-f FILE[:OPT]]... [-e FOLDER] [-q] [-u] [-n] [-a
// ARCH] [-m MODEL]... DIR [PREFIX...]
//        kernel_cases [-w FOLDER] [-x COMPILER] -t      does the model find the faults of
//        tests/cuda/faults.cu?
// -f: model files of the cases, and the level of the passes (default model.onnx:3 and model.onnx:0). -e:
// writes the texts of the kernels to FOLDER and ends. -q: without optimization, which takes longer than
// kernels that compute little. -k: products take that row of the table of tiles. -u: zeros that weights lack
// come back (SD_UNPACK). -o: kernels for sm_90a only. -p: f32 as tf32. -n: compiles them with NVRTC (-a: for
// one architecture, -r: for one after the other, -s: without kernels whose lines are all in others, numbers
// aside) and ends. -m: also the kernels of a model, for -e and -n. The last line is "N passed, M failed", of
// launches.
#include <dirent.h>
#include <dlfcn.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/dtype.h"
#include "tests/cuda/gather.h"
#include "tests/cuda/model.h"
#include "tests/cuda/nvrtc_all.h"
#include "tests/onnx/prefixes.h"

enum { PER_FILE = 150, MAX_FORMS = 16, SLACK = 64, MOST_BLOCKS = 3, MAX_BUFS = 80 };

typedef struct form {
  char file[200];
  int opt;
} form;
typedef struct settings {
  const char *dir, *work, *compiler, *level, *places, *texts;
  char root[4096]; // of the checkout: what host.h stands below
  form forms[MAX_FORMS];
  int n_forms, jobs;
} settings;

// ---- compiling ----
static bool write_file(const settings *s, const gathered *g, uint32_t file) {
  char path[4200];
  snprintf(path, sizeof path, "%s/kernels_%u.cc", s->work, file);
  FILE *f = fopen(path, "w");
  if (!f) return false;
  fprintf(f, "#include \"tests/cuda/host.h\"\n%s", sd_cuda_prelude);
  for (uint32_t i = file * PER_FILE; i < g->n_kernels && i < (file + 1) * PER_FILE; i++)
    fprintf(f,
            "// %s\n#define sd_kernel k%u\n#define sd_kernel_args k%u_args\n%s#undef sd_kernel\n#undef "
            "sd_kernel_args\n"
            "extern \"C\" void run_k%u(const void *words) { k%u(*(const k%u_args *)words); }\n",
            g->kernels[i].label, i, i, g->kernels[i].text, i, i, i);
  return fclose(f) == 0;
}

static pid_t start_compiler(const settings *s, const char *name) {
  char in[4200], out[4200], include[4200];
  snprintf(in, sizeof in, "%s/%s.cc", s->work, name);
  snprintf(out, sizeof out, "%s/%s.so", s->work, name);
  snprintf(include, sizeof include, "-I%s", s->root);
  pid_t pid = fork();
  if (pid) return pid;
  execlp(s->compiler, s->compiler, "-std=c++17", s->level, s->places, "-shared", "-fPIC", "-w",
         "-ffp-contract=off", "-fno-strict-aliasing", "-fno-exceptions", "-ftrivial-auto-var-init=pattern",
         include, in, "-o", out, (char *)NULL);
  perror(s->compiler);
  _exit(127);
}

static int compile_all(const settings *s, const gathered *g) {
  uint32_t files = (g->n_kernels + PER_FILE - 1) / PER_FILE, next = 0;
  int running = 0, bad = 0, status;
  while (next < files || running) {
    if (next < files && running < s->jobs) {
      if (!write_file(s, g, next)) return perror(s->work), 1;
      char name[40];
      snprintf(name, sizeof name, "kernels_%u", next++);
      start_compiler(s, name);
      running++;
      continue;
    }
    wait(&status);
    running--;
    bad += !WIFEXITED(status) || WEXITSTATUS(status);
  }
  return bad;
}

static bool load_all(const settings *s, gathered *g) {
  char path[4200], name[40];
  void *so = NULL;
  for (uint32_t i = 0; i < g->n_kernels; i++) {
    snprintf(path, sizeof path, "%s/kernels_%u.so", s->work, i / PER_FILE);
    if (i % PER_FILE == 0 && !(so = dlopen(path, RTLD_NOW | RTLD_LOCAL)))
      return fprintf(stderr, "%s\n", dlerror()), false;
    snprintf(name, sizeof name, "run_k%u", i);
    union {
      void *p;
      void (*fn)(const void *);
    } u = {dlsym(so, name)};
    if (!(g->kernels[i].entry = u.fn)) return fprintf(stderr, "%s is missing\n", name), false;
  }
  return true;
}

// ---- running ----
// Sums of f32 are made in another order than the interpreter's in f64; narrow floats round once more.
static double f32_step = 2e-5; // with tf32 the factors have 11 bits
static double step_of(sd_dtype t) {
  switch (t) {
  case SD_F64:
    return 1e-11;
  case SD_F32:
    return f32_step;
  case SD_F16:
    return 0x1p-10;
  case SD_BF16:
    return 0x1p-7;
  case SD_F8E4M3FN:
  case SD_F8E4M3FNUZ:
    return 0x1p-3;
  default:
    return 0x1p-2;
  }
}

static bool same_floats(const gathered_buf *b, sd_dtype inner, const void *got, char *text, size_t room) {
  double most = 0, step = fmax(step_of(b->dtype), inner ? step_of(inner) : 0);
  for (uint64_t i = 0; i < b->count; i++) {
    double w = fabs(sd_dtype_get_f64(b->dtype, b->data, i));
    if (w > most && isfinite(w)) most = w;
  }
  for (uint64_t i = 0; i < b->count; i++) {
    double w = sd_dtype_get_f64(b->dtype, b->data, i), g = sd_dtype_get_f64(b->dtype, got, i);
    if (isnan(w)                   ? isnan(g)
        : isinf(w) || !isfinite(g) ? g == w
                                   : fabs(g - w) <= 5 * step * fabs(w) + step * most * 0.5)
      continue;
    snprintf(text, room, "element %llu is %.9g, the interpreter has %.9g", (unsigned long long)i, g, w);
    return false;
  }
  return true;
}

static bool same(const gathered_buf *b, sd_dtype inner, const void *got, char *text, size_t room) {
  if (!b->data) return true;
  if (sd_dtype_is_float(b->dtype)) return same_floats(b, inner, got, text, room);
  for (uint64_t i = 0; i < b->count; i++) {
    int64_t w = sd_dtype_get_i64(b->dtype, b->data, i), g = sd_dtype_get_i64(b->dtype, got, i);
    if (w == g) continue;
    snprintf(text, room, "element %llu is %lld, the interpreter has %lld", (unsigned long long)i,
             (long long)g, (long long)w);
    return false;
  }
  return true;
}

typedef struct memory {
  void *bufs[MAX_BUFS], *scratch;
  uint64_t words[2 * MAX_BUFS];
  unsigned error;
} memory;

static void *fresh(uint64_t bytes, int fill) {
  char *p = malloc(bytes + SLACK);
  if (!p) abort();
  memset(p, fill, bytes + SLACK);
  return p;
}

// Parameters of a kernel as codegen/cuda/cuda.h says, with outputs and scratch memory in fresh, poisoned
// memory.
static void prepare(const gathered_launch *l, memory *m, unsigned blocks) {
  model_region regions[MAX_BUFS + 1];
  int n = 0, at = 0;
  for (int i = 0; i < l->n_bufs; i++) {
    const gathered_buf *b = &l->bufs[i];
    m->bufs[i] = b->out ? fresh(b->bytes, 0xff) : b->data;
    regions[n++] = (model_region){m->bufs[i], b->bytes, !b->out, sd_dtype_bits(b->dtype) < 8};
    m->words[at++] = (uint64_t)(uintptr_t)m->bufs[i];
  }
  for (int i = 0; i < l->n_dims; i++) m->words[at++] = (uint64_t)l->dims[i];
  m->scratch = fresh((uint64_t)l->scratch * blocks, 0xff);
  regions[n++] = (model_region){m->scratch, (uint64_t)l->scratch * blocks, false, false};
  m->words[at++] = (uint64_t)(uintptr_t)m->scratch;
  m->words[at++] = (uint64_t)(uintptr_t)&m->error;
  m->error = 0;
  model_begin(regions, n);
}

static void release(const gathered_launch *l, memory *m) {
  for (int i = 0; i < l->n_bufs; i++)
    if (l->bufs[i].out) free(m->bufs[i]);
  free(m->scratch);
}

// A launch without blocks, which the device layer leaves out: right where there is nothing to compute.
static bool is_empty(const gathered_launch *l) {
  for (int i = 0; i < l->n_bufs; i++) {
    const gathered_buf *b = &l->bufs[i];
    if (!b->out || !b->data || !b->count) continue;
    printf("FAIL %s (k%u): no blocks for %llu elements\n", l->label, l->kernel, (unsigned long long)b->count);
    return false;
  }
  return true;
}

static bool run_launch(const gathered *g, const gathered_launch *l) {
  static const char *const names[] = {"forward", "backward", "random"};
  static memory m;
  const gathered_kernel *k = &g->kernels[l->kernel];
  if (l->blocks <= 0) return is_empty(l);
  for (int o = 0; o < MODEL_ORDERS; o++) {
    unsigned most = l->blocks < MOST_BLOCKS ? (unsigned)l->blocks : MOST_BLOCKS,
             blocks = o == MODEL_BACKWARD ? 1
                      : o == MODEL_RANDOM ? most + 1
                                          : most;
    char text[500] = "";
    prepare(l, &m, blocks);
    model_launch launch = {k->entry, m.words, blocks, (unsigned)k->threads, k->alone, (model_order)o};
    const char *problem = model_run(&launch);
    if (problem) snprintf(text, sizeof text, "%s", problem);
    if (m.error) snprintf(text, sizeof text, "an index is out of range");
    for (int i = 0; !text[0] && i < l->n_bufs; i++)
      if (l->bufs[i].out) same(&l->bufs[i], l->inner, m.bufs[i], text, sizeof text);
    release(l, &m);
    if (!text[0]) continue;
    printf("FAIL %s (k%u, %s): %s\n", l->label, l->kernel, names[o], text);
    return false;
  }
  return true;
}

// Launches that are right. As many processes as jobs share them; those of one that ends early are not.
static uint32_t run_all(const settings *s, const gathered *g) {
  atomic_uint *passed =
      mmap(NULL, 2 * sizeof *passed, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (passed == MAP_FAILED) return perror("mmap"), 0;
  atomic_uint *next = passed + 1;
  setvbuf(stdout, NULL, _IOLBF, 0);
  for (int j = 0; j < s->jobs; j++) {
    if (fork()) continue;
    for (uint32_t i; (i = atomic_fetch_add(next, 1)) < g->n_launches;)
      *passed += run_launch(g, &g->launches[i]);
    fflush(stdout);
    _exit(0);
  }
  for (int j = 0, status; j < s->jobs; j++)
    if (wait(&status) > 0 && status) printf("FAIL a process that runs launches ended with %d\n", status);
  return *passed;
}

// ---- faults ----
typedef struct fault {
  const char *name, *complaint;
  void (*entry)(const void *words);
} fault;

static bool finds(const fault *t, model_order order) {
  float out[64];
  unsigned error = 0;
  uint64_t words[2] = {(uint64_t)(uintptr_t)out, (uint64_t)(uintptr_t)&error};
  model_begin(&(model_region){out, sizeof out, false, false}, 1);
  const char *problem = model_run(&(model_launch){t->entry, words, 1, 64, false, order});
  bool ok = *t->complaint ? problem && strstr(problem, t->complaint) : !problem;
  if (!ok)
    printf("FAIL %s: expected '%s', the model says '%s'\n", t->name, t->complaint, problem ? problem : "");
  return ok;
}

static int find_faults(const settings *s) {
  char path[4200];
  int status, passed = 0, failed = 0;
  snprintf(path, sizeof path, "%s/faults.cc", s->work);
  FILE *f = fopen(path, "w");
  if (!f) return perror(path), 2;
  fprintf(f,
          "#include \"tests/cuda/host.h\"\n%s"
          "struct fault { const char *name, *complaint; void (*entry)(const void *words); };\n"
          "static fault all[64];\nstatic int n_all;\nextern \"C\" const fault *faults(int *n) { *n = n_all; "
          "return all; }\n"
          "#define FAULT(name, complaint) static void name(const struct sd_fault_args A); "
          "static void run_##name(const void *words) { name(*(const sd_fault_args *)words); } "
          "static int n_##name = (all[n_all] = fault{#name, complaint, run_##name}, n_all++); static void "
          "name(const sd_fault_args A) {\n"
          "#define END }\n#include \"tests/cuda/faults.cu\"\n",
          sd_cuda_prelude);
  fclose(f);
  start_compiler(s, "faults");
  wait(&status);
  snprintf(path, sizeof path, "%s/faults.so", s->work);
  void *so = status ? NULL : dlopen(path, RTLD_NOW | RTLD_LOCAL);
  union {
    void *p;
    const fault *(*fn)(int *n);
  } u = {so ? dlsym(so, "faults") : NULL};
  if (!u.p) return printf("FAIL faults.cu does not compile\n0 passed, 1 failed\n"), 1;
  int n = 0;
  const fault *all = u.fn(&n);
  for (int i = 0; i < n; i++)
    for (int o = 0; o < MODEL_ORDERS; o++) *(finds(&all[i], (model_order)o) ? &passed : &failed) += 1;
  printf("%d passed, %d failed\n", passed, failed);
  return failed != 0;
}

// ---- the whole ----
static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int gather_all(const settings *s, gathered *g) {
  struct dirent **cases;
  sard_context *ctx = NULL;
  int n = scandir(s->dir, &cases, is_wanted, alphasort);
  sard_status *st = sard_context_new(NULL, &ctx);
  if (n <= 0 || st) return fprintf(stderr, "kernel_cases: no cases in %s\n", s->dir), 2;
  for (int i = 0; i < n; i++) {
    char folder[4096];
    snprintf(folder, sizeof folder, "%s/%s", s->dir, cases[i]->d_name);
    for (int f = 0; f < s->n_forms; f++) gather_case(g, ctx, folder, s->forms[f].file, s->forms[f].opt);
  }
  sard_context_free(ctx);
  return 0;
}

static int write_texts(const settings *s, const gathered *g) {
  for (uint32_t i = 0; i < g->n_kernels; i++) {
    char path[4200];
    snprintf(path, sizeof path, "%s/%05u.cu", s->texts, i);
    FILE *f = fopen(path, "w");
    if (!f) return perror(path), 2;
    fprintf(f, "// %s\n%s", g->kernels[i].label, g->kernels[i].text);
    fclose(f);
  }
  printf("%u kernels\n", g->n_kernels);
  return 0;
}

static void add_form(settings *s, const char *text) {
  if (s->n_forms == MAX_FORMS) return;
  form *f = &s->forms[s->n_forms++];
  snprintf(f->file, sizeof f->file, "%s", text);
  char *colon = strchr(f->file, ':');
  f->opt = colon ? atoi(colon + 1) : 3;
  if (colon) *colon = 0;
}

int main(int argc, char **argv) {
  settings s = {.work = "/tmp", .compiler = "g++", .level = "-Og", .places = "-USD_UNPACK", .jobs = 2};
  gathered g = {0};
  bool faults = false, nvrtc = false, turns = false, alike = false;
  int arch = 0;
  for (int c; (c = getopt(argc, argv, "j:w:x:f:e:tnrsqum:a:k:po")) != -1;) {
    if (c == 'j') s.jobs = atoi(optarg);
    else if (c == 'w')
      s.work = optarg;
    else if (c == 'x')
      s.compiler = optarg;
    else if (c == 'f')
      add_form(&s, optarg);
    else if (c == 'e')
      s.texts = optarg;
    else if (c == 't')
      faults = true;
    else if (c == 'q')
      s.level = "-O0";
    else if (c == 'u')
      s.places = "-DSD_UNPACK";
    else if (c == 'n')
      nvrtc = true;
    else if (c == 'r')
      turns = true;
    else if (c == 's')
      alike = true;
    else if (c == 'a')
      arch = atoi(optarg);
    else if (c == 'k')
      g.options.tile = atoi(optarg);
    else if (c == 'o')
      g.options.wide = true;
    else if (c == 'p')
      g.options.tf32 = true, f32_step = 0x1p-9;
    else if (c == 'm')
      gather_model(&g, optarg);
    else
      return 2;
  }
  if ((optind >= argc && !faults) || s.jobs < 1)
    return fprintf(stderr, "usage: kernel_cases [-j JOBS] [-w FOLDER] [-x COMPILER] [-f FILE[:OPT]]... [-e "
                           "FOLDER] [-t] DIR [PREFIX...]\n"),
           2;
  if (!s.n_forms) add_form(&s, "model.onnx:3"), add_form(&s, "model.onnx:0");
  if (!getcwd(s.root, sizeof s.root)) return perror("getcwd"), 2;
  if (faults) return find_faults(&s);
  s.dir = argv[optind], prefixes = argv + optind + 1;
  double t0 = now();
  if (gather_all(&s, &g)) return 2;
  if (s.texts) return write_texts(&s, &g);
  if (alike) printf("%u kernels have no line of their own\n", gather_drop_alike(&g)), fflush(stdout);
  if (nvrtc) return compile_with_nvrtc(&g, s.jobs, arch, turns);
  double t1 = now();
  int bad = compile_all(&s, &g);
  if (bad || !load_all(&s, &g))
    return printf("FAIL %d files of kernels do not compile as C++\n0 passed, 1 failed\n", bad), 1;
  double t2 = now();
  uint32_t passed = run_all(&s, &g), failed = g.failed + g.n_launches - passed;
  printf("%u kernels, %u launches, %u left out; gathered in %.0f s, compiled in %.0f s, run in %.0f s\n",
         g.n_kernels, g.n_launches, g.left_out, t1 - t0, t2 - t1, now() - t2);
  printf("%u passed, %u failed\n", passed, failed);
  return failed != 0;
}
