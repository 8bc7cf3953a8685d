// Bump allocator of the compiler: everything of a module or a pass lives in one arena and dies with it.
//
// Allocation never returns NULL. When memory is short control goes to the recovery point that SD_ARENA_GUARD set
// (longjmp): the outermost entry of the compiler sets it, frees the arena and returns SARD_E_NOMEM. Therefore code
// that allocates from an arena must own nothing outside of arenas across the call, or register it with
// sd_arena_defer. Not thread-safe: one arena belongs to one thread at a time.
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct sd_arena sd_arena;

// Returns NULL when memory is short.
sd_arena *sd_arena_new(void);
void sd_arena_free(sd_arena *a); // runs the deferred calls (last first), then frees; NULL ok
void sd_arena_reset(sd_arena *a);
// An arena for a step of the work on `parent`: it shares its recovery point and is freed with it at the latest, so that
// nothing is lost when the step is left by either. Memory short: leaves through the parent's point.
sd_arena *sd_arena_scratch(sd_arena *parent);
size_t sd_arena_bytes(const sd_arena *a); // bytes held

// The recovery point of `a`. Usage in the function that owns the arena:
//   jmp_buf oom; sd_arena_set_oom(a, &oom);
//   if (setjmp(oom)) { sd_arena_free(a); return SD_ERR(NOMEM, "..."); }
void sd_arena_set_oom(sd_arena *a, jmp_buf *point);
// Leaves through the recovery point, as an allocation that failed does.
_Noreturn void sd_arena_oom(sd_arena *a);

void *sd_arena_alloc(sd_arena *a, size_t size);                 // 16-byte aligned, zeroed
void *sd_arena_array(sd_arena *a, size_t count, size_t size);   // overflow-checked, zeroed
void *sd_arena_aligned(sd_arena *a, size_t size, size_t align); // align up to 4096, zeroed
void *sd_arena_dup(sd_arena *a, const void *p, size_t size);
char *sd_arena_strdup(sd_arena *a, const char *s); // NULL gives NULL
char *sd_arena_strndup(sd_arena *a, const char *s, size_t n);
__attribute__((format(printf, 2, 3))) char *sd_arena_printf(sd_arena *a, const char *fmt, ...);
// Takes over a text of sd_str_take: it lives as long as the arena. NULL (no memory) leaves through the recovery point.
char *sd_arena_keep(sd_arena *a, char *text);
void sd_arena_defer(sd_arena *a, void (*fn)(void *), void *p); // called when the arena is freed or reset

#define SD_NEW(arena, T)          ((T *)sd_arena_alloc((arena), sizeof(T)))
#define SD_NEW_ARRAY(arena, T, n) ((T *)sd_arena_array((arena), (size_t)(n), sizeof(T)))

// Growable array in an arena: SD_VEC(int) v = {0}; sd_vec_push(a, &v, 3); v.at[0], v.len.
#define SD_VEC(T)                                                                                                      \
  struct {                                                                                                             \
    T *at;                                                                                                             \
    uint32_t len, cap;                                                                                                 \
  }
void *sd_vec_grow_(sd_arena *a, void *at, uint32_t len, uint32_t *cap, size_t size, uint32_t extra);
#define sd_vec_reserve(a, v, n)                                                                                        \
  ((v)->at = sd_vec_grow_((a), (v)->at, (v)->len, &(v)->cap, sizeof *(v)->at, (uint32_t)(n)))
#define sd_vec_push(a, v, x) (sd_vec_reserve(a, v, 1), (void)((v)->at[(v)->len++] = (x)))
