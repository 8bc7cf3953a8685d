#include "runtime/cuda/products.h"

#include <stdio.h>
#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/cuda/session.h"

// Products below LEAST_FLOPS are no work for a GPU, and no reason to load a library; more than MOST_CHOICES
// sizes are not told apart.
enum { LEAST_FLOPS = 1 << 24, MOST_CHOICES = 512, MOST_ALIGN = 16, PROPOSALS = 4 };
// Launches are timed in rounds, so many at once that they take ROUND_NS; a launch that takes LONG_NS needs no
// other round.
enum { ROUNDS = 3, MOST_REPEATS = 16, ROUND_NS = 300000, LONG_NS = 5000000 };

static const char *const modes[] = {"auto", "no", "always"};
enum { N_MODES = sizeof modes / sizeof *modes };

sard_status *sd_cu_library_read(const char *text, sd_cu_library *out) {
  *out = SD_CU_LIBRARY_AUTO;
  for (int i = 0; text && i < N_MODES; i++)
    if (strcmp(text, modes[i]) == 0) return *out = (sd_cu_library)i, NULL;
  return text ? SD_ERR(USAGE, "there is no library '%s' (known: auto, no, always)", text) : NULL;
}

const char *sd_cu_library_name(sd_cu_library mode) { return modes[mode]; }

static bool is_there(const sard_art_operand *o) { return o->buf != SARD_ART_NONE; }
static uint64_t size_of(uint32_t dtype) { return dtype == SD_F32 ? 4 : 2; }

// ---- creation ----

sard_status *sd_cu_products_new(const sd_art *a, sd_cu_library mode, sd_cu_products **out) {
  sd_cu_products *p = *out = sd_calloc(1, sizeof *p);
  if (!p) return SD_ERR(NOMEM, "out of memory while loading CUDA code");
  pthread_mutex_init(&p->lock, NULL);
  p->mode = mode, p->n = a->n_products;
  p->n_steps = a->n_steps;
  p->of = sd_calloc(a->n_steps, sizeof *p->of);
  p->wide = sd_calloc(a->n_steps, sizeof *p->wide);
  if (!p->of || !p->wide) return SD_ERR(NOMEM, "out of memory while loading CUDA code");
  for (uint32_t i = 0; i < a->n_products; i++) p->of[a->products[i].step] = &a->products[i];
  return NULL;
}

static sard_status *widen(const sard_model *m, const sd_cu_device *device, uint32_t buf, sd_dtype type,
                          uint64_t *out) {
  uint64_t n = (uint64_t)m->dim_value[m->art.bufs[buf].bytes] / size_of(type);
  float *wide = sd_calloc(n, sizeof *wide);
  if (!wide) return SD_ERR(NOMEM, "out of memory while loading CUDA code");
  for (uint64_t i = 0; i < n; i++) wide[i] = (float)sd_dtype_get_f64(type, m->consts[buf], i);
  sard_status *st = sd_cu_alloc(device, n * sizeof *wide, out);
  if (!st) st = sd_cu_write(device, *out, wide, n * sizeof *wide);
  sd_free(wide);
  return sd_status_context(st, "the weights of the model");
}

sard_status *sd_cu_products_widen(sd_cu_products *p, const sard_model *m, const sd_cu_device *device) {
  const sd_art *a = &m->art;
  for (uint32_t i = 0; p->mode != SD_CU_LIBRARY_NO && i < a->n_products; i++) {
    const sard_art_product *e = &a->products[i];
    if (!is_there(&e->bias) || e->of_bias == e->out) continue;
    uint32_t buf = a->lists[a->steps[e->step].bufs + e->bias.buf];
    if (a->bufs[buf].kind != SARD_AB_CONST) p->of[e->step] = NULL;
    else
      SD_TRY(widen(m, device, buf, (sd_dtype)e->of_bias, &p->wide[e->step]));
  }
  return NULL;
}

