// Rows: a group of threads, a warp or a block, shares the reductions of a row; then its points.
//
// Held rows: what several phases of a row (its reductions in their order, and the stores) need of a point is
// kept in registers from the first of them on, so that memory is read once. Which values those are is read
// off the expressions: the largest ones that occur in more than one phase.
#include "codegen/cuda/print.h"

#include "runtime/base/alloc.h"

typedef struct holding {
  const sd_expr *e;
  const char *array;
  sd_cuda_vector v; // of a load that is a vector; count 0: any other value, or an element
  uint32_t from;    // first phase
} holding;

typedef struct held_row {
  sd_print *P;
  const sd_cuda_nest *n;
  const sd_cuda_phase *order[SD_CUDA_PHASES];
  uint32_t n_order;
  uint32_t *first; // by expression id: 1 + the first phase in which it occurs
  uint8_t *seen;
  SD_VEC(holding) held;
  uint32_t phase;
  const char *columns; // vectors of a row
} held_row;

// ---- what is held ----
static bool moves(const held_row *h, const sd_expr *e) {
  return sd_print_uses(h->P, e, h->n->lane) || sd_print_uses(h->P, e, h->n->across);
}

static void note_first(held_row *h, const sd_expr *e) {
  if (h->seen[e->id] || e->op == SD_X_REDUCE) return;
  h->seen[e->id] = 1;
  if (!h->first[e->id]) h->first[e->id] = h->phase + 1;
  for (uint32_t i = 0; i < e->n; i++)
    if (e->a[i]) note_first(h, e->a[i]);
}

static void hold(held_row *h, const sd_expr *e) {
  holding x = {.e = e, .from = h->first[e->id] - 1};
  for (uint32_t i = 0; i < h->held.len; i++)
    if (h->held.at[i].e == e) return;
  if (e->op == SD_X_LOAD && !(e->a[1] && moves(h, e->a[1])))
    x.v = sd_cuda_vector_of(h->P->k, e->buf, e->a[0], h->n->lane, NULL);
  sd_vec_push(h->P->a, &h->held, x);
}

static void find_shared(held_row *h, const sd_expr *e) {
  if (h->seen[e->id] || e->op == SD_X_REDUCE || !moves(h, e)) return;
  h->seen[e->id] = 1;
  bool index = e->dtype == SD_I64 && e->op != SD_X_LOAD, trivial = e->op == SD_X_CONST || e->op == SD_X_AXIS;
  if (!index && !trivial && e->dtype != SD_BOOL && h->first[e->id] && h->first[e->id] <= h->phase) {
    hold(h, e);
    return;
  }
  if (e->op == SD_X_LOAD) return;
  for (uint32_t i = 0; i < e->n; i++)
    if (e->a[i]) find_shared(h, e->a[i]);
}

static void each_root(held_row *h, void (*fn)(held_row *h, const sd_expr *e)) {
  memset(h->seen, 0, h->P->k->n_expr + 1);
  if (h->phase < h->n_order) {
    fn(h, h->order[h->phase]->body);
    return;
  }
  for (uint32_t i = 0; i < h->P->nest->stores.len; i++) {
    const sd_store *s = &h->P->nest->stores.at[i];
    fn(h, s->value), fn(h, s->offset);
    if (s->guard) fn(h, s->guard);
  }
}

// ---- the order of the reductions: those that another one needs come before it ----
static void put_in_order(held_row *h, const sd_expr *e) {
  if (h->seen[e->id]) return;
  h->seen[e->id] = 1;
  for (uint32_t i = 0; e->op == SD_X_REDUCE && i < h->n->n_phases; i++) {
    const sd_cuda_phase *p = &h->n->phases[i];
    if (p->reduce != e) continue;
    put_in_order(h, p->body);
    h->order[h->n_order++] = p;
    return;
  }
  for (uint32_t i = 0; i < e->n; i++)
    if (e->a[i]) put_in_order(h, e->a[i]);
}

