// The report of a compilation as JSON.
#include "frontend/driver/driver.h"

static void json_tensor(sd_str *s, const sd_tensor_report *t) {
  sd_strf(s, ",\"tensor\":{\"cut\":%u,\"exchanges\":%u,\"bytes\":%.0f,\"nodes\":[", t->cut, t->exchanges, t->bytes);
  for (uint32_t i = 0; i < t->nodes.len; i++) {
    const sd_tensor_node *n = &t->nodes.at[i];
    sd_str_put(s, i ? ",{\"name\":" : "{\"name\":"), sd_str_json(s, n->name);
    sd_str_put(s, ",\"op\":"), sd_str_json(s, n->op);
    sd_strf(s, ",\"cut\":%s,\"how\":", n->cut ? "true" : "false"), sd_str_json(s, n->how);
    sd_str_put(s, "}");
  }
  sd_str_put(s, "]}");
}

void sd_driver_precision_json(const sd_precision_report *p, sd_str *s) {
  for (uint32_t i = 0; i < p->nodes.len; i++) {
    const sd_precision_node *n = &p->nodes.at[i];
    sd_str_put(s, i ? ",{\"name\":" : "{\"name\":"), sd_str_json(s, n->name);
    sd_str_put(s, ",\"op\":"), sd_str_json(s, n->op);
    sd_strf(s, ",\"to\":\"%s\"", sd_dtype_name(n->to));
    if (n->why) sd_str_put(s, ",\"why\":"), sd_str_json(s, n->why);
    sd_str_put(s, "}");
  }
}

static void json_precision(sd_str *s, const sd_precision_report *p) {
  sd_strf(s, ",\"precision\":{\"casts\":%u,\"nodes\":[", p->casts);
  sd_driver_precision_json(p, s);
  sd_str_put(s, "]}");
}

// Predictions for each way, and the parts.
static void json_split(sd_str *s, const sd_split_choice *c) {
  sd_strf(s, ",\"split\":{\"chosen\":\"%s\",\"costs\":\"%s\",\"why\":", sd_split_name(c->chosen),
          c->measured ? "measured" : "estimated");
  sd_str_json(s, c->why);
  sd_strf(s, ",\"pieces\":%u,\"ways\":[", c->ways.pieces);
  for (uint32_t i = 0; i < c->ways.n; i++) {
    const sd_way *w = &c->ways.at[i];
    sd_strf(s, "%s{\"split\":\"%s\",\"fits\":%s,\"seconds\":%.9f,\"bytes\":%llu}", i ? "," : "", w->how ? sd_split_name((sd_split_kind)w->how) : "one device",
            w->fits ? "true" : "false", w->seconds, (unsigned long long)w->bytes);
  }
  sd_str_put(s, "],\"parts\":[");
  for (uint32_t i = 0; i < c->layer.n; i++) {
    const sd_layer_part *p = &c->layer.at[i];
    sd_strf(s, "%s{\"first\":%u,\"nodes\":%u,\"seconds\":%.9f,\"link_seconds\":%.9f,\"weight_bytes\":%llu,\"activation_bytes\":%llu,\"bytes_in\":%llu}", i ? "," : "",
            p->first, p->n, p->seconds, p->link, (unsigned long long)p->weights, (unsigned long long)p->values, (unsigned long long)p->bytes_in);
  }
  sd_str_put(s, "]}");
}

char *sd_driver_report_json(const sd_driver_report *r) {
  sd_str s = {0};
  sd_strf(&s, "{\"schema\":1,\"isa\":"), sd_str_json(&s, r->isa);
  sd_strf(&s, ",\"nodes_in\":%u,\"nodes_out\":%u,\"kernels\":%u,\"unique_kernels\":%u,\"code_bytes\":%llu,\"weight_bytes\":%llu,\"meta_bytes\":%llu,\"seconds\":%.6f,\"phases\":[",
          r->nodes_in, r->nodes_out, r->code.kernels, r->code.unique_kernels, (unsigned long long)r->code.code_bytes,
          (unsigned long long)r->code.const_bytes, (unsigned long long)r->code.meta_bytes, r->total_s);
  for (uint32_t i = 0; i < r->phases.len; i++) {
    sd_strf(&s, "%s{\"name\":", i ? "," : ""), sd_str_json(&s, r->phases.at[i].name);
    sd_strf(&s, ",\"seconds\":%.6f,\"rewrites\":%u}", r->phases.at[i].seconds, r->phases.at[i].rewrites);
  }
  sd_str_put(&s, "]");
  if (r->code.cuda) {
    sd_str_put(&s, ",\"cuda\":{\"code\":"), sd_str_json(&s, r->code.cuda);
    sd_strf(&s, ",\"kernels\":%u,\"bytes\":%llu,\"seconds\":%.6f}", r->code.cuda_kernels, (unsigned long long)r->code.cuda_bytes, r->code.cuda_s);
  }
  if (r->precision.nodes.len) json_precision(&s, &r->precision);
  if (r->split.chosen) json_split(&s, &r->split);
  if (r->tensor.nodes.len) json_tensor(&s, &r->tensor);
  sd_str_put(&s, ",\"fusions\":{");
  for (uint32_t i = 0; i < r->fusions.len; i++) {
    if (i) sd_str_put(&s, ",");
    sd_str_json(&s, r->fusions.at[i].key), sd_strf(&s, ":%s", r->fusions.at[i].value);
  }
  sd_str_put(&s, "}}");
  return sd_str_take(&s);
}
