// The command line programs: sard (everything) and sard-rt (runtime only) share parsing, files and the verbs run and bench.
#pragma once
#include <stdio.h>

#include "runtime/base/arena.h"
#include "runtime/base/status.h"
#include "runtime/base/str.h"
#include "sard/sard.h"

// ---- table (cli.def) ----
typedef struct sd_cli_verb { const char *name, *operands; int least, most; unsigned programs; const char *what; } sd_cli_verb;
typedef struct sd_cli_flag { const char *verbs; char letter; const char *name, *arg, *def, *what; } sd_cli_flag;
enum { SD_CLI_SARD = 1, SD_CLI_RT = 2 };
const sd_cli_verb *sd_args_verb_at(size_t i); // NULL past the end
const sd_cli_flag *sd_args_flag_at(size_t i);
bool sd_args_flag_of(const sd_cli_flag *f, const char *verb); // whether the verb takes the flag

// ---- a program and what it was asked ----
typedef struct sd_cli sd_cli;
typedef struct sd_cli_action { const char *verb; sard_status *(*run)(sd_cli *c); } sd_cli_action;

typedef struct sd_cli_tensors { sard_tensor **at; int n; } sd_cli_tensors;

// What only the full program can do; sard-rt has none of it.
typedef struct sd_cli_compiler {
  // run --check: compares the compiled nodes with the interpreter's, and the outputs `out` of the run with both; appends
  // members to c->json and sets c->failed.
  sard_status *(*check)(sd_cli *c, sard_context *ctx, const sd_cli_tensors *in, const sd_cli_tensors *out);
  // Compiles with a report of the driver's seconds.
  sard_status *(*compile)(sd_cli *c, sard_context *ctx, const sard_source *src, const sard_options *o, sard_model **out,
                          double *out_seconds);
  // Settles --precision, where that takes measuring, into c->precision for the model of that path.
  sard_status *(*settle)(sd_cli *c, const char *model);
} sd_cli_compiler;

typedef struct sd_cli_program {
  const char *name;
  unsigned bit;                  // SD_CLI_SARD, SD_CLI_RT
  const sd_cli_action *actions;  // ends with a NULL verb
  const sd_cli_compiler *compiler; // NULL: none
} sd_cli_program;

typedef struct sd_cli_given { const sd_cli_flag *flag; const char *value; } sd_cli_given;

struct sd_cli {
  const sd_cli_program *program;
  const sd_cli_verb *verb;
  sd_arena *arena;               // for the whole command
  const char *operands[4];
  int n_operands;
  SD_VEC(sd_cli_given) given;
  bool quiet;
  int verbose;
  const char *precision;         // in place of --precision, where a verb tries several; NULL: as given
  bool whole;                    // models are compiled in one piece, whatever --devices says
  int64_t batch;                 // of the inputs, for --split auto; 0: not known
  bool watch;                    // models show all their values (sd_driver_options.watch)
  FILE *out;                     // results for people: stdout, or stderr where JSON goes to stdout
  sd_str json;                   // members of the result object, each with a comma in front
  bool failed;                   // a check failed: exit code 1
  const char *within;            // what another verb calls this one for: progress begins with it, all else is silent
};

int sd_cli_main(int argc, char **argv, const sd_cli_program *p); // in cli.c; the exit code

// A verb that another one calls: `out` is parsed from argv, in the outer one's arena, and writes no JSON file; what it
// would have written is in out->json, to be freed. The second runs it, too, and frees what it allocated.
sard_status *sd_cli_parse_within(const sd_cli *outer, const char *within, int argc, char **argv, sd_cli *out);
sard_status *sd_cli_call(const sd_cli *outer, const char *within, int argc, char **argv, sd_cli *out);

// ---- parsing (args.c) ----
// Fills verb, operands and flags. Everything stays in argv.
sard_status *sd_args_parse(sd_cli *c, int argc, char **argv);
const char *sd_args_get(const sd_cli *c, const char *flag); // value or default, NULL for neither; by letter for "O"
bool sd_args_given(const sd_cli *c, const char *flag);
// Values of a flag that may repeat: the first one at *at or behind it; NULL at the end. Start with *at = 0.
const char *sd_args_next(const sd_cli *c, const char *flag, uint32_t *at);
sard_status *sd_args_int(const sd_cli *c, const char *flag, int64_t min, int64_t max, int64_t *out); // absent: unchanged
sard_status *sd_args_number(const sd_cli *c, const char *flag, double min, double max, double *out); // absent: unchanged
// The place of the given word, or of the default, among those of the flag's argument; absent: unchanged.
sard_status *sd_args_choice(const sd_cli *c, const char *flag, int *out);
// "NAME=REST" split at the first '=' (or `sep`); both parts not empty.
sard_status *sd_args_split(sd_cli *c, const char *flag, const char *value, char sep, const char **name, const char **rest);
// Adds flags of a JSON file in front of those given, which overrule them (config.c).
sard_status *sd_args_config(sd_cli *c, const char *path);
sard_status *sd_args_add(sd_cli *c, const char *flag, const char *value, bool in_front); // SARD_E_USAGE: the verb has none
void sd_help_verbs(const sd_cli *c, FILE *to);
void sd_help_verb(const sd_cli *c, const sd_cli_verb *v, FILE *to);
void sd_help_markdown(FILE *to); // the tables of docs/cli.md

