// Finding and keeping artifacts in the compile cache.
#include "frontend/driver/cache.h"

#include <stdio.h>
#include <fcntl.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "codegen/cuda/device.h"
#include "frontend/driver/cache_files.h"
#include "frontend/driver/precision.h"
#include "build_hash.h"
#include "runtime/base/alloc.h"
#include "runtime/base/thread.h"
#include "runtime/cpu.h"

static const uint64_t USUAL_LIMIT = UINT64_C(4) << 30;

// A file that the model is read from.
typedef struct source_file {
  const char *name, *path; // "" for the model, else the location of external data
  sd_identity id;
  sd_digest digest;
  bool firm; // a change would show in its identity
} source_file;

struct sd_cache {
  sd_arena *arena;
  sd_cache_folder folder;
  const char *path; // of the folder; NULL: the cache is off
  uint64_t limit;
  const char *state; // "hit", "stored", "off", or "unused" for the reason of `why`
  const char *why;
  const sard_source *src;
  sd_driver_options *o;
  sd_import_shapes ranks; // what the options had for them
  bool asked;             // for a rank, which is none of the options
  struct timespec start;
  sd_digest options, model, entry; // of the options; of them and the model; of external data, too: the artifact's name
  SD_VEC(source_file) files;       // the model (where it is a file), then external data as far as it is known
  bool all_firm, record;           // of `files`; the record of them is to be written
  bool writing;                    // files, as the caller was told
  sd_digest untuned; // the artifact's name without the choices of a tuning, and that of the tuning's record
  sd_digest tune;
  sd_tuning tuning;
  double store_s;
};

// ---- what code depends on ----

static void put_devices(sd_str *s, const sd_devices *d) {
  sd_strf(s, "devices %d split %d costs %d cuts %d batch %u\n", d->n, d->split, d->costs, d->n_cuts, d->batch);
  for (int i = 0; i < d->n; i++) sd_strf(s, "memory %llu\n", (unsigned long long)d->memory[i]);
  for (int i = 0; i < d->n_cuts; i++) sd_strf(s, "cut %u\n", d->cuts[i]);
}

static void put_options(sd_str *s, const sd_cache *c, const sd_isa *isa) {
  const sd_driver_options *o = c->o;
  char cpu[SD_CPU_ID];
  sd_strf(s, "artifact %u build %s cpu %s\n", SARD_ART_VERSION, SARD_BUILD_HASH, sd_cpu_id(cpu));
  sd_codegen_basis(isa, s);
  sd_strf(s, "opt %d keep-ir %d tf32 %d two-of-four %d free-dims %d watch %d\n", o->opt, o->keep_ir, o->tf32, o->two_of_four, o->free_dims, o->watch);
  if (o->devices.mpi) sd_strf(s, "rank %d of %d\n", o->devices.rank, o->devices.ranks);
  if (sd_split_in_parts(o->devices.split) || sd_devices_least_memory(&o->devices) || sd_devices_mixed(&o->devices))
    put_devices(s, &o->devices);
  if (o->precision) sd_precision_print(o->precision, s);
  for (uint32_t i = 0; i < o->dims.len; i++)
    sd_strf(s, "dim %s=%lld\n", o->dims.at[i].name, (long long)o->dims.at[i].value);
  for (uint32_t i = 0; i < o->ranks.len; i++)
    sd_strf(s, "rank %s=%lld\n", o->ranks.at[i].name, (long long)o->ranks.at[i].value);
}

static sard_status *digest_options(sd_cache *c) {
  const sd_isa *isa;
  sd_str s = {0};
  SD_TRY(sd_driver_target(c->o->target, &isa));
  put_options(&s, c, isa);
  sard_status *st = sd_cuda_device_basis(c->o->device, &s);
  if (!st && s.failed) st = SD_ERR(NOMEM, "out of memory");
  if (!st) c->options = sd_digest_bytes(&c->folder.key, s.p, s.len);
  sd_str_free(&s);
  return st;
}

static sd_digest join(const sd_cache *c, sd_digest a, sd_digest b) {
  sd_digest both[2] = {a, b};
  return sd_digest_bytes(&c->folder.key, both, sizeof both);
}

// ---- opening ----

