// sard.Noise: uniform random numbers, the sequence that NumPy's legacy generator gives for the same seed (MT19937, 53 bits).
#include "runtime/host_ops.h"

enum { WORDS = 624, DISTANCE = 397 };

typedef struct twister { uint32_t word[WORDS]; uint32_t at; } twister;

static void start(twister *t, uint32_t seed) {
  t->word[0] = seed;
  for (uint32_t i = 1; i < WORDS; i++) t->word[i] = 1812433253u * (t->word[i - 1] ^ (t->word[i - 1] >> 30)) + i;
  t->at = WORDS;
}

static void refill(twister *t) {
  for (uint32_t i = 0; i < WORDS; i++) {
    uint32_t y = (t->word[i] & 0x80000000u) | (t->word[(i + 1) % WORDS] & 0x7fffffffu);
    t->word[i] = t->word[(i + DISTANCE) % WORDS] ^ (y >> 1) ^ (y & 1u ? 0x9908b0dfu : 0);
  }
  t->at = 0;
}

static uint32_t next(twister *t) {
  if (t->at == WORDS) refill(t);
  uint32_t y = t->word[t->at++];
  y ^= y >> 11;
  y ^= (y << 7) & 0x9d2c5680u;
  y ^= (y << 15) & 0xefc60000u;
  return y ^ (y >> 18);
}

// In [0, 1), with 27 and 26 bits of two words.
static double uniform(twister *t) {
  uint32_t high = next(t) >> 5, low = next(t) >> 6;
  return (high * 67108864.0 + low) / 9007199254740992.0;
}

sard_status *sd_host_noise(sd_host_call *c) {
  twister t;
  const sd_host_tensor *wanted = c->n_in > 1 && c->in[1].dtype ? &c->in[1] : NULL;
  if (c->n_out != 1 || c->out[0].dtype != SD_F64 || c->out[0].rank != c->in[0].rank) return SD_ERR(MODEL, "noise is of type f64, with the rank of operand 0");
  SD_TRY(c->make(c, 0, c->in[0].dims));
  bool fill = !wanted || wanted->count == 0 || sd_dtype_get_i64(wanted->dtype, wanted->data, 0);
  start(&t, (uint32_t)c->param[0]);
  for (uint64_t i = 0; i < c->out[0].count; i++) ((double *)c->out[0].data)[i] = fill ? uniform(&t) : 0;
  return NULL;
}
