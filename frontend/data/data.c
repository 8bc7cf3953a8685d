// The table of kinds and what they share.
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "frontend/data/internal.h"
#include "runtime/base/alloc.h"
#include "runtime/base/dtype.h"
#include "runtime/base/str.h"

static const sd_data_kind kinds[] = {
    {"npz", sd_data_is_npz, sd_data_open_npz, sd_data_read_arrays, sd_data_rewind_arrays, sd_data_close_arrays},
    {"test data sets", sd_data_is_sets, sd_data_open_sets, sd_data_read_sets, NULL, NULL},
    {"npy folder", sd_data_is_arrays, sd_data_open_arrays, sd_data_read_arrays, sd_data_rewind_arrays,
     sd_data_close_arrays},
    {"images", sd_data_is_images, sd_data_open_images, sd_data_read_images, NULL, NULL},
};

static sard_status *unknown(sd_arena *a, const char *path) {
  sd_data_names names = {0};
  if (access(path, R_OK) != 0) return sd_status_errno("cannot read the data", path);
  if (sd_data_is_folder(path)) {
    SD_TRY(sd_data_list(a, path, &names));
    if (!names.len) return SD_ERR(USAGE, "the folder '%s' holds nothing", path);
  }
  return sd_status_field(SD_ERR(USAGE, "'%s' is no data set that Sard knows", path), SARD_TEXT_HINT,
                         "data are an .npz, a folder of .npy named after the inputs, a folder of test_data_set_0, ..., "
                         "or a folder of images");
}

sard_status *sd_data_open(sd_arena *a, sard_context *ctx, const sd_data_options *o, sd_data **out) {
  *out = NULL;
  sd_data *d = SD_NEW(a, sd_data);
  *d = (sd_data){.a = a, .ctx = ctx, .o = *o};
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds && !d->kind; i++)
    if (kinds[i].is(o->path)) d->kind = &kinds[i];
  if (!d->kind) return unknown(a, o->path);
  sard_status *st = d->kind->open(d);
  if (!st && d->count <= 0) st = SD_ERR(USAGE, "'%s' holds no samples", o->path);
  if (st) sd_data_close(d);
  else
    *out = d;
  return sd_status_field(st, SARD_TEXT_FILE, "%s", o->path);
}

const char *sd_data_kind_name(const sd_data *d) { return d->kind->name; }
int64_t sd_data_count(const sd_data *d) { return d->count; }
const sard_tensor_desc *sd_data_inputs(const sd_data *d, int *out_n) { return *out_n = d->o.n_inputs, d->o.inputs; }
bool sd_data_has_labels(const sd_data *d) { return d->has_labels; }
int64_t sd_data_fixed_batch(const sd_data *d) { return d->fixed_batch; }

sard_status *sd_data_next(sd_data *d, int64_t want, sd_batch *b) {
  if (d->fixed_batch) want = d->fixed_batch;
  *b = (sd_batch){.first = d->at, .count = sd_min_i64(want, d->count - d->at), .n_in = d->o.n_inputs};
  if (b->count <= 0) return NULL;
  b->in = sd_calloc((size_t)b->n_in + 1, sizeof *b->in);
  if (!b->in) return SD_ERR(NOMEM, "out of memory for samples");
  SD_TRY(d->kind->read(d, b));
  d->at += b->count;
  return NULL;
}

sard_status *sd_data_rewind(sd_data *d) {
  d->at = 0;
  return d->kind->rewind ? d->kind->rewind(d) : NULL;
}

sard_status *sd_data_labels(sd_data *d, bool only) {
  d->only_labels = only;
  return sd_data_rewind(d);
}

void sd_data_close(sd_data *d) {
  if (d && d->kind && d->kind->close) d->kind->close(d);
}

void sd_batch_free(sd_batch *b) {
  for (int i = 0; b->in && i < b->n_in; i++) sard_tensor_free(b->in[i]);
  for (int i = 0; b->expected && i < b->n_expected; i++) sard_tensor_free(b->expected[i]);
  sd_free(b->in), sd_free(b->expected);
  sard_tensor_free(b->label);
  *b = (sd_batch){0};
}