static bool unused(sd_cache *c, const char *why) {
  c->state = "unused", c->why = why;
  return false;
}

static void writing(sd_cache *c, bool on) {
  c->writing = on;
  if (c->o->progress.writing) c->o->progress.writing(c->o->progress.user, on);
}

static sard_status *ask_rank(void *user, uint32_t index, const char *name, int *out) {
  sd_cache *c = user;
  c->asked = true;
  return c->ranks.rank(c->ranks.user, index, name, out);
}

static sard_status *open_cache(sd_cache *c, const sard_options *options) {
  c->state = "off", c->limit = USUAL_LIMIT;
  if (sd_options_get(options, "cache-limit")) SD_TRY(sd_options_bytes(options, "cache-limit", &c->limit));
  c->path = c->o->verify || c->src->read_external ? NULL : sd_cache_folder_path(c->arena, sd_options_get(options, "cache"));
  if (!c->path) return NULL;
  clock_gettime(CLOCK_REALTIME, &c->start);
  c->state = "unused";
  writing(c, true); // the key, the first time
  bool there = sd_cache_folder_open(c->arena, c->path, &c->folder, &c->why);
  writing(c, false);
  if (!there) return NULL;
  c->ranks = c->o->more_ranks;
  if (c->ranks.rank) c->o->more_ranks.rank = ask_rank, c->o->more_ranks.user = c;
  return digest_options(c);
}

sard_status *sd_cache_open(const sard_source *src, const sard_options *options, sd_driver_options *o, sd_cache **out) {
  jmp_buf oom;
  sd_arena *volatile a = sd_arena_new();
  sd_cache *volatile made = NULL;
  *out = NULL;
  if (!a || setjmp(oom)) {
    if (made && made->writing) writing(made, false);
    sd_arena_free(a);
    return SD_ERR(NOMEM, "out of memory");
  }
  sd_arena_set_oom(a, &oom);
  sd_cache *c = made = SD_NEW(a, sd_cache);
  c->arena = a, c->src = src, c->o = o;
  sard_status *st = open_cache(c, options);
  sd_arena_set_oom(a, NULL);
  if (st) sd_arena_free(a);
  else
    *out = c;
  return st;
}

void sd_cache_free(sd_cache *c) {
  if (!c) return;
  if (c->ranks.rank) c->o->more_ranks = c->ranks;
  sd_arena_free(c->arena);
}

// ---- the files of the model ----

static const char *path_beside(sd_cache *c, const char *location) {
  const char *slash = strrchr(c->src->path, '/');
  return slash ? sd_arena_printf(c->arena, "%.*s%s", (int)(slash - c->src->path + 1), c->src->path, location)
               : location;
}

// Fills in identity and digest; `known` (NULL: none) tells the digest of an earlier identity.
static bool examine(sd_cache *c, source_file *f, const sd_cache_item *known) {
  sd_identity after;
  if (known && sd_identity_at(f->path, &f->id) && sd_identity_same(&known->id, &f->id)) {
    f->digest = known->digest, f->firm = true;
    return true;
  }
  int fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | (*f->name ? O_NOFOLLOW : 0));
  bool ok = fd >= 0 && sd_identity_of(fd, &f->id);
  if (ok) {
    f->firm = sd_identity_is_firm(fd, &f->id);
    ok = sd_identity_digest(fd, f->id.size, &c->folder.key, &f->digest) && sd_identity_of(fd, &after) &&
         sd_identity_same(&after, &f->id);
    c->record = true;
  }
  if (fd >= 0) close(fd);
  return ok;
}

static bool add_file(sd_cache *c, const char *name, const sd_cache_item *known) {
  source_file f = {.name = name, .path = *name ? path_beside(c, name) : c->src->path};
  if (!examine(c, &f, known)) return unused(c, sd_arena_printf(c->arena, "'%s' cannot be read, or changes", f.path));
  sd_vec_push(c->arena, &c->files, f);
  c->all_firm &= f.firm;
  return true;
}

static sd_digest name_of_files(const sd_cache *c, const sd_identity *id) {
  uint64_t at[4] = {id->device, id->inode, c->options.lo, c->options.hi};
  return sd_digest_bytes(&c->folder.key, at, sizeof at);
}

