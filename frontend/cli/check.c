// run --check: the compiled nodes against the interpreter, in order; the first one that differs is named.
#include <string.h>

#include "frontend/cli/tools.h"
#include "ir/eval.h"
#include "runtime/base/dtype.h"
#include "runtime/values.h"

typedef struct checking {
  sd_cli *c;
  sd_observer w;
  const sd_observed **of_value; // by id of the value
  double rtol, atol;
  int checked;
  const sd_node *bad; // first node that differs
  const char *bad_value;
  sd_diff diff;
} checking;

// Rounding grows with the values that are summed: elements near zero may differ by a part of the largest one.
static double tolerance(const sd_evalue *v, double rtol, double atol) {
  double most = 0;
  sd_dtype t = sd_dtype_part(v->dtype);
  uint64_t n = sd_dtype_parts(v->dtype);
  if (!sd_dtype_is_float(t)) return atol;
  for (int i = 0; i < v->rank; i++) n *= (uint64_t)v->dims[i];
  for (uint64_t i = 0; i < n; i++) {
    double x = sd_dtype_get_f64(t, v->data, i);
    if (x < 0) x = -x;
    if (x > most && x < 1e300) most = x;
  }
  return atol + rtol * most;
}

static sd_values tables(const checking *k) { return (sd_values){k->w.module->strings, k->w.module->objects}; }

// What the interpreter gave, as a caller of a session would see it.
static sard_status *seen(checking *k, const sd_value *of, const sd_evalue *v, sard_tensor **out) {
  sard_tensor_desc d = {.size = sizeof d, .dtype = (int32_t)v->dtype, .rank = v->rank};
  sd_values t = tables(k);
  for (int i = 0; i < v->rank; i++) d.dims[i] = v->dims[i];
  sd_object_kind kind = of->object ? of->object->kind : SD_OBJ_TENSOR;
  if (v->dtype == SD_OBJECT) return sd_values_give(&t, k->w.loaded.ctx, *(const uint64_t *)v->data, kind, out);
  if (v->dtype != SD_STRING) return sard_tensor_wrap(k->w.loaded.ctx, &d, v->data, v->bytes, NULL, NULL, out);
  SD_TRY(sard_tensor_new(k->w.loaded.ctx, &d, out));
  memcpy(sard_tensor_data(*out, NULL), v->data, v->bytes);
  return sd_values_give_strings(&t, *out);
}

static sard_status *compare_value(checking *k, const sd_node *n, const sd_value *of, const sd_observed *o,
                                  const sd_evalue *v) {
  sard_tensor *t = NULL;
  sd_diff diff = {0};
  double atol = v->dtype == SD_OBJECT || v->dtype == SD_STRING ? k->atol : tolerance(v, k->rtol, k->atol);
  sard_status *st = seen(k, of, v, &t);
  if (!st) sd_diff_tensors(k->c, o->tensor, t, k->rtol, atol, &diff);
  sard_tensor_free(t);
  if (st) return st;
  k->checked++;
  if (diff.passed) return NULL;
  k->bad = n, k->bad_value = o->name, k->diff = diff;
  return SD_ERR(CHECK, "differs"); // stops the interpreter
}

static sard_status *after_node(void *user, const sd_eval_step *s) {
  checking *k = user;
  const sd_node *n = s->n;
  SD_TRY(sd_stop_check());
  if (n->graph != k->w.module->main) return NULL; // nodes of bodies are part of their node
  for (uint32_t i = 0; i < n->n_out; i++) {
    const sd_observed *o = n->out[i] ? k->of_value[n->out[i]->id] : NULL;
    if (o && s->out[i].data && o->tensor) SD_TRY(compare_value(k, n, n->out[i], o, &s->out[i]));
  }
  if (k->checked % 16 == 0)
    sd_cli_progress(k->c, sd_arena_printf(k->c->arena, "interpreting value %d of %d ...", k->checked, k->w.n));
  return NULL;
}

// An input as the interpreter takes it: strings and objects are numbers there.
static sard_status *taken(checking *k, const sd_value *of, const sard_tensor *in, sd_evalue *v) {
  sard_tensor_desc d;
  sd_values t = tables(k);
  uint64_t count = 1;
  v->data = sard_tensor_data((sard_tensor *)in, &d);
  v->dtype = of->dtype == SD_OBJECT ? SD_OBJECT : (sd_dtype)d.dtype, v->rank = of->dtype == SD_OBJECT ? 0 : d.rank;
  for (int r = 0; r < v->rank; r++) v->dims[r] = d.dims[r], count *= (uint64_t)d.dims[r];
  if (!sd_dtype_bytes(v->dtype, count, &v->bytes))
    return SD_ERR(UNSUPPORTED, "--check: input '%.200s' has no plain elements", of->name);
  if (v->dtype != SD_OBJECT && v->dtype != SD_STRING) return NULL;
  v->data = sd_arena_alloc(k->c->arena, v->bytes + 1);
  if (v->dtype == SD_OBJECT) return sd_values_take(&t, in, SD_DT_NONE, v->data);
  return sd_values_take_strings(&t, in, count, v->data);
}

