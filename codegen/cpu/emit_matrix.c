// Sums of products of 8-bit integers and of bf16 (codegen/dot.h) in matrix registers of 16 rows of 64 bytes (AMX): C += A * W,
// where A has rows of the operand that is the same for all lanes, and W has for each turn, as its row, the steps side by side of 16
// lanes: the order of packed panels. Sums of integers are exact in i32, so that results are those of vectors; those of bf16 are f32.
//
// Eight registers: four sums, two or three for A, two or one for W. What they hold of rows and bytes is configured once for a
// call, since that takes long (codegen/dot.h): register tiles of other heights, as at the ends of axes, go by vectors.
// The sums are stored to the stack and read there by what follows (emit_roll.c).
//
// Factors of f32 in three bf16 each (codegen/triple.h): six of the nine products, the small ones first; of a constant that is bf16 three. Where a sum is no finite number,
// as with infinities, all sums of the tile are made again by vectors (emit_again.c).
#include <string.h>

#include "codegen/cpu/emit.h"
#include "codegen/dot.h"
#include "runtime/base/alloc.h"

struct sd_emit_matrix {
  sd_emit_matrix_plan p;
  sd_dot d;
  const sd_expr *r;
  uint32_t slots, inner; // of the sums; the slot of rows that lie side by side
  int lane;              // slot of the lanes, -1: one vector
  int64_t turns;
  sd_ll a_stride, w_stride; // bytes
  uint32_t before;          // rows in front of those at hand that the registers hold besides
  const sd_expr *held[8];   // what the registers of factors hold of this step
  uint32_t held_at[8];
};

// ---- registers ----
static unsigned sum_of(const sd_emit *E, uint32_t row, uint32_t v) { return v * E->matrix_plan.n_rows + row; }
static unsigned rows_of(uint32_t row) { return (const unsigned[]){4, 5, 7, 4}[row]; }
static unsigned lanes_of(const sd_emit *E, uint32_t v) { return E->matrix_plan.n_rows > 2 ? 6 : 6 + v % 2; }

static sd_ll number(sd_emit *E, unsigned i) { return LLVMConstInt(E->i8, i, 0); }

static void move(sd_emit *E, const char *name, unsigned reg, sd_ll p, sd_ll stride) {
  sd_emit_intrinsic(E, name, NULL, 0, (sd_ll[]){number(E, reg), p, stride}, 3);
}

// ---- is it of that form? ----
static const sd_axis *axis_of_slot(sd_emit *E, int slot) {
  for (uint32_t i = 0; i < E->nest->n_axes; i++)
    if (sd_emit_bind_of(E, E->nest->axes[i])->slot == slot) return E->nest->axes[i];
  return NULL;
}

// Lanes past the end are read, too: they have to be part of the packed operand.
static bool holds_all_lanes(sd_emit *E, const sd_expr *w) {
  int64_t last = 0, coef, n, count;
  const sd_expr *o = w->a[0];
  if (!sd_dim_is_const(E->k->dims, E->lane.axis->extent, &n) || n % E->lanes_full || o->op != SD_X_AFFINE) return false;
  if (o->dim && !sd_dim_is_const(E->k->dims, o->dim, &last)) return false;
  for (uint32_t i = 0; i < o->n; i++) {
    if (o->a[i]->op != SD_X_AXIS || !sd_dim_is_const(E->k->dims, o->coef[i], &coef) || coef < 0) return false;
    if (!sd_dim_is_const(E->k->dims, o->a[i]->axis->extent, &n)) return false;
    if (!sd_ck_mul_i64(coef, n - 1, &n) || !sd_ck_add_i64(last, n, &last)) return false;
  }
  return sd_dim_is_const(E->k->dims, w->buf->count, &count) && last < count;
}

// Rows of each register, of `count` rows side by side, `copies` times.
static bool heights(uint32_t count, uint32_t copies, sd_emit_matrix_plan *p) {
  p->n_rows = copies > 1 ? copies : (count + 15) / 16;
  if (p->n_rows > SD_MATRIX_SUMS || count < 2 || (copies > 1 && count > 16)) return false;
  for (uint32_t i = 0; i < p->n_rows; i++) p->rows[i] = (uint8_t)(copies > 1 ? count : count / p->n_rows);
  if (copies > 1) return true;
  uint32_t more = count % p->n_rows; // the first and the last of four share a register for their rows
  for (uint32_t i = 0; i < more && more < 3; i++) p->rows[p->n_rows < 4 ? i : i + 1]++;
  if (more == 3) p->rows[0]++, p->rows[1]++, p->rows[3]++;
  return true;
}

