// Damaged images: seeded flips and cuts of each file, decoded in each order of pixels. Meant for ASan and UBSan builds.
//   image_fuzz N SEED FILE...
// A variant may be decoded or refused; a crash, a hang or another kind of error is a failure (exit code 1).
#include "runtime/base/file.h"
#include "runtime/base/thread.h"
#include "runtime/host.h"
#include "tests/unit/test.h"

static long runs, decoded, bad;
static uint8_t *result;

// Results of a few megabytes, as a session with a limit of memory gives them.
static sard_status *make(sd_host_call *c, uint32_t out, const int64_t *dims) {
  uint64_t bytes = (uint64_t)(dims[0] * dims[1] * dims[2]);
  if (bytes > UINT64_C(1) << 22) return SD_ERR(NOMEM, "the result is over the limit");
  free(result);
  c->out[out].data = result = malloc(bytes);
  return result ? NULL : SD_ERR(NOMEM, "no memory");
}

static void decode(const char *file, long variant, const uint8_t *data, uint64_t size) {
  int64_t order = variant % 3, start = sd_now_ns();
  sd_host_tensor in = {.dtype = SD_U8, .rank = 1, .dims = {(int64_t)size}, .count = size, .data = (void *)data};
  sd_host_tensor out = {.dtype = SD_U8, .rank = 3};
  sd_host_call c = {.n_in = 1, .n_out = 1, .n_param = 1, .in = &in, .out = &out, .param = &order, .make = make};
  sard_status *st = sd_host_run(sd_host_find("sard.DecodeImage"), &c);
  int code = sard_status_code(st);
  double ms = (double)(sd_now_ns() - start) * 1e-6;
  runs++, decoded += !st;
  bool known = !st || code == SARD_E_MODEL || code == SARD_E_UNSUPPORTED || code == SARD_E_NOMEM;
  if (!known || ms > 5000) {
    printf("%s: variant %ld: %.0f ms, %s\n", file, variant, ms, sard_status_text(st, SARD_TEXT_MESSAGE));
    bad++;
  }
  sard_status_free(st);
}

static void variants(const char *file, const sd_map *m, long count, uint64_t seed) {
  uint64_t s = seed;
  for (long i = 0; i < count && m->size; i++) {
    uint64_t size = test_random(&s) % 4 ? m->size : test_random(&s) % m->size + 1;
    uint8_t *copy = malloc(size); // ends where the allocation ends
    if (!copy) abort();
    memcpy(copy, m->data, size);
    for (uint64_t k = test_random(&s) % 5; k--;) {
      uint64_t how = test_random(&s), at = test_random(&s) % (how & 2 && size > 64 ? 64 : size); // half of them in the header
      copy[at] = how & 1 ? (uint8_t)(copy[at] ^ 1u << (how >> 2 & 7)) : (uint8_t)(how >> 8);
    }
    decode(file, i, copy, size);
    free(copy);
  }
}

int main(int argc, char **argv) {
  if (argc < 4) return fprintf(stderr, "usage: image_fuzz N SEED FILE...\n"), 2;
  for (int i = 3; i < argc; i++) {
    sd_map m;
    sard_status *st = sd_file_map(argv[i], &m);
    if (st) return printf("%s\n", sard_status_text(st, SARD_TEXT_MESSAGE)), 1;
    variants(argv[i], &m, strtol(argv[1], NULL, 10), strtoull(argv[2], NULL, 10));
    sd_file_unmap(&m);
  }
  free(result);
  printf("image_fuzz: %ld runs, %ld decoded, %ld bad\n", runs, decoded, bad);
  return bad != 0;
}
