// Unique. Items of one element find their group in a table by their key; wider ones are sorted, and neighbours with equal
// keys make a group. So are the former where the table does badly, which data may be made for. A complex element is two.
#include <stdlib.h>
#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/host_ops.h"
#include "runtime/host_sort.h"
#include "runtime/host_table.h"

enum { FIRST_SIZE = 1024, MAX_PROBES = 128, CHUNK = 256 };

typedef struct unique {
  const sd_host_tensor *x;
  sd_dtype part;                       // type of an element, or of the parts of a complex one
  uint64_t outer, items, inner, width; // width = outer * inner elements of an item
  uint64_t *keys;                      // [items][width], for items of more elements
  sd_item *order;                      // what is sorted, and as much room again
  int64_t *group, *first, *count;      // of item; of group
  int64_t *rank;                       // position of a group in the result
  int64_t groups;
} unique;

static bool order_memory(unique *u, uint64_t n) {
  sd_free(u->order);
  u->order = sd_calloc(n + 1, 2 * sizeof *u->order);
  return u->order != NULL;
}

// ---- items of one element ----

static bool grow(sd_table *t) {
  sd_table more;
  bool ok = sd_table_make(&more, 2 * t->size);
  for (uint64_t i = 0; i < t->size && ok; i++) {
    if (t->at[i].value < 0) continue;
    sd_entry *e = sd_table_find(&more, t->at[i].key, MAX_PROBES);
    if (e) *e = t->at[i];
    else ok = false;
  }
  sd_free(ok ? t->at : more.at);
  if (ok) *t = more;
  return ok;
}

// Groups in the order of first occurrence; false when this does not work, or memory is short.
static bool group_by_table(unique *u, sd_table *t) {
  uint64_t key[CHUNK];
  for (uint64_t at = 0; at < u->items; at += CHUNK) {
    uint64_t n = u->items - at < CHUNK ? u->items - at : CHUNK;
    sd_host_keys(u->part, u->x->data, at, n, key);
    for (uint64_t i = 0; i < n; i++) {
      if ((uint64_t)u->groups * 2 >= t->size && !grow(t)) return false;
      sd_entry *e = sd_table_find(t, key[i], MAX_PROBES);
      if (!e) return false;
      if (e->value < 0) {
        *e = (sd_entry){key[i], u->groups};
        u->first[u->groups++] = (int64_t)(at + i);
      }
      u->group[at + i] = e->value;
      u->count[e->value]++;
    }
  }
  return true;
}

static bool rank_groups(unique *u, bool sorted) {
  uint64_t n = (uint64_t)u->groups;
  for (uint64_t g = 0; g < n; g++) u->rank[g] = (int64_t)g;
  if (!sorted) return true;
  if (!order_memory(u, n)) return false;
  for (uint64_t g = 0; g < n; g++) {
    u->order[g].at = (int64_t)g;
    sd_host_keys(u->part, u->x->data, (uint64_t)u->first[g], 1, &u->order[g].key);
  }
  sd_host_sort(u->order, u->order + n, n);
  for (uint64_t i = 0; i < n; i++) u->rank[u->order[i].at] = (int64_t)i;
  return true;
}

static bool group_elements(unique *u, bool sorted) {
  sd_table t;
  bool ok = sd_table_make(&t, FIRST_SIZE) && group_by_table(u, &t) && rank_groups(u, sorted);
  sd_free(t.at);
  if (!ok) memset(u->count, 0, u->items * sizeof *u->count), u->groups = 0;
  return ok;
}

// ---- items of any width ----

static const uint64_t *keys_of(const unique *u, int64_t item) { return u->keys + (uint64_t)item * u->width; }

static int compare_items(const void *a, const void *b, void *user) {
  const unique *u = user;
  const sd_item *i = a, *j = b;
  if (i->key != j->key) return i->key < j->key ? -1 : 1;
  const uint64_t *x = keys_of(u, i->at), *y = keys_of(u, j->at);
  for (uint64_t k = 1; k < u->width; k++)
    if (x[k] != y[k]) return x[k] < y[k] ? -1 : 1;
  return i->at < j->at ? -1 : i->at > j->at;
}

static bool same(const unique *u, const sd_item *a, const sd_item *b) {
  return a->key == b->key && !memcmp(keys_of(u, a->at), keys_of(u, b->at), u->width * sizeof *u->keys);
}

