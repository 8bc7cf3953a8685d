// Lanes: neighbouring iterations of an axis side by side in a thread.
//
// What the lanes load from neighbouring elements becomes an array, filled by vector accesses; reductions
// become arrays of accumulators. A loop over the lanes, which the compiler of CUDA C unrolls so that arrays
// are registers, computes the rest.
#include "codegen/cuda/print.h"

#include "runtime/base/alloc.h"

int sd_print_array_length(const sd_buf *b, int count) {
  int bits = sd_dtype_bits(b->dtype);
  return bits < 8 ? count * bits / 8 : count;
}

// Index of an array of elements at `base`, in units of the array's.
static const char *array_index(sd_print *P, const sd_buf *b, const char *base) {
  int bits = sd_dtype_bits(b->dtype);
  return bits < 8 ? sd_print_text(P, "(i64)(%s) / %d", base, 8 / bits) : base;
}

const char *sd_print_array_element(sd_print *P, const sd_buf *b, const char *array, const char *first,
                                   int per) {
  int bits = sd_dtype_bits(b->dtype);
  const char *at = per == 1 ? "i" : sd_print_text(P, "i / %d", per);
  if (first) at = sd_print_text(P, bits < 8 ? "(%s + %s)" : "%s + %s", first, at);
  if (bits >= 8) return sd_print_text(P, "%s[%s]", array, at);
  return sd_print_text(P, "(u8)(%s[%s / %d] >> %s %% %d * %d & %d)", array, at, 8 / bits, at, 8 / bits, bits,
                       (1 << bits) - 1);
}

void sd_print_load_vector(sd_print *P, const sd_expr *e, sd_cuda_vector v, const char *array) {
  int n = sd_print_array_length(e->buf, v.count);
  const char *guard = e->a[1] ? sd_print_text(P, "if (%s) ", sd_print_value(P, e->a[1])) : "",
             *at = array_index(P, e->buf, sd_print_offset_base(P, e->a[0]));
  sd_print_line(P, "%ssd_load_vector<%d>(%s, b%u, %s);", guard, n, array, e->buf->id, at);
}

static void load_vector(sd_print *P, const sd_expr *e, sd_cuda_vector v) {
  const char *array = sd_print_fresh(P, "l");
  sd_print_line(P, "%s %s[%d]%s;", sd_print_storage(e->buf->dtype), array,
                sd_print_array_length(e->buf, v.count), e->a[1] ? " = {}" : "");
  sd_print_load_vector(P, e, v, array);
  sd_print_hold(P, e, sd_print_array_element(P, e->buf, array, NULL, v.per));
}

static void walk_inputs(sd_print *P, const sd_expr *e) {
  sd_print_info *x = &P->info[e->id];
  if (x->seen == P->stamp || x->name || x->held || e->op == SD_X_AXIS || e->op == SD_X_CONST) return;
  x->seen = P->stamp;
  if (!sd_print_uses(P, e, P->lane)) {
    if (e->op != SD_X_AFFINE && sd_print_ready(P, e)) sd_print_value(P, e);
    return;
  }
  bool ready = sd_print_ready(P, e);
  if (ready && e->op == SD_X_LOAD && !(e->a[1] && sd_print_uses(P, e->a[1], P->lane))) {
    sd_cuda_vector v = sd_cuda_vector_of(P->k, e->buf, e->a[0], P->lane, NULL);
    if (v.count) {
      load_vector(P, e, v);
      return;
    }
  }
  if (e->op == SD_X_REDUCE && P->no_reductions) return;
  if (ready && e->op == SD_X_REDUCE) {
    uint32_t stamp = P->stamp; // its own walks need another one
    sd_print_hold(P, e, sd_print_text(P, "%s[i]", sd_print_lane_reduce(P, e)));
    P->stamp = stamp;
    return;
  }
  for (uint32_t i = 0; i < e->n; i++)
    if (e->a[i]) walk_inputs(P, e->a[i]);
}

