// A model with its recorded inputs, run at other sizes of its symbolic dims.
#pragma once
#include "runtime/base/status.h"
#include "sard/sard_compile.h"

enum { MOST_IO = 64, MOST_SYMBOLS = 24 };

typedef struct symbol {
  const char *name;
  int64_t size, recorded; // recorded: 0 where the inputs do not tell
} symbol;
typedef struct subject {
  const char *folder; // with model.onnx and test_data_set_0
  sard_context *ctx;
  sard_model *model;
  sard_session *session;
  int n_in, n_out, n_symbols;
  symbol symbols[MOST_SYMBOLS];
  sard_tensor *seed[MOST_IO]; // recorded inputs
} subject;
typedef struct values {
  sard_tensor *at[MOST_IO];
} values;

void values_forget(values *v);

// Reads inputs and symbols; the model is open.
sard_status *subject_read(subject *s);
void subject_close(subject *s); // inputs, session, model, context
// Small sizes, odd and even, and multiples of 32 for images; the symbols have different ones.
void subject_choose(subject *s, int at);
void subject_choose_recorded(subject *s);
// Inputs of the chosen sizes, filled with the recorded numbers.
sard_status *subject_inputs(subject *s, values *in);
// Sums of other orders differ by rounding, which a quantized model may make a step of: `rms` of the whole.
bool subject_same(sard_tensor *a, sard_tensor *b, double rms);

enum { GOOD, BAD, LEFT_OUT }; // what became of a model
// Runs the folders of dir that have a model.onnx, those of `names` (ends with NULL) where there are some, and prints
// "N passed, N failed". Returns the exit code of a test.
int subject_each(const char *dir, char **names, int (*run)(const char *dir, const char *name));
