// The pass table and the loop that runs it.
#include "passes/pass.h"

#include <string.h>

#include "runtime/base/thread.h"

#define SD_PASS(name, opt, fn, what) sard_status *fn(sd_module *m, const sd_pass_options *o, sd_arena *scratch, sd_pass_report *r);
#include "passes/passes.def"
#undef SD_PASS

static const sd_pass table[] = {
#define SD_PASS(name, opt, fn, what) {#name, what, opt, fn},
#include "passes/passes.def"
#undef SD_PASS
};

const sd_pass *sd_pass_at(uint32_t index) { return index < sizeof table / sizeof *table ? &table[index] : NULL; }

const sd_pass *sd_pass_find(const char *name) {
  for (uint32_t i = 0; i < sizeof table / sizeof *table; i++)
    if (strcmp(table[i].name, name) == 0) return &table[i];
  return NULL;
}

static sard_status *run_one(const sd_pass *p, sd_module *m, const sd_pass_options *o, sd_pass_report *r) {
  sd_arena *scratch = sd_arena_scratch(m->arena);
  sard_status *st = p->run(m, o, scratch, r);
  sd_arena_free(scratch);
  return sd_status_field(st, SARD_TEXT_PASS, "%s", p->name);
}

sard_status *sd_passes_run(sd_module *m, const sd_pass_options *o, const char *from, const char *until, sd_pass_hook hook,
                           void *user) {
  bool started = from == NULL;
  SD_TRY(sd_memory_forget(m));
  for (uint32_t i = 0; i < sizeof table / sizeof *table; i++) {
    const sd_pass *p = &table[i];
    started |= from && strcmp(p->name, from) == 0;
    if (started && p->min_opt <= o->opt) {
      sd_pass_report r = {0};
      int64_t t0 = sd_now_ns();
      SD_TRY_MSG(run_one(p, m, o, &r), "in pass %s", p->name);
      if (hook) SD_TRY(hook(user, p, m, &r, (double)(sd_now_ns() - t0) * 1e-9));
    }
    if (until && strcmp(p->name, until) == 0) break;
  }
  return NULL;
}
