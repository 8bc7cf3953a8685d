// sard inspect --coverage: how each node of a model will run on a target, or why it cannot.
//
// Nodes of the file are matched with those that the importer made, and these with what the passes at -O0 left of them:
// passes hand a node's name on, as a pointer, to what they make of it. So each imported node gets a copy of its own.
#include <stdlib.h>
#include <string.h>

#include "frontend/cli/tools.h"

static const char *const runs_words[] = {"kernel", "host function", "control flow"}; // sd_runs
#define CUDA_KERNEL "CUDA kernel"

// ---- the list ----

static const char *full_name(sd_cli *c, const sd_covered *e) {
  return *e->domain ? sd_arena_printf(c->arena, "%s.%s", e->domain, e->op) : e->op;
}

static bool is_op(const sd_covered *e, const char *op) {
  size_t n = strlen(e->domain);
  if (!n) return strcmp(e->op, op) == 0;
  return strncmp(op, e->domain, n) == 0 && op[n] == '.' && strcmp(op + n + 1, e->op) == 0;
}

static sd_covered *add(sd_cli *c, sd_coverage *k, sd_covered e) {
  sd_vec_push(c->arena, &k->nodes, e);
  return &k->nodes.at[k->nodes.len - 1];
}

void sd_coverage_of_scan(sd_cli *c, const sd_import_info *info, sd_coverage *k) {
  for (uint32_t i = 0; i < info->nodes.len; i++) {
    const sd_scan_node *s = &info->nodes.at[i];
    add(c, k, (sd_covered){.name = s->name, .op = s->op, .domain = s->domain, .graph = s->graph, .index = s->index, .depth = s->depth,
                           .opset = s->opset, .known = s->known});
  }
}

// The node of the file that an imported one was: the same place and name, and the same operator where more than one has them.
static uint32_t find(const sd_coverage *k, const sd_node *n, int depth) {
  uint32_t best = UINT32_MAX;
  int best_score = 0;
  for (uint32_t i = 0; i < k->nodes.len && best_score < 4; i++) {
    const sd_covered *e = &k->nodes.at[i];
    if (e->index != n->onnx_index || strcmp(e->name, n->name) != 0) continue;
    int score = 1 + 2 * is_op(e, n->op->name) + ((e->depth > 0) == (depth > 0));
    if (score > best_score) best = i, best_score = score;
  }
  return best;
}

static void note_graph(sd_cli *c, sd_coverage *k, sd_graph *g, bool scanned, int depth) {
  for (sd_node *n = g->first; n; n = n->next) {
    uint32_t at = scanned ? find(k, n, depth) : k->nodes.len;
    if (!scanned)
      add(c, k, (sd_covered){.name = n->name, .op = n->op->name, .domain = "", .graph = g->owner ? g->owner->name : "",
                             .index = n->onnx_index, .depth = depth, .known = true});
    if (at != UINT32_MAX) {
      n->name = sd_arena_strdup(g->module->arena, n->name);
      k->nodes.at[at].imported = true;
      sd_vec_push(c->arena, &k->keys, ((sd_cover_key){n->name, at}));
    }
    for (uint32_t i = 0; i < n->n_body && depth < SD_MAX_DEPTH; i++) note_graph(c, k, n->bodies[i], scanned, depth + 1);
  }
}

static int by_pointer(const void *a, const void *b) {
  const sd_cover_key *x = a, *y = b;
  return ((uintptr_t)x->name > (uintptr_t)y->name) - ((uintptr_t)x->name < (uintptr_t)y->name);
}

void sd_coverage_of_module(sd_cli *c, sd_module *m, sd_coverage *k) {
  note_graph(c, k, m->main, k->nodes.len > 0, 0);
  if (k->keys.len) qsort(k->keys.at, k->keys.len, sizeof *k->keys.at, by_pointer);
}

// ---- what became of the nodes ----

static sd_covered *origin(sd_coverage *k, const sd_node *n) {
  sd_cover_key want = {n->name, 0};
  const sd_cover_key *found =
      k->keys.len ? bsearch(&want, k->keys.at, k->keys.len, sizeof *k->keys.at, by_pointer) : NULL;
  return found ? &k->nodes.at[found->node] : NULL;
}

static void add_part(sd_cli *c, sd_covered *e, const char *op, const char *how) {
  for (uint32_t i = 0; i < e->parts.len; i++)
    if (strcmp(e->parts.at[i].op, op) == 0) {
      e->parts.at[i].n++;
      return;
    }
  sd_vec_push(c->arena, &e->parts, ((sd_cover_part){op, how, 1}));
}