void sd_cu_products_free(sd_cu_products *p, const sd_cu_device *device) {
  if (!p) return;
  sd_cu_return(device);
  if (p->handle) p->api->destroy(p->handle);
  for (sd_cu_product_choice *c = p->choices, *next; c; c = next) next = c->next, sd_free(c);
  for (uint32_t i = 0; p->wide && i < p->n_steps; i++) sd_cu_free(device, p->wide[i]);
  pthread_mutex_destroy(&p->lock);
  sd_free(p->wide);
  sd_free(p->of);
  sd_free(p);
}

// The library, started when it is first wanted; false: p->why.
static bool start(sd_cu_products *p) {
  if (p->tried) return p->handle != NULL;
  p->tried = true;
  p->api = sd_lt_open(p->why);
  if (!p->api) return false;
  sard_status *st = sd_lt_check(p->api->create(&p->handle), "cublasLtCreate");
  if (!st) return true;
  p->handle = NULL;
  snprintf(p->why, sizeof p->why, "%s", sard_status_text(st, SARD_TEXT_MESSAGE));
  sard_status_free(st);
  return false;
}

// ---- the product at hand ----

typedef struct operand {
  uint64_t at; // address of its first element
  int64_t first, step, batch;
} operand;
enum { X, Y, C, OUT, BIAS, N_OPERANDS };
typedef struct product {
  sd_cu_product_key key;
  operand o[N_OPERANDS]; // C, BIAS: address 0 where there is none
  uint32_t step, out;    // of the plan; buffer
  uint64_t out_bytes;    // that it reaches into it
  bool fits;             // the library can be asked for it
} product;

static sard_status *read_operand(const sard_session *s, uint32_t i, const sard_art_operand *from,
                                 operand *o) {
  const sd_art *a = &s->model->art;
  *o = (operand){0};
  if (!is_there(from)) return NULL;
  SD_TRY(sd_late_value(s, from->first, &o->first));
  SD_TRY(sd_late_value(s, from->step, &o->step));
  SD_TRY(sd_late_value(s, from->batch, &o->batch));
  o->at = s->cu->at[a->lists[a->steps[i].bufs + from->buf]];
  return NULL;
}

// Bytes from the beginning of its buffer that `rows` rows of `length` elements reach; false: an overflow.
static bool reach(const operand *o, int64_t rows, int64_t length, int64_t batch, uint64_t size,
                  uint64_t *out) {
  uint64_t down, across, sum;
  bool ok = sd_ck_mul((uint64_t)rows - 1, (uint64_t)o->step, &down) &&
            sd_ck_mul((uint64_t)batch - 1, (uint64_t)o->batch, &across);
  ok = ok && sd_ck_add(down, across, &sum) && sd_ck_add(sum, (uint64_t)o->first, &sum) &&
       sd_ck_add(sum, (uint64_t)length, &sum);
  return ok && sd_ck_mul(sum, size, out);
}

// Checks that the operand lies in its buffer, and makes its address that of the first element.
static sard_status *place(const sard_session *s, const sard_art_product *p, const sard_art_operand *from,
                          operand *o, int64_t rows, int64_t length, uint64_t size, product *out) {
  const sd_art *a = &s->model->art;
  uint64_t need;
  if (!is_there(from)) return NULL;
  uint32_t buf = a->lists[a->steps[p->step].bufs + from->buf];
  if (o->first < 0 || o->step < 0 || o->batch < 0) return out->fits = false, NULL; // rows that go backward
  if (!reach(o, rows, length, out->key.batch, size, &need) || need > sd_cu_room(s, buf))
    return SD_ERR(MODEL, "the product of step %u reaches beyond buffer %u", p->step, buf);
  if (from == &p->result) out->out = buf, out->out_bytes = need;
  if (rows > 1 && o->step < length) out->fits = false; // rows that overlap
  if (o->step < length) o->step = length;
  o->at += (uint64_t)o->first * size;
  return NULL;
}