// ---- talking (cli.c) ----
__attribute__((format(printf, 2, 3))) void sd_cli_say(sd_cli *c, const char *fmt, ...);  // result; not when quiet
__attribute__((format(printf, 2, 3))) void sd_cli_note(sd_cli *c, const char *fmt, ...); // stderr; not when quiet
__attribute__((format(printf, 2, 3))) void sd_cli_detail(sd_cli *c, const char *fmt, ...); // stderr with -v
// A line on a terminal that the next one replaces; NULL removes it.
void sd_cli_progress(sd_cli *c, const char *text);
const char *sd_cli_bytes(uint64_t n, char out[24]); // "12.3 MB"
void sd_cli_markup(sd_str *s, const char *text, size_t most); // as text of XML and HTML, at most so many bytes of it

// ---- interrupts (stop.c) ----
// Ctrl-C cancels the session that runs; while files are written it waits for the end of the write; else it ends at once.
void sd_stop_install(void);
void sd_stop_session(sard_session *s); // NULL: none runs
void sd_stop_hold(void);               // a file is being written
void sd_stop_release(void);            // ends here when an interrupt came in between
void sd_stop_say(void);                // "interrupted", once
bool sd_stop_asked(void); // also behind the deadline
sard_status *sd_stop_check(void); // SARD_E_CANCELLED where it was asked
void sd_stop_at(int64_t ns); // a deadline by sd_now_ns, as if Ctrl-C came then; 0: none

// ---- files (files.c) ----
char *sd_files_path(sd_cli *c, const char *dir, const char *fmt, ...) __attribute__((format(printf, 3, 4))); // in the arena
bool sd_files_exists(const char *path);
sard_status *sd_files_make_dir(const char *path);
sard_status *sd_files_can_write(const char *path); // SARD_E_IO when a file cannot be made there
sard_status *sd_files_write(const char *path, const char *text, size_t n); // "-" = standard output
bool sd_files_is_artifact(const char *path);

// ---- models (model.c) ----
typedef struct sd_cli_model {
  sard_context *ctx;
  sard_model *model;
  bool artifact;
  double compile_s, load_s;
  const char *isa;
  uint64_t weight_bytes;
} sd_cli_model;
// Context and model by the flags -O, --dim, --target, --threads.
sard_status *sd_model_load(sd_cli *c, sd_cli_model *m);
// The same, and inputs by the flags. For --split auto the model is compiled in one piece first, which tells the inputs, then
// for the batch that they have.
sard_status *sd_model_load_with(sd_cli *c, sd_cli_model *m, sd_cli_tensors *in);
// Context and model apart: many models in one context, which stays the caller's; m->model is to be freed.
sard_status *sd_model_context(sd_cli *c, sard_context **out);
sard_status *sd_model_load_in(sd_cli *c, sard_context *ctx, const char *path, sd_cli_model *m);
// The same of an ONNX model in memory, which has to live as long.
sard_status *sd_model_load_packed(sd_cli *c, sard_context *ctx, const sard_source *src, sd_cli_model *m);
void sd_model_unload(sd_cli_model *m);
// A session that measures its steps if `profile`.
sard_status *sd_model_session(const sd_cli *c, sard_model *m, bool profile, sard_session **out); // of the flags --memory-limit, --micro-batches
sard_status *sd_model_options(sd_cli *c, sard_options *o); // puts -O, --target, --dim
sard_status *sd_model_devices(const sd_cli *c,
                              sard_options *o); // puts --devices, --split and what belongs to them
sard_status *sd_model_cache_options(sd_cli *c, sard_options *o); // puts --cache, --cache-limit
const char *sd_model_type(sd_cli *c, const sard_tensor_desc *d); // "f32[N,3,224,224]" in the arena

// ---- inputs (inputs.c) ----
// Inputs of the model by the flags --inputs, --input, --shape, --dim, --seed, in its order.
// Rank of the tensor that the flags give as a file for input `index`; *out keeps its value where there is none.
sard_status *sd_inputs_rank(sd_cli *c, sard_context *ctx, uint32_t index, const char *name, int *out);
sard_status *sd_inputs_make(sd_cli *c, const sd_cli_model *m, sd_cli_tensors *out);
void sd_inputs_free(sd_cli_tensors *t);

// ---- comparison (diff.c) ----
typedef struct sd_diff {
  double max_abs, max_rel, rel_rms; // rel_rms: |a-b| over |b| in the 2-norm
  uint64_t count, wrong, first_wrong; // elements, those beyond the tolerance, index of the first of them
  double got, want;                 // there
  const char *reason;               // shapes or types differ (arena), NULL
  bool passed;
} sd_diff;
// |a-b| <= atol + rtol*|b|, NaN equals NaN, integers exactly.
void sd_diff_tensors(sd_cli *c, sard_tensor *a, sard_tensor *b, double rtol, double atol, sd_diff *out);

// ---- measured limits of this machine (peak.c) ----
typedef struct sd_peak { double gflops, gbs; } sd_peak;
sd_peak sd_peak_measure(int threads); // f32 multiply-add, and reading from memory; about half a second

double sd_peak_memory_mb(void); // most memory that this process had
// What comes between the two takes so much at most, in MB; 0 where the system does not tell.
double sd_peak_memory_begin(void);
double sd_peak_memory_since(double begun);

// ---- verbs ----
sard_status *sd_verb_run(sd_cli *c);
sard_status *sd_verb_bench(sd_cli *c);
sard_status *sd_verb_check(sd_cli *c);
sard_status *sd_verb_version(sd_cli *c);
sard_status *sd_verb_help(sd_cli *c);
// devices.c: what the devices of a session did, as text and JSON; nothing where it runs on one. wall_s: time of all runs.
void sd_cli_show_devices(sd_cli *c, const sard_session *s, double wall_s);
sard_status *sd_trace_write(sd_cli *c, const sard_session *s, const char *path); // trace.c: what s->trace has, to a file