static void name_entry(sd_cache *c) {
  sd_digesting d;
  c->entry = c->model;
  if (c->files.len < 2) return;
  sd_digest_begin(&d, &c->folder.key);
  sd_digest_put(&d, &c->model, sizeof c->model);
  for (uint32_t i = 1; i < c->files.len; i++) {
    sd_digest_put(&d, c->files.at[i].name, strlen(c->files.at[i].name) + 1);
    sd_digest_put(&d, &c->files.at[i].digest, sizeof c->files.at[i].digest);
  }
  c->entry = sd_digest_end(&d);
}

// The model, and the external data that models of its bytes have as an earlier compilation saw.
static bool examine_files(sd_cache *c) {
  sd_cache_record r = {0}, names = {0};
  sd_identity id;
  bool known = sd_identity_at(c->src->path, &id) &&
               sd_cache_record_read(c->arena, &c->folder, name_of_files(c, &id), "in", &r) && r.this_boot && r.n;
  c->all_firm = true;
  if (!add_file(c, "", known ? &r.at[0] : NULL)) return false;
  c->model = join(c, c->options, c->files.at[0].digest);
  if (known && sd_digest_same(r.at[0].digest, c->files.at[0].digest)) names = r;
  else if (sd_cache_record_read(c->arena, &c->folder, c->model, "names", &names))
    known = false;
  for (uint32_t i = 1; i < names.n; i++)
    if (!add_file(c, names.at[i].name, known ? &r.at[i] : NULL)) return false;
  name_entry(c);
  return true;
}

static bool identify(sd_cache *c) {
  c->files.len = 0;
  if (c->src->path) return examine_files(c);
  c->model = join(c, c->options, sd_digest_bytes(&c->folder.key, c->src->data, c->src->bytes));
  c->all_firm = true;
  name_entry(c);
  return true;
}

// ---- tuning ----

// "next N", then lines of KERNEL, three numbers of the best choice, three of the one in use, RATIO.
static bool parse_tuning(const char *text, sd_arena *a, sd_tune_state *out) {
  int end = 0;
  if (sscanf(text, "next %u\n%n", &out->next, &end) != 1 || !end) return false;
  for (const char *p = text + end; *p; p += end) {
    unsigned long long kernel;
    sd_tune_entry e;
    end = 0;
    if (sscanf(p, "%llx %d %d %d %d %d %d %lf\n%n", &kernel, &e.best.rows, &e.best.vectors, &e.best.tiles, &e.used.rows,
               &e.used.vectors, &e.used.tiles, &e.ratio, &end) != 8 ||
        !end)
      return false;
    e.best.kernel = e.used.kernel = kernel;
    sd_vec_push(a, &out->entries, e);
  }
  return true;
}

static void read_tuning(sd_cache *c, int threads, sd_arena *a, sd_tune_state *out) {
  sd_cache_record r;
  sd_digest of_threads = {(uint64_t)threads, 0};
  c->untuned = c->entry, c->tune = join(c, c->entry, of_threads);
  *out = (sd_tune_state){0};
  if (!sd_cache_record_read(c->arena, &c->folder, c->tune, "tune", &r) || parse_tuning(r.text, a, out)) return;
  *out = (sd_tune_state){0};
}

// The choices in use are part of the artifact's name, and of the options of a compilation.
static void use_tuning(sd_cache *c, const sd_tune_state *s) {
  sd_tuned *at = SD_NEW_ARRAY(c->arena, sd_tuned, s->entries.len + 1);
  uint32_t n = 0;
  for (uint32_t i = 0; i < s->entries.len; i++)
    if (s->entries.at[i].used.rows || s->entries.at[i].used.tiles) at[n++] = s->entries.at[i].used;
  c->entry = c->untuned, c->o->tuning = NULL;
  if (!n) return;
  c->tuning = (sd_tuning){.at = at, .n = n};
  c->o->tuning = &c->tuning;
  sd_digesting d;
  sd_digest_begin(&d, &c->folder.key);
  for (uint32_t i = 0; i < n; i++) {
    int64_t part[4] = {(int64_t)at[i].kernel, at[i].rows, at[i].vectors, at[i].tiles};
    sd_digest_put(&d, part, sizeof part);
  }
  c->entry = join(c, c->untuned, sd_digest_end(&d));
}

