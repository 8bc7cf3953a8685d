// A model compiled such that the value of every node can be seen: each becomes an output of the graph.
#include <string.h>

#include "frontend/cli/tools.h"
#include "runtime/model.h"

// Decides which values share storage: it runs when every value is an output and so kept; the interpreter, which keeps
// each value apart, gets the module without it.
static const char *const SHARING_PASS = "memory";

static const char *pass_before(const char *name) {
  const char *before = NULL;
  for (uint32_t i = 0; sd_pass_at(i) && strcmp(sd_pass_at(i)->name, name) != 0; i++) before = sd_pass_at(i)->name;
  return before;
}

static const char *node_name(sd_arena *a, const sd_node *n, uint32_t out) {
  return !n->name || !*n->name ? "" : out ? sd_arena_printf(a, "%s:%u", n->name, out) : n->name;
}

static sard_status *add_outputs(sd_observer *w) {
  sd_graph *g = w->module->main;
  SD_VEC(sd_observed) list = {0};
  uint32_t given = g->outputs.len;
  for (sd_node *n = g->first; n; n = n->next)
    for (uint32_t i = 0; i < n->n_out; i++) {
      sd_value *v = n->out[i];
      if (!v || v->rank == SD_RANK_UNKNOWN || (v->uses.len == 0 && !sd_value_is_output(v))) continue;
      sd_vec_push(w->arena, &list,
                  ((sd_observed){v->name ? v->name : "", n->op->name, node_name(w->arena, n, i), v, NULL}));
      sd_graph_output(g, v);
    }
  w->at = list.at;
  w->n = (int)list.len;
  return given + list.len == g->outputs.len ? NULL : SD_ERR(INTERNAL, "outputs were not added");
}

static sard_status *generate(sd_observer *w, sard_context *ctx, const sd_driver_options *o) {
  const sd_isa *isa = o->target && strcmp(o->target, "host") != 0 ? sd_isa_find(o->target) : NULL;
  if (!isa) SD_TRY(sd_isa_host(o->target && strcmp(o->target, "host") != 0 ? o->target : NULL, &isa));
  sd_codegen_options co = {.isa = isa,
                           .opt = o->opt,
                           .threads = o->threads > 0 ? o->threads : sd_context_threads(ctx)};
  sd_codegen_stats stats = {0};
  sd_piece *pieces;
  size_t n;
  SD_TRY(sd_codegen(w->arena, w->module, &co, &pieces, &n, &stats));
  SD_TRY(sd_model_from_bytes(ctx, pieces, n, NULL, NULL, &w->loaded.model));
  w->loaded.isa = isa->name;
  return NULL;
}

// The module after all passes but one, with the value of every node as an output.
static sard_status *prepare(sd_observer *w, const char *path, const sd_driver_options *given) {
  sard_source src = {.size = sizeof src, .path = path};
  sd_driver_options o = *given;
  sd_driver_report report = {0};
  o.dump = NULL;
  SD_TRY(sd_driver_load(&src, &o, &w->module));
  o.stop_after = pass_before(SHARING_PASS);
  return sd_driver_passes(w->module, &o, &report, w->arena);
}

// Runs fn with a recovery point for both arenas.
static sard_status *guarded(sd_observer *w,
                            sard_status *(*fn)(sd_observer *w, sard_context *ctx, const sd_driver_options *o),
                            sard_context *ctx, const sd_driver_options *o) {
  jmp_buf oom;
  if (setjmp(oom)) return SD_ERR(NOMEM, "out of memory while compiling");
  sd_arena_set_oom(w->module->arena, &oom);
  sd_arena_set_oom(w->arena, &oom);
  return fn(w, ctx, o);
}

static sard_status *add_outputs_guarded(sd_observer *w, sard_context *ctx, const sd_driver_options *o) {
  (void)ctx, (void)o;
  return add_outputs(w);
}

static sard_status *compile(sd_observer *w, sard_context *ctx, const char *path, const sd_driver_options *given) {
  sd_driver_options o = *given;
  sd_driver_report report = {0};
  SD_TRY(prepare(w, path, given));
  SD_TRY(guarded(w, add_outputs_guarded, ctx, given));
  o.dump = NULL, o.from = SHARING_PASS;
  SD_TRY(sd_driver_passes(w->module, &o, &report, w->arena));
  return guarded(w, generate, ctx, given);
}

