// A decoder by its sizes, as text of a graph: what is predicted of it comes from nodes, as of any model.
#include "frontend/driver/simulate.h"

#include <stdio.h>

#include "frontend/driver/fields.h"
#include "runtime/base/alloc.h"

enum { MOST_LAYERS = 256, MOST_WIDTH = 1 << 20, MOST_TOKENS = 1 << 24, MOST_BATCH = 1 << 16 };

static sard_status *read_sizes(const sd_fields *f, sd_decoder *d) {
  SD_TRY(sd_fields_int(f, "layers", 1, MOST_LAYERS, &d->layers));
  SD_TRY(sd_fields_int(f, "hidden", 1, MOST_WIDTH, &d->hidden));
  SD_TRY(sd_fields_int(f, "heads", 1, MOST_WIDTH, &d->heads));
  d->kv_heads = d->heads;
  SD_TRY(sd_fields_int(f, "kv_heads", 1, d->heads, &d->kv_heads));
  if (d->heads % d->kv_heads)
    return sd_fields_wrong(f, "kv_heads", "%lld heads are no multiple of it", (long long)d->heads);
  d->head = d->hidden % d->heads ? 0 : d->hidden / d->heads;
  SD_TRY(sd_fields_int(f, "head_size", 1, MOST_WIDTH, &d->head));
  SD_TRY(sd_fields_int(f, "ffn", 1, MOST_WIDTH, &d->ffn));
  SD_TRY(sd_fields_int(f, "vocabulary", 1, MOST_TOKENS, &d->vocabulary));
  SD_TRY(sd_fields_int(f, "batch", 1, MOST_BATCH, &d->batch));
  SD_TRY(sd_fields_int(f, "prompt", 1, MOST_TOKENS, &d->prompt));
  SD_TRY(sd_fields_int(f, "context", d->prompt, MOST_TOKENS, &d->context));
  return d->heads * d->head > MOST_WIDTH
             ? sd_fields_wrong(f, "head_size", "heads of it are wider than %d", MOST_WIDTH)
             : NULL;
}

sard_status *sd_simulate_decoder_read(sd_arena *a, const char *path, sd_decoder *out) {
  static const char *const names[] = {"decoder",   "layers", "hidden",  "heads",      "kv_heads",
                                      "head_size", "ffn",    "gated",   "vocabulary", "dtype",
                                      "batch",     "prompt", "context", "source",     NULL};
  sd_json *root;
  sd_fields f;
  const char *type = "bf16", *source = NULL;
  *out = (sd_decoder){.batch = 1, .gated = true};
  SD_TRY(sd_fields_read(a, path, &root));
  SD_TRY(sd_fields_of(root, path, "", names, &f));
  SD_TRY(sd_fields_text(&f, "decoder", &out->name));
  if (!out->name) return sd_fields_wrong(&f, "decoder", "it is missing: the name of the model");
  SD_TRY(sd_fields_text(&f, "source", &source));
  SD_TRY(sd_fields_text(&f, "dtype", &type));
  SD_TRY(sd_fields_bool(&f, "gated", &out->gated));
  out->type = sd_dtype_parse(type);
  if (out->type != SD_F32 && out->type != SD_F16 && out->type != SD_BF16)
    return sd_fields_wrong(&f, "dtype", "'%s' is none of f32, f16, bf16", type);
  return read_sizes(&f, out);
}

// ---- the graph ----

typedef struct writer {
  sd_str head, body, returns; // inputs; nodes; what is returned behind the logits
  const char *type;
  int next;
} writer;

static int input(writer *w, const char *name, int layer, const char *type, const char *dims) {
  sd_strf(&w->head, "%s%%%d \"%s%d\": %s[%s]", w->next ? ", " : "", w->next, name, layer, type, dims);
  return w->next++;
}

static int matrix(writer *w, const char *name, int layer, int64_t rows, int64_t columns) {
  char dims[64];
  snprintf(dims, sizeof dims, "%lld,%lld", (long long)rows, (long long)columns);
  return input(w, name, layer, w->type, dims);
}

static int vector(writer *w, const char *name, int layer, int64_t n) {
  char dims[32];
  snprintf(dims, sizeof dims, "%lld", (long long)n);
  return input(w, name, layer, w->type, dims);
}

static int constant(writer *w, const char *type, int64_t n, const char *values) {
  sd_strf(&w->body, "  %%%d = const %s[%lld] dense<%s>\n", w->next, type, (long long)n, values);
  return w->next++;
}

// A node of two operands, b < 0: of one.
static int node(writer *w, const char *op, int a, int b, const char *attrs) {
  sd_strf(&w->body, "  %%%d = %s(%%%d", w->next, op, a);
  if (b >= 0) sd_strf(&w->body, ", %%%d", b);
  sd_strf(&w->body, ")%s%s\n", *attrs ? " " : "", attrs);
  return w->next++;
}

static int heads(writer *w, int x, int64_t n, int64_t size) {
  char shape[64];
  snprintf(shape, sizeof shape, "0, 0, %lld, %lld", (long long)n, (long long)size);
  return node(w, "Reshape", x, constant(w, "i64", 4, shape), "");
}