// The plan of the function, or the part of it that this register tile needs.
static bool suits(sd_emit *E, const sd_emit_matrix_plan *p) {
  sd_emit_matrix_plan *q = &E->matrix_plan;
  if (!q->n_rows) {
    if (p->n_rows * p->vectors > SD_MATRIX_SUMS) return false;
    *q = *p;
    return true;
  }
  return p->step == q->step && p->n_rows <= q->n_rows && p->vectors <= q->vectors && !memcmp(p->rows, q->rows, p->n_rows);
}

static sd_ll bytes_of(sd_emit *E, const sd_expr *load, sd_dim elements) {
  sd_dim size = sd_dim_const(E->k->dims, sd_dtype_bits(load->buf->dtype) / 8);
  return sd_emit_dim(E, sd_dim_mul(E->k->dims, elements, size));
}

// Registers of the heights of the plan take the rows at the end of an axis, and those in front of them once more, where there are some.
static void rows_before(sd_emit *E, struct sd_emit_matrix *m, const sd_axis *a) {
  const sd_emit_matrix_plan *q = &E->matrix_plan;
  const sd_emit_bind *b = sd_emit_bind_of(E, a);
  uint32_t rows = 0, n = 0, count = E->count[m->inner];
  int64_t first = b->add, base = 0;
  while (n < q->n_rows && rows < count) rows += q->rows[n++];
  if (rows <= count || (b->base && !sd_emit_const(b->base, &base)) || first + base < rows - count) return;
  m->before = rows - count, m->p.n_rows = n;
  memcpy(m->p.rows, q->rows, sizeof m->p.rows);
}

static bool row_slots(sd_emit *E, struct sd_emit_matrix *m) {
  uint32_t rows = sd_emit_info_of(E, m->d.a[0])->slots, lane = m->lane < 0 ? 0 : 1u << m->lane;
  sd_dim stride;
  if (!rows || sd_emit_info_of(E, m->d.w[0])->slots != lane || m->slots != (rows | lane)) return false;
  if (lane && lane < rows) return false;
  m->inner = 31 - (uint32_t)__builtin_clz(rows);
  uint32_t copies = sd_emit_coords(E, rows & ~(1u << m->inner));
  const sd_axis *a = axis_of_slot(E, (int)m->inner);
  if (!a || !sd_x_coef(E->k, m->d.a[0]->a[0], a, &stride) || !heights(E->count[m->inner], copies, &m->p)) return false;
  if (m->d.parts > 1 && copies == 1) rows_before(E, m, a);
  m->a_stride = bytes_of(E, m->d.a[0], stride);
  return true;
}

static bool fits(sd_emit *E, struct sd_emit_matrix *m) {
  sd_dim panel;
  if (!E->isa->matrix || E->matrix || sd_emit_info_of(E, m->r)->rw || !sd_dot_many(E->k, E->nest, m->r)) return false;
  if (!sd_dot_is(E->k, m->r, E->lane.axis, &m->d) || m->d.side->limit) return false;
  if (!sd_dim_is_const(E->k->dims, m->d.turns->extent, &m->turns) || E->lanes_full != 16) return false;
  m->p.step = sd_dot_step(m->turns);
  m->lane = sd_emit_bind_of(E, E->lane.axis)->slot;
  m->p.vectors = m->lane < 0 ? 1 : E->count[m->lane];
  if (m->p.step < SD_DOT_LEAST_STEP || !sd_x_coef(E->k, m->d.w[0]->a[0], m->d.turns, &panel)) return false;
  if (!sd_dim_is_const(E->k->dims, panel, NULL) || !holds_all_lanes(E, m->d.w[m->d.w_parts - 1]) || !row_slots(E, m)) return false;
  m->w_stride = bytes_of(E, m->d.w[0], panel);
  return suits(E, &m->p);
}

// ---- code ----
bool sd_emit_matrix_open(sd_emit *E, const sd_expr *r, uint32_t slots) {
  struct sd_emit_matrix *m = SD_NEW(E->a, struct sd_emit_matrix);
  m->r = r, m->slots = slots;
  if (!fits(E, m)) return false;
  E->matrix = m;
  for (uint32_t v = 0; v < m->p.vectors; v++)
    for (uint32_t i = 0; i < m->p.n_rows; i++) {
      sd_ll reg = number(E, sum_of(E, i, v));
      sd_emit_intrinsic(E, "llvm.x86.tilezero", NULL, 0, &reg, 1);
    }
  return true;
}

