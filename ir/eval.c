// Graph interpreter over sd_lower_node and sd_kernel_eval.
#include "ir/eval.h"

#include <string.h>

#include "runtime/base/alloc.h"

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
} machine;

static bool symbol_value(void *user, const char *name, int64_t *v) {
  machine *x = user;
  sd_dim d = sd_dim_sym(x->m->dims, name);
  if (d >= x->n_symbols || x->symbols[d] == INT64_MIN) return false;
  *v = x->symbols[d];
  return true;
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
  if (!sd_dtype_bytes(v->dtype, *count, bytes)) return SD_ERR(NOMEM, "a tensor of type %s that overflows", sd_dtype_name(v->dtype));
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
  return out->data ? NULL : SD_ERR(NOMEM, "no memory for a tensor of %llu bytes", (unsigned long long)out->bytes);
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

static void release(machine *x, const sd_value *v) {
  slot *s = &x->slots[v->id];
  if (s->uses && --s->uses == 0 && s->owned) {
    sd_eval_free(&s->v);
    s->owned = false;
  }
}

static sard_status *run_node(machine *x, sd_node *n) {
  sd_evalue *outs = SD_NEW_ARRAY(x->scratch, sd_evalue, n->n_out + 1);
  bool any = false;
  for (uint32_t i = 0; i < n->n_out; i++) any |= wanted(n->out[i]);
  for (uint32_t i = 0; i < n->n_out; i++) {
    sd_value *v = n->out[i];
    if (!v || (any && !wanted(v))) continue;
    slot *s = &x->slots[v->id];
    SD_TRY(concrete_alloc(x, v, &s->v));
    s->owned = true;
    outs[i] = s->v;
  }
  SD_TRY(run_kernel(x, n));
  if (x->hook) SD_TRY(x->hook(x->user, n, outs));
  for (uint32_t i = 0; i < n->n_in; i++) {
    if (n->in[i] && !n->in[i]->data) release(x, n->in[i]);
  }
  for (uint32_t i = 0; i < n->n_out; i++) {
    if (n->out[i] && !wanted(n->out[i])) {
      sd_eval_free(&x->slots[n->out[i]->id].v);
      x->slots[n->out[i]->id].owned = false;
    }
  }
  return NULL;
}

static sard_status *run_graph(machine *x) {
  jmp_buf oom;
  sd_arena_set_oom(x->scratch, &oom);
  if (setjmp(oom)) return SD_ERR(NOMEM, "no memory to interpret the graph");
  for (sd_node *n = x->m->main->first; n; n = n->next) {
    sard_status *st = run_node(x, n);
    if (st) return sd_node_error(n, st);
    sd_arena_reset(x->scratch);
  }
  return NULL;
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

static void count_uses(machine *x) {
  sd_graph *g = x->m->main;
  for (uint32_t i = 0; i < g->outputs.len; i++) x->slots[g->outputs.at[i]->id].uses++;
  for (sd_node *n = g->first; n; n = n->next) {
    for (uint32_t i = 0; i < n->n_in; i++) {
      if (n->in[i]) x->slots[n->in[i]->id].uses++;
    }
    // What bodies take from outside without naming it as an operand stays until the end.
    for (uint32_t b = 0; b < n->n_body; b++) {
      for (sd_node *k = n->bodies[b]->first; k; k = k->next) {
        for (uint32_t i = 0; i < k->n_in; i++) {
          if (k->in[i] && k->in[i]->graph == g) x->slots[k->in[i]->id].uses++;
        }
      }
    }
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
  SD_TRY(run_graph(x));
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
