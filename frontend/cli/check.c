// run --check.
#include "frontend/cli/tools.h"
sard_status *sd_tools_check(sd_cli *c, sard_context *ctx, sard_tensor *const *in, int n_in) {
  (void)c, (void)ctx, (void)in, (void)n_in;
  return SD_ERR(UNSUPPORTED, "--check is not written yet");
}
