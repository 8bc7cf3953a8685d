// A folder of images, each a sample. Labels are the folders they lie in, in the order of their names, or the numbers
// that a file of lines "IMAGE CLASS" gives.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/data/internal.h"
#include "frontend/data/prepare.h"
#include "runtime/base/alloc.h"
#include "runtime/base/dtype.h"
#include "runtime/base/file.h"
#include "runtime/image/image.h"

typedef struct picture {
  const char *path;
  int64_t label;
} picture;
typedef struct images {
  SD_VEC(picture) at;
  sd_prepare prepare;
  int channels;
  bool batched; // the input has an axis of samples
} images;

static bool is_image(const char *name) {
  static const char *const ends[] = {".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".webp", ".tif", ".tiff", ".jp2"};
  const char *dot = strrchr(name, '.');
  for (size_t i = 0; dot && i < sizeof ends / sizeof *ends; i++)
    if (strcasecmp(dot, ends[i]) == 0) return true;
  return false;
}

static sard_status *list(sd_arena *a, const char *folder, int64_t label, images *out) {
  sd_data_names names = {0};
  SD_TRY(sd_data_list(a, folder, &names));
  for (uint32_t i = 0; i < names.len; i++)
    if (is_image(names.at[i]))
      sd_vec_push(a, &out->at, ((picture){sd_arena_printf(a, "%s/%s", folder, names.at[i]), label}));
  return NULL;
}

static sard_status *list_all(sd_arena *a, const char *path, images *out, bool *classes) {
  sd_data_names names = {0};
  int64_t label = 0;
  SD_TRY(list(a, path, -1, out));
  *classes = out->at.len == 0;
  if (!*classes) return NULL;
  SD_TRY(sd_data_list(a, path, &names));
  for (uint32_t i = 0; i < names.len; i++) {
    const char *sub = sd_arena_printf(a, "%s/%s", path, names.at[i]);
    uint32_t before = out->at.len;
    if (sd_data_is_folder(sub)) SD_TRY(list(a, sub, label, out));
    label += out->at.len > before;
  }
  return NULL;
}

bool sd_data_is_images(const char *path) {
  jmp_buf oom;
  sd_arena *a = sd_data_is_folder(path) ? sd_arena_new() : NULL;
  images found = {0};
  bool classes;
  if (!a || setjmp(oom)) return sd_arena_free(a), false;
  sd_arena_set_oom(a, &oom);
  sard_status_free(list_all(a, path, &found, &classes));
  bool some = found.at.len > 0;
  sd_arena_free(a);
  return some;
}

// ---- labels from a file ----

static picture *find(images *s, const char *folder, const char *name) {
  size_t n = strlen(folder);
  for (uint32_t i = 0; i < s->at.len; i++)
    if (strcmp(s->at.at[i].path + n + 1, name) == 0) return &s->at.at[i];
  return NULL;
}

static sard_status *take_line(sd_data *d, images *s, char *line, int number) {
  char *end;
  line[strcspn(line, "\r\n")] = 0;
  if (!*line) return NULL;
  char *space = strrchr(line, ' ');
  if (!space) space = strrchr(line, '\t');
  long long label = space ? strtoll(space + 1, &end, 10) : -1;
  if (!space || *end || end == space + 1 || label < 0)
    return SD_ERR(USAGE, "'%s', line %d: 'IMAGE CLASS' is wanted", d->o.label, number);
  *space = 0;
  picture *p = find(s, d->o.path, line);
  if (!p) return SD_ERR(USAGE, "'%s', line %d: there is no image '%s' in '%s'", d->o.label, number, line, d->o.path);
  p->label = label;
  return NULL;
}

static sard_status *read_labels(sd_data *d, images *s) {
  char line[4096];
  FILE *f = fopen(d->o.label, "r");
  sard_status *st = f ? NULL : sd_status_errno("cannot read the labels", d->o.label);
  for (int number = 1; !st && fgets(line, sizeof line, f); number++) st = take_line(d, s, line, number);
  if (f) fclose(f);
  for (uint32_t i = 0; !st && i < s->at.len; i++)
    if (s->at.at[i].label < 0) st = SD_ERR(USAGE, "'%s' has no label for '%s'", d->o.label, s->at.at[i].path);
  return st;
}

// ---- the model's input ----

// Which axis holds the channels: what is said, else where the model has 1 or 3 of them.
static sard_status *settle(sd_data *d, images *s) {
  const sard_tensor_desc *t = &d->o.inputs[0];
  sd_prepare *p = &s->prepare;
  if (d->o.n_inputs != 1 || (t->rank != 4 && t->rank != 3) || (t->dtype != SARD_F32 && t->dtype != SARD_U8))
    return SD_ERR(USAGE,
                  "images need a model with one input, f32 or u8, of a batch, channels, height and width; '%s' is %s",
                  t->name, sd_data_type(d->a, t));
  s->batched = t->rank == 4;
  const int64_t *dims = t->dims + s->batched;
  bool first = dims[0] == 1 || dims[0] == 3, last = dims[2] == 1 || dims[2] == 3;
  if (!p->last_given) p->last = last && !first;
  int64_t channels = dims[p->last ? 2 : 0], h = dims[p->last ? 0 : 1], w = dims[p->last ? 1 : 2];
  if (channels == 1) p->gray = true;
  s->channels = p->gray ? 1 : 3;
  if (channels >= 0 && channels != s->channels)
    return SD_ERR(USAGE, "'%s' has %lld channels, the images give %d: see order and layout of --preprocess", t->name,
                  (long long)channels, s->channels);
  if (!p->resize_w && !p->crop_w && w > 0 && h > 0 && w <= 1 << 14 && h <= 1 << 14)
    p->resize_w = (int)w, p->resize_h = (int)h;
  if (s->batched && t->dims[0] > 0) d->fixed_batch = t->dims[0];
  if (!s->batched) d->fixed_batch = 1;
  return NULL;
}

sard_status *sd_data_open_images(sd_data *d) {
  images *s = SD_NEW(d->a, images);
  bool classes;
  d->state = s;
  SD_TRY(sd_prepare_parse(d->o.preprocess, &s->prepare));
  SD_TRY(list_all(d->a, d->o.path, s, &classes));
  SD_TRY(settle(d, s));
  if (d->o.label) SD_TRY(read_labels(d, s));
  d->has_labels = classes || d->o.label, d->count = s->at.len;
  return NULL;
}

// ---- reading ----

typedef struct decoded {
  sd_image m;
  uint8_t *rgb;
} decoded;

static sard_status *room(sd_image *m) {
  decoded *k = m->user;
  k->rgb = sd_malloc(3 * (uint64_t)m->width * m->height + 1);
  m->rgb = k->rgb;
  return k->rgb ? NULL : SD_ERR(NOMEM, "out of memory for an image");
}

static sard_status *decode(const char *path, decoded *out) {
  sd_map map;
  *out = (decoded){0};
  SD_TRY(sd_file_map(path, &map));
  out->m = (sd_image){.data = map.data, .size = map.size, .room = room, .user = out};
  sard_status *st = sd_image_decode(&out->m);
  sd_file_unmap(&map);
  return sd_status_context(st, "%s", path);
}

// The tensor of a batch, once the size of its first image is known.
static sard_status *make(sd_data *d, const sd_batch *b, int w, int h, sard_tensor **out) {
  const images *s = d->state;
  const sard_tensor_desc *want = &d->o.inputs[0];
  sard_tensor_desc t = {.size = sizeof t, .dtype = want->dtype, .rank = want->rank, .name = want->name};
  int64_t dims[3] = {s->channels, h, w};
  if (s->prepare.last) dims[0] = h, dims[1] = w, dims[2] = s->channels;
  if (s->batched) t.dims[0] = d->fixed_batch ? d->fixed_batch : b->count;
  memcpy(t.dims + s->batched, dims, sizeof dims);
  for (int i = s->batched; i < t.rank; i++)
    if (want->dims[i] >= 0 && want->dims[i] != t.dims[i])
      return SD_ERR(USAGE, "input '%s' is %s, but '%s' gives %s: see --preprocess", want->name,
                    sd_data_type(d->a, want), s->at.at[b->first].path, sd_data_type(d->a, &t));
  SD_TRY(sard_tensor_new(d->ctx, &t, out));
  uint64_t bytes = (uint64_t)(s->batched ? t.dims[0] : 1) * (uint64_t)s->channels * (uint64_t)w * (uint64_t)h *
                   (t.dtype == SARD_F32 ? 4 : 1);
  memset(sard_tensor_data(*out, NULL), 0, bytes);
  return NULL;
}

static sard_status *take(sd_data *d, sd_batch *b, int64_t i, const decoded *k, int *w, int *h) {
  const images *s = d->state;
  int iw, ih;
  sd_prepare_size(&s->prepare, k->m.width, k->m.height, &iw, &ih);
  if (!b->in[0]) SD_TRY(make(d, b, *w = iw, *h = ih, &b->in[0]));
  if (iw != *w || ih != *h)
    return sd_status_field(
        SD_ERR(USAGE, "'%s' gives %dx%d, others of the batch %dx%d", s->at.at[b->first + i].path, iw, ih, *w, *h),
        SARD_TEXT_HINT, "--preprocess resize=WIDTHxHEIGHT, or --batch 1");
  uint64_t n = (uint64_t)s->channels * (uint64_t)iw * (uint64_t)ih;
  void *to = sard_tensor_data(b->in[0], NULL);
  if (d->o.inputs[0].dtype == SARD_F32)
    return sd_prepare_image(&s->prepare, k->m.rgb, k->m.width, k->m.height, (float *)to + (uint64_t)i * n);
  float *row = sd_malloc(n * sizeof *row + 1);
  if (!row) return SD_ERR(NOMEM, "out of memory for an image");
  sd_prepare bytes = s->prepare;
  bytes.scale = 1, bytes.n_mean = bytes.n_std = 0;
  sard_status *st = sd_prepare_image(&bytes, k->m.rgb, k->m.width, k->m.height, row);
  for (uint64_t j = 0; !st && j < n; j++) ((uint8_t *)to)[(uint64_t)i * n + j] = (uint8_t)(row[j] + 0.5f);
  sd_free(row);
  return st;
}

sard_status *sd_data_read_images(sd_data *d, sd_batch *b) {
  const images *s = d->state;
  int w = 0, h = 0;
  for (int64_t i = 0; i < b->count && !d->only_labels; i++) {
    decoded k;
    sard_status *st = decode(s->at.at[b->first + i].path, &k);
    if (!st) st = take(d, b, i, &k, &w, &h);
    sd_free(k.rgb);
    SD_TRY(st);
  }
  b->whole = !s->batched;
  if (!d->has_labels) return NULL;
  sard_tensor_desc t = {.size = sizeof t, .dtype = SARD_I64, .rank = 1, .dims = {b->count}};
  SD_TRY(sard_tensor_new(d->ctx, &t, &b->label));
  for (int64_t i = 0; i < b->count; i++)
    ((int64_t *)sard_tensor_data(b->label, NULL))[i] = s->at.at[b->first + i].label;
  return NULL;
}
