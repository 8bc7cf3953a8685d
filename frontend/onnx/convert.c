// Which nodes are narrow is decided on the imported module, by the pass; here the file is changed such.
#include "frontend/onnx/convert.h"

#include <fnmatch.h>
#include <string.h>

#include "frontend/onnx/convert_io.h"
#include "frontend/onnx/raise.h"
#include "passes/pass.h"

enum {
  CAST_OPSET = 13,
  LEAST_STORED = 1024
}; // where Cast knows bf16; elements of a weight that is worth a cast

static const char kept[] = "--keep-float";

static const struct {
  const char *op;
  int64_t f16, bf16;
} forms[] = {
#define SD_ONNX_NARROW(op, f16, bf16) {#op, f16, bf16},
#include "frontend/onnx/narrow.def"
#undef SD_ONNX_NARROW
};

static const char *name_of(const Onnx__NodeProto *n) {
  return *n->name ? n->name : n->n_output ? n->output[0] : "";
}

#define NEVER INT64_MAX

// The opset from which on n can be of type t; NEVER: only its weights can; 0: nothing of it.
static int64_t since(const Onnx__NodeProto *n, sd_dtype t) {
  for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
    int64_t from = t == SD_F16 ? forms[i].f16 : forms[i].bf16;
    if (sd_proto_is(n, "", forms[i].op)) return from ? from : NEVER;
  }
  return 0;
}

static bool narrows(const Onnx__NodeProto *n) {
  const sd_op *op = *n->domain && strcmp(n->domain, "ai.onnx") != 0 ? NULL : sd_op_find(n->op_type);
  return op && op->narrow != SD_NARROW_NO;
}

enum { LAST_RAISE = 22 }; // the last opset in which many operators got bf16

// Not every runtime knows the newest opsets: only as far as it matters.
static int64_t wanted_opset(const sd_proto *e, sd_dtype to) {
  int64_t most = 0;
  for (uint32_t i = 0; i < e->nodes.len; i++) {
    int64_t from = since(e->nodes.at[i], to);
    if (narrows(e->nodes.at[i]) && from > most && from <= LAST_RAISE) most = from;
  }
  return most;
}

sard_status *sd_convert_raise(sd_arena *a, sard_source *src, sd_dtype to, int64_t *opset, const char **why) {
  sd_proto e;
  const sd_packed *packed;
  *opset = 0, *why = NULL;
  SD_TRY(sd_proto_open(a, src, &e));
  int64_t want = wanted_opset(&e, to);
  if (want <= e.opset) return NULL;
  sard_status *st = sd_proto_raise(&e, src, want);
  if (sard_status_code(st) == SARD_E_UNSUPPORTED) {
    *why = sd_arena_strdup(a, sard_status_text(st, SARD_TEXT_MESSAGE));
    return sard_status_free(st), NULL;
  }
  SD_TRY(st);
  SD_TRY(sd_proto_pack(&e, &packed));
  *src = packed->src;
  *opset = want;
  return NULL;
}

sard_status *sd_convert_limits(sd_arena *a, const sard_source *src, sd_precision *p) {
  sd_proto e;
  SD_TRY(sd_proto_open(a, src, &e));
  for (uint32_t i = 0; i < e.nodes.len; i++) {
    const Onnx__NodeProto *n = e.nodes.at[i];
    int64_t from = since(n, p->to);
    if (from && from <= e.opset) continue;
    const char *type = sd_dtype_name(p->to), *why = "ONNX has no narrow form of it";
    if (from == NEVER) why = sd_arena_printf(a, "runtimes have no %s of %s", n->op_type, type);
    else if (from)
      why = sd_arena_printf(a, "opset %lld has no %s for %s, opset %lld does", (long long)e.opset, type,
                            n->op_type, (long long)from);
    if (narrows(n) || *n->domain)
      sd_vec_push(a, &p->choices, ((sd_precision_choice){name_of(n), SD_F32, why}));
  }
  return NULL;
}

sard_status *sd_convert_keep(sd_arena *a, const sard_source *src, const char *pattern, sd_precision *p,
                             uint32_t *found) {
  sd_proto e;
  *found = 0;
  SD_TRY(sd_proto_open(a, src, &e));
  for (uint32_t i = 0; i < e.nodes.len; i++) {
    const char *name = name_of(e.nodes.at[i]);
    if (strcmp(name, pattern) != 0 && fnmatch(pattern, name, 0) != 0) continue;
    sd_vec_push(a, &p->choices, ((sd_precision_choice){name, SD_F32, kept}));
    ++*found;
  }
  return NULL;
}

// ---- what the pass decides ----

typedef struct deciding {
  sd_precision_report *out;
  const sd_precision *p;
} deciding;

