// Results of trials in the work folder, so that an interrupted search goes on where it stopped.
#include <dirent.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "frontend/cli/optimize.h"
#include "frontend/driver/json.h"
#include "runtime/base/file.h"
#include "runtime/base/hash.h"
#include "runtime/base/thread.h"
#include "runtime/cpu.h"

static const char *state_file(sd_optimize *q) { return sd_files_path(q->c, q->folder, "state.json"); }

// Files, flags and machine: results of others do not count.
static void make_key(sd_optimize *q) {
  static const char *const apart[] = {"budget", "json", "html", "svg", "quiet", "verbose", "goal", "limit", "drop-by"};
  sd_str s = {0};
  char cpu[SD_CPU_ID];
  sd_strf(&s, "%s %s %s", SARD_VERSION_TEXT, sd_cpu_id(cpu), q->drop_text);
  sd_change_key(q->c, apart, sizeof apart / sizeof *apart, &s);
  snprintf(q->key, sizeof q->key, "%016llx", (unsigned long long)sd_hash_bytes(s.p, s.len, 0));
  sd_str_free(&s);
}

static double number(const sd_json *o, const char *key) {
  const sd_json *v = sd_json_get(o, key);
  return v && v->kind == SD_JSON_NUMBER ? v->number : NAN;
}

static void take(sd_optimize *q, const sd_json *o) {
  const char *name = sd_json_text(o, "name"), *why = sd_json_text(o, "why");
  for (uint32_t i = 1; name && i < q->trials.len; i++) {
    sd_trial *t = &q->trials.at[i];
    if (strcmp(t->name, name) != 0) continue;
    *t = (sd_trial){.chain = t->chain, .name = t->name, .state = why ? SD_TRIAL_FAILED : SD_TRIAL_MEASURED};
    t->why = sd_arena_strdup(q->c->arena, why),
    t->onnx = sd_arena_strdup(q->c->arena, sd_json_text(o, "onnx"));
    t->artifact = sd_arena_strdup(q->c->arena, sd_json_text(o, "artifact"));
    t->ms50 = number(o, "p50_ms"), t->ms99 = number(o, "p99_ms"), t->speed = number(o, "speed"),
    t->rate = number(o, "samples_per_s"), t->value = number(o, "value"), t->drop = number(o, "drop"),
    t->bound = number(o, "drop_bound");
    double whole[6] = {number(o, "bytes"), number(o, "memory_bytes"), number(o, "batch"),
                       number(o, "worse"), number(o, "better"),       number(o, "given_up_after")};
    t->peak_mb = number(o, "peak_mb");
    bool good = why || (t->speed > 0 && t->ms50 > 0 && isfinite(t->drop) && t->onnx && t->artifact &&
                        sd_files_exists(t->artifact) && sd_files_exists(t->onnx));
    for (int k = 0; k < 6; k++) good &= why || (whole[k] >= 0 && whole[k] < 1e15);
    if (!good) {
      t->state = SD_TRIAL_WAITS, t->why = NULL, t->batch = q->batch;
      continue;
    }
    if (why) whole[2] = (double)q->batch;
    t->bytes = why ? 0 : (uint64_t)whole[0], t->memory = why ? 0 : (uint64_t)whole[1],
    t->batch = (int64_t)whole[2];
    t->worse = why ? 0 : (int64_t)whole[3], t->better = why ? 0 : (int64_t)whole[4];
    t->samples = why ? 0 : (int64_t)whole[5];
    q->resumed++;
  }
}

static sard_status *read_state(sd_optimize *q, sd_json **out) {
  sd_map map;
  *out = NULL;
  if (!sd_files_exists(state_file(q))) return NULL;
  SD_TRY(sd_file_map(state_file(q), &map));
  const char *text = sd_arena_strndup(q->c->arena, map.data ? (const char *)map.data : "", map.size);
  sd_file_unmap(&map);
  sard_status *damaged = sd_json_parse(q->c->arena, text, state_file(q), out);
  if (damaged) *out = NULL; // as if of another command
  sard_status_free(damaged);
  return NULL;
}