static void complete_key(const sard_session *s, const sard_art_product *p, product *out) {
  sd_cu_product_key *k = &out->key;
  uint64_t bits = MOST_ALIGN;
  for (int i = 0; i < N_OPERANDS; i++) bits |= out->o[i].at;
  k->align = (uint32_t)(bits & -bits);
  for (int i = X; i <= OUT; i++) k->step[i] = out->o[i].step, k->batch_step[i] = out->o[i].batch;
  k->batch_step[BIAS] = out->o[BIAS].batch;
  k->flags = p->flags, k->in = p->in, k->out = p->out, k->scale = p->scale;
  k->has_c = is_there(&p->c), k->has_bias = is_there(&p->bias);
  k->workspace = s->memory_limit ? 0 : SD_CU_WORKSPACE;
  k->function = s->cu->program->function[s->cu->program->launch[p->step] - s->model->art.cuda];
}

// out->key of zeros: there is nothing to multiply.
static sard_status *read_product(const sard_session *s, const sard_art_product *p, product *out) {
  const sard_art_operand *from[N_OPERANDS] = {&p->x, &p->y, &p->c, &p->result, &p->bias};
  sd_cu_product_key *k = &out->key;
  memset(out, 0, sizeof *out);
  out->step = p->step;
  SD_TRY(sd_late_value(s, p->m, &k->m));
  SD_TRY(sd_late_value(s, p->n, &k->n));
  SD_TRY(sd_late_value(s, p->k, &k->k));
  SD_TRY(sd_late_value(s, p->batch, &k->batch));
  if (k->m <= 0 || k->n <= 0 || k->k <= 0 || k->batch <= 0) return NULL;
  out->fits = true;
  for (int i = 0; i < N_OPERANDS; i++) SD_TRY(read_operand(s, p->step, from[i], &out->o[i]));
  bool x_along = p->flags & SARD_APF_X_ALONG, y_along = p->flags & SARD_APF_Y_ALONG;
  const int64_t rows[N_OPERANDS] = {x_along ? k->m : k->k, y_along ? k->n : k->k, k->m, k->m, 1};
  const int64_t length[N_OPERANDS] = {x_along ? k->k : k->m, y_along ? k->k : k->n, k->n, k->n, k->n};
  for (int i = 0; i < N_OPERANDS; i++) {
    uint64_t size = size_of(i < C ? p->in : i == BIAS ? p->of_bias : p->out);
    SD_TRY(place(s, p, from[i], &out->o[i], rows[i], length[i], size, out));
  }
  uint64_t wide = s->cu->program->products->wide[p->step];
  if (wide) out->o[BIAS].at = wide + (uint64_t)out->o[BIAS].first * size_of(p->out);
  complete_key(s, p, out);
  return NULL;
}

static bool is_large(const sd_cu_product_key *k) {
  return 2.0 * (double)k->m * (double)k->n * (double)k->k * (double)k->batch >= LEAST_FLOPS;
}

// ---- descriptors: matrices are stored by columns there, so a product is that of the turned ones, y' by x
// ----

typedef struct calls {
  const sd_lt_api *f;
  void *desc, *wish, *layout[N_OPERANDS]; // X, Y, C, OUT
} calls;

static void end_calls(calls *c) {
  if (c->desc) c->f->desc_free(c->desc);
  if (c->wish) c->f->wish_free(c->wish);
  for (int i = X; i <= OUT; i++)
    if (c->layout[i]) c->f->layout_free(c->layout[i]);
}

static sard_status *set_desc(const calls *c, int attribute, const void *value, size_t bytes) {
  return sd_lt_check(c->f->desc_set(c->desc, attribute, value, bytes), "cublasLtMatmulDescSetAttribute");
}

