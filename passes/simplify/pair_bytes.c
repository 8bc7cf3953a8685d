// Pairs of inputs whose products fit 16 bits, see pair_bytes.h.
#include "passes/simplify/pair_bytes.h"

#include <string.h>

#define TRIES 100 // of a pair

// Inputs with their weights above 0 and, with the sign turned, those below.
typedef struct group {
  int n;
  int64_t wide;
  int place[SD_SPARSE_GROUP];
  uint8_t above[SD_SPARSE_GROUP][SD_SPARSE_WIDEST], below[SD_SPARSE_GROUP][SD_SPARSE_WIDEST];
  uint64_t most[SD_SPARSE_GROUP][SD_SPARSE_WIDEST / 4]; // both, at most 127
  unsigned fits[SD_SPARSE_GROUP];                       // with which others, as a set of bits
} group;

typedef struct pairs {
  int n, at[SD_SPARSE_GROUP / 2][2];
} pairs;

static void read_group(group *g, const int8_t *w, int64_t stride, int inputs) {
  for (int i = 0; i < inputs; i++) {
    bool some = false;
    for (int64_t o = 0; o < g->wide; o++) {
      int v = w[i * stride + o];
      g->above[g->n][o] = (uint8_t)(v > 0 ? v : 0), g->below[g->n][o] = (uint8_t)(v < 0 ? -v : 0);
      some |= v != 0;
    }
    if (some) g->place[g->n++] = i;
  }
  if (g->n % 2) g->place[g->n++] = 0; // beside the last one none, with zeros
}

static void read_most(group *g, int i) {
  uint8_t v[2 * SD_SPARSE_WIDEST] = {0};
  for (int64_t o = 0; o < g->wide; o++) {
    v[o] = g->above[i][o];
    v[g->wide + o] = g->below[i][o] < 127 ? g->below[i][o] : 127;
  }
  memcpy(g->most[i], v, sizeof v);
}

// Sums of bytes below 128, eight at once: none reaches 128 (which would fit, but is rare).
static bool two_fit(const group *g, int i, int j) {
  uint64_t over = 0;
  for (int64_t o = 0; o < g->wide / 4; o++) over |= g->most[i][o] + g->most[j][o];
  return !(over & 0x8080808080808080u);
}

static int partners(const group *g, int i, unsigned left) { return __builtin_popcount(g->fits[i] & left); }

// Of those that are left and have `least` partners or more the one with the fewest, -1: there is none.
static int hardest(const group *g, unsigned left, int least) {
  int best = -1, fewest = SD_SPARSE_GROUP;
  for (unsigned s = left; s && fewest > least; s &= s - 1) {
    int i = __builtin_ctz(s), n = partners(g, i, left);
    if (n >= least && n < fewest) best = i, fewest = n;
  }
  return best;
}

static bool match(const group *g, unsigned left, pairs *p, int *tries) {
  if (!left) return true;
  int i = hardest(g, left, 0);
  for (int j = 0; j < g->n; j++) {
    if (!((g->fits[i] & left) >> j & 1)) continue;
    if (--*tries < 0) return false;
    p->at[p->n][0] = i, p->at[p->n++][1] = j;
    if (match(g, left & ~(1u << i | 1u << j), p, tries)) return true;
    p->n--;
  }
  return false;
}

// Pairs that fit as long as there are some; returns what is left.
static unsigned match_some(const group *g, unsigned left, pairs *p) {
  for (int i; (i = hardest(g, left, 1)) >= 0;) {
    unsigned with = g->fits[i] & left;
    int j = __builtin_ctz(with);
    for (unsigned s = with; s; s &= s - 1)
      if (partners(g, __builtin_ctz(s), left) < partners(g, j, left)) j = __builtin_ctz(s);
    p->at[p->n][0] = i, p->at[p->n++][1] = j;
    left &= ~(1u << i | 1u << j);
  }
  return left;
}

typedef struct writer {
  const group *g;
  sd_pair_step *out;
  int pairs;
} writer;

static int weight_of(const group *g, int i, int64_t o) { return g->above[i][o] - g->below[i][o]; }

// The part of weight v that fits beside weight w.
static int beside(int v, int w) {
  int most = SD_SPARSE_HIGH - (w > 0 ? w : 0), least = SD_SPARSE_LOW - (w < 0 ? w : 0);
  return v > most ? most : v < least ? least : v;
}

// rest: only what of weight i does not fit beside weight j.
static void write_pair(writer *w, int i, int j, bool rest) {
  sd_pair_step *s = &w->out[w->pairs / 2];
  int first = w->pairs++ % 2 * 2;
  if (!first) memset(s, 0, sizeof *s);
  s->order[first] = (uint8_t)w->g->place[i], s->order[first + 1] = (uint8_t)w->g->place[j];
  for (int64_t o = 0; o < w->g->wide; o++) {
    int v = weight_of(w->g, i, o), other = weight_of(w->g, j, o), part = beside(v, other);
    s->value[o][first] = (int8_t)(rest ? v - part : part);
    s->value[o][first + 1] = (int8_t)(rest ? 0 : other);
  }
}

int sd_pair_steps(const int8_t *weights, int64_t stride, int inputs, int64_t wide, sd_pair_step *out) {
  group g = {.wide = wide};
  pairs p = {0};
  int tries = TRIES, good;
  read_group(&g, weights, stride, inputs);
  for (int i = 0; i < g.n; i++) read_most(&g, i);
  for (int i = 0; i < g.n; i++)
    for (int j = i + 1; j < g.n; j++)
      if (two_fit(&g, i, j)) g.fits[i] |= 1u << j, g.fits[j] |= 1u << i;
  unsigned all = (1u << g.n) - 1, left = 0;
  if (!match(&g, all, &p, &tries)) p.n = 0, left = match_some(&g, all, &p);
  good = p.n;
  for (; left; left &= left - 1, p.n++) {
    p.at[p.n][0] = __builtin_ctz(left);
    left &= left - 1;
    p.at[p.n][1] = __builtin_ctz(left);
  }
  writer w = {&g, out, 0};
  for (int i = 0; i < p.n; i++) write_pair(&w, p.at[i][0], p.at[i][1], false);
  for (int i = good; i < p.n; i++) write_pair(&w, p.at[i][0], p.at[i][1], true);
  return (w.pairs + 1) / 2;
}

int sd_pair_plain(const int8_t *w, int64_t stride, int64_t wide, sd_pair_step out[2]) {
  const int8_t *v = &out->value[0][0];
  int some = 0;
  bool over = false;
  for (int i = 0; i < SD_SPARSE_SIDE; i++) {
    out[0].order[i] = out[1].order[i] = (uint8_t)i;
    for (int64_t o = 0; o < wide; o++) some |= out->value[o][i] = w[i * stride + o];
  }
  for (int64_t i = 0; i < wide * SD_SPARSE_SIDE; i += 8) over |= sd_sums_over(sd_sums_of_pairs(v + i));
  if (!over) return some != 0;
  memset(out[1].value, 0, sizeof out[1].value);
  for (int64_t o = 0; o < wide; o++)
    for (int i = 0; i < SD_SPARSE_SIDE; i += 2) {
      int all = out[0].value[o][i], part = beside(all, out[0].value[o][i + 1]);
      out[0].value[o][i] = (int8_t)part, out[1].value[o][i] = (int8_t)(all - part);
    }
  return 2;
}
