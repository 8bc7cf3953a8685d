// Predicted times, memory and traffic of splits, against sums made by hand.
#include <math.h>

#include "frontend/driver/simulate.h"
#include "tests/unit/check.h"

// Two products: 2*4*8*16 + 64 and 2*4*16*8 + 32 operations (one for each result stored), 896 bytes each.
static const char two[] =
    "module\n"
    "symbol batch\n"
    "graph \"main\" (%0 \"x\": f32[batch,8], %1 \"v\": f32[8,16], %2 \"w\": f32[16,8]) {\n"
    "  %3 = MatMul(%0, %1)\n"
    "  %4 = MatMul(%3, %2)\n"
    "  return %4\n"
    "}\n";

static const sd_scale_size sizes[] = {{"batch", 4, true}};

typedef struct world {
  sd_arena *a;
  sd_module *m;
  sd_work work;
  sd_machine machine;
  sd_scale_job job;
} world;

// Four devices that compute and move a million a second; kernels take a millisecond.
static void make(world *x, const char *text) {
  sard_source src = {.size = sizeof src, .data = text, .bytes = strlen(text)};
  sd_driver_options o;
  *x = (world){.a = sd_arena_new()};
  sd_driver_defaults(&o);
  CHECK_OK(sd_driver_load(&src, &o, &x->m));
  CHECK_OK(sd_simulate_work(x->m, false, &o, x->a, &x->work));
  uint8_t *roles = SD_NEW_ARRAY(x->a, uint8_t, x->m->next_id + 1);
  for (uint32_t i = 1; i < x->m->main->inputs.len; i++) roles[x->m->main->inputs.at[i]->id] = SD_ROLE_WEIGHT;
  x->work.roles = roles;
  x->machine.n_kinds = x->machine.n_levels = 1, x->machine.count = 4;
  x->machine.kinds[0] = (sd_machine_device){
      "d", 4, 2000, .flops = {[SD_F32] = 1e6}, .bandwidth = 1e6, .launch = 1e-3, .compute = 1, .moving = 1};
  x->machine.levels[0] = (sd_machine_level){"l", 4, 1e6, 1e-4, 1e-3};
  x->job = (sd_scale_job){
      .work = &x->work, .machine = &x->machine, .phases = {{"run", sizes, 1, 1, false}}, .n_phases = 1};
  x->job.largest = (sd_scale_phase){"", sizes, 1, 0, false}, x->job.batch = 4;
}

static void drop(world *x) {
  sd_module_free(x->m);
  sd_arena_free(x->a);
}

static bool near(double a, double b) {
  if (fabs(a - b) <= 1e-9 * fabs(b)) return true;
  printf("%.12g is not %.12g\n", a, b);
  return false;
}

static sd_scale_plan predict(world *x, uint32_t t, uint32_t l, uint32_t b) {
  sd_scale_plan p = {0};
  CHECK_OK(sd_scale_predict(&x->job, (sd_scale_split){t, l, b}, &p));
  return p;
}

static void by_hand(void) {
  world x;
  make(&x, two);
  CHECK(x.work.nodes == 2);
  sd_scale_plan one = predict(&x, 1, 1, 1), t = predict(&x, 2, 1, 1), l = predict(&x, 1, 2, 1),
                b = predict(&x, 1, 1, 2);
  CHECK(near(one.seconds, 1e-3 + 1088e-6 + 1e-3 + 1056e-6));
  CHECK(near(one.phases[0].flops, 1088 + 1056) && near(one.phases[0].bytes, 2 * 896));
  CHECK(near(one.memory.weights, 1024) && near(one.memory.values, 128 + 256) && one.fits);
  // columns, then rows: half the operations, and a sum of 128 bytes sent at once
  CHECK(near(t.seconds, 1e-3 + 544e-6 + 1e-3 + 528e-6 + 1e-3 + 1e-4 + 128e-6));
  CHECK(near(t.memory.weights, 512) && near(t.phases[0].sent, 128) && t.whole == 0);
  // one behind the other, and 256 bytes between
  CHECK(near(l.seconds, one.seconds + 1e-3 + 1e-4 + 256e-6) && l.phases[0].pieces == 1);
  CHECK(near(l.memory.weights, 512) && near(l.phases[0].wait, 0.5));
  // two rows each: 544 operations and 704 bytes, so that memory is what limits
  CHECK(near(b.seconds, 1e-3 + 704e-6 + 1e-3 + 704e-6) && near(b.memory.weights, 1024));
  CHECK(near(b.phases[0].memory, 1408e-6 / b.seconds) && near(b.phases[0].launch, 2e-3 / b.seconds));
  sd_scale_compare(&b, &one, 1);
  CHECK(near(b.phases[0].efficiency, one.seconds / (2 * b.seconds)));
  drop(&x);
}

// Cheap kernels and links: pieces pay. Two stages of 2 ms, four pieces: 2 * 0.5 + 3 * 0.5.
static void pieces(void) {
  world x;
  make(&x, two);
  x.machine.kinds[0].launch = 0, x.machine.kinds[0].bandwidth = 1e12;
  x.machine.levels[0] = (sd_machine_level){"l", 4, 1e12, 0, 0};
  sd_scale_plan p = predict(&x, 1, 2, 1);
  CHECK(p.phases[0].pieces == 4 && fabs(p.seconds - (272e-6 + 264e-6 + 3 * 272e-6)) < 1e-9);
  x.job.phases[0].again = true;
  p = predict(&x, 1, 2, 1);
  CHECK(fabs(p.seconds - 1088e-6) < 1e-9 && p.phases[0].wait < 0.02); // runs in a row leave no bubble
  drop(&x);
}

