// The entries as a table, what is common to all calls, settings, handles, devices and contexts.
#include "tests/cuda/null/null.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef void (*any_fn)(void);
typedef struct entry {
  const char *name;
  int version;
  any_fn fn;
} entry;
static const entry entries[] = {
#define SD_CU(field, name, version, arguments) {name, version, (any_fn)null_##field},
#include "runtime/cuda/api.def"
#undef SD_CU
};
enum { MAX_FAILS = 16, FINDINGS_RC = 88 };

typedef struct failure {
  char name[64];
  long at;
  int code;
} failure;
typedef struct context {
  int retained, error;
} context;

null_settings null_set;
static failure fails[MAX_FAILS];
static int n_fails;
static char missing[64];
static FILE *trace;
static long calls[N_ENTRIES], n_calls, n_findings;
static context contexts[MAX_DEVICES];
static null_object *objects, *others; // others: that have ended, and functions, which end with their module
static unsigned n_objects;
static bool initialized;
static uint64_t random_state;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Thread_local context *current;
static _Thread_local char call_text[300];
static _Thread_local null_entry call_entry;
static _Thread_local const void *call_stream;

// ---- settings ----
static const char *text_of(const char *name, const char * or) {
  const char *v = getenv(name);
  return v && *v ? v : or ;
}

static void read_fails(const char *text) {
  n_fails = 0;
  for (const char *p = text; p && *p && n_fails < MAX_FAILS; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL) {
    failure *f = &fails[n_fails];
    if (sscanf(p, "%63[^:]:%ld:%d", f->name, &f->at, &f->code) == 3) n_fails++;
    else
      null_finding("SARD_NULL_FAIL: '%s' is not name:k:code", p);
  }
}

static void read_settings(void) {
  const char *mode = text_of("SARD_NULL_MODE", "deferred");
  null_set = (null_settings){.devices = atoi(text_of("SARD_NULL_DEVICES", "1")),
                             .cc = atoi(text_of("SARD_NULL_CC", "90")),
                             .version = atoi(text_of("SARD_NULL_VERSION", "13000")),
                             .mode = *mode == 'e'   ? EAGER
                                     : *mode == 'm' ? MIXED
                                                    : DEFERRED,
                             .peer = atoi(text_of("SARD_NULL_PEER", "1")),
                             .memory = strtoull(text_of("SARD_NULL_MEMORY", "8589934592"), NULL, 0)};
  if (null_set.devices > MAX_DEVICES) null_set.devices = MAX_DEVICES;
  random_state = strtoull(text_of("SARD_NULL_SEED", "1"), NULL, 0);
  snprintf(missing, sizeof missing, "%s", text_of("SARD_NULL_MISSING", ""));
  sscanf(text_of("SARD_NULL_FAULT", "0:0"), "%ld:%d", &null_set.fault_at, &null_set.fault_code);
  read_fails(text_of("SARD_NULL_FAIL", ""));
}

static __attribute__((constructor)) void begin(void) {
  read_settings();
  const char *path = text_of("SARD_NULL_TRACE", NULL);
  trace = path ? fopen(path, "w") : NULL;
}

static void write_counts(const char *path) {
  FILE *f = path ? fopen(path, "w") : NULL;
  if (!f) return;
  for (int i = 0; i < N_ENTRIES; i++) fprintf(f, "%s %ld\n", entries[i].name, calls[i]);
  fprintf(f, "launches %ld\n", work_launches(false));
  fclose(f);
}

static __attribute__((destructor)) void end(void) {
  for (int i = 0; i < MAX_DEVICES; i++) {
    if (contexts[i].retained > 0) null_finding("the context of device %d is not released", i);
    null_objects_live(i, true);
  }
  write_counts(text_of("SARD_NULL_COUNTS", NULL));
  if (trace) fclose(trace);
  trace = NULL;
  if (!n_findings) return;
  fflush(NULL);
  _exit(FINDINGS_RC);
}

void null_finding(const char *fmt, ...) {
  char text[600];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  n_findings++;
  fprintf(stderr, "null driver: %s\n", text);
  if (trace) fprintf(trace, "FINDING %s\n", text);
}

