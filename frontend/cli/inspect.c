// sard inspect: what is in a model, and whether it will run. Works on models that cannot be compiled, too.
#include <stdlib.h>
#include <string.h>

#include "frontend/cli/tools.h"
#include "runtime/cuda/device.h"
#include "runtime/model.h"

typedef struct inspecting {
  sd_cli *c;
  const char *path;
  sd_driver_options o;
  sd_import_info info;
  bool scanned;       // an .onnx: info is filled
  sd_module *module;  // after the first passes, NULL when it cannot be loaded
  sard_status *error; // why it cannot be
  sd_costs costs;
  uint32_t missing;   // nodes that cannot run, where coverage is asked for
  sd_coverage cover;  // filled where coverage is asked for
  bool io, ops, weights, coverage; // parts to show
} inspecting;

static const char *plural(uint64_t n) { return n == 1 ? "" : "s"; }

// ---- loading ----

static bool is_text(const char *path) {
  char head[256];
  FILE *f = fopen(path, "rb");
  size_t n = f ? fread(head, 1, sizeof head, f) : 0;
  if (f) fclose(f);
  for (size_t i = 0; i < n; i++)
    if ((unsigned char)head[i] < 32 && !strchr("\n\r\t", head[i])) return false;
  return n > 0;
}

// The graph as it is lowered without optimization: composite operators expanded, shape arithmetic folded.
static sard_status *load_module(inspecting *k) {
  sard_source src = {.size = sizeof src, .path = k->path};
  sd_driver_report report = {0};
  k->o.opt = 0, k->o.stop_after = "dce";
  SD_TRY(sd_driver_load(&src, &k->o, &k->module));
  if (k->coverage) sd_coverage_of_module(k->c, k->module, &k->cover);
  return sd_driver_passes(k->module, &k->o, &report, k->c->arena);
}

static sard_status *cover(inspecting *k) {
  if (k->module) return sd_coverage_judge(k->c, k->module, &k->cover);
  sd_coverage_blame(k->c, sard_status_text(k->error, SARD_TEXT_MESSAGE), &k->cover);
  return NULL;
}

static sard_status *load(inspecting *k) {
  sard_source src = {.size = sizeof src, .path = k->path};
  int ordinal;
  SD_TRY(sd_tools_options(k->c, &k->o));
  SD_TRY(sd_cu_parse(sd_args_get(k->c, "device"), &ordinal));
  if (!is_text(k->path)) {
    SD_TRY(sd_import_scan(&src, k->c->arena, &k->info));
    k->scanned = true;
  }
  if (k->coverage) {
    k->cover.cuda = ordinal >= 0;
    SD_TRY(sd_driver_target(k->o.target, &k->cover.isa));
    sd_coverage_of_scan(k->c, &k->info, &k->cover);
  }
  sd_cli_progress(k->c, "reading ...");
  k->error = load_module(k);
  if (k->error && !k->scanned) {
    sard_status *st = k->error;
    k->error = NULL;
    return st;
  }
  if (k->error && k->module) sd_module_free(k->module), k->module = NULL;
  if (k->module) SD_TRY(sd_cost_module(k->c, k->module, &k->o.dims, &k->costs));
  if (k->coverage) SD_TRY(cover(k));
  sd_cli_progress(k->c, NULL);
  return NULL;
}

// ---- parts ----

static const char *type_of(inspecting *k, const sd_value *v) {
  sd_str s = {0};
  sd_type_print(k->module, v, &s);
  const char *text = sd_arena_strdup(k->c->arena, s.p ? s.p : "?");
  sd_str_free(&s);
  return text;
}

