// Bookkeeping of the printer: lines, blocks of C and what they remember, dims, axes.
#include "codegen/cuda/print.h"

#include <stdarg.h>
#include <stdio.h>

#include "runtime/base/alloc.h"

void sd_print_fail(sd_print *P, sard_status *st) {
  if (!P->error) P->error = st;
  else
    sard_status_free(st);
}

// ---- text ----
const char *sd_print_text(sd_print *P, const char *fmt, ...) {
  char small[256];
  va_list ap;
  va_start(ap, fmt);
  int n = vsnprintf(small, sizeof small, fmt, ap);
  va_end(ap);
  if (n < (int)sizeof small) return sd_arena_strndup(P->a, small, (size_t)n);
  char *p = sd_arena_alloc(P->a, (size_t)n + 1);
  va_start(ap, fmt);
  vsnprintf(p, (size_t)n + 1, fmt, ap);
  va_end(ap);
  return p;
}

static void line(sd_print *P, const char *fmt, va_list ap, const char *end) {
  for (int i = 0; i < P->indent; i++) sd_str_put(&P->out, "  ");
  sd_str_vf(&P->out, fmt, ap);
  sd_str_put(&P->out, end);
}

void sd_print_line(sd_print *P, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  line(P, fmt, ap, "\n");
  va_end(ap);
}

static void enter(sd_print *P) {
  P->indent++;
  if (P->n_scope == P->scopes.len) sd_vec_push(P->a, &P->scopes, (sd_print_scope){0});
  sd_print_scope *s = &P->scopes.at[P->n_scope++];
  s->kept.len = s->held.len = 0;
}

void sd_print_open(sd_print *P, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  line(P, fmt, ap, " {\n");
  va_end(ap);
  enter(P);
}

void sd_print_block(sd_print *P) {
  sd_print_line(P, "{");
  enter(P);
}

void sd_print_close(sd_print *P) {
  sd_print_scope *s = &P->scopes.at[--P->n_scope];
  for (uint32_t i = 0; i < s->kept.len; i++) P->info[s->kept.at[i]].name = NULL;
  for (uint32_t i = 0; i < s->held.len; i++) P->info[s->held.at[i]].held = NULL;
  P->indent--;
  sd_print_line(P, "}");
}

const char *sd_print_fresh(sd_print *P, const char *stem) {
  return sd_print_text(P, "%s%u", stem, P->n_value++);
}

// ---- axes below expressions ----
static void join(sd_print *P, uint64_t *to, const uint64_t *from) {
  for (uint32_t w = 0; w < P->words; w++) to[w] |= from[w];
}

static const uint64_t *axes_of(sd_print *P, const sd_expr *e, int depth) {
  sd_print_info *x = &P->info[e->id];
  if (x->axes) return x->axes;
  x->axes = SD_NEW_ARRAY(P->a, uint64_t, P->words);
  if (depth > SD_PRINT_DEPTH) {
    sd_print_fail(P, SD_ERR(UNSUPPORTED, "kernel %s has an expression nested deeper than %d", P->k->name,
                            SD_PRINT_DEPTH));
    return x->axes;
  }
  if (e->op == SD_X_AXIS) x->axes[e->axis->id / 64] |= 1ull << e->axis->id % 64;
  for (uint32_t i = 0; i < e->n; i++)
    if (e->a[i]) join(P, x->axes, axes_of(P, e->a[i], depth + 1));
  for (uint32_t i = e->op == SD_X_REDUCE ? e->n_axes : 0;
       i-- > 0;) { // inner axes may be limited by outer ones
    x->axes[e->axes[i]->id / 64] &= ~(1ull << e->axes[i]->id % 64);
    if (e->axes[i]->limit) join(P, x->axes, axes_of(P, e->axes[i]->limit, depth + 1));
  }
  return x->axes;
}

