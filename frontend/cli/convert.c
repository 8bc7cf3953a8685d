// sard convert: an ONNX model with f16 or bf16 where that is safe, and what it costs.
#include "frontend/onnx/convert.h"

#include <math.h>
#include <string.h>
#include <sys/stat.h>

#include "frontend/cli/pair.h"
#include "frontend/cli/tools.h"

enum { SHOWN = 20 };

typedef struct converting {
  sd_cli *c;
  sd_judge judge; // a: the model as it is, b: converted
  sard_source src;
  const sd_packed *packed;
  uint64_t size_before;
  sd_precision p;
  sd_precision_report nodes;
  const char *out;
  bool narrow_io; // --keep-io-types no
  int64_t opset;  // the model was raised to it; 0: it was not
} converting;

// ---- flags ----

static sard_status *keep(converting *k, const char *given) {
  uint32_t found = 0;
  sd_arena *a = k->c->arena;
  char *list = sd_arena_strdup(a, given), *rest = NULL;
  SD_TRY(sd_convert_keep(a, &k->src, given, &k->p, &found)); // a name may hold a comma
  if (found) return NULL;
  for (char *name = strtok_r(list, ",", &rest); name; name = strtok_r(NULL, ",", &rest)) {
    SD_TRY(sd_convert_keep(a, &k->src, name, &k->p, &found));
    if (!found) return SD_ERR(USAGE, "--keep-float: the model has no node '%s'", name);
  }
  return NULL;
}

static sard_status *read_flags(converting *k) {
  sd_cli *c = k->c;
  const char *to = sd_args_get(c, "to"), *given;
  uint32_t at = 0;
  int keeps = 0;
  SD_TRY(sd_change_flags(c, "converted model", &k->out));
  SD_TRY(sd_judge_flags(&k->judge));
  SD_TRY(sd_args_choice(c, "keep-io-types", &keeps));
  k->narrow_io = keeps == 1;
  if (!to) return SD_ERR(USAGE, "--to is missing: f16 or bf16");
  k->p.to = sd_dtype_parse(to);
  if (k->p.to != SD_F16 && k->p.to != SD_BF16) return SD_ERR(USAGE, "--to: '%s' is neither f16 nor bf16", to);
  while ((given = sd_args_next(c, "keep-float", &at)) != NULL) SD_TRY(keep(k, given));
  return NULL;
}

// ---- report ----

static uint32_t narrow_nodes(const converting *k) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < k->nodes.nodes.len; i++) n += k->nodes.nodes.at[i].to != SD_F32;
  return n;
}

static void show(converting *k) {
  char a[24], b[24];
  sd_cli *c = k->c;
  uint32_t shown = 0, more = 0;
  sd_cli_say(c, "converted  %u of %u nodes to %s, weights of %u more\n", narrow_nodes(k), k->nodes.nodes.len,
             sd_dtype_name(k->p.to), k->nodes.weights);
  if (k->opset)
    sd_cli_say(c, "opset      raised to %lld, which has more operators of that type\n", (long long)k->opset);
  sd_cli_say(c, "size       %s to %s (%.2f)\n", sd_cli_bytes(k->size_before, a), sd_cli_bytes(k->packed->size, b),
             (double)k->packed->size / (double)(k->size_before ? k->size_before : 1));
  for (uint32_t i = 0; i < k->nodes.nodes.len; i++) {
    const sd_precision_node *n = &k->nodes.nodes.at[i];
    if (n->to != SD_F32 || n->by_rule) continue;
    if (shown < SHOWN)
      sd_cli_say(c, "%s %s (%s): %s\n", shown++ ? "          " : "stays f32 ", n->name, n->op, n->why);
    else
      more++;
  }
  if (more) sd_cli_say(c, "           ... and %u more\n", more);
}

static void put_json(converting *k) {
  sd_str *s = &k->c->json;
  sd_strf(s,
          ",\"to\":\"%s\",\"raised_to\":%lld,\"size_before\":%llu,\"size_after\":%llu,\"weights_only\":%u,"
          "\"nodes\":[",
          sd_dtype_name(k->p.to), (long long)k->opset, (unsigned long long)k->size_before,
          (unsigned long long)k->packed->size, k->nodes.weights);
  sd_driver_precision_json(&k->nodes, s);
  sd_strf(s, "],\"peak_rss_mb\":%.3f", sd_peak_memory_mb());
}

// ---- steps ----

