/* Sard: load and run compiled models. Needs the runtime library only (no compiler).
 *
 * Objects: sard_context (process: threads, allocator, log) -> sard_model (immutable, shareable between threads)
 * -> sard_session (one thread at a time: activations). Everything created is freed by the one who created it; a model
 * may be freed while sessions of it live, and a context while models of it live (they keep what they need).
 * Every function that can fail returns sard_status*: NULL is success, anything else is owned by the caller
 * (sard_status_free). No function prints, exits or installs signal handlers. */
#ifndef SARD_H
#define SARD_H
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SARD_ABI 1
#define SARD_VERSION_TEXT "0.1.0"
#if defined(__GNUC__)
#define SARD_API __attribute__((visibility("default")))
#define SARD_CHECKED __attribute__((warn_unused_result))
#else
#define SARD_API
#define SARD_CHECKED
#endif
#define SARD_OWN /* ownership of the pointer moves to the receiver */
#define SARD_MAX_RANK 16

typedef struct sard_status sard_status;
typedef struct sard_context sard_context;
typedef struct sard_options sard_options;
typedef struct sard_model sard_model;
typedef struct sard_session sard_session;
typedef struct sard_tensor sard_tensor;

/* Status codes; also the exit codes of the command line. */
enum {
  SARD_OK = 0,
  SARD_E_CHECK = 1,       /* a check failed (accuracy, comparison) */
  SARD_E_USAGE = 2,       /* wrong argument, input name, shape, dtype or option */
  SARD_E_MODEL = 3,       /* the model or artifact is invalid */
  SARD_E_UNSUPPORTED = 4, /* valid, but Sard cannot do it */
  SARD_E_DEVICE = 5,      /* device, driver or instruction set missing */
  SARD_E_NOMEM = 6,       /* out of memory or over a limit */
  SARD_E_IO = 7,          /* file cannot be read or written */
  SARD_E_CANCELLED = 8,   /* cancelled by the caller */
  SARD_E_SLOWER = 9,      /* what was made is slower than what it should replace */
  SARD_E_INTERNAL = 70    /* a bug in Sard */
};

/* Text fields of a status. */
enum { SARD_TEXT_MESSAGE, SARD_TEXT_NODE, SARD_TEXT_OP, SARD_TEXT_PASS, SARD_TEXT_FILE, SARD_TEXT_HINT, SARD_TEXT_WHERE, SARD_TEXT_COUNT };

/* Element types: ONNX TensorProto.DataType numbers. */
enum {
  SARD_F32 = 1, SARD_U8 = 2, SARD_I8 = 3, SARD_U16 = 4, SARD_I16 = 5, SARD_I32 = 6, SARD_I64 = 7, SARD_STRING = 8,
  SARD_BOOL = 9, SARD_F16 = 10, SARD_F64 = 11, SARD_U32 = 12, SARD_U64 = 13, SARD_C64 = 14, SARD_C128 = 15,
  SARD_BF16 = 16, SARD_F8E4M3FN = 17, SARD_F8E4M3FNUZ = 18, SARD_F8E5M2 = 19, SARD_F8E5M2FNUZ = 20, SARD_U4 = 21,
  SARD_I4 = 22, SARD_F4E2M1 = 23, SARD_F8E8M0 = 24, SARD_U2 = 25, SARD_I2 = 26,
  SARD_F6E2M3 = 27, SARD_F6E3M2 = 28, /* one element in a byte, in its low bits */
  /* Values other than tensors; a description has rank 0 for them. */
  SARD_SEQUENCE = 1001, SARD_OPTIONAL = 1002, SARD_MAP = 1003
};

/* Where a tensor lies. */
enum { SARD_CPU = 0, SARD_CUDA = 1 };

/* Describes a tensor. Set `size` to sizeof(sard_tensor_desc). A dim of -1 is symbolic (its name in `symbols`). A rank of
 * -1 (in descriptions of what a model takes or gives) means any rank. */
