// Shared by the files of the importer: its state, scopes of names, and nodes on their way to the graph level.
#pragma once
#include "frontend/onnx/import.h"
#include "frontend/onnx/names.h"
#include "frontend/onnx/tensor_proto.h"
#include "ir/op.h"

#define SD_IMPORT_MAX_INLINED 1000000u // nodes that functions may expand to

typedef struct sd_import sd_import;
typedef struct sd_scope sd_scope;

// A model as opened: mapped bytes and the unpacked skeleton. Lives in two arenas: the map in `keep`, the rest in `tmp`.
typedef struct sd_opened {
  sard_source source; // complete, whatever the size of the caller's
  const uint8_t *data;
  uint64_t size;
  const char *file; // for messages
  const Onnx__ModelProto *model;
  sd_spans spans;
} sd_opened;
sard_status *sd_import_open(const sard_source *src, sd_arena *keep, sd_arena *tmp, sd_opened *out);

// An attribute of a node on its way. A graph is not built yet.
typedef struct sd_onnx_attr {
  const char *name;
  sd_attr value; // kind SD_ATTR_GRAPH: value.graph is NULL, see `body`
  const Onnx__GraphProto *body;
  sd_scope *scope;         // what the body sees
  const char *unsupported; // not NULL: the kind of attribute that Sard has no value for
} sd_onnx_attr;

// A function call that is being inlined.
typedef struct sd_call {
  const struct sd_call *outer;
  const Onnx__FunctionProto *fn;
  const sd_onnx_attr *attrs; // those of the call, then the defaults
  uint32_t n_attrs;
  const char *prefix; // of node names
} sd_call;

// Names visible in a graph or function.
struct sd_scope {
  sd_scope *parent; // enclosing graph; NULL for the main graph and functions
  sd_graph *graph;  // where nodes go
  sd_names names;   // -> sd_value
  sd_names sparse;  // initializer name -> Onnx__SparseTensorProto, expanded when first read
  const sd_call *call;
  int depth; // of bodies
};

// A node in ONNX's terms, operands resolved. upgrade.c changes it before a row is looked for.
typedef struct sd_onnx_node {
  sd_scope *scope;
  const char *name, *op, *domain; // domain "" for ONNX's own
  int64_t opset;
  int index;
  SD_VEC(sd_value *) in;      // NULL = omitted
  SD_VEC(const char *) out;   // "" = omitted
  SD_VEC(sd_onnx_attr) attrs;
  const char *first_op; // as in the file, for messages
  int64_t first_opset;
  bool asked; // lengths of lists are known, or do not matter
} sd_onnx_node;

struct sd_import {
  sd_module *m;
  sd_arena *tmp;
  const sd_import_shapes *shapes; // NULL: as the model declares them
  sd_opened o;
  sd_external external;
  sd_tensors tensors;
  sd_names functions; // "domain\x1fname\x1foverload" -> Onnx__FunctionProto
  sd_names symbols;   // names of dims of the main graph's inputs
  uint32_t inlined;
  SD_VEC(char *) problems; // one line for each node that cannot be compiled
  const char *problem_node, *problem_op;
  bool described; // the failing node is in the message already
  bool keep_floats; // a node names tensors that it differentiates: how they are computed must stay to be seen
  // The loop whose body is being built, and for each input of it the axes (bits) that change from pass to pass.
  const sd_node *loop;
  const uint32_t *varying;
  SD_VEC(struct sd_loop_states *) loops; // what is known of the states of loops built before
  uint64_t unwrap; // states of the loop just built that are optionals around what its outputs are
  const sd_otype *const *objects; // and the types that its sequences and optionals take on
};

// ---- import_attr.c ----
// The value of one ONNX attribute; references are resolved in scope->call (*out_absent: the reference is to nothing).
sard_status *sd_import_attr(sd_import *im, sd_scope *scope, const Onnx__AttributeProto *p, sd_onnx_attr *out,
                            bool *out_absent);
