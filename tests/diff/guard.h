// Memory whose end is the end of a readable page: what reads or writes behind it stops the program, what writes in front
// of it is found by `guard_broken`.
#pragma once
#include <stdbool.h>
#include <stdint.h>

typedef struct guard { uint8_t *data; uint64_t bytes; uint8_t *map; uint64_t map_bytes; } guard;

// `align`: of the data, a power of two; up to align - 1 bytes behind the data are readable then, and watched. data NULL when
// memory is short.
guard guard_new(uint64_t bytes, uint64_t align);
bool guard_broken(const guard *g); // bytes around the data were written
void guard_lock(guard *g);         // from now on it can only be read
void guard_free(guard *g);
