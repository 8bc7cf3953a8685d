// Named arrays whose rows are samples, read forward a batch at a time: members of an .npz, or .npy files of a folder.
// An input whose samples lie on another axis, or that all samples share, is read as a whole.
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "frontend/data/internal.h"
#include "frontend/data/zip.h"
#include "runtime/base/alloc.h"
#include "runtime/base/str.h"
#include "runtime/io/tensor_io.h"

#define MOST_WHOLE ((uint64_t)1 << 30) // bytes of an array that is read as a whole

typedef struct array {
  const char *name; // without ".npy"
  sd_bytes_part part;
  sd_npy_head head;
} array;

typedef enum mode {
  ROWS,
  SINGLE,
  SLICES,
  WHOLE
} mode; // samples on axis 0; those without that axis; on axis `axis`; shared

// An array on its way into a tensor.
typedef struct column {
  const array *from;
  sard_tensor_desc want; // of the model; for labels: of the array
  mode mode;
  int axis;
  int64_t fixed;      // rows that the model fixes, 0: any
  uint64_t row_bytes; // in the file
  sd_bytes *bytes;    // ROWS, SINGLE
  sard_tensor *whole; // SLICES, WHOLE
} column;

typedef struct arrays {
  SD_VEC(array) all;
  SD_VEC(int) files; // to be closed
  column *in, label;
  int n_in;
} arrays;

// ---- finding arrays ----

static bool ends_with(const char *text, const char *end) {
  size_t n = strlen(text), m = strlen(end);
  return n >= m && strcmp(text + n - m, end) == 0;
}

bool sd_data_is_npz(const char *path) {
  uint8_t magic[4];
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  bool is = fd >= 0 && read(fd, magic, 4) == 4 && (!memcmp(magic, "PK\3\4", 4) || !memcmp(magic, "PK\5\6", 4));
  if (fd >= 0) close(fd);
  return is;
}

bool sd_data_is_arrays(const char *path) {
  sd_arena *a = sd_data_is_folder(path) ? sd_arena_new() : NULL;
  jmp_buf oom;
  bool found = false;
  if (!a || setjmp(oom)) return sd_arena_free(a), false;
  sd_arena_set_oom(a, &oom);
  sd_data_names names = {0};
  sard_status_free(sd_data_list(a, path, &names));
  for (uint32_t i = 0; i < names.len; i++) found |= ends_with(names.at[i], ".npy");
  sd_arena_free(a);
  return found;
}

static sard_status *open_file(arrays *s, sd_arena *a, const char *path, int *fd) {
  sd_vec_reserve(a, &s->files, 1);
  *fd = open(path, O_RDONLY | O_CLOEXEC);
  if (*fd < 0) return sd_status_errno("cannot read", path);
  s->files.at[s->files.len++] = *fd;
  return NULL;
}

static const char *array_name(sd_arena *a, const char *file) {
  return sd_arena_strndup(a, file, strlen(file) - strlen(".npy"));
}

static sard_status *list_npz(sd_data *d, arrays *s) {
  int fd;
  sd_zip_members members = {0};
  SD_TRY(open_file(s, d->a, d->o.path, &fd));
  SD_TRY(sd_zip_list(d->a, fd, d->o.path, &members));
  for (uint32_t i = 0; i < members.len; i++)
    if (ends_with(members.at[i].name, ".npy"))
      sd_vec_push(d->a, &s->all, ((array){.name = array_name(d->a, members.at[i].name), .part = members.at[i].part}));
  return NULL;
}

static sard_status *list_folder(sd_data *d, arrays *s) {
  sd_data_names names = {0};
  SD_TRY(sd_data_list(d->a, d->o.path, &names));
  for (uint32_t i = 0; i < names.len; i++) {
    if (!ends_with(names.at[i], ".npy")) continue;
    const char *path = sd_arena_printf(d->a, "%s/%s", d->o.path, names.at[i]);
    struct stat st;
    int fd;
    SD_TRY(open_file(s, d->a, path, &fd));
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) return SD_ERR(IO, "'%s' is no regular file", path);
    sd_bytes_part part = {.what = path, .fd = fd, .packed = (uint64_t)st.st_size, .size = (uint64_t)st.st_size};
    sd_vec_push(d->a, &s->all, ((array){.name = array_name(d->a, names.at[i]), .part = part}));
  }
  return NULL;
}

