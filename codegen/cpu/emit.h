// Shared state of the LLVM emitter: one sd_emit per kernel, used by the emit_*.c files only.
//
// Code is emitted strictly forward. Scopes form a stack (function, tile, nest loops, register tile, reduction loops,
// branches); a value is remembered in the scope in which it was emitted and forgotten when that scope closes. Before a
// loop opens, everything inside it that does not depend on it is emitted (sd_emit_hoist): so each expression stands at
// the level of the deepest axis it depends on.
//
// A register tile gives each unrolled or vectorized axis a slot with a number of copies; `at` holds the coordinate of
// each slot for which a value is asked. At most one axis is spread over vector lanes at a time. A value that does not
// depend on it stays scalar and is broadcast where it is used.
#pragma once
#include "codegen/codegen.h"
#include "codegen/cpu/llvm.h"

#define SD_EMIT_SLOTS 16
#define SD_EMIT_AXES  256 // axes that one kernel may use
#define SD_EMIT_DEPTH 1500 // nesting of expressions

typedef LLVMValueRef sd_ll;
typedef struct sd_emit_axset { uint64_t w[SD_EMIT_AXES / 64]; } sd_emit_axset;

// Address of buf[off]: pointers for the terms of `off` that are known so far, one entry per scope that added some.
typedef struct sd_emit_ptr {
  struct sd_emit_ptr *below;
  uint64_t base_done, coord_done; // terms whose loop part, and whose coordinate part, the pointers contain
  uint32_t slots;                 // coordinates on which the pointers depend
  sd_ll *p;
} sd_emit_ptr;
typedef struct sd_emit_term {
  const sd_expr *atom;
  sd_dim dim;
  int64_t coef; // when is_const
  bool is_const;
} sd_emit_term;
typedef struct sd_emit_addr {
  struct sd_emit_addr *next; // other buffers with the same offset expression
  const sd_buf *buf;
  const sd_expr *off;
  uint32_t n;
  sd_emit_term *terms;
  int64_t offset; // constant elements
  sd_dim sym;     // symbolic constant term or SD_DIM_NONE
  sd_emit_ptr *top;
} sd_emit_addr;

// What is known about an expression.
typedef struct sd_emit_info {
  sd_emit_axset set;  // free axes
  bool set_done, rw;  // rw: reads a buffer that the nest writes
  uint32_t seen;      // stamp of the last walk
  uint32_t epoch;     // of the bindings for which the following hold
  bool ready, lanes;  // all axes bound; spread over vector lanes
  uint32_t slots;
  uint32_t n;         // cells: value and broadcast value per coordinate
  uint32_t shape;     // slots for which the cells were made
  sd_ll *cell;
  sd_emit_addr *addr;
  sd_ll sums;         // REDUCE: memory that has its sums by coordinate (emit_matrix.c), NULL = values
  uint32_t assumed;   // > 0: BOOL known to be true in the code being emitted
} sd_emit_info;

typedef struct sd_emit_bind {
  bool based, bound; // the loop variable is known; the very point is known
  sd_ll base;        // NULL = 0
  int64_t add;       // constant offset of an unrolled copy
  int slot;          // -1 = none
  int64_t step;      // per coordinate of the slot
} sd_emit_bind;

typedef struct sd_emit_scope {
  SD_VEC(sd_ll *) cells;
  SD_VEC(sd_emit_addr *) addrs;
} sd_emit_scope;

typedef struct sd_emit_lane {
  const sd_axis *axis; // NULL = no vectors now
  sd_ll mask;          // lanes that exist, NULL = all
  sd_ll left;          // how many these are, i32, where they are the first ones; else NULL
  int mask_slot, mask_at; // the mask holds for this coordinate of the slot (slot -1: always)
} sd_emit_lane;

