// sard: every verb, with the compiler.
#include "frontend/cli/tools.h"

static const sd_cli_action actions[] = {
    {"run", sd_verb_run},         {"bench", sd_verb_bench},     {"check", sd_verb_check},     {"compile", sd_verb_compile},
    {"inspect", sd_verb_inspect}, {"compare", sd_verb_compare}, {"doctor", sd_verb_doctor},
    {"eval", sd_verb_eval},       {"quantize", sd_verb_quantize}, {"prune", sd_verb_prune},       {"tune", sd_verb_tune},
    {"convert", sd_verb_convert}, {"optimize", sd_verb_optimize},
    {"partition", sd_verb_partition},
    {"version", sd_verb_version}, {"help", sd_verb_help},       {NULL, NULL}};
static const sd_cli_compiler compiler = {.compile = sd_tools_compile, .check = sd_tools_check, .settle = sd_precision_settle};

int main(int argc, char **argv) {
  return sd_cli_main(argc, argv, &(sd_cli_program){"sard", SD_CLI_SARD, actions, &compiler});
}
