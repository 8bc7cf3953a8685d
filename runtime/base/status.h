// Errors as values: a sard_status pointer, NULL meaning success, carrying code, message and context.
#pragma once
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sard/sard.h"

// Makes a status. Never returns NULL: when memory is short it returns a static out-of-memory status.
// `code` is one of SARD_E_*. The caller owns the result.
__attribute__((format(printf, 4, 5))) sard_status *sd_status_make(int code, const char *file, int line,
                                                                  const char *fmt, ...);

// Prepends "<context>: " to the message of `st` and returns `st`. NULL stays NULL.
__attribute__((format(printf, 2, 3))) sard_status *sd_status_context(sard_status *st, const char *fmt, ...);

// Sets a text field (SARD_TEXT_NODE, _OP, _PASS, _FILE, _HINT) unless it is already set; returns `st`. NULL stays NULL.
__attribute__((format(printf, 3, 4))) sard_status *sd_status_field(sard_status *st, int field, const char *fmt, ...);

// A status from errno for an operation on `path`, code SARD_E_IO.
sard_status *sd_status_errno(const char *what, const char *path);

#define SD_ERR(code, ...) sd_status_make(SARD_E_##code, __FILE__, __LINE__, __VA_ARGS__)

// Returns the status of `expr` from the calling function unless it is NULL.
#define SD_TRY(expr)                                                                                                   \
  do {                                                                                                                 \
    sard_status *sd_try_st = (expr);                                                                                   \
    if (__builtin_expect(sd_try_st != NULL, 0)) return sd_try_st;                                                      \
  } while (0)
// The same, with context put before the message: SD_TRY_MSG(read(f), "while reading %s", name).
#define SD_TRY_MSG(expr, ...)                                                                                          \
  do {                                                                                                                 \
    sard_status *sd_try_st = (expr);                                                                                   \
    if (__builtin_expect(sd_try_st != NULL, 0)) return sd_status_context(sd_try_st, __VA_ARGS__);                      \
  } while (0)
