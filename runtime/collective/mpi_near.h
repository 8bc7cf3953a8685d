// Ranks of this machine, also while MPI starts: each holds a socket that is named by the run and the rank, and that
// the kernel closes when its process ends, in whichever way. No file is made.
#pragma once
#include <stdbool.h>

// Before MPI starts. Nothing is known where mpirun is not Open MPI's.
void sd_near_begin(void);
// Who has come, and who has ended since. One thread at a time.
void sd_near_look(void);
// This process ends by itself, and says why: others need not. Also called when the program ends.
void sd_near_end(void);
// Where a rank of this machine has ended without a word, or has not come though all are of this machine, the first of
// the others writes that to standard error; `stopped`: also of one that does not run, not for handlers of signals.
// False: there is none. Takes a moment, so that a signal for all finds all there.
bool sd_near_tell(bool stopped);