static sard_status *interpret(checking *k, sard_tensor *const *in, int n_in) {
  sd_arena *a = k->c->arena;
  sd_evalue *vin = SD_NEW_ARRAY(a, sd_evalue, n_in + 1);
  uint32_t n_out = k->w.module->main->outputs.len;
  sd_evalue *vout = SD_NEW_ARRAY(a, sd_evalue, n_out + 1);
  if ((uint32_t)n_in != k->w.module->main->inputs.len) return SD_ERR(INTERNAL, "--check with %d inputs", n_in);
  for (int i = 0; i < n_in; i++) SD_TRY(taken(k, k->w.module->main->inputs.at[i], in[i], &vin[i]));
  sard_status *st = sd_eval_module(k->w.module, vin, (uint32_t)n_in, vout, n_out, after_node, k);
  sd_cli_progress(k->c, NULL);
  for (uint32_t i = 0; !st && i < n_out; i++) sd_eval_free(&vout[i]);
  if (!st || !k->bad) return st;
  sard_status_free(st);
  return NULL;
}

static void report(checking *k) {
  sd_cli *c = k->c;
  const sd_diff *d = &k->diff;
  if (!k->bad) {
    sd_cli_say(c, "check: %d values of nodes agree with the interpreter PASSED\n", k->checked);
    sd_strf(&c->json, ",\"check\":{\"values\":%d,\"passed\":true}", k->checked);
    return;
  }
  sd_cli_say(c, "check: node '%s' (%s), output '%s', is the first that differs from the interpreter FAILED\n",
             k->bad->name, k->bad->op->name, k->bad_value);
  if (d->reason) sd_cli_say(c, "  %s\n", d->reason);
  else
    sd_cli_say(c,
               "  max abs error %.3g, %llu of %llu elements, first at %llu: %.9g instead of %.9g; %d values before "
               "it agree\n",
               d->max_abs, (unsigned long long)d->wrong, (unsigned long long)d->count,
               (unsigned long long)d->first_wrong, d->got, d->want, k->checked - 1);
  sd_strf(&c->json, ",\"check\":{\"values\":%d,\"passed\":false,\"node\":", k->checked);
  sd_str_json(&c->json, k->bad->name);
  sd_str_put(&c->json, ",\"op\":"), sd_str_json(&c->json, k->bad->op->name);
  sd_strf(&c->json, ",\"max_abs\":%.9g}", d->max_abs < 1e300 ? d->max_abs : 1e300);
  c->failed = true;
}

// The run itself shares memory between values; what it gave must be what the same nodes gave without.
static void check_outputs(checking *k, const sd_cli_tensors *out) {
  for (int i = 0; i < out->n && i < k->w.n_outputs && !k->c->failed; i++) {
    sd_diff diff;
    sd_diff_tensors(k->c, out->at[i], k->w.outputs[i], k->rtol, k->atol, &diff);
    if (diff.passed) continue;
    sd_cli_say(k->c,
               "check: output %d differs from the same nodes run with memory of their own, at element %llu: %.9g "
               "instead of %.9g FAILED\n",
               i, (unsigned long long)diff.first_wrong, diff.got, diff.want);
    sd_strf(&k->c->json, ",\"check_memory\":{\"output\":%d,\"passed\":false}", i);
    k->c->failed = true;
  }
}

static sard_status *steps(checking *k, const sd_driver_options *o, const sd_cli_tensors *in,
                          const sd_cli_tensors *out) {
  SD_TRY(sd_args_number(k->c, "rtol", 0, 1e30, &k->rtol));
  SD_TRY(sd_args_number(k->c, "atol", 0, 1e30, &k->atol));
  SD_TRY(sd_observe_run(&k->w, in->at, in->n));
  SD_TRY(sd_observe_reload(&k->w, k->c->operands[0], o));
  k->of_value = SD_NEW_ARRAY(k->c->arena, const sd_observed *, k->w.module->next_id + 1);
  for (int i = 0; i < k->w.n; i++) k->of_value[k->w.at[i].value->id] = &k->w.at[i];
  SD_TRY(interpret(k, in->at, in->n));
  report(k);
  check_outputs(k, out);
  return NULL;
}

sard_status *sd_tools_check(sd_cli *c, sard_context *ctx, const sd_cli_tensors *in, const sd_cli_tensors *out) {
  checking k = {.c = c};
  sd_driver_options o;
  SD_TRY(sd_tools_options(c, &o));
  SD_TRY(sd_observe_open(c, ctx, c->operands[0], &o, &k.w));
  sard_status *st = steps(&k, &o, in, out);
  sd_observe_close(&k.w);
  return st;
}
