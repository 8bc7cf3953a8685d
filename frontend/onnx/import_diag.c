// Messages about nodes; the list of everything in a model that cannot be compiled.
#include "frontend/onnx/internal.h"

#include "runtime/base/alloc.h"

enum { MAX_LISTED = 1000 };

static const char *dot(const char *domain) { return *domain ? "." : ""; }

void sd_import_describe(const sd_onnx_node *n, sd_str *out) {
  sd_strf(out, "node %d '%.200s' (%s%s%s, opset %lld) of (", n->index, n->name, n->domain, dot(n->domain), n->first_op,
          (long long)n->first_opset);
  for (uint32_t i = 0; i < n->in.len && i < 8; i++) {
    if (i) sd_str_put(out, ", ");
    const sd_value *v = n->in.at[i];
    if (!v)
      sd_str_put(out, "-");
    else if (v->dtype == SD_DT_NONE)
      sd_str_put(out, "?");
    else
      sd_type_print(v->graph->module, v, out);
  }
  if (n->in.len > 8) sd_strf(out, ", and %u more", n->in.len - 8);
  sd_str_put(out, ")");
}

void sd_import_problem_line(sd_import *im, const char *line) {
  char *copy = im->problems.len < MAX_LISTED ? sd_arena_strdup(im->tmp, line) : NULL;
  sd_vec_push(im->tmp, &im->problems, copy);
}

void sd_import_problem(sd_import *im, const sd_onnx_node *n, const char *what) {
  sd_str s = {0};
  sd_import_describe(n, &s);
  sd_strf(&s, ": %s", what);
  if (!im->problem_op) {
    im->problem_op = sd_arena_printf(im->tmp, "%s%s%s", n->domain, dot(n->domain), n->first_op);
    im->problem_node = n->name;
  }
  sd_import_problem_line(im, s.p ? s.p : what);
  sd_str_free(&s);
}

sard_status *sd_import_problems(sd_import *im) {
  uint32_t n = im->problems.len;
  if (!n) return NULL;
  sd_str s = {0};
  for (uint32_t i = 0; i < n && i < MAX_LISTED; i++) sd_strf(&s, "\n  %s", im->problems.at[i]);
  if (n > MAX_LISTED) sd_strf(&s, "\n  and %u more", n - MAX_LISTED);
  sard_status *st = SD_ERR(UNSUPPORTED, "%s: %u %s cannot be compiled:%s", im->o.file, n, n == 1 ? "case" : "cases",
                           s.p ? s.p : "");
  sd_str_free(&s);
  if (im->problem_op) {
    st = sd_status_field(st, SARD_TEXT_OP, "%s", im->problem_op);
    st = sd_status_field(st, SARD_TEXT_NODE, "%s", im->problem_node);
  }
  st = sd_status_field(st, SARD_TEXT_FILE, "%s", im->o.file);
  return sd_status_field(st, SARD_TEXT_HINT, "'sard inspect --coverage' shows what of the model compiles; exporting "
                                             "with another opset or without fused operators may help");
}

sard_status *sd_import_fail(sd_import *im, const sd_onnx_node *n, sard_status *st) {
  if (!st || im->described) return st; // by the node of a body or function where it happened
  im->described = true;
  // Errors of the graph level describe the node already; they lack the opset only.
  if (*sard_status_text(st, SARD_TEXT_OP)) return sd_status_context(st, "opset %lld", (long long)n->first_opset);
  sd_str s = {0};
  sd_import_describe(n, &s);
  st = sd_status_context(st, "%s", s.p ? s.p : n->name);
  sd_str_free(&s);
  st = sd_status_field(st, SARD_TEXT_NODE, "%s", n->name);
  return sd_status_field(st, SARD_TEXT_OP, "%s%s%s", n->domain, dot(n->domain), n->first_op);
}
