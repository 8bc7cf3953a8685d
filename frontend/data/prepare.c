// Resizing is bilinear over all pixels that an output pixel covers, as Pillow does it: without that, shrinking skips
// pixels.
#include "frontend/data/prepare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/alloc.h"

enum { MOST_SIDE = 1 << 14 };

// ---- the text ----

static sard_status *bad(const char *key, const char *value, const char *want) {
  return SD_ERR(USAGE, "--preprocess: %s=%s: %s is wanted", key, value, want);
}

static sard_status *read_size(const char *key, const char *v, bool square, int *w, int *h) {
  char *end;
  long a = strtol(v, &end, 10), b = square ? a : 0;
  if (*end == 'x') b = strtol(end + 1, &end, 10);
  if (end == v || *end || a < 1 || a > MOST_SIDE || b < 0 || b > MOST_SIDE || (strchr(v, 'x') && b < 1))
    return bad(key, v, "N or WIDTHxHEIGHT");
  *w = (int)a, *h = (int)b;
  return NULL;
}

static sard_status *read_list(const char *key, const char *v, double *to, int *n) {
  for (*n = 0; *n < 4;) {
    char *end;
    to[*n] = strtod(v, &end);
    if (end == v || !isfinite(to[*n])) break;
    ++*n;
    if (!*end) return NULL;
    if (*end != ':') break;
    v = end + 1;
  }
  return bad(key, v, "a number, or one for each channel separated by ':'");
}

static sard_status *read_word(sd_prepare *p, const char *key, const char *v) {
  int n = 0;
  if (strcmp(key, "resize") == 0) return read_size(key, v, false, &p->resize_w, &p->resize_h);
  if (strcmp(key, "crop") == 0) return read_size(key, v, true, &p->crop_w, &p->crop_h);
  if (strcmp(key, "mean") == 0) return read_list(key, v, p->mean, &p->n_mean);
  if (strcmp(key, "std") == 0) {
    SD_TRY(read_list(key, v, p->std, &p->n_std));
    for (int i = 0; i < p->n_std; i++)
      if (p->std[i] == 0) return bad(key, v, "a number that is not 0");
    return NULL;
  }
  if (strcmp(key, "scale") == 0) {
    double s[4];
    SD_TRY(read_list(key, v, s, &n));
    p->scale = s[0];
    return n == 1 && s[0] > 0 ? NULL : bad(key, v, "a number above 0");
  }
  if (strcmp(key, "layout") == 0) {
    p->last = strcmp(v, "nhwc") == 0, p->last_given = true;
    return p->last || strcmp(v, "nchw") == 0 ? NULL : bad(key, v, "nchw or nhwc");
  }
  if (strcmp(key, "order") == 0) {
    p->bgr = strcmp(v, "bgr") == 0, p->gray = strcmp(v, "gray") == 0;
    return p->bgr || p->gray || strcmp(v, "rgb") == 0 ? NULL : bad(key, v, "rgb, bgr or gray");
  }
  return SD_ERR(USAGE, "--preprocess: unknown word '%s' (known: resize, crop, mean, std, scale, layout, order)", key);
}

sard_status *sd_prepare_parse(const char *text, sd_prepare *out) {
  *out = (sd_prepare){.scale = 255};
  while (text && *text) {
    char word[256];
    size_t n = strcspn(text, ",");
    if (n >= sizeof word) return SD_ERR(USAGE, "--preprocess: a word is too long");
    memcpy(word, text, n);
    word[n] = 0;
    char *value = strchr(word, '=');
    if (!value) return SD_ERR(USAGE, "--preprocess: '%s' is not of the form WORD=VALUE", word);
    *value++ = 0;
    SD_TRY(read_word(out, word, value));
    text += n + (text[n] == ',');
  }
  return NULL;
}

// ---- sizes ----

static void resized(const sd_prepare *p, uint32_t w, uint32_t h, int *out_w, int *out_h) {
  *out_w = p->resize_w ? p->resize_w : (int)w, *out_h = p->resize_w ? p->resize_h : (int)h;
  if (!p->resize_w || p->resize_h || w == 0 || h == 0) return;
  double longer = fmin((double)p->resize_w * fmax(w, h) / fmin(w, h), MOST_SIDE);
  *out_w = w <= h ? p->resize_w : (int)longer, *out_h = w <= h ? (int)longer : p->resize_w;
}