static void show_header(inspecting *k) {
  sd_cli *c = k->c;
  const sd_import_info *i = &k->info;
  char a[24], b[24];
  sd_str opsets = {0};
  if (!k->scanned) {
    sd_cli_say(c, "%s: graph of Sard, as text\n", k->path);
    return;
  }
  for (uint32_t s = 0; s < i->opsets.len; s++)
    sd_strf(&opsets, "%s%s %lld", s ? ", " : "", *i->opsets.at[s].domain ? i->opsets.at[s].domain : "ai.onnx",
            (long long)i->opsets.at[s].version);
  sd_cli_say(c, "%s: ONNX, IR version %lld, opset %s, by %s %s\n", k->path, (long long)i->ir_version,
             opsets.p ? opsets.p : "none", i->producer && *i->producer ? i->producer : "unknown",
             i->producer_version ? i->producer_version : "");
  sd_cli_say(c, "%u node%s, %u weight%s of %s, file %s\n", i->nodes.len, plural(i->nodes.len), i->weights.len,
             plural(i->weights.len), sd_cli_bytes(i->weight_bytes, a), sd_cli_bytes(i->file_bytes, b));
  sd_strf(&c->json,
          ",\"ir_version\":%lld,\"nodes\":%u,\"weights\":%u,\"weight_bytes\":%llu,\"file_bytes\":%llu,\"producer\":",
          (long long)i->ir_version, i->nodes.len, i->weights.len, (unsigned long long)i->weight_bytes,
          (unsigned long long)i->file_bytes);
  sd_str_json(&c->json, i->producer);
  sd_str_put(&c->json, ",\"opsets\":{");
  for (uint32_t s = 0; s < i->opsets.len; s++) {
    if (s) sd_str_put(&c->json, ",");
    sd_str_json(&c->json, *i->opsets.at[s].domain ? i->opsets.at[s].domain : "ai.onnx");
    sd_strf(&c->json, ":%lld", (long long)i->opsets.at[s].version);
  }
  sd_str_put(&c->json, "}");
  sd_str_free(&opsets);
}

static void show_port(inspecting *k, const char *what, const char *name, const char *type, bool first) {
  if (k->io) sd_cli_say(k->c, "%-8s %s %s\n", what, name, type);
  sd_strf(&k->c->json, "%s{\"name\":", first ? "" : ","), sd_str_json(&k->c->json, name);
  sd_str_put(&k->c->json, ",\"type\":"), sd_str_json(&k->c->json, type), sd_str_put(&k->c->json, "}");
}

static void show_io(inspecting *k) {
  for (int out = 0; out < 2; out++) {
    const char *what = out ? "output" : "input";
    sd_strf(&k->c->json, ",\"%ss\":[", what);
    if (k->scanned) {
      uint32_t n = out ? k->info.outputs.len : k->info.inputs.len;
      const sd_scan_io *list = out ? k->info.outputs.at : k->info.inputs.at;
      for (uint32_t i = 0; i < n; i++) show_port(k, what, list[i].name, list[i].type, i == 0);
    } else {
      uint32_t n = out ? k->module->main->outputs.len : k->module->main->inputs.len;
      sd_value *const *list = out ? k->module->main->outputs.at : k->module->main->inputs.at;
      for (uint32_t i = 0; i < n; i++) show_port(k, what, list[i]->name, type_of(k, list[i]), i == 0);
    }
    sd_str_put(&k->c->json, "]");
  }
}

typedef struct op_count {
  const char *name;
  uint32_t n;
  bool known;
} op_count;
static int by_count(const void *a, const void *b) {
  const op_count *x = a, *y = b;
  return x->n != y->n ? (x->n < y->n) - (x->n > y->n) : strcmp(x->name, y->name);
}

static void count_op(op_count *list, uint32_t *n, const char *name, bool known) {
  for (uint32_t i = 0; i < *n; i++)
    if (strcmp(list[i].name, name) == 0) {
      list[i].n++;
      list[i].known &= known;
      return;
    }
  list[(*n)++] = (op_count){name, 1, known};
}