// The first key of an item stands with it.
static bool sort_items(unique *u) {
  uint64_t n = u->items, keys;
  if (!sd_ck_mul(n, u->width, &keys) || keys == UINT64_MAX || !order_memory(u, n)) return false;
  u->keys = sd_calloc(keys + 1, sizeof *u->keys);
  if (!u->keys) return false;
  for (uint64_t o = 0; o < u->outer; o++)
    for (uint64_t i = 0; i < n && u->inner; i++)
      sd_host_keys(u->part, u->x->data, (o * n + i) * u->inner, u->inner, u->keys + i * u->width + o * u->inner);
  for (uint64_t i = 0; i < n; i++) u->order[i] = (sd_item){u->width ? keys_of(u, (int64_t)i)[0] : 0, (int64_t)i};
  if (u->width == 1) sd_host_sort(u->order, u->order + n, n);
  else if (n) qsort_r(u->order, n, sizeof *u->order, compare_items, u);
  return true;
}

static bool group_items(unique *u, bool sorted) {
  if (!sort_items(u)) return false;
  for (uint64_t i = 0; i < u->items; i++) {
    int64_t item = u->order[i].at;
    if (!i || !same(u, &u->order[i], &u->order[i - 1])) u->first[u->groups++] = item; // equal items are sorted by position
    u->group[item] = u->groups - 1;
    u->count[u->groups - 1]++;
  }
  int64_t next = 0; // in the order of first occurrence
  for (int64_t g = 0; g < u->groups && sorted; g++) u->rank[g] = g;
  for (uint64_t i = 0; i < u->items && !sorted; i++)
    if (u->first[u->group[i]] == (int64_t)i) u->rank[u->group[i]] = next++;
  return true;
}

static bool find_groups(unique *u, bool sorted) {
  uint64_t tables;
  if (!sd_ck_mul(u->items, 4, &tables)) return false;
  u->group = sd_calloc(tables + 1, sizeof *u->group);
  if (!u->group) return false;
  u->first = u->group + u->items, u->count = u->first + u->items, u->rank = u->count + u->items;
  return (u->width == 1 && group_elements(u, sorted)) || group_items(u, sorted);
}

static sard_status *unique_outputs(sd_host_call *c, const unique *u, size_t size, int axis, bool flat) {
  int64_t dims[SD_HOST_RANK], n = u->groups, items = (int64_t)u->items;
  memcpy(dims, u->x->dims, sizeof dims);
  dims[axis] = n;
  SD_TRY(c->make(c, 0, flat ? &n : dims));
  for (uint32_t i = 1; i < c->n_out; i++) SD_TRY(c->make(c, i, i == 2 ? &items : &n));
  uint8_t *y = c->out[0].data;
  const uint8_t *x = u->x->data;
  for (uint64_t o = 0; o < u->outer; o++)
    for (int64_t g = 0; g < n && c->out[0].dtype && u->inner; g++)
      memcpy(y + (o * (uint64_t)n + (uint64_t)u->rank[g]) * u->inner * size, x + (o * u->items + (uint64_t)u->first[g]) * u->inner * size, u->inner * size);
  for (int64_t g = 0; g < n; g++) {
    if (c->n_out > 1 && c->out[1].dtype) ((int64_t *)c->out[1].data)[u->rank[g]] = u->first[g];
    if (c->n_out > 3 && c->out[3].dtype) ((int64_t *)c->out[3].data)[u->rank[g]] = u->count[g];
  }
  for (uint64_t i = 0; i < u->items && c->n_out > 2 && c->out[2].dtype; i++) ((int64_t *)c->out[2].data)[i] = u->rank[u->group[i]];
  return NULL;
}

sard_status *sd_host_unique(sd_host_call *c) {
  const sd_host_tensor *x = &c->in[0];
  bool flat = c->param[0] == SD_HOST_ABSENT;
  int axis = flat ? 0 : (int)(c->param[0] < 0 ? c->param[0] + x->rank : c->param[0]);
  unique u = {.x = x, .part = sd_dtype_part(x->dtype), .outer = 1, .inner = sd_dtype_parts(x->dtype), .items = x->count};
  size_t size;
  SD_TRY(sd_host_element_size(x, &size));
  size /= u.inner;
  if (!flat && (axis < 0 || axis >= x->rank)) return SD_ERR(MODEL, "axis %d of a tensor of rank %d", axis, x->rank);
  for (int d = 0; d < x->rank && !flat; d++)
    if (d == axis) u.items = (uint64_t)x->dims[d];
    else *(d < axis ? &u.outer : &u.inner) *= (uint64_t)x->dims[d];
  u.width = u.outer * u.inner;
  sard_status *st = NULL;
  if (!find_groups(&u, c->param[1] != 0)) st = SD_ERR(NOMEM, "out of memory for %llu elements", (unsigned long long)x->count);
  if (!st) st = unique_outputs(c, &u, size, axis, flat);
  sd_free(u.keys), sd_free(u.order), sd_free(u.group);
  return st;
}
