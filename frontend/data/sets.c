// Folders in the layout of ONNX's backend tests. Each test_data_set_N is one sample, as it is.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "frontend/data/internal.h"
#include "runtime/base/alloc.h"
#include "runtime/base/dtype.h"
#include "runtime/io/tensor_io.h"

typedef struct sets {
  sd_data_names names;
} sets;

static const char *set_path(sd_arena *a, const char *folder, const char *set, const char *what, int i) {
  return sd_arena_printf(a, "%s/%s/%s_%d.pb", folder, set, what, i);
}

bool sd_data_is_sets(const char *path) {
  char first[4096];
  return sd_data_is_folder(path) && (size_t)snprintf(first, sizeof first, "%s/test_data_set_0", path) < sizeof first &&
         sd_data_is_folder(first);
}

// test_data_set_10 behind test_data_set_9.
static int by_number(const void *a, const void *b) {
  const char *x = *(const char *const *)a, *y = *(const char *const *)b;
  long m = strtol(x + strlen("test_data_set_"), NULL, 10), n = strtol(y + strlen("test_data_set_"), NULL, 10);
  return (m > n) - (m < n);
}

sard_status *sd_data_open_sets(sd_data *d) {
  sd_data_names all = {0};
  sets *s = SD_NEW(d->a, sets);
  SD_TRY(sd_data_list(d->a, d->o.path, &all));
  for (uint32_t i = 0; i < all.len; i++)
    if (strncmp(all.at[i], "test_data_set_", 14) == 0) sd_vec_push(d->a, &s->names, all.at[i]);
  if (s->names.len) qsort(s->names.at, s->names.len, sizeof *s->names.at, by_number);
  d->state = s, d->count = s->names.len, d->fixed_batch = 1;
  return NULL;
}

static sard_status *check_type(sd_data *d, const char *path, sard_tensor *t, const sard_tensor_desc *want) {
  sard_tensor_desc got;
  sard_tensor_data(t, &got);
  bool fits = got.dtype == want->dtype && (want->rank < 0 || got.rank == want->rank);
  for (int i = 0; fits && i < want->rank; i++) fits = want->dims[i] < 0 || want->dims[i] == got.dims[i];
  return fits ? NULL
              : SD_ERR(USAGE, "'%s' is %s, but input '%s' is %s", path, sd_data_type(d->a, &got), want->name,
                       sd_data_type(d->a, want));
}

sard_status *sd_data_read_sets(sd_data *d, sd_batch *b) {
  const sets *s = d->state;
  const char *set = s->names.at[b->first];
  sd_arena *a = sd_arena_scratch(d->a);
  sard_status *st = NULL;
  b->whole = true;
  for (int i = 0; i < b->n_in && !st; i++) {
    const char *path = set_path(a, d->o.path, set, "input", i);
    st = sd_value_read(d->ctx, path, d->o.inputs[i].dtype, &b->in[i]);
    if (!st && sd_dtype_of_tensors(d->o.inputs[i].dtype)) st = check_type(d, path, b->in[i], &d->o.inputs[i]);
  }
  int n = 0;
  while (!st && access(set_path(a, d->o.path, set, "output", n), F_OK) == 0) n++;
  b->expected = n ? sd_calloc((size_t)n, sizeof *b->expected) : NULL;
  if (n && !b->expected) st = SD_ERR(NOMEM, "out of memory for samples");
  b->n_expected = b->expected ? n : 0;
  for (int i = 0; i < n && !st; i++)
    st = sd_tensor_read(d->ctx, set_path(a, d->o.path, set, "output", i), &b->expected[i]);
  sd_arena_free(a);
  return st;
}