bool sd_cache_tuning_read(sd_cache *c, int threads, sd_arena *a, sd_tune_state *out) {
  jmp_buf oom;
  if (setjmp(oom)) return unused(c, "out of memory");
  sd_arena_set_oom(c->arena, &oom);
  bool ok = c->path && !c->why && identify(c);
  if (ok) read_tuning(c, threads, a, out);
  sd_arena_set_oom(c->arena, NULL);
  return ok;
}

static bool write_tuning(sd_cache *c, const sd_tune_state *s) {
  sd_str text = {0};
  sd_strf(&text, "next %u\n", s->next);
  for (uint32_t i = 0; i < s->entries.len; i++) {
    const sd_tune_entry *e = &s->entries.at[i];
    sd_strf(&text, "%llx %d %d %d %d %d %d %.4f\n", (unsigned long long)e->best.kernel, e->best.rows, e->best.vectors,
            e->best.tiles, e->used.rows, e->used.vectors, e->used.tiles, e->ratio);
  }
  if (text.failed) return sd_str_free(&text), false;
  const char *kept = sd_arena_keep(c->arena, sd_str_take(&text));
  writing(c, true);
  bool ok = sd_cache_record_write(c->arena, &c->folder, c->tune, "tune", &(sd_cache_record){.text = kept});
  writing(c, false);
  use_tuning(c, s);
  return ok || unused(c, sd_arena_printf(c->arena, "cannot write to the folder '%s'", c->path));
}

bool sd_cache_tuning_write(sd_cache *c, const sd_tune_state *s) {
  jmp_buf oom;
  bool ok = false;
  if (setjmp(oom)) {
    ok = unused(c, "out of memory");
  } else {
    sd_arena_set_oom(c->arena, &oom);
    ok = write_tuning(c, s);
  }
  sd_arena_set_oom(c->arena, NULL);
  if (c->writing) writing(c, false);
  return ok;
}

const char *sd_cache_why(const sd_cache *c) { return c->why ? c->why : "it is off"; }

static bool write_record(sd_cache *c, const char *kind, sd_digest name) {
  sd_cache_record r = {.n = c->files.len};
  r.at = SD_NEW_ARRAY(c->arena, sd_cache_item, r.n + 1);
  for (uint32_t i = 0; i < r.n; i++)
    r.at[i] = (sd_cache_item){c->files.at[i].id, c->files.at[i].digest, c->files.at[i].name};
  return sd_cache_record_write(c->arena, &c->folder, name, kind, &r);
}

// Only identities that would move are worth a record.
static void remember_files(sd_cache *c) {
  if (c->record && c->all_firm && c->files.len) write_record(c, "in", name_of_files(c, &c->files.at[0].id));
  c->record = false;
}

// ---- finding ----

static void discard(sd_cache *c) {
  unlink(sd_cache_file(c->arena, &c->folder, c->entry, "ok"));
  unlink(sd_cache_file(c->arena, &c->folder, c->entry, "sard"));
}

// The artifact has the contents that were written. Its identity is enough: where that has changed contents are
// compared, and *id is the new one.
static bool is_sound(sd_cache *c, int fd, const sd_cache_record *ok, sd_identity *id) {
  sd_digest digest;
  if (!sd_identity_of(fd, id)) return false;
  if (ok->this_boot && sd_identity_same(id, &ok->at[0].id)) return true;
  return id->size == ok->at[0].id.size && sd_identity_digest(fd, id->size, &c->folder.key, &digest) &&
         sd_digest_same(digest, ok->at[0].digest);
}

static void release_map(void *user) {
  sd_file_unmap(user);
  sd_free(user);
}

// The model holds the map: it is no memory of the arena.
static sard_status *load_map(int fd, const char *path, sard_context *ctx, sard_model **out) {
  sd_map *map = sd_malloc(sizeof *map);
  if (!map) return SD_ERR(NOMEM, "out of memory while opening a model");
  sard_status *st = sd_file_map_open(fd, path, map);
  if (st) sd_free(map);
  return st ? st : sd_model_from_bytes(ctx, &(sd_piece){map->data, map->size}, 1, release_map, map, out);
}

