// sard prune: a model with fewer weights, no worse than allowed.
#include "frontend/cli/prune.h"

#include <math.h>
#include <string.h>
#include <sys/stat.h>

#include "frontend/cli/pick.h"

enum { MULTIPLE = 8 }; // of channels that are left: whole vectors of f32 with AVX2

static sard_status *read_method(sd_prune *q) {
  bool data = sd_args_given(q->c, "data");
  int criterion = data ? SD_WANDA : SD_MAGNITUDE, scope = 1, refit = 0;
  SD_TRY(sd_args_choice(q->c, "criterion", &criterion));
  SD_TRY(sd_args_choice(q->c, "scope", &scope));
  SD_TRY(sd_args_choice(q->c, "reconstruct", &refit));
  q->criterion = (sd_criterion)criterion, q->global = scope == 1, q->refit = data && refit == 0, q->steps = 1;
  if (criterion == SD_SPARSEGPT && sd_pattern_removes(q->pattern.kind))
    return SD_ERR(USAGE, "--criterion sparsegpt is of single weights: %s goes by magnitude or wanda",
                  q->pattern_text);
  if (criterion != SD_MAGNITUDE && !data)
    return SD_ERR(USAGE, "--criterion %s needs --data: it looks at what samples give", sd_args_get(q->c, "criterion"));
  if (!data && sd_args_given(q->c, "reconstruct") && refit == 0)
    return SD_ERR(USAGE, "--reconstruct lsq needs --data: weights are fitted to what samples give");
  return sd_args_int(q->c, "schedule", 1, 100, &q->steps);
}

static sard_status *read_also(sd_prune *q) {
  const char *given = sd_args_get(q->c, "also");
  char *list = sd_arena_strdup(q->c->arena, given), *rest = NULL;
  if (!given) return NULL;
  if (sd_pattern_removes(q->pattern.kind))
    return SD_ERR(USAGE, "--also is of patterns that keep all outputs, not of %s", q->pattern_text);
  for (char *word = strtok_r(list, ",", &rest); word; word = strtok_r(NULL, ",", &rest)) {
    bool tables = strcmp(word, "embeddings") == 0;
    if (!tables && strcmp(word, "depthwise") != 0)
      return SD_ERR(USAGE, "--also: '%s' is neither embeddings nor depthwise", word);
    q->also |= tables ? SD_PRUNE_TABLES : SD_PRUNE_DEPTHWISE;
  }
  return NULL;
}

static sard_status *read_flags(sd_prune *q) {
  int keeps = 0;
  SD_TRY(sd_change_flags(q->c, "pruned model", &q->out));
  SD_TRY(sd_judge_flags(&q->judge));
  q->pattern_text = sd_args_get(q->c, "pattern");
  if (!q->pattern_text)
    return SD_ERR(USAGE, "--pattern is missing, such as unstructured:0.3, 2:4 or block16x1:0.5");
  SD_TRY(sd_pattern_read(q->pattern_text, &q->pattern));
  SD_TRY(sd_args_choice(q->c, "keep-io-sizes", &keeps));
  if ((q->resize = keeps == 1) && !sd_pattern_removes(q->pattern.kind))
    return SD_ERR(USAGE, "--keep-io-sizes is of channels and heads, which are removed, not of %s", q->pattern_text);
  SD_TRY(read_also(q));
  q->multiple = MULTIPLE;
  SD_TRY(sd_args_int(q->c, "multiple", 1, 1 << 20, &q->multiple));
  if (sd_args_given(q->c, "multiple") && q->pattern.kind != SD_PATTERN_CHANNELS)
    return SD_ERR(USAGE, "--multiple is of channels that are left, not of %s", q->pattern_text);
  return read_method(q);
}

// By --exclude, --ops and the pattern.
static sard_status *keep(sd_prune *q) {
  sd_pick *at = SD_NEW_ARRAY(q->c->arena, sd_pick, q->units.len + 1);
  for (uint32_t i = 0; i < q->units.len; i++) {
    sd_prune_unit *u = &q->units.at[i];
    at[i] = (sd_pick){u->name, u->op, u->keep, u->why};
  }
  SD_TRY(sd_pick_keep(q->c, "exclude", at, q->units.len));
  for (uint32_t i = 0; i < q->units.len; i++) {
    sd_prune_unit *u = &q->units.at[i];
    const char *misfit = at[i].keep ? NULL : sd_pattern_misfit(&q->pattern, u->rows, u->k);
    if (!misfit && !at[i].keep && q->pattern.kind != SD_PATTERN_FREE && u->rank > 2 && !u->recurrent &&
        (uint64_t)u->dims[1] % q->pattern.cols)
      misfit = "its channels do not divide into the pattern's groups";
    if (!misfit && !at[i].keep && (u->rows / u->groups) % q->pattern.rows &&
        q->pattern.kind == SD_PATTERN_BLOCK)
      misfit = "its outputs do not divide into blocks";
    u->keep = at[i].keep || misfit, u->why = misfit ? misfit : at[i].why;
  }
  return NULL;
}

