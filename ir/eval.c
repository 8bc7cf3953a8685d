// Graph interpreter over sd_lower_node and sd_kernel_eval.
#include "ir/eval.h"

#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/host.h"

void sd_eval_free(sd_evalue *v) {
  if (v->data) sd_free_aligned(v->data);
  v->data = NULL;
}

typedef struct slot { sd_evalue v; bool owned; uint32_t uses; } slot; // by value id

typedef struct machine {
  sd_module *m;
  sd_arena *scratch; // kernels of the current node
  slot *slots;
  uint32_t n_slots;
  int64_t *symbols; // by sd_dim handle of the symbol; INT64_MIN = not bound
  uint32_t n_symbols;
  sd_eval_hook hook;
  void *user;
  jmp_buf *oom;
} machine;

static bool symbol_value(void *user, const char *name, int64_t *v) {
  machine *x = user;
  sd_dim d = sd_dim_sym(x->m->dims, name);
  if (d >= x->n_symbols || x->symbols[d] == INT64_MIN) return false;
  *v = x->symbols[d];
  return true;
}

static bool is_input_symbol(const machine *x, sd_dim d) {
  for (uint32_t i = 0; i < x->m->main->inputs.len; i++)
    for (int k = 0; k < x->m->main->inputs.at[i]->rank; k++)
      if (x->m->main->inputs.at[i]->dims[k] == d) return true;
  return false;
}

// Room for the symbol of that handle.
static sard_status *symbol_room(machine *x, sd_dim d) {
  if (d < x->n_symbols) return NULL;
  uint32_t n = d + 64;
  int64_t *grown = sd_realloc(x->symbols, n * sizeof *grown);
  if (!grown) return SD_ERR(NOMEM, "no memory for the symbols of a graph");
  for (uint32_t i = x->n_symbols; i < n; i++) grown[i] = INT64_MIN;
  x->symbols = grown, x->n_symbols = n;
  return NULL;
}

static sard_status *set_symbol(machine *x, sd_dim d, int64_t v) {
  const sd_dimnode *s = sd_dim_get(x->m->dims, d);
  if (v < s->min || v > s->max)
    return SD_ERR(MODEL, "the size '%s' that the data gives is %lld, it must be %lld to %lld", s->name, (long long)v, (long long)s->min, (long long)s->max);
  SD_TRY(symbol_room(x, d));
  x->symbols[d] = v;
  return NULL;
}

// What shape inference could not prove, as far as all sizes are known.
static sard_status *check_required(machine *x) {
  for (uint32_t i = 0; i < x->m->requires.len; i++) {
    const sd_require *r = &x->m->requires.at[i];
    int64_t a, b;
    if (!sd_dim_eval(x->m->dims, r->a, symbol_value, x, &a) || !sd_dim_eval(x->m->dims, r->b, symbol_value, x, &b)) continue;
    if (a != b && !(r->broadcast && (a == 1 || b == 1)))
      return SD_ERR(MODEL, "the shapes of the data do not fit together: node '%s' gets sizes %lld and %lld, which must %s", r->what,
                    (long long)a, (long long)b, r->broadcast ? "be equal or 1" : "be equal");
  }
  return NULL;
}

static bool has_dim(const sd_value *v, sd_dim d) {
  for (int i = 0; v && i < v->rank; i++)
    if (v->dims[i] == d) return true;
  for (uint32_t i = 0; v && v->elems && i < v->n_elems; i++)
    if (v->elems[i] == d) return true;
  return false;
}

static void forget(machine *x, sd_dim d) {
  if (d < x->n_symbols && sd_dim_get(x->m->dims, d)->op == SD_DIM_SYM) x->symbols[d] = INT64_MIN;
}

// Takes the values of the symbols that a node gives away: none is mixed with one of an earlier pass of a loop.
static void forget_given(machine *x, const sd_node *n) {
  const sd_attr *a = strcmp(n->op->name, "sard.Define") ? NULL : sd_node_attr(n, "symbols");
  for (uint32_t i = 0; a && i < a->n; i++) {
    const char *p = a->strings[i];
    forget(x, sd_dim_parse(x->m->dims, &p));
  }
  for (uint32_t i = 0; !a && n->op->kind == SD_HOST && i < n->n_out; i++)
    for (int d = 0; n->out[i] && d < n->out[i]->rank; d++) {
      bool read = is_input_symbol(x, n->out[i]->dims[d]);
      for (uint32_t k = 0; k < n->n_in && !read; k++) read = has_dim(n->in[k], n->out[i]->dims[d]);
      if (!read) forget(x, n->out[i]->dims[d]);
    }
}