static void show_ops(inspecting *k) {
  sd_cli *c = k->c;
  uint32_t n = 0, total = k->scanned ? k->info.nodes.len : k->costs.n;
  op_count *list = SD_NEW_ARRAY(c->arena, op_count, total + 1);
  for (uint32_t i = 0; i < total; i++) {
    const sd_scan_node *s = k->scanned ? &k->info.nodes.at[i] : NULL;
    if (s) count_op(list, &n, *s->domain ? sd_arena_printf(c->arena, "%s.%s", s->domain, s->op) : s->op, s->known);
    else
      count_op(list, &n, k->costs.at[i].node->op->name, true);
  }
  qsort(list, n, sizeof *list, by_count);
  sd_str_put(&c->json, ",\"ops\":{");
  for (uint32_t i = 0; i < n; i++) {
    if (k->ops) sd_cli_say(c, "%8u %s%s\n", list[i].n, list[i].name, list[i].known ? "" : "  (not known)");
    if (i) sd_str_put(&c->json, ",");
    sd_str_json(&c->json, list[i].name), sd_strf(&c->json, ":%u", list[i].n);
  }
  sd_str_put(&c->json, "}");
}

static void show_weights(inspecting *k) {
  sd_cli *c = k->c;
  if (!k->weights || !k->scanned) return;
  sd_str_put(&c->json, ",\"weight_list\":[");
  for (uint32_t i = 0; i < k->info.weights.len; i++) {
    const sd_scan_weight *w = &k->info.weights.at[i];
    sard_tensor_desc d = {.size = sizeof d, .dtype = (int32_t)w->dtype, .rank = w->rank};
    char bytes[24];
    for (int r = 0; r < w->rank; r++) d.dims[r] = w->dims[r];
    sd_cli_say(c, "%10s  %-24s %s%s%s%s\n", sd_cli_bytes(w->bytes, bytes), sd_model_type(c, &d), w->name,
               w->sparse ? " (sparse)" : "", w->external ? " in " : "", w->external ? w->external : "");
    sd_strf(&c->json, "%s{\"name\":", i ? "," : ""), sd_str_json(&c->json, w->name);
    sd_strf(&c->json, ",\"type\":\"%s\",\"bytes\":%llu}", sd_model_type(c, &d), (unsigned long long)w->bytes);
  }
  sd_str_put(&c->json, "]");
}

// ---- verdict ----

static void show_verdict(inspecting *k) {
  sd_cli *c = k->c;
  uint32_t unknown = 0, bad = k->missing > k->costs.failed ? k->missing : k->costs.failed;
  for (uint32_t i = 0; k->scanned && i < k->info.nodes.len; i++) unknown += !k->info.nodes.at[i].known;
  bool runs = k->module && k->costs.failed == 0 && k->missing == 0;
  sd_strf(&c->json, ",\"runs\":%s,\"unknown_nodes\":%u,\"flops\":%.0f", runs ? "true" : "false", unknown,
          k->costs.flops);
  if (runs) {
    sd_cli_say(c, "it will run: %u node%s to compile, about %.3g GFLOP a run%s\n", k->costs.n, plural(k->costs.n),
               k->costs.flops * 1e-9, "; symbolic dims counted as 1 unless --dim says more");
  } else if (k->error) {
    sd_cli_say(c, "it will not run: %s\n", sard_status_text(k->error, SARD_TEXT_MESSAGE));
    if (!k->coverage && *sard_status_text(k->error, SARD_TEXT_HINT))
      sd_cli_say(c, "  hint: %s\n", sard_status_text(k->error, SARD_TEXT_HINT));
    sd_str_put(&c->json, ",\"reason\":"), sd_str_json(&c->json, sard_status_text(k->error, SARD_TEXT_MESSAGE));
  } else {
    const char *how = k->coverage ? "" : " (--coverage shows which)";
    sd_cli_say(c, "it will not run: %u node%s cannot be compiled%s\n", bad, plural(bad), how);
  }
}

// ---- picture ----

typedef struct producer {
  const void *value;
  uint32_t node;
} producer; // name or sd_value

