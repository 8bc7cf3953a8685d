// sard compile: a model to an artifact, with dumps and a table of what was done.
#include <string.h>

#include "frontend/cli/tools.h"
#include "frontend/onnx/convert.h"
#include "runtime/base/alloc.h"
#include "runtime/base/file.h"
#include "runtime/session.h"

enum { SHOWN = 20 }; // nodes that stay f32

typedef struct compiling {
  sd_cli *c;
  sd_driver_options o;
  sd_compiled *done;
  const char *path, *output;
  uint64_t arena, scratch, file_bytes;
  bool sized, symbolic; // arena and scratch are known; for symbolic dims of size 1
} compiling;

static sard_status *take_dump(void *user, const char *pass, const char *text) {
  compiling *k = user;
  const char *dir = sd_args_get(k->c, "dump-dir");
  sd_cli_progress(k->c, NULL);
  if (dir) return sd_files_write(sd_files_path(k->c, dir, "%s.sard-ir", pass), text, strlen(text));
  fprintf(stdout, "// after %s\n%s", pass, text);
  return NULL;
}

// ---- options ----

static sard_status *read_flags(compiling *k) {
  sd_cli *c = k->c;
  SD_TRY(sd_precision_settle(c, c->n_operands ? c->operands[0] : NULL));
  SD_TRY(sd_tools_options(c, &k->o));
  SD_TRY(sd_args_int(c, "bisect", 0, INT64_MAX, &k->o.bisect));
  k->o.keep_ir = sd_args_given(c, "keep-ir");
  k->o.verify |= sd_args_given(c, "verify");
  sd_driver_archs(&k->o, sd_args_get(c, "device"));
  k->o.dump = sd_args_get(c, "dump");
  k->o.stop_after = sd_args_get(c, "stop-after");
  k->o.from = sd_args_get(c, "from-pass");
  k->o.dump_fn = take_dump, k->o.dump_user = k;
  k->output = sd_args_get(c, "output");
  k->path = c->n_operands ? c->operands[0] : sd_args_get(c, "from");
  if (c->n_operands && sd_args_given(c, "from")) return SD_ERR(USAGE, "give either MODEL or --from FILE, not both");
  if (k->o.dump && !sd_args_given(c, "dump-dir")) c->out = stderr; // the dump has standard output
  return NULL;
}

static bool emits_text(const compiling *k) { return k->o.stop_after || strcmp(sd_args_get(k->c, "emit"), "ir") == 0; }

static sard_status *check_flags(compiling *k) {
  const char *emit = sd_args_get(k->c, "emit"), *dir = sd_args_get(k->c, "dump-dir");
  if (strcmp(emit, "sard") != 0 && strcmp(emit, "ir") != 0)
    return SD_ERR(USAGE, "--emit: '%s' is neither sard nor ir", emit);
  if (!k->output && !k->o.dump && !k->o.stop_after)
    return sd_status_field(SD_ERR(USAGE, "compile: -o FILE is missing"), SARD_TEXT_HINT, "sard compile %s -o FILE",
                           k->path);
  if (k->output && k->c->n_operands) SD_TRY(sd_change_out(k->c, k->output));
  if (k->output) SD_TRY(sd_files_can_write(k->output));
  if (dir) {
    SD_TRY(sd_files_make_dir(dir));
    SD_TRY(sd_files_can_write(sd_files_path(k->c, dir, "import.sard-ir")));
  }
  if (sd_files_is_artifact(k->path)) return SD_ERR(USAGE, "'%s' is compiled already", k->path);
  return NULL;
}

// ---- output ----

static sard_status *write_text(compiling *k) {
  sd_str s = {0};
  sard_status *st = sd_module_print(k->done->module, true, &s);
  if (!st && (s.failed || !s.p)) st = SD_ERR(NOMEM, "out of memory while printing the graph");
  if (!st) st = sd_files_write(k->output, s.p, s.len);
  k->file_bytes = s.len;
  sd_str_free(&s);
  return st;
}