static bool same_name(const char *array, const char *input) { // '/' and ':' may be '_'
  for (; *array && *input; array++, input++)
    if (*array != *input && !(*array == '_' && (*input == '/' || *input == ':'))) return false;
  return *array == *input;
}

static array *find_array(arrays *s, const char *name) {
  for (int pass = 0; pass < 3; pass++)
    for (uint32_t i = 0; i < s->all.len; i++) {
      const char *n = s->all.at[i].name;
      if (pass == 0   ? !strcmp(n, name)
          : pass == 1 ? !strncmp(n, "in_", 3) && !strcmp(n + 3, name)
                      : same_name(n, name) || (!strncmp(n, "in_", 3) && same_name(n + 3, name)))
        return &s->all.at[i];
    }
  return NULL;
}

static sard_status *no_array(const sd_data *d, const arrays *s, const char *what, const char *name) {
  sd_str list = {0};
  for (uint32_t i = 0; i < s->all.len; i++) sd_strf(&list, "%s%s", i ? ", " : "", s->all.at[i].name);
  sard_status *st = SD_ERR(USAGE, "'%s' has no array for %s '%s'", d->o.path, what, name);
  st = sd_status_field(st, SARD_TEXT_HINT, "its arrays: %s", list.p ? list.p : "none");
  sd_str_free(&list);
  return st;
}

// ---- shapes ----

static sard_status *read_head(array *f) {
  uint8_t first[12];
  sd_bytes *b;
  SD_TRY(sd_bytes_open(&f->part, &b));
  sard_status *st = f->part.size < sizeof first ? SD_ERR(MODEL, "'%s' is not a .npy file", f->part.what)
                                                : sd_bytes_read(b, first, sizeof first);
  uint64_t more = st              ? 0
                  : first[6] == 1 ? (uint64_t)first[8] | (uint64_t)first[9] << 8
                                  : (uint64_t)first[8] | (uint64_t)first[9] << 8 | (uint64_t)first[10] << 16;
  uint64_t n = 12 + more < f->part.size ? 12 + more : f->part.size;
  uint8_t *whole = st ? NULL : sd_malloc(n);
  if (!st && !whole) st = SD_ERR(NOMEM, "out of memory while reading '%s'", f->part.what);
  if (!st) {
    memcpy(whole, first, sizeof first);
    st = sd_bytes_read(b, whole + sizeof first, n - sizeof first);
  }
  if (!st) st = sd_npy_parse_head(whole, n, f->part.what, &f->head);
  sd_free(whole);
  sd_bytes_close(b);
  return st;
}

// Bytes of the elements; they have to be there before memory is taken for them.
static sard_status *check_size(const array *f) {
  uint64_t count = 1, bytes;
  bool ok = true, empty = false;
  for (int i = 0; i < f->head.rank; i++) empty |= f->head.dims[i] == 0;
  for (int i = 0; i < f->head.rank; i++) ok = ok && (empty || sd_ck_mul(count, (uint64_t)f->head.dims[i], &count));
  if (empty) count = 0;
  if (ok && sd_dtype_bytes(f->head.dtype, count, &bytes) && bytes <= f->part.size - f->head.data) return NULL;
  return SD_ERR(MODEL, "'%s' is cut off: its elements are fewer than its shape needs", f->part.what);
}

static sard_tensor_desc desc_of(const array *f) {
  sard_tensor_desc t = {.size = sizeof t, .dtype = (int32_t)f->head.dtype, .rank = f->head.rank, .name = f->name};
  memcpy(t.dims, f->head.dims, sizeof t.dims);
  return t;
}

static sard_status *misfit(const sd_data *d, const column *k, const char *why) {
  sard_tensor_desc have = desc_of(k->from);
  return SD_ERR(USAGE, "input '%s' is %s, but the array '%s' of '%s' is %s%s%s", k->want.name,
                sd_data_type(d->a, &k->want), k->from->name, d->o.path, sd_data_type(d->a, &have), *why ? ": " : "",
                why);
}

