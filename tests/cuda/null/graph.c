// Graphs: the work of a capture, in its order.
#include "tests/cuda/null/null.h"

#include <stdlib.h>
#include <string.h>

void graph_add(null_graph *g, null_work w) {
  null_work *to = malloc(sizeof *to);
  if (!to) abort();
  w.next = NULL;
  *to = w;
  *g->end = to, g->end = &to->next;
}

static void drop(null_graph *g) {
  for (null_work *w = g->first, *next; w; w = next) {
    next = w->next;
    free(w->words), free(w);
  }
  g->first = NULL;
  null_object_drop(&g->object);
}

static void add_copy(null_graph *g, const null_work *w) {
  null_work copy = *w;
  copy.words = w->word_bytes ? malloc(w->word_bytes) : NULL;
  if (w->word_bytes) memcpy(copy.words, w->words, w->word_bytes);
  graph_add(g, copy);
}

int null_graph_make(void **out, void *graph, unsigned long long flags) {
  int rc = null_enter(N_graph_make, IN_CONTEXT, NULL, "graph, %llu", flags);
  const null_graph *g = rc ? NULL : null_object_find(graph, GRAPH);
  if (rc || !g) return null_leave(rc ? rc : INVALID_HANDLE);
  null_graph *e = null_object_new(EXEC, sizeof *e);
  e->end = &e->first;
  for (const null_work *w = g->first; w; w = w->next) add_copy(e, w);
  *out = e;
  return null_leave(OK);
}

int null_graph_launch(void *graph, void *stream) {
  int rc = null_enter(N_graph_launch, IN_CONTEXT, stream, "graph");
  const null_graph *e = rc ? NULL : null_object_find(graph, EXEC);
  if (!rc && !e) rc = INVALID_HANDLE;
  for (const null_work *w = rc ? NULL : e->first; w && !rc; w = w->next) rc = work_repeat(stream, w);
  return null_leave(rc);
}

int null_graph_free(void *graph) {
  int rc = null_enter(N_graph_free, STARTED, NULL, "graph");
  null_graph *g = null_object_find(graph, GRAPH);
  if (g) drop(g);
  return null_leave(rc ? rc : g ? OK : INVALID_HANDLE);
}

int null_graph_exec_free(void *graph) {
  int rc = null_enter(N_graph_exec_free, STARTED, NULL, "graph");
  null_graph *g = null_object_find(graph, EXEC);
  if (g) drop(g);
  return null_leave(rc ? rc : g ? OK : INVALID_HANDLE);
}
