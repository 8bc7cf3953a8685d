// Text form of modules: printing. Grammar in docs/ir.md; ir/parse.c reads it back.
#include <math.h>

#include "ir/text.h"

typedef struct idset { // of pointers, open addressing
  const void **at;
  uint32_t len, cap;
} idset;

typedef struct printer {
  const sd_module *m;
  sd_arena *arena; // scratch
  sd_str *out;
  bool weights;
  idset consts; // the members of const_list
  SD_VEC(const sd_value *) const_list; // constants and buffers, in order of first use
  SD_VEC(sd_dim) syms;
  idset dims_seen;
} printer;

static bool idset_add(sd_arena *a, idset *s, const void *p) {
  if (s->len * 2 >= s->cap) {
    idset big = {SD_NEW_ARRAY(a, const void *, s->cap ? s->cap * 2 : 64), 0, s->cap ? s->cap * 2 : 64};
    for (uint32_t i = 0; i < s->cap; i++)
      if (s->at[i]) idset_add(a, &big, s->at[i]);
    *s = big;
  }
  uint32_t i = (uint32_t)(((uintptr_t)p * 0x9e3779b97f4a7c15ull) >> 32) & (s->cap - 1);
  for (; s->at[i]; i = (i + 1) & (s->cap - 1))
    if (s->at[i] == p) return false;
  s->at[i] = p;
  s->len++;
  return true;
}

void sd_text_quote(sd_str *out, const char *s) {
  sd_str_put(out, "\"");
  for (; *s; s++) {
    unsigned char c = (unsigned char)*s;
    if (c == '"' || c == '\\') sd_strf(out, "\\%c", c);
    else if (c == '\n') sd_str_put(out, "\\n");
    else if (c == '\t') sd_str_put(out, "\\t");
    else if (c < 32 || c == 127) sd_strf(out, "\\x%02x", c);
    else sd_str_putn(out, s, 1);
  }
  sd_str_put(out, "\"");
}

static void indent(printer *p, int depth) {
  for (int i = 0; i < depth; i++) sd_str_put(p->out, "  ");
}

// ---- symbols: those that types mention, in order of first occurrence ----

static void collect_dim(printer *p, sd_dim d) {
  const sd_dimnode *x = sd_dim_get(p->m->dims, d);
  if (!x || x->op == SD_DIM_CONST || !idset_add(p->arena, &p->dims_seen, x)) return;
  if (x->op == SD_DIM_SYM) sd_vec_push(p->arena, &p->syms, d);
  for (uint32_t i = 0; i < x->n; i++) collect_dim(p, x->args[i]);
}

static bool is_loose(const sd_value *v) { // a constant, or memory that only holds other values
  return !v->def && !sd_value_is_input(v);
}

static void collect_value(printer *p, const sd_value *v) {
  if (!v) return;
  for (int i = 0; i < v->rank; i++) collect_dim(p, v->dims[i]);
  for (int i = 0; v->window && i < v->storage->rank; i++) collect_dim(p, v->window[i]);
  if (is_loose(v)) {
    if (!idset_add(p->arena, &p->consts, v)) return; // ends chains that lead back to themselves
    sd_vec_push(p->arena, &p->const_list, v);
  }
  if (v->storage && is_loose(v->storage)) collect_value(p, v->storage);
}

static void collect_graph(printer *p, const sd_graph *g) {
  for (uint32_t i = 0; i < g->inputs.len; i++) collect_value(p, g->inputs.at[i]);
  for (const sd_node *n = g->first; n; n = n->next) {
    for (uint32_t i = 0; i < n->n_in; i++) collect_value(p, n->in[i]);
    for (uint32_t i = 0; i < n->n_out; i++) collect_value(p, n->out[i]);
    for (uint32_t i = 0; i < n->n_body; i++) collect_graph(p, n->bodies[i]);
  }
  for (uint32_t i = 0; i < g->outputs.len; i++) collect_value(p, g->outputs.at[i]);
}