// The symbol of the batch: that of axis 0 of the first input that has one there.
static const char *batch_symbol(const sd_data *d) {
  for (int i = 0; i < d->o.n_inputs; i++)
    if (d->o.inputs[i].rank > 0 && d->o.inputs[i].dims[0] < 0 && d->o.inputs[i].symbols[0])
      return d->o.inputs[i].symbols[0];
  return NULL;
}

static int batch_axis(const sd_data *d, const sard_tensor_desc *t) {
  const char *symbol = batch_symbol(d);
  for (int i = 0; symbol && i < t->rank; i++)
    if (t->dims[i] < 0 && t->symbols[i] && strcmp(t->symbols[i], symbol) == 0) return i;
  return -1;
}

static bool dims_fit(const column *k, int from_axis, int skip) {
  for (int i = 0; i < k->want.rank; i++)
    if (i != skip && k->want.dims[i] >= 0 && k->want.dims[i] != k->from->head.dims[i + from_axis]) return false;
  return true;
}

// How the samples lie in an array; `n` of them, or -1 where nobody said so yet.
static sard_status *settle(const sd_data *d, column *k, int64_t n) {
  const sd_npy_head *h = &k->from->head;
  int axis = batch_axis(d, &k->want), rank = k->want.rank;
  if (h->rank == rank + 1 && rank >= 0 && (n < 0 || h->dims[0] == n) && dims_fit(k, 1, -1))
    return k->mode = SINGLE, NULL;
  if (rank >= 0 && h->rank != rank) return misfit(d, k, "the ranks differ");
  if (axis > 0 && (n < 0 || h->dims[axis] == n) && dims_fit(k, 0, axis)) return k->mode = SLICES, k->axis = axis, NULL;
  bool rows = h->rank > 0 && (n < 0 || h->dims[0] == n) && dims_fit(k, 0, 0);
  if (rows && (axis == 0 || rank < 0 || k->want.dims[0] < 0)) return k->mode = ROWS, NULL;
  if (dims_fit(k, 0, -1) && axis < 0 && (rank == 0 || h->dims[0] != n)) return k->mode = WHOLE, NULL;
  if (rows && k->want.dims[0] > 0) return k->mode = ROWS, k->fixed = k->want.dims[0], NULL;
  return misfit(
      d, k,
      n >= 0 && axis >= 0 && h->dims[axis] != n ? sd_arena_printf(d->a, "there are %lld samples", (long long)n) : "");
}

static bool convertible(sd_dtype from, sd_dtype to) {
  return from == to || (sd_dtype_is_float(from) && sd_dtype_is_float(to)) ||
         (sd_dtype_is_int(from) && (sd_dtype_is_int(to) || to == SD_BOOL));
}

static sard_status *read_whole(const sd_data *d, column *k) {
  const array *f = k->from;
  sd_bytes *b;
  if (f->part.size > MOST_WHOLE)
    return SD_ERR(UNSUPPORTED,
                  "the array '%s' of '%s' is larger than 1 GB, and its samples do not lie one behind the other",
                  f->name, d->o.path);
  uint8_t *all = sd_malloc(f->part.size);
  if (!all) return SD_ERR(NOMEM, "out of memory while reading '%s'", f->part.what);
  sard_status *st = sd_bytes_open(&f->part, &b);
  if (!st) {
    st = sd_bytes_read(b, all, f->part.size);
    sd_bytes_close(b);
  }
  if (!st) st = sd_npy_parse(d->ctx, all, f->part.size, f->part.what, &k->whole);
  sd_free(all);
  return st;
}