static void prepare(held_row *h) {
  const sd_kernel *k = h->P->k;
  h->first = SD_NEW_ARRAY(h->P->a, uint32_t, k->n_expr + 1),
  h->seen = SD_NEW_ARRAY(h->P->a, uint8_t, k->n_expr + 1);
  h->phase = SD_CUDA_PHASES;
  each_root(h, put_in_order);
  for (h->phase = 0; h->phase <= h->n_order; h->phase++) {
    each_root(h, note_first);
    each_root(h, find_shared);
  }
}

// ---- text ----
static void declare(held_row *h) {
  sd_print *P = h->P;
  for (uint32_t i = 0; i < h->held.len; i++) {
    holding *x = &h->held.at[i];
    if (x->from != h->phase) continue;
    int count = x->v.count ? sd_print_array_length(x->e->buf, x->v.count) : h->n->vec;
    const char *type =
        x->e->op == SD_X_LOAD ? sd_print_storage(x->e->buf->dtype) : sd_print_ctype(x->e->dtype);
    x->array = sd_print_fresh(P, "h");
    sd_print_line(P, "%s %s[%d];", type, x->array, h->n->chunks * count);
  }
}

static void open_chunks(held_row *h) {
  sd_print *P = h->P;
  const sd_cuda_nest *n = h->n;
  int64_t columns = 0;
  sd_dim_is_const(P->k->dims, n->across->extent, &columns);
  sd_print_line(P, "#pragma unroll");
  sd_print_open(P, "for (int c = 0; c < %d; c++)", n->chunks);
  P->axis[n->across->id] = sd_print_text(P, "a%u", n->across->id);
  sd_print_line(P, "const int a%u = c * %d + (int)lane;", n->across->id, n->group);
  if (columns == (int64_t)n->chunks * n->group) sd_print_block(P);
  else
    sd_print_open(P, "if (c < %d || a%u < %lld)", n->chunks - 1, n->across->id, (long long)columns);
  for (uint32_t i = 0; i < h->held.len; i++) {
    const holding *x = &h->held.at[i];
    if (x->from != h->phase || !x->v.count) continue;
    int count = sd_print_array_length(x->e->buf, x->v.count);
    const char *at = sd_print_text(P, "%s + c * %d", x->array, count);
    sd_print_load_vector(P, x->e, x->v, at);
    P->info[x->e->id].held =
        sd_print_array_element(P, x->e->buf, x->array, sd_print_text(P, "c * %d", x->v.count), x->v.per);
  }
}

static void close_chunks(held_row *h) {
  sd_print_close(h->P);
  sd_print_close(h->P);
}

// Inside of the loop over lanes: values that are held from this phase on.
static void keep_values(held_row *h) {
  sd_print *P = h->P;
  for (uint32_t i = 0; i < h->held.len; i++) {
    const holding *x = &h->held.at[i];
    if (x->from != h->phase || x->v.count) continue;
    const char *v = x->e->op == SD_X_LOAD ? sd_print_raw(P, x->e) : sd_print_value(P, x->e);
    sd_print_line(P, "%s[c * %d + i] = %s;", x->array, h->n->vec, v);
  }
}

static void reduce_phase(held_row *h) {
  sd_print *P = h->P;
  const sd_expr *e = h->order[h->phase]->reduce, *body = h->order[h->phase]->body;
  const char *acc = sd_print_fresh(P, "r"), *lane = sd_print_text(P, "%s[i]", acc);
  declare(h);
  sd_print_lane_sums(P, e, acc);
  open_chunks(h);
  sd_print_lane_inputs(P, body);
  sd_print_lane_open(P);
  const char *next = sd_print_accumulate(P, e, body, lane);
  sd_print_line(P, "%s = %s;", lane, next);
  keep_values(h);
  sd_print_close(P);
  close_chunks(h);
  for (uint32_t i = 0; i < h->held.len; i++) {
    const holding *x = &h->held.at[i];
    if (x->from == h->phase && !x->v.count)
      P->info[x->e->id].held = sd_print_text(P, "%s[c * %d + i]", x->array, h->n->vec);
  }
  sd_print_keep(P, e, sd_print_group_reduce(P, e, acc, P->lanes, h->n->group));
}