static void print_symbols(printer *p) {
  for (uint32_t i = 0; i < p->syms.len; i++) {
    const sd_dimnode *x = sd_dim_get(p->m->dims, p->syms.at[i]);
    sd_str_put(p->out, "symbol ");
    sd_dim_print(p->m->dims, p->syms.at[i], p->out);
    if (x->min != 0 || x->max != INT64_MAX / 4)
      sd_strf(p->out, " in [%lld, %lld]", (long long)x->min, (long long)x->max);
    sd_str_put(p->out, "\n");
  }
}

// ---- constants ----

static void print_float(sd_str *out, double v, bool wide) {
  if (isnan(v)) sd_str_put(out, signbit(v) ? "-nan" : "nan");
  else if (isinf(v)) sd_str_put(out, v < 0 ? "-inf" : "inf");
  else sd_strf(out, wide ? "%.17g" : "%.9g", v);
}

// Readable form is exact but for the payload of NaNs, so these go as hex.
static bool readable(const sd_const *c) {
  sd_dtype_kind k = sd_dtype_kind_of(c->dtype);
  if (c->count > SD_TEXT_INLINE || k == SD_DK_C || k == SD_DK_NONE) return false;
  for (uint64_t i = 0; k == SD_DK_F && i < c->count; i++)
    if (isnan(sd_dtype_get_f64(c->dtype, c->data, i))) return false;
  return true;
}

static void print_readable(const printer *p, const sd_const *c) {
  sd_str *out = p->out;
  sd_str_put(out, "dense<");
  for (uint64_t i = 0; i < c->count; i++) {
    if (i) sd_str_put(out, ", ");
    if (c->dtype == SD_STRING) sd_text_quote(out, sd_strtab_text(p->m->strings, ((const uint64_t *)c->data)[i]));
    else if (sd_dtype_is_float(c->dtype)) print_float(out, sd_dtype_get_f64(c->dtype, c->data, i), c->dtype == SD_F64);
    else if (c->dtype == SD_U64) sd_strf(out, "%llu", (unsigned long long)sd_dtype_get_i64(c->dtype, c->data, i));
    else sd_strf(out, "%lld", (long long)sd_dtype_get_i64(c->dtype, c->data, i));
  }
  sd_str_put(out, ">");
}

static void print_hex(sd_str *out, const sd_const *c) {
  static const char digits[] = "0123456789abcdef";
  const uint8_t *b = c->data;
  char buf[512];
  sd_str_put(out, "hex<");
  for (uint64_t i = 0; i < c->bytes;) {
    size_t n = 0;
    for (; n < sizeof buf && i < c->bytes; i++) buf[n++] = digits[b[i] >> 4], buf[n++] = digits[b[i] & 15];
    sd_str_putn(out, buf, n);
  }
  sd_str_put(out, ">");
}

static void print_content(printer *p, const sd_const *c) {
  if (c->dtype == SD_STRING || readable(c)) print_readable(p, c);
  else if (p->weights || c->count <= SD_TEXT_INLINE) print_hex(p->out, c);
  else sd_strf(p->out, "hash<%016llx>", (unsigned long long)sd_const_hash(c));
}

static void print_const_type(sd_str *out, const sd_const *c) {
  sd_strf(out, "%s[", sd_dtype_name(c->dtype));
  for (int i = 0; i < c->rank; i++) sd_strf(out, "%s%lld", i ? "," : "", (long long)c->dims[i]);
  sd_str_put(out, "]");
}

// ---- values and nodes ----

static void print_def(printer *p, const sd_value *v) { // %3 "name" view in %1 at [0,4]
  sd_strf(p->out, "%%%u", v->id);
  if (*v->name) {
    sd_str_put(p->out, " ");
    sd_text_quote(p->out, v->name);
  }
  if (v->view) sd_str_put(p->out, " view");
  if (v->storage) sd_strf(p->out, " in %%%u", v->storage->id);
  if (!v->window) return;
  for (int i = 0; i < v->storage->rank; i++) {
    sd_str_put(p->out, i ? "," : " at [");
    sd_dim_print(p->m->dims, v->window[i], p->out);
  }
  sd_str_put(p->out, v->storage->rank > 0 ? "]" : " at []");
}

