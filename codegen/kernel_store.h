// Code of kernels that outlives a compilation. What is equal in text, instruction set and level gives the same object,
// so a process that compiles many models, or the same one many times, makes it once.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Flat memory without pointers and locks: processes may share it, and one that ends while it writes leaves nothing half made.
typedef struct sd_kernel_store sd_kernel_store;

// `memory` is `bytes` zeros, or what such memory became, aligned to 64 bytes; the caller's, and stays as long as the store is used.
// What finds no room is not kept. NULL where the memory is too small for any.
sd_kernel_store *sd_kernel_store_new(void *memory, size_t bytes);

typedef struct sd_kernel_key {
  const char *text, *isa;
  int opt;
} sd_kernel_key;
typedef struct sd_kernel_code {
  const void *object;
  uint64_t bytes;
  const char *dims; // the text of compile_units.c
  uint32_t n_dims;
} sd_kernel_code;
// What is found is the store's memory. Both may be called by several threads and processes at once.
bool sd_kernel_store_find(sd_kernel_store *s, const sd_kernel_key *key, sd_kernel_code *out);
void sd_kernel_store_add(sd_kernel_store *s, const sd_kernel_key *key, const sd_kernel_code *code);