static sard_status *nothing_goes(const sd_prune *q) {
  bool heads = q->pattern.kind == SD_PATTERN_HEADS;
  int runs = heads && q->channels.stop[1].node;
  if (heads && !q->channels.runs && !q->channels.outside)
    return SD_ERR(UNSUPPORTED, "nothing can be pruned to %s: no outputs of layers that can be followed are taken apart into heads, by a Reshape", q->pattern_text);
  sard_status *st = SD_ERR(UNSUPPORTED, "nothing can be pruned to %s: no outputs of layers can go with all that depends on them", q->pattern_text);
  if (q->channels.outside)
    return sd_status_field(st, SARD_TEXT_HINT, "states that are inputs and outputs of the model, or keys and values of earlier steps, keep their sizes: "
                                               "--keep-io-sizes no lets them lose elements, too, and changes the sizes of these inputs and outputs");
  if (!q->channels.stop[runs].node)
    return sd_status_field(st, SARD_TEXT_HINT, "outputs of the model stay");
  return sd_status_field(st, SARD_TEXT_HINT, "'%s', for one, goes to '%s' (%s), which needs all of its outputs",
                         q->units.at[q->channels.stop[runs].unit].name, q->channels.stop[runs].node, q->channels.stop[runs].op);
}

static sard_status *find(sd_prune *q) {
  struct stat st;
  uint32_t some = 0;
  const sd_packed *folded = NULL;
  uint64_t external;
  SD_TRY(sd_tools_external(q->c, q->c->operands[0], &external));
  if (stat(q->c->operands[0], &st) == 0) q->size_before = (uint64_t)st.st_size + external;
  SD_TRY(sd_prune_fold(q->c->arena, &q->src, &folded));
  if (folded) q->src = folded->src;
  SD_TRY(sd_prune_find(q->c->arena, &q->src, q->also, &q->units, &q->parameters));
  SD_TRY(keep(q));
  q->layers = SD_NEW_ARRAY(q->c->arena, sd_prune_layer, q->units.len + 1);
  for (uint32_t i = 0; i < q->units.len; i++) some += !q->units.at[i].keep, q->layers[i].snr = NAN;
  if (some && sd_pattern_removes(q->pattern.kind)) {
    SD_TRY(sd_prune_channels_find(q, &some));
    if (!some) return nothing_goes(q);
    SD_TRY(sd_prune_states_check(q));
  }
  if (some) return NULL;
  sard_status *none = SD_ERR(UNSUPPORTED,
                             "nothing can be pruned to %s: the model has %u weights of products, and all of "
                             "them stay as they are",
                             q->pattern_text, q->units.len);
  return q->units.len
             ? sd_status_field(none, SARD_TEXT_HINT, "'%s' (%s): %s", q->units.at[0].name, q->units.at[0].op,
                               q->units.at[0].why ? q->units.at[0].why : "excluded")
             : none;
}

// The model as it was, and the data.
static sard_status *open(sd_prune *q) {
  SD_TRY(sd_model_context(q->c, &q->judge.ctx));
  if (!sd_args_given(q->c, "data")) return NULL;
  SD_TRY(sd_model_load_in(q->c, q->judge.ctx, q->c->operands[0], &q->judge.a.m));
  SD_TRY(sd_judge_data(&q->judge, &q->judge.a.m));
  q->judge.two = true;
  SD_TRY(sd_judge_begin(&q->judge, &q->judge.a));
  SD_TRY(sd_judge_labels(&q->judge, &q->judge.a));
  return sd_prune_samples(q);
}

static sard_status *measure(sd_prune *q) {
  const char *drop = sd_args_get(q->c, "max-drop");
  SD_TRY(sd_prune_make(q));
  if (!q->judge.data || (q->c->within && !q->judge.metric)) return NULL; // sard optimize measures itself
  if (q->judge.metric) SD_TRY(sd_prune_judge(q));
  if (drop) {
    const sd_score *s = &q->judge.a.score;
    SD_TRY(sd_judge_drop(q->judge.metric, "max-drop", drop, s->metric->value(s, -1), &q->max_drop));
    if (!(q->judge.paired.drop.value <= q->max_drop + 1e-12)) SD_TRY(sd_prune_search(q));
  }
  SD_TRY(sd_pair_time(&q->judge, &q->ms_before, &q->ms_after));
  q->timed = true;
  return sd_pair_profile(&q->judge, &q->profile);
}

static sard_status *steps(sd_prune *q) {
  SD_TRY(read_flags(q));
  SD_TRY(find(q));
  SD_TRY(open(q));
  SD_TRY(sd_prune_recall(q));
  if (q->criterion == SD_TAYLOR) SD_TRY(sd_prune_taylor(q));
  SD_TRY(sd_prune_all(q, NULL));
  if (sd_args_given(q->c, "sensitivity")) SD_TRY(sd_prune_rank(q));
  SD_TRY(measure(q));
  if (q->judged && !isnan(q->max_drop) && !(q->judge.paired.drop.value <= q->max_drop + 1e-12)) {
    q->verdict = "the drop is larger than --max-drop allows";
    return SD_ERR(CHECK, "not written: %s", q->verdict);
  }
  SD_TRY(sd_stop_check());
  return sd_tools_write_model(q->c, q->out, q->packed);
}

sard_status *sd_verb_prune(sd_cli *c) {
  sd_prune q = {
      .c = c, .judge = {.c = c}, .src = {.size = sizeof q.src, .path = c->operands[0]}, .max_drop = NAN};
  sd_stop_hold(); // for good: an interrupt ends the work, what was found is reported all the same
  sard_status *st = steps(&q);
  q.interrupted = sard_status_code(st) == SARD_E_CANCELLED;
  const char *html = sd_args_get(c, "html");
  if (q.layers) {
    sd_prune_report(&q);
    sard_status *bad = html ? sd_prune_html(&q, html) : NULL;
    if (!st) st = bad;
    else
      sard_status_free(bad);
  }
  sd_judge_free(&q.judge);
  sard_context_free(q.judge.ctx);
  return st;
}
