// Host memory and checked size arithmetic. All sizes that come from a file go through the sd_ck_* helpers.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// realloc-like: size 0 frees. Returns NULL when memory is short. Honours the failure injection of tests.
void *sd_realloc(void *p, size_t size);
void *sd_malloc(size_t size);
void *sd_calloc(size_t count, size_t size); // overflow-checked
void sd_free(void *p);
char *sd_strdup(const char *s);

// 64-byte aligned memory (2 MiB aligned with transparent huge pages from 4 MiB up). The contents are not defined.
void *sd_alloc_aligned(size_t size);
void sd_free_aligned(void *p);

// For tests: fail the n-th allocation from now (1 = the next one), 0 = never. Process-wide.
void sd_alloc_fail_after(long n);
bool sd_alloc_injected(void); // counts an allocation; true when it has to fail. Arenas ask for each of theirs

static inline bool sd_ck_mul(uint64_t a, uint64_t b, uint64_t *out) { return !__builtin_mul_overflow(a, b, out); }
static inline bool sd_ck_add(uint64_t a, uint64_t b, uint64_t *out) { return !__builtin_add_overflow(a, b, out); }
static inline bool sd_ck_mul_i64(int64_t a, int64_t b, int64_t *out) { return !__builtin_mul_overflow(a, b, out); }
static inline bool sd_ck_add_i64(int64_t a, int64_t b, int64_t *out) { return !__builtin_add_overflow(a, b, out); }
static inline uint64_t sd_align_up(uint64_t x, uint64_t a) { return (x + a - 1) / a * a; }
static inline int64_t sd_ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; } // of numbers that are small and not negative
static inline int64_t sd_min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t sd_max_i64(int64_t a, int64_t b) { return a > b ? a : b; }