static sard_status *make_desc(calls *c, const product *p) {
  const sd_cu_product_key *k = &p->key;
  int compute = k->in == SD_F32 ? SD_LT_COMPUTE_TF32 : SD_LT_COMPUTE_F32;
  SD_TRY(sd_lt_check(c->f->desc_new(&c->desc, compute, sd_lt_type(SD_F32)), "cublasLtMatmulDescCreate"));
  int32_t turn_y = (k->flags & SARD_APF_Y_ALONG) != 0, turn_x = !(k->flags & SARD_APF_X_ALONG),
          type = sd_lt_type((sd_dtype)k->out);
  uint32_t epilogue = (k->flags & SARD_APF_RELU ? SD_LT_RELU : 0) | (k->has_bias ? SD_LT_BIAS : 0);
  const void *bias = (const void *)(uintptr_t)p->o[BIAS].at;
  if (!epilogue) epilogue = SD_LT_NO_EPILOGUE;
  SD_TRY(set_desc(c, SD_LT_TRANSPOSE_A, &turn_y, sizeof turn_y));
  SD_TRY(set_desc(c, SD_LT_TRANSPOSE_B, &turn_x, sizeof turn_x));
  SD_TRY(set_desc(c, SD_LT_EPILOGUE, &epilogue, sizeof epilogue));
  if (!k->has_bias) return NULL;
  SD_TRY(set_desc(c, SD_LT_BIAS_AT, &bias, sizeof bias));
  if (k->batch > 1) SD_TRY(set_desc(c, SD_LT_BIAS_STEP, &p->o[BIAS].batch, sizeof p->o[BIAS].batch));
  return set_desc(c, SD_LT_BIAS_TYPE, &type, sizeof type);
}

static sard_status *make_layout(calls *c, const product *p, int which, int64_t rows, int64_t columns) {
  const sd_cu_product_key *k = &p->key;
  const operand *o = &p->o[which == C && !k->has_c ? OUT : which];
  int type = sd_lt_type((sd_dtype)(which < C ? k->in : k->out));
  void **l = &c->layout[which];
  SD_TRY(sd_lt_check(c->f->layout_new(l, type, (uint64_t)rows, (uint64_t)columns, o->step),
                     "cublasLtMatrixLayoutCreate"));
  if (k->batch == 1) return NULL;
  int32_t n = (int32_t)k->batch;
  SD_TRY(sd_lt_check(c->f->layout_set(*l, SD_LT_PRODUCTS, &n, sizeof n), "cublasLtMatrixLayoutSetAttribute"));
  return sd_lt_check(c->f->layout_set(*l, SD_LT_PRODUCT_STEP, &o->batch, sizeof o->batch),
                     "cublasLtMatrixLayoutSetAttribute");
}

static sard_status *make_calls(const sd_lt_api *f, const product *p, calls *c) {
  const sd_cu_product_key *k = &p->key;
  bool x_along = k->flags & SARD_APF_X_ALONG, y_along = k->flags & SARD_APF_Y_ALONG;
  *c = (calls){.f = f};
  if (k->batch > INT32_MAX) return SD_ERR(UNSUPPORTED, "%lld products at once", (long long)k->batch);
  SD_TRY(make_desc(c, p));
  SD_TRY(make_layout(c, p, X, x_along ? k->k : k->m, x_along ? k->m : k->k));
  SD_TRY(make_layout(c, p, Y, y_along ? k->k : k->n, y_along ? k->n : k->k));
  SD_TRY(make_layout(c, p, C, k->n, k->m));
  return make_layout(c, p, OUT, k->n, k->m);
}

static sard_status *set_wish(const calls *c, int attribute, const void *value, size_t bytes) {
  return sd_lt_check(c->f->wish_set(c->wish, attribute, value, bytes),
                     "cublasLtMatmulPreferenceSetAttribute");
}

