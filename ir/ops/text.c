// Rows of strings: types, and attributes that become operands.
#include "ir/ops.h"
#include "ir/ops/xgraph.h"

static sd_value *text_const(sd_node *n, const char *text) { return sd_value_const_texts(n->graph, "", &text, -1); }

// ---- StringSplit: the pieces of each text, filled up with empty ones ----

sard_status *sd_shape_string_split(sd_node *n) {
  const sd_value *x = n->in[0];
  sd_dim dims[SD_MAX_RANK];
  SD_TRY(sd_sh_rank(n, 0, 0, SD_MAX_RANK - 1));
  if (x->rank) memcpy(dims, x->dims, (size_t)x->rank * sizeof *dims);
  dims[x->rank] = sd_sh_late(n, 0, x->rank, "pieces");
  SD_TRY(sd_sh_set(n, 0, SD_STRING, x->rank + 1, dims));
  return sd_sh_set(n, 1, SD_I64, x->rank, x->dims);
}

sard_status *sd_rewrite_string_split(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  sd_value *in[2] = {n->in[0], text_const(n, sd_node_str(n, "delimiter", ""))};
  sd_node *s = sd_xg_node(&g, sd_xg_fmt(&g, "sard.StringSplit maxsplit=%lld", (long long)sd_node_int(n, "maxsplit", -1)), in, 2, n->n_out);
  return s ? sd_xg_finish(&g, s->out, n->n_out) : sd_xg_take(&g);
}

// ---- StringNormalizer ----

sard_status *sd_shape_string_normalizer(sd_node *n) {
  const sd_value *x = n->in[0];
  sd_dim dims[2] = {sd_dim_const(sd_sh_tab(n), 1), 0};
  SD_TRY(sd_sh_rank(n, 0, 1, 2));
  if (x->rank == 2 && sd_dim_is_const(sd_sh_tab(n), x->dims[0], NULL) && !sd_dim_is(sd_sh_tab(n), x->dims[0], 1))
    return SD_SH_ERR(n, MODEL, "the texts must be [C] or [1,C]");
  dims[x->rank - 1] = sd_sh_late(n, 0, x->rank - 1, "kept");
  return sd_sh_set(n, 0, SD_STRING, x->rank, dims);
}

sard_status *sd_rewrite_string_normalizer(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  const char *change = sd_node_str(n, "case_change_action", "NONE");
  const sd_attr *stop = sd_node_attr(n, "stopwords");
  bool given = stop && stop->kind == SD_ATTR_STRINGS;
  int how = !strcmp(change, "LOWER") ? 1 : !strcmp(change, "UPPER") ? 2 : !strcmp(change, "NONE") ? 0 : -1;
  if (how < 0) return SD_SH_ERR(n, MODEL, "case_change_action '%s'", change);
  sd_value *words = sd_value_const_texts(n->graph, "", given ? stop->strings : NULL, given ? (int)stop->n : 0);
  sd_value *y = XG(&g, sd_xg_fmt(&g, "sard.StringNormalizer change=%d is_case_sensitive=%d", how, (int)sd_node_int(n, "is_case_sensitive", 0)),
                   n->in[0], words);
  return sd_xg_finish(&g, &y, 1);
}

// ---- RegexFullMatch ----

sard_status *sd_shape_regex_match(sd_node *n) {
  SD_TRY(sd_sh_rank(n, 0, 0, SD_MAX_RANK));
  return sd_sh_set(n, 0, SD_BOOL, n->in[0]->rank, n->in[0]->dims);
}

sard_status *sd_rewrite_regex_match(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  sd_value *y = XG(&g, "sard.RegexFullMatch", n->in[0], text_const(n, sd_node_str(n, "pattern", "")));
  return sd_xg_finish(&g, &y, 1);
}

// ---- TfIdfVectorizer ----

static sd_attr list(const sd_node *n, const char *name, sd_attr_kind kind) {
  const sd_attr *a = sd_node_attr(n, name);
  return a && a->kind == kind ? *a : (sd_attr){0};
}