void sd_print_lane_inputs(sd_print *P, const sd_expr *e) {
  uint32_t outer = P->stamp;
  P->stamp = ++P->n_stamp;
  walk_inputs(P, e);
  P->stamp = outer;
}

void sd_print_lane_open(sd_print *P) {
  sd_print_line(P, "#pragma unroll");
  sd_print_open(P, "for (int i = 0; i < %d; i++)", P->lanes);
}

void sd_print_lane_sums(sd_print *P, const sd_expr *e, const char *acc) {
  sd_print_line(P, "%s %s[%d];", sd_print_ctype(e->dtype), acc, P->lanes);
  sd_print_lane_open(P);
  sd_print_line(P, "%s[i] = %s;", acc, sd_print_identity(P, e));
  sd_print_close(P);
}

const char *sd_print_lane_reduce(sd_print *P, const sd_expr *e) {
  const char *acc = sd_print_fresh(P, "r"), *lane = sd_print_text(P, "%s[i]", acc);
  sd_print_lane_inputs(P, e->a[0]); // what the loops do not move with
  sd_print_lane_sums(P, e, acc);
  for (uint32_t i = 0; i < e->n_axes; i++) sd_print_loop(P, e->axes[i]);
  sd_print_lane_inputs(P, e->a[0]);
  sd_print_lane_open(P);
  const char *next = sd_print_accumulate(P, e, e->a[0], lane);
  sd_print_line(P, "%s = %s;", lane, next);
  sd_print_close(P);
  for (uint32_t i = e->n_axes; i-- > 0;) sd_print_loop_end(P, e->axes[i]);
  return acc;
}

// ---- steps that threads share ----
sd_print_steps sd_print_open_steps(sd_print *P, sd_dim steps, const char *first, int step, int most) {
  int64_t n = 0;
  const char *count = sd_print_dim(P, steps), *q = sd_print_fresh(P, "q");
  bool known = sd_dim_is_const(P->k->dims, steps, &n), small = known && n <= INT32_MAX - step;
  const char *t = sd_print_index_type(small);
  if (!small || n <= 0) {
    sd_print_line(P, "#pragma unroll %d", most);
    sd_print_open(P, "for (%s %s = %s; %s < (%s)%s; %s += %d)", t, q, first, q, t, count, q, step);
    return (sd_print_steps){q, small, 1};
  }
  // a number of turns that the compiler knows: all loads of an unrolled part are under way at once
  int64_t turns = (n + step - 1) / step, u = most;
  while (turns > most && u > most / 2 && turns % u) u--;
  if (turns > most && turns % u) u = most;
  const char *s = sd_print_fresh(P, "t");
  sd_print_line(P, "#pragma unroll %lld", (long long)(turns < u ? turns : u));
  sd_print_open(P, "for (int %s = 0; %s < %lld; %s++)", s, s, (long long)turns, s);
  sd_print_line(P, "const %s %s = %s + %s * %d;", t, q, first, s, step);
  if (n % step == 0) return (sd_print_steps){q, small, 1};
  sd_print_open(P, "if (%s < %lld || %s < %lldu)", s, (long long)turns - 1, q, (long long)n);
  return (sd_print_steps){q, small, 2};
}

void sd_print_close_steps(sd_print *P, sd_print_steps s) {
  for (int i = 0; i < s.blocks; i++) sd_print_close(P);
}

// ---- an axis that each thread computes as a whole ----
int sd_print_many(sd_print *P, const sd_cuda_nest *n) {
  int64_t u = 1;
  if (n->many) sd_dim_is_const(P->k->dims, n->many->extent, &u);
  return (int)u;
}

void sd_print_open_many(sd_print *P, const sd_cuda_nest *n) {
  if (!n->many) return;
  sd_print_line(P, "#pragma unroll");
  sd_print_open(P, "for (int u = 0; u < %d; u++)", sd_print_many(P, n));
  P->axis[n->many->id] = "u";
}

