// Which nodes a verb changes: what quantize and prune share.
#pragma once
#include "frontend/cli/cli.h"

typedef struct sd_pick {
  const char *name, *op; // of the node
  bool keep;             // it stays as it is
  const char *why;       // NULL: nobody said so
} sd_pick;

// Keeps the nodes that `flag` names (names, patterns, @REPORT.json:top=N) and those whose operator is not in
// --ops.
sard_status *sd_pick_keep(sd_cli *c, const char *flag, sd_pick *at, uint32_t n);