sard_status *sd_optimize_resume(sd_optimize *q) {
  sd_json *all;
  make_key(q);
  SD_TRY(read_state(q, &all));
  const char *key = sd_json_text(all, "key");
  if (!key || strcmp(key, q->key) != 0) { // files of others have the same names
    if (sd_files_exists(state_file(q)))
      sd_cli_note(q->c, "'%s' is of another command, or another machine: everything is tried anew",
                  q->folder);
    sd_optimize_clean(q);
    return sd_files_make_dir(q->folder);
  }
  double used = number(all, "used_s");
  q->used_s = used > 0 && used < q->budget_s ? used : 0;
  const sd_json *list = sd_json_get(all, "trials");
  for (const sd_json *o = list && list->kind == SD_JSON_LIST ? list->first : NULL; o; o = o->next) take(q, o);
  if (q->resumed) sd_cli_note(q->c, "goes on from '%s': %u chains have been tried", q->folder, q->resumed);
  return NULL;
}

static void put_number(sd_str *s, const char *name, double v) {
  sd_strf(s, ",\"%s\":", name), sd_str_json_number(s, v);
}

static void put_trial(sd_str *s, const sd_trial *t) {
  sd_str_put(s, "{\"name\":"), sd_str_json(s, t->name);
  if (t->state == SD_TRIAL_FAILED) sd_str_put(s, ",\"why\":"), sd_str_json(s, t->why);
  if (t->state == SD_TRIAL_MEASURED) {
    sd_str_put(s, ",\"onnx\":"), sd_str_json(s, t->onnx), sd_str_put(s, ",\"artifact\":"),
        sd_str_json(s, t->artifact);
    put_number(s, "p50_ms", t->ms50), put_number(s, "p99_ms", t->ms99), put_number(s, "speed", t->speed);
    put_number(s, "samples_per_s", t->rate), put_number(s, "value", t->value), put_number(s, "drop", t->drop);
    put_number(s, "drop_bound", fmin(t->bound, 1e300)), put_number(s, "peak_mb", t->peak_mb);
    sd_strf(s,
            ",\"bytes\":%llu,\"memory_bytes\":%llu,\"batch\":%lld,\"worse\":%lld,\"better\":%lld,"
            "\"given_up_after\":%lld",
            (unsigned long long)t->bytes, (unsigned long long)t->memory, (long long)t->batch,
            (long long)t->worse, (long long)t->better, (long long)t->samples);
  }
  sd_str_put(s, "}");
}

sard_status *sd_optimize_save(sd_optimize *q) {
  sd_str s = {0};
  uint32_t n = 0;
  sd_strf(&s, "{\"key\":\"%s\",\"used_s\":%.3f,\"trials\":[", q->key,
          q->used_s + (double)(sd_now_ns() - q->start_ns) * 1e-9);
  for (uint32_t i = 1; i < q->trials.len; i++) {
    if (q->trials.at[i].state == SD_TRIAL_WAITS) continue;
    sd_str_put(&s, n++ ? ",\n" : "\n"), put_trial(&s, &q->trials.at[i]);
  }
  sd_str_put(&s, "]}\n");
  sard_status *st = s.failed ? SD_ERR(NOMEM, "out of memory") : sd_files_write(state_file(q), s.p, s.len);
  sd_str_free(&s);
  return st;
}

// Files that trials make: 16 digits and an ending.
static bool is_ours(const char *name) {
  size_t n = strspn(name, "0123456789abcdef");
  return strcmp(name, "state.json") == 0 || (n == 16 && name[16] == '.');
}

void sd_optimize_clean(sd_optimize *q) {
  DIR *d = opendir(q->folder);
  if (!d) return;
  for (struct dirent *e; (e = readdir(d)) != NULL;)
    if (is_ours(e->d_name)) unlink(sd_files_path(q->c, q->folder, "%s", e->d_name));
  closedir(d);
  rmdir(q->folder); // what others put there stays
}