static void refused(void) {
  world x;
  sd_scale_plan p;
  make(&x, two);
  CHECK_ERR(sd_scale_predict(&x.job, (sd_scale_split){8, 1, 1}, &p), USAGE, "8 devices, but there are 4");
  CHECK_ERR(sd_scale_predict(&x.job, (sd_scale_split){1, 3, 1}, &p), USAGE, "cut into 2 parts");
  x.job.batch = 2;
  CHECK_ERR(sd_scale_predict(&x.job, (sd_scale_split){1, 1, 4}, &p), USAGE, "a batch of 2");
  x.machine.kinds[0].memory = 1000;
  CHECK_OK(sd_scale_predict(&x.job, (sd_scale_split){1, 1, 1}, &p));
  CHECK(!p.fits);
  CHECK_OK(sd_scale_predict(&x.job, (sd_scale_split){2, 1, 1}, &p));
  CHECK(p.fits);
  drop(&x);
}

// Rings, trees, all to all; levels.
static void exchanges(void) {
  sd_machine m = {.n_levels = 2, .count = 16, .levels = {{"in", 8, 100, 1, 0}, {"out", 16, 10, 5, 2}}};
  double sent;
  CHECK(near(sd_machine_exchange(&m, SD_EXCHANGE_REDUCE, 1, 1e6, &sent), 0) && sent == 0);
  CHECK(near(sd_machine_exchange(&m, SD_EXCHANGE_REDUCE, 8, 0, &sent), 1));                     // all to all
  CHECK(near(sd_machine_exchange(&m, SD_EXCHANGE_REDUCE, 8, 8e6, &sent), 2 * (7 + 7e6 / 100))); // a ring
  CHECK(near(sent, 2 * 7e6));
  CHECK(near(sd_machine_exchange(&m, SD_EXCHANGE_GATHER, 8, 8e6, &sent), 3 + 7e6 / 100));
  // eight inside reduce to an eighth each, of which two outside make the sum
  CHECK(near(sd_machine_exchange(&m, SD_EXCHANGE_REDUCE, 16, 8e6, &sent),
             2 + 2 * (7 + 7e6 / 100) + 2 * (5 + 0.5e6 / 10)));
  CHECK(near(sd_machine_send(&m, 7, 6, 100), 2) && near(sd_machine_send(&m, 7, 8, 100), 2 + 5 + 10));
}

static double of_decoder(const sd_decoder *d, const sd_machine *m, sd_scale_split s) {
  sd_arena *a = sd_arena_new();
  sd_module *module = NULL;
  sd_work work;
  sd_driver_options o;
  sd_scale_plan p = {0};
  sd_scale_size at[] = {{"batch", d->batch, true}, {"tokens", 1, false}, {"keys", d->context, false}};
  sd_driver_defaults(&o);
  CHECK_OK(sd_simulate_decoder(d, &module));
  CHECK_OK(sd_simulate_work(module, true, &o, a, &work));
  sd_scale_job job = {.work = &work, .machine = m, .phases = {{"decode", at, 3, 1, true}}, .n_phases = 1};
  job.largest = (sd_scale_phase){"", at, 3, 0, false}, job.batch = d->batch;
  CHECK_OK(sd_scale_predict(&job, s, &p));
  double parameters =
      d->layers * (2.0 * d->hidden + (2.0 * d->heads + 2.0 * d->kv_heads) * d->head * d->hidden +
                   3.0 * d->hidden * d->ffn) +
      d->hidden + 2.0 * d->vocabulary * d->hidden;
  double cache = 2.0 * d->layers * d->batch * d->context * d->kv_heads * d->head * 2;
  if (s.tensor * s.layer * s.batch == 1) // shapes of Reshape are constants, too
    CHECK(fabs(p.memory.weights - 2 * parameters) < 256 && near(p.memory.cache, cache));
  CHECK(p.whole < 0.01);
  sd_module_free(module);
  sd_arena_free(a);
  return p.seconds;
}

// More bandwidth, more operations a second or less to wait for never make it slower.
static void monotonic(void) {
  sd_decoder d = {"d", SD_BF16, 6, 512, 8, 4, 64, 1024, 1000, true, 8, 16, 300, 0};
  const sd_scale_split splits[] = {{1, 1, 1}, {2, 1, 1}, {8, 1, 1}, {1, 4, 1}, {2, 2, 2}, {1, 1, 8}};
  for (size_t i = 0; i < sizeof splits / sizeof *splits; i++) {
    sd_machine m = {.n_kinds = 1,
                    .n_levels = 2,
                    .count = 8,
                    .levels = {{"in", 4, 1e9, 1e-5, 1e-5}, {"out", 8, 1e8, 1e-4, 0}}};
    m.kinds[0] = (sd_machine_device){"d",
                                     8,
                                     UINT64_MAX / 2,
                                     .flops = {[SD_BF16] = 1e12},
                                     .bandwidth = 1e10,
                                     .launch = 1e-5,
                                     .compute = 0.5,
                                     .moving = 0.8};
    double t = of_decoder(&d, &m, splits[i]), *more[] = {&m.kinds[0].flops[SD_BF16], &m.kinds[0].bandwidth,
                                                         &m.levels[0].bandwidth, &m.levels[1].bandwidth};
    double *less[] = {&m.kinds[0].launch, &m.levels[0].latency, &m.levels[1].latency, &m.levels[0].start};
    for (int k = 0; k < 8; k++) {
      double *x = k < 4 ? more[k] : less[k - 4], next;
      *x *= k < 4 ? 3 : 0.3;
      next = of_decoder(&d, &m, splits[i]);
      CHECK(next <= t * (1 + 1e-12));
      t = next;
    }
  }
}

int main(void) {
  by_hand();
  pieces();
  refused();
  exchanges();
  monotonic();
  return check_end();
}
