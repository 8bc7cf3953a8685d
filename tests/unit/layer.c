// Where models are cut for devices in a row: by seconds, by what crosses, by memory, and not between a size
// and its use.
#include "passes/partition/layer.h"

#include "ir/op.h"
#include "passes/partition/parts.h"
#include "tests/unit/check.h"

static uint64_t bytes_of(void *user, const sd_value *v) {
  int64_t n;
  (void)user;
  return sd_dim_is_const(v->graph->module->dims, sd_value_count(v), &n) ? 4 * (uint64_t)n : 4;
}

#define EIGHT "1, 1, 1, 1, 1, 1, 1, 1"

// Six nodes in a row; behind the fourth little crosses.
static const char row[] = "module\n"
                          "graph \"main\" (%0 \"x\": f32[64]) {\n"
                          "  %1 = const f32[64] dense<" EIGHT ", " EIGHT ", " EIGHT ", " EIGHT ", " EIGHT
                          ", " EIGHT ", " EIGHT ", " EIGHT ">\n"
                          "  %2 = Add(%0, %1)\n"
                          "  %3 = Abs(%2)\n"
                          "  %4 = Add(%3, %1)\n"
                          "  %5 = ReduceSum(%4) \"sum\"\n"
                          "  %6 = Neg(%5)\n"
                          "  %7 = Abs(%6)\n"
                          "  return %7\n"
                          "}\n";
// What NonZero finds decides a size that its own result shows.
static const char late[] = "module\n"
                           "graph \"main\" (%0 \"x\": f32[9]) {\n"
                           "  %1 = Abs(%0)\n"
                           "  %2 = NonZero(%1)\n"
                           "  %3 = Cast(%2) {to=1}\n"
                           "  %4 = Neg(%3)\n"
                           "  return %4\n"
                           "}\n";

static sd_module *parse(const char *text) {
  sd_module *m = NULL;
  CHECK_OK(sd_module_parse(text, "test", &m));
  return m;
}

static void cut(const char *text, const double *seconds, double link, const sd_layer_device *d, uint32_t n,
                const char *want) {
  sd_module *m = parse(text);
  sd_layer_costs c = {.seconds = seconds, .bytes = bytes_of, .link_bytes = link, .link_seconds = 0};
  sd_layer_plan p;
  sd_str got = {0};
  CHECK_OK(sd_layer_cut(m, &c, d, n, m->arena, &p));
  for (uint32_t i = 0; i < p.n; i++) sd_strf(&got, "%s%u", i ? "," : "", p.at[i].n);
  CHECK_TEXT(got.p, want);
  for (uint32_t i = 0, k = 0; i < p.nodes; i++) {
    while (i >= p.at[k].first + p.at[k].n) k++;
    CHECK(p.part_of[i] == k);
  }
  sd_str_free(&got);
  sd_module_free(m);
}

static sard_status *try_cut(const char *text, const sd_layer_device *d, uint32_t n) {
  static const double seconds[] = {1, 1, 1, 1, 1, 1};
  sd_module *m = parse(text);
  sd_layer_costs c = {.seconds = seconds, .bytes = bytes_of, .link_bytes = 1e9};
  sd_layer_plan p;
  sard_status *st = sd_layer_cut(m, &c, d, n, m->arena, &p);
  sd_module_free(m);
  return st;
}

static void seconds(void) {
  static const double even[] = {1, 1, 1, 1, 1, 1}, uneven[] = {1, 1, 1, 4, 1, 1};
  static const double quarter[] = {.25, .25, .25, .25, .25, .25}, last[] = {9, 9, 9, 9, .5, .5};
  static const sd_layer_device same[4] = {{0}}, fast[2] = {{0}, {.seconds = quarter}},
                               other[2] = {{0}, {.seconds = last}};
  cut(row, even, 1e9, same, 1, "6"), cut(row, even, 1e9, same, 2, "3,3"),
      cut(row, even, 1e9, same, 3, "2,2,2");
  cut(row, uneven, 1e9, same, 2, "3,3"),
      cut(row, uneven, 1e9, same, 4, "3,1,1,1"); // the slowest is what counts
  cut(row, even, 1e9, fast, 2, "1,5");
  cut(row, even, 1e9, other, 2, "4,2"); // fast with some nodes only
  cut(row, even, 200, same, 2, "4,2"); // 256 bytes take longer than a node, 4 do not
}