// The operand of the owner whose contents are known for an input of its body; NULL when there is none.
static const sd_value *bound_to(const sd_graph *g, const sd_value *v) {
  for (uint32_t i = 0; g->owner && i < g->owner->n_in; i++) {
    const sd_value *x = g->owner->in[i];
    if (x && ((v->data && x->data == v->data) || (v->elems && x->elems == v->elems))) return x;
  }
  return NULL;
}

static void print_ref(sd_str *out, const sd_value *v) {
  if (v) sd_strf(out, "%%%u", v->id);
  else sd_str_put(out, "_");
}

static void print_attr_value(printer *p, const sd_attr *a) {
  sd_str *out = p->out;
  bool list = a->kind == SD_ATTR_INTS || a->kind == SD_ATTR_FLOATS || a->kind == SD_ATTR_STRINGS;
  switch (a->kind) {
  case SD_ATTR_INT: sd_strf(out, "%lld", (long long)a->i); return;
  case SD_ATTR_FLOAT: print_float(out, (double)a->f, false); return;
  case SD_ATTR_STRING: sd_text_quote(out, a->s); return;
  case SD_ATTR_TENSOR:
    print_const_type(out, a->tensor);
    sd_str_put(out, " ");
    print_content(p, a->tensor);
    return;
  default: break;
  }
  if (!list) {
    sd_str_put(out, "none");
    return;
  }
  sd_str_put(out, "[");
  for (uint32_t i = 0; i < a->n; i++) {
    if (i) sd_str_put(out, ", ");
    if (a->kind == SD_ATTR_INTS) sd_strf(out, "%lld", (long long)a->ints[i]);
    else if (a->kind == SD_ATTR_FLOATS) print_float(out, (double)a->floats[i], false);
    else sd_text_quote(out, a->strings[i]);
  }
  sd_str_put(out, "]");
}

static bool attr_same(const sd_attr *a, const sd_attr *b) {
  if (a->kind != b->kind || a->n != b->n) return false;
  switch (a->kind) {
  case SD_ATTR_INT: return a->i == b->i;
  case SD_ATTR_FLOAT: return memcmp(&a->f, &b->f, sizeof a->f) == 0;
  case SD_ATTR_STRING: return strcmp(a->s, b->s) == 0;
  case SD_ATTR_INTS: return a->n == 0 || memcmp(a->ints, b->ints, a->n * sizeof *a->ints) == 0;
  case SD_ATTR_FLOATS: return a->n == 0 || memcmp(a->floats, b->floats, a->n * sizeof *a->floats) == 0;
  case SD_ATTR_STRINGS:
    for (uint32_t i = 0; i < a->n; i++)
      if (strcmp(a->strings[i], b->strings[i])) return false;
    return true;
  default: return false;
  }
}

// Attributes that differ from their defaults. Graph attributes are the bodies that follow.
static void print_attrs(printer *p, const sd_node *n) {
  bool open = false;
  for (uint32_t i = 0; i < n->n_attr; i++) {
    const sd_attrdecl *d = &n->op->attrs[i];
    const sd_attr *a = &n->attrs[i], none = {0};
    if (a->kind == SD_ATTR_GRAPH || attr_same(a, d->has_default ? &d->def : &none)) continue;
    if (a->kind == SD_ATTR_NONE && !d->has_default) continue;
    sd_strf(p->out, "%s%s=", open ? ", " : " {", d->name);
    print_attr_value(p, a);
    open = true;
  }
  if (open) sd_str_put(p->out, "}");
}

static void print_types(printer *p, const sd_node *n) {
  for (uint32_t i = 0; i < n->n_out; i++) {
    sd_str_put(p->out, i ? ", " : " : ");
    if (n->out[i]) sd_type_print(p->m, n->out[i], p->out);
    else sd_str_put(p->out, "_");
  }
}

static void print_graph(printer *p, const sd_graph *g, int depth);

