// Errors as values: code, message and text fields on the heap, with a static one for when memory is short.
#include "runtime/base/status.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/base/str.h"

struct sard_status {
  int code;
  char *text[SARD_TEXT_COUNT];
};

// Never changed and never freed, so that any number of threads can hold it.
static sard_status out_of_memory = {SARD_E_NOMEM, {[SARD_TEXT_MESSAGE] = (char *)"out of memory"}};

sard_status *sd_status_make(int code, const char *file, int line, const char *fmt, ...) {
  sard_status *st = sd_calloc(1, sizeof *st);
  if (!st) return &out_of_memory;
  st->code = code;
  sd_str message = {0}, where = {0};
  va_list ap;
  va_start(ap, fmt);
  sd_str_vf(&message, fmt, ap);
  va_end(ap);
  const char *slash = strrchr(file, '/');
  sd_strf(&where, "%s:%d", slash ? slash + 1 : file, line);
  st->text[SARD_TEXT_MESSAGE] = sd_str_take(&message);
  st->text[SARD_TEXT_WHERE] = sd_str_take(&where);
  if (st->text[SARD_TEXT_MESSAGE]) return st;
  sard_status_free(st);
  return &out_of_memory;
}

sard_status *sd_status_context(sard_status *st, const char *fmt, ...) {
  if (!st || st == &out_of_memory) return st;
  sd_str s = {0};
  va_list ap;
  va_start(ap, fmt);
  sd_str_vf(&s, fmt, ap);
  va_end(ap);
  sd_strf(&s, ": ");
  sd_str_put(&s, st->text[SARD_TEXT_MESSAGE]);
  char *longer = sd_str_take(&s);
  if (!longer) return st; // the message without the context is better than none
  sd_free(st->text[SARD_TEXT_MESSAGE]);
  st->text[SARD_TEXT_MESSAGE] = longer;
  return st;
}

sard_status *sd_status_field(sard_status *st, int field, const char *fmt, ...) {
  if (!st || st == &out_of_memory || field < 0 || field >= SARD_TEXT_COUNT || st->text[field]) return st;
  sd_str s = {0};
  va_list ap;
  va_start(ap, fmt);
  sd_str_vf(&s, fmt, ap);
  va_end(ap);
  st->text[field] = sd_str_take(&s);
  return st;
}

sard_status *sd_status_errno(const char *what, const char *path) {
  int e = errno;
  char room[128];
  const char *text = strerror_r(e, room, sizeof room);
  return sd_status_field(SD_ERR(IO, "%s '%s': %s", what, path, text), SARD_TEXT_FILE, "%s", path);
}

int sard_status_code(const sard_status *st) { return st ? st->code : SARD_OK; }

const char *sard_status_text(const sard_status *st, int field) {
  if (!st || field < 0 || field >= SARD_TEXT_COUNT || !st->text[field]) return "";
  return st->text[field];
}

void sard_status_free(sard_status *st) {
  if (!st || st == &out_of_memory) return;
  for (int i = 0; i < SARD_TEXT_COUNT; i++) sd_free(st->text[i]);
  sd_free(st);
}

uint32_t sard_version(void) {
  unsigned major = 0, minor = 0, patch = 0;
  sscanf(SARD_VERSION_TEXT, "%u.%u.%u", &major, &minor, &patch);
  return (uint32_t)SARD_ABI << 24 | major << 16 | minor << 8 | patch;
}

void sard_free(void *p) { sd_free(p); }