// The coordinate of the first row of register `i`.
static void at_row(sd_emit *E, const struct sd_emit_matrix *m, uint32_t i) {
  uint32_t outer = sd_emit_info_of(E, m->d.a[0])->slots & ~(1u << m->inner);
  sd_emit_first(E, m->slots);
  for (uint32_t j = 0; j < i; j++) {
    if (outer) sd_emit_next(E, outer);
    else E->at[m->inner] += m->p.rows[j];
  }
}

// Rows side by side are at one distance.
static void load_rows(sd_emit *E, const struct sd_emit_matrix *m, const sd_expr *load, uint32_t i) {
  int64_t rows = -(int64_t)m->before;
  at_row(E, m, m->before ? 0 : i);
  sd_ll p = sd_emit_address(E, load);
  for (uint32_t j = 0; m->before && j < i; j++) rows += m->p.rows[j];
  if (m->before) {
    sd_ll bytes = LLVMBuildMul(E->b, m->a_stride, sd_emit_i64(E, rows), "");
    p = LLVMBuildGEP2(E->b, E->i8, p, &bytes, 1, "");
  }
  move(E, "llvm.x86.tileloadd64", rows_of(i), p, m->a_stride);
}

static void add(sd_emit *E, const struct sd_emit_matrix *m, uint32_t row, uint32_t v) {
  static const char *const names[2][2] = {{"llvm.x86.tdpbuud", "llvm.x86.tdpbusd"}, {"llvm.x86.tdpbsud", "llvm.x86.tdpbssd"}};
  const char *name = names[m->d.a[0]->buf->dtype == SD_I8][m->d.w[0]->buf->dtype == SD_I8];
  if (m->d.a[0]->buf->dtype == SD_BF16) name = "llvm.x86.tdpbf16ps";
  sd_ll args[] = {number(E, sum_of(E, row, v)), number(E, rows_of(row)), number(E, lanes_of(E, v))};
  sd_emit_intrinsic(E, name, NULL, 0, args, 3);
}

// Does the register have the rows or lanes `at` of a load? It will.
static bool holds(struct sd_emit_matrix *m, unsigned reg, const sd_expr *load, uint32_t at) {
  if (m->held[reg] == load && m->held_at[reg] == at) return true;
  m->held[reg] = load, m->held_at[reg] = at;
  return false;
}

static void products(sd_emit *E, struct sd_emit_matrix *m, const sd_expr *a, const sd_expr *w) {
  for (uint32_t v = 0; v < m->p.vectors; v++) {
    at_row(E, m, 0);
    if (m->lane >= 0) E->at[m->lane] = v;
    if (!holds(m, lanes_of(E, v), w, v)) move(E, "llvm.x86.tileloadd64", lanes_of(E, v), sd_emit_address(E, w), m->w_stride);
    for (uint32_t i = 0; i < m->p.n_rows; i++) {
      if (!holds(m, rows_of(i), a, i)) load_rows(E, m, a, i);
      add(E, m, i, v);
    }
  }
}

// Parts of a and of w: neighbours in this order share one of them. Of a w that is one bf16 the last three.
static const uint8_t pairs[][2] = {{0, 2}, {0, 1}, {1, 1}, {1, 0}, {2, 0}, {0, 0}};

// What is asked for is spread over the products.
static void step(sd_emit *E, struct sd_emit_matrix *m, sd_ll turn, const sd_emit_panel *ahead) {
  sd_emit_scope_open(E);
  sd_emit_bind_point(E, m->d.turns, turn, 0);
  sd_emit_bind_point(E, m->d.side, NULL, 0);
  memset(m->held, 0, sizeof m->held);
  uint32_t all = sizeof pairs / sizeof *pairs, n = m->d.parts == 1 ? 1 : m->d.w_parts == 1 ? 3 : all;
  for (uint32_t i = 0; i < n; i++) {
    const uint8_t *pair = pairs[all - n + i];
    if (ahead) sd_emit_panel_ask(E, ahead, turn, ahead->lines * i / n, ahead->lines * (i + 1) / n);
    products(E, m, m->d.a[pair[0]], m->d.w[pair[1]]);
  }
  at_row(E, m, 0);
  sd_emit_unbind(E, m->d.side);
  sd_emit_unbind(E, m->d.turns);
  sd_emit_scope_close(E);
}

