// Places of factors that are kept without their zeros (ir/two_of_four.h): those of a slice stand behind it in shared memory, a row for
// each column of the product.
#include "codegen/cuda/print.h"

#include "ir/two_of_four.h"

typedef struct place_row {
  int bytes, piece, per_row; // of a slice's row; copied at once; pieces
} place_row;

static place_row row_of(const sd_cuda_nest *n, const sd_cuda_tile *t) {
  int steps = t->chunks * 16 / n->product->element, bytes = steps * 2 / SD_PLACES_STEPS * 2;
  return (place_row){bytes, bytes > 16 ? 16 : bytes, bytes > 16 ? bytes / 16 : 1};
}

void sd_print_places_row(sd_print *P, const sd_cuda_nest *n, const sd_cuda_tile *t, bool small) {
  const sd_axis *const *an = n->axes + n->n_rows + n->n_m;
  uint32_t nn = n->nest->n_axes - n->n_rows - n->n_m;
  const sd_expr *row = n->product->places->row;
  const char *type = sd_print_index_type(small);
  place_row r = row_of(n, t);
  bool ignored;
  sd_print_line(P, "const int prow = (int)threadIdx.x / %d, ppiece = (int)threadIdx.x %% %d;", r.per_row, r.per_row);
  sd_print_line(P, "const %s pat = n0 + prow;", type);
  sd_print_line(P, "const bool pin = prow < %d && pat < (%s)%s;", t->bn, type, sd_print_count(P, an, nn, &ignored));
  sd_print_line(P, "i64 pfixed = 0;");
  sd_print_open(P, "if (pin)");
  sd_print_bind_digits(P, an, nn, "pat", small);
  sd_print_line(P, "pfixed = %s;", sd_print_value(P, row));
  sd_print_unbind(P, an, nn);
  sd_print_close(P);
}

void sd_print_places(sd_print *P, const sd_cuda_nest *n, const sd_cuda_tile *t, int at) {
  const sd_cuda_places *p = n->product->places;
  sd_dimtab *d = P->k->dims;
  place_row r = row_of(n, t);
  // whole pieces are there: rows are filled up
  sd_dim words = sd_dim_ceildiv(d, p->kept->extent, sd_dim_const(d, SD_PLACES_STEPS / 2));
  sd_print_open(P, "if (prow < %d)", t->bn);
  sd_print_line(P, "const i64 word = (i64)first / %d + ppiece * %d;", SD_PLACES_STEPS / 2, r.piece / 2);
  sd_print_line(P, "const bool in = pin && word < %s;", sd_print_wide_dim(P, words));
  sd_print_line(P, "sd_cp<%d>(ring, into + %d + prow * %d + ppiece * %d, b%u, in ? (pfixed + word) * 2 : 0, in ? %d : 0);", r.piece, at,
                r.bytes, r.piece, p->buf->id, r.piece);
  sd_print_close(P);
}
