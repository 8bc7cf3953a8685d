// Chains that are worth a try, in the order of what they promise, and the commands that they are.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/cli/optimize.h"
#include "runtime/base/hash.h"
#include "runtime/cpu.h"

static const sd_chain chains[] = {
#define CHAIN(name, when, after, speed, size, cost, fast, settings, steps)                                   \
  {name, SD_CHAIN_##when, after, speed, size, cost, fast, settings, steps},
#include "frontend/cli/optimize.def"
};
enum { CHAINS = sizeof chains / sizeof *chains };

// ---- which, and when ----

void sd_optimize_list(sd_optimize *q) {
  const sd_chain none = {.name = "the model as it is", .fast = "", .settings = "", .steps = ""};
  sd_vec_push(q->c->arena, &q->trials, ((sd_trial){.chain = none, .name = none.name, .batch = q->batch}));
  for (int i = 0; i < CHAINS; i++)
    sd_vec_push(q->c->arena, &q->trials,
                ((sd_trial){.chain = chains[i], .name = chains[i].name, .batch = q->batch}));
}

static bool is_fast(sd_optimize *q, const sd_chain *k) {
  char *list = sd_arena_strdup(q->c->arena, k->fast), *rest = NULL;
  bool some = !*list;
  for (char *isa = strtok_r(list, " ", &rest); isa; isa = strtok_r(NULL, " ", &rest)) {
    if (*isa == '!' && sd_cpu_has_isa(isa + 1, NULL)) return false;
    some |= sd_cpu_has_isa(isa, NULL);
  }
  return some;
}

// What a chain promises for the goal, for its cost.
static double promise(sd_optimize *q, const sd_chain *k) {
  bool small = q->goal == SD_SIZE || q->goal == SD_MEMORY;
  double gain = small ? 1 / k->size : is_fast(q, k) ? k->speed : sqrt(k->speed);
  return (gain - 1) / k->cost;
}

static bool is_due(const sd_optimize *q, const sd_chain *k) {
  if (k->when == SD_CHAIN_ALWAYS) return true;
  for (uint32_t i = 0; i < q->trials.len; i++) {
    const sd_trial *t = &q->trials.at[i];
    if (strcmp(t->name, k->after) == 0)
      return t->state == SD_TRIAL_MEASURED && t->kept == (k->when == SD_CHAIN_KEPT);
  }
  return false;
}

sd_trial *sd_optimize_next(sd_optimize *q) {
  sd_trial *best = NULL;
  for (uint32_t i = 1; i < q->trials.len; i++) {
    sd_trial *t = &q->trials.at[i];
    if (t->state == SD_TRIAL_WAITS && is_due(q, &t->chain) &&
        (!best || promise(q, &t->chain) > promise(q, &best->chain)))
      best = t;
  }
  return best;
}

// ---- commands ----

static sard_status *put(sd_optimize *q, sd_command *k, const char *text) {
  if (k->n == (int)(sizeof k->at / sizeof *k->at)) return SD_ERR(USAGE, "too many flags for %s", k->at[1]);
  k->at[k->n++] = sd_arena_strdup(q->c->arena, text);
  return NULL;
}

static sard_status *put_flag(sd_optimize *q, sd_command *k, const sd_cli_given *g) {
  if (!*g->flag->name) return put(q, k, sd_arena_printf(q->c->arena, "-%c%s", g->flag->letter, g->value));
  SD_TRY(put(q, k, sd_arena_printf(q->c->arena, "--%s", g->flag->name)));
  return *g->flag->arg ? put(q, k, g->value) : NULL;
}

// Flags of ours that mean the same to the verb: those of the list that it has.
static sard_status *put_given(sd_optimize *q, sd_command *k, const char *list) {
  for (uint32_t i = 0; i < q->c->given.len; i++) {
    const sd_cli_given *g = &q->c->given.at[i];
    char letter[2] = {g->flag->letter, 0};
    const char *name = *g->flag->name ? g->flag->name : letter, *at = strstr(list, name);
    size_t n = strlen(name);
    for (; at && ((at != list && at[-1] != ' ') || (at[n] && at[n] != ' '));) at = strstr(at + 1, name);
    if (at && sd_args_flag_of(g->flag, k->at[1])) SD_TRY(put_flag(q, k, g));
  }
  return NULL;
}

static const char DATA[] = "data label preprocess ignore judged",
                  COMMON[] = "dim free-dims target threads seed O cache cache-limit";

// Half of what is allowed: what a verb measures holds for the samples there are, ours with 95 %.
static char *half_drop(sd_optimize *q) {
  bool percent = strchr(q->drop_text, '%') != NULL;
  return sd_arena_printf(q->c->arena, "%.6g%s", strtod(q->drop_text, NULL) / 2, percent ? "%" : "");
}

static sard_status *put_words(sd_optimize *q, sd_command *k, const char *text) {
  char *words = sd_arena_strdup(q->c->arena, text), *rest = NULL;
  for (char *w = strtok_r(words, " ", &rest); w; w = strtok_r(NULL, " ", &rest)) {
    if (*w != '$') SD_TRY(put(q, k, w));
    if (strcmp(w, "$data") == 0 || (*w == '$' && strcmp(k->at[1], "compile") == 0))
      SD_TRY(put_given(q, k, DATA));
    if (strcmp(w, "$drop") != 0) continue;
    SD_TRY(put(q, k, "--metric"));
    SD_TRY(put(q, k, q->judge.metric->name));
    SD_TRY(put(q, k, "--max-drop"));
    SD_TRY(put(q, k, half_drop(q)));
  }
  return NULL;
}

static char *work_file(sd_optimize *q, const char *what, const char *end) {
  return sd_files_path(q->c, q->folder, "%016llx%s", (unsigned long long)sd_hash_text(what, strlen(what)),
                       end);
}

// OUT without its ending.
static char *base_of(sd_optimize *q) {
  const char *dot = strrchr(q->out, '.'), *slash = strrchr(q->out, '/');
  return sd_arena_strndup(q->c->arena, q->out,
                          dot && (!slash || dot > slash + 1) ? (size_t)(dot - q->out) : strlen(q->out));
}

static char *people_file(sd_optimize *q, int step, int of) {
  if (step < of) return sd_arena_printf(q->c->arena, "%s.%d.onnx", base_of(q), step);
  return q->artifact ? sd_arena_printf(q->c->arena, "%s.onnx", base_of(q))
                     : sd_arena_strdup(q->c->arena, q->out);
}

static sard_status *put_step(sd_optimize *q, sd_command *k, const char *text, const char *in,
                             const char *out) {
  const char *verb_end = strchr(text, ' ');
  SD_TRY(put(q, k, q->c->program->name));
  SD_TRY(put(q, k, sd_arena_strndup(q->c->arena, text, (size_t)(verb_end - text))));
  SD_TRY(put(q, k, in));
  SD_TRY(put(q, k, "-o"));
  SD_TRY(put(q, k, out));
  SD_TRY(put_words(q, k, verb_end));
  SD_TRY(put_given(q, k, DATA));
  return put_given(q, k, COMMON);
}

static bool is_automatic(const char *settings) { return strstr(settings, "--precision auto") != NULL; }

static sard_status *put_compile(sd_optimize *q, const sd_trial *t, bool for_people, const char *in,
                                sd_command *k) {
  const char *all = sd_arena_printf(q->c->arena, "%s | compile %s", t->chain.steps, t->chain.settings),
             *settings = t->chain.settings;
  bool automatic = is_automatic(settings);
  SD_TRY(put(q, k, q->c->program->name));
  SD_TRY(put(q, k, "compile"));
  SD_TRY(put(q, k, in));
  SD_TRY(put(q, k, "-o"));
  SD_TRY(put(q, k,
             for_people ? sd_arena_printf(q->c->arena, "%s.sard", base_of(q)) : work_file(q, all, ".sard")));
  if (automatic && for_people) { // what was measured is settled
    SD_TRY(put(q, k, "--precision"));
    SD_TRY(put(q, k, sd_arena_printf(q->c->arena, "@%s.plan.json", base_of(q))));
    if (t->devices) SD_TRY(put_words(q, k, strstr(settings, "--devices")));
  } else {
    SD_TRY(put_words(q, k, settings));
    if (automatic) {
      SD_TRY(put(q, k, "--plan"));
      SD_TRY(put(q, k, work_file(q, all, ".json")));
    }
  }
  const char *device = sd_args_get(q->c, "device");
  if (device && strncmp(device, "cuda", 4) == 0) {
    SD_TRY(put(q, k, "--device"));
    SD_TRY(put(q, k, "cuda"));
  }
  return put_given(q, k, COMMON);
}

sard_status *sd_optimize_commands(sd_optimize *q, const sd_trial *t, bool for_people, bool compile,
                                  sd_command **out, int *n) {
  sd_arena *a = q->c->arena;
  char *text = sd_arena_strdup(a, t->chain.steps), *rest = NULL;
  int steps = *text != 0;
  for (const char *p = text; *p; p++) steps += *p == '|';
  *out = SD_NEW_ARRAY(a, sd_command, steps + 1), *n = 0;
  const char *in = q->c->operands[0];
  sd_str done = {0};
  sard_status *st = NULL;
  for (char *s = strtok_r(text, "|", &rest); s && !st; s = strtok_r(NULL, "|", &rest)) {
    s += strspn(s, " ");
    sd_strf(&done, "%s%s", done.len ? " | " : "", s);
    const char *to = for_people ? people_file(q, *n + 1, steps) : work_file(q, done.p ? done.p : s, ".onnx");
    st = put_step(q, &(*out)[(*n)++], s, in, to);
    in = to;
  }
  sd_str_free(&done);
  return st || !compile ? st : put_compile(q, t, for_people, in, &(*out)[(*n)++]);
}

char *sd_optimize_shell(sd_optimize *q, const sd_command *k) {
  static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:=,@%+";
  sd_str s = {0};
  for (int i = 0; i < k->n; i++) {
    const char *w = k->at[i];
    if (i) sd_str_put(&s, " ");
    if (*w && strspn(w, plain) == strlen(w)) {
      sd_str_put(&s, w);
      continue;
    }
    sd_str_put(&s, "'");
    for (; *w; w++) sd_str_put(&s, *w == '\'' ? "'\\''" : (char[2]){*w, 0});
    sd_str_put(&s, "'");
  }
  return sd_arena_keep(q->c->arena, sd_str_take(&s));
}

sard_status *sd_optimize_check(sd_optimize *q, const sd_trial *t, sd_command *k) {
  sd_arena *a = q->c->arena;
  const char *const words[] = {
      q->c->program->name,   "eval",       q->out,      "--baseline", q->c->operands[0], "--metric",
      q->judge.metric->name, "--max-drop", q->drop_text};
  *k = (sd_command){0};
  for (size_t i = 0; i < sizeof words / sizeof *words; i++) SD_TRY(put(q, k, words[i]));
  if (q->judge.skip) {
    SD_TRY(put(q, k, "--skip"));
    SD_TRY(put(q, k, sd_arena_printf(a, "%lld", (long long)q->judge.skip)));
  }
  const char *types = strstr(t->chain.settings, "--precision ");
  if (types && !q->artifact) { // the same types as those of the artifact
    types += strlen("--precision ");
    SD_TRY(put(q, k, "--precision"));
    SD_TRY(put(q, k,
               is_automatic(t->chain.settings) ? sd_arena_printf(a, "@%s.plan.json", base_of(q))
                                               : sd_arena_strndup(a, types, strcspn(types, " "))));
  }
  SD_TRY(put_given(q, k, DATA));
  return put_given(q, k, COMMON);
}
