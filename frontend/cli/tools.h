// The verbs of sard that need the compiler.
#pragma once
#include "frontend/cli/cli.h"
#include "frontend/driver/driver.h"

sard_status *sd_verb_compile(sd_cli *c);
sard_status *sd_verb_inspect(sd_cli *c);
sard_status *sd_verb_compare(sd_cli *c);
sard_status *sd_verb_doctor(sd_cli *c);

// sd_cli_compiler
sard_status *sd_tools_compile(sd_cli *c, sard_context *ctx, const sard_source *src, const sard_options *o, sard_model **out,
                              double *out_seconds);
sard_status *sd_tools_check(sd_cli *c, sard_context *ctx, sard_tensor *const *in, int n_in);
