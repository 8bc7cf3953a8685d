// A stand-in for cuBLASLt on the null driver: products are queued in streams and computed on the host as
// their descriptors say. A descriptor that cuBLASLt would refuse, or that nobody destroys, is a finding.
//
// Environment: SARD_NULL_CUBLASLT_FAIL=cublasLtMatmul:3:14,...   the third call gives error 14
//              SARD_NULL_CUBLASLT_VERSION=130100                 SARD_NULL_CUBLASLT_COUNTS=file: calls of
//              each entry, at the end SARD_NULL_CUBLASLT_US=0                           microseconds that a
//              product takes in the eyes of events
#include <stdarg.h>

#include "runtime/base/half.h"
#include "runtime/cuda/cublaslt.h"
#include "tests/cuda/null/null.h"
#include "tests/cuda/null/stand_in.h"

enum {
  NOT_INITIALIZED_LT = 1,
  INVALID = 7,
  EXECUTION_FAILED = 13,
  NOT_SUPPORTED = 15,
  ATTRIBUTES = 40,
  ALGORITHMS = 2,
  WORKSPACE_NEEDED = 4096
};
static const uint64_t algo_mark = 0x5a5d1ab1e;

typedef enum kind { HANDLE = 0x4c01, DESC, LAYOUT, WISH, ENDED } kind;
typedef struct object {
  kind kind;
  int type, scale; // of a DESC: what it computes in; of a LAYOUT: its elements
  uint64_t rows, columns;
  int64_t step;
  uint64_t value[ATTRIBUTES];
} object;

static long live;

static int called(const char *name) { return stand_in_called(name, "SARD_NULL_CUBLASLT_FAIL"); }

static long setting(const char *name, long or_else) {
  const char *text = getenv(name);
  return text && *text ? atol(text) : or_else;
}

__attribute__((format(printf, 1, 2))) static int refuse(const char *fmt, ...) {
  char text[300] = "cuBLASLt: ";
  void (*complain)(const char *what);
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(text + strlen(text), sizeof text - strlen(text), fmt, ap);
  va_end(ap);
  *(void **)&complain = stand_in_driver("null_complain");
  if (complain) complain(text);
  return INVALID;
}

static __attribute__((destructor)) void end(void) {
  stand_in_counts("SARD_NULL_CUBLASLT_COUNTS");
  if (live) refuse("%ld handles and descriptors are not destroyed", live), fflush(NULL), _Exit(88);
}

static int make(const char *name, kind kind, void **out) {
  int rc = called(name);
  *out = NULL;
  object *o = rc ? NULL : calloc(1, sizeof *o);
  if (!o) return rc ? rc : 3;
  o->kind = kind, *out = o;
  __atomic_add_fetch(&live, 1, __ATOMIC_SEQ_CST);
  return 0;
}

static object *as(void *p, kind kind) {
  object *o = p;
  if (o && o->kind == kind) return o;
  refuse("%p is not of kind %d", p, (int)kind);
  return NULL;
}

// What is destroyed stays, so that its use is found.
static int drop(const char *name, void *p, kind kind) {
  object *o = as(p, kind);
  if (!o) return INVALID;
  o->kind = ENDED;
  __atomic_add_fetch(&live, -1, __ATOMIC_SEQ_CST);
  return called(name);
}

static int set(const char *name, object *o, const size_t *sizes, int attribute, const void *value,
               size_t bytes) {
  int rc = called(name);
  if (rc || !o) return rc ? rc : INVALID;
  if (attribute < 0 || attribute >= ATTRIBUTES || !sizes[attribute])
    return refuse("attribute %d of %s", attribute, name);
  if (bytes != sizes[attribute])
    return refuse("attribute %d of %s has %zu bytes, not %zu", attribute, name, sizes[attribute], bytes);
  memcpy(&o->value[attribute], value, bytes);
  return 0;
}

size_t cublasLtGetVersion(void) { return (size_t)setting("SARD_NULL_CUBLASLT_VERSION", 130100); }
int cublasLtCreate(void **out) { return make("cublasLtCreate", HANDLE, out); }
int cublasLtDestroy(void *p) { return drop("cublasLtDestroy", p, HANDLE); }

