// Model-local functions: found by domain, name and overload; inlined at each call with names, attributes and opsets of
// their own.
#include "frontend/onnx/internal.h"

static const char *plain_domain(const char *d) { return strcmp(d, "ai.onnx") == 0 ? "" : d; }

static const char *function_key(sd_import *im, const char *domain, const char *name, const char *overload) {
  return sd_arena_printf(im->tmp, "%s\x1f%s\x1f%s", plain_domain(domain), name, overload);
}

sard_status *sd_import_functions(sd_import *im) {
  const Onnx__ModelProto *m = im->o.model;
  sd_names_init(&im->functions, im->tmp);
  for (size_t i = 0; i < m->n_functions; i++) {
    Onnx__FunctionProto *f = m->functions[i];
    if (!*f->name) return SD_ERR(MODEL, "function %zu has no name", i);
    if (!sd_names_add(&im->functions, function_key(im, f->domain, f->name, f->overload), f))
      return SD_ERR(MODEL, "the function '%s.%s' is defined twice", f->domain, f->name);
  }
  return NULL;
}

const Onnx__FunctionProto *sd_import_find_function(sd_import *im, const char *domain, const char *op,
                                                   const char *overload) {
  return im->functions.len ? sd_names_get(&im->functions, function_key(im, domain, op, overload)) : NULL;
}

static int64_t find_opset(Onnx__OperatorSetIdProto *const *list, size_t n, const char *domain) {
  for (size_t i = 0; i < n; i++)
    if (list[i]->version && strcmp(plain_domain(list[i]->domain), domain) == 0) return list[i]->version;
  return 0;
}

int64_t sd_import_opset(const sd_import *im, const sd_scope *scope, const char *domain) {
  const Onnx__ModelProto *m = im->o.model;
  int64_t v = 0;
  if (scope->call) v = find_opset(scope->call->fn->opset_import, scope->call->fn->n_opset_import, domain);
  if (!v) v = find_opset(m->opset_import, m->n_opset_import, domain);
  // other domains are often used without being imported; IR versions before 3 had no list of opsets
  return v || (!*domain && m->ir_version >= 3) ? v : 1;
}

static sard_status *check_call(sd_import *im, const sd_onnx_node *n, const Onnx__FunctionProto *fn) {
  int depth = 0;
  for (const sd_call *c = n->scope->call; c; c = c->outer, depth++)
    if (c->fn == fn) return SD_ERR(MODEL, "the function '%s.%s' calls itself", fn->domain, fn->name);
  if (depth >= SD_MAX_DEPTH) return SD_ERR(MODEL, "functions nest deeper than %d calls", SD_MAX_DEPTH);
  if (n->in.len > fn->n_input || n->out.len > fn->n_output)
    return SD_ERR(MODEL, "it has %u operands and %u outputs, the function '%s.%s' has %zu and %zu", n->in.len,
                  n->out.len, fn->domain, fn->name, fn->n_input, fn->n_output);
  if (fn->n_node > SD_IMPORT_MAX_INLINED - im->inlined)
    return SD_ERR(MODEL, "the model's functions expand to more than %u nodes", SD_IMPORT_MAX_INLINED);
  im->inlined += (uint32_t)fn->n_node;
  return NULL;
}

static bool declares_attr(const Onnx__FunctionProto *fn, const char *name) {
  for (size_t i = 0; i < fn->n_attribute; i++)
    if (strcmp(fn->attribute[i], name) == 0) return true;
  for (size_t i = 0; i < fn->n_attribute_proto; i++)
    if (strcmp(fn->attribute_proto[i]->name, name) == 0) return true;
  return false;
}

// The attributes of the call become those of `n` plus the function's defaults.
static sard_status *complete_attrs(sd_import *im, sd_onnx_node *n, const Onnx__FunctionProto *fn) {
  if (fn->n_attribute > 256 || fn->n_attribute_proto > 256)
    return SD_ERR(MODEL, "the function '%s.%s' has more than 256 attributes", fn->domain, fn->name);
  for (uint32_t i = 0; i < n->attrs.len; i++)
    if (!declares_attr(fn, n->attrs.at[i].name))
      return SD_ERR(MODEL, "the function '%s.%s' has no attribute '%s'", fn->domain, fn->name, n->attrs.at[i].name);
  for (size_t i = 0; i < fn->n_attribute_proto; i++) {
    sd_onnx_attr a;
    bool absent;
    if (sd_import_find_attr(n, fn->attribute_proto[i]->name)) continue;
    SD_TRY(sd_import_attr(im, n->scope, fn->attribute_proto[i], &a, &absent));
    if (!absent) sd_vec_push(im->tmp, &n->attrs, a);
  }
  return NULL;
}

static sard_status *define_inputs(sd_import *im, const sd_onnx_node *n, const Onnx__FunctionProto *fn,
                                  sd_scope *scope) {
  for (size_t i = 0; i < fn->n_input; i++) {
    sd_value *v = i < n->in.len ? n->in.at[i] : NULL;
    SD_TRY(sd_import_define(im, scope, fn->input[i], v ? v : &sd_import_absent));
  }
  return NULL;
}

// The function's outputs take the names of the call, where the function made them.
static sard_status *define_outputs(sd_import *im, const sd_onnx_node *n, const Onnx__FunctionProto *fn, sd_scope *inner,
                                   uint32_t first_id) {
  for (uint32_t i = 0; i < n->out.len; i++) {
    if (!*n->out.at[i]) continue;
    sd_value *v = NULL;
    SD_TRY(sd_import_lookup(im, inner, fn->output[i], &v));
    if (!v || v == &sd_import_absent)
      return SD_ERR(MODEL, "the output '%s' of the function '%s.%s' is defined by nothing", fn->output[i], fn->domain,
                    fn->name);
    if (v->id >= first_id) v->name = sd_arena_strdup(im->m->arena, n->out.at[i]);
    SD_TRY(sd_import_define(im, n->scope, n->out.at[i], v));
  }
  return NULL;
}

sard_status *sd_import_inline(sd_import *im, sd_onnx_node *n, const Onnx__FunctionProto *fn) {
  SD_TRY(check_call(im, n, fn));
  SD_TRY(complete_attrs(im, n, fn));
  uint32_t first_id = im->m->next_id, *order = NULL, n_order = 0;
  sd_call *call = SD_NEW(im->tmp, sd_call);
  *call = (sd_call){n->scope->call, fn, n->attrs.at, n->attrs.len, *n->name ? n->name : n->op};
  sd_scope *inner = SD_NEW(im->tmp, sd_scope);
  *inner = (sd_scope){.graph = n->scope->graph, .call = call, .depth = n->scope->depth};
  sd_names_init(&inner->names, im->tmp);
  sd_names_init(&inner->sparse, im->tmp);
  SD_TRY(define_inputs(im, n, fn, inner));
  SD_TRY(sd_import_order(im, fn->node, fn->n_node, &order, &n_order));
  for (uint32_t i = 0; i < n_order; i++) SD_TRY(sd_import_node(im, inner, fn->node[order[i]], n->index));
  return define_outputs(im, n, fn, inner, first_id);
}