static int cache(writer *w, const char *name, int layer, const sd_decoder *d) {
  char dims[96];
  snprintf(dims, sizeof dims, "batch,keys,%lld,%lld", (long long)d->kv_heads, (long long)d->head);
  return input(w, name, layer, w->type, dims);
}

// What it writes to the caches are results; it reads them as they are then.
static int attention(writer *w, const sd_decoder *d, int layer, int x) {
  static const char *const names[] = {"weight_q", "weight_k", "weight_v"};
  int in[3], k = cache(w, "cache_k", layer, d), v = cache(w, "cache_v", layer, d);
  int64_t width = d->heads * d->head;
  char shape[64];
  for (int i = 0; i < 3; i++) {
    int64_t n = i ? d->kv_heads : d->heads;
    in[i] =
        heads(w, node(w, "MatMul", x, matrix(w, names[i], layer, d->hidden, n * d->head), ""), n, d->head);
    if (i) sd_strf(&w->returns, ", %%%d", in[i]);
  }
  sd_strf(&w->body,
          "  %%%d = sard.Attention(%%%d, %%%d, %%%d) {scale=0, causal=1, offset=1, layout=[1, 1, 1, 1]}\n",
          w->next, in[0], k, v);
  int y = w->next++;
  snprintf(shape, sizeof shape, "0, 0, %lld", (long long)width);
  y = node(w, "Reshape", y, constant(w, "i64", 3, shape), "");
  return node(w, "MatMul", y, matrix(w, "weight_o", layer, width, d->hidden), "");
}

static int feed_forward(writer *w, const sd_decoder *d, int layer, int x) {
  int up = node(w, "MatMul", x, matrix(w, "weight_up", layer, d->hidden, d->ffn), "");
  if (d->gated) {
    int gate = node(w, "MatMul", x, matrix(w, "weight_gate", layer, d->hidden, d->ffn), "");
    up = node(w, "Mul", node(w, "Swish", gate, -1, ""), up, "");
  } else
    up = node(w, "Gelu", up, -1, "");
  return node(w, "MatMul", up, matrix(w, "weight_down", layer, d->ffn, d->hidden), "");
}

static int norm(writer *w, const sd_decoder *d, const char *name, int layer, int x) {
  return node(w, "RMSNormalization", x, vector(w, name, layer, d->hidden), "");
}

static void write_decoder(writer *w, const sd_decoder *d) {
  int ids = input(w, "tokens", 0, "i64", "batch,tokens");
  int x = node(w, "Gather", matrix(w, "weight_embedding", 0, d->vocabulary, d->hidden), ids, "");
  for (int i = 0; i < d->layers; i++) {
    x = node(w, "Add", x, attention(w, d, i, norm(w, d, "weight_norm", i, x)), "");
    x = node(w, "Add", x, feed_forward(w, d, i, norm(w, d, "weight_norm_ffn", i, x)), "");
  }
  int from = constant(w, "i64", 1, "-1"), to = constant(w, "i64", 1, "9223372036854775807");
  int axis = constant(w, "i64", 1, "1");
  sd_strf(&w->body, "  %%%d = Slice(%%%d, %%%d, %%%d, %%%d)\n", w->next, x, from, to, axis);
  x = norm(w, d, "weight_norm_last", 0, w->next++);
  x = node(w, "MatMul", x, matrix(w, "weight_head", 0, d->hidden, d->vocabulary), "");
  sd_strf(&w->body, "  return %%%d%s\n", x, w->returns.p ? w->returns.p : "");
}

sard_status *sd_simulate_decoder(const sd_decoder *d, sd_module **out) {
  writer w = {.type = sd_dtype_name(d->type)};
  sd_str text = {0};
  sd_driver_options o;
  write_decoder(&w, d);
  sd_strf(&text, "module\nsymbol batch\nsymbol tokens\nsymbol keys\ngraph \"main\" (%s) {\n%s}\n",
          w.head.p ? w.head.p : "", w.body.p ? w.body.p : "");
  bool failed = text.failed || w.head.failed || w.body.failed || w.returns.failed;
  sard_source src = {.size = sizeof src, .data = text.p, .bytes = text.len};
  sd_driver_defaults(&o);
  sard_status *st = failed ? SD_ERR(NOMEM, "out of memory") : sd_driver_load(&src, &o, out);
  sd_str_free(&w.head), sd_str_free(&w.body), sd_str_free(&w.returns), sd_str_free(&text);
  return st;
}

uint8_t *sd_simulate_roles(const sd_module *m, bool decoder, sd_arena *a) {
  uint8_t *roles = SD_NEW_ARRAY(a, uint8_t, m->next_id + 1);
  for (uint32_t i = 1; decoder && i < m->main->inputs.len; i++) {
    const sd_value *v = m->main->inputs.at[i];
    roles[v->id] = v->name[0] == 'c' ? SD_ROLE_CACHE : SD_ROLE_WEIGHT;
  }
  for (uint32_t i = 1; decoder && i < m->main->outputs.len; i++)
    roles[m->main->outputs.at[i]->id] = SD_ROLE_CACHE;
  return roles;
}
