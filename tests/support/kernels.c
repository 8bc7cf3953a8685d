#include "tests/support/kernels.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "codegen/compile_units.h"

enum { BYTES = 1 << 30 }; // of addresses; memory, and room of the file, is what is written

static bool shared;

static void share(int fd, int flags) {
  void *at = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE | flags, fd, 0);
  if (at == MAP_FAILED) return;
  sd_units_keep(sd_kernel_store_new(at, BYTES));
  shared = true;
}

__attribute__((constructor)) static void share_by_file(void) {
  const char *path = getenv("SARD_TEST_KERNELS");
  int fd = path && *path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666) : -1;
  if (fd < 0) return;
  if (!ftruncate(fd, BYTES)) share(fd, 0);
  close(fd);
}

void share_kernels(void) {
  if (!shared) share(-1, MAP_ANONYMOUS);
}
