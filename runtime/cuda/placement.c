#include "runtime/cuda/placement.h"

#include "runtime/base/alloc.h"
#include "runtime/cuda/session.h"

typedef struct walk {
  const sd_art *a;
  bool *launched;  // per step
  uint8_t *valid;  // per buffer, as in sd_cu_session
  sd_cu_transfer *out;
  uint32_t n;
} walk;

static void need(walk *w, uint32_t step, uint32_t buf, uint8_t where) {
  if (!w->valid[buf] || (w->valid[buf] & where)) return;
  w->valid[buf] |= where;
  if (w->a->bufs[buf].kind == SARD_AB_CONST) return; // copied once, when the model is loaded
  w->out[w->n++] = (sd_cu_transfer){step, buf, w->a->bufs[buf].bytes, where == SD_CU_DEVICE};
}

// As sd_cu_step does it.
static void visit(walk *w, uint32_t i) {
  const sd_art *a = w->a;
  const sard_art_step *t = &a->steps[i];
  bool there = w->launched[i] || (t->kind == SARD_AS_COPY && (w->valid[a->lists[t->bufs]] & SD_CU_DEVICE));
  bool flow = t->kind == SARD_AS_LOOP || t->kind == SARD_AS_BRANCH;
  for (uint32_t k = 0; k < t->n_buf; k++) {
    uint32_t b = a->lists[t->bufs + k];
    bool written = a->lists[t->writes + k] != 0;
    if (flow && k > 0) break;
    if (there || !written || t->kind == SARD_AS_DISPATCH) need(w, i, b, there ? SD_CU_DEVICE : SD_CU_HOST);
    if (written) w->valid[b] = there ? SD_CU_DEVICE : SD_CU_HOST;
  }
}

static void visit_all(walk *w) {
  const sd_art *a = w->a;
  for (uint32_t k = 0; k < a->n_cuda; k++) w->launched[a->cuda[k].step] = true;
  for (uint32_t b = 0; b < a->n_bufs; b++) {
    uint32_t kind = a->bufs[b].kind;
    w->valid[b] = kind == SARD_AB_CONST ? SD_CU_HOST | SD_CU_DEVICE : kind == SARD_AB_INPUT ? SD_CU_HOST : 0;
  }
  for (uint32_t i = 0; i < a->n_steps; i++) visit(w, i);
  for (uint32_t i = 0; i < a->n_out; i++) need(w, SARD_ART_NONE, a->io[a->n_in + i].buf, SD_CU_HOST);
}

sard_status *sd_cu_transfers(const sd_art *a, sd_cu_transfer **out, uint32_t *n) {
  uint64_t most = a->n_out;
  for (uint32_t i = 0; i < a->n_steps; i++) most += a->steps[i].n_buf;
  walk w = {.a = a, .launched = sd_calloc(a->n_steps, 1), .valid = sd_calloc(a->n_bufs, 1), .out = sd_calloc(most, sizeof *w.out)};
  bool ok = w.launched && w.valid && w.out;
  if (ok) visit_all(&w);
  sd_free(w.launched);
  sd_free(w.valid);
  if (!ok) sd_free(w.out), w.out = NULL;
  *out = w.out, *n = w.n;
  return ok ? NULL : SD_ERR(NOMEM, "out of memory while placing a model");
}