int cublasLtMatmulDescCreate(void **out, int compute, int scale) {
  int rc = make("cublasLtMatmulDescCreate", DESC, out);
  if (rc) return rc;
  object *o = *out;
  o->type = compute, o->scale = scale, o->value[SD_LT_EPILOGUE] = 1, o->value[SD_LT_BIAS_TYPE] = UINT32_MAX;
  return 0;
}
int cublasLtMatmulDescSetAttribute(void *p, int attribute, const void *value, size_t bytes) {
  static const size_t sizes[ATTRIBUTES] = {
      [SD_LT_TRANSPOSE_A] = 4, [SD_LT_TRANSPOSE_B] = 4, [SD_LT_EPILOGUE] = 4,
      [SD_LT_BIAS_AT] = 8,     [SD_LT_BIAS_STEP] = 8,   [SD_LT_BIAS_TYPE] = 4};
  return set("cublasLtMatmulDescSetAttribute", as(p, DESC), sizes, attribute, value, bytes);
}
int cublasLtMatmulDescDestroy(void *p) { return drop("cublasLtMatmulDescDestroy", p, DESC); }

int cublasLtMatrixLayoutCreate(void **out, int type, uint64_t rows, uint64_t columns, int64_t step) {
  int rc = make("cublasLtMatrixLayoutCreate", LAYOUT, out);
  if (rc) return rc;
  object *o = *out;
  o->type = type, o->rows = rows, o->columns = columns, o->step = step, o->value[SD_LT_PRODUCTS] = 1;
  return 0;
}
int cublasLtMatrixLayoutSetAttribute(void *p, int attribute, const void *value, size_t bytes) {
  static const size_t sizes[ATTRIBUTES] = {[SD_LT_PRODUCTS] = 4, [SD_LT_PRODUCT_STEP] = 8};
  return set("cublasLtMatrixLayoutSetAttribute", as(p, LAYOUT), sizes, attribute, value, bytes);
}
int cublasLtMatrixLayoutDestroy(void *p) { return drop("cublasLtMatrixLayoutDestroy", p, LAYOUT); }

int cublasLtMatmulPreferenceCreate(void **out) { return make("cublasLtMatmulPreferenceCreate", WISH, out); }
int cublasLtMatmulPreferenceSetAttribute(void *p, int attribute, const void *value, size_t bytes) {
  static const size_t sizes[ATTRIBUTES] = {
      [SD_LT_WORKSPACE] = 8, [SD_LT_REDUCTION] = 4, [5] = 4, [6] = 4, [7] = 4, [8] = 4};
  return set("cublasLtMatmulPreferenceSetAttribute", as(p, WISH), sizes, attribute, value, bytes);
}
int cublasLtMatmulPreferenceDestroy(void *p) { return drop("cublasLtMatmulPreferenceDestroy", p, WISH); }

// ---- products ----

static uint64_t size_of(int type) { return type == 0 ? 4 : 2; }

enum { A, B, C, D };
// A product as it is queued, with all that its descriptors said.
typedef struct product {
  null_call call;
  object desc, m[4]; // of A, B, C, D
  float scale, beta;
  uint64_t at[4], bias;
} product;

static bool fits(const object *l) {
  bool known = l->type == 0 || l->type == 2 || l->type == 14;
  return known && l->rows && l->columns && l->step >= (int64_t)l->rows &&
         (int32_t)l->value[SD_LT_PRODUCTS] > 0;
}

