// Patterns, scores, and the masks they give.
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "passes/prune/layer.h"
#include "passes/prune/select.h"
#include "passes/quantize/factor.h"
#include "runtime/base/alloc.h"

// ---- patterns ----

static bool share_of(const char *text, double *out) {
  char *end;
  *out = strtod(text, &end);
  return end != text && *end == 0 && *out > 0 && *out < 1;
}

sard_status *sd_pattern_read(const char *text, sd_pattern *out) {
  const char *colon = strchr(text, ':');
  unsigned long n = 0, m = 0;
  int used = 0;
  *out = (sd_pattern){.rows = 1, .cols = 1};
  if (colon && strncmp(text, "unstructured:", 13) == 0 && share_of(colon + 1, &out->share)) return NULL;
  if (colon && strncmp(text, "channels:", 9) == 0 && share_of(colon + 1, &out->share))
    return out->kind = SD_PATTERN_CHANNELS, NULL;
  if (colon && strncmp(text, "heads:", 6) == 0 && share_of(colon + 1, &out->share))
    return out->kind = SD_PATTERN_HEADS, NULL;
  if (colon && sscanf(text, "block%lux%lu%n", &n, &m, &used) == 2 && text + used == colon && n >= 1 &&
      m >= 1 && n <= 4096 && m <= 4096 && share_of(colon + 1, &out->share)) {
    out->kind = SD_PATTERN_BLOCK, out->rows = n, out->cols = m;
    return NULL;
  }
  if (sscanf(text, "%lu:%lu%n", &n, &m, &used) == 2 && text[used] == 0 && n >= 1 && n < m && m <= 64) {
    *out = (sd_pattern){SD_PATTERN_NM, n, m, 1 - (double)n / (double)m};
    return NULL;
  }
  return sd_status_field(SD_ERR(USAGE, "--pattern: '%s' is no pattern", text), SARD_TEXT_HINT,
                         "known: unstructured:0.3, 2:4, 4:8, block16x1:0.5, channels:0.3, heads:0.25; shares "
                         "are between 0 and 1");
}

const char *sd_pattern_misfit(const sd_pattern *p, uint64_t rows, uint64_t k) {
  if (p->kind == SD_PATTERN_NM && k % p->cols) return "its inputs do not divide into the pattern's groups";
  if (p->kind == SD_PATTERN_BLOCK && rows % p->rows) return "its outputs do not divide into blocks";
  if (p->kind == SD_PATTERN_BLOCK && k % p->cols) return "its inputs do not divide into blocks";
  return NULL;
}

static bool block_holds(const sd_pattern *p, const float *w, uint64_t k) {
  uint64_t zeros = 0;
  for (uint64_t r = 0; r < p->rows; r++)
    for (uint64_t j = 0; j < p->cols; j++) zeros += w[r * k + j] == 0;
  return zeros == 0 || zeros == p->rows * p->cols;
}

static bool group_holds(const sd_pattern *p, const float *w) {
  uint64_t kept = 0;
  for (uint64_t j = 0; j < p->cols; j++) kept += w[j] != 0;
  return kept <= p->rows;
}

bool sd_pattern_holds(const sd_pattern *p, const float *w, uint64_t rows, uint64_t k) {
  uint64_t down = p->kind == SD_PATTERN_BLOCK ? p->rows : 1;
  if (p->kind == SD_PATTERN_FREE || sd_pattern_removes(p->kind)) return true;
  for (uint64_t r = 0; r + down <= rows; r += down)
    for (uint64_t j = 0; j + p->cols <= k; j += p->cols)
      if (!(p->kind == SD_PATTERN_NM ? group_holds(p, w + r * k + j) : block_holds(p, w + r * k + j, k)))
        return false;
  return true;
}

// ---- scores ----

// Diagonal of the inverse of h, damped, into d.
static sard_status *inverse_diagonal(const double *h, uint64_t k, double *u, double *work, sd_check check, double *d) {
  bool good = false;
  SD_TRY(sd_factor_damped(h, k, u, work, check, &good));
  for (uint64_t j = 0; j < k; j++) {
    double s = 0;
    for (uint64_t i = 0; good && i <= j; i++) s += u[i * k + j] * u[i * k + j];
    d[j] = good ? s : 1;
  }
  return NULL;
}

