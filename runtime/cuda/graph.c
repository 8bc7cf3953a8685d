// Launches with fixed addresses, captured once and launched as one.
//
// A segment is a row of steps that all run on the device with sizes that no step decides. It is captured when it runs the
// second time with the same addresses: models that see each shape once do not pay for it.
#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/cuda/session.h"

enum { LEAST = 2, THREAD_LOCAL = 1 };

static bool belongs(const sard_session *s, uint32_t i) { return s->cu->program->launch[i] && !s->late.step[i]; }

static uint32_t segment_end(const sard_session *s, uint32_t i, uint32_t to) {
  while (i < to && belongs(s, i)) i++;
  return i;
}

static void drop(sd_cu_session *c, sd_cu_graph *g) {
  if (g->graph) c->device->api->graph_exec_free(g->graph);
  sd_free(g->before);
  sd_free(g->after);
  *g = (sd_cu_graph){0};
}

void sd_cu_graphs_free(sard_session *s) {
  for (uint32_t i = 0; i < s->model->art.n_steps; i++) drop(s->cu, &s->cu->graphs[i]);
}

// Buffers that the steps find, and those that they write. What is written first is not needed before.
static sard_status *find_buffers(const sard_session *s, uint32_t first, sd_cu_graph *g) {
  const sd_art *a = &s->model->art;
  uint8_t *seen = sd_calloc(a->n_bufs, 1);
  g->before = sd_calloc(a->n_bufs, sizeof *g->before), g->after = sd_calloc(a->n_bufs, sizeof *g->after);
  if (!seen || !g->before || !g->after) {
    sd_free(seen);
    return SD_ERR(NOMEM, "out of memory while capturing a run");
  }
  for (uint32_t i = first; i < g->end; i++) {
    const sard_art_step *t = &a->steps[i];
    for (uint32_t k = 0; k < t->n_buf; k++) {
      uint32_t b = a->lists[t->bufs + k];
      if (a->bufs[b].kind == SARD_AB_CONST) continue;
      if (!seen[b]) g->before[g->n_before++] = b, seen[b] = 1; // one that is written has no contents yet: nothing is copied for it
      if (a->lists[t->writes + k] && seen[b] == 1) g->after[g->n_after++] = b, seen[b] = 2;
    }
  }
  sd_free(seen);
  return NULL;
}

static sard_status *enter(sard_session *s, const sd_cu_graph *g) {
  for (uint32_t i = 0; i < g->n_before; i++) SD_TRY(sd_cu_to_device(s, g->before[i]));
  return NULL;
}

static void leave(sard_session *s, const sd_cu_graph *g) {
  for (uint32_t i = 0; i < g->n_after; i++) s->cu->valid[g->after[i]] = SD_CU_DEVICE;
}

static sard_status *capture(sard_session *s, uint32_t first, sd_cu_graph *g) {
  sd_cu_session *c = s->cu;
  const sd_cu_api *f = c->device->api;
  void *graph = NULL;
  sard_status *st = NULL;
  SD_TRY(sd_cu_busy_begin(s)); // no part of the graph
  SD_TRY(sd_cu_check(f, f->capture_begin(c->stream, THREAD_LOCAL), "capturing a run"));
  c->capturing = true;
  for (uint32_t i = first; i < g->end && !st; i++) st = sd_cu_launch(s, i);
  c->capturing = false;
  sard_status *ended = sd_cu_check(f, f->capture_end(c->stream, &graph), "capturing a run"); // also after an error: the stream is free again
  if (!st) st = ended;
  else sard_status_free(ended);
  if (!st) st = sd_cu_check(f, f->graph_make(&g->graph, graph, 0), "making a graph");
  if (graph) f->graph_free(graph);
  return st;
}

static sard_status *make(sard_session *s, uint32_t first, uint32_t end, sd_cu_graph *g) {
  drop(s->cu, g);
  g->end = end, g->generation = g->seen = s->cu->generation;
  SD_TRY(find_buffers(s, first, g));
  SD_TRY(enter(s, g)); // copies are no part of it
  return capture(s, first, g);
}

sard_status *sd_cu_segment(sard_session *s, uint32_t i, uint32_t to, uint32_t *next) {
  sd_cu_session *c = s->cu;
  sd_cu_graph *g = &c->graphs[i];
  *next = i;
  if (s->profile || s->trace || !belongs(s, i)) return NULL;
  if (!g->graph || g->generation != c->generation) {
    uint32_t end = segment_end(s, i, to);
    bool again = g->seen == c->generation;
    g->seen = c->generation;
    if (!again || end - i < LEAST) return NULL;
    SD_TRY(make(s, i, end, g));
  } else SD_TRY(enter(s, g));
  SD_TRY(sd_cu_busy_begin(s));
  SD_TRY(sd_cu_check(c->device->api, c->device->api->graph_launch(g->graph, c->stream), "running on the device"));
  leave(s, g);
  c->graph_launches++;
  *next = g->end;
  return NULL;
}
