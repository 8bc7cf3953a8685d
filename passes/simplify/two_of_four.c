// Products whose weights keep two of four: see two_of_four.h. Values and places are packed once, here.
#include "passes/simplify/two_of_four.h"

#include "ir/two_of_four.h"
#include "passes/edit.h"
#include "runtime/base/alloc.h"

#define LEAST_ROWS 16 // of the result, where sizes are open guessed: fewer are not multiplied by tensor cores

// A weight [n, k]: element (o, i) stands at o * by_n + i * by_k.
typedef struct weight {
  const sd_const *c;
  const uint8_t *data;
  int64_t n, k, by_n, by_k;
  int bytes; // of an element
} weight;

static bool matrix(const sd_node *n, weight *w) {
  static const char *const products[] = {"MatMul", "sard.MatMul8", "Gemm", NULL};
  if (!sd_edit_one_of(n, products) || w->c->rank != 2 || n->in[0]->rank < 2) return false;
  int64_t r = w->c->dims[0], c = w->c->dims[1];
  bool rows = sd_node_int(n, "transB", 0) != 0; // [N,K]
  w->n = rows ? r : c, w->k = rows ? c : r, w->by_n = rows ? c : 1, w->by_k = rows ? 1 : c;
  return true;
}

static bool window(const sd_node *n, weight *w) {
  static const char *const convolutions[] = {"Conv", "sard.Conv8", NULL};
  if (!sd_edit_one_of(n, convolutions) || sd_node_int(n, "channels_last", 0) != 2 || sd_node_int(n, "group", 1) != 1) return false;
  w->n = w->c->dims[0], w->by_k = 1, w->k = 1;
  for (int i = 1; i < w->c->rank; i++) w->k *= w->c->dims[i];
  w->by_n = w->k;
  return w->c->dims[w->c->rank - 1] % SD_PLACES_STEPS == 0;
}

static bool fits(const sd_node *n, weight *w) {
  const sd_value *v = n->n_in > 1 ? n->in[1] : NULL;
  if (!v || !v->data || !sd_edit_only_use(v)) return false;
  bool float16 = v->dtype == SD_F16 || v->dtype == SD_BF16, byte = v->dtype == SD_I8 || v->dtype == SD_U8;
  if (!float16 && !byte) return false;
  *w = (weight){.c = v->data, .data = v->data->data, .bytes = float16 ? 2 : 1};
  if (!matrix(n, w) && !window(n, w)) return false;
  return w->k > 0 && w->n > 0 && w->k % SD_PLACES_STEPS == 0 && sd_edit_rows(n) >= LEAST_ROWS;
}

static const uint8_t *element(const weight *w, int64_t o, int64_t i) { return w->data + (o * w->by_n + i * w->by_k) * w->bytes; }

// The bits; of a float -0 is 0 too.
static unsigned bits(const weight *w, int64_t o, int64_t i) {
  const uint8_t *p = element(w, o, i);
  return w->bytes == 1 ? p[0] : (p[0] | (p[1] & 0x7fu) << 8);
}

// Places of the two of four steps from i on; false: there are more. Of fewer any are taken, so that the first is in front.
static bool two_of(const weight *w, int64_t o, int64_t i, int *first, int *second) {
  int at[4] = {0}, count = 0;
  for (int j = 0; j < 4; j++)
    if (bits(w, o, i + j)) at[count++] = j;
  if (count > 2) return false;
  if (count < 2) at[0] = at[0] < 2 ? at[0] : 2, at[1] = at[0] + 1;
  *first = at[0], *second = at[1];
  return true;
}

static bool is_so(const weight *w) {
  int ignored;
  for (int64_t o = 0; o < w->n; o++)
    for (int64_t i = 0; i < w->k; i += 4)
      if (!two_of(w, o, i, &ignored, &ignored)) return false;
  return true;
}

static void pack(const weight *w, uint8_t *values, uint16_t *places, int64_t row) {
  for (int64_t o = 0; o < w->n; o++) {
    uint8_t *to = values + o * (w->k / 2) * w->bytes;
    for (int64_t i = 0; i < w->k; i += 4) {
      int first = 0, second = 1;
      two_of(w, o, i, &first, &second);
      memcpy(to, element(w, o, i + first), (size_t)w->bytes), memcpy(to + w->bytes, element(w, o, i + second), (size_t)w->bytes);
      to += 2 * w->bytes;
      places[o * row + i / SD_PLACES_STEPS] |= (uint16_t)((first | second << 2) << i / 4 % 4 * 4);
    }
  }
}

static sard_status *replace(sd_node *n, const weight *w) {
  sd_graph *g = n->graph;
  sd_arena *a = g->module->arena;
  int64_t dims[SD_MAX_RANK], row = sd_ceil_div(w->k / SD_PLACES_STEPS, SD_PLACES_ROW) * SD_PLACES_ROW, of_places[2] = {w->n, row};
  bool conv = w->c->rank > 2;
  int rank = w->c->rank;
  for (int i = 0; i < rank; i++) dims[i] = conv ? w->c->dims[i] : i == 0 ? w->n : w->k;
  dims[rank - 1] /= 2;
  uint8_t *values = SD_NEW_ARRAY(a, uint8_t, (size_t)w->c->count / 2 * (size_t)w->bytes);
  uint16_t *places = SD_NEW_ARRAY(a, uint16_t, (size_t)(w->n * row));
  pack(w, values, places, row);
  const sd_value *old = n->in[1];
  sd_value *in[2] = {sd_value_const(g, old->name, old->dtype, rank, dims, values), sd_value_const(g, "", SD_U16, 2, of_places, places)};
  const sd_op *op = sd_op_find("sard.TwoOfFour");
  if (!in[0] || !in[1] || !op) return SD_ERR(INTERNAL, "weights without zeros cannot be made");
  sd_node *y = sd_node_new(g, n, op, in, 2, 1);
  y->name = n->name, y->onnx_index = n->onnx_index;
  SD_TRY(sd_node_infer(y));
  y->out[0]->name = old->name;
  sd_node_set_input(n, 1, y->out[0]);
  if (!conv) sd_node_set_int(n, "transB", 1);
  sd_const_release(g->module, w->c, true);
  return NULL;
}

sard_status *sd_two_of_four(sd_node *n, bool *done) {
  weight w;
  *done = fits(n, &w) && is_so(&w);
  return *done ? replace(n, &w) : NULL;
}