// ---- copies between host and device ----

static void place_node(sd_cli *c, sd_coverage *k, const sd_node *n, bool there) {
  uint8_t side = there ? SD_SIDE_DEVICE : SD_SIDE_HOST;
  for (uint32_t i = 0; i < n->n_in; i++) {
    sd_value *v = n->in[i] ? sd_value_root(n->in[i]) : NULL;
    if (!v || v->data) continue; // constants are copied once, with the model
    uint8_t *at = &k->sides[v->id];
    if (!*at) *at = SD_SIDE_HOST; // an input of the graph
    if (!(*at & side))
      sd_vec_push(c->arena, &k->copies, ((sd_cover_copy){sd_arena_strdup(c->arena, v->name), sd_arena_strdup(c->arena, n->name), n->op->name, there}));
    *at |= side;
  }
  for (uint32_t i = 0; i < n->n_out; i++)
    if (n->out[i]) k->sides[sd_value_root(n->out[i])->id] = side;
}

static sard_status *judge_graph(sd_cli *c, sd_coverage *k, sd_module *m, sd_graph *g, sd_arena *scratch, int depth) {
  for (sd_node *n = g->first; n && !sd_stop_asked(); n = n->next) {
    sd_runs runs = sd_codegen_runs(n);
    sd_covered *e = origin(k, n);
    sard_status *st = sd_codegen_check(scratch, m, n, k->isa, k->cuda);
    if (sard_status_code(st) == SARD_E_NOMEM) return st;
    sd_arena_reset(scratch);
    if (!e && st) // of no node in particular
      e = add(c, k, (sd_covered){.name = n->name, .op = n->op->name, .domain = "", .graph = "", .index = n->onnx_index, .known = true});
    if (e && st && !e->reason) e->reason = sd_arena_strdup(c->arena, sard_status_text(st, SARD_TEXT_MESSAGE));
    else if (e && !st) add_part(c, e, sd_arena_strdup(c->arena, n->op->name), k->cuda && runs == SD_RUNS_KERNEL ? CUDA_KERNEL : runs_words[runs]);
    if (k->cuda && !st) place_node(c, k, n, runs == SD_RUNS_KERNEL);
    sard_status_free(st);
    for (uint32_t i = 0; i < n->n_body && depth < SD_MAX_DEPTH; i++)
      SD_TRY(judge_graph(c, k, m, n->bodies[i], scratch, depth + 1));
  }
  return NULL;
}

sard_status *sd_coverage_judge(sd_cli *c, sd_module *m, sd_coverage *k) {
  jmp_buf oom;
  if (setjmp(oom)) return SD_ERR(NOMEM, "out of memory");
  sd_arena_set_oom(m->arena, &oom);
  sd_arena *scratch = sd_arena_scratch(m->arena);
  k->sides = SD_NEW_ARRAY(c->arena, uint8_t, m->next_id + 1);
  sard_status *st = judge_graph(c, k, m, m->main, scratch, 0);
  sd_arena_free(scratch);
  sd_arena_set_oom(m->arena, NULL);
  k->judged = true;
  return st;
}

// Messages of the importer and of the passes name nodes as "node 3 'name' (Op": one line each.
void sd_coverage_blame(sd_cli *c, const char *message, sd_coverage *k) {
  for (uint32_t i = 0; i < k->nodes.len; i++) {
    sd_covered *e = &k->nodes.at[i];
    const char *who = sd_arena_printf(c->arena, "node %d '%.200s' (%s", e->index, e->name, full_name(c, e));
    const char *line = strstr(message, who);
    if (line && !e->reason) e->reason = sd_arena_strndup(c->arena, line, strcspn(line, "\n"));
  }
}

// ---- showing ----

// What the row alone promises, where the model as a whole could not be judged.
static const char *by_row(sd_cli *c, const sd_covered *e) {
  const sd_op *op = sd_op_find(full_name(c, e));
  if (!op) return "import"; // a function of the model, or a form that the importer resolves
  return sd_kind_is_host(op->kind) ? runs_words[SD_RUNS_HOST]
         : op->kind == SD_CONTROL  ? runs_words[SD_RUNS_STEPS]
         : op->kind == SD_REWRITE  ? "rows"
                                   : runs_words[SD_RUNS_KERNEL];
}