// What cuBLASLt multiplies; 0 or a status.
static int check(const product *p) {
  bool turn_a = p->desc.value[SD_LT_TRANSPOSE_A], turn_b = p->desc.value[SD_LT_TRANSPOSE_B];
  uint64_t m = turn_a ? p->m[A].columns : p->m[A].rows, k = turn_a ? p->m[A].rows : p->m[A].columns;
  uint64_t k_b = turn_b ? p->m[B].columns : p->m[B].rows, n = turn_b ? p->m[B].rows : p->m[B].columns;
  if (!fits(&p->m[A]) || !fits(&p->m[B]) || !fits(&p->m[C]) || !fits(&p->m[D]))
    return refuse("a matrix of impossible sizes");
  if (k != k_b || p->m[D].rows != m || p->m[D].columns != n || p->m[C].rows != m || p->m[C].columns != n)
    return refuse("matrices that do not go together");
  for (int i = 0; i < 3; i++)
    if (p->m[i].value[SD_LT_PRODUCTS] != p->m[D].value[SD_LT_PRODUCTS])
      return refuse("numbers of products that differ");
  bool types = p->m[A].type == p->m[B].type && p->m[C].type == p->m[D].type &&
               (p->m[D].type == p->m[A].type || p->m[D].type == 0);
  bool computes =
      p->desc.scale == 0 && p->desc.type == (p->m[A].type == 0 ? SD_LT_COMPUTE_TF32 : SD_LT_COMPUTE_F32);
  if (!types || !computes)
    return refuse("types %d, %d, %d, %d", p->m[A].type, p->m[B].type, p->m[C].type, p->m[D].type);
  uint64_t e = p->desc.value[SD_LT_EPILOGUE], known = SD_LT_RELU | SD_LT_BIAS;
  if (e != 1 && (e == 0 || e & ~known)) return refuse("epilogue %llu", (unsigned long long)e);
  if (e & SD_LT_BIAS && (!p->bias || (int)p->desc.value[SD_LT_BIAS_TYPE] != p->m[D].type))
    return refuse("a bias of type %d", (int)p->desc.value[SD_LT_BIAS_TYPE]);
  return 0;
}

static int fill(product *p, void *desc, void *a, void *b, void *c, void *d) {
  const object *of[] = {as(desc, DESC), as(a, LAYOUT), as(b, LAYOUT), as(c, LAYOUT), as(d, LAYOUT)};
  for (int i = 0; i < 5; i++)
    if (!of[i]) return INVALID;
  *p = (product){.desc = *of[0], .m = {*of[1], *of[2], *of[3], *of[4]}, .bias = of[0]->value[SD_LT_BIAS_AT]};
  return check(p);
}

int cublasLtMatmulAlgoGetHeuristic(void *handle, void *desc, void *a, void *b, void *c, void *d, void *wish,
                                   int most, sd_lt_proposal *out, int *n) {
  int rc = called("cublasLtMatmulAlgoGetHeuristic");
  product p;
  const object *w = as(wish, WISH);
  *n = 0;
  if (rc || !as(handle, HANDLE) || !w) return rc ? rc : INVALID;
  if ((rc = fill(&p, desc, a, b, c, d)) != 0) return rc;
  if (w->value[SD_LT_REDUCTION] != SD_LT_IN_F32) return refuse("sums that may be joined in f16");
  for (uint64_t i = 0; i < ALGORITHMS && *n < most; i++) {
    size_t workspace = i == 0 ? WORKSPACE_NEEDED : 0;
    if (workspace <= w->value[SD_LT_WORKSPACE])
      out[(*n)++] = (sd_lt_proposal){.algo = {{algo_mark, i}}, .workspace = workspace};
  }
  return *n ? 0 : NOT_SUPPORTED;
}

static float get(uint64_t at, int type, int64_t i) {
  if (type == 0) return ((const float *)at)[i];
  uint16_t v = ((const uint16_t *)at)[i];
  return type == 2 ? sd_f16_to_f32(v) : sd_bf16_to_f32(v);
}

static void put(uint64_t at, int type, int64_t i, float v) {
  if (type == 0) ((float *)at)[i] = v;
  else
    ((uint16_t *)at)[i] = type == 2 ? sd_f32_to_f16(v) : sd_f32_to_bf16(v);
}

static float factor(uint64_t at, int type, int64_t i) {
  float v = get(at, type, i);
  uint32_t bits;
  if (type != 0) return v;
  memcpy(&bits, &v, sizeof v);
  bits &= ~0x1fffu; // TF32
  memcpy(&v, &bits, sizeof v);
  return v;
}