unsigned null_random(unsigned n) {
  random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
  return (unsigned)((random_state >> 33) % n);
}

__attribute__((visibility("default"))) long null_ask(const char *what) {
  long n = -1;
  pthread_mutex_lock(&lock);
  for (int i = 0; i < N_ENTRIES; i++)
    if (strcmp(what, entries[i].name) == 0) n = calls[i];
  if (strcmp(what, "findings") == 0) n = n_findings, n_findings = 0;
  if (strcmp(what, "launches") == 0) n = work_launches(false);
  if (strcmp(what, "live") == 0) {
    n = 0;
    for (int i = 0; i < MAX_DEVICES; i++) n += null_objects_live(i, false) + contexts[i].retained;
  }
  if (strcmp(what, "reset") == 0) {
    n = 0;
    read_settings();
    memset(calls, 0, sizeof calls);
    work_launches(true);
    for (int i = 0; i < MAX_DEVICES; i++) contexts[i].error = 0;
  }
  pthread_mutex_unlock(&lock);
  return n;
}

// ---- calls ----
bool null_sticky(int code) {
  return code == 214 || code == 220 || code == 700 || code == 702 || code == 710 || (code >= 714 && code <= 719) ||
         code == 999;
}

int null_device(void) { return current ? (int)(current - contexts) : -1; }
int *null_error(int device) { return &contexts[device].error; }

static int injected(null_entry e) {
  for (int i = 0; i < n_fails; i++) {
    if (strcmp(fails[i].name, entries[e].name) != 0 || fails[i].at != calls[e]) continue;
    if (null_sticky(fails[i].code) && current) current->error = fails[i].code, work_forget(null_device());
    return fails[i].code;
  }
  return OK;
}

static int in_capture(null_entry e) {
  null_stream *s = work_capture_of_thread();
  if (!s) return OK;
  null_finding("%s(%s) while the thread captures stream %u", entries[e].name, call_text, s->object.number);
  s->broken = true;
  return CAPTURE_UNSUPPORTED;
}

static int allowed(null_entry e, unsigned needs) {
  if (needs != ANY && !initialized) return null_finding("%s before cuInit", entries[e].name), NOT_INITIALIZED;
  if ((needs & IN_CONTEXT) && (!current || !current->retained))
    return null_finding("%s(%s) in a thread without a context", entries[e].name, call_text), INVALID_CONTEXT;
  int rc = injected(e);
  if (!rc && (needs & IN_CONTEXT)) rc = current->error;
  if (!rc && (needs & NOT_IN_CAPTURE)) rc = in_capture(e);
  return rc;
}

int null_enter(null_entry e, unsigned needs, const void *stream, const char *fmt, ...) {
  va_list ap;
  pthread_mutex_lock(&lock);
  va_start(ap, fmt);
  vsnprintf(call_text, sizeof call_text, fmt, ap);
  va_end(ap);
  n_calls++, calls[e]++;
  call_entry = e, call_stream = stream;
  return allowed(e, needs);
}

int null_leave(int result) {
  memory_close();
  const null_object *s = call_stream;
  if (trace)
    fprintf(trace, "%ld %lx %u %s(%s) = %d\n", n_calls, (unsigned long)pthread_self(), s ? s->number : 0,
            entries[call_entry].name, call_text, result),
        fflush(trace);
  pthread_mutex_unlock(&lock);
  return result;
}

void null_lock(bool on) { on ? pthread_mutex_lock(&lock) : pthread_mutex_unlock(&lock); }

void null_pause(void) {
  memory_close();
  pthread_mutex_unlock(&lock);
  nanosleep(&(struct timespec){0, 200000}, NULL);
  pthread_mutex_lock(&lock);
}