static void add_ports(inspecting *k, sd_picture *p, uint32_t *of_value) {
  for (uint32_t i = 0; i < k->module->main->inputs.len; i++) {
    const sd_value *v = k->module->main->inputs.at[i];
    of_value[v->id] = p->nodes.len + 1;
    sd_vec_push(k->c->arena, &p->nodes,
                ((sd_picture_node){.label = v->name, .detail = type_of(k, v), .tip = "input", .port = true}));
  }
}

static void picture_of_module(inspecting *k, sd_picture *p) {
  sd_arena *a = k->c->arena;
  uint32_t *of_value = SD_NEW_ARRAY(a, uint32_t, k->module->next_id + 1); // node + 1
  add_ports(k, p, of_value);
  for (uint32_t i = 0; i < k->costs.n; i++) {
    const sd_node_cost *cost = &k->costs.at[i];
    const sd_node *n = cost->node;
    const char *type = n->n_out && n->out[0] ? type_of(k, n->out[0]) : "";
    const char *tip =
        sd_arena_printf(a, "%s '%s'\n%s\n%.4g MFLOP%s%s", n->op->name, n->name, type, cost->flops * 1e-6,
                        cost->error ? "\n" : "", cost->error ? sard_status_text(cost->error, SARD_TEXT_MESSAGE) : "");
    uint32_t me = p->nodes.len;
    sd_vec_push(a, &p->nodes,
                ((sd_picture_node){.label = n->op->name,
                                   .detail = type,
                                   .tip = tip,
                                   .cost = cost->flops,
                                   .bad = cost->error != NULL}));
    for (uint32_t j = 0; j < n->n_in; j++)
      if (n->in[j] && of_value[n->in[j]->id])
        sd_vec_push(a, &p->edges, ((sd_picture_edge){of_value[n->in[j]->id] - 1, me, .tip = type_of(k, n->in[j])}));
    for (uint32_t j = 0; j < n->n_out; j++)
      if (n->out[j]) of_value[n->out[j]->id] = me + 1;
  }
  for (uint32_t i = 0; i < k->module->main->outputs.len; i++) {
    const sd_value *v = k->module->main->outputs.at[i];
    uint32_t me = p->nodes.len;
    sd_vec_push(a, &p->nodes,
                ((sd_picture_node){.label = v->name, .detail = type_of(k, v), .tip = "output", .port = true}));
    if (of_value[v->id]) sd_vec_push(a, &p->edges, ((sd_picture_edge){of_value[v->id] - 1, me, .tip = ""}));
  }
}

static int by_value_name(const void *a, const void *b) {
  return strcmp(((const producer *)a)->value, ((const producer *)b)->value);
}

// From the scan alone: nodes of the main graph, connected by names.
static void picture_of_scan(inspecting *k, sd_picture *p) {
  sd_arena *a = k->c->arena;
  const sd_import_info *info = &k->info;
  uint32_t total = 0, n = 0;
  for (uint32_t i = 0; i < info->nodes.len; i++) total += info->nodes.at[i].n_out;
  producer *made = SD_NEW_ARRAY(a, producer, total + info->inputs.len + 1);
  for (uint32_t i = 0; i < info->inputs.len; i++) {
    made[n++] = (producer){info->inputs.at[i].name, p->nodes.len};
    sd_vec_push(a, &p->nodes,
                ((sd_picture_node){.label = info->inputs.at[i].name,
                                   .detail = info->inputs.at[i].type,
                                   .tip = "input",
                                   .port = true}));
  }
  uint32_t first = p->nodes.len;
  for (uint32_t i = 0; i < info->nodes.len; i++) {
    const sd_scan_node *s = &info->nodes.at[i];
    if (s->depth) continue;
    for (uint32_t j = 0; j < s->n_out; j++)
      if (*s->out[j]) made[n++] = (producer){s->out[j], p->nodes.len};
    const char *tip = sd_arena_printf(a, "%s '%s'%s", s->op, s->name, s->known ? "" : "\noperator not known");
    sd_vec_push(a, &p->nodes, ((sd_picture_node){.label = s->op, .detail = s->name, .tip = tip, .bad = !s->known}));
  }
  qsort(made, n, sizeof *made, by_value_name);
  uint32_t me = first;
  for (uint32_t i = 0; i < info->nodes.len; i++) {
    const sd_scan_node *s = &info->nodes.at[i];
    if (s->depth) continue;
    for (uint32_t j = 0; j < s->n_in; j++) {
      producer want = {s->in[j], 0}, *found = *s->in[j] ? bsearch(&want, made, n, sizeof *made, by_value_name) : NULL;
      if (found && found->node != me)
        sd_vec_push(a, &p->edges, ((sd_picture_edge){found->node, me, .tip = s->in[j]}));
    }
    me++;
  }
}