// ---- what is remembered ----
void sd_print_keep(sd_print *P, const sd_expr *e, const char *name) {
  axes_of(P, e, 0);
  if (!P->info[e->id].name) sd_vec_push(P->a, &P->scopes.at[P->n_scope - 1].kept, e->id);
  P->info[e->id].name = name;
}

void sd_print_hold(sd_print *P, const sd_expr *e, const char *text) {
  sd_vec_push(P->a, &P->scopes.at[P->n_scope - 1].held, e->id);
  P->info[e->id].held = text;
}

static bool written(const sd_nest *n, const sd_buf *b) {
  for (uint32_t i = 0; i < n->stores.len; i++)
    if (n->stores.at[i].buf == b) return true;
  return false;
}

bool sd_print_rw(sd_print *P, const sd_expr *e) {
  sd_print_info *x = &P->info[e->id];
  if (x->rw_stamp == P->nest_stamp) return x->rw;
  x->rw_stamp = P->nest_stamp;
  x->rw = e->op == SD_X_LOAD && P->nest && written(P->nest, e->buf);
  for (uint32_t i = 0; i < e->n; i++)
    if (e->a[i] && sd_print_rw(P, e->a[i])) x->rw = true;
  return x->rw;
}

// Forgets the values for which `which` is true.
static void forget(sd_print *P, bool (*which)(const sd_print *P, const sd_print_info *x, const sd_axis *a),
                   const sd_axis *a) {
  for (uint32_t s = 0; s < P->n_scope; s++) {
    sd_print_scope *at = &P->scopes.at[s];
    for (uint32_t i = 0; i < at->kept.len;) {
      sd_print_info *x = &P->info[at->kept.at[i]];
      if (!which(P, x, a)) {
        i++;
        continue;
      }
      x->name = NULL;
      at->kept.at[i] = at->kept.at[--at->kept.len];
    }
  }
}

static bool reads_written(const sd_print *P, const sd_print_info *x, const sd_axis *a) {
  (void)a;
  return x->rw_stamp == P->nest_stamp && x->rw;
}
void sd_print_forget_written(sd_print *P) { forget(P, reads_written, NULL); }

static bool moves_with(const sd_print *P, const sd_print_info *x, const sd_axis *a) {
  (void)P;
  return x->axes[a->id / 64] >> a->id % 64 & 1;
}
void sd_print_forget_axis(sd_print *P, const sd_axis *a) { forget(P, moves_with, a); }
bool sd_print_ready(sd_print *P, const sd_expr *e) {
  const uint64_t *axes = axes_of(P, e, 0);
  for (uint32_t w = 0; w < P->words; w++)
    for (uint64_t bits = axes[w]; bits; bits &= bits - 1)
      if (!P->axis[w * 64 + (uint32_t)__builtin_ctzll(bits)]) return false;
  return true;
}

bool sd_print_uses(sd_print *P, const sd_expr *e, const sd_axis *a) {
  return axes_of(P, e, 0)[a->id / 64] >> a->id % 64 & 1;
}

// ---- dims ----
const char *sd_print_wide_dim(sd_print *P, sd_dim d) {
  int64_t v;
  if (sd_dim_is_const(P->k->dims, d, &v))
    return v == INT64_MIN ? "(-9223372036854775807LL - 1)" : sd_print_text(P, "%lldLL", (long long)v);
  return sd_print_dim(P, d);
}

const char *sd_print_dim(sd_print *P, sd_dim d) {
  int64_t v;
  if (sd_dim_is_const(P->k->dims, d, &v)) {
    if (v > INT32_MAX || v <= INT32_MIN) return sd_print_wide_dim(P, d);
    return sd_print_text(P, v < 0 ? "(%lld)" : "%lld", (long long)v);
  }
  uint32_t i = 0;
  while (i < P->dims.len && P->dims.at[i] != d) i++;
  if (i == P->dims.len) sd_vec_push(P->a, &P->dims, d);
  return sd_print_text(P, "d%u", i);
}

