// Inputs of a run: from files, from the command line, or made up. Sizes of symbolic dims follow from those given.
#include <stdlib.h>
#include <string.h>

#include "frontend/cli/cli.h"
#include "runtime/base/dtype.h"
#include "runtime/io/tensor_io.h"

typedef struct known_dim {
  const char *name;
  int64_t size;
} known_dim;
typedef struct maker {
  sd_cli *c;
  const sd_cli_model *m;
  sd_cli_tensors *out;
  SD_VEC(known_dim) dims;    // sizes of symbols seen so far
  SD_VEC(const char *) ones; // symbols that got size 1 for want of anything else
} maker;

static sard_status *input_desc(const maker *k, int i, sard_tensor_desc *d) {
  *d = (sard_tensor_desc){.size = sizeof *d};
  return sard_model_io(k->m->model, 0, i, d);
}

// ---- flags by input name ----

static int find_input(const maker *k, const char *name) {
  for (int i = 0; i < k->out->n; i++) {
    sard_tensor_desc d;
    sard_status *st = input_desc(k, i, &d);
    if (st) sard_status_free(st);
    else if (strcmp(d.name, name) == 0)
      return i;
  }
  return -1;
}

static sard_status *unknown_input(const maker *k, const char *flag, const char *name) {
  const char **names = SD_NEW_ARRAY(k->c->arena, const char *, k->out->n + 1);
  sd_str list = {0};
  for (int i = 0; i < k->out->n; i++) {
    sard_tensor_desc d;
    SD_TRY(input_desc(k, i, &d));
    names[i] = sd_arena_strdup(k->c->arena, d.name);
    sd_strf(&list, "%s%s %s", i ? ", " : "", d.name, sd_model_type(k->c, &d));
  }
  const char *near = sd_str_nearest(name, names, (size_t)k->out->n);
  sard_status *st = SD_ERR(USAGE, "--%s: the model has no input '%s'", flag, name);
  st = sd_status_field(st, SARD_TEXT_HINT, "%s%s%sits inputs: %s", near ? "did you mean '" : "", near ? near : "",
                       near ? "'? " : "", list.p ? list.p : "none");
  sd_str_free(&list);
  return st;
}

// The value of NAME=VALUE or NAME:SHAPE for input `i`, the last one given; NULL when there is none.
static sard_status *value_of(const maker *k, const char *flag, char sep, const char *input, const char **out) {
  uint32_t at = 0;
  const char *given, *name, *rest;
  *out = NULL;
  while ((given = sd_args_next(k->c, flag, &at)) != NULL) {
    if (sep == '=' && strlen(input) > 0 && strncmp(given, input, strlen(input)) == 0 && given[strlen(input)] == '=') {
      *out = given + strlen(input) + 1; // a name may hold '='
      continue;
    }
    SD_TRY(sd_args_split(k->c, flag, given, sep, &name, &rest));
    if (strcmp(name, input) == 0) *out = rest;
  }
  return NULL;
}

static sard_status *check_names(const maker *k, const char *flag, char sep) {
  uint32_t at = 0;
  const char *given, *name, *rest;
  while ((given = sd_args_next(k->c, flag, &at)) != NULL) {
    bool found = false;
    for (int i = 0; i < k->out->n && !found; i++) {
      sard_tensor_desc d;
      SD_TRY(input_desc(k, i, &d));
      size_t n = strlen(d.name);
      found = n && strncmp(given, d.name, n) == 0 && given[n] == sep;
    }
    if (found) continue;
    SD_TRY(sd_args_split(k->c, flag, given, sep, &name, &rest));
    if (find_input(k, name) < 0) return unknown_input(k, flag, name);
  }
  return NULL;
}

// ---- sizes ----

static bool known(const maker *k, const char *name, int64_t *out) {
  for (uint32_t i = 0; i < k->dims.len; i++)
    if (strcmp(k->dims.at[i].name, name) == 0) {
      *out = k->dims.at[i].size;
      return true;
    }
  return false;
}