static sard_status *decide(sd_module *m, const deciding *d) {
  jmp_buf oom;
  const sd_pass *pass = sd_pass_find("precision");
  sd_pass_options o = {.bisect = -1, .precision = d->p, .precision_report = d->out};
  sd_pass_report r = {0};
  if (!pass || setjmp(oom))
    return pass ? SD_ERR(NOMEM, "out of memory") : SD_ERR(INTERNAL, "there is no pass precision");
  sd_arena_set_oom(m->arena, &oom);
  sd_arena *scratch = sd_arena_scratch(m->arena);
  sard_status *st = pass->run(m, &o, scratch, &r);
  sd_arena_free(scratch);
  sd_arena_set_oom(m->arena, NULL);
  return st;
}

// ---- writing ----

typedef struct writer {
  sd_proto e;
  sd_dtype to;
  sd_names types;   // values of f32 that the imported module has
  sd_names results; // first result of a node -> sd_precision_node
  sd_names narrow;  // value -> name of the narrow one
  SD_VEC(Onnx__NodeProto *) nodes;
} writer;

static bool is_f32(const writer *w, const char *name) {
  const Onnx__TensorProto *t = sd_proto_weight(&w->e, name);
  return t ? t->data_type == SD_F32 : *name && sd_names_get(&w->types, name);
}

static void emit_cast(writer *w, const char *x, sd_dtype to, const char *y) {
  Onnx__NodeProto *n = sd_proto_node(&w->e, sd_arena_printf(w->e.a, "%s_Cast", y), "", "Cast", &x, 1, y);
  sd_proto_int(&w->e, n, "to", to);
  sd_vec_push(w->e.a, &w->nodes, n);
}

static sard_status *narrow_tensor(writer *w, const char *name, const char *base, const char **out) {
  sd_const *c = NULL;
  uint64_t bytes;
  SD_TRY(sd_proto_const(&w->e, sd_proto_weight(&w->e, name), &c));
  if (!sd_dtype_bytes(w->to, c->count, &bytes)) return SD_ERR(NOMEM, "the weight '%s' is too large", name);
  uint8_t *data = sd_arena_alloc(w->e.a, bytes + 1);
  for (uint64_t i = 0; i < c->count; i++)
    sd_dtype_set_f64(w->to, data, i, sd_dtype_get_f64(SD_F32, c->data, i));
  *out = sd_proto_tensor(&w->e, base, w->to, c->rank, c->dims, data);
  return NULL;
}

static sard_status *narrow_value(writer *w, const char *name, const char **out) {
  sd_arena *a = w->e.a;
  const char *base = sd_arena_printf(a, "%s_%s", name, sd_dtype_name(w->to));
  *out = sd_names_get(&w->narrow, name);
  if (*out) return NULL;
  if (sd_proto_weight(&w->e, name)) SD_TRY(narrow_tensor(w, name, base, out));
  else {
    *out = sd_proto_name(&w->e, base);
    emit_cast(w, name, w->to, *out);
  }
  sd_names_add(&w->narrow, name, (void *)(uintptr_t)*out);
  return NULL;
}

static sard_status *write_narrow(writer *w, Onnx__NodeProto *n) {
  sd_arena *a = w->e.a;
  const sd_op *op = sd_op_find(n->op_type);
  char **in = SD_NEW_ARRAY(a, char *, n->n_input + 1), **out = SD_NEW_ARRAY(a, char *, n->n_output + 1);
  for (size_t i = 0; i < n->n_input; i++) {
    const char *x = n->input[i];
    in[i] = n->input[i];
    if (!is_f32(w, x) || !sd_precision_operand(op, (uint32_t)i)) continue;
    SD_TRY(narrow_value(w, x, &x));
    in[i] = (char *)(uintptr_t)x;
  }
  const char *const *given = (const char *const *)n->output;
  size_t count = n->n_output;
  sd_vec_push(a, &w->nodes, n);
  for (size_t i = 0; i < count; i++) {
    const char *y = given[i];
    out[i] = (char *)(uintptr_t)y;
    if (!is_f32(w, y)) continue;
    const char *low = sd_proto_name(&w->e, sd_arena_printf(a, "%s_%s", y, sd_dtype_name(w->to)));
    out[i] = (char *)(uintptr_t)low;
    sd_names_add(&w->narrow, y, (void *)(uintptr_t)low), sd_names_add(&w->e.spare, y, w);
    emit_cast(w, low, SD_F32, y);
  }
  n->input = in, n->output = out;
  return NULL;
}

static sard_status *fits(writer *w, const Onnx__TensorProto *t, bool *out) {
  sd_const *c = NULL;
  double most, tiny;
  if (w->to != SD_F16) return *out = true, NULL;
  SD_TRY(sd_proto_const(&w->e, t, &c));
  sd_precision_measure(c->data, c->count, &most, &tiny);
  return *out = !sd_precision_misfit(w->e.a, "", most, tiny, 1), NULL;
}