// Algorithms for it, the one first that the library takes for the fastest.
static sard_status *propose(void *handle, calls *c, const product *p, sd_lt_proposal out[PROPOSALS], int *n) {
  memset(out, 0, PROPOSALS * sizeof *out);
  SD_TRY(sd_lt_check(c->f->wish_new(&c->wish), "cublasLtMatmulPreferenceCreate"));
  SD_TRY(set_wish(c, SD_LT_WORKSPACE, &p->key.workspace, sizeof p->key.workspace));
  const uint32_t reduction = SD_LT_IN_F32;
  SD_TRY(set_wish(c, SD_LT_REDUCTION, &reduction, sizeof reduction));
  for (int i = 0; i < 4; i++) SD_TRY(set_wish(c, SD_LT_ALIGNMENT_A + i, &p->key.align, sizeof p->key.align));
  int found = 0;
  SD_TRY(sd_lt_check(c->f->propose(handle, c->desc, c->layout[Y], c->layout[X], c->layout[C], c->layout[OUT],
                                   c->wish, PROPOSALS, out, &found),
                     "cublasLtMatmulAlgoGetHeuristic"));
  *n = 0;
  for (int i = 0; i < found && i < PROPOSALS; i++)
    if (out[i].state == 0 && out[i].workspace <= p->key.workspace) out[(*n)++] = out[i];
  return *n ? NULL : SD_ERR(UNSUPPORTED, "cuBLASLt has no algorithm for it");
}

static sard_status *workspace_of(sd_cu_session *c, uint64_t bytes) {
  if (!bytes || c->workspace) return NULL;
  return sd_status_context(sd_cu_renew(c->device, c->stream, bytes, &c->workspace, &c->workspace_bytes),
                           "memory for cuBLASLt");
}

static sard_status *multiply(const sard_session *s, void *handle, const calls *c, const product *p,
                             uint64_t out, const sd_lt_algo *algo) {
  const float scale = p->key.scale, beta = p->key.has_c ? 1 : 0;
  const uint64_t added = p->key.has_c ? p->o[C].at : out;
  return sd_lt_check(c->f->multiply(handle, c->desc, &scale, (void *)(uintptr_t)p->o[Y].at, c->layout[Y],
                                    (void *)(uintptr_t)p->o[X].at, c->layout[X], &beta,
                                    (void *)(uintptr_t)added, c->layout[C], (void *)(uintptr_t)out,
                                    c->layout[OUT], algo, (void *)(uintptr_t)s->cu->workspace,
                                    p->key.workspace, s->cu->stream),
                     "cublasLtMatmul");
}

// ---- measuring ----

typedef struct trial {
  sard_session *s;
  const product *p;
  void *handle;
  calls calls;
  uint64_t room, room_bytes; // where results go meanwhile
  void *begin, *end;         // events
  int repeats;               // of a launch between them
} trial;

// One launch; algo NULL: of the kernel.
static sard_status *try_once(trial *t, const sd_lt_algo *algo) {
  sd_cu_session *c = t->s->cu;
  if (algo)
    return multiply(t->s, t->handle, &t->calls, t->p,
                    t->room + (uint64_t)t->p->o[OUT].first * size_of(t->p->key.out), algo);
  uint64_t at = c->at[t->p->out];
  bool done;
  c->at[t->p->out] = t->room;
  sard_status *st = sd_cu_launch_kernel(t->s, t->p->step, &done);
  c->at[t->p->out] = at;
  return st;
}

// *why, where it was NULL: what is wrong with the algorithm. Errors of the device are returned.
static sard_status *time_once(trial *t, const sd_lt_algo *algo, int64_t *best, sard_status **why) {
  int64_t ns;
  sard_status *st = NULL;
  SD_TRY(sd_cu_record(t->s, &t->begin, 0));
  for (int i = 0; i < t->repeats && !st; i++) st = try_once(t, algo);
  if (st && algo) return *why = st, NULL;
  SD_TRY(st);
  SD_TRY(sd_cu_record(t->s, &t->end, 0));
  SD_TRY(sd_cu_wait_event(t->s, t->end, "measuring a product"));
  if (!sd_cu_elapsed(t->s, t->begin, t->end, &ns))
    return *why = SD_ERR(UNSUPPORTED, "the device tells no times"), NULL;
  ns /= t->repeats;
  if (*best == 0 || ns < *best) *best = ns > 0 ? ns : 1;
  return NULL;
}