typedef struct sard_tensor_desc {
  size_t size;
  int32_t dtype, rank;
  int64_t dims[SARD_MAX_RANK];
  int64_t strides[SARD_MAX_RANK]; /* in elements; all 0 means dense row-major. Only dense ones run at present */
  const char *name;               /* owned by the model or tensor */
  const char *symbols[SARD_MAX_RANK];
  int32_t device, device_id;      /* SARD_CPU, or SARD_CUDA and the number of the device */
} sard_tensor_desc;

/* Where a model comes from: a path, or bytes (which must stay valid while the model lives). */
typedef struct sard_source {
  size_t size;
  const char *path;
  const void *data;
  uint64_t bytes;
  /* Optional: supplies external data of an .onnx (location, offset, length); the result must outlive the open call. */
  sard_status *(*read_external)(void *user, const char *location, uint64_t offset, uint64_t length, const void **out);
  void *user;
} sard_source;

/* abi<<24 | major<<16 | minor<<8 | patch */
SARD_API uint32_t sard_version(void);

/* ---- errors ---- */
SARD_API int sard_status_code(const sard_status *);                    /* NULL gives SARD_OK */
SARD_API const char *sard_status_text(const sard_status *, int field); /* never NULL; "" when not set */
SARD_API void sard_status_free(SARD_OWN sard_status *);                /* NULL ok */

/* ---- options: key/value texts; unknown keys are an error that names the nearest key ----
 * context: "threads" (0 = all this process may use), "isa"
 * (baseline|avx2|avxvnni|avx512|avx512vnni|avx512bf16|amx|neon|auto) model: "opt" (0..3), "dim:NAME" (fixes a symbolic
 * dim), "free-dims" (1: dims of the same name may differ), "target", "threads" (of the compiler), "keep-ir" (0|1),
 * "cache" (folder of the compile cache, or "off"; without it what SARD_CACHE in the environment says, else
 * $XDG_CACHE_HOME/sard or ~/.cache/sard), "cache-limit" (bytes), "device" (cpu, cuda, cuda:K), "fallback" (cpu: run
 * there where the device cannot be used; without it that is SARD_E_DEVICE), "library" (auto, no, always: products of
 * matrices on GPUs by cuBLASLt where it is measured to be faster, by the model's own kernels, which give the same bits
 * in each process, or by cuBLASLt), "sparsity" (no, 2:4: weights of which two of four along the sum are 0 are kept
 * without these for GPUs), "devices" (cpu:0,cpu:1,... or cuda:0,...:
 * several that share the work) and "split" (batch, layer or tensor: how they do; docs/devices.md) session:
 * "memory-limit" (bytes of activation memory, K/M/G suffix), "profile" (1: time per step for sard_session_stats) A key
 * that is set twice has its last value. */
SARD_API sard_options *sard_options_new(void); /* NULL when memory is short */
SARD_API SARD_CHECKED sard_status *sard_options_set(sard_options *, const char *key, const char *value);
SARD_API void sard_options_free(SARD_OWN sard_options *);

/* ---- context: thread-safe ---- */
SARD_API SARD_CHECKED sard_status *sard_context_new(const sard_options *, SARD_OWN sard_context **out);
SARD_API void sard_context_free(SARD_OWN sard_context *);

/* ---- model: immutable, thread-safe ---- */
/* Opens a compiled artifact (mapped), or an .onnx where the compiler library is linked (compiled in memory). */
SARD_API SARD_CHECKED sard_status *sard_model_open(sard_context *, const sard_source *, const sard_options *, SARD_OWN sard_model **out);
SARD_API int sard_model_io_count(const sard_model *, int is_output);
SARD_API SARD_CHECKED sard_status *sard_model_io(const sard_model *, int is_output, int index, sard_tensor_desc *out);
/* The type in words, "f32[N,3]", "seq(f32)"; owned by the model. "" when there is no such input or output. */
SARD_API const char *sard_model_io_type(const sard_model *, int is_output, int index);
/* A JSON text about the model (steps, memory, code, isa), owned by the caller (sard_free). */
SARD_API SARD_CHECKED sard_status *sard_model_report(const sard_model *, SARD_OWN char **json);
/* Writes the compiled artifact. */
SARD_API SARD_CHECKED sard_status *sard_model_save(const sard_model *, const char *path);
SARD_API void sard_model_free(SARD_OWN sard_model *);

