// LSTM, GRU and RNN as loops over time: the same results as the nodes themselves give in the interpreter.
#include "tests/unit/flow.h"

enum { S = 4, I = 8, H = 224, MAX_GATES = 4 };
static float x[S * 2 * I], w[2 * MAX_GATES * H * I], r[2 * MAX_GATES * H * H], b[2 * 8 * H], h0[2 * 2 * H], c0[2 * 2 * H];

static void fill(float *p, int n, float scale, uint64_t seed) {
  for (int i = 0; i < n; i++) p[i] = scale * ((float)(test_random(&seed) % 2001) / 1000 - 1);
}

// The weights have to be constants of the module.
static void constant(sd_str *t, int id, const char *type, const float *p, int n) {
  sd_strf(t, "  %%%d = const %s hex<", id, type);
  for (int i = 0; i < n; i++) {
    uint8_t bytes[4];
    memcpy(bytes, &p[i], 4);
    for (int k = 0; k < 4; k++) sd_strf(t, "%02x", bytes[k]);
  }
  sd_str_put(t, ">\n");
}

static char *model(const char *op, int gates, int dirs, const char *attrs, bool bias, bool states, bool batch_first, bool lstm) {
  sd_str t = {0};
  sd_str type = {0};
  sd_strf(&t, "module\nsymbol N\ngraph \"main\" (%%0 \"x\": f32[%s], %%1 \"h0\": f32[%s], %%2 \"c0\": f32[%s]) {\n",
          batch_first ? "2,N,8" : "N,2,8", dirs == 2 ? "2,2,224" : batch_first ? "2,1,224" : "1,2,224", dirs == 2 ? "2,2,224" : batch_first ? "2,1,224" : "1,2,224");
  sd_strf(&type, "f32[%d,%d,%d]", dirs, gates * H, I);
  constant(&t, 3, type.p, w, dirs * gates * H * I);
  sd_str_free(&type);
  sd_strf(&type, "f32[%d,%d,%d]", dirs, gates * H, H);
  constant(&t, 4, type.p, r, dirs * gates * H * H);
  sd_str_free(&type);
  sd_strf(&type, "f32[%d,%d]", dirs, 2 * gates * H);
  if (bias) constant(&t, 5, type.p, b, dirs * 2 * gates * H);
  sd_str_free(&type);
  sd_strf(&t, "  %%6, %%7%s = %s(%%0, %%3, %%4, %s", lstm ? ", %8" : "", op, bias ? "%5" : "_");
  if (states) sd_str_put(&t, lstm ? ", _, %1, %2" : ", _, %1");
  sd_strf(&t, ") {hidden_size=%d%s}\n  %%9 = Neg(%%6)\n  return %%9, %%7%s\n}\n", H, attrs, lstm ? ", %8" : "");
  return sd_str_take(&t);
}

static void compare(const char *op, int gates, int dirs, const char *attrs, bool bias, bool states, bool batch_first) {
  bool lstm = gates == 4;
  char *text = model(op, gates, dirs, attrs, bias, states, batch_first, lstm);
  flow_result res;
  flow_data d = {.n_in = 3};
  d.in[0] = flow_tensor(SD_F32, 3, batch_first ? (int64_t[]){2, S, I} : (int64_t[]){S, 2, I}, x);
  d.in[1] = flow_tensor(SD_F32, 3, dirs == 2 ? (int64_t[]){2, 2, H} : batch_first ? (int64_t[]){2, 1, H} : (int64_t[]){1, 2, H}, h0);
  d.in[2] = d.in[1], d.in[2].data = c0;
  int failed = check_failed;
  flow_check(text, &d, lstm ? 3 : 2, &res);
  if (check_failed != failed) printf("%s %s bias=%d states=%d\n", op, attrs, bias, states);
  flow_free(&res);
  free(text);
}

static void lstm(void) {
  compare("LSTM", 4, 1, "", true, true, false);
  compare("LSTM", 4, 1, ", direction=\"reverse\", layout=1", false, true, true);
  compare("LSTM", 4, 2, ", direction=\"bidirectional\"", true, false, false);
}

static void gru(void) {
  compare("GRU", 3, 1, "", true, false, false);
  compare("GRU", 3, 2, ", direction=\"bidirectional\", linear_before_reset=1", true, true, false);
}

static void rnn(void) {
  compare("RNN", 1, 1, ", direction=\"reverse\"", true, true, false); // stays a kernel: too small
}

int main(void) {
  fill(x, S * 2 * I, 1, 1), fill(w, 2 * MAX_GATES * H * I, 0.3f, 2), fill(r, 2 * MAX_GATES * H * H, 0.1f, 3);
  fill(b, 2 * 8 * H, 0.2f, 4), fill(h0, 2 * 2 * H, 1, 5), fill(c0, 2 * 2 * H, 1, 6);
  RUN(lstm);
  RUN(gru);
  RUN(rnn);
  return check_end();
}
