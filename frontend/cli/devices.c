// What the devices of a split session did, and how much faster they are together than the first one alone.
#include "runtime/collective/split.h"

#include "frontend/cli/cli.h"
#include "runtime/collective/mpi.h"
#include "runtime/cuda/session.h"

// What the compiler expected of each way.
static void show_ways(sd_cli *c, const sard_model *m) {
  const sd_art *a = &m->art;
  const char *chosen = sd_split_name(m->devices.split);
  if (!a->n_ways) return;
  sd_cli_say(c, "split      %s; predicted for a batch of %u:", chosen ? chosen : "?", a->ways[0].pieces);
  for (uint32_t i = 0; i < a->n_ways; i++) {
    const sard_art_way *w = &a->ways[i];
    const char *name = w->how ? sd_split_name((sd_split_kind)w->how) : "one device";
    sd_cli_say(c, "%s %s %.3g ms%s", i ? "," : "", name ? name : "?", w->seconds * 1e3, w->fits ? "" : " (does not fit)");
    sd_strf(&c->json, "%s{\"split\":\"%s\",\"fits\":%s,\"pieces\":%u,\"predicted_ms\":%.6f,\"bytes\":%llu}", i ? "," : ",\"ways\":[", name ? name : "?",
            w->fits ? "true" : "false", w->pieces, w->seconds * 1e3, (unsigned long long)w->bytes);
  }
  sd_cli_say(c, "\n");
  sd_str_put(&c->json, "]");
}

static void tell_whole(sd_cli *c, uint64_t exchanged) {
  if (!exchanged)
    sd_cli_say(c, "tensors    none is cut, each device computes the whole model: sard compile says why, node by node\n");
}

// Who multiplies matrices, where the model runs on a GPU and something was asked of a library.
static void show_library(sd_cli *c, const sard_session *s) {
  sd_cu_products *p = s->cu ? s->cu->program->products : NULL;
  uint32_t sizes, by_library;
  if (!p || !p->n) return;
  sd_str_put(&c->json, ","), sd_cu_products_put(&c->json, p);
  sd_cu_products_count(p, &sizes, &by_library);
  if (!sizes) return;
  sd_cli_say(c, "products   %u of %u sizes by cuBLASLt%s%s\n", by_library, sizes, *p->why ? "; " : "", p->why);
}

void sd_cli_show_devices(sd_cli *c, const sard_session *s, double wall_s) {
  uint64_t moved = 0, exchanged = 0;
  char memory[24], in[24], out[24];
  int n = sd_split_devices(s);
  const char *way = sd_split_name(s->model->devices.split);
  if (sd_mpi_group()) {
    sd_cli_say(c, "rank 0 of %d, in %s, through MPI\n", sd_mpi_group()->ranks, sd_cli_bytes(sd_mpi_group()->bytes, in));
    sd_strf(&c->json, ",\"split\":\"tensor\",\"ranks\":%d,\"transport\":\"mpi\",\"moved_bytes\":%llu", sd_mpi_group()->ranks,
            (unsigned long long)sd_mpi_group()->bytes);
    tell_whole(c, sd_mpi_group()->bytes);
  }
  show_library(c, s);
  if (!n) return;
  sd_strf(&c->json, ",\"split\":\"%s\"", way ? way : "?");
  show_ways(c, s->model);
  for (int i = 0; i < n; i++) {
    sd_split_report r = sd_split_report_of(s, i);
    double busy = wall_s > 0 ? (double)r.busy_ns * 1e-9 / wall_s : 0;
    moved += r.bytes_in + r.bytes_out, exchanged += r.exchanged;
    sd_cli_say(c, "%-10s busy %.1f ms (%.0f %%), %d thread%s, activations %s, in %s, out %s\n", r.device,
               (double)r.busy_ns * 1e-6, 100 * busy, r.threads, r.threads == 1 ? "" : "s",
               sd_cli_bytes(r.memory_bytes, memory), sd_cli_bytes(r.bytes_in, in),
               sd_cli_bytes(r.bytes_out, out));
    sd_strf(&c->json,
            "%s{\"device\":\"%s\",\"threads\":%d,\"runs\":%llu,\"busy_ms\":%.3f,\"memory_bytes\":%llu,"
            "\"bytes_in\":%llu,\"bytes_out\":%llu}",
            i ? "," : ",\"devices\":[", r.device, r.threads, (unsigned long long)r.runs,
            (double)r.busy_ns * 1e-6, (unsigned long long)r.memory_bytes, (unsigned long long)r.bytes_in,
            (unsigned long long)r.bytes_out);
  }
  if (s->model->devices.split == SD_SPLIT_TENSOR) tell_whole(c, exchanged);
  const char *why, *transport = sd_split_transport(s, &why);
  sd_strf(&c->json, "],\"transport\":\"%s\",\"moved_bytes\":%llu", transport, (unsigned long long)moved);
  if (!sd_devices_cuda(&s->model->devices)) return;
  sd_cli_say(c, "transport  %s; from GPU to GPU %s%s%s\n", transport, sd_cli_bytes(sd_split_peer_bytes(s), in),
             why ? "; " : "", why ? why : "");
  sd_strf(&c->json, ",\"peer_bytes\":%llu", (unsigned long long)sd_split_peer_bytes(s));
  if (why) sd_str_put(&c->json, ",\"not_nccl\":"), sd_str_json(&c->json, why);
}
