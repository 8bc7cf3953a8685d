// sard quantize: a model with integers instead of floats, no worse than allowed.
#include "frontend/cli/quantize.h"

#include <math.h>
#include <string.h>
#include <sys/stat.h>

#include "frontend/cli/pick.h"
#include "frontend/onnx/prune.h"

#define NOISE 0.02 // of measured times

// ---- flags ----

static sard_status *read_weights(sd_quantize *q) {
  int at = 0;
  SD_TRY(sd_args_choice(q->c, "weights", &at));
  q->o.bits = at == 1 ? 4 : at == 2 ? 2 : 8;
  q->o.type = at < 3 ? SD_I8 : sd_dtype_parse(sd_args_get(q->c, "weights"));
  q->o.group = 32, q->o.check = sd_stop_check; // rounding by moments takes long
  SD_TRY(sd_args_int(q->c, "group", 16, 1 << 20, &q->o.group));
  if (q->o.group & (q->o.group - 1)) return SD_ERR(USAGE, "--group: %lld is no power of two", (long long)q->o.group);
  return NULL;
}

// How channels are scaled before anything is rounded.
static sard_status *read_scaling(sd_quantize *q) {
  SD_TRY(sd_args_number(q->c, "smooth", 0, 1, &q->alpha));
  q->awq = q->o.clip = sd_args_given(q->c, "awq");
  bool smooth = !isnan(q->alpha);
  if (q->awq && smooth) return SD_ERR(USAGE, "--awq is for weights, --smooth for activations: one of them");
  if (q->awq && q->o.bits == 8) return SD_ERR(USAGE, "--awq is for weights of 4 and 2 bits");
  if (smooth && q->o.mode == SD_QUANT_WEIGHTS)
    return SD_ERR(USAGE, "--smooth makes activations easier to round, and --mode weights leaves them as they are");
  return NULL;
}

// What float8 has not.
static sard_status *check_float8(const sd_quantize *q) {
  static const char *const flags[] = {"acts", "reduce-range"};
  const char *name = sd_dtype_name(q->o.type);
  if (q->o.type == SD_I8) return NULL;
  if (q->o.mode == SD_QUANT_DYNAMIC)
    return SD_ERR(USAGE, "--weights %s: --mode dynamic is for integers; static needs --data, weights none",
                  name);
  if (q->o.format != SD_QUANT_QDQ) return SD_ERR(USAGE, "--weights %s is written as --format qdq only", name);
  for (int i = 0; i < 2; i++)
    if (sd_args_given(q->c, flags[i]))
      return SD_ERR(USAGE, "--%s is for integers, not for %s", flags[i], name);
  return NULL;
}

static sard_status *read_mode(sd_quantize *q) {
  bool data = sd_args_given(q->c, "data");
  int mode = q->o.bits < 8        ? SD_QUANT_WEIGHTS
             : data               ? SD_QUANT_STATIC
             : q->o.type != SD_I8 ? SD_QUANT_WEIGHTS
                                  : SD_QUANT_DYNAMIC,
      format = q->o.bits < 8 ? SD_QUANT_NBITS : SD_QUANT_QDQ, act = 0, round = 0;
  SD_TRY(sd_args_choice(q->c, "mode", &mode));
  SD_TRY(sd_args_choice(q->c, "format", &format));
  SD_TRY(sd_args_choice(q->c, "acts", &act));
  SD_TRY(sd_args_choice(q->c, "rounding", &round));
  const char *rounding = sd_args_get(q->c, "rounding");
  q->o.mode = (sd_quant_mode)mode, q->o.format = (sd_quant_format)format, q->o.signed_acts = act, q->o.rounding = (sd_quant_rounding)round;
  q->o.symmetric = sd_args_given(q->c, "symmetric"), q->o.per_tensor = sd_args_given(q->c, "per-tensor"),
  q->o.reduce_range = sd_args_given(q->c, "reduce-range");
  q->correct = sd_args_given(q->c, "correct-biases");
  q->o.round_inputs = sd_args_given(q->c, "round-inputs");
  if (mode != SD_QUANT_WEIGHTS && q->o.bits < 8)
    return SD_ERR(USAGE, "weights of %d bits: activations stay in float, so the mode is weights, not %s", q->o.bits,
                  sd_args_get(q->c, "mode"));
  if (format == SD_QUANT_QOPERATOR && mode != SD_QUANT_STATIC)
    return SD_ERR(USAGE, "--format qoperator is of --mode static; dynamic writes operators anyway");
  if (format == SD_QUANT_NBITS && q->o.bits == 8) return SD_ERR(USAGE, "--format nbits is for weights of 4 and 2 bits");
  if (q->o.round_inputs && (format != SD_QUANT_NBITS || q->o.bits == 8)) return SD_ERR(USAGE, "--round-inputs is of --format nbits");
  if (mode == SD_QUANT_STATIC && !data)
    return SD_ERR(USAGE, "--mode static needs --data: ranges of activations come from samples");
  if (round && q->o.type != SD_I8)
    return SD_ERR(USAGE, "--rounding %s is for integers, not for %s", rounding, sd_dtype_name(q->o.type));
  if (round && !data)
    return SD_ERR(USAGE, "--rounding %s needs --data: it measures the inputs of each weight", rounding);
  SD_TRY(check_float8(q));
  SD_TRY(read_scaling(q));
  if (q->correct && mode != SD_QUANT_STATIC) return SD_ERR(USAGE, "--correct-biases is of --mode static");
  return sd_range_method_find(sd_args_get(q->c, "method"), &q->method, &q->number);
}

