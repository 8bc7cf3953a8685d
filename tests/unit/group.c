// Groups of devices: exchanges between threads, also inside of graphs that the interpreter runs in lock step,
// with uneven shares; order of sums; devices that fail or do not fit together.
#include "runtime/collective/group.h"

#include <pthread.h>

#include "ir/eval.h"
#include "tests/unit/check.h"

enum { MOST = 5 };

typedef struct rank_run {
  sd_group *group;
  sd_collective c;
  int rounds;
  bool fails; // instead of its last round
  sard_status *st;
} rank_run;

static void *exchange(void *user) {
  rank_run *r = user;
  for (int i = 0; i < r->rounds && !r->st; i++) {
    if (r->fails && i + 1 == r->rounds) {
      r->group->fail(r->group);
      break;
    }
    r->c.tag++;
    r->st = r->group->run(r->group, &r->c);
  }
  return NULL;
}

static void run_all(rank_run *r, int n) {
  pthread_t t[MOST];
  for (int i = 0; i < n; i++) CHECK(pthread_create(&t[i], NULL, exchange, &r[i]) == 0);
  for (int i = 0; i < n; i++) pthread_join(t[i], NULL);
}

// Numbers whose sum depends on the order.
static void sums_in_order(int n) {
  enum { COUNT = 1031 };
  static float in[MOST][COUNT], out[MOST][COUNT], want[COUNT];
  sd_group **g = sd_group_threads(n);
  rank_run r[MOST] = {{0}};
  for (int i = 0; i < COUNT; i++) want[i] = 0;
  for (int k = 0; k < n; k++) {
    for (int i = 0; i < COUNT; i++) in[k][i] = (k % 2 ? 1e7f : 0.1f) * (float)(i + 1);
    for (int i = 0; i < COUNT; i++) want[i] = k ? want[i] + in[k][i] : in[k][i];
    r[k] = (rank_run){g[k], {SD_ALL_REDUCE, SD_F32, 0, 1, COUNT, 1, 1, in[k], out[k]}, .rounds = 20};
  }
  run_all(r, n);
  for (int k = 0; k < n; k++) {
    CHECK_OK(r[k].st);
    CHECK(memcmp(out[k], want, sizeof want) == 0);
  }
  g[0]->free(g);
}

static void others_learn_of_failures(int n) {
  float in[MOST] = {1, 2, 3, 4, 5}, out[MOST];
  sd_group **g = sd_group_threads(n);
  rank_run r[MOST] = {{0}};
  for (int k = 0; k < n; k++)
    r[k] = (rank_run){g[k], {SD_ALL_REDUCE, SD_F32, 0, 1, 1, 1, 1, &in[k], &out[k]}, 3, k == 1, NULL};
  run_all(r, n);
  for (int k = 0; k < n; k++)
    if (k != 1) CHECK_ERR(r[k].st, CANCELLED, "device 2 of ");
  CHECK_OK(g[0]->reset(g));
  for (int k = 0; k < n; k++) r[k].st = NULL, r[k].fails = false, r[k].c.tag = 0;
  run_all(r, n);
  for (int k = 0; k < n; k++) CHECK_OK(r[k].st);
  for (int k = 0; k < n; k++) r[k].st = NULL, r[k].c.tag = k == n - 1;
  run_all(r, n);
  for (int k = 0; k < n; k++) CHECK_ERR(r[k].st, MODEL, "device 1 is at exchange");
  g[0]->free(g);
}

// ---- graphs ----

typedef struct eval_run {
  sd_module *m;
  sd_evalue in, out[2];
  sard_status *st;
} eval_run;

static void *evaluate(void *user) {
  eval_run *r = user;
  r->st = sd_eval_module(r->m, &r->in, 1, r->out, 2, NULL, NULL);
  if (r->st) r->m->group->fail(r->m->group);
  return NULL;
}

// An axis of 6 in units of 2: each rank gets its share of 0, 1, 2, ... and the whole comes back.
static sd_module *graph_of(int rank, int ranks, int64_t share) {
  char text[1000];
  sd_module *m = NULL;
  snprintf(text, sizeof text,
           "module\nsymbol N\ngraph \"main\" (%%0 \"x\": f32[N,%d,3]) {\n"
           "  %%1 \"all\" = sard.AllGather(%%0) {rank=%d, ranks=%d, tag=1, axis=1, size=6, unit=2}\n"
           "  %%2 = sard.AllReduce(%%1) {rank=%d, ranks=%d, tag=2}\n"
           "  %%3 \"part\" = sard.ReduceScatter(%%2) {rank=%d, ranks=%d, tag=3, axis=1, size=6, unit=2}\n"
           "  return %%1, %%3\n}\n",
           (int)share, rank, ranks, rank, ranks, rank, ranks);
  CHECK_OK(sd_module_parse(text, "test", &m));
  return m;
}