// Nothing here is allocated from the arena, which may leave: the file is open.
static sard_status *load(sd_cache *c, sard_context *ctx, const char *path, const sd_cache_record *ok, sd_identity *id,
                         sard_model **out) {
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return SD_ERR(MODEL, "it is not there");
  sard_status *st = is_sound(c, fd, ok, id) ? load_map(fd, path, ctx, out) : SD_ERR(MODEL, "it is damaged");
  close(fd);
  return st;
}

static sard_status *give_report(const char *text, char **json) {
  sd_str s = {0};
  size_t n = strlen(text);
  sd_str_putn(&s, text, n ? n - 1 : 0); // up to the last brace
  sd_str_put(&s, n ? ",\"cache\":\"hit\"}" : "{\"cache\":\"hit\"}");
  *json = sd_str_take(&s);
  return *json ? NULL : SD_ERR(NOMEM, "out of memory for the report");
}

static sard_status *find(sd_cache *c, sard_context *ctx, char **json, sard_model **out) {
  sd_cache_record ok;
  sd_identity id = {0};
  sd_tune_state tuned;
  if (!c->path || c->why || !identify(c)) return NULL;
  read_tuning(c, sd_context_threads(ctx), c->arena, &tuned);
  use_tuning(c, &tuned);
  if (!sd_cache_record_read(c->arena, &c->folder, c->entry, "ok", &ok) || ok.n != 1) return NULL;
  sard_status *st = load(c, ctx, sd_cache_file(c->arena, &c->folder, c->entry, "sard"), &ok, &id, out);
  if (sard_status_code(st) == SARD_E_MODEL) { // it is compiled again
    sard_status_free(st);
    discard(c);
    return NULL;
  }
  SD_TRY(st);
  c->state = "hit";
  if (json) SD_TRY(give_report(ok.text, json));
  writing(c, true);
  if (!ok.this_boot || !sd_identity_same(&id, &ok.at[0].id)) {
    ok.at[0].id = id;
    sd_cache_record_write(c->arena, &c->folder, c->entry, "ok", &ok);
  }
  remember_files(c);
  writing(c, false);
  return NULL;
}

sard_status *sd_cache_find(sd_cache *c, sard_context *ctx, char **json, sard_model **out) {
  jmp_buf oom;
  sard_status *st;
  if (setjmp(oom)) {
    st = SD_ERR(NOMEM, "out of memory while looking into the cache");
  } else {
    sd_arena_set_oom(c->arena, &oom);
    st = find(c, ctx, json, out);
  }
  sd_arena_set_oom(c->arena, NULL);
  if (c->writing) writing(c, false);
  if (st) sard_model_free(*out), *out = NULL;
  return st;
}

// ---- keeping ----

// The compiler has read what the digest was made of.
static bool is_unchanged(sd_cache *c, const source_file *f) {
  source_file now = {.name = f->name, .path = f->path};
  sd_cache_item known = {f->id, f->digest, f->name};
  return examine(c, &now, f->firm ? &known : NULL) && sd_digest_same(now.digest, f->digest) &&
         sd_identity_same(&now.id, &f->id);
}

// External data that the compilation has shown: it must not have changed since that began.
static bool add_external(sd_cache *c, const char *name) {
  if (!add_file(c, sd_arena_strdup(c->arena, name), NULL)) return false;
  const source_file *f = &c->files.at[c->files.len - 1];
  bool older = f->id.changed_s < c->start.tv_sec - 1;
  return (f->firm && older) ||
         unused(c, sd_arena_printf(c->arena, "'%s' has changed just now; the next start may keep it", f->path));
}

static bool check_files(sd_cache *c, const sd_module *m) {
  uint32_t known = c->files.len;
  if (c->asked) return unused(c, "the model takes the ranks of inputs from their files");
  for (uint32_t i = 0; i < known; i++)
    if (!is_unchanged(c, &c->files.at[i]))
      return unused(c, sd_arena_printf(c->arena, "'%s' changed meanwhile", c->files.at[i].path));
  if (known > 1 || !c->src->path || !m->externals.len) return true;
  for (uint32_t i = 0; i < m->externals.len; i++)
    if (!add_external(c, m->externals.at[i])) return false;
  name_entry(c);
  return true;
}

