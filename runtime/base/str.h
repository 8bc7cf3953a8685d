// Growable text buffer on the heap. When memory is short it becomes "failed", which sd_str_take reports as NULL.
#pragma once
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct sd_str {
  char *p; // NUL-terminated; NULL while empty
  size_t len, cap;
  bool failed;
} sd_str;

__attribute__((format(printf, 2, 3))) void sd_strf(sd_str *s, const char *fmt, ...); // appends
void sd_str_vf(sd_str *s, const char *fmt, va_list ap);
void sd_str_put(sd_str *s, const char *text);
void sd_str_putn(sd_str *s, const char *text, size_t n);
void sd_str_json(sd_str *s, const char *text); // appends "text" quoted and escaped as JSON (NULL gives null)
void sd_str_json_number(sd_str *s, double v);  // appends v, or null for what JSON has no number for
char *sd_str_take(sd_str *s);                  // the text, owned by the caller (sd_free); resets s
void sd_str_free(sd_str *s);

// Edit distance for "did you mean": the candidate closest to `word`, NULL when none is near.
const char *sd_str_nearest(const char *word, const char *const *candidates, size_t n);