static const char *word_of(sd_cli *c, const sd_coverage *k, const sd_covered *e) {
  if (!e->known || e->reason) return "missing";
  if (!k->judged) return by_row(c, e);
  if (e->parts.len == 1 && is_op(e, e->parts.at[0].op)) return e->parts.at[0].how;
  if (e->parts.len) return "rows";
  return e->imported ? "folded" : "import";
}

static void show_node(sd_cli *c, const sd_coverage *k, const sd_covered *e, const char *word, bool first) {
  sd_cli_say(c, "  node %d '%s' (%s): %s", e->index, e->name, full_name(c, e), word);
  sd_strf(&c->json, "%s{\"index\":%d,\"name\":", first ? "" : ",", e->index), sd_str_json(&c->json, e->name);
  sd_str_put(&c->json, ",\"graph\":"), sd_str_json(&c->json, e->graph);
  sd_str_put(&c->json, ",\"op\":"), sd_str_json(&c->json, full_name(c, e));
  sd_strf(&c->json, ",\"runs\":\"%s\"", word);
  if (strcmp(word, "rows") == 0 && k->judged) {
    sd_str_put(&c->json, ",\"rows\":[");
    for (uint32_t i = 0; i < e->parts.len; i++) {
      const sd_cover_part *p = &e->parts.at[i];
      sd_cli_say(c, "%s %u %s (%s)", i ? "," : ":", p->n, p->op, p->how);
      sd_strf(&c->json, "%s{\"op\":\"%s\",\"n\":%u,\"runs\":\"%s\"}", i ? "," : "", p->op, p->n, p->how);
    }
    sd_str_put(&c->json, "]");
  }
  if (strcmp(word, "missing") == 0) {
    const char *why = e->reason ? e->reason : sd_arena_printf(c->arena, "the operator is not known for opset %lld", (long long)e->opset);
    sd_cli_say(c, ": %s", why);
    sd_str_put(&c->json, ",\"reason\":"), sd_str_json(&c->json, why);
  }
  sd_cli_say(c, "\n");
  sd_str_put(&c->json, "}");
}

static void show_copies(sd_cli *c, const sd_coverage *k) {
  sd_str_put(&c->json, ",\"copies\":[");
  for (uint32_t i = 0; i < k->copies.len; i++) {
    const sd_cover_copy *p = &k->copies.at[i];
    sd_cli_say(c, "  copy of '%s' to the %s for node '%s' (%s)\n", p->value, p->to_device ? "device" : "host", p->node, p->op);
    sd_strf(&c->json, "%s{\"value\":", i ? "," : ""), sd_str_json(&c->json, p->value);
    sd_strf(&c->json, ",\"to\":\"%s\",\"node\":", p->to_device ? "cuda" : "cpu"), sd_str_json(&c->json, p->node);
    sd_str_put(&c->json, "}");
  }
  sd_str_put(&c->json, "]");
}

uint32_t sd_coverage_show(sd_cli *c, const sd_coverage *k) {
  static const char *const words[] = {"kernel", CUDA_KERNEL, "rows", "host function", "control flow", "folded", "import", "missing"};
  enum { N = sizeof words / sizeof *words };
  uint32_t count[N] = {0};
  sd_strf(&c->json, ",\"device\":\"%s\"", k->cuda ? "cuda" : "cpu");
  sd_strf(&c->json, ",\"target\":\"%s\",\"judged\":%s,\"coverage\":[", k->isa ? k->isa->name : "", k->judged ? "true" : "false");
  for (uint32_t i = 0; i < k->nodes.len; i++) {
    const char *word = word_of(c, k, &k->nodes.at[i]);
    for (int w = 0; w < N; w++) count[w] += strcmp(word, words[w]) == 0;
    show_node(c, k, &k->nodes.at[i], word, i == 0);
  }
  sd_str_put(&c->json, "]");
  if (k->cuda) show_copies(c, k);
  sd_cli_say(c, "coverage for %s: %u node%s", k->cuda ? "cuda" : k->isa ? k->isa->name : "?", k->nodes.len, k->nodes.len == 1 ? "" : "s");
  for (int w = 0; w < N; w++)
    if (count[w]) sd_cli_say(c, ", %u %s", count[w], words[w]);
  sd_cli_say(c, "%s\n", k->judged ? "" : "; by the operators alone, since the model cannot be read to its end");
  return count[N - 1];
}
