/* Sard: compile ONNX models. Needs the full library (compiler and runtime). */
#ifndef SARD_COMPILE_H
#define SARD_COMPILE_H
#include "sard/sard.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Lets sard_model_open of this context compile .onnx files (and graph text) in memory. Thread-safe. */
SARD_API void sard_compiler_use(sard_context *);

/* Compiles a model. `json` (NULL ok) receives a report: phases with seconds, nodes in and out, rewrites by pass,
 * kernels, bytes of code, weights and metadata; owned by the caller (sard_free). Options as for sard_model_open:
 * "opt", "target", "dim:NAME", "free-dims", "threads", "keep-ir", "cache". A model that comes from the cache has the report of
 * its compilation, with "cache":"hit". The model runs on this machine only if the target is its own;
 * otherwise use sard_compile_file. */
SARD_API SARD_CHECKED sard_status *sard_compile(sard_context *, const sard_source *, const sard_options *,
                                                SARD_OWN sard_model **out, SARD_OWN char **json);

/* Compiles a model into an artifact file, for any target. */
SARD_API SARD_CHECKED sard_status *sard_compile_file(const sard_source *, const sard_options *, const char *path,
                                                     SARD_OWN char **json);

#ifdef __cplusplus
}
#endif
#endif