static sard_status *read_flags(sd_quantize *q) {
  SD_TRY(sd_change_flags(q->c, "quantized model", &q->out));
  SD_TRY(sd_judge_flags(&q->judge));
  SD_TRY(read_weights(q));
  return read_mode(q);
}

// ---- steps ----

// By --keep-float, --ops.
static sard_status *keep(sd_quantize *q) {
  sd_pick *at = SD_NEW_ARRAY(q->c->arena, sd_pick, q->units.len + 1);
  for (uint32_t i = 0; i < q->units.len; i++) {
    const sd_quant_unit *u = &q->units.at[i];
    at[i] = (sd_pick){u->name, u->op, u->keep, u->why};
  }
  SD_TRY(sd_pick_keep(q->c, "keep-float", at, q->units.len));
  for (uint32_t i = 0; i < q->units.len; i++) q->units.at[i].keep = at[i].keep, q->units.at[i].why = at[i].why;
  return NULL;
}

// Weights that nodes move out of constants are constants of the model that takes the place of the file. One
// that cannot be imported is quantized as it is.
static sard_status *fold(sd_quantize *q) {
  const sd_packed *folded = NULL;
  bool open = false;
  for (uint32_t i = 0; i < q->units.len; i++) open |= q->units.at[i].open;
  sard_status *st = open ? sd_prune_fold(q->c->arena, &q->src, &folded) : NULL;
  if (sard_status_code(st) == SARD_E_NOMEM) return st;
  sard_status_free(st);
  if (!folded) return NULL;
  q->src = folded->src, q->units = (sd_quant_units){0};
  return sd_quant_find(q->c->arena, &q->src, &q->o, &q->units);
}

static sard_status *find(sd_quantize *q) {
  uint32_t some = 0;
  SD_TRY(sd_quant_find(q->c->arena, &q->src, &q->o, &q->units));
  SD_TRY(fold(q));
  SD_TRY(keep(q));
  for (uint32_t i = 0; i < q->units.len; i++) some += !q->units.at[i].keep;
  if (some) return NULL;
  sard_status *none =
      SD_ERR(UNSUPPORTED, "nothing can be quantized: %u nodes have weights, and all of them stay float", q->units.len);
  return q->units.len ? sd_status_field(none, SARD_TEXT_HINT, "'%s' (%s): %s", q->units.at[0].name, q->units.at[0].op,
                                        q->units.at[0].why ? q->units.at[0].why : "excluded")
                      : none;
}

// The model with its channels scaled, where that is asked for, takes the place of the file.
static sard_status *prepare(sd_quantize *q) {
  struct stat st;
  bool scaled = !isnan(q->alpha) || q->awq;
  uint64_t external;
  SD_TRY(find(q));
  SD_TRY(sd_tools_external(q->c, q->c->operands[0], &external));
  if (stat(q->c->operands[0], &st) == 0) q->size_before = (uint64_t)st.st_size + external;
  SD_TRY(sd_model_context(q->c, &q->judge.ctx));
  if (sd_args_given(q->c, "equalize")) {
    SD_TRY(sd_quantize_balance(q, true));
    SD_TRY(find(q));
  }
  if (!scaled) return NULL;
  SD_TRY(sd_quantize_balance(q, false));
  return find(q);
}

