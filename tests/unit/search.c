// GreedySearch and BeamSearch with a decoder that is easy to follow: the logits of a sequence are a row of a table, by its
// last token, plus weights times the sine of the sum of its tokens, which the decoder keeps in `past`, twice. An encoder adds
// the tokens that it reads to that sum. The results are compared with a plain search over lists of tokens.
// (tests/onnx/search_cases.py compares with ONNX Runtime.)
#include "tests/unit/flow.h"

enum { V = 6, BATCH = 3, PROMPT = 2, MAX = 10, MAX_BEAMS = 3, EOS = 1, PAD = 0, START = 2 };
enum { CROSS = 1, STEP = 2 }; // encoders: without, and with the first step of the decoder

typedef struct setting {
  const char *name, *attrs; // more attributes of the node
  int beams, returned;      // 0: greedy
  int least, ngram, early;
  double repetition, length;
  bool words, prefix, mask; // operands that are given
  bool init;                // with an init_decoder
  int encoder;
} setting;

static const setting settings[] = {
    {.name = "greedy"},
    {.name = "greedy, least length", .least = 8},
    {.name = "greedy, repetition", .repetition = 1.8},
    {.name = "greedy, n-grams", .ngram = 2},
    {.name = "greedy, long n-grams", .ngram = 5},
    {.name = "greedy, single tokens", .ngram = 1},
    {.name = "greedy, masks", .words = true, .prefix = true, .mask = true},
    {.name = "greedy, first decoder", .init = true, .prefix = true},
    {.name = "beams", .beams = 2, .returned = 1},
    {.name = "beams, all", .beams = 3, .returned = 3},
    {.name = "beams, one", .beams = 1, .returned = 1},
    {.name = "beams, early", .beams = 3, .returned = 2, .early = 1},
    {.name = "beams, short", .beams = 3, .returned = 3, .length = 0.3},
    {.name = "beams, long", .beams = 2, .returned = 2, .length = 2.5},
    {.name = "beams, rules", .beams = 3, .returned = 3, .least = 6, .ngram = 3, .repetition = 1.3},
    {.name = "beams, masks", .beams = 2, .returned = 2, .words = true, .prefix = true},
    {.name = "beams, first decoder", .beams = 2, .returned = 2, .init = true},
    {.name = "greedy, encoder", .encoder = CROSS},
    {.name = "greedy, encoder with a step", .encoder = STEP, .repetition = 1.4},
    {.name = "greedy, encoder, mask", .encoder = CROSS, .mask = true, .prefix = true},
    {.name = "beams, encoder", .beams = 3, .returned = 2, .encoder = CROSS, .prefix = true},
    {.name = "beams, encoder with a step", .beams = 2, .returned = 2, .encoder = STEP, .prefix = true},
    {.name = "beams, encoder, rules", .beams = 3, .returned = 3, .encoder = STEP, .least = 5, .ngram = 2, .early = 1, .mask = true},
};

static float table[V][V], weight[V];
static int32_t prompt[BATCH][PROMPT], words[V], prefix[BATCH][V];
static const int32_t mask[BATCH][PROMPT] = {{0, 1}, {1, 1}, {1, 0}};

static void make_data(uint64_t seed) {
  for (int i = 0; i < V; i++) {
    weight[i] = (float)(test_random(&seed) % 2000) / 500 - 2;
    words[i] = i != 4;
    for (int k = 0; k < V; k++) table[i][k] = (float)(test_random(&seed) % 4000) / 1000 - 2;
  }
  for (int b = 0; b < BATCH; b++) {
    for (int k = 0; k < PROMPT; k++) prompt[b][k] = (int32_t)(test_random(&seed) % (V - 1)) + 1;
    for (int k = 0; k < V; k++) prefix[b][k] = k == EOS || (k + b) % 3 != 0;
  }
}

// ---- the plain search ----
typedef struct sequence { int32_t token[MAX]; int n; double score; } sequence;