static sard_status *draw(inspecting *k) {
  const char *path = sd_args_get(k->c, "svg");
  sd_picture p = {.title = k->path};
  sd_str s = {0};
  if (!path) return NULL;
  if (k->module) picture_of_module(k, &p);
  else
    picture_of_scan(k, &p);
  sd_svg_write(k->c->arena, &p, &s);
  sard_status *st = s.failed ? SD_ERR(NOMEM, "out of memory for the picture") : sd_files_write(path, s.p, s.len);
  sd_str_free(&s);
  if (!st && strcmp(path, "-") != 0) sd_cli_say(k->c, "%s: %u nodes drawn\n", path, p.nodes.len);
  return st;
}

// ---- artifacts ----

// Each part, and from where it reads.
static void show_parts(sd_cli *c, const sard_model *m) {
  const sard_art_wire *w = m->parts ? sd_art_wires(&m->art) : NULL;
  char t[24];
  for (uint32_t i = 0; m->parts && i < sd_art_parts(&m->art); i++) {
    const sd_art *a = &m->parts[i]->art;
    bool reads[SARD_ART_MAXPARTS + 1] = {false};
    for (uint32_t k = 0; k < a->n_in; k++, w++) reads[w->part] |= !w->sizes;
    sd_cli_say(c, "part %-3u %u steps, %u kernels; code %s; reads", i + 1, a->n_steps, a->n_kernels, sd_cli_bytes(a->code_size, t));
    if (reads[0]) sd_cli_say(c, " inputs");
    for (uint32_t k = 1; k <= i; k++)
      if (reads[k]) sd_cli_say(c, " part %u", k);
    sd_cli_say(c, "\n");
  }
}

typedef struct code_kind {
  uint32_t kind, arch;
  uint64_t bytes;
} code_kind;
enum { CODE_KINDS = 64 }; // more than there are architectures

// The kinds and architectures of the code for GPUs, with the bytes of each. Returns how many, CODE_KINDS at most.
static uint32_t code_kinds(const sd_art *a, code_kind *out) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < a->n_cuda_images; i++) {
    const sard_art_cuda_image *m = &a->cuda_images[i];
    uint32_t k = 0;
    while (k < n && (out[k].kind != m->kind || out[k].arch != m->arch)) k++;
    if (k == CODE_KINDS) continue;
    if (k == n) out[n++] = (code_kind){.kind = m->kind, .arch = m->arch};
    out[k].bytes += m->size;
  }
  return n;
}