static void learn(maker *k, const char *name, int64_t size) {
  int64_t had;
  if (name && *name && !known(k, name, &had))
    sd_vec_push(k->c->arena, &k->dims, ((known_dim){sd_arena_strdup(k->c->arena, name), size}));
}

static void learn_from(maker *k, const sard_tensor_desc *model, const sard_tensor_desc *given) {
  for (int d = 0; model->rank == given->rank && d < model->rank; d++)
    if (model->dims[d] < 0) learn(k, model->symbols[d], given->dims[d]);
}

static sard_status *learn_flags(maker *k) {
  uint32_t at = 0;
  const char *given, *name, *rest;
  while ((given = sd_args_next(k->c, "dim", &at)) != NULL) {
    SD_TRY(sd_args_split(k->c, "dim", given, '=', &name, &rest));
    learn(k, name, strtoll(rest, NULL, 10));
  }
  return NULL;
}

// "1x3x224x224"; "scalar" for rank 0.
static sard_status *read_shape(const char *text, sard_tensor_desc *d, const char *input) {
  if (strcmp(text, "scalar") == 0) text = "";
  d->rank = 0;
  for (const char *p = text; *p;) {
    char *end;
    long long v = strtoll(p, &end, 10);
    if (end == p || v < 0 || (*end && *end != 'x' && *end != ',') || d->rank == SARD_MAX_RANK || (*end && !end[1]))
      return SD_ERR(USAGE, "--shape: '%s' of input '%s' is no shape such as 1x3x224x224", text, input);
    d->dims[d->rank++] = v;
    p = *end ? end + 1 : end;
  }
  return NULL;
}

// Turns the dims of an input that is made into numbers.
static sard_status *settle_shape(maker *k, sard_tensor_desc *d) {
  const char *shape;
  sard_tensor_desc model = *d;
  SD_TRY(value_of(k, "shape", ':', d->name, &shape));
  if (shape && model.rank >= 0) {
    SD_TRY(read_shape(shape, d, d->name));
    if (d->rank != model.rank)
      return SD_ERR(USAGE, "--shape: input '%s' is %s, of rank %d, but '%s' has rank %d", d->name,
                    sd_model_type(k->c, &model), model.rank, shape, d->rank);
    for (int i = 0; i < d->rank; i++)
      if (model.dims[i] >= 0 && model.dims[i] != d->dims[i])
        return SD_ERR(USAGE, "--shape: dim %d of input '%s' is %lld in the model, not %lld", i, d->name,
                      (long long)model.dims[i], (long long)d->dims[i]);
    learn_from(k, &model, d);
    return NULL;
  }
  for (int i = 0; i < d->rank; i++) {
    if (d->dims[i] >= 0) continue;
    const char *symbol = d->symbols[i] && *d->symbols[i] ? d->symbols[i] : "?";
    if (known(k, symbol, &d->dims[i])) continue;
    d->dims[i] = 1;
    learn(k, symbol, 1);
    sd_vec_push(k->c->arena, &k->ones, sd_arena_strdup(k->c->arena, symbol));
  }
  return NULL;
}

// ---- contents ----