// Opens the array for reading in order.
static sard_status *begin(const sd_data *d, column *k) {
  const sd_npy_head *h = &k->from->head;
  if (!convertible(h->dtype, (sd_dtype)k->want.dtype)) return misfit(d, k, "the types differ");
  SD_TRY(check_size(k->from));
  k->row_bytes = (uint64_t)sd_dtype_bits(h->dtype) / 8;
  for (int i = 1; i < h->rank; i++) k->row_bytes *= (uint64_t)h->dims[i];
  if (h->fortran && h->rank > 1 && k->mode != WHOLE) {
    if (k->mode == SINGLE)
      return sd_status_field(misfit(d, k, "it lies in Fortran order"), SARD_TEXT_HINT,
                             "save numpy.ascontiguousarray of it");
    k->mode = SLICES; // axis 0, or the one found
  }
  if (k->mode == SLICES || k->mode == WHOLE) return read_whole(d, k);
  SD_TRY(sd_bytes_open(&k->from->part, &k->bytes));
  return sd_bytes_skip(k->bytes, h->data);
}

// ---- opening ----

static const char *const label_names[] = {"y", "label", "labels"};

static sard_status *find_label(sd_data *d, arrays *s) {
  array *f = d->o.label ? find_array(s, d->o.label) : NULL;
  if (d->o.label && !f) return no_array(d, s, "labels", d->o.label);
  for (size_t i = 0; i < sizeof label_names / sizeof *label_names && !f; i++) f = find_array(s, label_names[i]);
  if (!f) return NULL;
  SD_TRY(read_head(f));
  if (f->head.rank == 0)
    return SD_ERR(USAGE, "the labels '%s' of '%s' are one number: an array with a row for each sample is wanted",
                  f->name, d->o.path);
  s->label = (column){.from = f, .want = desc_of(f)};
  d->count = f->head.dims[0], d->has_labels = true;
  return begin(d, &s->label);
}

static sard_status *find_inputs(sd_data *d, arrays *s) {
  int64_t n = d->has_labels ? d->count : -1;
  for (int i = 0; i < s->n_in; i++) {
    column *k = &s->in[i];
    array *f = find_array(s, d->o.inputs[i].name);
    if (!f) return no_array(d, s, "input", d->o.inputs[i].name);
    SD_TRY(read_head(f));
    k->from = f, k->want = d->o.inputs[i];
    SD_TRY(settle(d, k, n));
    if (n < 0 && k->mode != WHOLE) n = f->head.dims[k->axis];
    SD_TRY(begin(d, k));
    if (k->mode == SINGLE) d->fixed_batch = 1;
    if (k->fixed && d->fixed_batch && d->fixed_batch != k->fixed)
      return misfit(d, k, "another input fixes another batch");
    if (k->fixed) d->fixed_batch = k->fixed;
  }
  for (int i = 0; i < s->n_in; i++)
    if (s->in[i].mode != WHOLE) return d->count = n, NULL;
  return SD_ERR(USAGE, "no input of the model has a row for each sample of '%s'", d->o.path);
}

static sard_status *open_arrays(sd_data *d, sard_status *(*list)(sd_data *d, arrays *s)) {
  arrays *s = SD_NEW(d->a, arrays);
  s->n_in = d->o.n_inputs;
  s->in = SD_NEW_ARRAY(d->a, column, s->n_in + 1);
  d->state = s;
  SD_TRY(list(d, s));
  SD_TRY(find_label(d, s));
  return find_inputs(d, s);
}

sard_status *sd_data_open_npz(sd_data *d) { return open_arrays(d, list_npz); }
sard_status *sd_data_open_arrays(sd_data *d) { return open_arrays(d, list_folder); }

// ---- reading ----

// Elements as the file has them, into the tensor: in the machine's order and the model's type.
static sard_status *take_rows(const column *k, sard_tensor *t, uint64_t rows) {
  sard_tensor_desc d;
  void *to = sard_tensor_data(t, &d);
  const sd_npy_head *h = &k->from->head;
  uint64_t bytes = rows * k->row_bytes;
  bool same = (int32_t)h->dtype == d.dtype;
  void *from = same ? to : sd_malloc(bytes + 1);
  if (!from) return SD_ERR(NOMEM, "out of memory for samples");
  sard_status *st = sd_bytes_read(k->bytes, from, bytes);
  if (!st && h->swapped) sd_npy_swap(h->dtype, from, bytes);
  if (!st && !same)
    st = sd_data_convert(from, (int32_t)h->dtype, to, d.dtype, bytes / ((uint64_t)sd_dtype_bits(h->dtype) / 8),
                         k->from->part.what);
  if (!same) sd_free(from);
  return st;
}