__attribute__((visibility("default"))) int cuGetProcAddress_v2(const char *symbol, void **out, int version,
                                                               uint64_t flags, int *status) {
  (void)flags;
  *out = NULL, *status = 1;
  for (int i = 0; i < N_ENTRIES; i++) {
    if (strcmp(symbol, entries[i].name) != 0 || strcmp(symbol, missing) == 0) continue;
    if (version != entries[i].version) null_finding("%s is asked for as of version %d", symbol, version);
    *status = entries[i].version > null_set.version ? 2 : 0;
    if (*status == 0) memcpy(out, &entries[i].fn, sizeof *out);
  }
  return *status ? NOT_FOUND : OK;
}

// ---- handles ----
const char *null_kind_name(null_kind kind) {
  static const char *const names[] = {"", "stream", "event", "module", "function", "graph", "executable graph"};
  return names[kind];
}

void *null_object_new(null_kind kind, size_t size) {
  null_object *o = calloc(1, size);
  if (!o) abort();
  null_object **list = kind == FUNCTION ? &others : &objects;
  *o = (null_object){kind, null_device(), ++n_objects, false, *list};
  return *list = o;
}

static null_object *find_in(null_object *list, const void *handle) {
  while (list && list != handle) list = list->next;
  return list;
}

void *null_object_find(const void *handle, null_kind kind) {
  null_object *o = find_in(objects, handle);
  if (!o) o = find_in(others, handle);
  if (!o) return null_finding("%p is no %s", handle, null_kind_name(kind)), NULL;
  if (o->kind == kind && !o->dead) return o;
  return null_finding("%s %u is used %s", null_kind_name(o->kind), o->number, o->dead ? "after its end" : "as something else"),
         NULL;
}

void null_object_drop(null_object *o) {
  null_object **at = &objects;
  if (o->dead) return;
  while (*at != o) at = &(*at)->next;
  *at = o->next;
  o->dead = true, o->next = others;
  others = o;
}

int null_objects_live(int device, bool tell) {
  int n = memory_live(device, tell);
  for (const null_object *o = objects; o; o = o->next) {
    if (o->device != device || o->number == 0) continue;
    n++;
    if (tell) null_finding("%s %u is not destroyed", null_kind_name(o->kind), o->number);
  }
  return n;
}

// ---- start, devices, contexts ----
int null_init(unsigned flags) {
  int rc = null_enter(N_init, ANY, NULL, "%u", flags);
  initialized |= !rc;
  return null_leave(rc);
}

int null_driver_version(int *out) {
  int rc = null_enter(N_driver_version, ANY, NULL, " ");
  *out = null_set.version;
  return null_leave(rc);
}

