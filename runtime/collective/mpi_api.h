// What the module libsard_mpi.so gives (runtime/plugin/mpi.c), which is built where MPI is: processes that
// exchange bytes. The runtime loads it when a model is to run on devices "mpi".
#pragma once
#include <stdint.h>

enum { SD_MPI_VERSION = 1 };
typedef enum sd_mpi_channel { SD_MPI_TENSORS, SD_MPI_BEATS, SD_MPI_CHANNELS } sd_mpi_channel;

typedef struct sd_mpi_api {
  int version;
  // Joins the other processes. 0: done; else nothing else is called.
  int (*start)(int *rank, int *ranks);
  // A message of `bytes` to or from a rank begins; messages of a channel between two ranks stay in order.
  // *request is NULL where it has ended already. 0: done.
  int (*send)(sd_mpi_channel c, const void *data, uint64_t bytes, int to, void **request);
  int (*receive)(sd_mpi_channel c, void *data, uint64_t bytes, int from, void **request);
  // 1: it has ended, and *request is NULL; 0: it has not; negative: it failed.
  int (*ended)(void **request);
  void (*drop)(void **request); // it need not end
  void (*leave)(void);          // all have come to their end
  void (*end_all)(int code);    // ends all processes
} sd_mpi_api;

// The only symbol of the module: const sd_mpi_api sard_mpi
#define SD_MPI_SYMBOL "sard_mpi"
