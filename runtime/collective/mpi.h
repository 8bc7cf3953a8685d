// Devices that are processes, on one machine or several: started by mpirun, each runs the same program and is
// one rank of the group. Rank 0 tells what comes of it.
#pragma once
#include "runtime/artifact_read.h"
#include "runtime/collective/group.h"

// Joins the group, at the first call; MPI is left when the program ends. A rank that does not answer for
// SD_MPI_SILENCE seconds ends all, with an error that names it. SARD_E_DEVICE: MPI is not there, or the
// program was not started by it.
enum { SD_MPI_SILENCE = 5 };
sard_status *sd_mpi_join(int *rank, int *ranks);
// All ranks make the same exchanges, in number and kind, as the plan of the model says: SARD_E_MODEL names one that
// does not.
sard_status *sd_mpi_same_plan(const sd_art *a);
// What rank 0 has in *yes, for all; nothing happens where nothing was joined.
sard_status *sd_mpi_agree(bool *yes);
int sd_mpi_rank(void);        // 0 where nothing was joined
sd_group *sd_mpi_group(void); // NULL where nothing was joined
