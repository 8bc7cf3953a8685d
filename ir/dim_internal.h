// Shared by the files of the dim table: the polynomial form in which sums are computed.
#pragma once
#include "ir/dim.h"

#define DIM_MAX_TERMS  64   // of one sum; more gives SD_DIM_NONE
#define DIM_MAX_DEGREE 32   // atoms of one product
#define DIM_MAX_SIZE   4096 // tree size of one expression (bounds every recursion)
#define DIM_NEG_INF    INT64_MIN
#define DIM_POS_INF    INT64_MAX

typedef struct dim_term { int64_t coef; sd_dim mono; } dim_term; // mono: an atom or a PROD

// c + sum of terms, sorted by the structural order of the monomials, no zero coefficients.
typedef struct dim_poly {
  int64_t c;
  uint32_t n;
  bool bad; // overflow or too many terms
  dim_term t[DIM_MAX_TERMS];
} dim_poly;

struct sd_dimtab {
  sd_arena *arena;
  int64_t batch;              // guess for symbols that look like batches, 0: 1
  int64_t usual;              // guess for other symbols, 0: SD_DIM_USUAL
  sd_dim told;                // a symbol that is taken for told_size; SD_DIM_NONE
  int64_t told_size;
  SD_VEC(sd_dimnode *) nodes; // by handle; entry 0 unused
  SD_VEC(uint32_t) sizes;     // tree size by handle
  sd_dim *table;              // open addressing, 0 = empty
  uint32_t cap;
  uint32_t fresh;
};

sd_dim sd_dim_intern(sd_dimtab *t, sd_dimop op, int64_t value, const char *name, uint32_t n, const sd_dim *args,
                     const int64_t *coef);
int sd_dim_compare(const sd_dimtab *t, sd_dim a, sd_dim b); // structural total order, 0 only for equal handles
void sd_dim_bounds(const sd_dimtab *t, const sd_dimnode *d, int64_t *min, int64_t *max);

void sd_dim_to_poly(const sd_dimtab *t, sd_dim d, dim_poly *out);
sd_dim sd_dim_from_poly(sd_dimtab *t, const dim_poly *p);
void sd_dim_poly_term(const sd_dimtab *t, dim_poly *p, int64_t coef, sd_dim mono); // p += coef * mono
void sd_dim_poly_axpy(const sd_dimtab *t, dim_poly *p, int64_t k, const dim_poly *q); // p += k * q
void sd_dim_poly_bounds(const sd_dimtab *t, const dim_poly *p, int64_t *min, int64_t *max);
// Monomials as lists of atoms. mono 0 stands for 1.
uint32_t sd_dim_atoms(const sd_dimtab *t, const sd_dim *mono, const sd_dim **out);
sd_dim sd_dim_mono_mul(sd_dimtab *t, sd_dim a, sd_dim b, bool *bad);
bool sd_dim_mono_div(sd_dimtab *t, sd_dim a, sd_dim b, sd_dim *out); // true when b divides a
int64_t sd_dim_floor_div(int64_t a, int64_t b); // b > 0
int64_t sd_dim_gcd(int64_t a, int64_t b);