static sard_status *write_artifact(compiling *k) {
  for (size_t i = 0; i < k->done->n_pieces; i++) k->file_bytes += k->done->pieces[i].size;
  if (!k->output) return NULL;
  if (strcmp(k->output, "-") == 0) {
    for (size_t i = 0; i < k->done->n_pieces; i++)
      fwrite(k->done->pieces[i].data, 1, k->done->pieces[i].size, stdout);
    k->c->out = stderr;
    return NULL;
  }
  sd_stop_hold();
  sard_status *st = sd_file_write(k->output, k->done->pieces, k->done->n_pieces);
  sd_stop_release();
  return st;
}

// Plans the memory of a session for symbolic dims of size 1, without running it.
static sard_status *size_symbolic(compiling *k, sard_context *ctx, sard_model *m) {
  sard_session *s = NULL;
  int n = sard_model_io_count(m, 0);
  sard_tensor **in = SD_NEW_ARRAY(k->c->arena, sard_tensor *, n + 1);
  sard_status *st = sard_session_new(m, NULL, &s);
  for (int i = 0; !st && i < n; i++) {
    sard_tensor_desc d;
    st = sard_model_io(m, 0, i, &d);
    for (int r = 0; !st && r < d.rank; r++)
      if (d.dims[r] < 0) d.dims[r] = 1;
    if (!st) st = sard_tensor_new(ctx, &d, &in[i]);
    if (!st) memset(sard_tensor_data(in[i], NULL), 0, in[i]->bytes);
  }
  if (!st) st = sd_bind_inputs(s, in, n);
  if (!st) k->sized = k->symbolic = true, k->arena = s->arena_need, k->scratch = s->scratch_need;
  for (int i = 0; i < n; i++) sard_tensor_free(in[i]);
  sard_session_free(s);
  return st;
}

// Activation memory, by loading what was made; not known for another machine's code.
static void size_memory(compiling *k) {
  sard_context *ctx = NULL;
  sard_model *m = NULL;
  sard_status *st = sard_context_new(NULL, &ctx);
  if (!st) st = sd_model_from_bytes(ctx, k->done->pieces, k->done->n_pieces, NULL, NULL, &m);
  if (!st) k->sized = sd_model_static_memory(m, &k->arena, &k->scratch);
  if (!st && !k->sized) st = size_symbolic(k, ctx, m);
  if (st) sd_cli_detail(k->c, "peak memory is not known: %s", sard_status_text(st, SARD_TEXT_MESSAGE));
  sard_status_free(st);
  sard_model_free(m);
  sard_context_free(ctx);
}

// ---- table ----

static bool is_pass(const sd_phase *p) { return sd_pass_find(p->name) != NULL; }

static void show_phases(compiling *k) {
  const sd_driver_report *r = &k->done->report;
  double passes = 0, import = 0;
  for (uint32_t i = 0; i < r->phases.len; i++) {
    if (is_pass(&r->phases.at[i])) passes += r->phases.at[i].seconds;
    else if (strcmp(r->phases.at[i].name, "import") == 0)
      import += r->phases.at[i].seconds;
  }
  sd_cli_say(k->c, "seconds      %.3f: import %.3f, passes %.3f, lower %.3f, code %.3f, write %.3f\n", r->total_s,
             import, passes, r->code.lower_s, r->code.emit_s, r->code.write_s);
  if (!sd_args_given(k->c, "time-passes")) return;
  for (uint32_t i = 0; i < r->phases.len; i++)
    if (is_pass(&r->phases.at[i]))
      sd_cli_say(k->c, "  %-10s %9.6f s %6u rewrites\n", r->phases.at[i].name, r->phases.at[i].seconds,
                 r->phases.at[i].rewrites);
}

// Nodes that are narrow, and those that are not for reasons of their own.
static void show_precision(compiling *k) {
  const sd_precision_report *p = &k->done->report.precision;
  uint32_t narrow = 0, shown = 0, why = 0;
  for (uint32_t i = 0; i < p->nodes.len; i++) narrow += p->nodes.at[i].to != SD_F32;
  if (!k->o.precision) return;
  sd_cli_say(k->c, "precision    %s: %u of %u nodes, %u casts\n", sd_dtype_name(k->o.precision->to), narrow, p->nodes.len,
             p->casts);
  for (uint32_t i = 0; i < p->nodes.len; i++) {
    const sd_precision_node *n = &p->nodes.at[i];
    if (n->to != SD_F32 || n->by_rule) continue;
    if (why++ < SHOWN) shown++, sd_cli_say(k->c, "stays f32    %s (%s): %s\n", n->name, n->op, n->why);
  }
  if (why > shown) sd_cli_say(k->c, "             ... and %u more\n", why - shown);
}