// Around stores: threads of a part of a warp may repeat a row.
static void open_inside(sd_print *P, const sd_cuda_nest *n) {
  if (n->group < SD_CUDA_WARP) sd_print_open(P, "if (inside)");
}

static void close_inside(sd_print *P, const sd_cuda_nest *n) {
  if (n->group < SD_CUDA_WARP) sd_print_close(P);
}

static void held_row_text(sd_print *P, const sd_cuda_nest *n) {
  held_row h = {.P = P, .n = n};
  sd_print_with_lanes(P, n->lane);
  prepare(&h);
  for (h.phase = 0; h.phase < h.n_order; h.phase++) reduce_phase(&h);
  bool columns = n->nest->n_axes > n->n_rows;
  if (columns) {
    open_inside(P, n);
    open_chunks(&h);
    sd_print_lane_stores(P);
    close_chunks(&h);
    close_inside(P, n);
  }
  for (uint32_t i = 0; i < h.held.len; i++) P->info[h.held.at[i].e->id].held = NULL;
  P->axis[n->across->id] = NULL;
  sd_print_without_lanes(P);
  if (columns) return;
  open_inside(P, n);
  sd_print_open(P, "if (lane == 0)");
  sd_print_stores(P);
  sd_print_close(P);
  close_inside(P, n);
}

// ---- rows that are read for each reduction ----
static void reductions(sd_print *P) {
  for (uint32_t i = 0; i < P->nest->stores.len; i++) {
    const sd_store *s = &P->nest->stores.at[i];
    if (s->guard) sd_print_reductions(P, s->guard);
    sd_print_reductions(P, s->offset);
    sd_print_reductions(P, s->value);
  }
}

static void read_row(sd_print *P, const sd_cuda_nest *n, const sd_axis *const *columns, uint32_t n_columns,
                     bool lanes) {
  P->group = n->group;
  reductions(P);
  P->group = 0;
  open_inside(P, n);
  if (lanes) sd_print_with_lanes(P, n->lane);
  sd_print_points(P, columns, n_columns, "lane", sd_print_text(P, "%d", n->group));
  if (lanes) sd_print_without_lanes(P);
  close_inside(P, n);
}

// ---- several rows together ----
static void reduce_many(sd_print *P, const sd_cuda_nest *n, const sd_expr *e) {
  const sd_axis *const *axes = (const sd_axis *const *)e->axes, *last = axes[e->n_axes - 1];
  int vec = last->vec > 0 ? last->vec : 1, each = vec < 4 ? vec : 4, many = sd_print_many(P, n);
  uint32_t n_axes = e->n_axes - (last->vec > 0);
  const char *acc = sd_print_fresh(P, "r"), *sums = sd_print_fresh(P, "s"), *type = sd_print_ctype(e->dtype);
  const char *one = sd_print_text(P, vec > 1 ? "%s[u * %d + i %% %d]" : "%s[u]", acc, each, each);
  sd_print_line(P, "%s %s[%d], %s[%d];", type, acc, many * each, sums, many);
  sd_print_line(P, "#pragma unroll");
  sd_print_line(P, "for (int i = 0; i < %d; i++) %s[i] = %s;", many * each, acc, sd_print_identity(P, e));
  sd_print_steps loop =
      sd_print_open_steps(P, sd_print_product(P, axes, n_axes), "lane", n->group, many * vec > 32 ? 2 : 4);
  sd_print_bind_digits(P, axes, n_axes, loop.index, loop.small);
  if (vec > 1) sd_print_with_lanes(P, last), sd_print_lane_inputs(P, e->a[0]); // what serves all rows
  sd_print_open_many(P, n);
  if (vec > 1) sd_print_lane_inputs(P, e->a[0]), sd_print_lane_open(P);
  const char *next = sd_print_accumulate(P, e, e->a[0], one);
  sd_print_line(P, "%s = %s;", one, next);
  if (vec > 1) sd_print_close(P);
  sd_print_close_many(P, n);
  if (vec > 1) sd_print_without_lanes(P);
  sd_print_unbind(P, axes, n_axes);
  sd_print_close_steps(P, loop);
  sd_print_open_many(P, n);
  const char *s = sd_print_group_reduce(P, e, sd_print_text(P, "%s + u * %d", acc, each), each, n->group);
  sd_print_line(P, "%s[u] = %s;", sums, s);
  sd_print_close_many(P, n);
  sd_print_hold(P, e, sd_print_text(P, "%s[u]", sums));
}