// ---- axes ----
const char *sd_print_index_type(bool small) { return small ? "unsigned" : "u64"; }

static bool small_dim(const sd_print *P, sd_dim d) {
  int64_t v;
  return sd_dim_is_const(P->k->dims, d, &v) && v <= INT32_MAX;
}

sd_dim sd_print_product(sd_print *P, const sd_axis *const *axes, uint32_t n) {
  sd_dim p = sd_dim_const(P->k->dims, 1);
  for (uint32_t i = 0; i < n; i++) p = sd_dim_mul(P->k->dims, p, axes[i]->extent);
  if (p != SD_DIM_NONE) return p;
  sd_print_fail(P, SD_ERR(UNSUPPORTED, "sizes of kernel %s overflow", P->k->name));
  return sd_dim_const(P->k->dims, 1);
}

const char *sd_print_count(sd_print *P, const sd_axis *const *axes, uint32_t n, bool *out_small) {
  sd_dim p = sd_print_product(P, axes, n);
  *out_small = small_dim(P, p);
  return sd_print_dim(P, p);
}

const char *sd_print_axis_type(sd_print *P, const sd_axis *a) { return small_dim(P, a->extent) ? "int" : "i64"; }

static void bind(sd_print *P, const sd_axis *a, const char *digit) {
  const char *name = sd_print_text(P, "a%u", a->id);
  sd_print_line(P, "const %s %s = %s;", sd_print_axis_type(P, a), name, digit);
  P->axis[a->id] = name;
}

void sd_print_bind_digits(sd_print *P, const sd_axis *const *axes, uint32_t n, const char *index,
                          bool small) {
  const char *rest = index, *type = sd_print_index_type(small);
  for (uint32_t i = n; i-- > 0;) {
    if (sd_dim_is(P->k->dims, axes[i]->extent, 1)) {
      bind(P, axes[i], "0");
      continue;
    }
    bool last = true; // all outer ones have one iteration
    for (uint32_t j = 0; j < i; j++) last &= sd_dim_is(P->k->dims, axes[j]->extent, 1);
    if (last) {
      bind(P, axes[i], rest);
      continue;
    }
    const char *size = sd_print_text(P, "(%s)%s", type, sd_print_dim(P, axes[i]->extent)),
               *next = sd_print_fresh(P, "q");
    sd_print_line(P, "const %s %s = %s / %s;", type, next, rest, size);
    bind(P, axes[i], sd_print_text(P, "%s - %s * %s", rest, next, size));
    rest = next;
  }
}

void sd_print_unbind(sd_print *P, const sd_axis *const *axes, uint32_t n) {
  for (uint32_t i = 0; i < n; i++) P->axis[axes[i]->id] = NULL;
}

const char *sd_print_limits(sd_print *P, const sd_axis *const *axes, uint32_t n) {
  const char *all = NULL;
  for (uint32_t i = 0; i < n; i++) {
    if (!axes[i]->limit) continue;
    const char *one = sd_print_text(P, "%s < %s", P->axis[axes[i]->id], sd_print_value(P, axes[i]->limit));
    all = all ? sd_print_text(P, "%s && %s", all, one) : one;
  }
  return all;
}

void sd_print_loop(sd_print *P, const sd_axis *a) {
  const char *end = sd_print_dim(P, a->extent), *name = sd_print_text(P, "a%u", a->id),
             *stop = sd_print_fresh(P, "end");
  const char *type = small_dim(P, a->extent) ? "int" : "i64";
  if (a->limit) end = sd_print_text(P, "(%s)sd_min<i64>(%s, %s)", type, end, sd_print_value(P, a->limit));
  sd_print_open(P, "for (%s %s = 0, %s = %s; %s < %s; %s++)", type, name, stop, end, name, stop, name);
  P->axis[a->id] = name;
}

void sd_print_loop_end(sd_print *P, const sd_axis *a) {
  P->axis[a->id] = NULL;
  sd_print_close(P);
}