void sd_prepare_size(const sd_prepare *p, uint32_t width, uint32_t height, int *out_w, int *out_h) {
  resized(p, width, height, out_w, out_h);
  if (p->crop_w) *out_w = p->crop_w, *out_h = p->crop_h;
}

// ---- pixels ----

// Weights of the inputs of output i along one axis: from *first on, *n of them; they sum to 1.
static void weights_of(int i, int from, int to, double *w, int *first, int *n) {
  double ratio = (double)from / to, support = fmax(ratio, 1), mid = (i + 0.5) * ratio, sum = 0;
  int lo = (int)fmax(floor(mid - support + 0.5), 0), hi = (int)fmin(floor(mid + support + 0.5), from);
  for (int k = lo; k < hi; k++) sum += w[k - lo] = fmax(0, 1 - fabs(k + 0.5 - mid) / support);
  for (int k = lo; k < hi; k++) w[k - lo] /= sum;
  *first = lo, *n = hi - lo;
}

// One axis: from [outer][from][inner] to [outer][to][inner].
static void resize_axis(const float *x, uint64_t outer, int from, int to, uint64_t inner, double *w, float *y) {
  for (int i = 0; i < to; i++) {
    int first, n;
    weights_of(i, from, to, w, &first, &n);
    for (uint64_t o = 0; o < outer; o++)
      for (uint64_t k = 0; k < inner; k++) {
        double sum = 0;
        for (int j = 0; j < n; j++) sum += w[j] * x[(o * (uint64_t)from + (uint64_t)(first + j)) * inner + k];
        y[(o * (uint64_t)to + (uint64_t)i) * inner + k] = (float)sum;
      }
  }
}

static void finish(const sd_prepare *p, const float *rgb, int w, int h, int cw, int ch, float *out) {
  int left = (w - cw) / 2, top = (h - ch) / 2, channels = p->gray ? 1 : 3;
  for (int y = 0; y < ch; y++)
    for (int x = 0; x < cw; x++) {
      const float *px = rgb + 3 * ((uint64_t)(top + y) * (uint64_t)w + (uint64_t)(left + x));
      for (int c = 0; c < channels; c++) {
        double v = p->gray ? 0.299 * px[0] + 0.587 * px[1] + 0.114 * px[2] : px[p->bgr ? 2 - c : c];
        v /= p->scale;
        if (p->n_mean) v -= p->mean[p->n_mean > c ? c : 0];
        if (p->n_std) v /= p->std[p->n_std > c ? c : 0];
        out[p->last ? ((uint64_t)y * (uint64_t)cw + (uint64_t)x) * (uint64_t)channels + (uint64_t)c
                    : ((uint64_t)c * (uint64_t)ch + (uint64_t)y) * (uint64_t)cw + (uint64_t)x] = (float)v;
      }
    }
}

sard_status *sd_prepare_image(const sd_prepare *p, const uint8_t *rgb, uint32_t width, uint32_t height, float *out) {
  int w, h, cw, ch;
  resized(p, width, height, &w, &h);
  sd_prepare_size(p, width, height, &cw, &ch);
  if (cw > w || ch > h)
    return SD_ERR(USAGE, "an image of %dx%d is smaller than the %dx%d that are cut out of it", w, h, cw, ch);
  uint64_t n = 3 * (uint64_t)width * height, between = 3 * (uint64_t)w * height, end = 3 * (uint64_t)w * (uint64_t)h;
  float *a = sd_malloc((n > end ? n : end) * sizeof *a + 1), *b = sd_malloc(between * sizeof *b + 1);
  double *weights = sd_malloc(((uint64_t)(width > height ? width : height) * 2 + 4) * sizeof *weights);
  bool room = a && b && weights;
  for (uint64_t i = 0; room && i < n; i++) a[i] = rgb[i];
  if (room && (w != (int)width || h != (int)height)) {
    resize_axis(a, height, (int)width, w, 3, weights, b);
    resize_axis(b, 1, (int)height, h, 3 * (uint64_t)w, weights, a);
  }
  if (room) finish(p, a, w, h, cw, ch, out);
  sd_free(a), sd_free(b), sd_free(weights);
  return room ? NULL : SD_ERR(NOMEM, "out of memory for an image");
}
