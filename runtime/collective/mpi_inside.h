// Shared by the files of groups of processes.
#pragma once
#include "runtime/collective/mpi_api.h"
#include "runtime/collective/mpi.h"

enum { SD_MPI_RANKS = 64 };
const sd_mpi_api *sd_mpi_of(const sd_group *g);
sard_status *sd_mpi_exchange(sd_group *g, const sd_collective *c); // what a group of processes runs
// Shows `bytes` to all other ranks: all[r] is what rank r shows, but for the own one. They are not counted.
sard_status *sd_mpi_show(sd_group *g, const void *own, uint64_t bytes, void *all);