static uint64_t next_random(uint64_t *state) { // splitmix64
  uint64_t z = (*state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

typedef enum filling { ZEROS, ONES, RANDOM } filling;

static void fill(sard_tensor *tensor, filling how, uint64_t seed) {
  sard_tensor_desc d;
  void *data = sard_tensor_data(tensor, &d);
  sd_dtype t = sd_dtype_part((sd_dtype)d.dtype);
  uint64_t n = 1, parts = sd_dtype_parts((sd_dtype)d.dtype), state = seed;
  for (int i = 0; i < d.rank; i++) n *= (uint64_t)d.dims[i];
  for (uint64_t i = 0; i < n * parts; i++) {
    uint64_t r = next_random(&state);
    double f = how == ZEROS ? 0 : how == ONES ? i % parts == 0 : (double)(r >> 40) * 0x1p-23 - 1; // -1 .. 1
    if (sd_dtype_is_float(t)) sd_dtype_set_f64(t, data, i, f);
    else
      sd_dtype_set_i64(t, data, i, how == ZEROS ? 0 : how == ONES ? 1 : (int64_t)(r >> 63));
  }
}

static sard_status *make_filled(maker *k, int i, const sard_tensor_desc *model, filling how) {
  sard_tensor_desc d = *model;
  int64_t seed = 0;
  SD_TRY(sd_args_int(k->c, "seed", 0, INT64_MAX, &seed));
  if (d.dtype == SARD_STRING || d.dtype >= SARD_SEQUENCE)
    return sd_status_field(SD_ERR(USAGE, "input '%s' is %s, which cannot be made up", d.name, sard_model_io_type(k->m->model, 0, i)),
                           SARD_TEXT_HINT, "give a file: --input %s=@FILE.pb, or a folder with --inputs", d.name);
  if (d.rank < 0) {
    const char *shape;
    SD_TRY(value_of(k, "shape", ':', d.name, &shape));
    if (!shape) return sd_status_field(SD_ERR(USAGE, "input '%s' may have any rank", d.name), SARD_TEXT_HINT, "give its shape with --shape %s:..., or a file", d.name);
    SD_TRY(read_shape(shape, &d, d.name));
    SD_TRY(sard_tensor_new(k->m->ctx, &d, &k->out->at[i]));
    fill(k->out->at[i], how, (uint64_t)seed * 1000003u + (uint64_t)i);
    return NULL;
  }
  SD_TRY(settle_shape(k, &d));
  SD_TRY(sard_tensor_new(k->m->ctx, &d, &k->out->at[i]));
  fill(k->out->at[i], how, (uint64_t)seed * 1000003u + (uint64_t)i);
  return NULL;
}

// A list of numbers gives the size of one symbolic dim.
static sard_status *settle_list(maker *k, sard_tensor_desc *d, int64_t count) {
  int64_t rest = 1;
  int open = -1;
  const char *shape;
  SD_TRY(value_of(k, "shape", ':', d->name, &shape));
  if (!shape) {
    for (int i = 0; i < d->rank; i++) {
      if (d->dims[i] < 0 && d->symbols[i]) known(k, d->symbols[i], &d->dims[i]);
      if (d->dims[i] < 0 && open < 0) open = i;
      else if (d->dims[i] < 0)
        d->dims[i] = 1, rest *= 1;
      else if (__builtin_mul_overflow(rest, d->dims[i], &rest))
        return SD_ERR(USAGE, "input '%s' is too large", d->name);
    }
    if (open >= 0) d->dims[open] = rest ? count / rest : 0;
  }
  return settle_shape(k, d);
}

// One number of a list; *end is where it stops, `text` where there is none. Complex ones: 1.5, -2j, 1.5-2j.
static void read_number(const char *text, sd_dtype t, void *data, uint64_t i, char **end) {
  sd_dtype part = sd_dtype_part(t);
  *end = (char *)text;
  if (part != t) {
    double v[2] = {strtod(text, end), 0};
    if (*end != text && (**end == '+' || **end == '-')) v[1] = strtod(*end, end);
    else if (**end == 'j') v[1] = v[0], v[0] = 0;
    if (**end == 'j') ++*end;
    for (uint64_t k = 0; k < 2; k++) sd_dtype_set_f64(part, data, 2 * i + k, v[k]);
  } else if (sd_dtype_is_float(t)) {
    sd_dtype_set_f64(t, data, i, strtod(text, end));
  } else {
    long long v = strncmp(text, "true", 4) == 0    ? (*end += 4, 1)
                  : strncmp(text, "false", 5) == 0 ? (*end += 5, 0)
                                                   : strtoll(text, end, 10);
    sd_dtype_set_i64(t, data, i, v);
  }
}

static sard_status *make_list(maker *k, int i, const sard_tensor_desc *model, const char *text) {
  sard_tensor_desc d = *model;
  int64_t count = 1, need = 1;
  for (const char *p = text; *p; p++) count += *p == ',';
  SD_TRY(settle_list(k, &d, count));
  for (int j = 0; j < d.rank; j++)
    if (__builtin_mul_overflow(need, d.dims[j], &need)) return SD_ERR(USAGE, "input '%s' is too large", d.name);
  if (need != count)
    return sd_status_field(SD_ERR(USAGE, "--input: '%s' is %s and needs %lld numbers, %lld are given", d.name,
                                  sd_model_type(k->c, &d), (long long)need, (long long)count),
                           SARD_TEXT_HINT, "give its shape with --shape %s:..., or use @FILE, zeros, ones or random",
                           d.name);
  SD_TRY(sard_tensor_new(k->m->ctx, &d, &k->out->at[i]));
  void *data = sard_tensor_data(k->out->at[i], NULL);
  for (int64_t j = 0; j < count; j++) {
    char *end;
    bool whole = sd_dtype_is_int((sd_dtype)d.dtype) || d.dtype == SARD_BOOL;
    read_number(text, (sd_dtype)d.dtype, data, (uint64_t)j, &end);
    if (end == text || (*end && *end != ',')) {
      return sd_status_field(SD_ERR(USAGE, "--input: '%.20s' of input '%s' is no %s", text, d.name,
                                    whole ? "whole number" : "number"),
                             SARD_TEXT_HINT,
                             "write --input %s=@FILE, random, zeros, ones, or numbers separated by commas", d.name);
    }
    text = *end ? end + 1 : end;
  }
  return NULL;
}

static sard_status *read_file(maker *k, int i, const sard_tensor_desc *model, const char *path) {
  sard_tensor_desc d;
  SD_TRY(sd_value_read(k->m->ctx, path, model->dtype, &k->out->at[i]));
  sard_tensor_data(k->out->at[i], &d);
  int other = d.name && *d.name ? find_input(k, d.name) : i;
  if (other >= 0 && other != i)
    sd_cli_detail(k->c, "%s is used for input '%s', but the tensor in it is named '%s'", path, model->name, d.name);
  learn_from(k, model, &d);
  return NULL;
}

// DIR/input_I.pb, else DIR/NAME.npy (with '/' of the name as '_').
static const char *file_of(maker *k, const char *dir, int i, const char *name) {
  char *path = sd_files_path(k->c, dir, "input_%d.pb", i);
  if (sd_files_exists(path)) return path;
  if (!strchr(name, '/')) {
    path = sd_files_path(k->c, dir, "%s.npy", name);
    if (sd_files_exists(path)) return path;
  }
  char *flat = sd_arena_strdup(k->c->arena, name);
  for (char *p = flat; *p; p++)
    if (*p == '/' || *p == ':') *p = '_';
  path = sd_files_path(k->c, dir, "%s.npy", flat);
  return sd_files_exists(path) ? path : NULL;
}

static sard_status *missing(maker *k, const char *dir, int i, const sard_tensor_desc *d) {
  if (!sd_files_exists(dir)) return sd_status_errno("cannot read the folder", dir);
  sard_status *st = SD_ERR(IO, "'%s' has neither input_%d.pb nor %s.npy for input '%s' %s", dir, i, d->name, d->name,
                           sd_model_type(k->c, d));
  return sd_status_field(st, SARD_TEXT_HINT, "add the file, or give --input %s=random", d->name);
}

// What was said about an input: made here when it does not depend on sizes of others.
static sard_status *make_given(maker *k, int i) {
  const char *dir = sd_args_get(k->c, "inputs"), *value;
  sard_tensor_desc d;
  SD_TRY(input_desc(k, i, &d));
  SD_TRY(value_of(k, "input", '=', d.name, &value));
  if (value && *value == '@') return read_file(k, i, &d, value + 1);
  if (value && (strcmp(value, "random") == 0 || strcmp(value, "zeros") == 0 || strcmp(value, "ones") == 0))
    return NULL;
  if (value) return make_list(k, i, &d, value);
  if (!dir) return NULL;
  const char *path = file_of(k, dir, i, d.name);
  return path ? read_file(k, i, &d, path) : missing(k, dir, i, &d);
}

static sard_status *make_rest(maker *k, int i) {
  const char *value;
  sard_tensor_desc d;
  SD_TRY(input_desc(k, i, &d));
  SD_TRY(value_of(k, "input", '=', d.name, &value));
  filling how = value && strcmp(value, "zeros") == 0 ? ZEROS : value && strcmp(value, "ones") == 0 ? ONES : RANDOM;
  return make_filled(k, i, &d, how);
}

// Shapes given for one input say the sizes of symbols of the others.
static sard_status *learn_shapes(maker *k) {
  for (int i = 0; i < k->out->n; i++) {
    sard_tensor_desc d, given;
    const char *shape;
    SD_TRY(input_desc(k, i, &d));
    SD_TRY(value_of(k, "shape", ':', d.name, &shape));
    given = d;
    if (shape) SD_TRY(read_shape(shape, &given, d.name));
    if (shape) learn_from(k, &d, &given);
  }
  return NULL;
}

// --batch: the first symbol that is the first dim of an input which nothing was said about.
static sard_status *learn_batch(maker *k) {
  int64_t n, had;
  if (!sd_args_given(k->c, "batch")) return NULL;
  SD_TRY(sd_args_int(k->c, "batch", 1, 1 << 20, &n));
  for (int i = 0; i < k->out->n; i++) {
    sard_tensor_desc d;
    SD_TRY(input_desc(k, i, &d));
    const char *symbol = d.rank > 0 && d.dims[0] < 0 ? d.symbols[0] : NULL;
    if (k->out->at[i] || !symbol || !*symbol || known(k, symbol, &had)) continue;
    learn(k, symbol, n);
    return NULL;
  }
  if (!sd_args_given(k->c, "data"))
    sd_cli_note(k->c, "note: --batch %lld changes nothing: no input leaves its first dim open", (long long)n);
  return NULL;
}

static sard_status *make_all(maker *k) {
  SD_TRY(check_names(k, "input", '='));
  SD_TRY(check_names(k, "shape", ':'));
  SD_TRY(learn_flags(k));
  SD_TRY(learn_shapes(k));
  for (int i = 0; i < k->out->n; i++) SD_TRY(make_given(k, i));
  SD_TRY(learn_batch(k));
  for (int i = 0; i < k->out->n; i++)
    if (!k->out->at[i]) SD_TRY(make_rest(k, i));
  const char *dir = sd_args_get(k->c, "inputs");
  if (dir && sd_files_exists(sd_files_path(k->c, dir, "input_%d.pb", k->out->n)))
    sd_cli_detail(k->c, "'%s' has more files than the model has inputs (%d)", dir, k->out->n);
  if (k->ones.len == 0) return NULL;
  sd_str s = {0};
  for (uint32_t i = 0; i < k->ones.len; i++) sd_strf(&s, "%s%s", i ? ", " : "", k->ones.at[i]);
  sd_cli_note(k->c, "note: symbolic dims of size 1 here: %s (change with --dim NAME=N)", s.p ? s.p : "");
  sd_str_free(&s);
  return NULL;
}

sard_status *sd_inputs_make(sd_cli *c, const sd_cli_model *m, sd_cli_tensors *out) {
  maker k = {.c = c, .m = m, .out = out};
  out->n = sard_model_io_count(m->model, 0);
  out->at = SD_NEW_ARRAY(c->arena, sard_tensor *, out->n + 1);
  sard_status *st = make_all(&k);
  if (st) sd_inputs_free(out);
  return st;
}

sard_status *sd_inputs_rank(sd_cli *c, sard_context *ctx, uint32_t index, const char *name, int *out) {
  maker k = {.c = c};
  const char *dir = sd_args_get(c, "inputs"), *value, *path = NULL;
  sard_tensor *t = NULL;
  sard_tensor_desc d;
  SD_TRY(value_of(&k, "input", '=', name, &value));
  if (value && *value == '@') path = value + 1;
  else if (!value && dir) path = file_of(&k, dir, (int)index, name);
  if (!path) return NULL;
  SD_TRY(sd_tensor_read(ctx, path, &t));
  sard_tensor_data(t, &d);
  *out = d.rank;
  sard_tensor_free(t);
  return NULL;
}

void sd_inputs_free(sd_cli_tensors *t) {
  for (int i = 0; i < t->n; i++) {
    sard_tensor_free(t->at[i]);
    t->at[i] = NULL;
  }
}
