// sard-rt: run and bench of compiled artifacts, with the runtime library alone.
#include "frontend/cli/cli.h"

static const sd_cli_action actions[] = {{"run", sd_verb_run},
                                        {"bench", sd_verb_bench},
                                        {"check", sd_verb_check},
                                        {"version", sd_verb_version},
                                        {"help", sd_verb_help},
                                        {NULL, NULL}};

int main(int argc, char **argv) {
  return sd_cli_main(argc, argv, &(sd_cli_program){"sard-rt", SD_CLI_RT, actions, NULL});
}