// The kernel, whose time is needed, else *why.
static sard_status *time_kernel(trial *t, int64_t *best, sard_status **why) {
  SD_TRY(try_once(t, NULL)); // what is loaded at its first launch
  SD_TRY(time_once(t, NULL, best, why));
  t->repeats = *best * MOST_REPEATS < ROUND_NS ? MOST_REPEATS
               : *best < ROUND_NS              ? (int)(ROUND_NS / *best)
                                               : 1;
  return NULL;
}

static sard_status *time_algorithm(trial *t, const sd_lt_proposal *p, bool first, int64_t *best,
                                   sard_status **why) {
  sard_status *failed = first ? try_once(t, &p->algo) : NULL;
  if (!failed) SD_TRY(time_once(t, &p->algo, best, &failed));
  if (!failed) return NULL;
  *best = -1;
  if (*why) sard_status_free(failed);
  else
    *why = failed;
  return NULL;
}

// The shortest of some rounds, in which all take turns: what else the device does hits all of them. An
// algorithm that fails is out.
static sard_status *time_all(trial *t, const sd_lt_proposal *found, int n, int64_t *kernel,
                             int64_t times[PROPOSALS], sard_status **why) {
  for (int i = 0; i < n; i++) times[i] = 0;
  SD_TRY(time_kernel(t, kernel, why));
  for (int round = 0; *kernel && round < (*kernel < LONG_NS ? ROUNDS : 1); round++) {
    sard_status *failed = NULL; // it has a time
    SD_TRY(time_once(t, NULL, kernel, &failed));
    sard_status_free(failed);
    for (int i = 0; i < n; i++)
      if (times[i] >= 0) SD_TRY(time_algorithm(t, &found[i], round == 0, &times[i], why));
  }
  return sd_cu_wait(t->s); // a device that is lost is no library's fault
}

static void take_fastest(const sd_lt_proposal *found, int n, const int64_t *times, sd_cu_product_choice *c) {
  for (int i = 0; i < n; i++)
    if (times[i] > 0 && (!c->library_ns || times[i] < c->library_ns))
      c->library_ns = times[i], c->algo = found[i].algo;
  // less than its times differ by from run to run is no reason to leave the model's own code
  c->library = c->library_ns && (double)c->library_ns < 0.97 * (double)c->kernel_ns;
}

static sard_status *measure(trial *t, sd_cu_product_choice *c) {
  sd_lt_proposal found[PROPOSALS];
  int64_t times[PROPOSALS];
  sard_status *why = NULL;
  int n;
  SD_TRY(make_calls(t->calls.f, t->p, &t->calls));
  SD_TRY(propose(t->handle, &t->calls, t->p, found, &n));
  SD_TRY(workspace_of(t->s->cu, t->p->key.workspace));
  SD_TRY(sd_cu_renew(t->s->cu->device, t->s->cu->stream, t->p->out_bytes, &t->room, &t->room_bytes));
  sard_status *st = time_all(t, found, n, &c->kernel_ns, times, &why);
  if (!st && c->kernel_ns) take_fastest(found, n, times, c);
  if (!st && !c->library_ns) return why;
  if (why) snprintf(c->why, sizeof c->why, "%s", sard_status_text(why, SARD_TEXT_MESSAGE));
  sard_status_free(why);
  return st;
}

