// ImageDecoder: a host function decodes the bytes; height and width are known when it has run.
#include <string.h>

#include "ir/ops.h"
#include "ir/ops/xgraph.h"

static const char *const orders[] = {"RGB", "BGR", "Grayscale"};
enum { GRAY = 2, N_ORDERS = 3 };

static sard_status *image_type(sd_node *n, int64_t order) {
  sd_dimtab *t = sd_sh_tab(n);
  SD_TRY(sd_sh_rank(n, 0, 1, 1));
  if (n->in[0]->dtype != SD_U8) return SD_SH_ERR(n, MODEL, "an encoded image is a tensor of u8");
  sd_dim dims[3] = {sd_sh_late(n, 0, 0, "height"), sd_sh_late(n, 0, 1, "width"), sd_dim_const(t, order == GRAY ? 1 : 3)};
  for (int d = 0; d < 2; d++) sd_dim_set_range(t, dims[d], 1, INT32_MAX);
  return sd_sh_set(n, 0, SD_U8, 3, dims);
}

static sard_status *find_order(const sd_node *n, int64_t *out) {
  const char *name = sd_node_str(n, "pixel_format", "RGB");
  for (*out = 0; *out < N_ORDERS; ++*out)
    if (strcmp(orders[*out], name) == 0) return NULL;
  return SD_SH_ERR(n, MODEL, "pixel_format is '%s'; RGB, BGR and Grayscale are known", name);
}

sard_status *sd_shape_decode_image(sd_node *n) {
  int64_t order = sd_node_int(n, "order", 0);
  if (order < 0 || order >= N_ORDERS) return SD_SH_ERR(n, MODEL, "order is %lld", (long long)order);
  return image_type(n, order);
}

sard_status *sd_shape_image_decoder(sd_node *n) {
  int64_t order;
  SD_TRY(find_order(n, &order));
  return image_type(n, order);
}

sard_status *sd_rewrite_image_decoder(sd_node *n) {
  int64_t order;
  SD_TRY(find_order(n, &order));
  sd_node *d = sd_node_new(n->graph, n, sd_op_find("sard.DecodeImage"), n->in, 1, 1);
  sd_node_set_int(d, "order", order);
  d->name = n->name, d->onnx_index = n->onnx_index;
  sd_value_copy_type(d->out[0], n->out[0]); // the same symbols for its size
  SD_TRY(sd_node_infer(d));
  XG_SCOPE xg g = {.at = n};
  return sd_xg_finish(&g, d->out, 1);
}
