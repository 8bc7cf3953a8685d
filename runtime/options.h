// Options: key/value texts given by the user, checked against the table of runtime/options.def.
#pragma once
#include "runtime/base/status.h"

typedef enum sd_option_object { SD_OPT_CONTEXT = 1, SD_OPT_MODEL = 2, SD_OPT_SESSION = 4 } sd_option_object;

// An error when `o` holds a key that is not for that object. NULL options are fine everywhere here.
sard_status *sd_options_check(const sard_options *o, sd_option_object object);
// Value of a key, NULL when it is not set. Owned by `o`.
const char *sd_options_get(const sard_options *o, const char *key);
// Entry `index` in the order of setting; false past the end. For keys with a prefix ("dim:N").
bool sd_options_at(const sard_options *o, size_t index, const char **key, const char **value);
// Integer value within [min, max], `absent` when not set.
sard_status *sd_options_int(const sard_options *o, const char *key, int64_t min, int64_t max, int64_t absent,
                            int64_t *out);
// Bytes with an optional suffix K, M, G, T (powers of 1024), 0 when not set.
sard_status *sd_options_bytes(const sard_options *o, const char *key, uint64_t *out);
// The same of a text that stands in the value of `key`.
sard_status *sd_options_read_bytes(const char *key, const char *text, uint64_t *out);
sard_options *sd_options_clone(const sard_options *o); // NULL when memory is short or o is NULL