// Values that go round a loop or through a branch.
typedef struct sd_emit_carry { sd_ll *v; uint32_t n; } sd_emit_carry;
typedef struct sd_emit_loop {
  LLVMBasicBlockRef pre, head, exit;
  sd_ll lo, last, iv, end, *phi, *init; // end: value of the variable after the loop
  int64_t step;
  bool sure;
  sd_emit_carry *carry;
} sd_emit_loop;
typedef struct sd_emit_if {
  LLVMBasicBlockRef from, other, join, then_end;
  sd_ll *init, *then_v;
  sd_emit_carry *carry;
} sd_emit_if;

typedef struct sd_emit_root { const sd_buf *buf; sd_expr *offset, *value, *guard; } sd_emit_root; // a store

// How the matrix registers of a function are configured: rows of each register of sums, vectors, turns of a step.
enum { SD_MATRIX_SUMS = 4 };
typedef struct sd_emit_matrix_plan {
  uint32_t n_rows, vectors; // n_rows * vectors registers of sums; 0: none are used
  uint8_t rows[SD_MATRIX_SUMS];
  int64_t step;
} sd_emit_matrix_plan;

// The last quotient that was looked at: what to multiply by instead (rest 0: one factor is enough).
typedef struct sd_emit_quotient {
  const sd_expr *of;
  double lo, hi; // bounds
  bool found;
  float factor, rest;
} sd_emit_quotient;

struct sd_emit_nestroots { const sd_nest *nest; sd_emit_root *root; };

typedef struct sd_emit {
  sd_kernel *k;
  const sd_isa *isa;
  sd_arena *a; // scratch of this call
  sard_status *error;
  LLVMContextRef c;
  LLVMModuleRef m;
  LLVMBuilderRef b, entry; // entry: appends to the first block
  sd_ll fn, dispatch, dim_ptr, err, zeros;
  unsigned md_invariant;
  sd_ll md_empty;
  LLVMTypeRef i1, i8, i16, i32, i64, f32, f64, f16, ptr;
  bool has_fma, has_round, has_f16, has_bf16; // has_bf16: f32 to bf16 is an instruction
  int lanes_full; // lanes of a vector of this kernel
  // dims read, buffers
  SD_VEC(sd_dim) dims;
  SD_VEC(sd_ll) dim_v;
  sd_ll *buf_v;
  uint32_t n_info, n_axis, stamp, n_stamp, epoch;
  sd_emit_info *info;
  uint16_t *axis_no; // by axis id: compact number + 1
  const sd_axis **axes;
  sd_emit_bind *bind; // by compact number
  SD_VEC(sd_emit_scope) scopes;
  uint32_t n_scope;
  uint32_t n_slot, count[SD_EMIT_SLOTS], at[SD_EMIT_SLOTS];
  sd_emit_lane lane;
  sd_ll *block_lo, *block_hi; // by compact axis number: range of the tile, NULL = whole axis
  const sd_axis *row;     // innermost sequential loop, while its nests are emitted
  const sd_nest **asked;  // by buffer: the nest that asks for lines of rows to come
  // nest being emitted
  const sd_nest *nest;
  sd_emit_axset limiting; // axes on which limits in the nest depend
  bool narrow; // lanes load elements below 32 bits: masks are costly before AVX-512
  uint32_t n_root;
  sd_emit_root *root;
  SD_VEC(sd_ll *) rw_cells; // values that the stores of this nest may change
  SD_VEC(struct sd_emit_nestroots) nests;
  sd_emit_quotient quotient;
  // matrix registers
  sd_emit_matrix_plan matrix_plan;
  struct sd_emit_matrix *matrix; // the sums being emitted, NULL = none
  SD_VEC(sd_emit_info *) in_memory;
} sd_emit;

