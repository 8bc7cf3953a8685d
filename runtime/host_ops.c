// The table of host functions.
#include "runtime/host_ops.h"

#include <string.h>

// Name of the row, function, least numbers of inputs, outputs at most, parameters at least.
static const sd_host_op table[] = {
    {"NonZero", sd_host_nonzero, 1, 1, 0},
    {"Compress", sd_host_compress, 2, 1, 1},
    {"Unique", sd_host_unique, 1, 4, 2},
    {"TopK", sd_host_topk, 2, 2, 3},
    {"sard.Find", sd_host_find_keys, 2, 1, 0},
    {"NonMaxSuppression", sd_host_nms, 2, 1, 1},
    {"sard.DecodeImage", sd_host_decode_image, 1, 1, 1},
    {"sard.ReshapeDims", sd_host_reshape_dims, 1, 1, 1},
    {"sard.Sizes", sd_host_sizes, 1, 1, 2},
    {"sard.Noise", sd_host_noise, 1, 1, 1},
    {"StringConcat", sd_host_string_concat, 2, 1, 0},
    {"sard.StringSplit", sd_host_string_split, 2, 2, 1},
    {"sard.StringNormalizer", sd_host_string_normalizer, 2, 1, 2},
    {"sard.RegexFullMatch", sd_host_regex_match, 2, 1, 0},
    {"sard.CastText", sd_host_cast_text, 1, 1, 0},
    {"sard.NGrams", sd_host_ngrams, 5, 1, 4},
    {"sard.ZipMap", sd_host_zip_map, 2, 1, 0},
    {"sard.DictVectorizer", sd_host_dict_vectorizer, 2, 1, 0},
    {"ai.onnx.ml.CastMap", sd_host_cast_map, 1, 1, 4},
    {"SequenceEmpty", sd_host_sequence_empty, 0, 1, 0},
    {"SequenceConstruct", sd_host_sequence_construct, 1, 1, 0},
    {"SequenceInsert", sd_host_sequence_insert, 2, 1, 0},
    {"SequenceErase", sd_host_sequence_erase, 1, 1, 0},
    {"SequenceAt", sd_host_sequence_at, 2, 1, 0},
    {"SequenceLength", sd_host_sequence_length, 1, 1, 0},
    {"SplitToSequence", sd_host_split_to_sequence, 1, 1, 2},
    {"ConcatFromSequence", sd_host_concat_from_sequence, 1, 1, 2},
    {"Optional", sd_host_optional, 0, 1, 0},
    {"OptionalHasElement", sd_host_optional_has, 0, 1, 1},
    {"OptionalGetElement", sd_host_optional_get, 1, 1, 1},
    {"sard.Box", sd_host_box, 1, 1, 0},
    {"sard.Unbox", sd_host_unbox, 1, 1, 2},
    {"sard.BoxRank", sd_host_box_rank, 1, 1, 0},
    {"sard.SqueezeAny", sd_host_squeeze_any, 1, 1, 0},
    {"sard.AllReduce", sd_host_all_reduce, 1, 1, 3},
    {"sard.AllGather", sd_host_all_gather, 1, 1, 6},
    {"sard.ReduceScatter", sd_host_reduce_scatter, 1, 1, 6},
};

const sd_host_op *sd_host_find(const char *name) {
  for (size_t i = 0; i < sizeof table / sizeof *table; i++)
    if (strcmp(table[i].name, name) == 0) return &table[i];
  return NULL;
}

bool sd_host_exchanges(const sd_host_op *op) {
  return op && (op->fn == sd_host_all_reduce || op->fn == sd_host_all_gather || op->fn == sd_host_reduce_scatter);
}

sard_status *sd_host_run(const sd_host_op *op, sd_host_call *c) {
  bool given = c->n_in >= op->min_in && c->n_param >= op->n_param && c->n_out <= op->n_out;
  for (uint32_t i = 0; i < op->min_in && given; i++) given = c->in[i].dtype != SD_DT_NONE;
  if (!given) return SD_ERR(MODEL, "%s has %u inputs, %u outputs and %u parameters", op->name, c->n_in, c->n_out, c->n_param);
  return op->fn(c);
}

static bool keeps(const sd_host_call *c, uint32_t first) {
  bool fixed = c->kept != NULL;
  for (uint32_t i = first; i < c->n_in && fixed; i++) fixed = !c->in[i].dtype || c->in[i].fixed;
  return fixed;
}

void *sd_host_kept_state(const sd_host_call *c, uint32_t first) { return keeps(c, first) ? c->kept->state : NULL; }

void sd_host_keep(const sd_host_call *c, uint32_t first, void *state, void (*free)(void *state)) {
  if (keeps(c, first)) *c->kept = (sd_host_kept){state, free};
  else free(state);
}

int sd_host_workers(const sd_host_call *c) { return c->pool ? sd_pool_threads(c->pool) : 1; }

void sd_host_tiles(const sd_host_call *c, sd_pool_fn fn, void *user, uint32_t tiles) {
  if (c->pool) sd_pool_run(c->pool, fn, user, tiles, false);
  else if (tiles) fn(user, 0, 0, tiles);
}
