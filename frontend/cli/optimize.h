// sard optimize: its state, shared by the files that try chains, measure, choose and report.
#pragma once
#include "frontend/cli/judge.h"
#include "frontend/cli/tools.h"

typedef enum sd_chain_when { SD_CHAIN_ALWAYS, SD_CHAIN_KEPT, SD_CHAIN_LOST } sd_chain_when;
typedef struct sd_chain { // a row of optimize.def, which says what the columns mean
  const char *name;
  sd_chain_when when;
  const char *after;
  double speed, size, cost;
  const char *fast, *settings, *steps;
} sd_chain;

typedef enum sd_trial_state { SD_TRIAL_WAITS, SD_TRIAL_MEASURED, SD_TRIAL_FAILED } sd_trial_state;
typedef struct sd_trial {
  sd_chain chain;         // steps "": the model as it is
  const char *name;       // of the chain, and how it runs
  int64_t threads, batch; // as it runs; threads 0: as --threads says
  const char *devices, *split; // that share the work; NULL: one does it
  sd_trial_state state;
  const char *why; // FAILED: what happened. Once all is done: why it is not chosen
  // files: in the work folder, or MODEL itself
  const char *onnx, *artifact;
  // measured
  double ms50, ms99, speed; // of a run; speed: the model as it is, in turn with it, over this one
  double rate;              // samples/s
  uint64_t bytes, memory;   // of OUT's kind of file; of weights and activations
  double peak_mb;           // what loading and running it took of the process's memory at most; 0: not known
  int64_t samples;          // it was given up after so many; 0: it was not
  double value, drop, bound;
  int64_t worse, better;
  bool kept, allowed,
      front; // keeps --max-drop; keeps all limits; no other one is better in all that counts
} sd_trial;

// What --goal and --limit speak of.
typedef enum sd_measure {
  SD_LATENCY,
  SD_P99,
  SD_THROUGHPUT,
  SD_SIZE,
  SD_MEMORY,
  SD_DROP,
  SD_MEASURES
} sd_measure;
typedef struct sd_limit {
  sd_measure what;
  double most; // least of throughput; in ms, samples/s, bytes, the metric's unit
  const char *text;
} sd_limit;

typedef struct sd_optimize {
  sd_cli *c;
  sd_judge judge;           // a: the model as it is, b: a candidate
  const char *out, *folder; // folder: files of trials, and the state
  bool artifact;            // OUT is an artifact
  sd_measure goal;
  SD_VEC(sd_limit) limits;
  const char *drop_text;
  bool by_estimate;        // --drop-by
  double max_drop;         // in the metric's unit
  double budget_s, used_s; // used_s: by the runs that this one goes on from
  int64_t start_ns;
  double least_s;                  // what the model as it is took
  int64_t batch;                   // samples in a run
  uint64_t external;               // bytes of weights that are in other files than MODEL
  SD_VEC(sd_trial) trials;         // the first is the model as it is
  const sd_trial *chosen, *so_far; // so_far: the best, when it is interrupted
  uint32_t resumed;                // trials whose results are those of an earlier run
  bool partial;                    // interrupted
  bool spent;                      // the budget ended before all was tried
  char key[24];                    // what the results belong to
} sd_optimize;

// A command line in pieces, as main gets it.
typedef struct sd_command {
  char *at[96];
  int n;
} sd_command;

// ---- optimize_chains.c ----
void sd_optimize_list(sd_optimize *q); // trials: all chains of the table
// The one to try next; NULL: none is left.
sd_trial *sd_optimize_next(sd_optimize *q);
// The commands that make a trial's files: names of files that go to people (OUT, and what is in between), or
// those of the work folder. *n of them in the arena, the last one the compilation where `compile`.
sard_status *sd_optimize_commands(sd_optimize *q, const sd_trial *t, bool for_people, bool compile,
                                  sd_command **out, int *n);
sard_status *sd_optimize_check(sd_optimize *q, const sd_trial *t,
                               sd_command *k);                // OUT beside MODEL: sard eval
char *sd_optimize_shell(sd_optimize *q, const sd_command *k); // as one types it, in the arena

// ---- optimize_measure.c ----
sard_status *sd_optimize_begin(sd_optimize *q); // the model as it is: trial 0
// Makes a trial's files and measures them; its state and why tell what happened. Errors end everything: an
// interrupt, no memory.
sard_status *sd_optimize_try(sd_optimize *q, sd_trial *t);
// The same model over --devices, shared by `split`: a trial of its own, which is measured.
sard_status *sd_optimize_share(sd_optimize *q, const sd_trial *of, const char *split);
// The same files with other threads or samples in a run.
sard_status *sd_optimize_retime(sd_optimize *q, const sd_trial *of, int64_t threads, int64_t batch);
double sd_optimize_left(const sd_optimize *q); // seconds of the budget

// ---- optimize_choose.c ----
sard_status *sd_optimize_read_goal(sd_optimize *q); // --goal, --limit, --drop-by
bool sd_optimize_proven(const sd_optimize *q, const sd_trial *t); // the drop is within --max-drop with 95 %
bool sd_optimize_keeps(const sd_optimize *q, const sd_trial *t); // a measured one: the drop, by --drop-by
double sd_optimize_value(const sd_optimize *q, const sd_trial *t, sd_measure m); // such that less is better
// kept, allowed, front, why of all; the best of those that are allowed, NULL: none.
sd_trial *sd_optimize_choose(sd_optimize *q);
sard_status *sd_optimize_nearest(sd_optimize *q); // the error where no trial is allowed

// ---- optimize_state.c ----
sard_status *sd_optimize_resume(sd_optimize *q); // results of an earlier run of the same command
sard_status *sd_optimize_save(sd_optimize *q);
void sd_optimize_clean(sd_optimize *q); // removes the work folder

// ---- optimize_report.c, optimize_svg.c ----
void sd_optimize_report(sd_optimize *q); // for people, and as members of the JSON result
sard_status *sd_optimize_html(sd_optimize *q, const char *path);
void sd_optimize_svg(sd_optimize *q, sd_str *s);