sard_status *sd_layer_score(const sd_layer *l, sd_criterion c, double *out) {
  uint64_t k = l->k, per = l->rows / l->groups;
  double *d = sd_malloc(k * sizeof *d + 1), *u = NULL, *work = NULL;
  bool room = d != NULL;
  if (c == SD_SPARSEGPT) {
    u = sd_malloc(k * k * sizeof *u + 1), work = sd_malloc(k * k * sizeof *work + 1);
    room = room && u && work;
  }
  sard_status *st = NULL;
  for (uint64_t r = 0; room && !st && r < l->rows; r++) {
    const double *h = l->h ? l->h + r / per * k * k : NULL;
    if (r % per == 0 && c == SD_SPARSEGPT) st = inverse_diagonal(h, k, u, work, l->check, d);
    for (uint64_t j = 0; !st && j < k; j++) {
      double w = l->w[r * k + j], s = w * w;
      if (c == SD_WANDA) s *= h[j * k + j];
      if (c == SD_SPARSEGPT) s /= d[j];
      out[r * k + j] = c == SD_TAYLOR ? l->gain[r * k + j] : s;
    }
  }
  sd_free(d), sd_free(u), sd_free(work);
  return room ? st : SD_ERR(NOMEM, "out of memory for scores of %llu inputs", (unsigned long long)k);
}

// ---- masks ----

typedef struct unit {
  double score;
  uint64_t at;
} unit;

static int least_first(const void *a, const void *b) {
  const unit *x = a, *y = b;
  if (x->score != y->score) return x->score < y->score ? -1 : 1;
  return x->at < y->at ? -1 : x->at > y->at;
}

// Blocks of rows x cols in the rows [r0, r1): the share of least score goes, of equal ones the first.
static void mask_blocks(sd_layer *l, const sd_pattern *p, double share, uint64_t r0, uint64_t r1,
                        const double *score, double *sums, sd_select *s) {
  uint64_t across = l->k / p->cols, n = (r1 - r0) / p->rows * across,
           go = (uint64_t)llround(share * (double)n);
  memset(sums, 0, n * sizeof *sums);
  for (uint64_t r = r0; r < r1; r++)
    for (uint64_t j = 0; j < l->k; j++)
      sums[(r - r0) / p->rows * across + j / p->cols] += score[r * l->k + j];
  memset(l->mask + r0 * l->k, 1, (r1 - r0) * l->k);
  if (go == 0) return;
  sd_select_begin(s, go - 1);
  do {
    for (uint64_t i = 0; i < n; i++) sd_select_see(s, sums[i]);
  } while (sd_select_again(s));
  uint64_t equal = s->rank + 1;
  for (uint64_t i = 0; i < n; i++) {
    if (!sd_select_below(s, sums[i]) && !(sd_select_equal(s, sums[i]) && equal && equal--)) continue;
    uint64_t r = r0 + i / across * p->rows, j = i % across * p->cols;
    for (uint64_t a = 0; a < p->rows; a++) memset(l->mask + (r + a) * l->k + j, 0, p->cols);
  }
}

static void mask_group(uint8_t *mask, const double *score, uint64_t keep, uint64_t of, unit *list) {
  for (uint64_t i = 0; i < of; i++) list[i] = (unit){score[i], i};
  qsort(list, of, sizeof *list, least_first);
  for (uint64_t i = 0; i < of; i++) mask[list[i].at] = i >= of - keep;
}

sard_status *sd_layer_mask(sd_layer *l, const sd_pattern *p, double share, bool by_row, const double *score) {
  uint64_t step = by_row ? p->rows : l->rows, blocks = step / p->rows * (l->k / p->cols);
  bool groups = p->kind == SD_PATTERN_NM;
  unit *list = sd_malloc(p->cols * sizeof *list + 1);
  double *sums = sd_malloc((groups ? 0 : blocks) * sizeof *sums + 1);
  sd_select *s = sd_malloc(sizeof *s);
  bool room = list && sums && s;
  for (uint64_t i = 0; room && groups && i < l->rows * l->k; i += p->cols)
    mask_group(l->mask + i, score + i, p->rows, p->cols, list);
  for (uint64_t r = 0; room && !groups && r < l->rows; r += step)
    mask_blocks(l, p, share, r, r + step, score, sums, s);
  sd_free(list), sd_free(sums), sd_free(s);
  return room ? NULL : SD_ERR(NOMEM, "out of memory for a mask");
}

uint64_t sd_layer_apply(sd_layer *l) {
  uint64_t zeros = 0;
  for (uint64_t i = 0; i < l->rows * l->k; i++) {
    if (!l->mask[i]) l->w[i] = 0;
    zeros += l->w[i] == 0;
  }
  return zeros;
}