static sard_status *measure_choice(sard_session *s, sd_cu_products *all, const product *p,
                                   sd_cu_product_choice *c) {
  trial t = {.s = s, .p = p, .handle = all->handle, .calls = {.f = all->api}, .repeats = 1};
  const sd_cu_api *f = s->cu->device->api;
  sard_status *st = measure(&t, c);
  end_calls(&t.calls);
  sd_cu_give(s->cu->device, s->cu->stream, &t.room, &t.room_bytes);
  if (t.begin) f->event_free(t.begin);
  if (t.end) f->event_free(t.end);
  return st;
}

static sard_status *first_proposal(sard_session *s, sd_cu_products *all, const product *p,
                                   sd_cu_product_choice *c) {
  sd_lt_proposal found[PROPOSALS];
  calls calls;
  int n;
  sard_status *st = make_calls(all->api, p, &calls);
  if (!st) st = propose(all->handle, &calls, p, found, &n);
  end_calls(&calls);
  SD_TRY(st);
  c->library = true, c->algo = found[0].algo;
  return workspace_of(s->cu, p->key.workspace);
}

// ---- choices ----

static sd_cu_product_choice *known(const sd_cu_products *all, const sd_cu_product_key *k) {
  for (sd_cu_product_choice *c = all->choices; c; c = c->next)
    if (memcmp(&c->key, k, sizeof *k) == 0) return c;
  return NULL;
}

// Why nothing can be measured.
static const char *reason_of_session(const sard_session *s, const product *p) {
  const sd_cu_session *c = s->cu;
  uint64_t need;
  if (c->capturing) return "it was first met while a run was captured";
  if (s->group) return "ranks that exchange tensors have to make the same choice";
  bool room =
      !s->memory_limit || (sd_ck_add(c->memory_bytes, p->out_bytes, &need) && need <= s->memory_limit);
  return room ? NULL : "the memory-limit leaves no room to measure";
}

// Why the library is not asked, NULL: it is.
static const char *reason(const sard_session *s, sd_cu_products *all, const product *p) {
  const char *why = all->mode == SD_CU_LIBRARY_ALWAYS ? NULL : reason_of_session(s, p);
  if (!why && !p->fits) why = "its operands lie in another way than cuBLASLt takes";
  return why || start(all) ? why : all->why;
}

static bool is_the_librarys(const sard_status *st) {
  int code = sard_status_code(st);
  return code == SARD_E_UNSUPPORTED || code == SARD_E_NOMEM ||
         strncmp(sard_status_text(st, SARD_TEXT_MESSAGE), "cublasLt", 8) == 0;
}

static sard_status *decide(sard_session *s, sd_cu_products *all, const product *p, sd_cu_product_choice *c) {
  const char *why = reason(s, all, p);
  bool always = all->mode == SD_CU_LIBRARY_ALWAYS;
  if (why && always) return SD_ERR(DEVICE, "library=always: %s", why);
  sard_status *st = why ? NULL : always ? first_proposal(s, all, p, c) : measure_choice(s, all, p, c);
  if (why) snprintf(c->why, sizeof c->why, "%s", why);
  if (!st || always || !is_the_librarys(st)) return sd_status_context(st, "step %u", p->step);
  snprintf(c->why, sizeof c->why, "%s", sard_status_text(st, SARD_TEXT_MESSAGE));
  sard_status_free(st);
  return NULL;
}

static sard_status *choose(sard_session *s, sd_cu_products *all, const product *p,
                           const sd_cu_product_choice **out) {
  sd_cu_product_choice *c = known(all, &p->key);
  if (!c && all->n_choices == MOST_CHOICES) return NULL;
  if (!c) {
    c = sd_calloc(1, sizeof *c);
    if (!c) return SD_ERR(NOMEM, "out of memory while choosing how to multiply");
    c->key = p->key, c->step = p->step;
    sard_status *st = decide(s, all, p, c);
    if (st) return sd_free(c), st;
    c->next = all->choices, all->choices = c, all->n_choices++;
  }
  *out = c->library ? c : NULL;
  return NULL;
}

