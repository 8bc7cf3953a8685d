// The importer's entry: opens the file, checks versions, runs the parts.
#include "frontend/onnx/internal.h"

#include <stddef.h>

#include "runtime/base/alloc.h"

#define DENSE_BUDGET ((uint64_t)1 << 30) // bytes that all sparse tensors of a model may expand to

static void unmap(void *m) { sd_file_unmap(m); }

// Takes the fields that the caller's version of the structure has.
static sard_status *complete_source(const sard_source *src, sard_source *out) {
  *out = (sard_source){0};
  size_t n = src->size < sizeof *out ? src->size : sizeof *out;
  if (n < offsetof(sard_source, read_external))
    return SD_ERR(USAGE, "sard_source.size is %zu: set it to sizeof(sard_source)", src->size);
  memcpy(out, src, n);
  if (n < sizeof *out) out->read_external = NULL;
  if (!out->path && !out->data) return SD_ERR(USAGE, "%s", "a model source needs a path or data");
  return NULL;
}

// An artifact, a text, an archive: say so instead of naming a broken field.
static sard_status *not_onnx(const sd_opened *o, sard_status *st) {
  if (!st || sard_status_code(st) != SARD_E_MODEL || sd_import_sniff(o->data, o->size)) return st;
  return sd_status_field(st, SARD_TEXT_HINT, "%s", "the file does not look like an ONNX model");
}

static sard_status *read_model(sd_arena *tmp, sd_opened *o) {
  ProtobufCMessage *m = NULL;
  SD_TRY(sd_wire_read(tmp, o->data, o->size, &onnx__model_proto__descriptor, &m, &o->spans));
  o->model = (const Onnx__ModelProto *)m;
  if (!o->model->graph) return SD_ERR(MODEL, "%s", "the file holds no graph: it is no ONNX model, or a truncated one");
  return NULL;
}

sard_status *sd_import_open(const sard_source *src, sd_arena *keep, sd_arena *tmp, sd_opened *o) {
  *o = (sd_opened){.file = src->path ? src->path : "(model in memory)"};
  SD_TRY(complete_source(src, &o->source));
  if (o->source.data) {
    o->data = o->source.data;
    o->size = o->source.bytes;
  } else {
    sd_map *map = SD_NEW(keep, sd_map);
    sd_arena_defer(keep, unmap, map);
    SD_TRY(sd_file_map(o->source.path, map));
    o->data = map->data;
    o->size = map->size;
  }
  return not_onnx(o, read_model(tmp, o));
}

// Some files list a domain without a version beside the entry that counts.
static bool imported_again(const Onnx__ModelProto *p, size_t i) {
  for (size_t k = 0; k < p->n_opset_import; k++)
    if (p->opset_import[i]->version == 0 && p->opset_import[k]->version > 0 && !strcmp(p->opset_import[k]->domain, p->opset_import[i]->domain))
      return true;
  return false;
}

static sard_status *check_versions(sd_import *im) {
  const Onnx__ModelProto *p = im->o.model;
  if (p->ir_version <= 0)
    return SD_ERR(MODEL, "IR version %lld", (long long)p->ir_version);
  if (p->ir_version < SD_ONNX_IR_MIN || p->ir_version > SD_ONNX_IR_MAX)
    return SD_ERR(UNSUPPORTED, "ONNX IR version %lld (supported: %d and later)", (long long)p->ir_version,
                  SD_ONNX_IR_MIN);
  for (size_t i = 0; i < p->n_opset_import; i++)
    if (p->opset_import[i]->version <= 0 && !imported_again(p, i))
      return SD_ERR(MODEL, "opset %lld of the domain '%s'", (long long)p->opset_import[i]->version,
                    p->opset_import[i]->domain);
  int64_t v = sd_import_opset(im, &(sd_scope){0}, "");
  im->m->opset = v;
  im->m->ir_version = p->ir_version;
  if (v == 0 || (v >= SD_ONNX_OPSET_MIN && v <= SD_ONNX_OPSET_MAX)) return NULL;
  return sd_status_field(SD_ERR(UNSUPPORTED, "ONNX opset %lld (supported: %d to %d)", (long long)v, SD_ONNX_OPSET_MIN,
                                SD_ONNX_OPSET_MAX),
                         SARD_TEXT_HINT,
                         "convert the model with onnx.version_converter, or export it again with opset %d",
                         v < SD_ONNX_OPSET_MIN ? 17 : SD_ONNX_OPSET_MAX);
}