// A node that is to be had in f32 only keeps its weights narrow all the same, behind a cast.
static sard_status *store_narrow(writer *w, Onnx__NodeProto *n, bool *some) {
  const sd_op *op = sd_op_find(n->op_type);
  char **in = SD_NEW_ARRAY(w->e.a, char *, n->n_input + 1);
  for (size_t i = 0; i < n->n_input; i++) {
    const char *x = n->input[i], *low, *wide;
    const Onnx__TensorProto *t = sd_proto_weight(&w->e, x);
    int64_t count = t ? 1 : 0;
    bool good;
    in[i] = n->input[i];
    for (size_t d = 0; t && d < t->n_dims; d++) count *= t->dims[d]; // sizes of a tensor that was read
    if (count < LEAST_STORED || !is_f32(w, x) || !sd_precision_operand(op, (uint32_t)i)) continue;
    SD_TRY(fits(w, t, &good));
    if (!good) continue;
    SD_TRY(narrow_value(w, x, &low));
    *some = true;
    wide = sd_proto_name(&w->e, sd_arena_printf(w->e.a, "%s_wide", x));
    emit_cast(w, low, SD_F32, wide);
    in[i] = (char *)(uintptr_t)wide;
  }
  n->input = in;
  return NULL;
}

static void list_value(writer *w, const sd_value *v) {
  if (v && v->dtype == SD_F32 && v->name && *v->name) sd_names_add(&w->types, sd_arena_strdup(w->e.a, v->name), w);
}

static void list_values(writer *w, const sd_module *m) {
  for (uint32_t i = 0; i < m->main->inputs.len; i++) list_value(w, m->main->inputs.at[i]);
  for (const sd_node *n = m->main->first; n; n = n->next) {
    for (uint32_t i = 0; i < n->n_out; i++) list_value(w, n->out[i]);
    for (uint32_t i = 0; i < n->n_in; i++) list_value(w, n->in[i]); // what the importer has computed has no node any more
  }
}

// What the pass makes of the nodes. The module, which has its constants in both types then, ends here: they are made again one by one.
static sard_status *judge(writer *w, const sard_source *src, const sd_precision *p, sd_precision_report *out) {
  sd_module *m = NULL;
  SD_TRY(sd_import_onnx(src, &m));
  list_values(w, m); // as they are before the pass
  sard_status *st = decide(m, &(deciding){out, p});
  for (uint32_t i = 0; i < out->nodes.len; i++)
    if (*out->nodes.at[i].value)
      sd_names_add(&w->results, sd_arena_strdup(w->e.a, out->nodes.at[i].value), &out->nodes.at[i]);
  sd_module_free(m);
  return st;
}

// What the pass says of each node of the file, in the order of the file.
static sard_status *write_nodes(writer *w, sd_precision_report *nodes) {
  for (uint32_t i = 0; i < w->e.nodes.len; i++) {
    Onnx__NodeProto *n = w->e.nodes.at[i];
    const sd_precision_node *d =
        n->n_output && *n->output[0] ? sd_names_get(&w->results, n->output[0]) : NULL;
    bool low = d && d->to == w->to && since(n, w->to) && since(n, w->to) <= w->e.opset && narrows(n);
    bool stores = d && !low && (w->to == SD_F16 || w->e.opset >= CAST_OPSET) &&
                  since(n, w->to) > w->e.opset && narrows(n) && d->why && strcmp(d->why, kept) != 0;
    bool stored = false;
    if (d) {
      bool by_rule = !low && (d->by_rule || (since(n, w->to) == 0 && !*n->domain));
      sd_precision_node x = {name_of(n),           n->op_type,          d->value,
                             low ? w->to : SD_F32, low ? NULL : d->why, by_rule};
      sd_vec_push(nodes->arena, &nodes->nodes, x);
    }
    if (stores) SD_TRY(store_narrow(w, n, &stored));
    nodes->weights += stored;
    if (low) SD_TRY(write_narrow(w, n));
    else
      sd_vec_push(w->e.a, &w->nodes, n);
  }
  return NULL;
}

sard_status *sd_convert_write(sd_arena *a, const sard_source *src, const sd_precision *p,
                              sd_precision_report *nodes, uint32_t *io, const sd_packed **out) {
  writer w = {.to = p->to};
  sd_precision_report decided = {.arena = a};
  nodes->arena = a;
  SD_TRY(sd_proto_open(a, src, &w.e));
  sd_names_init(&w.types, a), sd_names_init(&w.results, a), sd_names_init(&w.narrow, a);
  SD_TRY(judge(&w, src, p, &decided));
  SD_TRY(write_nodes(&w, nodes));
  w.e.nodes.at = w.nodes.at, w.e.nodes.len = w.nodes.len, w.e.nodes.cap = w.nodes.cap;
  if (io) *io = sd_convert_io(&w.e, &w.narrow, w.to);
  sd_proto_sweep(&w.e);
  return sd_proto_pack(&w.e, out);
}

sard_status *sd_convert_ends(sd_arena *a, const sard_source *src, sd_dtype to, uint32_t *io, const sd_packed **out) {
  sd_proto e;
  SD_TRY(sd_proto_open(a, src, &e));
  *io = sd_convert_io(&e, NULL, to);
  return sd_proto_pack(&e, out);
}