sd_onnx_attr *sd_import_find_attr(sd_onnx_node *n, const char *name); // NULL when absent
void sd_import_drop_attr(sd_onnx_node *n, const char *name);
void sd_import_set_int(sd_import *im, sd_onnx_node *n, const char *name, int64_t v);
void sd_import_set_float(sd_import *im, sd_onnx_node *n, const char *name, float v);
void sd_import_set_str(sd_import *im, sd_onnx_node *n, const char *name, const char *v);
void sd_import_set_ints(sd_import *im, sd_onnx_node *n, const char *name, const int64_t *v, uint32_t count); // kept
// Moves the attributes into the dense array of `node` and builds its bodies. *missing is the case that is missing, in
// words, where the row lacks an attribute; wrong or absent ones are SARD_E_MODEL.
sard_status *sd_import_match_attrs(sd_import *im, sd_onnx_node *n, sd_node *node, const char **missing);
const char *sd_import_attr_kind(sd_attr_kind k);

// ---- import_node.c ----
// The rest of it, for a node whose operands and attributes are read.
sard_status *sd_import_resolved(sd_import *im, sd_onnx_node *n);
sard_status *sd_import_row(sd_import *im, sd_onnx_node *n); // for one in the newest form, with all lengths known
sard_status *sd_import_node(sd_import *im, sd_scope *scope, const Onnx__NodeProto *p, int index);
bool sd_import_is_op(const sd_onnx_node *n, const char *row); // n is that row's operator, domain included
// Makes a node of the row "op" with one output, types not inferred yet (the caller sets attributes, then
// sd_node_infer).
sard_status *sd_import_emit(sd_import *im, sd_scope *scope, const char *op, sd_value *const *in, uint32_t n_in,
                            sd_node **out);
// Makes `v` known as `name`; gives it the name when it has none. Defining a name twice is SARD_E_MODEL.
sard_status *sd_import_define(sd_import *im, sd_scope *scope, const char *name, sd_value *v);
// *out = NULL when nothing defines it, &sd_import_absent for a function's input that the call omits.
sard_status *sd_import_lookup(sd_import *im, sd_scope *scope, const char *name, sd_value **out);
extern sd_value sd_import_absent; // never read or written, only its address counts

// ---- import_constant.c ----
// The value of a Constant node.
sard_status *sd_import_constant(sd_import *im, sd_onnx_node *n, sd_value **out);
sd_value *sd_import_const_value(sd_scope *scope, const char *name, const sd_const *c);

// ---- import_fold.c ----
// Turns the one small output of n into a constant where it is known, and removes n.
sard_status *sd_import_fold(sd_import *im, sd_node *n);

// ---- import_function.c ----
sard_status *sd_import_functions(sd_import *im);
const Onnx__FunctionProto *sd_import_find_function(sd_import *im, const char *domain, const char *op,
                                                   const char *overload);
sard_status *sd_import_inline(sd_import *im, sd_onnx_node *n, const Onnx__FunctionProto *fn);
// Version of the domain's opset where the scope's nodes live; 0 when none is imported.
int64_t sd_import_opset(const sd_import *im, const sd_scope *scope, const char *domain);

// ---- import_graph.c ----
// Fills scope->graph from p: initializers, nodes, outputs. Inputs are defined by the caller.
sard_status *sd_import_graph(sd_import *im, sd_scope *scope, const Onnx__GraphProto *p);
sard_status *sd_import_main(sd_import *im);
// Initializers and nodes of a graph without inputs, into scope->graph, which has other nodes already.
sard_status *sd_import_inline_graph(sd_import *im, sd_scope *scope, const Onnx__GraphProto *p);
// A body of `node` from p, its inputs typed by their declarations and by the operands of `node`.
sard_status *sd_import_body(sd_import *im, sd_scope *outer, const Onnx__GraphProto *p, sd_node *node, const char *name);
// Order in which the nodes can be built: order[i] is an index into nodes. That of the file where it is sorted. Constants that
// a later one of the same name replaces are left out.
sard_status *sd_import_order(sd_import *im, Onnx__NodeProto *const *nodes, size_t n, uint32_t **out_order, uint32_t *out_n);

typedef struct sd_onnx_type sd_onnx_type; // below

