// JSON texts about models.
#include "runtime/base/alloc.h"
#include "runtime/base/dtype.h"
#include "runtime/base/str.h"
#include "runtime/cpu.h"
#include "runtime/cuda/placement.h"
#include "runtime/cuda/program.h"
#include "runtime/model.h"
#include "runtime/plan.h"

const char *sd_step_text(uint32_t kind) {
  static const char *const names[] = {"dispatch", "copy", "loop", "branch", "define", "set", "append", "host", "check"};
  return kind < sizeof names / sizeof *names ? names[kind] : "?";
}

// Fills items with the ARENA buffers in use; returns their number.
static uint32_t arena_items(const sard_model *m, sd_plan_item *items) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < m->art.n_bufs; i++) {
    const sard_art_buf *b = &m->art.bufs[i];
    if (b->kind != SARD_AB_ARENA || b->first == SARD_ART_NONE) continue;
    uint64_t bytes = (uint64_t)m->dim_value[b->bytes];
    items[n++] = (sd_plan_item){sd_align_up(bytes, 64) + 64, b->first, b->last, i, 0};
  }
  return n;
}

bool sd_model_static_memory(const sard_model *m, uint64_t *arena, uint64_t *scratch) {
  const sd_art *a = &m->art;
  *arena = *scratch = 0;
  for (uint32_t i = 0; i < a->n_bufs; i++)
    if (a->bufs[i].kind == SARD_AB_ARENA && !m->dim_known[a->bufs[i].bytes]) return false;
  for (uint32_t i = 0; i < a->n_steps; i++) {
    if (a->steps[i].kind != SARD_AS_DISPATCH) continue;
    uint32_t slot = a->steps[i].scratch;
    if (!m->dim_known[slot]) return false;
    if (m->dim_value[slot] > (int64_t)*scratch) *scratch = (uint64_t)m->dim_value[slot];
  }
  sd_plan_item *items = sd_calloc(a->n_bufs, sizeof *items);
  uint32_t *work = sd_calloc(a->n_bufs, sizeof *work);
  bool ok = items && work && sd_plan_place(items, arena_items(m, items), work, arena);
  sd_free(items);
  sd_free(work);
  return ok;
}

static void put_number(sd_str *s, const sard_model *m, const char *name, uint32_t slot) {
  if (slot != SARD_ART_NONE && m->dim_known[slot]) sd_strf(s, ",\"%s\":%lld", name, (long long)m->dim_value[slot]);
}

static void put_io(sd_str *s, const sard_model *m, int is_output) {
  sd_strf(s, "\"%s\":[", is_output ? "outputs" : "inputs");
  for (int i = 0; i < sard_model_io_count(m, is_output); i++) {
    sard_tensor_desc d;
    sard_status *st = sard_model_io(m, is_output, i, &d);
    if (st) { // cannot be: the index is in range
      sard_status_free(st);
      continue;
    }
    sd_strf(s, "%s{\"name\":", i ? "," : "");
    sd_str_json(s, d.name);
    sd_strf(s, ",\"dtype\":\"%s\",\"dims\":[", sd_dtype_name((sd_dtype)d.dtype));
    for (int32_t k = 0; k < d.rank; k++) {
      if (k) sd_str_put(s, ",");
      if (d.dims[k] >= 0)
        sd_strf(s, "%lld", (long long)d.dims[k]);
      else
        sd_str_json(s, d.symbols[k]);
    }
    sd_str_put(s, "]}");
  }
  sd_str_put(s, "],");
}

static void put_steps(sd_str *s, const sard_model *m) {
  const sd_art *a = &m->art;
  sd_str_put(s, "\"step_list\":[");
  for (uint32_t i = 0; i < a->n_steps; i++) {
    const sard_art_step *t = &a->steps[i];
    sd_strf(s, "%s{\"name\":", i ? "," : "");
    sd_str_json(s, sd_art_text(a, t->name));
    sd_str_put(s, ",\"op\":");
    sd_str_json(s, sd_art_text(a, t->op));
    sd_str_put(s, ",\"kernel\":");
    sd_str_json(s, t->kind == SARD_AS_DISPATCH ? sd_art_text(a, a->kernels[t->kernel].symbol) : sd_step_text(t->kind));
    sd_str_put(s, ",\"shapes\":");
    sd_str_json(s, sd_art_text(a, t->shapes));
    if (t->kind == SARD_AS_DISPATCH) sd_str_put(s, ",\"schedule\":"), sd_str_json(s, sd_art_text(a, a->kernels[t->kernel].schedule));
    if (m->cu) sd_strf(s, ",\"device\":\"%s\"", m->cu->launch[i] ? "cuda" : "cpu");
    if (t->kind == SARD_AS_DISPATCH) put_number(s, m, "tiles", t->tiles);
    put_number(s, m, "flops", t->flops);
    put_number(s, m, "bytes", t->bytes);
    sd_str_put(s, "}");
  }
  sd_str_put(s, "],");
}

static void put_symbols(sd_str *s, const sd_art *a) {
  sd_str_put(s, "\"symbols\":[");
  for (uint32_t i = 0; i < a->n_syms; i++) {
    sd_strf(s, "%s{\"name\":", i ? "," : "");
    sd_str_json(s, sd_art_text(a, a->syms[i].name));
    sd_strf(s, ",\"min\":%lld,\"max\":%lld}", (long long)a->syms[i].min, (long long)a->syms[i].max);
  }
  sd_str_put(s, "],");
}