static sard_status *shape_text(const machine *x, const sd_value *v, const sd_evalue *got, const char *what) {
  sd_str s = {0};
  sd_type_print(x->m, v, &s);
  sd_strf(&s, " expected, %s[", sd_dtype_name(got->dtype));
  for (int i = 0; i < got->rank; i++) sd_strf(&s, i ? ",%lld" : "%lld", (long long)got->dims[i]);
  sd_strf(&s, "] given%s", what);
  sard_status *st = SD_ERR(USAGE, "input '%s': %s", v->name, s.p ? s.p : "?");
  sd_str_free(&s);
  return st;
}

static sard_status *value_bytes(const sd_evalue *v, uint64_t *count, uint64_t *bytes) {
  *count = 1;
  for (int i = 0; i < v->rank; i++) {
    if (v->dims[i] < 0 || !sd_ck_mul(*count, (uint64_t)v->dims[i], count))
      return SD_ERR(NOMEM, "a tensor with negative or overflowing dims");
  }
  if (!sd_dtype_bytes(v->dtype, *count, bytes) || *bytes > INT64_MAX / 2) return SD_ERR(NOMEM, "a tensor of type %s that overflows", sd_dtype_name(v->dtype));
  return NULL;
}

// ---- binding ----
static sard_status *bind_symbols(machine *x, const sd_value *v, const sd_evalue *in) {
  uint64_t count, bytes;
  if (v->dtype != in->dtype || v->rank != in->rank) return shape_text(x, v, in, "");
  SD_TRY(value_bytes(in, &count, &bytes));
  if (in->bytes < bytes || (bytes && !in->data)) return shape_text(x, v, in, ", with too few bytes");
  for (int i = 0; i < v->rank; i++) {
    const sd_dimnode *d = sd_dim_get(x->m->dims, v->dims[i]);
    if (d->op != SD_DIM_SYM || v->dims[i] >= x->n_symbols) continue;
    int64_t *at = &x->symbols[v->dims[i]];
    if (in->dims[i] < d->min || in->dims[i] > d->max) return shape_text(x, v, in, ": a dim out of its range");
    if (*at != INT64_MIN && *at != in->dims[i]) return shape_text(x, v, in, ": a dim differs from an earlier input");
    *at = in->dims[i];
  }
  return NULL;
}

static sard_status *check_dims(machine *x, const sd_value *v, const sd_evalue *in) {
  for (int i = 0; i < v->rank; i++) {
    int64_t want;
    if (!sd_dim_eval(x->m->dims, v->dims[i], symbol_value, x, &want) || want != in->dims[i])
      return shape_text(x, v, in, "");
  }
  return NULL;
}

static sard_status *concrete(machine *x, const sd_value *v, sd_evalue *out) {
  *out = (sd_evalue){.dtype = v->dtype, .rank = v->rank};
  if (v->rank < 0 || v->rank > SD_MAX_RANK) return SD_ERR(UNSUPPORTED, "value %%%u has no known shape", v->id);
  for (int i = 0; i < v->rank; i++) {
    if (v->dims[i] == SD_DIM_NONE || !sd_dim_eval(x->m->dims, v->dims[i], symbol_value, x, &out->dims[i]))
      return SD_ERR(UNSUPPORTED, "dim %d of value %%%u (%s) is not determined by the inputs", i, v->id, v->name);
  }
  uint64_t count;
  return value_bytes(out, &count, &out->bytes);
}

static sard_status *concrete_alloc(machine *x, const sd_value *v, sd_evalue *out) {
  SD_TRY(concrete(x, v, out));
  out->data = sd_alloc_aligned(out->bytes + 64); // 64 readable bytes after the end, as buffers of kernels have
  if (!out->data) return SD_ERR(NOMEM, "no memory for a tensor of %llu bytes", (unsigned long long)out->bytes);
  if (out->bytes) ((uint8_t *)out->data)[out->bytes - 1] = 0; // packed elements leave bits of the last byte, which are 0
  return NULL;
}

// ---- running ----
static sard_status *operand_data(const machine *x, const sd_value *v, void **out) {
  if (v->data) {
    *out = (void *)v->data->data;
    return NULL;
  }
  *out = x->slots[v->id].v.data;
  if (!*out && x->slots[v->id].v.bytes) return SD_ERR(INTERNAL, "value %%%u is read before it is computed", v->id);
  return NULL;
}

static sard_status *run_kernel(machine *x, const sd_node *n) {
  sd_kernel *k;
  SD_TRY(sd_lower_node(x->scratch, x->m, n, &k));
  void **data = SD_NEW_ARRAY(x->scratch, void *, k->bufs.len + 1);
  for (uint32_t i = 0; i < k->bufs.len; i++) {
    if (k->bufs.at[i]->value) SD_TRY(operand_data(x, k->bufs.at[i]->value, &data[i]));
  }
  return sd_kernel_eval(k, data, symbol_value, x);
}

static bool wanted(const sd_value *v) { return v && (v->uses.len || sd_value_is_output(v)); }