static bool has_room(sd_cache *c, uint64_t bytes) {
  struct statvfs fs;
  if (bytes > c->limit)
    return unused(c, sd_arena_printf(c->arena, "the artifact has %llu bytes, the limit of the cache is %llu",
                                     (unsigned long long)bytes, (unsigned long long)c->limit));
  sd_cache_room(c->arena, &c->folder, c->limit - bytes);
  if (statvfs(c->path, &fs) == 0 && fs.f_bavail < bytes / fs.f_frsize)
    return unused(c, sd_arena_printf(c->arena, "the disk of '%s' has no room for %llu bytes", c->path,
                                     (unsigned long long)bytes));
  return true;
}

// The record is made of the file as it lies there, so that it is right whoever wrote last.
static bool write_ok(sd_cache *c, const char *path, const char *report) {
  sd_cache_item i = {.name = ""};
  sd_cache_record r = {.at = &i, .n = 1, .text = report};
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  bool ok = fd >= 0 && sd_identity_of(fd, &i.id) && sd_identity_digest(fd, i.id.size, &c->folder.key, &i.digest);
  if (fd >= 0) close(fd);
  return ok && sd_cache_record_write(c->arena, &c->folder, c->entry, "ok", &r);
}

static bool write_entry(sd_cache *c, const sd_compiled *k, const char *report) {
  const char *path = sd_cache_file(c->arena, &c->folder, c->entry, "sard");
  sard_status *st = sd_file_put(path, k->pieces, k->n_pieces);
  if (st) {
    unused(c, sd_arena_strdup(c->arena, sard_status_text(st, SARD_TEXT_MESSAGE)));
    sard_status_free(st);
    return false;
  }
  bool ok = (c->files.len < 2 || write_record(c, "names", c->model)) && write_ok(c, path, report);
  if (!ok) return discard(c), unused(c, sd_arena_printf(c->arena, "cannot write to the folder '%s'", c->path));
  return true;
}

static void store(sd_cache *c, const sd_compiled *k, const char *report) {
  uint64_t bytes = 1 << 16; // of records
  if (!c->path || c->why || !check_files(c, k->module)) return;
  for (size_t i = 0; i < k->n_pieces; i++) bytes += k->pieces[i].size;
  writing(c, true);
  if (has_room(c, bytes) && write_entry(c, k, report)) {
    c->state = "stored";
    c->record = true;
    remember_files(c);
    sd_cache_room(c->arena, &c->folder, c->limit); // others may have written, too
  }
  writing(c, false);
}

void sd_cache_store(sd_cache *c, const sd_compiled *k) {
  jmp_buf oom;
  int64_t t0 = sd_now_ns();
  char *volatile report = sd_driver_report_json(&k->report);
  if (!report || setjmp(oom)) {
    unused(c, "out of memory");
  } else {
    sd_arena_set_oom(c->arena, &oom);
    store(c, k, report);
  }
  sd_arena_set_oom(c->arena, NULL);
  if (c->writing) writing(c, false);
  sd_free(report);
  c->store_s = (double)(sd_now_ns() - t0) * 1e-9;
}

// ---- telling ----

sard_status *sd_cache_tell(const sd_cache *c, sard_model *m) {
  m->cache.state = c->state, m->cache.store_s = c->store_s;
  m->cache.folder = c->path ? sd_strdup(c->path) : NULL;
  m->cache.why = c->why ? sd_strdup(c->why) : NULL;
  return (c->path && !m->cache.folder) || (c->why && !m->cache.why)
             ? SD_ERR(NOMEM, "out of memory while loading a model")
             : NULL;
}

void sd_cache_summarize(sd_arena *a, sd_cache_summary *out) {
  sd_cache_folder f;
  *out = (sd_cache_summary){.path = sd_cache_folder_path(a, NULL), .limit = USUAL_LIMIT};
  if (!out->path || access(out->path, F_OK) != 0 || !sd_cache_folder_open(a, out->path, &f, &out->why)) return;
  sd_cache_use use = sd_cache_count(a, out->path);
  out->artifacts = use.artifacts, out->bytes = use.bytes;
}
