// A model on the null driver beside the same model on the processor.
#pragma once
#include "tests/cuda/null/ask.h"
#include "tests/support/subject.h"

#define CLOSE 2e-2 // quantized models have steps; f16 rounds between nodes

typedef struct pair {
  subject cpu;
  sard_model *model; // on devices
  sard_session *session;
  values in, want; // of the sizes chosen last
  bool open;       // some outputs have shapes that the run decides
  char text[500];
} pair;

bool fails(pair *p, const char *what, sard_status *st); // takes st; its text goes into p->text
bool wrong(pair *p, const char *what);                  // false; p->text, unless there is one

typedef struct option {
  const char *key, *value;
} option;
// The model with these options, up to one without a key.
sard_status *open_with(const pair *p, const option *options, sard_model **out);

bool expect(
    pair *p); // inputs of the chosen sizes and the processor's results; false where the model does not take them
sard_status *run(pair *p, sard_session *s, values *out);
bool agree(pair *p, const values *out, const char *what); // with the processor
bool runs_well(pair *p, sard_session *s, const char *what);

// For each model of argv, DIR [NAME...], in a process of its own: calls `try_all`, which says in p->text what is wrong
// when it gives false, or has printed it when there is a session. The exit code of a test.
int pair_main(int argc, char **argv, bool (*try_all)(pair *p));