// The ways that were compared, and the parts that were made.
static void show_split(compiling *k) {
  const sd_split_choice *s = &k->done->report.split;
  char a[24], b[24], d[24];
  if (!s->chosen) return;
  sd_cli_say(k->c, "split        %s; predicted for a batch of %u:", sd_split_name(s->chosen), s->ways.pieces);
  for (uint32_t i = 0; i < s->ways.n; i++) {
    const sd_way *w = &s->ways.at[i];
    sd_cli_say(k->c, "%s %s %.3g ms%s", i ? "," : "", w->how ? sd_split_name((sd_split_kind)w->how) : "one device", w->seconds * 1e3,
               w->fits ? "" : " (does not fit)");
  }
  sd_cli_say(k->c, "\ncosts        %s%s\n",
             s->measured ? "measured on this machine" : "estimated: ", s->measured ? "" : s->why);
  for (uint32_t i = 1; i < s->layer.n; i++)
    sd_cli_say(k->c, "%s%u%s", i > 1 ? "," : "cuts         ", s->layer.at[i].first,
               i + 1 < s->layer.n ? "" : "\n");
  for (uint32_t i = 0; i < s->layer.n; i++) {
    const sd_layer_part *p = &s->layer.at[i];
    sd_cli_say(k->c, "part %-7u %u nodes, %.3g ms, weights %s, activations %s, reads %s\n", i + 1, p->n, (p->seconds + p->link) * 1e3,
               sd_cli_bytes(p->weights, a), sd_cli_bytes(p->values, b), sd_cli_bytes(p->bytes_in, d));
  }
}

// Products whose tensors are cut, and those that each device computes as a whole.
static void show_tensors(compiling *k) {
  const sd_tensor_report *t = &k->done->report.tensor;
  const sd_split_choice *s = &k->done->report.split;
  char bytes[24];
  uint32_t cut = 0, shown = 0;
  for (uint32_t i = 0; i < t->nodes.len; i++) cut += t->nodes.at[i].cut;
  if (!k->o.devices.mpi && s->chosen != SD_SPLIT_TENSOR) return;
  sd_cli_say(k->c,
             "tensors      %u of %u products are cut, %u exchanges, %s read by each device in a run of usual "
             "sizes\n",
             cut, t->nodes.len, t->exchanges, sd_cli_bytes((uint64_t)t->bytes, bytes));
  for (uint32_t i = 0; i < t->nodes.len; i++) {
    const sd_tensor_node *n = &t->nodes.at[i];
    if (!n->cut && shown++ < SHOWN) sd_cli_say(k->c, "whole        %s (%s): %s\n", n->name, n->op, n->how);
  }
  if (shown > SHOWN) sd_cli_say(k->c, "             ... and %u more\n", shown - SHOWN);
}