// ---- emit_scope.c: bookkeeping, loops, branches ----
void sd_emit_fail(sd_emit *E, sard_status *st); // keeps the first
sd_emit_info *sd_emit_info_of(sd_emit *E, const sd_expr *e);
bool sd_emit_ready(sd_emit *E, const sd_expr *e); // every axis below is bound
void sd_emit_scope_open(sd_emit *E);
void sd_emit_scope_close(sd_emit *E);
int sd_emit_axis_no(sd_emit *E, const sd_axis *a);
sd_emit_bind *sd_emit_bind_of(sd_emit *E, const sd_axis *a);
void sd_emit_bind_base(sd_emit *E, const sd_axis *a, sd_ll base);              // variable known, point not yet
void sd_emit_bind_point(sd_emit *E, const sd_axis *a, sd_ll base, int64_t add); // and the point base + add
void sd_emit_bind_slot(sd_emit *E, const sd_axis *a, sd_ll base, uint32_t count, int64_t step);
void sd_emit_unbind(sd_emit *E, const sd_axis *a); // frees its slot
void sd_emit_set_lane(sd_emit *E, sd_emit_lane l);
uint32_t sd_emit_coords(const sd_emit *E, uint32_t slots);     // number of coordinates
uint32_t sd_emit_project(const sd_emit *E, uint32_t slots);    // number of the current one
void sd_emit_first(sd_emit *E, uint32_t slots);                // the first coordinate
bool sd_emit_next(sd_emit *E, uint32_t slots);                 // next coordinate; false after the last (then all 0)
void sd_emit_carry_init(sd_emit *E, sd_emit_carry *c, uint32_t n);
// while (iv <= last) step; `sure`: runs at least once.
void sd_emit_loop_open(sd_emit *E, sd_emit_loop *l, sd_ll lo, sd_ll last, int64_t step, bool sure, sd_emit_carry *c);
void sd_emit_loop_close(sd_emit *E, sd_emit_loop *l);
void sd_emit_if_open(sd_emit *E, sd_emit_if *f, sd_ll cond, sd_emit_carry *c);
void sd_emit_if_else(sd_emit *E, sd_emit_if *f);
void sd_emit_if_close(sd_emit *E, sd_emit_if *f);
sd_ll sd_emit_axis_end(sd_emit *E, const sd_axis *a); // min(extent, limit)

// ---- emit_kernel.c ----
sd_ll sd_emit_dim(sd_emit *E, sd_dim d);
sd_ll sd_emit_i64(sd_emit *E, int64_t v);
bool sd_emit_const(sd_ll v, int64_t *out); // an integer constant

// ---- emit_ahead.c ----
// Asks for the memory of a later row, where buf[off] at p is now read or written lane by lane.
void sd_emit_ahead(sd_emit *E, const sd_buf *buf, const sd_expr *off, sd_ll p, bool write);

// ---- emit_panels.c ----
typedef struct sd_emit_panel {
  sd_ll p, share;      // what the first step asks for; bytes from step to step
  int64_t each, lines; // these bytes, as far as they are known; lines of each step
} sd_emit_panel;
// Before the loop over axis `loop` of a reduction: is it the innermost one along which a packed operand moves, and is the next panel
// of that to be asked for in it?
bool sd_emit_panel_open(sd_emit *E, const sd_expr *reduce, uint32_t loop, sd_emit_panel *p);
void sd_emit_panel_steps(sd_emit_panel *p, int64_t steps); // a loop asks for so many steps at once
// In that step of the loop: lines `from` to `to` of its p->lines.
void sd_emit_panel_ask(sd_emit *E, const sd_emit_panel *p, sd_ll step, int64_t from, int64_t to);

// ---- emit_nest.c ----
void sd_emit_nest(sd_emit *E, const struct sd_emit_nestroots *n);
bool sd_emit_limits(sd_emit *E, const sd_axis *a); // limits of other axes depend on it

// ---- emit_roll.c ----
bool sd_emit_rolled(sd_emit *E, void (*body)(sd_emit *E)); // false: nothing was done
// A loop over the copies of an axis that has a slot, one at a time: what it has in between is code for one copy.
typedef struct sd_emit_rows sd_emit_rows;
sd_emit_rows *sd_emit_rows_open(sd_emit *E, const sd_axis *axis);
sd_ll sd_emit_rows_at(const sd_emit_rows *r); // the copy
void sd_emit_rows_close(sd_emit *E, sd_emit_rows *r);

