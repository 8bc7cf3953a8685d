// The compiled artifact: file layout shared by compiler and runtime. Standalone, versioned, offsets only.
//
// A file is a header, a section table and sections, each 64-byte aligned. All integers are little-endian. The runtime
// maps the file and uses it in place after runtime/verify.c has checked every offset and index. A reader refuses
// another SARD_ART_VERSION; unknown section kinds are skipped.
#ifndef SARD_ARTIFACT_H
#define SARD_ARTIFACT_H
#include <stddef.h>
#include <stdint.h>

#define SARD_ART_MAGIC   "SARDART\n"
#define SARD_ART_VERSION 8u
#define SARD_ART_NONE    0xffffffffu // "no index"
#define SARD_ART_MAXRANK 16

typedef struct sard_art_header {
  char magic[8];
  uint32_t version;
  uint32_t n_sections;   // the table follows the header
  uint64_t file_size;
  uint64_t hash; // sd_hash_bytes(seed 0) of everything after the header except the CONST section (sd_artifact_hash)
  char isa[16];          // row of codegen/targets.def, e.g. "avx512"; the CPU must have its features
  char arch[16];         // "x86_64", "aarch64"
  char compiler[32];     // version text of the compiler
} sard_art_header;

typedef enum sard_art_kind {
  SARD_ART_TEXT = 1,   // NUL-terminated strings; names elsewhere are offsets into it; offset 0 is ""
  SARD_ART_DIMS,       // sard_art_dim[]: slot i is computed from earlier slots
  SARD_ART_SYMS,       // sard_art_sym[]
  SARD_ART_IO,         // sard_art_io[]: inputs, then outputs
  SARD_ART_BUFS,       // sard_art_buf[]
  SARD_ART_KERNELS,    // sard_art_kernel[]
  SARD_ART_STEPS,      // sard_art_step[]
  SARD_ART_LISTS,      // uint32_t[]: index lists of steps and io
  SARD_ART_CODE,       // relocatable ELF objects
  SARD_ART_CONST,      // weights, each 64-byte aligned and followed by at least 64 readable bytes
  SARD_ART_IR,         // optional: final graph text
  SARD_ART_META,       // optional: model metadata as JSON
  SARD_ART_CHECKS,     // sard_art_check[]: sizes that must agree once the symbols have values
  SARD_ART_STRINGS,    // uint32_t[]: text offsets; string i of the model's constants (0 is the empty one)
  SARD_ART_CUDA,       // optional: sard_art_cuda[]: how steps run on CUDA devices
  SARD_ART_CUDA_IMAGES, // sard_art_cuda_image[]
  SARD_ART_CUDA_CODE,  // cubins and PTX
  // uint32_t[]: text offset of why the batch cannot be split (0: it can), then for each input and output the axis of the batch,
  // NONE where it has none.
  SARD_ART_BATCH,
  // optional: uint32_t[]: number of parts, how they were made (sd_split_kind), then sard_art_wire[]: for each input of part 1, of
  // part 2, ..., then for each output of the model.
  SARD_ART_PARTS,
  SARD_ART_WAYS, // optional: sard_art_way[]: ways to use several devices that the compiler compared
  SARD_ART_CUDA_PRODUCTS, // optional: sard_art_product[]: launches that a library of matrix products could do instead
  SARD_ART_KINDS,      // one more than the last
} sard_art_kind;

// `kind`: a sard_art_kind, with the number of a part in the upper 16 bits. 0 is the model; where it has parts its own sections
// say what its inputs and outputs are, and steps, code and all that belongs to them are those of the parts. CONST and PARTS are
// the model's: parts share one section of weights.
typedef struct sard_art_section { uint32_t kind, count; uint64_t offset, size; } sard_art_section;
#define SARD_ART_MAXPARTS 64
#define SARD_ART_KIND(k)  ((k)&0xffffu)
#define SARD_ART_PART(k)  ((k) >> 16)

// What was predicted for a way to use several devices: sd_split_kind, 0 for one device; whether it fits into their memory; seconds
// of a run with a batch of `pieces` elements; bytes of weights and values of the device that holds most. speed: of the split by
// the batch, how many elements a GPU takes while a processor takes 256; 0: it is not known, devices are of one kind.
typedef struct sard_art_way { uint32_t how, fits, pieces, speed; double seconds; uint64_t bytes; } sard_art_way;