static void drop(machine *x, const sd_value *v) {
  slot *s = &x->slots[v->id];
  if (s->owned) sd_eval_free(&s->v);
  s->owned = false;
}

// Only values of the main graph are counted; those of bodies go when their pass ends.
static void release(machine *x, const sd_value *v) {
  slot *s = &x->slots[v->id];
  if (s->uses && --s->uses == 0) drop(x, v);
}

static sard_status *run_outputs(machine *x, sd_node *n, sd_evalue *outs) {
  bool any = false;
  for (uint32_t i = 0; i < n->n_out; i++) any |= wanted(n->out[i]);
  for (uint32_t i = 0; i < n->n_out; i++) {
    sd_value *v = n->out[i];
    if (!v || (any && !wanted(v))) continue;
    drop(x, v);
    slot *s = &x->slots[v->id];
    SD_TRY(concrete_alloc(x, v, &s->v));
    s->owned = true;
    outs[i] = s->v;
  }
  return run_kernel(x, n);
}

static sard_status *run_for(machine *x, sd_node *n);
static sard_status *run_while(machine *x, sd_node *n);
static sard_status *run_if(machine *x, sd_node *n);
static sard_status *run_define(machine *x, sd_node *n);
static sard_status *run_host(machine *x, sd_node *n);

typedef sard_status *(*special)(machine *x, sd_node *n);
static special find_special(const sd_node *n) {
  static const struct { const char *name; special fn; } rows[] = {
      {"sard.For", run_for}, {"sard.While", run_while}, {"If", run_if}, {"sard.Define", run_define}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    if (strcmp(rows[i].name, n->op->name) == 0) return rows[i].fn;
  return sd_kind_is_host(n->op->kind) ? run_host : NULL;
}

static sard_status *tell(machine *x, const sd_node *n, const sd_evalue *outs, bool kernel) {
  sd_evalue *ins = kernel ? SD_NEW_ARRAY(x->scratch, sd_evalue, n->n_in + 1) : NULL;
  for (uint32_t i = 0; kernel && i < n->n_in; i++) {
    if (!n->in[i]) continue;
    SD_TRY(concrete(x, n->in[i], &ins[i]));
    SD_TRY(operand_data(x, n->in[i], &ins[i].data));
  }
  return x->hook(x->user, &(sd_eval_step){n, ins, outs, symbol_value, x});
}

static sard_status *run_node(machine *x, sd_node *n) {
  sd_evalue *outs = SD_NEW_ARRAY(x->scratch, sd_evalue, n->n_out + 1);
  special fn = find_special(n);
  if (fn) SD_TRY(fn(x, n));
  else SD_TRY(run_outputs(x, n, outs));
  if (fn) { // the arena may have been reset
    outs = SD_NEW_ARRAY(x->scratch, sd_evalue, n->n_out + 1);
    for (uint32_t i = 0; i < n->n_out; i++)
      if (n->out[i]) outs[i] = x->slots[n->out[i]->id].v;
  }
  if (x->hook) SD_TRY(tell(x, n, outs, !fn));
  for (uint32_t i = 0; i < n->n_in; i++) {
    if (n->graph == x->m->main && n->in[i] && !n->in[i]->data) release(x, n->in[i]);
  }
  for (uint32_t i = 0; i < n->n_out; i++) {
    if (n->out[i] && !wanted(n->out[i])) drop(x, n->out[i]);
  }
  return NULL;
}

static sard_status *run_graph(machine *x, sd_graph *g) {
  for (sd_node *n = g->first; n && g->owner; n = n->next) forget_given(x, n);
  for (sd_node *n = g->first; n; n = n->next) {
    sard_status *st = run_node(x, n);
    if (st) return sd_node_error(n, st);
    sd_arena_reset(x->scratch);
    sd_arena_set_oom(x->scratch, x->oom);
  }
  return NULL;
}

static sard_status *run_main(machine *x) {
  jmp_buf oom;
  x->oom = &oom;
  sd_arena_set_oom(x->scratch, &oom);
  if (setjmp(oom)) return SD_ERR(NOMEM, "no memory to interpret the graph");
  return run_graph(x, x->m->main);
}

// ---- loops ----

// A copy of what v holds now, as the contents of `to` (types agree but for dims that the run knows).
static sard_status *assign(machine *x, const sd_value *to, const sd_value *from) {
  sd_evalue made;
  void *data;
  SD_TRY(operand_data(x, from, &data));
  if (from->data || !x->slots[from->id].v.dtype) SD_TRY(concrete(x, from, &made));
  else made = x->slots[from->id].v;
  made.data = sd_alloc_aligned(made.bytes + 64);
  if (!made.data) return SD_ERR(NOMEM, "no memory for a tensor of %llu bytes", (unsigned long long)made.bytes);
  if (made.bytes) memcpy(made.data, data, made.bytes);
  drop(x, to);
  x->slots[to->id].v = made;
  x->slots[to->id].owned = true;
  return NULL;
}

static void drop_body(machine *x, const sd_graph *body) {
  for (uint32_t i = 0; i < body->inputs.len; i++) drop(x, body->inputs.at[i]);
  for (const sd_node *n = body->first; n; n = n->next)
    for (uint32_t i = 0; i < n->n_out; i++)
      if (n->out[i]) drop(x, n->out[i]);
}

// States in `hold` while the body's values go: a next state may be the old value of another one.
static sard_status *next_states(machine *x, const sd_graph *body, uint32_t states, sd_evalue *hold) {
  for (uint32_t i = 0; i < states; i++) {
    const sd_value *v = body->outputs.at[i];
    void *data;
    SD_TRY(operand_data(x, v, &data));
    hold[i] = x->slots[body->inputs.at[i]->id].v;
    hold[i].data = sd_alloc_aligned(hold[i].bytes + 64);
    if (!hold[i].data) return SD_ERR(NOMEM, "no memory for a state of a loop");
    if (hold[i].bytes) memcpy(hold[i].data, data, hold[i].bytes);
  }
  drop_body(x, body);
  for (uint32_t i = 0; i < states; i++) {
    x->slots[body->inputs.at[i]->id].v = hold[i];
    x->slots[body->inputs.at[i]->id].owned = true;
    hold[i].data = NULL;
  }
  return NULL;
}

static sard_status *stack(machine *x, const sd_node *n) {
  const sd_graph *body = n->bodies[0];
  for (uint32_t i = n->n_in; i < n->n_out; i++) {
    const sd_evalue *y = &x->slots[n->out[i]->id].v;
    sd_evalue part;
    sd_dim position;
    int64_t pass;
    void *data;
    SD_TRY(sd_for_position(n, i, &position));
    if (!sd_dim_eval(x->m->dims, position, symbol_value, x, &pass)) return SD_ERR(INTERNAL, "the position of output %u of a loop is not known", i);
    SD_TRY(operand_data(x, body->outputs.at[i], &data));
    SD_TRY(concrete(x, body->outputs.at[i], &part));
    if (pass < 0 || (uint64_t)(pass + 1) * part.bytes > y->bytes) return SD_ERR(INTERNAL, "output %u of a loop is too small", i);
    if (part.bytes) memcpy((char *)y->data + (uint64_t)pass * part.bytes, data, part.bytes);
  }
  return NULL;
}

static sard_status *for_passes(machine *x, sd_node *n, int64_t trip, sd_dim counter, sd_evalue *hold) {
  sd_graph *body = n->bodies[0];
  for (uint32_t i = 0; i < n->n_in; i++) SD_TRY(assign(x, body->inputs.at[i], n->in[i]));
  for (uint32_t i = n->n_in; i < n->n_out; i++) {
    drop(x, n->out[i]);
    SD_TRY(concrete_alloc(x, n->out[i], &x->slots[n->out[i]->id].v));
    x->slots[n->out[i]->id].owned = true;
  }
  for (int64_t pass = 0; pass < trip; pass++) {
    SD_TRY(set_symbol(x, counter, pass));
    SD_TRY(run_graph(x, body));
    SD_TRY(stack(x, n));
    SD_TRY(next_states(x, body, n->n_in, hold));
  }
  for (uint32_t i = 0; i < n->n_in; i++) SD_TRY(assign(x, n->out[i], body->inputs.at[i]));
  return NULL;
}

static sard_status *run_for(machine *x, sd_node *n) {
  sd_dim trip, counter;
  int64_t passes;
  SD_TRY(sd_for_dims(n, &trip, &counter));
  if (!sd_dim_eval(x->m->dims, trip, symbol_value, x, &passes)) return SD_ERR(UNSUPPORTED, "the number of passes is not known");
  sd_evalue *hold = sd_calloc(n->n_in + 1, sizeof *hold);
  if (!hold) return SD_ERR(NOMEM, "no memory for the states of a loop");
  sard_status *st = for_passes(x, n, passes, counter, hold);
  for (uint32_t i = 0; i < n->n_in; i++) sd_eval_free(&hold[i]);
  sd_free(hold);
  drop_body(x, n->bodies[0]);
  return st;
}

// ---- loops with a condition ----

// Symbols that are whole dims of `to` where `from` has something else.
static sard_status *collect_dims(machine *x, const sd_value *to, const sd_value *from, sd_dim *defs, int64_t *values, uint32_t *n) {
  for (int d = 0; d < to->rank && d < from->rank; d++) {
    if (to->dims[d] == from->dims[d] || sd_dim_get(x->m->dims, to->dims[d])->op != SD_DIM_SYM || is_input_symbol(x, to->dims[d])) continue;
    if (*n == 64) return SD_ERR(UNSUPPORTED, "more than 64 dims change from pass to pass");
    defs[*n] = to->dims[d];
    if (!sd_dim_eval(x->m->dims, from->dims[d], symbol_value, x, &values[*n])) return SD_ERR(UNSUPPORTED, "dim %d of value %%%u is not known", d, from->id);
    ++*n;
  }
  return NULL;
}

static sard_status *set_all(machine *x, const sd_dim *defs, const int64_t *values, uint32_t n) {
  for (uint32_t i = 0; i < n; i++) SD_TRY(set_symbol(x, defs[i], values[i]));
  return NULL;
}

static sard_status *read_bool(machine *x, const sd_value *v, bool *out) {
  void *data;
  SD_TRY(operand_data(x, v, &data));
  if (!data) return SD_ERR(INTERNAL, "a condition has no value");
  *out = *(const uint8_t *)data != 0;
  return NULL;
}

// Appends what the body gave to the stacked outputs, whose first dim counts the passes.
static sard_status *append(machine *x, const sd_node *n, uint32_t cond, int64_t pass) {
  const sd_graph *body = n->bodies[0];
  for (uint32_t i = n->n_in - 1; i < n->n_out; i++) {
    slot *s = &x->slots[n->out[i]->id];
    sd_evalue part;
    void *data;
    SD_TRY(operand_data(x, body->outputs.at[i + cond], &data));
    SD_TRY(concrete(x, body->outputs.at[i + cond], &part));
    uint8_t *grown = sd_alloc_aligned(s->v.bytes + part.bytes + 64);
    if (!grown) return SD_ERR(NOMEM, "no memory for the stacked outputs of a loop");
    if (s->v.bytes) memcpy(grown, s->v.data, s->v.bytes);
    if (part.bytes) memcpy(grown + s->v.bytes, data, part.bytes);
    uint64_t bytes = s->v.bytes + part.bytes;
    drop(x, n->out[i]);
    s->v = (sd_evalue){.dtype = part.dtype, .rank = part.rank + 1, .data = grown, .bytes = bytes};
    s->v.dims[0] = pass + 1;
    memcpy(s->v.dims + 1, part.dims, (size_t)part.rank * sizeof part.dims[0]);
    s->owned = true;
  }
  return NULL;
}

static sard_status *hold_next(machine *x, const sd_node *n, uint32_t cond, sd_evalue *hold) {
  const sd_graph *body = n->bodies[0];
  for (uint32_t i = 0; i < body->inputs.len; i++) {
    const sd_value *v = body->outputs.at[i + cond];
    void *data;
    SD_TRY(operand_data(x, v, &data));
    SD_TRY(concrete(x, v, &hold[i]));
    hold[i].data = sd_alloc_aligned(hold[i].bytes + 64);
    if (!hold[i].data) return SD_ERR(NOMEM, "no memory for a state of a loop");
    if (hold[i].bytes) memcpy(hold[i].data, data, hold[i].bytes);
  }
  return NULL;
}

static sard_status *while_pass(machine *x, sd_node *n, uint32_t cond, int64_t pass, sd_evalue *hold, bool *more) {
  sd_graph *body = n->bodies[0];
  sd_dim defs[64];
  int64_t values[64];
  uint32_t n_defs = 0;
  SD_TRY(run_graph(x, body));
  SD_TRY(append(x, n, cond, pass));
  if (cond) SD_TRY(read_bool(x, body->outputs.at[0], more));
  for (uint32_t i = 0; i < body->inputs.len; i++)
    SD_TRY(collect_dims(x, body->inputs.at[i], body->outputs.at[i + cond], defs, values, &n_defs));
  SD_TRY(hold_next(x, n, cond, hold));
  SD_TRY(set_all(x, defs, values, n_defs));
  drop_body(x, body);
  for (uint32_t i = 0; i < body->inputs.len; i++) {
    x->slots[body->inputs.at[i]->id].v = hold[i];
    x->slots[body->inputs.at[i]->id].owned = true;
    hold[i].data = NULL;
  }
  return NULL;
}

static sard_status *while_passes(machine *x, sd_node *n, sd_evalue *hold) {
  sd_graph *body = n->bodies[0];
  sd_dim trip, counter, count, defs[64];
  int64_t limit = INT64_MAX, values[64], pass = 0;
  uint32_t n_defs = 0, cond = n->in[0] ? 1 : 0;
  bool more = true;
  SD_TRY(sd_while_dims(n, &trip, &counter, &count));
  if (trip != SD_DIM_NONE && !sd_dim_eval(x->m->dims, trip, symbol_value, x, &limit)) return SD_ERR(UNSUPPORTED, "the number of passes is not known");
  if (cond) SD_TRY(read_bool(x, n->in[0], &more));
  for (uint32_t i = 0; i < body->inputs.len; i++) SD_TRY(collect_dims(x, body->inputs.at[i], n->in[i + 1], defs, values, &n_defs));
  SD_TRY(set_all(x, defs, values, n_defs));
  for (uint32_t i = 0; i < body->inputs.len; i++) SD_TRY(assign(x, body->inputs.at[i], n->in[i + 1]));
  for (uint32_t i = n->n_in - 1; i < n->n_out; i++) drop(x, n->out[i]), x->slots[n->out[i]->id].v = (sd_evalue){0};
  for (; more && pass < limit; pass++) {
    SD_TRY(set_symbol(x, counter, pass));
    SD_TRY(while_pass(x, n, cond, pass, hold, &more));
  }
  SD_TRY(set_symbol(x, count, pass));
  for (uint32_t i = 0; i < body->inputs.len; i++) SD_TRY(assign(x, n->out[i], body->inputs.at[i]));
  for (uint32_t i = n->n_in - 1; i < n->n_out && !pass; i++) {
    SD_TRY(concrete_alloc(x, n->out[i], &x->slots[n->out[i]->id].v));
    x->slots[n->out[i]->id].owned = true;
  }
  return NULL;
}

static sard_status *run_while(machine *x, sd_node *n) {
  sd_evalue *hold = sd_calloc(n->n_in + 1, sizeof *hold);
  if (!hold) return SD_ERR(NOMEM, "no memory for the states of a loop");
  sard_status *st = while_passes(x, n, hold);
  for (uint32_t i = 0; i < n->n_in; i++) sd_eval_free(&hold[i]);
  sd_free(hold);
  drop_body(x, n->bodies[0]);
  return st;
}

// ---- branches, and sizes that the data gives ----

static sard_status *run_if(machine *x, sd_node *n) {
  sd_dim defs[64];
  int64_t values[64];
  uint32_t n_defs = 0;
  bool yes = false;
  SD_TRY(read_bool(x, n->in[0], &yes));
  sd_graph *body = n->bodies[yes ? 0 : 1];
  SD_TRY(run_graph(x, body));
  for (uint32_t i = 0; i < n->n_out; i++) SD_TRY(collect_dims(x, n->out[i], body->outputs.at[i], defs, values, &n_defs));
  SD_TRY(set_all(x, defs, values, n_defs));
  for (uint32_t i = 0; i < n->n_out; i++) SD_TRY(assign(x, n->out[i], body->outputs.at[i]));
  drop_body(x, body);
  return NULL;
}

static sard_status *run_define(machine *x, sd_node *n) {
  const sd_value *y = n->out[0];
  void *data;
  SD_TRY(operand_data(x, n->in[0], &data));
  const sd_attr *a = sd_node_attr(n, "symbols");
  int64_t with_sign = sd_node_int(n, "sign", 0);
  forget_given(x, n);
  for (uint32_t i = 0; i < a->n; i++) {
    const char *p = a->strings[i];
    int64_t v = sd_host_defined(y->dtype, data, with_sign ? i / 2 : i, with_sign);
    if (with_sign) v = i % 2 ? (v < 0 ? -v : 0) : (v > 0 ? v : 0);
    SD_TRY(set_symbol(x, sd_dim_parse(x->m->dims, &p), v));
  }
  SD_TRY(check_required(x));
  return assign(x, y, n->in[0]);
}

// ---- host functions ----

typedef struct host { machine *x; sd_node *n; } host;

static sard_status *make_host_output(sd_host_call *c, uint32_t i, const int64_t *dims) {
  host *h = c->user;
  sd_value *v = h->n->out[i];
  sd_host_tensor *t = &c->out[i];
  if (!t->dtype) return NULL;
  for (int d = 0; d < v->rank; d++) {
    int64_t want;
    if (sd_dim_get(h->x->m->dims, v->dims[d])->op == SD_DIM_SYM && !is_input_symbol(h->x, v->dims[d])) SD_TRY(set_symbol(h->x, v->dims[d], dims[d]));
    else if (!sd_dim_eval(h->x->m->dims, v->dims[d], symbol_value, h->x, &want) || want != dims[d])
      return SD_ERR(MODEL, "dim %d of output %u is %lld", d, i, (long long)dims[d]);
    t->dims[d] = dims[d];
  }
  slot *s = &h->x->slots[v->id];
  drop(h->x, v);
  SD_TRY(concrete_alloc(h->x, v, &s->v));
  s->owned = true;
  t->data = s->v.data, t->count = 1;
  for (int d = 0; d < v->rank; d++) t->count *= (uint64_t)dims[d];
  return NULL;
}

static sard_status *run_host(machine *x, sd_node *n) {
  const sd_host_op *op = sd_host_find(n->op->name);
  host h = {x, n};
  sd_dim dims[SD_HOST_PARAMS];
  int64_t param[SD_HOST_PARAMS];
  uint32_t n_param;
  if (!op) return SD_ERR(UNSUPPORTED, "%s has no host function", n->op->name);
  SD_TRY(sd_host_params(n, dims, &n_param));
  for (uint32_t i = 0; i < n_param; i++)
    if (!sd_dim_eval(x->m->dims, dims[i], symbol_value, x, &param[i])) return SD_ERR(UNSUPPORTED, "parameter %u is not known", i);
  sd_host_tensor *in = SD_NEW_ARRAY(x->scratch, sd_host_tensor, n->n_in + 1), *out = SD_NEW_ARRAY(x->scratch, sd_host_tensor, n->n_out + 1);
  for (uint32_t i = 0; i < n->n_in; i++) {
    sd_evalue e;
    if (!n->in[i]) continue;
    SD_TRY(concrete(x, n->in[i], &e));
    in[i] = (sd_host_tensor){.dtype = e.dtype, .rank = e.rank, .count = 1};
    memcpy(in[i].dims, e.dims, sizeof in[i].dims);
    for (int d = 0; d < e.rank; d++) in[i].count *= (uint64_t)e.dims[d];
    SD_TRY(operand_data(x, n->in[i], &in[i].data));
  }
  for (uint32_t i = 0; i < n->n_out; i++)
    if (n->out[i]) out[i] = (sd_host_tensor){.dtype = n->out[i]->dtype, .rank = n->out[i]->rank};
  sd_host_call c = {n->n_in, n->n_out, n_param, in, out, param, make_host_output, &h, NULL, x->m->strings, x->m->objects, NULL, x->m->group};
  SD_TRY(sd_host_run(op, &c));
  return check_required(x);
}

static sard_status *bind_inputs(machine *x, const sd_evalue *in, uint32_t n_in) {
  sd_graph *g = x->m->main;
  if (g->inputs.len != n_in) return SD_ERR(USAGE, "%u inputs given, the model has %u", n_in, g->inputs.len);
  for (uint32_t i = 0; i < n_in; i++) SD_TRY(bind_symbols(x, g->inputs.at[i], &in[i]));
  for (uint32_t i = 0; i < n_in; i++) {
    SD_TRY(check_dims(x, g->inputs.at[i], &in[i]));
    x->slots[g->inputs.at[i]->id].v = in[i];
  }
  return NULL;
}

// What bodies take from the main graph without naming it as an operand stays until the end.
static void count_captured(machine *x, const sd_graph *body) {
  for (uint32_t i = 0; i < body->outputs.len; i++)
    if (body->outputs.at[i]->graph == x->m->main) x->slots[body->outputs.at[i]->id].uses++;
  for (const sd_node *k = body->first; k; k = k->next) {
    for (uint32_t i = 0; i < k->n_in; i++)
      if (k->in[i] && k->in[i]->graph == x->m->main) x->slots[k->in[i]->id].uses++;
    for (uint32_t b = 0; b < k->n_body; b++) count_captured(x, k->bodies[b]);
  }
}

static void count_uses(machine *x) {
  sd_graph *g = x->m->main;
  for (uint32_t i = 0; i < g->outputs.len; i++) x->slots[g->outputs.at[i]->id].uses++;
  for (sd_node *n = g->first; n; n = n->next) {
    for (uint32_t i = 0; i < n->n_in; i++) {
      if (n->in[i]) x->slots[n->in[i]->id].uses++;
    }
    for (uint32_t b = 0; b < n->n_body; b++) count_captured(x, n->bodies[b]);
  }
}

static sard_status *take_outputs(machine *x, sd_evalue *out) {
  sd_graph *g = x->m->main;
  for (uint32_t i = 0; i < g->outputs.len; i++) {
    const sd_value *v = g->outputs.at[i];
    slot *s = &x->slots[v->id];
    void *data;
    SD_TRY(operand_data(x, v, &data));
    if (s->owned && s->uses == 1) {
      out[i] = s->v;
      s->owned = false;
      continue;
    }
    s->uses--;
    SD_TRY(concrete_alloc(x, v, &out[i]));
    if (out[i].bytes) memcpy(out[i].data, data, out[i].bytes);
  }
  return NULL;
}

static sard_status *run_all(machine *x, const sd_evalue *in, uint32_t n_in, sd_evalue *out, uint32_t n_out) {
  if (x->m->main->outputs.len != n_out) return SD_ERR(USAGE, "room for %u outputs, the model has %u", n_out, x->m->main->outputs.len);
  SD_TRY(bind_inputs(x, in, n_in));
  count_uses(x);
  SD_TRY(run_main(x));
  return take_outputs(x, out);
}

sard_status *sd_eval_module(sd_module *m, const sd_evalue *in, uint32_t n_in, sd_evalue *out, uint32_t n_out,
                            sd_eval_hook hook, void *user) {
  machine x = {.m = m, .hook = hook, .user = user, .n_slots = m->next_id + 1};
  for (uint32_t i = 0; i < n_out; i++) out[i] = (sd_evalue){0};
  for (uint32_t i = 0; i < m->main->inputs.len; i++) {
    const sd_value *v = m->main->inputs.at[i];
    for (int d = 0; d < v->rank; d++) {
      if (v->dims[d] >= x.n_symbols) x.n_symbols = v->dims[d] + 1;
    }
  }
  x.scratch = sd_arena_new();
  x.slots = sd_calloc(x.n_slots, sizeof *x.slots);
  x.symbols = sd_calloc(x.n_symbols + 1, sizeof *x.symbols);
  sard_status *st = NULL;
  if (!x.scratch || !x.slots || !x.symbols) {
    st = SD_ERR(NOMEM, "no memory to interpret the graph");
  } else {
    for (uint32_t i = 0; i < x.n_symbols; i++) x.symbols[i] = INT64_MIN;
    st = run_all(&x, in, n_in, out, n_out);
  }
  for (uint32_t i = 0; x.slots && i < x.n_slots; i++) {
    if (x.slots[i].owned) sd_eval_free(&x.slots[i].v);
  }
  for (uint32_t i = 0; st && i < n_out; i++) sd_eval_free(&out[i]);
  sd_free(x.slots);
  sd_free(x.symbols);
  sd_arena_free(x.scratch);
  return st;
}

// ---- constant folding ----
static bool no_symbols(void *user, const char *name, int64_t *v) {
  (void)user, (void)name, (void)v;
  return false;
}

static sard_status *const_output(const sd_value *v, sd_arena *a, sd_const **out) {
  sd_const *c = SD_NEW(a, sd_const);
  int64_t *dims = SD_NEW_ARRAY(a, int64_t, SD_MAX_RANK);
  sd_evalue e = {.dtype = v->dtype, .rank = v->rank};
  if (v->rank < 0 || !sd_value_static(v, dims)) return SD_ERR(UNSUPPORTED, "the output shape is not static");
  memcpy(e.dims, dims, sizeof e.dims);
  *c = (sd_const){.dtype = v->dtype, .rank = v->rank, .dims = dims};
  SD_TRY(value_bytes(&e, &c->count, &c->bytes));
  if (c->bytes > UINT64_MAX / 2) return SD_ERR(NOMEM, "a constant of %llu bytes", (unsigned long long)c->bytes);
  c->data = sd_arena_aligned(a, c->bytes + 64, 64);
  *out = c;
  return NULL;
}

// Scratch memory that also goes when `a` is left through its recovery point.
typedef struct scratch { sd_arena *arena; } scratch;
static void scratch_free(void *p) {
  scratch *s = p;
  sd_arena_free(s->arena);
  s->arena = NULL;
}

static sard_status *fold(sd_node *n, sd_arena *work, sd_const **results, const sd_const **outs) {
  sd_kernel *k;
  jmp_buf oom;
  sd_arena_set_oom(work, &oom);
  if (setjmp(oom)) return SD_ERR(NOMEM, "no memory to evaluate a constant node");
  SD_TRY(sd_lower_node(work, n->graph->module, n, &k));
  void **data = SD_NEW_ARRAY(work, void *, k->bufs.len + 1);
  for (uint32_t i = 0; i < k->bufs.len; i++) {
    const sd_value *v = k->bufs.at[i]->value;
    if (!v) continue;
    sd_const *c = v->def == n && v->out_index < n->n_out ? results[v->out_index] : NULL;
    if (!v->data && !c) return SD_ERR(UNSUPPORTED, "the shape of value %%%u is not static", v->id);
    data[i] = v->data ? (void *)v->data->data : (void *)c->data;
    if (!v->data) outs[v->out_index] = c;
  }
  return sd_kernel_eval(k, data, no_symbols, NULL);
}

sard_status *sd_eval_node_consts(sd_node *n, sd_arena *a, const sd_const **outs) {
  for (uint32_t i = 0; i < n->n_in; i++) {
    if (n->in[i] && !n->in[i]->data) return sd_node_error(n, SD_ERR(INTERNAL, "operand %u is not constant", i));
  }
  sd_const **results = SD_NEW_ARRAY(a, sd_const *, n->n_out + 1);
  for (uint32_t i = 0; i < n->n_out; i++) {
    outs[i] = NULL;
    sard_status *st = n->out[i] && (n->out[i]->rank >= 0) ? const_output(n->out[i], a, &results[i]) : NULL;
    if (st) return sd_node_error(n, st);
  }
  scratch *work = SD_NEW(a, scratch);
  sd_arena_defer(a, scratch_free, work);
  work->arena = sd_arena_new();
  if (!work->arena) return sd_node_error(n, SD_ERR(NOMEM, "no memory to evaluate a constant node"));
  sard_status *st = fold(n, work->arena, results, outs);
  scratch_free(work);
  return st ? sd_node_error(n, st) : NULL;
}