static void memory(void) {
  static const double even[] = {1, 1, 1, 1, 1, 1};
  static const sd_layer_device roomy[2] = {{NULL, 2000}, {NULL, 2000}}, left[2] = {{NULL, 4000}, {NULL, 300}},
                               small[2] = {{NULL, 400}, {NULL, 400}};
  cut(row, even, 1e9, roomy, 2, "3,3");
  cut(row, even, 1e9, left, 2, "4,2"); // the second has no room for what crosses before the sum
  sard_status *st = try_cut(row, small, 2);
  CHECK(sard_status_code(st) == SARD_E_NOMEM);
  const char *text = sard_status_text(st, SARD_TEXT_MESSAGE), *each = strstr(text, "; ");
  CHECK(strstr(text, "400 bytes at most") && strstr(text, "(A") && each);
  unsigned long long enough = each ? strtoull(each + 2, NULL, 10) : 0; // which is so
  sard_status_free(st);
  sd_layer_device told[2] = {{NULL, enough}, {NULL, enough}},
                  less[2] = {{NULL, enough * 95 / 100}, {NULL, enough * 95 / 100}};
  CHECK_OK(try_cut(row, told, 2));
  st = try_cut(row, less, 2);
  CHECK(sard_status_code(st) == SARD_E_NOMEM);
  sard_status_free(st);
}

static void bounds(void) {
  static const sd_layer_device same[7] = {{0}};
  static const double even[] = {1, 1, 1, 1, 1};
  CHECK_ERR(try_cut(row, same, 7), USAGE, "7 devices, but the model can be cut into 6 parts at most");
  cut(late, even, 1e9, same, 4, "1,1,1,1");
}

static sard_status *cut_at(const char *text, const uint32_t *cuts, uint32_t n, uint64_t memory,
                           sd_layer_plan *p) {
  static const double seconds[] = {1, 1, 1, 1, 1, 1};
  sd_module *m = parse(text);
  sd_layer_device *d = SD_NEW_ARRAY(m->arena, sd_layer_device, n);
  sd_layer_costs c = {.seconds = seconds, .bytes = bytes_of, .link_bytes = 1e9};
  for (uint32_t i = 0; i < n; i++) d[i] = (sd_layer_device){NULL, memory};
  sard_status *st = sd_layer_cut_at(m, &c, d, n, cuts, m->arena, p);
  CHECK(st || (p->at[1].first == cuts[0] && p->part_of[cuts[0]] == 1 && p->part_of[cuts[0] - 1] == 0));
  sd_module_free(m);
  return st;
}

static void given(void) {
  sd_layer_plan p;
  CHECK_OK(cut_at(row, (uint32_t[]){1}, 2, 0, &p));
  CHECK_OK(cut_at(row, (uint32_t[]){2, 5}, 3, 4000, &p));
  CHECK_ERR(cut_at(row, (uint32_t[]){6}, 2, 0, &p), USAGE, "node 6 is none of 1 to 5");
  CHECK_ERR(cut_at(row, (uint32_t[]){3, 3}, 3, 0, &p), USAGE, "node 3 is none of");
  CHECK_ERR(cut_at(row, (uint32_t[]){1}, 2, 300, &p), NOMEM, "part 1 needs");
  CHECK_ERR(cut_at(late, (uint32_t[]){9}, 2, 0, &p), USAGE, "node 9");
}

int main(void) {
  seconds(), memory(), bounds(), given();
  return check_end();
}