static void keep_metadata(sd_import *im) {
  const Onnx__ModelProto *p = im->o.model;
  sd_arena *a = im->m->arena;
  im->m->producer = *p->producer_version ? sd_arena_printf(a, "%s %s", p->producer_name, p->producer_version)
                                         : sd_arena_strdup(a, p->producer_name);
  for (size_t i = 0; i < p->n_metadata_props; i++)
    sd_vec_push(a, &im->m->metadata, ((sd_meta){sd_arena_strdup(a, p->metadata_props[i]->key),
                                                sd_arena_strdup(a, p->metadata_props[i]->value)}));
}

static sard_status *run(sd_import *im) {
  if (!sd_op_at(0)) return SD_ERR(NOMEM, "%s", "out of memory for the operator table");
  SD_TRY(check_versions(im));
  keep_metadata(im);
  SD_TRY(sd_import_functions(im));
  SD_TRY(sd_import_main(im));
  return sd_import_problems(im);
}

static sard_status *import(sd_module *m, sd_arena *tmp, const sard_source *src, const sd_import_shapes *shapes) {
  sd_import *im = SD_NEW(tmp, sd_import);
  im->m = m;
  im->tmp = tmp;
  im->shapes = shapes;
  SD_TRY(sd_import_open(src, m->arena, tmp, &im->o));
  if (im->o.source.data) sd_vec_push(m->arena, &m->lent, ((sd_map){im->o.data, im->o.size}));
  else sd_vec_push(m->arena, &m->maps, ((sd_map){im->o.data, im->o.size}));
  sd_external_init(&im->external, m->arena, &im->o.source);
  im->external.module = m;
  im->tensors = (sd_tensors){m->arena, im->o.spans, &im->external, DENSE_BUDGET, m};
  return run(im);
}

// setjmp stands in a function of its own: nothing here changes after it.
static sard_status *import_guarded(sd_module *m, sd_arena *tmp, const sard_source *src,
                                   const sd_import_shapes *shapes) {
  jmp_buf oom;
  sd_arena_set_oom(m->arena, &oom);
  sd_arena_set_oom(tmp, &oom);
  if (setjmp(oom)) return SD_ERR(NOMEM, "%s", "out of memory while importing the model");
  return import(m, tmp, src, shapes);
}

sard_status *sd_import_onnx(const sard_source *src, sd_module **out) {
  return sd_import_onnx_shaped(src, NULL, out);
}

sard_status *sd_import_onnx_shaped(const sard_source *src, const sd_import_shapes *shapes, sd_module **out) {
  *out = NULL;
  const char *file = src->path ? src->path : "(model in memory)";
  sd_module *m = NULL;
  SD_TRY(sd_module_new(src->path ? src->path : "", &m));
  sd_arena *tmp = sd_arena_new();
  sard_status *st = tmp ? import_guarded(m, tmp, src, shapes) : SD_ERR(NOMEM, "%s", "out of memory");
  sd_arena_free(tmp);
  sd_arena_set_oom(m->arena, NULL);
  if (!st) return *out = m, NULL;
  sd_module_free(m);
  if (sard_status_code(st) != SARD_E_UNSUPPORTED && !strstr(sard_status_text(st, SARD_TEXT_MESSAGE), file))
    st = sd_status_context(st, "%s", file);
  return sd_status_field(st, SARD_TEXT_FILE, "%s", file);
}

// Field numbers and wire types that the first fields of a ModelProto can have.
bool sd_import_sniff(const void *data, size_t n) {
  const uint8_t *p = data, *end = p + n;
  int fields = 0;
  for (; p < end && fields < 4; fields++) {
    uint64_t tag, v;
    if (!sd_wire_varint(&p, end, &tag)) return false;
    unsigned field = (unsigned)(tag >> 3), wire = tag & 7;
    const ProtobufCFieldDescriptor *f = protobuf_c_message_descriptor_get_field(&onnx__model_proto__descriptor, field);
    bool number = f && f->type == PROTOBUF_C_TYPE_INT64;
    if (tag >> 3 > 64 || wire != (number ? 0 : 2)) return false;
    if (!sd_wire_varint(&p, end, &v)) return false;
    if (wire == 2 && v > (uint64_t)(end - p)) return fields > 0; // only the beginning was given
    if (wire == 2) p += v;
  }
  return fields > 0;
}