// Where an input of a part, or an output of the model, comes from: output `at` of a part that stands before it, or input `at` of
// the model, which is part 0. sizes: 1 for an input whose shape gives symbols their values, while its contents are not read.
typedef struct sard_art_wire { uint32_t part, at, sizes; } sard_art_wire;

typedef enum sard_art_dimop {
  SARD_AD_CONST, SARD_AD_SYM /* a = symbol */, SARD_AD_ADD, SARD_AD_MUL, SARD_AD_FLOORDIV, SARD_AD_CEILDIV, SARD_AD_MOD,
  SARD_AD_MIN, SARD_AD_MAX
} sard_art_dimop;
typedef struct sard_art_dim { uint32_t op, a, b, pad; int64_t value; } sard_art_dim;

// A symbolic dim. It is bound by the first input that shows it as a whole dim (input, axis); where input is NONE a step
// gives it its value during the run. Buffers whose size depends on such a symbol get their memory when it is known.
typedef struct sard_art_sym { uint32_t name, input, axis, pad; int64_t min, max; } sard_art_sym;

typedef struct sard_art_io {
  uint32_t name, dtype, rank, buf; // buf: index into BUFS, NONE for an input that nothing reads
  uint32_t dims;                   // LISTS offset of `rank` dim slots
  uint32_t symbols;                // LISTS offset of `rank` text offsets ("" for constant dims), or NONE
  // Sequences, optionals, maps, tensors of any rank (dtype SD_OBJECT, rank 0): sd_object_kind, element type of the tensors
  // inside (0: any), and the type in words.
  uint32_t kind, item, type;
} sard_art_io;

// Slots a and b must be equal, or with `broadcast` one of them 1; `name`: the node that needs it.
typedef struct sard_art_check { uint32_t a, b, broadcast, name; } sard_art_check;

typedef enum sard_art_bufkind { SARD_AB_ARENA, SARD_AB_CONST, SARD_AB_INPUT, SARD_AB_OUTPUT } sard_art_bufkind;
typedef struct sard_art_buf {
  uint32_t kind, bytes;   // dim slot of the size in bytes
  uint32_t first, last;   // ARENA: first and last step that uses it
  uint64_t offset;        // CONST: into the CONST section; INPUT, OUTPUT: position among the inputs or outputs
} sard_art_buf;

typedef struct sard_art_kernel {
  uint64_t offset, size;  // ELF object in CODE, whose global function it is
  uint32_t symbol, n_buf, n_dim; // text offset of its name in reports; numbers of buffers and dims it takes
  uint32_t schedule;             // text offset: how it computes, in words
} sard_art_kernel;

typedef enum sard_art_stepkind {
  SARD_AS_DISPATCH, // runs a kernel
  SARD_AS_COPY,     // bufs: source, destination of the same size
  // Runs the next `body` steps again and again: at most `tiles` (slot, NONE: no bound) times, and while the byte of bufs[0]
  // is not 0 where there is one. defs: the counter, set to 0, 1, ... before each pass, and perhaps the number of passes
  // made, set at the end; further bufs are emptied at the start (see APPEND).
  SARD_AS_LOOP,
  SARD_AS_BRANCH, // runs the next `body` steps where the byte of bufs[0] is not 0, else the `other` steps behind them
  // Element i of integer buffer bufs[0] becomes the value of symbol defs[i]; dims: its sd_dtype, and 1 where each element
  // has two symbols, what it is above and below 0.
  SARD_AS_DEFINE,
  SARD_AS_SET,    // the value of slot dims[i] becomes the value of symbol defs[i]; all are read first
  // bufs: source, and the buffer whose contents grow by it. dims: none, or for elements below a byte their sd_dtype and the
  // number of them in the source: they are appended without gaps.
  SARD_AS_APPEND,
  SARD_AS_HOST,   // runs the host function `op` (runtime/host.h); dims describe the tensors, see there
  SARD_AS_CHECK,  // dims: two sizes that must agree, and 1 where one of them may also be 1; for what runs in bodies only
} sard_art_stepkind;
typedef struct sard_art_step {
  uint32_t kind, kernel;
  uint32_t bufs, n_buf;   // LISTS offset, count: indices into BUFS
  uint32_t dims, n_dim;   // LISTS offset, count: dim slots
  uint32_t tiles;         // dim slot: number of grid tiles; 0 tiles: the step does nothing
  uint32_t scratch;       // dim slot: scratch bytes per worker
  uint32_t name, op;      // text offsets: ONNX node name(s), operator(s)
  uint32_t flops, bytes;  // dim slots of arithmetic operations and bytes moved, NONE when not known (for profiles)
  uint32_t body, other;   // numbers of steps
  uint32_t defs, n_def;   // LISTS offset, count: symbols that it gives values to
  uint32_t writes;        // LISTS offset of n_buf numbers: 1 for a buffer that the step writes, 0 for one that it only reads
  uint32_t shapes;        // text offset: types of what a dispatch reads, "->", of what it writes
} sard_art_step;