static void multiply(const product *p, int64_t which) {
  bool turn_a = p->desc.value[SD_LT_TRANSPOSE_A], turn_b = p->desc.value[SD_LT_TRANSPOSE_B];
  uint64_t epilogue = p->desc.value[SD_LT_EPILOGUE], k = turn_a ? p->m[A].rows : p->m[A].columns;
  int64_t first[4];
  for (int i = A; i <= D; i++) first[i] = which * (int64_t)p->m[i].value[SD_LT_PRODUCT_STEP];
  for (uint64_t j = 0; j < p->m[D].columns; j++)
    for (uint64_t i = 0; i < p->m[D].rows; i++) {
      float sum = 0;
      for (uint64_t q = 0; q < k; q++) {
        uint64_t x = turn_a ? q + i * (uint64_t)p->m[A].step : i + q * (uint64_t)p->m[A].step;
        uint64_t y = turn_b ? j + q * (uint64_t)p->m[B].step : q + j * (uint64_t)p->m[B].step;
        sum += factor(p->at[A], p->m[A].type, first[A] + (int64_t)x) *
               factor(p->at[B], p->m[B].type, first[B] + (int64_t)y);
      }
      float v = p->scale * sum;
      if (p->beta != 0)
        v += p->beta * get(p->at[C], p->m[C].type, first[C] + (int64_t)(i + j * (uint64_t)p->m[C].step));
      if (epilogue & SD_LT_BIAS)
        v += get(p->bias, p->m[D].type, which * (int64_t)p->desc.value[SD_LT_BIAS_STEP] + (int64_t)i);
      if (epilogue & SD_LT_RELU && v < 0) v = 0;
      put(p->at[D], p->m[D].type, first[D] + (int64_t)(i + j * (uint64_t)p->m[D].step), v);
    }
}

static void run(const null_call *c) {
  const product *p = (const product *)c;
  for (int64_t i = 0; i < (int32_t)p->m[D].value[SD_LT_PRODUCTS]; i++) multiply(p, i);
}

static void use(product *p, int i, uint64_t at, const object *l, bool write) {
  uint64_t last = (l->value[SD_LT_PRODUCTS] - 1) * l->value[SD_LT_PRODUCT_STEP] +
                  (l->columns - 1) * (uint64_t)l->step + l->rows;
  p->at[i] = at;
  p->call.uses[i].at = at, p->call.uses[i].bytes = last * size_of(l->type), p->call.uses[i].write = write;
}

int cublasLtMatmul(void *handle, void *desc, const void *alpha, const void *a_at, void *a, const void *b_at,
                   void *b, const void *beta, const void *c_at, void *c, void *d_at, void *d,
                   const sd_lt_algo *algo, void *workspace, size_t workspace_bytes, void *stream) {
  static uint64_t seen[ALGORITHMS];
  int (*call)(const null_call *c, uint64_t bytes, void *stream);
  int rc = called("cublasLtMatmul");
  product p;
  if (rc || !as(handle, HANDLE)) return rc ? rc : INVALID;
  if ((rc = fill(&p, desc, a, b, c, d)) != 0) return rc;
  if (!algo || algo->data[0] != algo_mark || algo->data[1] >= ALGORITHMS)
    return refuse("an algorithm that it did not propose");
  bool works = algo->data[1] == 0;
  if (works && (!workspace || workspace_bytes < WORKSPACE_NEEDED))
    return refuse("a workspace of %zu bytes", workspace_bytes);
  memcpy(&p.scale, alpha, sizeof p.scale), memcpy(&p.beta, beta, sizeof p.beta);
  const void *at[] = {a_at, b_at, c_at, d_at};
  for (int i = A; i <= D; i++) use(&p, i, (uint64_t)(uintptr_t)at[i], &p.m[i], i == D);
  if (p.beta == 0) p.call.uses[C].bytes = 0;
  bool biased = p.desc.value[SD_LT_EPILOGUE] & SD_LT_BIAS;
  p.call.uses[4].at = p.bias,
  p.call.uses[4].bytes =
      biased ? (p.m[D].rows + (p.m[D].value[SD_LT_PRODUCTS] - 1) * p.desc.value[SD_LT_BIAS_STEP]) *
                   size_of(p.m[D].type)
             : 0;
  p.call.uses[5].at = (uint64_t)(uintptr_t)workspace, p.call.uses[5].bytes = works ? WORKSPACE_NEEDED : 0,
  p.call.uses[5].write = true;
  p.call.run = run, p.call.name = "cublasLtMatmul",
  p.call.seems_ns = setting("SARD_NULL_CUBLASLT_US", 0) * 1000;
  p.call.first = !__atomic_exchange_n(&seen[algo->data[1]], 1, __ATOMIC_SEQ_CST);
  *(void **)&call = stand_in_driver("null_call_in");
  return call && call(&p.call, sizeof p, stream) == 0 ? 0 : EXECUTION_FAILED;
}