static void next_scores(const setting *c, const sequence *s, int batch, double *x) {
  double sum = 0, total = 0;
  bool present[V] = {0};
  for (int i = 0; i < PROMPT && c->encoder; i++) sum += c->mask ? prompt[batch][i] * mask[batch][i] : prompt[batch][i];
  for (int i = 0; i < s->n; i++) sum += s->token[i], present[s->token[i]] = true;
  for (int v = 0; v < V; v++) x[v] = table[s->token[s->n - 1]][v] + sin(2 * sum) * weight[v], total += exp(x[v]);
  for (int v = 0; v < V && c->beams; v++) x[v] -= log(total);
  for (int v = 0; v < V && c->repetition; v++)
    if (present[v]) x[v] = x[v] < 0 ? x[v] * c->repetition : x[v] / c->repetition;
  for (int j = 0; c->ngram && j + c->ngram <= s->n; j++)
    if (!memcmp(s->token + j, s->token + s->n - c->ngram + 1, (size_t)(c->ngram - 1) * sizeof *s->token)) x[s->token[j + c->ngram - 1]] = -3e38;
  for (int v = 0; v < V; v++) {
    if (c->words && !words[v]) x[v] = -3e38;
    if (c->prefix && s->n == (c->encoder ? 1 : PROMPT) && !prefix[batch][v]) x[v] = -3e38;
  }
  if (s->n < c->least) x[EOS] = -3e38;
}

static sequence start(const setting *c, int batch) {
  sequence s = {.n = c->encoder ? 1 : PROMPT};
  if (c->encoder) s.token[0] = START;
  else memcpy(s.token, prompt[batch], sizeof prompt[batch]);
  return s;
}

static void greedy(const setting *c, int batch, double *out) {
  sequence s = start(c, batch);
  double x[V];
  while (s.n < MAX) {
    int best = 0;
    next_scores(c, &s, batch, x);
    for (int v = 1; v < V; v++)
      if (x[v] > x[best]) best = v;
    if (best == EOS) break;
    s.token[s.n++] = best;
  }
  for (int i = 0; i < MAX; i++) out[i] = i < s.n ? s.token[i] : PAD;
}

static void add(sequence *best, int *n, int most, sequence s, double power) {
  s.score /= pow(s.n, power);
  int at = *n;
  if (*n == most) {
    if (s.score <= best[most - 1].score) return;
    at--;
  } else {
    ++*n;
  }
  for (; at > 0 && s.score > best[at - 1].score; at--) best[at] = best[at - 1];
  best[at] = s;
}

typedef struct candidate { double score; int beam, token; } candidate;
static int by_score(const void *a, const void *b) {
  const candidate *x = a, *y = b;
  return x->score > y->score ? -1 : x->score < y->score ? 1 : x->beam * V + x->token - y->beam * V - y->token;
}

// Fills `found` with the best sequences, scores and all.
static void beam_search(const setting *c, int batch, sequence *found) {
  sequence beam[MAX_BEAMS] = {0}, next[MAX_BEAMS] = {0};
  double x[V], power = c->length ? c->length : 1;
  int k = c->beams, n = 0;
  bool done = false;
  for (int i = 0; i < k; i++) beam[i] = start(c, batch), beam[i].score = i ? -1e9 : 0;
  while (beam[0].n < MAX && !done) {
    candidate all[MAX_BEAMS * V];
    for (int i = 0; i < k; i++) {
      next_scores(c, &beam[i], batch, x);
      for (int v = 0; v < V; v++) all[i * V + v] = (candidate){x[v] + beam[i].score, i, v};
    }
    qsort(all, (size_t)(k * V), sizeof *all, by_score);
    for (int j = 0, to = 0; j < 2 * k && to < k; j++) {
      sequence s = beam[all[j].beam];
      s.score = all[j].score;
      if (all[j].token != EOS) s.token[s.n++] = all[j].token, next[to++] = s;
      else if (j < k) add(found, &n, k, s, power);
    }
    done = n == k && (c->early || found[k - 1].score >= all[0].score / pow(beam[0].n, power));
    memcpy(beam, next, sizeof beam);
  }
  for (int i = 0; i < k && !done; i++) add(found, &n, k, beam[i], power);
}

// ---- the node ----
static void put_numbers(sd_str *s, const char *type, const char *dims, const float *f, const int32_t *v, int n) {
  sd_strf(s, "const %s[%s] dense<", type, dims);
  for (int i = 0; i < n; i++) sd_strf(s, f ? "%s%.9g" : "%s%.0f", i ? ", " : "", f ? (double)f[i] : (double)v[i]);
  sd_str_put(s, "> ");
}