bool sd_emit_matrix_add(sd_emit *E, const sd_expr *r) {
  struct sd_emit_matrix *m = E->matrix;
  sd_emit_loop l;
  if (!m || m->r != r) return false;
  sd_emit_panel panel;
  bool ahead = sd_emit_panel_open(E, r, r->n_axes - 2, &panel);
  if (ahead) sd_emit_panel_steps(&panel, m->p.step);
  sd_emit_loop_open(E, &l, sd_emit_i64(E, 0), sd_emit_i64(E, m->turns - m->p.step), m->p.step, true, NULL);
  step(E, m, l.iv, ahead ? &panel : NULL);
  sd_emit_loop_close(E, &l);
  return true;
}

void sd_emit_matrix_close(sd_emit *E) {
  const struct sd_emit_matrix *m = E->matrix;
  sd_emit_info *x = sd_emit_info_of(E, m->r);
  LLVMTypeRef t = LLVMVectorType(E->i32, (unsigned)E->lanes_full);
  uint32_t n = sd_emit_coords(E, m->slots) + m->before * m->p.vectors, row = 0;
  sd_ll sums = LLVMBuildArrayAlloca(E->entry, t, LLVMConstInt(E->i32, n, 0), ""), skipped = sd_emit_i64(E, m->before * m->p.vectors);
  LLVMSetAlignment(sums, 64);
  for (uint32_t i = 0; i < m->p.n_rows; row += m->p.rows[i++])
    for (uint32_t v = 0; v < m->p.vectors; v++) {
      sd_ll at = sd_emit_i64(E, row * m->p.vectors + v), stride = sd_emit_i64(E, 64 * m->p.vectors);
      move(E, "llvm.x86.tilestored64", sum_of(E, i, v), LLVMBuildGEP2(E->b, t, sums, &at, 1, ""), stride);
    }
  x->sums = m->before ? LLVMBuildGEP2(E->b, t, sums, &skipped, 1, "") : sums;
  sd_vec_push(E->a, &E->in_memory, x);
  E->matrix = NULL;
  if (m->d.parts > 1) sd_emit_again(E, m->r, axis_of_slot(E, (int)m->inner), m->slots);
}

void sd_emit_matrix_forget(sd_emit *E) {
  for (uint32_t i = 0; i < E->in_memory.len; i++) E->in_memory.at[i]->sums = NULL;
  E->in_memory.len = 0;
}

// ---- the function ----
void sd_emit_matrix_begin(sd_emit *E) {
  const sd_emit_matrix_plan *p = &E->matrix_plan;
  uint8_t c[64] = {1}; // bytes of a row from 16 on, two bytes each; rows from 48 on
  sd_ll bytes[64];
  if (!p->n_rows) return;
  for (uint32_t i = 0; i < SD_MATRIX_SUMS; i++) c[16 + 2 * i] = 64, c[48 + i] = p->rows[i % p->n_rows];
  for (uint32_t i = 4; i < 8; i++) c[16 + 2 * i] = 64, c[48 + i] = (uint8_t)p->step;
  for (uint32_t i = 0; i < p->n_rows; i++) c[16 + 2 * rows_of(i)] = (uint8_t)(4 * p->step), c[48 + rows_of(i)] = p->rows[i];
  for (int i = 0; i < 64; i++) bytes[i] = LLVMConstInt(E->i8, c[i], 0);
  sd_ll config = LLVMAddGlobal(E->m, LLVMArrayType(E->i8, 64), "sard.matrix");
  LLVMSetInitializer(config, LLVMConstArray(E->i8, bytes, 64));
  LLVMSetGlobalConstant(config, true);
  LLVMSetLinkage(config, LLVMPrivateLinkage);
  LLVMSetAlignment(config, 64);
  LLVMBuilderRef at = E->b;
  E->b = E->entry;
  sd_emit_intrinsic(E, "llvm.x86.ldtilecfg", NULL, 0, &config, 1);
  E->b = at;
}

void sd_emit_matrix_end(sd_emit *E) { // what the registers hold would have to be saved with the thread
  if (E->matrix_plan.n_rows) sd_emit_intrinsic(E, "llvm.x86.tilerelease", NULL, 0, NULL, 0);
}
