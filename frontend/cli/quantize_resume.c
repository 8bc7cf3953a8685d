// What was measured before. Sensitivities: --resume FILE has a line for each node, written when it is known, so that
// what was cut off goes on from there; they hold for the same quantized model only: its bytes are the key. Sums of a
// calibration: FILE.ranges, written now and then and when it ends; the model that runs and the file of samples are the key.
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "frontend/cli/quantize.h"
#include "runtime/base/file.h"
#include "runtime/base/hash.h"

#define FIRST "sard quantize sensitivity 1 "

// Of the model with all nodes quantized that may be: weights, ranges of the data and flags are in it.
static sard_status *key_of(sd_quantize *q, uint64_t *key) {
  sd_arena *a = sd_arena_scratch(q->c->arena);
  const sd_packed *packed;
  SD_TRY(sd_quant_write(a, &q->src, &q->o, &q->units, &q->tensors, &packed));
  *key = sd_packed_hash(packed, q->units.len);
  sd_arena_free(a);
  return NULL;
}

// The lines of `text`; one that is cut off, or of no node, ends them.
static void read_lines(sd_quantize *q, const char *text) {
  bool *known = SD_NEW_ARRAY(q->c->arena, bool, q->units.len + 1);
  while (*text) {
    char *end;
    unsigned long unit = strtoul(text, &end, 10);
    if (end == text || *end != ' ' || unit >= q->units.len || known[unit] || q->units.at[unit].keep) return;
    text = end + 1;
    double snr = strtod(text, &end);
    if (end == text || *end != '\n' || isnan(snr)) return;
    known[unit] = true;
    sd_vec_push(q->c->arena, &q->layers, ((sd_quantize_layer){(uint32_t)unit, snr}));
    text = end + 1;
  }
}

sard_status *sd_quantize_recall(sd_quantize *q) {
  const char *path = sd_args_get(q->c, "resume");
  sd_map map;
  if (!path) return NULL;
  SD_TRY(key_of(q, &q->key));
  if (!sd_files_exists(path)) return NULL;
  SD_TRY(sd_file_map(path, &map));
  const char *text = sd_arena_strndup(q->c->arena, map.data ? (const char *)map.data : "", map.size);
  sd_file_unmap(&map);
  if (strncmp(text, FIRST, strlen(FIRST)) != 0)
    return SD_ERR(USAGE, "--resume: '%s' is there, and nothing that sard quantize wrote", path);
  char *end;
  if (strtoull(text + strlen(FIRST), &end, 16) != q->key || *end != '\n') {
    sd_cli_note(q->c, "'%s' is of another model, other data or other flags: it begins anew", path);
    return NULL;
  }
  read_lines(q, end + 1);
  q->recalled = q->layers.len;
  return NULL;
}

sard_status *sd_quantize_remember(sd_quantize *q) {
  const char *path = sd_args_get(q->c, "resume");
  sd_str s = {0};
  if (!path) return NULL;
  sd_strf(&s, FIRST "%016llx\n", (unsigned long long)q->key);
  for (uint32_t i = 0; i < q->layers.len; i++)
    sd_strf(&s, "%u %.17g\n", q->layers.at[i].unit, q->layers.at[i].snr);
  sard_status *st =
      s.failed ? SD_ERR(NOMEM, "out of memory for '%s'", path) : sd_files_write(path, s.p, s.len);
  sd_str_free(&s);
  return st;
}

// ---- sums of a calibration ----

typedef struct head {
  char word[16];
  uint64_t key, bytes;
} head;
static const head first = {.word = "sard quantize 1"};

void sd_quantize_pass_begin(sd_quantize *q, const sd_packed *model, sd_quantize_pass *p) {
  static const char *const flags[] = {"data", "preprocess", "batch", "correct-biases"};
  struct stat st = {0};
  *p = (sd_quantize_pass){.number = ++q->passes};
  if (!sd_args_given(q->c, "resume")) return;
  p->key = sd_packed_hash(model, (uint64_t)p->number);
  for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
    const char *text = sd_args_get(q->c, flags[i]);
    if (text) p->key = sd_hash_bytes(text, strlen(text), p->key);
  }
  if (stat(sd_args_get(q->c, "data"), &st) != 0) return;
  const int64_t file[] = {st.st_size, st.st_mtim.tv_sec, st.st_mtim.tv_nsec};
  p->key = sd_hash_bytes(file, sizeof file, p->key);
}

static const char *pass_file(sd_quantize *q, const sd_quantize_pass *p) {
  const char *path = sd_args_get(q->c, "resume");
  return p->number == 1 ? sd_arena_printf(q->c->arena, "%s.ranges", path)
                        : sd_arena_printf(q->c->arena, "%s.ranges%d", path, p->number);
}

sard_status *sd_quantize_pass_read(sd_quantize *q, const sd_quantize_pass *p, const sd_piece *at, size_t n, bool *found) {
  const char *path = sd_args_given(q->c, "resume") ? pass_file(q, p) : NULL;
  sd_map map;
  *found = false;
  if (!path || !sd_files_exists(path)) return NULL;
  SD_TRY(sd_file_map(path, &map));
  const head *h = (const head *)map.data;
  bool ours = map.size >= sizeof *h && memcmp(h->word, first.word, sizeof h->word) == 0;
  *found = ours && h->key == p->key && h->bytes == sd_change_bytes(at, n) && map.size - sizeof *h == h->bytes;
  const uint8_t *from = map.data + sizeof *h;
  if (*found) sd_change_fill(at, n, from);
  sd_file_unmap(&map);
  if (!ours) return SD_ERR(USAGE, "--resume: '%s' is there, and nothing that sard quantize wrote", path);
  if (!*found) sd_cli_note(q->c, "'%s' is of another model, other data or other flags: it begins anew", path);
  return NULL;
}

sard_status *sd_quantize_pass_write(sd_quantize *q, const sd_quantize_pass *p, const sd_piece *at, size_t n) {
  if (!sd_args_given(q->c, "resume")) return NULL;
  head h = first;
  sd_piece *all = SD_NEW_ARRAY(q->c->arena, sd_piece, n + 1);
  h.key = p->key, h.bytes = sd_change_bytes(at, n);
  all[0] = (sd_piece){&h, sizeof h};
  memcpy(all + 1, at, n * sizeof *at);
  sd_stop_hold();
  sard_status *st = sd_file_write(pass_file(q, p), all, n + 1);
  sd_stop_release();
  return st;
}