static void graphs_in_lock_step(int n) {
  enum { ROWS = 2 };
  float data[MOST][ROWS * 6 * 3];
  pthread_t t[MOST];
  eval_run r[MOST] = {{0}};
  sd_group **g = sd_group_threads(n);
  for (int k = 0; k < n; k++) {
    int64_t from = (int64_t)sd_share_begin(6, 2, k, n),
            share = (int64_t)sd_share_begin(6, 2, k + 1, n) - from;
    r[k].m = graph_of(k, n, share), r[k].m->group = g[k];
    for (int64_t i = 0; i < ROWS * share * 3; i++)
      data[k][i] = (float)(i / (share * 3) * 18 + from * 3 + i % (share * 3));
    r[k].in = (sd_evalue){SD_F32, 3, {ROWS, share, 3}, data[k], (uint64_t)(ROWS * share * 3) * 4};
  }
  for (int k = 0; k < n; k++) CHECK(pthread_create(&t[k], NULL, evaluate, &r[k]) == 0);
  for (int k = 0; k < n; k++) pthread_join(t[k], NULL);
  for (int k = 0; k < n; k++) {
    const float *all = r[k].out[0].data, *part = r[k].out[1].data;
    bool ok = !r[k].st && r[k].out[1].bytes == r[k].in.bytes;
    CHECK_OK(r[k].st);
    for (int i = 0; ok && i < ROWS * 18; i++) ok = all[i] == (float)i;
    for (uint64_t i = 0; ok && i < r[k].in.bytes / 4; i++) ok = part[i] == data[k][i] * (float)(n * n);
    CHECK(ok);
    sd_eval_free(&r[k].out[0]), sd_eval_free(&r[k].out[1]);
    sd_module_free(r[k].m);
  }
  g[0]->free(g);
}

static void alone(void) {
  sd_module *m = graph_of(1, 2, 4);
  float data[12] = {0};
  sd_evalue in = {SD_F32, 3, {1, 4, 3}, data, sizeof data}, out[2] = {{0}};
  CHECK_ERR(sd_eval_module(m, &in, 1, out, 2, NULL, NULL), USAGE, "cannot run by itself");
  sd_module_free(m);
  CHECK_ERR(sd_module_parse("module\ngraph \"main\" (%0 \"x\": f32[4]) {\n  %1 = sard.AllGather(%0) {rank=2, "
                            "ranks=2, tag=1, axis=0, size=8}\n  return %1\n}\n",
                            "test", &m),
            MODEL, "rank 2 of 2 devices");
  CHECK_ERR(sd_module_parse("module\ngraph \"main\" (%0 \"x\": f32[5]) {\n  %1 = sard.AllGather(%0) {rank=0, "
                            "ranks=2, tag=1, axis=0, size=8}\n  return %1\n}\n",
                            "test", &m),
            MODEL, "axis 0 is not 4 elements");
}

static void types(void) {
  uint16_t half[2][3] = {{0x3c00, 0x4000, 0xfbff}, {0x3c00, 0x3800, 0xfbff}}, sum[3]; // 1+1, 2+0.5, lowest
  uint8_t bytes[2][2] = {{200, 1}, {100, 2}}, total[2];
  sd_group_sum(SD_F16, (const void *[]){half[0], half[1]}, 2, 3, sum);
  CHECK(sum[0] == 0x4000 && sum[1] == 0x4100 && sum[2] == 0xfc00);
  sd_group_sum(SD_U8, (const void *[]){bytes[0], bytes[1]}, 2, 2, total);
  CHECK(total[0] == 44 && total[1] == 3);
  CHECK(!sd_group_sums(SD_BOOL) && !sd_group_sums(SD_I4) && sd_group_sums(SD_I64));
  CHECK(sd_share_begin(7, 1, 1, 3) == 2 && sd_share_begin(7, 1, 2, 3) == 4 &&
        sd_share_begin(7, 1, 3, 3) == 7);
}

int main(void) {
  types();
  for (int n = 2; n <= 4; n++) sums_in_order(n), others_learn_of_failures(n);
  for (int n = 1; n <= 3; n++) graphs_in_lock_step(n);
  alone();
  return check_end();
}