// ---- emit_expr.c ----
LLVMTypeRef sd_emit_type(sd_emit *E, sd_dtype t);               // register type of a compute type
LLVMTypeRef sd_emit_vtype(sd_emit *E, LLVMTypeRef t, bool lanes);
sd_ll sd_emit_value(sd_emit *E, const sd_expr *e);              // at the current coordinate; scalar or vector
sd_ll sd_emit_value_lanes(sd_emit *E, const sd_expr *e, bool lanes); // broadcast when needed
bool sd_emit_true(sd_emit *E, const sd_expr *e);                // assumed or constant true
void sd_emit_keep(sd_emit *E, const sd_expr *e, sd_ll v);       // remembers the value at the current coordinate
sd_ll sd_emit_kept(sd_emit *E, const sd_expr *e);               // NULL when there is none
void sd_emit_hoist(sd_emit *E, const sd_expr *e);               // emits what is ready below e
void sd_emit_reductions(sd_emit *E, const sd_expr *e);          // emits the ready reductions below e for all coordinates

// ---- emit_op.c: arithmetic on values ----
sd_ll sd_emit_splat(sd_emit *E, sd_ll v);
sd_ll sd_emit_iota(sd_emit *E, LLVMTypeRef t);
sd_ll sd_emit_op(sd_emit *E, const sd_expr *e, sd_ll *v, bool lanes);
sd_ll sd_emit_cast(sd_emit *E, sd_dtype from, sd_dtype to, sd_ll v, bool lanes);
sd_ll sd_emit_round_to_i32(sd_emit *E, sd_ll v);
sd_ll sd_emit_minmax(sd_emit *E, sd_dtype t, bool max, sd_ll x, sd_ll y);
sd_ll sd_emit_fma(sd_emit *E, sd_ll x, sd_ll y, sd_ll z);
sd_ll sd_emit_intrinsic(sd_emit *E, const char *name, LLVMTypeRef *over, unsigned n_over, sd_ll *args, unsigned n);
sd_ll sd_emit_any(sd_emit *E, sd_ll v); // of i1 lanes
sd_ll sd_emit_all(sd_emit *E, sd_ll v);
sd_ll sd_emit_splat_f(LLVMTypeRef t, double v); // constant of a scalar or vector type
sd_ll sd_emit_splat_i(LLVMTypeRef t, int64_t v);

// ---- emit_mem.c ----
void sd_emit_addr_extend(sd_emit *E, const sd_buf *buf, const sd_expr *off); // adds the terms that are known now
sd_ll sd_emit_load(sd_emit *E, const sd_expr *e);
void sd_emit_store(sd_emit *E, const sd_emit_root *r); // at the current coordinate
sd_ll sd_emit_lane_mask(sd_emit *E); // of the current coordinate, NULL = all lanes

// ---- emit_narrow.c: storage types ----
LLVMTypeRef sd_emit_storage(sd_emit *E, sd_dtype t);        // of an element in memory; below a byte: of its code, i8
sd_ll sd_emit_widen(sd_emit *E, sd_dtype t, sd_ll v);       // from storage to the compute type
sd_ll sd_emit_narrow(sd_emit *E, sd_dtype t, sd_ll v);      // and back: rounds as runtime/base/dtype.c does
// The value as it stands in memory, where it only moves between buffers of narrow floats (NaNs keep their bits): NULL else.
sd_ll sd_emit_stored_form(sd_emit *E, const sd_expr *e, sd_dtype t, bool lanes, int depth);
sd_ll sd_emit_load_stored(sd_emit *E, const sd_expr *e);    // emit_mem.c