static void show_table(compiling *k) {
  const sd_driver_report *r = &k->done->report;
  char a[24], b[24], d[24], e[24];
  sd_cli *c = k->c;
  if (k->output && strcmp(k->output, "-") != 0) sd_cli_say(c, "%s: %s\n", k->output, sd_cli_bytes(k->file_bytes, a));
  sd_cli_say(c, "nodes        %u in, %u out\n", r->nodes_in, r->nodes_out);
  for (uint32_t i = 0; i < r->fusions.len; i++)
    sd_cli_say(c, "fused        %s %s\n", r->fusions.at[i].value, r->fusions.at[i].key);
  show_precision(k);
  show_split(k);
  show_tensors(k);
  if (!emits_text(k)) {
    sd_cli_say(c, "target       %s, -O%d, %u steps, %u kernels (%u different)\n", r->isa, k->o.opt, r->code.steps,
               r->code.kernels, r->code.unique_kernels);
    if (r->code.cuda)
      sd_cli_say(c, "cuda         %s: %u different kernels, %s, %.3f s\n", r->code.cuda, r->code.cuda_kernels,
                 sd_cli_bytes(r->code.cuda_bytes, a), r->code.cuda_s);
    if (k->done->parts.n == 0 && k->sized)
      sd_cli_say(c, "peak memory  %s of activations, %s of scratch per thread%s\n", sd_cli_bytes(k->arena, a),
                 sd_cli_bytes(k->scratch, b), k->symbolic ? ", for symbolic dims of size 1" : "");
    else if (k->done->parts.n == 0)
      sd_cli_say(c, "peak memory  not known here: %s\n",
                 k->o.target ? "the code is for another machine" : "it depends on symbolic dims");
    sd_cli_say(c, "bytes        %s: code %s, weights %s, metadata %s\n", sd_cli_bytes(k->file_bytes, e),
               sd_cli_bytes(r->code.code_bytes, a), sd_cli_bytes(r->code.const_bytes, b),
               sd_cli_bytes(r->code.meta_bytes, d));
  }
  show_phases(k);
}

static sard_status *put_json(compiling *k) {
  char *json = sd_driver_report_json(&k->done->report);
  if (!json) return SD_ERR(NOMEM, "out of memory for the report");
  sd_str_put(&k->c->json, ",\"report\":"), sd_str_put(&k->c->json, json);
  sd_strf(&k->c->json, ",\"file_bytes\":%llu", (unsigned long long)k->file_bytes);
  if (k->sized && !k->symbolic)
    sd_strf(&k->c->json, ",\"arena_bytes\":%llu,\"scratch_bytes\":%llu", (unsigned long long)k->arena,
            (unsigned long long)k->scratch);
  sd_free(json);
  return NULL;
}

// Inputs and outputs of the type that --precision has, with casts inside, which its rules take away.
static sard_status *narrow_ends(compiling *k, sard_source *src) {
  const sd_packed *model;
  uint32_t n;
  sd_dtype to = k->o.precision ? k->o.precision->to : SD_F32;
  if (to == SD_F32)
    return SD_ERR(USAGE, "--keep-io-types no needs --precision bf16, f16, or a plan of one of them");
  SD_TRY(sd_convert_ends(k->c->arena, src, to, &n, &model));
  *src = model->src;
  sd_cli_say(k->c, "types        %u inputs and outputs are %s\n", n, sd_dtype_name(to));
  sd_strf(&k->c->json, ",\"io_narrow\":%u", n);
  return NULL;
}

static sard_status *steps(compiling *k) {
  sard_source src = {.size = sizeof src, .path = k->path};
  int keeps = 0;
  SD_TRY(sd_args_choice(k->c, "keep-io-types", &keeps));
  if (keeps == 1) SD_TRY(narrow_ends(k, &src));
  bool text = emits_text(k);
  if (text && !k->o.stop_after) {
    uint32_t last = 0;
    while (sd_pass_at(last + 1)) last++;
    k->o.stop_after = sd_pass_at(last)->name;
  }
  sard_status *st = sd_driver_compile(&src, &k->o, &k->done);
  sd_cli_progress(k->c, NULL);
  SD_TRY(st);
  if (text) {
    if (k->output) SD_TRY(write_text(k));
  } else {
    SD_TRY(write_artifact(k));
    if (!k->done->parts.n) size_memory(k); // of parts the table has what is expected
  }
  show_table(k);
  return put_json(k);
}

static void list_passes(sd_cli *c) {
  for (uint32_t i = 0; sd_pass_at(i); i++)
    sd_cli_say(c, "%-10s -O%d  %s\n", sd_pass_at(i)->name, sd_pass_at(i)->min_opt, sd_pass_at(i)->what);
}

sard_status *sd_verb_compile(sd_cli *c) {
  compiling k = {.c = c};
  if (sd_args_given(c, "list-passes")) {
    list_passes(c);
    return NULL;
  }
  SD_TRY(read_flags(&k));
  SD_TRY(check_flags(&k));
  sard_status *st = steps(&k);
  sd_compiled_free(k.done);
  return st;
}