// The exit code tells why there is no model: 1 too large a drop, 9 slower.
static sard_status *decide(sd_quantize *q) {
  sd_cli *c = q->c;
  const char *faster = sd_args_get(c, "must-be-faster");
  double most = q->max_drop, drop = q->judge.paired.drop.value, least = 1;
  if (q->judged && !isnan(most) && !(drop <= most + 1e-12)) {
    q->verdict = "the drop is larger than --max-drop allows";
    return SD_ERR(CHECK, "not written: %s", q->verdict);
  }
  // What makes models smaller only has to be asked.
  bool smaller = q->o.mode == SD_QUANT_WEIGHTS || q->o.type != SD_I8;
  if (!q->timed || (faster ? strcmp(faster, "no") == 0 : smaller)) return NULL;
  if (faster && strcmp(faster, "yes") != 0) SD_TRY(sd_args_number(c, "must-be-faster", 0.01, 100, &least));
  if (q->ms_before >= least * (1 - NOISE) * q->ms_after) return NULL;
  SD_TRY(sd_pair_profile(&q->judge, &q->steps));
  q->verdict = "it is slower than --must-be-faster asks";
  sard_status *st =
      SD_ERR(SLOWER, "not written: %.3g ms instead of %.3g ms a run on this machine", q->ms_after, q->ms_before);
  return sd_status_field(st, SARD_TEXT_HINT,
                         "--must-be-faster no writes it all the same; --mode weights makes it smaller only");
}

static sard_status *measure(sd_quantize *q) {
  const char *drop = sd_args_get(q->c, "max-drop");
  SD_TRY(sd_quantize_load_float(q));
  SD_TRY(sd_quantize_make(q));
  if (!q->judge.metric) return q->judge.data && !q->c->within ? sd_quantize_time(q) : NULL; // sard optimize measures itself
  SD_TRY(sd_quantize_judge(q));
  if (drop) {
    const sd_score *s = &q->judge.a.score;
    SD_TRY(sd_judge_drop(q->judge.metric, "max-drop", drop, s->metric->value(s, -1), &q->max_drop));
    if (!(q->judge.paired.drop.value <= q->max_drop + 1e-12)) SD_TRY(sd_quantize_search(q));
  }
  return sd_quantize_time(q);
}

static sard_status *steps(sd_quantize *q) {
  SD_TRY(read_flags(q));
  SD_TRY(prepare(q));
  SD_TRY(sd_quantize_observe(q));
  if (sd_args_given(q->c, "sensitivity")) {
    SD_TRY(sd_quantize_load_float(q));
    SD_TRY(sd_quantize_rank(q));
  }
  SD_TRY(measure(q));
  SD_TRY(decide(q));
  SD_TRY(sd_stop_check());
  return sd_tools_write_model(q->c, q->out, q->packed);
}

sard_status *sd_verb_quantize(sd_cli *c) {
  sd_quantize q = {.c = c, .judge = {.c = c}, .src = {.size = sizeof q.src, .path = c->operands[0]}, .max_drop = NAN, .alpha = NAN};
  sd_stop_hold(); // for good: an interrupt ends the work, what was found is reported all the same
  sard_status *st = steps(&q);
  q.interrupted = sard_status_code(st) == SARD_E_CANCELLED;
  const char *html = sd_args_get(c, "html");
  if (q.packed || q.layers.len) {
    sd_quantize_report(&q);
    sard_status *bad = html ? sd_quantize_html(&q, html) : NULL;
    if (!st) st = bad;
    else
      sard_status_free(bad);
  }
  if (q.interrupted && !q.packed && q.samples) {
    sd_strf(&c->json, ",\"partial\":true,\"samples\":%lld", (long long)q.samples);
    sd_cli_note(c, "interrupted after %lld samples of the calibration: %s", (long long)q.samples,
                sd_args_given(c, "resume") ? "the same command goes on from there" : "with --resume FILE the same command goes on from there");
  }
  sd_judge_free(&q.judge);
  sard_context_free(q.judge.ctx);
  return st;
}