// ---- import_body.c ----
// Builds the bodies of `node`. Shapes of loop states are those of the operands; where a pass changes them the body is
// built again with new symbols.
sard_status *sd_import_bodies(sd_import *im, sd_onnx_node *n, sd_node *node);
// Type of input i of a body where the operands of `node` decide it; declared is what the body says.
void sd_import_body_type(sd_import *im, const sd_node *node, uint32_t i, const char *name, sd_onnx_type *declared);
// What is known of the contents of input i: the counter and the condition of a loop.
void sd_import_body_known(sd_import *im, const sd_node *node, uint32_t i, sd_value *v);
// An If whose condition is constant: the branch becomes part of the graph. *done = false: it is none.
sard_status *sd_import_branch(sd_import *im, sd_onnx_node *n, bool *done);

// Empties the last body of `node` and takes it away.
void sd_import_forget_body(sd_node *node);

// ---- import_versions.c ----
// An operand is a tensor whose rank only the run knows, where the row needs a plain one.
bool sd_import_any_rank(const sd_onnx_node *n, const sd_op *op);
// Builds the node for all ranks that such operands can have, and its outputs. op: its row, NULL where it has none yet.
sard_status *sd_import_for_ranks(sd_import *im, const sd_onnx_node *n, const sd_op *op);
// `refused` is the node as built, whose shape function needs to know more. Where it is the length of lists, it is replaced by
// one node for each length; *done = false: it is something else.
sard_status *sd_import_for_lengths(sd_import *im, const sd_onnx_node *n, const sd_op *op, sd_node *refused, bool *done);
// *v as an object of any rank.
sard_status *sd_import_box(sd_import *im, sd_scope *scope, sd_value **v);

// ---- import_type.c ----
typedef struct sd_onnx_type {
  sd_dtype dtype; // SD_DT_NONE when not declared
  int rank;       // SD_RANK_UNKNOWN when not declared
  sd_dim dims[SD_MAX_RANK];
  const sd_otype *object;  // dtype SD_OBJECT: sequence, optional, map, or tensor of any rank
  const char *unsupported; // in words; NULL for what can be compiled
} sd_onnx_type;
// Type of an input. In the main graph (`body` false) a named dim is the symbol of that name, an unnamed one a new
// symbol
// "<input>_d<axis>". In a body a name means the main graph's symbol, or a new one.
sard_status *sd_import_type(sd_import *im, const Onnx__ValueInfoProto *p, bool body, sd_onnx_type *out);
// Gives an input of the main graph that rank, its dims as new symbols.
sard_status *sd_import_set_rank(sd_import *im, const char *name, int rank, sd_onnx_type *t);
// Collects the names of the main graph's dims, which decides what "n+1" as a name means.
void sd_import_collect_symbols(sd_import *im, const Onnx__GraphProto *g);
// The type of a sequence, optional, map, or of a tensor in one; NULL for what Sard has no value for.
const sd_otype *sd_import_otype(sd_import *im, const Onnx__TypeProto *t, int depth);
void sd_import_type_text(const Onnx__TypeProto *t, sd_str *out, int depth);

// ---- import_diag.c ----
// "node 12 'name' (Op, opset 17)".
void sd_import_describe(const sd_onnx_node *n, sd_str *out);
// Records a line of its own.
void sd_import_problem_line(sd_import *im, const char *line);
// Records that n cannot be compiled, for the reason `what`.
void sd_import_problem(sd_import *im, const sd_onnx_node *n, const char *what);
// The status that lists all of them, NULL when there are none.
sard_status *sd_import_problems(sd_import *im);
// Puts the node's description before the message of the status that ends the import, and sets the fields.
sard_status *sd_import_fail(sd_import *im, const sd_onnx_node *n, sard_status *st);

// ---- upgrade.c ----
// Brings n to the newest opset's form; nodes before it are built directly. SARD_E_UNSUPPORTED names the missing case.
sard_status *sd_upgrade_node(sd_import *im, sd_onnx_node *n);
// True when a row rewrites this op of ONNX's own domain (it may have no row in the operator table).
bool sd_upgrade_has(const char *op);