// ---- shared by the kinds ----

bool sd_data_is_folder(const char *path) {
  struct stat st;
  return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static int by_name(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

sard_status *sd_data_list(sd_arena *a, const char *folder, sd_data_names *out) {
  DIR *d = opendir(folder);
  if (!d) return sd_status_errno("cannot read the folder", folder);
  for (struct dirent *e; (e = readdir(d)) != NULL;)
    if (*e->d_name != '.') sd_vec_push(a, out, sd_arena_strdup(a, e->d_name));
  closedir(d);
  if (out->len) qsort(out->at, out->len, sizeof *out->at, by_name);
  return NULL;
}

const char *sd_data_type(sd_arena *a, const sard_tensor_desc *t) {
  sd_str s = {0};
  sd_strf(&s, "%s[", sd_dtype_name((sd_dtype)t->dtype));
  for (int i = 0; i < t->rank; i++) {
    if (t->dims[i] >= 0) sd_strf(&s, "%s%lld", i ? "," : "", (long long)t->dims[i]);
    else
      sd_strf(&s, "%s%s", i ? "," : "", t->symbols[i] && *t->symbols[i] ? t->symbols[i] : "?");
  }
  sd_str_put(&s, t->rank < 0 ? "*]" : "]");
  return sd_arena_keep(a, sd_str_take(&s));
}

sard_status *sd_data_convert(const void *from, int32_t from_type, void *to, int32_t to_type, uint64_t n,
                             const char *what) {
  sd_dtype f = (sd_dtype)from_type, t = (sd_dtype)to_type;
  for (uint64_t i = 0; sd_dtype_is_float(f) && i < n; i++) sd_dtype_set_f64(t, to, i, sd_dtype_get_f64(f, from, i));
  for (uint64_t i = 0; !sd_dtype_is_float(f) && i < n; i++) {
    int64_t v = sd_dtype_get_i64(f, from, i);
    sd_dtype_set_i64(t, to, i, v);
    if (sd_dtype_get_i64(t, to, i) != v)
      return SD_ERR(USAGE, "'%s': the value %lld does not fit %s", what, (long long)v, sd_dtype_name(t));
  }
  return NULL;
}

sard_status *sd_sample_take(sard_tensor *t, int64_t row, sd_sample *s) {
  sard_tensor_desc d;
  const void *data = sard_tensor_data(t, &d);
  sd_dtype type = (sd_dtype)d.dtype;
  if (!data || !sd_dtype_of_tensors(d.dtype) || type == SD_STRING || sd_dtype_kind_of(type) == SD_DK_C)
    return SD_ERR(UNSUPPORTED, "values of type %s are not compared here", sd_dtype_name(type));
  int skip = row >= 0;
  if (skip && (d.rank < 1 || row >= d.dims[0]))
    return SD_ERR(USAGE, "%s has no row for sample %lld of the batch", d.rank ? "a tensor" : "a scalar",
                  (long long)row);
  s->n = 1, s->rank = d.rank - skip;
  for (int i = skip; i < d.rank; i++) s->n *= (uint64_t)(s->dims[i - skip] = d.dims[i]);
  if (s->n > s->room) {
    double *more = sd_realloc(s->at, s->n * sizeof *more);
    if (!more) return SD_ERR(NOMEM, "out of memory for a sample");
    s->at = more, s->room = s->n;
  }
  uint64_t first = skip ? (uint64_t)row * s->n : 0;
  const float *f = data;
  bool whole = sd_dtype_is_int(type) || type == SD_BOOL;
  for (uint64_t i = 0; i < s->n; i++)
    s->at[i] = type == SD_F32 ? (double)f[first + i]
               : whole        ? (double)sd_dtype_get_i64(type, data, first + i)
                              : sd_dtype_get_f64(type, data, first + i);
  return NULL;
}