// @a .. @z: values of this body; $R rows, $S step, $P past, $T past and step.
static void put_text(sd_str *s, const char *text, const char *name, int base, const char *rows, const char *step, const char *past, const char *total) {
  sd_strf(s, "body \"%s\" ", name);
  for (const char *p = text; *p; p++) {
    if (*p == '@') sd_strf(s, "%%%d", base + *++p - 'a');
    else if (*p != '$') sd_strf(s, "%c", *p);
    else p++, sd_str_put(s, *p == 'R' ? rows : *p == 'S' ? step : *p == 'P' ? past : total);
  }
}

static void put_body(sd_str *s, const char *name, int base, const char *rows, const char *step, const char *past, const char *total) {
  static const char text[] = "(@a \"input_ids\": i32[$R,$S], @b \"position_ids\": i32[$R,$S], @c \"attention_mask\": i32[$R,$T],"
                             " @d \"past_0\": f32[2,$R,1,$P,1]) { @e = Gather(%90, @a) @f = Cast(@a) {to=1} @g = Unsqueeze(@f, %92)"
                             " @h = Concat(@g, @g) {axis=0} @i = Concat(@d, @h) {axis=3} @j = ReduceSum(@i, %93) {keepdims=0} @k = Sin(@j)"
                             " @l = Unsqueeze(@k, %94) @m = Mul(@l, %91) @n = Add(@e, @m) return @n, @i } ";
  put_text(s, text, name, base, rows, step, past, total);
}

// The keys and values of the decoder are its tokens, those of the encoder what it reads.
static void put_encoder(sd_str *s, const setting *c, const char *rows) {
  static const char cross[] = "(@a \"encoder_input_ids\": i32[B,S], @b \"encoder_attention_mask\": i32[B,S]) { @c = Mul(@a, @b) @d = Cast(@c) {to=1}"
                              " @e = Unsqueeze(@d, %104) return @e, @e } ";
  static const char step[] = "(@a \"encoder_input_ids\": i32[B,S], @b \"encoder_attention_mask\": i32[B,S], @f \"decoder_input_ids\": i32[B,1])"
                             " { @c = Mul(@a, @b) @d = Cast(@c) {to=1} @e = Unsqueeze(@d, %104) @g = Gather(%90, @f) @h = Cast(@f) {to=1}"
                             " @i = Unsqueeze(@h, %104) @j = Concat(@i, @i, @e, @e) {axis=2} @k = ReduceSum(@j, %105) {keepdims=0} @l = Sin(@k)"
                             " @m = Unsqueeze(@l, %94) @n = Mul(@m, %91) @o = Add(@g, @n) @p = Unsqueeze(@d, %106) return @o, @p, @i, @i, @e, @e } ";
  static const char decoder[] = "(@a \"input_ids\": i32[$R,1], @b \"past_key_self_0\": f32[$R,1,$P,1], @c \"past_value_self_0\": f32[$R,1,$P,1],"
                                " @d \"past_key_cross_0\": f32[$R,1,S,1], @e \"past_value_cross_0\": f32[$R,1,S,1]) { @f = Gather(%90, @a)"
                                " @g = Cast(@a) {to=1} @h = Unsqueeze(@g, %104) @i = Concat(@b, @h) {axis=2} @j = Concat(@c, @h) {axis=2}"
                                " @k = Concat(@i, @j, @d, @e) {axis=2} @l = ReduceSum(@k, %105) {keepdims=0} @m = Sin(@l) @n = Unsqueeze(@m, %94)"
                                " @o = Mul(@n, %91) @p = Add(@f, @o) return @p, @i, @j } ";
  put_text(s, c->encoder == STEP ? step : cross, "encoder", 200, rows, "S", "past", "S");
  put_text(s, decoder, "decoder", 300, rows, "1", "past", "S");
}