static void show_images(sd_cli *c, const sd_art *a) {
  code_kind kinds[CODE_KINDS];
  uint32_t n = code_kinds(a, kinds), steps = 0;
  char t[24];
  for (uint32_t i = 0; i < a->n_cuda; i++) steps += !i || a->cuda[i].step != a->cuda[i - 1].step;
  sd_str_put(&c->json, ",\"cuda\":[");
  for (uint32_t k = 0; k < n; k++) {
    const char *kind = kinds[k].kind == SARD_ACI_PTX ? "PTX" : "cubin";
    sd_cli_say(c, "cuda     %-5s sm_%u, %s", kind, kinds[k].arch, sd_cli_bytes(kinds[k].bytes, t));
    if (!k) sd_cli_say(c, "; %u of %u steps have kernels", steps, a->n_steps);
    sd_cli_say(c, "\n");
    sd_strf(&c->json, "%s{\"kind\":\"%s\",\"arch\":%u,\"bytes\":%llu}", k ? "," : "", kind, kinds[k].arch, (unsigned long long)kinds[k].bytes);
  }
  sd_str_put(&c->json, "]");
}

static sard_status *show_artifact(sd_cli *c, sard_model *m) {
  const sd_art *a = &m->art;
  char t[4][24];
  char *json;
  uint64_t arena, scratch;
  sd_cli_say(c, "%s: artifact of Sard, format %u, compiled by %.32s for %.16s (%.16s)\n", c->operands[0],
             a->header->version, a->header->compiler, a->header->isa, a->header->arch);
  uint32_t steps = a->n_steps, kernels = a->n_kernels;
  uint64_t code = a->code_size;
  for (uint32_t i = 0; m->parts && i < sd_art_parts(a); i++)
    steps += m->parts[i]->art.n_steps, kernels += m->parts[i]->art.n_kernels, code += m->parts[i]->art.code_size;
  sd_cli_say(c, "%u steps, %u kernels; code %s, weights %s, file %s\n", steps, kernels, sd_cli_bytes(code, t[0]), sd_cli_bytes(a->const_size, t[1]), sd_cli_bytes(m->file_size, t[2]));
  show_images(c, a);
  show_parts(c, m);
  if (!m->parts && sd_model_static_memory(m, &arena, &scratch)) sd_cli_say(c, "activations %s\n", sd_cli_bytes(arena, t[3]));
  for (int out = 0; out < 2; out++)
    for (int i = 0; i < sard_model_io_count(m, out); i++) {
      sard_tensor_desc d;
      SD_TRY(sard_model_io(m, out, i, &d));
      sd_cli_say(c, "%-8s %s %s\n", out ? "output" : "input", d.name, sd_model_type(c, &d));
    }
  SD_TRY(sard_model_report(m, &json));
  sd_str_put(&c->json, ",\"artifact\":"), sd_str_put(&c->json, json);
  sard_free(json);
  return NULL;
}

static sard_status *inspect_artifact(sd_cli *c) {
  sd_cli_model m;
  if (sd_args_given(c, "svg")) return SD_ERR(UNSUPPORTED, "--svg draws models, not compiled artifacts");
  SD_TRY(sd_model_load(c, &m));
  sard_status *st = show_artifact(c, m.model);
  sd_model_unload(&m);
  return st;
}

static sard_status *steps(inspecting *k) {
  const char *svg = sd_args_get(k->c, "svg");
  if (svg) SD_TRY(sd_files_can_write(svg));
  if (svg && strcmp(svg, "-") == 0) k->c->out = stderr;
  k->coverage = sd_args_given(k->c, "coverage");
  SD_TRY(load(k));
  k->io = sd_args_given(k->c, "io"), k->ops = sd_args_given(k->c, "ops");
  k->weights = sd_args_given(k->c, "weights");
  if (!k->io && !k->ops && !k->weights && !k->coverage) k->io = k->ops = true;
  show_header(k);
  show_io(k);
  show_ops(k);
  show_weights(k);
  if (k->coverage) k->missing = sd_coverage_show(k->c, &k->cover);
  show_verdict(k);
  return draw(k);
}

sard_status *sd_verb_inspect(sd_cli *c) {
  inspecting k = {.c = c, .path = c->operands[0]};
  if (sd_files_is_artifact(k.path)) return inspect_artifact(c);
  sard_status *st = steps(&k);
  sd_cost_free(&k.costs);
  sd_module_free(k.module);
  sard_status_free(k.error);
  return st;
}
