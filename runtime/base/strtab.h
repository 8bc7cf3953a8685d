// Interned strings: equal texts have equal numbers, so that compiled kernels move and compare strings as integers.
// Number 0 is the empty string. Texts end with NUL and hold none inside. A table belongs to one thread at a time, but
// any number of tables may stand on one base that no longer changes.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct sd_strtab sd_strtab;

// A table that continues `base` (NULL: an empty one), which must outlive it and may not grow any more. NULL: no memory.
sd_strtab *sd_strtab_new(const sd_strtab *base);
void sd_strtab_free(sd_strtab *t); // NULL ok
// The number of a text of n bytes; false when memory is short.
bool sd_strtab_add(sd_strtab *t, const char *text, size_t n, uint64_t *out);
// The same for one that may not be there: then false, too.
bool sd_strtab_find(const sd_strtab *t, const char *text, size_t n, uint64_t *out);
// The text of a number, valid as long as the table; "" for a number that it does not have.
const char *sd_strtab_text(const sd_strtab *t, uint64_t number);
const char *sd_strtab_get(const sd_strtab *t, uint64_t number, size_t *n); // and its bytes
uint64_t sd_strtab_count(const sd_strtab *t); // base included
uint64_t sd_strtab_bytes(const sd_strtab *t); // memory of this table, base not included
void sd_strtab_reset(sd_strtab *t);           // forgets what the base does not have