static char *make_model(const setting *c) {
  sd_str s = {0};
  char rows[16];
  snprintf(rows, sizeof rows, c->beams > 1 ? "%d*B" : "B", c->beams);
  sd_str_put(&s, "module symbol B symbol S symbol step symbol past graph \"main\" (%0 \"input_ids\": i32[B,S]) { ");
  sd_str_put(&s, "%90 = "), put_numbers(&s, "f32", "6,6", table[0], NULL, V * V);
  sd_str_put(&s, "%91 = "), put_numbers(&s, "f32", "6", weight, NULL, V);
  sd_str_put(&s, "%92 = const i64[3] dense<0, 2, 4> %93 = const i64[4] dense<0, 2, 3, 4> %94 = const i64[2] dense<1, 2> ");
  sd_strf(&s, "%%95 = const i32[1] dense<%d> %%96 = const i32[1] dense<%d> %%97 = const i32[1] dense<%d> %%98 = const i32[1] dense<%d> ", MAX, c->least, c->beams,
          c->returned);
  sd_strf(&s, "%%99 = const f32[1] dense<%g> %%100 = const f32[1] dense<%g> ", c->length ? c->length : 1, c->repetition ? c->repetition : 1);
  sd_str_put(&s, "%101 = "), put_numbers(&s, "i32", "6", NULL, words, V);
  sd_str_put(&s, "%102 = "), put_numbers(&s, "i32", "3,6", NULL, prefix[0], BATCH * V);
  if (c->mask) sd_str_put(&s, "%103 = "), put_numbers(&s, "i32", "3,2", NULL, mask[0], BATCH * PROMPT);
  if (c->encoder) sd_str_put(&s, "%104 = const i64[2] dense<1, 3> %105 = const i64[3] dense<1, 2, 3> %106 = const i64[1] dense<2> ");
  if (c->beams) sd_str_put(&s, "%1, %2, %3 = com.microsoft.BeamSearch(%0, %95, %96, %97, %98, %99, %100");
  else sd_str_put(&s, "%1 = com.microsoft.GreedySearch(%0, %95, %96, %100");
  sd_strf(&s, ", %s, %s, %s) {eos_token_id=%d, pad_token_id=%d, no_repeat_ngram_size=%d", c->words ? "%101" : "_", c->prefix ? "%102" : "_", c->mask ? "%103" : "_",
          EOS, PAD, c->ngram);
  if (c->encoder) sd_strf(&s, ", model_type=1, decoder_start_token_id=%d", START);
  sd_str_put(&s, c->early ? ", early_stopping=1} " : "} ");
  if (c->encoder) put_encoder(&s, c, rows);
  if (c->init) put_body(&s, "init_decoder", 200, rows, "S", "0", "S");
  if (!c->encoder) put_body(&s, "decoder", 300, rows, c->init ? "1" : "step", "past", c->init ? "past + 1" : "past + step");
  sd_str_put(&s, c->beams ? "return %1, %2 }" : "return %1 }");
  return sd_str_take(&s);
}

static void check_setting(const setting *c, uint64_t seed) {
  double want[BATCH * MAX_BEAMS * MAX] = {0}, scores[BATCH * MAX_BEAMS] = {0};
  int64_t dims[2] = {BATCH, PROMPT};
  int returned = c->beams ? c->returned : 1, before = check_failed;
  make_data(seed);
  for (int b = 0; b < BATCH; b++) {
    sequence found[MAX_BEAMS] = {0};
    if (!c->beams) greedy(c, b, want + b * MAX);
    else beam_search(c, b, found);
    for (int i = 0; i < returned && c->beams; i++) {
      scores[b * returned + i] = found[i].score;
      for (int k = 0; k < MAX; k++) want[(b * returned + i) * MAX + k] = k < found[i].n ? found[i].token[k] : PAD;
    }
  }
  flow_data d = {.n_in = 1, .in = {flow_tensor(SD_I32, 2, dims, prompt)}};
  flow_result r;
  char *text = make_model(c);
  flow_check(text, &d, c->beams ? 2 : 1, &r);
  flow_expect(&r, 0, want, (uint64_t)(BATCH * returned * MAX));
  if (c->beams) flow_expect(&r, 1, scores, (uint64_t)(BATCH * returned));
  if (check_failed > before) printf("  %s, seed %lu\n", c->name, (unsigned long)seed);
  flow_free(&r);
  sard_free(text);
}

static void test_settings(void) {
  for (size_t i = 0; i < sizeof settings / sizeof *settings; i += check_short() ? 2 : 1)
    for (uint64_t seed = 1; seed <= (check_short() ? 1u : 2u); seed++) check_setting(&settings[i], seed * 100 + i);
}