static sard_status *open_data(converting *k) {
  if (!sd_args_given(k->c, "data")) return NULL;
  SD_TRY(sd_model_load_in(k->c, k->judge.ctx, k->c->operands[0], &k->judge.a.m));
  SD_TRY(sd_judge_data(&k->judge, &k->judge.a.m));
  SD_TRY(sd_judge_begin(&k->judge, &k->judge.a));
  SD_TRY(sd_judge_labels(&k->judge, &k->judge.a));
  k->judge.two = true;
  return k->p.to == SD_F16 ? sd_precision_calibrate(&k->judge, k->c->operands[0], &k->p) : NULL;
}

static sard_status *compare(converting *k) {
  sd_judge *j = &k->judge;
  const char *most = sd_args_get(k->c, "max-drop");
  double limit = NAN, before, after;
  if (!j->data) return NULL;
  SD_TRY_MSG(sd_model_load_packed(k->c, j->ctx, &k->packed->src, &j->b.m), "the converted model");
  SD_TRY(sd_judge_begin(j, &j->b));
  if (j->metric) {
    SD_TRY(sd_judge_all(j, "evaluating"));
    if (most) SD_TRY(sd_judge_drop(j->metric, "max-drop", most, j->metric->value(&j->a.score, -1), &limit));
    sd_pair_say(j, limit, false);
    sd_pair_json(j, limit);
    if (most && !(j->paired.drop.value <= limit + 1e-12))
      return SD_ERR(CHECK, "not written: the drop is larger than --max-drop allows");
  }
  SD_TRY(sd_pair_time(j, &before, &after));
  sd_cli_say(k->c, "time       %.4g ms to %.4g ms a run of %lld samples (%.2fx as fast)\n", before, after,
             (long long)j->batch, before / after);
  sd_strf(&k->c->json, ",\"ms_before\":%.6g,\"ms_after\":%.6g", before, after);
  return NULL;
}

// Where bf16 needs a later opset than the model's.
static sard_status *raise_opset(converting *k) {
  const char *why;
  SD_TRY(sd_convert_raise(k->c->arena, &k->src, k->p.to, &k->opset, &why));
  if (why) sd_cli_note(k->c, "%s: more of it stays f32 than would have to", why);
  return NULL;
}

// After the comparison, as the data are those of inputs of f32: what is computed is the same, as casts stand at both ends.
static sard_status *narrow_io(converting *k) {
  sd_precision_report again = {0};
  uint32_t n = 0;
  SD_TRY(sd_convert_write(k->c->arena, &k->src, &k->p, &again, &n, &k->packed));
  sd_cli_say(k->c, "types      %u inputs and outputs are %s, too\n", n, sd_dtype_name(k->p.to));
  sd_strf(&k->c->json, ",\"io_narrow\":%u", n);
  return NULL;
}

static sard_status *steps(converting *k) {
  struct stat st;
  SD_TRY(read_flags(k));
  SD_TRY(raise_opset(k));
  uint64_t external;
  SD_TRY(sd_tools_external(k->c, k->c->operands[0], &external));
  if (stat(k->c->operands[0], &st) == 0) k->size_before = (uint64_t)st.st_size + external;
  SD_TRY(sd_model_context(k->c, &k->judge.ctx));
  SD_TRY(sd_convert_limits(k->c->arena, &k->src, &k->p));
  SD_TRY(open_data(k));
  SD_TRY(sd_convert_write(k->c->arena, &k->src, &k->p, &k->nodes, NULL, &k->packed));
  if (narrow_nodes(k) + k->nodes.weights == 0) {
    const sd_precision_node *n = k->nodes.nodes.len ? &k->nodes.nodes.at[0] : NULL;
    sard_status *none = SD_ERR(UNSUPPORTED, "no node of f32 can be %s", sd_dtype_name(k->p.to));
    return n ? sd_status_field(none, SARD_TEXT_HINT, "'%s' (%s): %s", n->name, n->op, n->why) : none;
  }
  show(k);
  put_json(k);
  SD_TRY(compare(k));
  if (k->narrow_io) SD_TRY(narrow_io(k));
  SD_TRY(sd_stop_check());
  sd_stop_hold();
  sard_status *written = sd_tools_write_model(k->c, k->out, k->packed);
  sd_stop_release();
  return written;
}

sard_status *sd_verb_convert(sd_cli *c) {
  converting k = {.c = c, .judge = {.c = c}, .src = {.size = sizeof k.src, .path = c->operands[0]}};
  sard_status *st = steps(&k);
  sd_judge_free(&k.judge);
  sard_context_free(k.judge.ctx);
  return st;
}