int null_error_name(int code, const char **out) {
  static const struct {
    int code;
    const char *name;
  } names[] = {{1, "CUDA_ERROR_INVALID_VALUE"},
               {2, "CUDA_ERROR_OUT_OF_MEMORY"},
               {3, "CUDA_ERROR_NOT_INITIALIZED"},
               {34, "CUDA_ERROR_STUB_LIBRARY"},
               {46, "CUDA_ERROR_DEVICE_UNAVAILABLE"},
               {100, "CUDA_ERROR_NO_DEVICE"},
               {200, "CUDA_ERROR_INVALID_IMAGE"},
               {201, "CUDA_ERROR_INVALID_CONTEXT"},
               {209, "CUDA_ERROR_NO_BINARY_FOR_GPU"},
               {214, "CUDA_ERROR_ECC_UNCORRECTABLE"},
               {218, "CUDA_ERROR_INVALID_PTX"},
               {222, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION"},
               {217, "CUDA_ERROR_PEER_ACCESS_UNSUPPORTED"},
               {400, "CUDA_ERROR_INVALID_HANDLE"},
               {600, "CUDA_ERROR_NOT_READY"},
               {700, "CUDA_ERROR_ILLEGAL_ADDRESS"},
               {702, "CUDA_ERROR_LAUNCH_TIMEOUT"},
               {704, "CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED"},
               {715, "CUDA_ERROR_ILLEGAL_INSTRUCTION"},
               {719, "CUDA_ERROR_LAUNCH_FAILED"},
               {803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"},
               {900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"},
               {901, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"},
               {999, "CUDA_ERROR_UNKNOWN"}};
  int rc = null_enter(N_error_name, ANY, NULL, "%d", code);
  *out = NULL;
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (names[i].code == code) *out = names[i].name;
  return null_leave(rc ? rc : *out ? OK : INVALID_VALUE);
}

int null_error_text(int code, const char **out) {
  int rc = null_enter(N_error_text, ANY, NULL, "%d", code);
  *out = rc ? NULL : "words of the null driver";
  return null_leave(rc);
}

int null_device_count(int *out) {
  int rc = null_enter(N_device_count, STARTED, NULL, " ");
  *out = null_set.devices;
  return null_leave(rc);
}

int null_device_get(int *out, int ordinal) {
  int rc = null_enter(N_device_get, STARTED, NULL, "%d", ordinal);
  *out = ordinal;
  return null_leave(rc ? rc : ordinal >= 0 && ordinal < null_set.devices ? OK : INVALID_DEVICE);
}

static bool is_device(int d) {
  bool is = d >= 0 && d < null_set.devices;
  if (!is) null_finding("there is no device %d", d);
  return is;
}

int null_device_name(char *out, int size, int device) {
  int rc = null_enter(N_device_name, STARTED, NULL, "%d", device);
  if (!rc && !is_device(device)) rc = INVALID_DEVICE;
  if (!rc) snprintf(out, (size_t)size, "null device %d", device);
  return null_leave(rc);
}

int null_device_attribute(int *out, int attribute, int device) {
  static const int known[][2] = {{1, 1024},      {2, 1024},     {5, 2147483647}, {8, 49152},    {10, 32},
                                 {12, 65536},    {13, 1980000}, {16, 132},       {36, 2619000}, {37, 5120},
                                 {38, 52428800}, {39, 2048},    {41, 1},         {81, 233472},  {82, 65536},
                                 {97, 232448},   {106, 32},     {115, 1}};
  int rc = null_enter(N_device_attribute, STARTED, NULL, "%d, %d", attribute, device);
  size_t i = 0, n = sizeof known / sizeof *known;
  if (!rc && !is_device(device)) rc = INVALID_DEVICE;
  while (i < n && known[i][0] != attribute) i++;
  *out = attribute == 75 ? null_set.cc / 10 : attribute == 76 ? null_set.cc % 10 : i < n ? known[i][1] : 0;
  if (i == n && attribute != 75 && attribute != 76) null_finding("attribute %d has no value here", attribute);
  return null_leave(rc);
}

int null_device_memory(size_t *out, int device) {
  int rc = null_enter(N_device_memory, STARTED, NULL, "%d", device);
  *out = null_set.memory;
  return null_leave(rc ? rc : is_device(device) ? OK : INVALID_DEVICE);
}

int null_context_retain(void **out, int device) {
  int rc = null_enter(N_context_retain, STARTED, NULL, "%d", device);
  if (!rc && !is_device(device)) rc = INVALID_DEVICE;
  if (!rc) rc = contexts[device].error;
  if (!rc) contexts[device].retained++, *out = &contexts[device];
  return null_leave(rc);
}

// The last release destroys what is left: something that its owner forgot.
int null_context_release(int device) {
  int rc = null_enter(N_context_release, STARTED, NULL, "%d", device);
  bool held = is_device(device) && contexts[device].retained > 0;
  if (!held) null_finding("the context of device %d is released once too often", device);
  else if (--contexts[device].retained == 0)
    null_objects_live(device, true);
  return null_leave(rc ? rc : held ? OK : INVALID_CONTEXT);
}

int null_context_device(const void *c) {
  const context *at = c;
  bool is = at >= contexts && at < contexts + MAX_DEVICES && at->retained;
  if (!is) null_finding("%p is no context, or a released one", c);
  return is ? (int)(at - contexts) : -1;
}

int null_context_set(void *c) {
  int rc = null_enter(N_context_set, STARTED, NULL, "%p", c);
  bool is = !c || null_context_device(c) >= 0;
  if (is && !rc) current = c;
  return null_leave(rc ? rc : is ? OK : INVALID_CONTEXT);
}
