// sard doctor.
#include "frontend/cli/tools.h"
sard_status *sd_verb_doctor(sd_cli *c) { return SD_ERR(UNSUPPORTED, "%s is not written yet", c->verb->name); }