static sard_status *take_slice(const column *k, sard_tensor *t, int64_t first, int64_t count) {
  sard_tensor_desc w, d;
  const uint8_t *from = sard_tensor_data(k->whole, &w);
  uint8_t *to = sard_tensor_data(t, &d);
  uint64_t outer = 1, inner = 1;
  for (int i = 0; i < w.rank; i++)
    *(i < k->axis ? &outer : &inner) *= i == k->axis && k->mode == SLICES ? 1 : (uint64_t)w.dims[i];
  int64_t all = k->mode == SLICES ? w.dims[k->axis] : 1, made = k->mode == SLICES ? d.dims[k->axis] : 1;
  if (k->mode != SLICES) first = 0, count = 1;
  uint64_t from_size = (uint64_t)sd_dtype_bits((sd_dtype)w.dtype) / 8,
           to_size = (uint64_t)sd_dtype_bits((sd_dtype)d.dtype) / 8;
  for (uint64_t o = 0; o < outer; o++)
    SD_TRY(sd_data_convert(from + (o * (uint64_t)all + (uint64_t)first) * inner * from_size, w.dtype,
                           to + o * (uint64_t)made * inner * to_size, d.dtype, (uint64_t)count * inner,
                           k->from->part.what));
  return NULL;
}

static sard_status *take(sd_data *d, const column *k, const sd_batch *b, sard_tensor **out) {
  const sd_npy_head *h = &k->from->head;
  sard_tensor_desc t = {.size = sizeof t, .dtype = k->want.dtype, .name = k->want.name, .rank = h->rank};
  memcpy(t.dims, h->dims, sizeof t.dims);
  if (k->mode == SINGLE) {
    t.rank--;
    memmove(t.dims, t.dims + 1, sizeof *t.dims * (size_t)t.rank);
  } else if (k->mode != WHOLE) {
    t.dims[k->axis] = k->fixed ? k->fixed : b->count;
  }
  SD_TRY(sard_tensor_new(d->ctx, &t, out));
  uint64_t bytes = 0, n = 1;
  for (int i = 0; i < t.rank; i++) n *= (uint64_t)t.dims[i];
  void *to = sard_tensor_data(*out, NULL);
  // Rows behind the last sample are of no meaning, but defined.
  if (k->fixed > b->count && sd_dtype_bytes((sd_dtype)t.dtype, n, &bytes) && bytes) memset(to, 0, bytes);
  return k->whole ? take_slice(k, *out, b->first, b->count) : take_rows(k, *out, (uint64_t)b->count);
}

sard_status *sd_data_read_arrays(sd_data *d, sd_batch *b) {
  arrays *s = d->state;
  for (int i = 0; i < s->n_in && !d->only_labels; i++) {
    SD_TRY(take(d, &s->in[i], b, &b->in[i]));
    b->whole |= s->in[i].mode == SINGLE;
  }
  return s->label.from ? take(d, &s->label, b, &b->label) : NULL;
}

static sard_status *again(const column *k) {
  if (!k->bytes) return NULL;
  SD_TRY(sd_bytes_rewind(k->bytes));
  return sd_bytes_skip(k->bytes, k->from->head.data);
}

sard_status *sd_data_rewind_arrays(sd_data *d) {
  arrays *s = d->state;
  for (int i = 0; i < s->n_in; i++) SD_TRY(again(&s->in[i]));
  return again(&s->label);
}

void sd_data_close_arrays(sd_data *d) {
  arrays *s = d->state;
  for (int i = 0; s && i <= s->n_in; i++) {
    column *k = i < s->n_in ? &s->in[i] : &s->label;
    sd_bytes_close(k->bytes), k->bytes = NULL;
    sard_tensor_free(k->whole), k->whole = NULL;
  }
  for (uint32_t i = 0; s && i < s->files.len; i++) close(s->files.at[i]);
  if (s) s->files.len = 0;
}