static sard_status *outputs_again(sd_observer *w, sard_context *ctx, const sd_driver_options *o) {
  const sd_observed *had = w->at;
  int n = w->n;
  (void)ctx, (void)o;
  SD_TRY(add_outputs(w));
  if (w->n != n) return SD_ERR(INTERNAL, "a second compilation gave %d values instead of %d", w->n, n);
  for (int i = 0; i < n; i++) {
    w->at[i].tensor = had[i].tensor;
    if (strcmp(w->at[i].op, had[i].op) != 0) return SD_ERR(INTERNAL, "a second compilation gave other nodes");
  }
  return NULL;
}

sard_status *sd_observe_reload(sd_observer *w, const char *path, const sd_driver_options *o) {
  sd_module *used = w->module; // its weights are in use by the compiled model, or given up for packed ones
  w->module = NULL;
  sard_status *st = prepare(w, path, o);
  sd_observed *had = w->at;
  int n = w->n;
  if (!st) st = guarded(w, outputs_again, NULL, o);
  if (st && w->at != had) w->at = had, w->n = n; // tensors stay owned
  w->compiled = used;
  return st;
}

static sard_status *load_artifact(sd_observer *w, sard_context *ctx, const char *path) {
  sard_source src = {.size = sizeof src, .path = path};
  SD_TRY(sard_model_open(ctx, &src, NULL, &w->loaded.model));
  w->n = sard_model_io_count(w->loaded.model, 1);
  w->at = SD_NEW_ARRAY(w->arena, sd_observed, w->n + 1);
  for (int i = 0; i < w->n; i++) {
    sard_tensor_desc d;
    SD_TRY(sard_model_io(w->loaded.model, 1, i, &d));
    w->at[i] = (sd_observed){.name = sd_arena_strdup(w->arena, d.name), .op = "", .node = ""};
  }
  return NULL;
}

sard_status *sd_observe_open(sd_cli *c, sard_context *ctx, const char *path, const sd_driver_options *o,
                             sd_observer *out) {
  *out = (sd_observer){.arena = sd_arena_new()};
  jmp_buf oom;
  if (!out->arena) return SD_ERR(NOMEM, "out of memory");
  if (setjmp(oom)) {
    sd_observe_close(out);
    return SD_ERR(NOMEM, "out of memory while compiling '%s'", path);
  }
  sd_arena_set_oom(out->arena, &oom);
  out->loaded.ctx = ctx;
  sd_cli_progress(c, sd_arena_printf(c->arena, "compiling %s ...", path));
  sard_status *st = sd_files_is_artifact(path) ? load_artifact(out, ctx, path) : compile(out, ctx, path, o);
  sd_cli_progress(c, NULL);
  if (st) sd_observe_close(out);
  return sd_status_field(st, SARD_TEXT_FILE, "%s", path);
}

sard_status *sd_observe_run(sd_observer *w, sard_tensor *const *in, int n_in) {
  sard_session *s;
  int n = sard_model_io_count(w->loaded.model, 1), first = n - w->n;
  sard_tensor **out = SD_NEW_ARRAY(w->arena, sard_tensor *, n + 1);
  SD_TRY(sard_session_new(w->loaded.model, NULL, &s));
  sd_stop_session(s);
  sard_status *st = sard_session_run(s, in, n_in, out, n);
  sd_stop_session(NULL);
  sard_session_free(s);
  w->outputs = out, w->n_outputs = first;
  for (int i = 0; i < w->n; i++) w->at[i].tensor = out[first + i];
  return st;
}

void sd_observe_close(sd_observer *w) {
  for (int i = 0; i < w->n; i++) sard_tensor_free(w->at[i].tensor);
  for (int i = 0; i < w->n_outputs; i++) sard_tensor_free(w->outputs[i]);
  sard_model_free(w->loaded.model);
  sd_module_free(w->module);
  sd_module_free(w->compiled);
  sd_arena_free(w->arena);
  *w = (sd_observer){0};
}
