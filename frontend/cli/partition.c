// sard partition: how a model would be split over devices.
#include "frontend/cli/partition.h"

sard_status *sd_verb_partition(sd_cli *c) {
  if (sd_args_given(c, "simulate")) return sd_partition_simulate(c);
  return sd_status_field(SD_ERR(USAGE, "partition: --simulate is missing"), SARD_TEXT_HINT,
                         "sard partition MODEL --devices SPEC.json --simulate");
}