// ---- what is refused ----
static void refuse(int setting, const char *from, const char *to, int code, const char *part) {
  make_data(1);
  char *text = make_model(&settings[setting]), *at = strstr(text, from);
  sd_str s = {0};
  flow_data d = {.n_in = 0};
  flow_result r;
  CHECK(at != NULL);
  if (at) sd_strf(&s, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
  sard_status *st = at ? flow_run(s.p, 0, &d, 1, &r) : NULL;
  bool ok = sard_status_code(st) == code && strstr(sard_status_text(st, SARD_TEXT_MESSAGE), part);
  CHECK(ok);
  if (!ok) printf("  %s -> %s: %d %s\n", from, to, sard_status_code(st), st ? sard_status_text(st, SARD_TEXT_MESSAGE) : "");
  sard_status_free(st);
  sd_str_free(&s);
  sard_free(text);
}

static void test_refused(void) {
  enum { ENCODED = 17 }; // "greedy, encoder"
  refuse(0, "eos_token_id=1", "eos_token_id=1, model_type=3", SARD_E_UNSUPPORTED, "model_type 3");
  refuse(0, "eos_token_id=1", "eos_token_id=1, model_type=1", SARD_E_MODEL, "decoder_start_token_id is -1");
  refuse(0, "eos_token_id=1", "eos_token_id=1, model_type=1, decoder_start_token_id=2", SARD_E_MODEL, "model_type 1 takes an encoder and a decoder");
  refuse(0, "eos_token_id=1", "eos_token_id=1, model_type=2, decoder_start_token_id=2", SARD_E_MODEL, "rank 2");
  refuse(0, "eos_token_id=1", "eos_token_id=5000000000", SARD_E_UNSUPPORTED, "eos_token_id 5000000000");
  refuse(0, "no_repeat_ngram_size=0", "no_repeat_ngram_size=-1", SARD_E_UNSUPPORTED, "no_repeat_ngram_size -1");
  refuse(0, "\"position_ids\"", "\"places\"", SARD_E_UNSUPPORTED, "its decoder is not of the form");
  refuse(0, "\"attention_mask\": i32", "\"attention_mask\": i64", SARD_E_UNSUPPORTED, "its decoder is not of the form");
  refuse(0, "return %313, %308 }", "return %313 }", SARD_E_UNSUPPORTED, "its decoder is not of the form");
  refuse(ENCODED, "model_type=1", "model_type=0", SARD_E_UNSUPPORTED, "a body 'encoder', and model_type 0");
  refuse(ENCODED, "\"encoder_attention_mask\"", "\"mask\"", SARD_E_UNSUPPORTED, "its encoder has an input 'mask'");
  refuse(ENCODED, "\"encoder_attention_mask\": i32[B,S]", "\"encoder_attention_mask\": i32[B,1]", SARD_E_MODEL, "the type of input 'encoder_attention_mask'");
  refuse(ENCODED, "return %204, %204 }", "return %204 }", SARD_E_UNSUPPORTED, "its encoder has 1 outputs");
  refuse(ENCODED, "return %315, %308, %309 }", "return %315, %308 }", SARD_E_UNSUPPORTED, "its decoder is not of the form");
  refuse(ENCODED, "\"input_ids\": i32[B,1]", "\"tokens\": i32[B,1]", SARD_E_UNSUPPORTED, "its decoder is not of the form");
  refuse(ENCODED, "\"input_ids\": i32[B,1]", "\"input_ids\": i32[B,2]", SARD_E_MODEL, "the type of input 'input_ids'");
  refuse(ENCODED, "\"past_value_cross_0\": f32[B,1,S,1]", "\"past_value_cross_0\": f32[B,1,7,1]", SARD_E_MODEL, "the type of input 'past_value_cross_0'");
  refuse(8, "%97 = const i32[1] dense<2>", "%97 = const i32[1] dense<0>", SARD_E_MODEL, "num_beams is not positive");
  refuse(8, "%98 = const i32[1] dense<1>", "%98 = const i32[1] dense<3>", SARD_E_MODEL, "num_return_sequences is larger");
  refuse(0, "\"input_ids\": i32[B,S]", "\"input_ids\": i32[B,12]", SARD_E_MODEL, "no room behind the prompt");
}

int main(void) {
  RUN(test_settings);
  RUN(test_refused);
  return check_end();
}
