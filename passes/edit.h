// Small tools for passes that build nodes.
#pragma once
#include "passes/pass.h"

bool sd_edit_is(const sd_node *n, const char *op); // n may be NULL
bool sd_edit_one_of(const sd_node *n, const char *const *ops); // ends with NULL
bool sd_edit_all_are(const sd_node *n, const char *attr, int64_t v); // numbers of a list, which may be absent
bool sd_edit_of_bytes(const sd_value *v); // u8, i8
// The node that dequantizes operand `at` of n, to f32 and without blocks; NULL: there is none.
const sd_node *sd_edit_dequantized(const sd_node *n, uint32_t at);
int64_t sd_edit_entry(const sd_node *n, const char *attr, int i, int64_t absent); // number i of a list, `absent` where it has none
bool sd_edit_same_type(const sd_value *a, const sd_value *b); // element type and dims of known rank
// Builds op(in...) before `before`, evaluates it at once where all operands are constant; *out is its first output.
sard_status *sd_edit_apply(sd_graph *g, sd_node *before, const char *op, sd_value *const *in, uint32_t n_in, sd_value **out);
// The first output of n, a constant that takes its place where all operands are constant (n has one output then).
sard_status *sd_edit_fold(sd_node *n, sd_value **out);
sard_status *sd_edit_transpose(sd_graph *g, sd_node *before, sd_value *x, const int64_t *perm, uint32_t rank, sd_value **out);
// x without an axis, which is of one element.
sard_status *sd_edit_drop_axis(sd_graph *g, sd_node *before, sd_value *x, int64_t axis, sd_value **out);
sard_status *sd_edit_reshape(sd_graph *g, sd_node *before, sd_value *x, const int64_t *dims, int rank, sd_value **out);
// Elements [from, to) of an axis.
sard_status *sd_edit_slice(sd_graph *g, sd_node *before, sd_value *x, int64_t axis, int64_t from, int64_t to, sd_value **out);
sd_value *sd_edit_only_use(const sd_value *v); // v when exactly one operand slot uses it and it is no output, else NULL
#define SD_SMALL_WEIGHT 65536 // elements: fewer of them are in the cache even when they are wide, and faster there
#define SD_MAX_GROWTH (16u << 20) // bytes that a constant may have beyond what it is made of, where that is not made in each run

// Rows of the first output: all but its last axis, with the usual sizes of open ones; 0: they are not known.
int64_t sd_edit_rows(const sd_node *n);
// n turns a constant of elements below a byte, or of bytes for few rows, into a wider type, or one without its zeros into all of it, for one
// product that can do so where it reads it.
bool sd_edit_packed_weight(const sd_node *n, const sd_pass_target *t);
// A product that reads its constant matrix w of bytes as they are: one of few rows, or one for which w is too large to become f32.
bool sd_edit_widens(const sd_node *product, const sd_value *w, const sd_pass_target *t);
// The node that makes the second operand of n, a product, for n alone, also behind a Transpose of its two dims (*turned); NULL: another
// graph makes it, or there is none.
sd_node *sd_edit_matrix_source(const sd_node *n, bool *turned);
bool sd_edit_read_elsewhere(const sd_value *v, const sd_node *n); // by other nodes than n, or as an output
bool sd_edit_ints(const sd_node *n, uint32_t operand, int64_t *out, uint32_t cap, uint32_t *out_n); // constant contents
// Calls fn for each node of each graph of sd_edit_graphs until options stop it. fn may remove the node; `done`: it rewrote it,
// which is counted. Errors name the node.
sard_status *sd_edit_nodes(sd_module *m, const sd_pass_options *o, sd_pass_report *r, sard_status *(*fn)(sd_node *n, bool *done));
// The same for what depends on the machine.
sard_status *sd_edit_nodes_for(sd_module *m, const sd_pass_options *o, sd_pass_report *r,
                               sard_status *(*fn)(sd_node *n, const sd_pass_target *t, bool *done));
// Calls fn for each graph whose nodes run one by one, bodies first: the main graph and all bodies but fused groups.
sard_status *sd_edit_graphs(sd_module *m, sard_status *(*fn)(sd_graph *g, void *user), void *user);