// A DISPATCH step on CUDA devices: a launch of `blocks` blocks of `threads` threads with the buffers of the step. The only
// parameter is a struct of 64-bit words: the buffers, the values of the dims, scratch memory (`scratch` bytes for each block),
// and the address of the 32-bit error flag. Any number of blocks gives the same results. `shared`: bytes of dynamic shared memory.
typedef struct sard_art_cuda {
  uint32_t step, symbol;  // index into STEPS; text offset of the function
  uint32_t dims, n_dim;   // LISTS offset, count: dim slots
  uint32_t blocks, scratch, threads, shared; // blocks, scratch: dim slots
  uint32_t part;          // the images that the function is in
  // A step may have several launches for different sizes, one behind the other: the last one whose `size` (dim slot) is at least
  // `least` is taken. The first has no size (NONE).
  uint32_t size, least;
  uint32_t arch; // 0; else launches of a step, behind the others, for those who run the cubins for that one
} sard_art_cuda;
typedef enum sard_art_cuda_kind { SARD_ACI_CUBIN = 1, SARD_ACI_PTX } sard_art_cuda_kind; // PTX ends with a NUL
// Functions for one architecture: a cubin for sm_<arch>, PTX for that one and later ones. `part`: the functions are in several
// images, numbered from 0, with the same ones in part K of each architecture but for those of launches with `arch`; there is no
// image of a part that would be empty. Cubins for sm_90 are those of sm_90a.
typedef struct sard_art_cuda_image { uint32_t kind, arch, part, pad; uint64_t offset, size; } sard_art_cuda_image; // into CUDA_CODE

// A step with launches that is one product of matrices: out[b, m, n] = relu(scale * sum over k of x[b, m, k] * y[b, n, k] + c[b, m, n]
// + bias[b, n]). Element (row, i) of matrix b of an operand is the one at first + b * batch + row * step + i, all in elements; `i` runs
// along the steps of the sum where the operand is marked so, else `row` does. m, n, k, batch, first, step: dim slots. In order of steps.
typedef struct sard_art_operand { uint32_t buf, first, step, batch; } sard_art_operand; // buf: position in the step's list, NONE: there is none
typedef enum sard_art_product_flag { SARD_APF_RELU = 1, SARD_APF_X_ALONG = 2, SARD_APF_Y_ALONG = 4 } sard_art_product_flag;
typedef struct sard_art_product {
  uint32_t step, flags;
  uint32_t in, out; // sd_dtype of the factors; of out and c
  uint32_t m, n, k, batch;
  sard_art_operand x, y, c, bias, result;
  float scale;
  uint32_t of_bias; // sd_dtype of bias: that of out, or that of the factors, where bias is a constant and out f32
} sard_art_product;

// ---- kernel ABI ----
// A kernel runs tiles [begin, end) of its grid and returns 0. Different tiles may run on different threads at once.
typedef struct sard_dispatch {
  void *const *buf;     // buffers in the order of the step's list
  const int64_t *dim;   // values of the step's dim list
  void *scratch;        // of this worker, 64-byte aligned
  uint32_t *error;      // set to SARD_KE_INDEX when an index is out of range (the kernel goes on with index 0)
} sard_dispatch;
#define SARD_KE_INDEX 1u
typedef int32_t (*sard_kernel_fn)(const sard_dispatch *d, uint32_t begin, uint32_t end);

_Static_assert(sizeof(sard_dispatch) <= 64, "fits a cache line");
_Static_assert(sizeof(sard_art_dim) == 24 && sizeof(sard_art_step) == 72 && sizeof(sard_art_buf) == 24, "layout");
_Static_assert(sizeof(sard_art_way) == 32, "layout");
_Static_assert(sizeof(sard_art_product) == 120, "layout");
_Static_assert(sizeof(sard_art_cuda) == 48 && sizeof(sard_art_cuda_image) == 32, "layout");
#endif