void sd_print_close_many(sd_print *P, const sd_cuda_nest *n) {
  if (!n->many) return;
  P->axis[n->many->id] = NULL;
  sd_print_close(P);
}

static void print_phases(sd_print *P, const sd_cuda_nest *n, const sd_expr *e, sd_print_phase_fn reduce,
                         uint8_t *seen) {
  if (seen[e->id]) return;
  seen[e->id] = 1;
  for (uint32_t i = 0; i < e->n; i++)
    if (e->a[i]) print_phases(P, n, e->a[i], reduce, seen);
  for (uint32_t i = 0; i < n->n_phases; i++)
    if (n->phases[i].reduce == e) reduce(P, n, e);
}

void sd_print_phases(sd_print *P, const sd_cuda_nest *n, sd_print_phase_fn reduce) {
  uint8_t *seen = SD_NEW_ARRAY(P->a, uint8_t, P->k->n_expr + 1);
  for (uint32_t i = 0; i < P->nest->stores.len; i++) {
    const sd_store *s = &P->nest->stores.at[i];
    print_phases(P, n, s->value, reduce, seen), print_phases(P, n, s->offset, reduce, seen);
    if (s->guard) print_phases(P, n, s->guard, reduce, seen);
  }
}

// ---- stores ----
typedef struct vector_store {
  const char *array; // NULL: each lane stores for itself
  sd_cuda_vector v;
} vector_store;

static vector_store begin_store(sd_print *P, const sd_store *s) {
  vector_store o = {NULL, {0, 0}};
  if (!s->guard) o.v = sd_cuda_vector_of(P->k, s->buf, s->offset, P->lane, NULL);
  if (o.v.per != 1) return o;
  int bits = sd_dtype_bits(s->buf->dtype);
  o.array = sd_print_fresh(P, "w");
  sd_print_line(P, "%s %s[%d]%s;", sd_print_storage(s->buf->dtype), o.array,
                sd_print_array_length(s->buf, o.v.count), bits < 8 ? " = {}" : "");
  return o;
}

static void store_lane(sd_print *P, const sd_store *s, const vector_store *o) {
  int bits = sd_dtype_bits(s->buf->dtype);
  if (!o->array) {
    sd_print_store(P, s);
    return;
  }
  const char *v = sd_print_stored(P, s->value, s->buf->dtype);
  if (bits >= 8) sd_print_line(P, "%s[i] = %s;", o->array, v);
  else
    sd_print_line(P, "%s[i / %d] |= ((unsigned)(%s) & %d) << i %% %d * %d;", o->array, 8 / bits, v,
                  (1 << bits) - 1, 8 / bits, bits);
}

void sd_print_lane_stores(sd_print *P) {
  uint32_t n = P->nest->stores.len;
  vector_store *o = SD_NEW_ARRAY(P->a, vector_store, n + 1);
  for (uint32_t i = 0; i < n; i++) {
    const sd_store *s = &P->nest->stores.at[i];
    if (s->guard) sd_print_lane_inputs(P, s->guard);
    sd_print_lane_inputs(P, s->offset);
    sd_print_lane_inputs(P, s->value);
    o[i] = begin_store(P, s);
  }
  sd_print_lane_open(P);
  for (uint32_t i = 0; i < n; i++) store_lane(P, &P->nest->stores.at[i], &o[i]);
  sd_print_close(P);
  for (uint32_t i = 0; i < n; i++) {
    const sd_store *s = &P->nest->stores.at[i];
    if (o[i].array)
      sd_print_line(P, "sd_store_vector<%d>(b%u, %s, %s);", sd_print_array_length(s->buf, o[i].v.count),
                    s->buf->id, array_index(P, s->buf, sd_print_offset_base(P, s->offset)), o[i].array);
  }
}
