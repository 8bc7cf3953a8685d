// Regular expressions in RE2's syntax (https://github.com/google/re2/wiki/Syntax), matched against whole texts in time
// linear in their length: a Thompson automaton, run for all alternatives at once (K. Thompson, CACM 11(6), 1968).
// Without back references, look-around and the Unicode classes \p, which are refused.
#pragma once
#include <stdbool.h>

#include "runtime/base/status.h"

typedef struct sd_regex sd_regex;

// SARD_E_MODEL for a bad pattern (with the position), SARD_E_UNSUPPORTED for what RE2 has and this has not.
sard_status *sd_regex_new(const char *pattern, sd_regex **out);
void sd_regex_free(sd_regex *r); // NULL ok
// The whole text (UTF-8; bytes that are none count as one character each) matches. Not for two threads at once.
bool sd_regex_matches(sd_regex *r, const char *text);