sard_status *sd_cu_product_find(sard_session *s, uint32_t i, const sd_cu_product_choice **out) {
  sd_cu_products *all = s->cu->program->products;
  product p;
  *out = NULL;
  if (!all->of[i] || all->mode == SD_CU_LIBRARY_NO) return NULL;
  bool always = all->mode == SD_CU_LIBRARY_ALWAYS;
  if (s->late.step[i] && !always) return NULL; // sizes of this run: nothing is known of the next one's
  SD_TRY(read_product(s, all->of[i], &p));
  if (!p.key.m || (!always && !is_large(&p.key))) return NULL;
  pthread_mutex_lock(&all->lock);
  sard_status *st = choose(s, all, &p, out);
  pthread_mutex_unlock(&all->lock);
  return st || !*out ? st : workspace_of(s->cu, p.key.workspace);
}

// A library that fails on a device that is lost does not tell so.
static sard_status *whose(const sard_session *s, sard_status *st) {
  const sd_cu_api *f = s->cu->device->api;
  int code = f->stream_query(s->cu->stream);
  if (code == 0 || code == SD_CU_NOT_READY) return st;
  sard_status_free(st);
  return sd_cu_check(f, code, "running on the device");
}

sard_status *sd_cu_product_launch(sard_session *s, uint32_t i, const sd_cu_product_choice *c) {
  const sd_cu_products *all = s->cu->program->products;
  product p;
  calls calls;
  SD_TRY(read_product(s, all->of[i], &p));
  sard_status *st = make_calls(all->api, &p, &calls);
  if (!st) st = multiply(s, all->handle, &calls, &p, p.o[OUT].at, &c->algo);
  end_calls(&calls);
  if (st && !s->cu->capturing) st = whose(s, st);
  return sd_status_context(st, "node '%s'", sd_art_text(&s->model->art, s->model->art.steps[i].name));
}

// ---- report ----

void sd_cu_products_count(sd_cu_products *p, uint32_t *sizes, uint32_t *by_library) {
  *by_library = 0;
  pthread_mutex_lock(&p->lock);
  *sizes = p->n_choices;
  for (const sd_cu_product_choice *c = p->choices; c; c = c->next) *by_library += c->library;
  pthread_mutex_unlock(&p->lock);
}

static void put_choice(sd_str *s, const sd_cu_product_choice *c) {
  const sd_cu_product_key *k = &c->key;
  sd_strf(s, "{\"step\":%u,\"m\":%lld,\"n\":%lld,\"k\":%lld,\"batch\":%lld,\"by\":\"%s\"", c->step,
          (long long)k->m, (long long)k->n, (long long)k->k, (long long)k->batch,
          c->library ? "cuBLASLt" : "kernel");
  if (c->kernel_ns) sd_strf(s, ",\"kernel_us\":%.3f", (double)c->kernel_ns * 1e-3);
  if (c->library_ns) sd_strf(s, ",\"library_us\":%.3f", (double)c->library_ns * 1e-3);
  if (*c->why) sd_str_put(s, ",\"why\":"), sd_str_json(s, c->why);
  sd_str_put(s, "}");
}

void sd_cu_products_put(sd_str *s, sd_cu_products *p) {
  pthread_mutex_lock(&p->lock);
  sd_strf(s, "\"library\":{\"mode\":\"%s\",\"steps\":%u", sd_cu_library_name(p->mode), p->n);
  if (p->handle) sd_strf(s, ",\"version\":%zu", p->api->version);
  if (*p->why) sd_str_put(s, ",\"why\":"), sd_str_json(s, p->why);
  sd_str_put(s, ",\"products\":[");
  for (const sd_cu_product_choice *c = p->choices; c; c = c->next)
    put_choice(s, c), sd_str_put(s, c->next ? "," : "");
  sd_str_put(s, "]}");
  pthread_mutex_unlock(&p->lock);
}