// Where the model runs, and each copy between host and device of a run; of loops, of one pass.
static sard_status *put_device(sd_str *s, const sard_model *m) {
  const sd_art *a = &m->art;
  sd_cu_transfer *moves;
  uint32_t n;
  if (!m->cu) {
    sd_str_put(s, "\"device\":\"cpu\",");
    if (m->fallback) sd_str_put(s, "\"fallback\":"), sd_str_json(s, m->fallback), sd_str_put(s, ",");
    return NULL;
  }
  SD_TRY(sd_cu_transfers(a, &moves, &n));
  sd_strf(s, "\"device\":\"cuda:%d\",\"device_name\":", m->cu->device->ordinal), sd_str_json(s, m->cu->device->name);
  sd_strf(s, ",\"device_weights_bytes\":%llu,", (unsigned long long)m->cu->weight_bytes);
  if (m->cu->products->n) sd_cu_products_put(s, m->cu->products), sd_str_put(s, ",");
  sd_str_put(s, "\"copies\":[");
  for (uint32_t i = 0; i < n; i++) {
    sd_strf(s, "%s{\"to\":\"%s\",\"buffer\":%u", i ? "," : "", moves[i].to_device ? "cuda" : "cpu", moves[i].buf);
    if (moves[i].step != SARD_ART_NONE) sd_strf(s, ",\"step\":%u", moves[i].step);
    put_number(s, m, "bytes", moves[i].bytes);
    sd_str_put(s, "}");
  }
  sd_str_put(s, "],");
  sd_free(moves);
  return NULL;
}

static void put_cache(sd_str *s, const sd_model_cache *c) {
  if (!c->state) return;
  sd_strf(s, "\"cache\":{\"state\":\"%s\"", c->state);
  if (c->folder) sd_str_put(s, ",\"folder\":"), sd_str_json(s, c->folder);
  if (c->why) sd_str_put(s, ",\"why\":"), sd_str_json(s, c->why);
  if (c->store_s > 0) sd_strf(s, ",\"store_ms\":%.3f", c->store_s * 1e3);
  sd_str_put(s, "},");
}

static void put_body(sd_str *s, const sard_model *m) {
  uint64_t arena, scratch;
  sd_strf(s, "\"loaded_code_bytes\":%zu,\"steps\":%u,\"kernels\":%u,\"buffers\":%u,", m->code.size, m->art.n_steps,
          m->art.n_kernels, m->art.n_bufs);
  if (sd_model_static_memory(m, &arena, &scratch))
    sd_strf(s, "\"arena_bytes\":%llu,\"scratch_bytes\":%llu,", (unsigned long long)arena, (unsigned long long)scratch);
  else
    sd_str_put(s, "\"arena_bytes\":null,\"scratch_bytes\":null,");
  put_io(s, m, 0);
  put_io(s, m, 1);
  put_symbols(s, &m->art);
  put_steps(s, m);
}

static void put_wires(sd_str *s, const char *name, const sard_art_wire *w, uint32_t n) {
  sd_strf(s, "\"%s\":[", name);
  for (uint32_t i = 0; i < n; i++) sd_strf(s, "%s[%u,%u]", i ? "," : "", w[i].part, w[i].at);
  sd_str_put(s, "]");
}

// Of a model in parts: each with the device it runs on and where its inputs come from, [part, output] or [0, input].
static void put_parts(sd_str *s, const sard_model *m) {
  const sard_art_wire *w = m->parts ? sd_art_wires(&m->art) : NULL;
  char name[SD_PLACE_TEXT];
  if (!m->parts) return;
  const char *split = sd_split_name((sd_split_kind)m->art.parts[1]);
  sd_strf(s, "\"split\":\"%s\",\"parts\":[", split ? split : "?");
  for (uint32_t i = 0; i < sd_art_parts(&m->art); i++) {
    sd_str_put(s, i ? ",{" : "{");
    if (m->devices.n) sd_strf(s, "\"device\":\"%s\",", sd_place_text(m->devices.at[i], name));
    put_body(s, m->parts[i]);
    put_wires(s, "from", w, m->parts[i]->art.n_in);
    w += m->parts[i]->art.n_in;
    sd_str_put(s, "}");
  }
  sd_str_put(s, "],");
  put_wires(s, "from", w, m->art.n_out);
  sd_str_put(s, ",");
}

sard_status *sard_model_report(const sard_model *m, char **json) {
  if (!m || !json) return SD_ERR(USAGE, "sard_model_report: model and json must not be NULL");
  const sd_art *a = &m->art;
  sd_str s = {0};
  uint64_t code = a->code_size;
  for (uint32_t i = 0; m->parts && i < sd_art_parts(a); i++) code += m->parts[i]->art.code_size;
  sd_strf(&s, "{\"format\":%u,\"isa\":", a->header->version);
  sd_str_json(&s, a->header->isa);
  sd_str_put(&s, ",\"arch\":");
  sd_str_json(&s, a->header->arch);
  sd_str_put(&s, ",\"compiler\":");
  sd_str_json(&s, a->header->compiler);
  sd_strf(&s, ",\"file_bytes\":%llu,\"code_bytes\":%llu,\"weights_bytes\":%llu,\"meta_bytes\":%llu,",
          (unsigned long long)m->file_size, (unsigned long long)code, (unsigned long long)a->const_size,
          (unsigned long long)(m->file_size - code - a->const_size));
  put_body(&s, m);
  put_parts(&s, m);
  sard_status *st = put_device(&s, m);
  if (st) {
    sd_str_free(&s);
    return st;
  }
  put_cache(&s, &m->cache);
  sd_strf(&s, "\"threads\":%d}", sd_context_threads(m->ctx));
  *json = sd_str_take(&s);
  return *json ? NULL : SD_ERR(NOMEM, "out of memory while writing the report of a model");
}