static void many_row(sd_print *P, const sd_cuda_nest *n) {
  sd_print_phases(P, n, reduce_many);
  sd_print_open(P, "if (lane == 0)");
  sd_print_open_many(P, n);
  sd_print_stores(P);
  sd_print_close_many(P, n);
  sd_print_close(P);
}

// ---- all rows ----
static void all_rows(sd_print *P, const sd_cuda_nest *n, const sd_axis *const *axes, bool plain,
                     const char *first, const char *step) {
  bool small, columns_small;
  int64_t columns;
  const char *count = sd_print_count(P, axes, n->n_rows, &small);
  const sd_axis *const *rest = axes + n->n_rows;
  uint32_t n_rest = n->nest->n_axes - n->n_rows;
  const char *wide = sd_print_count(P, rest, n_rest, &columns_small);
  bool some = sd_dim_is_const(P->k->dims, sd_print_product(P, rest, n_rest), &columns) && columns > 0;
  if (!some) sd_print_open(P, "if (%s > 0)", wide); // of rows without points nothing may be read
  const char *row = sd_print_range(P, first, count, step, small);
  if (n->group < SD_CUDA_WARP) { // all threads of a warp exchange: those behind the last row repeat it
    const char *t = sd_print_index_type(small);
    sd_print_line(P, "const bool inside = %s + threadIdx.x %% %d / %d < (%s)%s;", row, SD_CUDA_WARP, n->group,
                  t, count);
    row = sd_print_text(P, "(inside ? %s + threadIdx.x %% %d / %d : (%s)%s - 1)", row, SD_CUDA_WARP, n->group,
                        t, count);
  }
  sd_print_bind_digits(P, axes, n->n_rows, row, small);
  const char *limits = sd_print_limits(P, axes, n->n_rows);
  if (limits) sd_print_open(P, "if (%s)", limits);
  if (n->chunks && !plain) held_row_text(P, n);
  else if (n->many)
    many_row(P, n);
  else
    read_row(P, n, rest, n_rest, n->lane && !plain);
  if (limits) sd_print_close(P);
  sd_print_unbind(P, axes, n->n_rows);
  sd_print_close(P);
  if (!some) sd_print_close(P);
}

void sd_print_rows(sd_print *P, const sd_cuda_nest *n, const char *first, const char *step) {
  if (!n->n_tests) {
    all_rows(P, n, n->axes, false, first, step);
    return;
  }
  const sd_axis *axes[SD_MAX_AXES];
  for (uint32_t i = 0; i < n->nest->n_axes; i++) axes[i] = n->axes[i];
  if (n->plain_axis) axes[n->nest->n_axes - 1] = n->plain_axis;
  sd_print_open(P, "if (%s)", sd_print_lane_test(P, n));
  all_rows(P, n, n->axes, false, first, step);
  sd_print_close(P);
  P->nest = n->plain;
  sd_print_open(P, "else");
  all_rows(P, n, axes, true, first, step);
  sd_print_close(P);
}