/* ---- session: one thread at a time ---- */
SARD_API SARD_CHECKED sard_status *sard_session_new(sard_model *, const sard_options *, SARD_OWN sard_session **out);
/* Runs the model. Inputs and outputs are in the model's order. out[i] == NULL on entry means "allocate for me" (then
 * owned by the caller); otherwise the tensor is written in place, must have the right dtype and shape, and may share no
 * memory with inputs or other outputs. After an error out[] is as before; outputs given may be partly written. */
SARD_API SARD_CHECKED sard_status *sard_session_run(sard_session *, sard_tensor *const *in, int n_in, sard_tensor **out, int n_out);
/* Asks a run in another thread to stop at the next step; it returns SARD_E_CANCELLED. No effect where none is under way. */
SARD_API void sard_session_cancel(sard_session *);
/* Gives activation memory back to the system. */
SARD_API SARD_CHECKED sard_status *sard_session_reset(sard_session *);
/* Statistics of the session as JSON (runs, arena bytes, time per step when profiling); owned by the caller. */
SARD_API SARD_CHECKED sard_status *sard_session_stats(sard_session *, SARD_OWN char **json);
SARD_API void sard_session_free(SARD_OWN sard_session *);

/* ---- tensors ---- */
SARD_API SARD_CHECKED sard_status *sard_tensor_new(sard_context *, const sard_tensor_desc *, SARD_OWN sard_tensor **out);
/* Copies the elements of a tensor of the same type and shape, between host and devices too. Complete on return. */
SARD_API SARD_CHECKED sard_status *sard_tensor_copy(sard_tensor *to, const sard_tensor *from);
/* Wraps memory of the caller: `bytes` at `data`; `release(user)` is called when the tensor is freed (may be NULL). */
SARD_API SARD_CHECKED sard_status *sard_tensor_wrap(sard_context *, const sard_tensor_desc *, void *data, uint64_t bytes,
                                       void (*release)(void *), void *user, SARD_OWN sard_tensor **out);
/* Strings: an array of `const char *`, NULL standing for "". NULL for values other than tensors. desc_out may be NULL. */
SARD_API void *sard_tensor_data(sard_tensor *, sard_tensor_desc *desc_out);
/* Sets element `index` of a tensor of strings (not of a wrapped one) to a copy of text. */
SARD_API SARD_CHECKED sard_status *sard_tensor_set_string(sard_tensor *, int64_t index, const char *text);

/* ---- sequences, optionals, maps ----
 * kind: SARD_SEQUENCE (n tensors or maps), SARD_OPTIONAL (none or one item), SARD_MAP (two tensors of rank 1 and equal
 * length: keys, int64 or strings, and values). Takes the items over, also when it fails. Freed by sard_tensor_free. */
SARD_API SARD_CHECKED sard_status *sard_value_new(sard_context *, int kind, SARD_OWN sard_tensor *const *items, int64_t n, SARD_OWN sard_tensor **out);
SARD_API int64_t sard_value_count(const sard_tensor *);                /* items; 0 for a tensor */
SARD_API sard_tensor *sard_value_item(const sard_tensor *, int64_t i); /* owned by the value; NULL when there is none */
SARD_API void sard_tensor_free(SARD_OWN sard_tensor *);
SARD_API void sard_free(SARD_OWN void *); /* texts */

#ifdef __cplusplus
}
#endif
#endif