// The value of type t at the element `after` places behind that of load e, which no guard holds back; of lanes the first one.
sd_ll sd_emit_load_at(sd_emit *E, const sd_expr *e, int64_t after, LLVMTypeRef t);
sd_ll sd_emit_address(sd_emit *E, const sd_expr *e); // where load e reads; of lanes the first one

// ---- emit_packed.c: elements below a byte, as codes of type i8 ----
sd_ll sd_emit_packed_load(sd_emit *E, const sd_expr *e, sd_ll bit, sd_ll mask, bool lanes); // bit, mask: guards, NULL = none
void sd_emit_packed_store(sd_emit *E, const sd_emit_root *r, sd_ll codes, sd_ll mask, bool lanes);

// ---- emit_reduce.c ----
void sd_emit_reduce(sd_emit *E, const sd_expr *e); // all coordinates; results are kept
void sd_emit_reduce_at(sd_emit *E, const sd_expr *e, sd_ll *out); // the same by vectors; results go to `out`, by coordinate

// ---- emit_dot.c ----
// The loops over the axes of reduction r from `first` on, where they are of the form of codegen/dot.h for the lanes at hand; acc: the
// sums by coordinate of `slots`. False: nothing was done.
bool sd_emit_dot(sd_emit *E, const sd_expr *r, uint32_t first, uint32_t slots, sd_emit_carry *acc);
// acc and for each lane the products of four u8 in x by four i8 in y, on sets of vectors from 32 bytes on. Before VNNI no two products
// side by side may have a sum beyond 16 bits.
sd_ll sd_emit_add_bytes(sd_emit *E, sd_ll acc, sd_ll x, sd_ll y);

// ---- emit_blocks.c ----
// The same for those of the form of codegen/blocks.h.
bool sd_emit_blocks(sd_emit *E, const sd_expr *r, uint32_t slots, sd_emit_carry *acc);

// ---- emit_quotient.c ----
// Value of e, which is about to be rounded to an integer, where it is a quotient by a constant within bounds, and no division is
// needed for that integer; NULL for others.
sd_ll sd_emit_clipped_quotient(sd_emit *E, const sd_expr *e, bool lanes);

// ---- emit_matrix.c ----
// Begins the sums of r, a reduction, in matrix registers. False: they do not fit, nothing was done.
bool sd_emit_matrix_open(sd_emit *E, const sd_expr *r, uint32_t slots);
bool sd_emit_matrix_add(sd_emit *E, const sd_expr *r); // the loops over the last two axes; false: its sums are elsewhere
void sd_emit_matrix_close(sd_emit *E);                 // the sums are in memory then (sd_emit_info.sums)
void sd_emit_matrix_forget(sd_emit *E);                // the register tile is done
void sd_emit_matrix_begin(sd_emit *E);                 // configures the registers, before the body of the function
void sd_emit_matrix_end(sd_emit *E);                   // before it returns

// ---- emit_again.c ----
// The sums of r, which stand in memory, along `row` and the lanes: where one is not finite, all are made again by vectors.
void sd_emit_again(sd_emit *E, const sd_expr *r, const sd_axis *row, uint32_t slots);

// ---- object.c: LLVM objects of this thread ----
// What a call owns is kept here, so that it is freed at the next one when memory was short in between.
typedef struct sd_object_thread {
  LLVMContextRef ctx;
  LLVMModuleRef m;
  LLVMBuilderRef b, entry;
  LLVMMemoryBufferRef code;
  sd_arena *scratch;
  unsigned uses;
} sd_object_thread;
sard_status *sd_object_begin(sd_object_thread **out); // frees what is left over; context and empty scratch arena
void sd_object_end(sd_object_thread *th);             // frees module and builders
// Runs the passes and emits th->m; `out` keeps the bytes.
sard_status *sd_object_emit(sd_object_thread *th, const sd_isa *isa, int opt, const char *symbol, sd_arena *out, sd_machine_code *o);