static sard_status *columns(sd_node *n, int64_t *out) {
  sd_attr at = list(n, "ngram_indexes", SD_ATTR_INTS);
  *out = 0;
  for (uint32_t i = 0; i < at.n; i++) {
    if (at.ints[i] < 0 || at.ints[i] > INT32_MAX) return SD_SH_ERR(n, MODEL, "ngram_indexes has %lld", (long long)at.ints[i]);
    if (at.ints[i] >= *out) *out = at.ints[i] + 1;
  }
  return *out ? NULL : SD_SH_ERR(n, MODEL, "ngram_indexes is empty");
}

static sard_status *rows_of(sd_node *n, sd_dim width) {
  const sd_value *x = n->in[0];
  sd_dim dims[2];
  SD_TRY(sd_sh_rank(n, 0, 1, 2));
  dims[0] = x->dims[0], dims[x->rank - 1] = width;
  return sd_sh_set(n, 0, SD_F32, x->rank, dims);
}

sard_status *sd_shape_tf_idf(sd_node *n) {
  int64_t width;
  SD_TRY(columns(n, &width));
  return rows_of(n, sd_dim_const(sd_sh_tab(n), width));
}

sard_status *sd_shape_ngrams(sd_node *n) {
  SD_TRY(sd_sh_rank(n, 4, 1, 1));
  return rows_of(n, n->in[4]->dims[0]);
}

// The factor of each column: TF counts, IDF replaces the count by the weight, TFIDF multiplies both.
static sard_status *scales(sd_node *n, const char *mode, int64_t width, float *out) {
  sd_attr at = list(n, "ngram_indexes", SD_ATTR_INTS), w = list(n, "weights", SD_ATTR_FLOATS);
  if (strcmp(mode, "TF") && strcmp(mode, "IDF") && strcmp(mode, "TFIDF")) return SD_SH_ERR(n, MODEL, "mode '%s'", mode);
  for (int64_t i = 0; i < width; i++) out[i] = 1;
  if (!strcmp(mode, "TF") || !w.n) return NULL;
  if (w.n != at.n) return SD_SH_ERR(n, MODEL, "%u weights for %u n-grams", w.n, at.n);
  for (uint32_t i = 0; i < at.n; i++) out[at.ints[i]] = w.floats[i];
  return NULL;
}

sard_status *sd_rewrite_tf_idf(sd_node *n) {
  XG_SCOPE xg g = {.at = n};
  sd_attr counts = list(n, "ngram_counts", SD_ATTR_INTS), at = list(n, "ngram_indexes", SD_ATTR_INTS);
  sd_attr ints = list(n, "pool_int64s", SD_ATTR_INTS), texts = list(n, "pool_strings", SD_ATTR_STRINGS);
  const char *mode = sd_node_str(n, "mode", "TF");
  bool strings = n->in[0]->dtype == SD_STRING;
  int64_t width;
  SD_TRY(columns(n, &width));
  if (strings ? !texts.n : !sd_dtype_is_int(n->in[0]->dtype) || texts.n) return SD_SH_ERR(n, MODEL, "the pool and the operand differ in type");
  float *scale = SD_NEW_ARRAY(n->graph->module->arena, float, width);
  SD_TRY(scales(n, mode, width, scale));
  sd_value *x = strings ? n->in[0] : sd_xg_cast(&g, SD_I64, n->in[0]);
  sd_value *pool = strings ? sd_value_const_texts(n->graph, "", texts.strings, (int)texts.n) : sd_xg_ints(&g, ints.ints, (int)ints.n);
  const char *spec = sd_xg_fmt(&g, "sard.NGrams max_gram_length=%lld max_skip_count=%lld min_gram_length=%lld binary=%d",
                               (long long)sd_node_int(n, "max_gram_length", 1), (long long)sd_node_int(n, "max_skip_count", 0),
                               (long long)sd_node_int(n, "min_gram_length", 1), !strcmp(mode, "IDF"));
  sd_value *y = XG(&g, spec, x, pool, sd_xg_ints(&g, counts.ints, (int)counts.n), sd_xg_ints(&g, at.ints, (int)at.n),
                   sd_xg_floats(&g, scale, 1, &width));
  return sd_xg_finish(&g, &y, 1);
}