static void print_node(printer *p, const sd_node *n, int depth) {
  indent(p, depth);
  for (uint32_t i = 0; i < n->n_out; i++) {
    if (i) sd_str_put(p->out, ", ");
    if (n->out[i]) print_def(p, n->out[i]);
    else sd_str_put(p->out, "_");
  }
  sd_strf(p->out, "%s%s(", n->n_out ? " = " : "", n->op->name);
  for (uint32_t i = 0; i < n->n_in; i++) {
    if (i) sd_str_put(p->out, ", ");
    print_ref(p->out, n->in[i]);
  }
  sd_str_put(p->out, ")");
  print_attrs(p, n);
  if (*n->name) {
    sd_str_put(p->out, " ");
    sd_text_quote(p->out, n->name);
  }
  if (n->onnx_index >= 0) sd_strf(p->out, " #%d", n->onnx_index);
  print_types(p, n);
  sd_str_put(p->out, "\n");
  for (uint32_t i = 0; i < n->n_body; i++) {
    indent(p, depth + 1);
    sd_str_put(p->out, "body ");
    print_graph(p, n->bodies[i], depth + 1);
  }
}

static void print_consts(printer *p, const sd_graph *g, int depth) {
  for (uint32_t i = 0; i < p->const_list.len; i++) {
    const sd_value *v = p->const_list.at[i];
    if (v->graph != g) continue;
    indent(p, depth);
    print_def(p, v);
    sd_str_put(p->out, v->data ? " = const " : " = buffer ");
    if (v->data) {
      print_const_type(p->out, v->data);
      sd_str_put(p->out, " ");
      print_content(p, v->data);
    } else {
      sd_type_print(p->m, v, p->out);
    }
    sd_str_put(p->out, "\n");
  }
}

static void print_graph(printer *p, const sd_graph *g, int depth) {
  sd_text_quote(p->out, g->name);
  sd_str_put(p->out, " (");
  for (uint32_t i = 0; i < g->inputs.len; i++) {
    if (i) sd_str_put(p->out, ", ");
    const sd_value *bound = bound_to(g, g->inputs.at[i]);
    print_def(p, g->inputs.at[i]);
    if (bound) sd_strf(p->out, " = %%%u", bound->id);
    sd_str_put(p->out, ": ");
    sd_type_print(p->m, g->inputs.at[i], p->out);
  }
  sd_str_put(p->out, ") {\n");
  print_consts(p, g, depth + 1);
  for (const sd_node *n = g->first; n; n = n->next) print_node(p, n, depth + 1);
  indent(p, depth + 1);
  sd_str_put(p->out, "return");
  for (uint32_t i = 0; i < g->outputs.len; i++) {
    sd_str_put(p->out, i ? ", " : " ");
    print_ref(p->out, g->outputs.at[i]);
  }
  sd_str_put(p->out, "\n");
  indent(p, depth);
  sd_str_put(p->out, "}\n");
}

static void print_module(printer *p) {
  const sd_module *m = p->m;
  sd_strf(p->out, "module ir=%lld opset=%lld producer=", (long long)m->ir_version, (long long)m->opset);
  sd_text_quote(p->out, m->producer ? m->producer : "");
  sd_str_put(p->out, "\n");
  for (uint32_t i = 0; i < m->metadata.len; i++) {
    sd_str_put(p->out, "meta ");
    sd_text_quote(p->out, m->metadata.at[i].key);
    sd_str_put(p->out, " = ");
    sd_text_quote(p->out, m->metadata.at[i].value);
    sd_str_put(p->out, "\n");
  }
  collect_graph(p, m->main);
  print_symbols(p);
  sd_str_put(p->out, "graph ");
  print_graph(p, m->main, 0);
}

sard_status *sd_module_print(const sd_module *m, bool weights, sd_str *out) {
  jmp_buf oom;
  sd_arena *a = sd_arena_new();
  if (!a) return SD_ERR(NOMEM, "out of memory while printing");
  sd_arena_set_oom(a, &oom);
  if (setjmp(oom)) {
    sd_arena_free(a);
    return SD_ERR(NOMEM, "out of memory while printing");
  }
  printer p = {.m = m, .arena = a, .out = out, .weights = weights};
  print_module(&p);
  sd_arena_free(a);
  return out->failed ? SD_ERR(NOMEM, "out of memory while printing") : NULL;
}
