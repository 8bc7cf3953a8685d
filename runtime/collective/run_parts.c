// A run of a model in parts. The batch is cut where that can be: each part then works on one piece of it
// while the parts behind it work on earlier ones. A part may be ahead of those that read its results by as
// many pieces as there are parts between them and one more, so that memory is bounded and nobody waits in a
// circle.
#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/collective/group.h"
#include "runtime/collective/inside.h"
#include "runtime/cuda/peer.h"


typedef struct part_flow {
  const sard_art_wire *wires; // of its inputs
  uint32_t *output;           // per output: which output of the model it is, NONE: it is for other parts
  int slots;                  // pieces whose results are kept for others at a time
  sard_tensor **kept;         // per slot, then output
  bool read_by[SARD_ART_MAXPARTS];
  int done; // pieces that it has worked on
  // of GPUs: what it gets of others is copied to its own memory
  bool stays, ahead;    // some of its outputs stay there; all, and it need not wait for the end of a piece
  sard_tensor **local;  // per input: the copy
  void **made, **taken; // events, per piece modulo `ring`: outputs are written, inputs are copied
} part_flow;

struct sd_flow {
  sd_share *pieces;
  int n, room; // pieces of the run at hand; shares there are
  bool cuts;   // by the batch
  bool failed;
  int ring; // more than pieces that any part is ahead of another
  uint64_t peer_bytes;
  part_flow at[];
};

// ---- making ----

static sard_status *flow_part(struct sd_flow *f, const sard_model *m, int p, const sard_art_wire *outputs) {
  const sd_art *a = &m->parts[p]->art;
  part_flow *x = &f->at[p];
  x->slots = 2;
  x->output = sd_calloc(a->n_out, sizeof *x->output);
  if (!x->output) return SD_ERR(NOMEM, "out of memory for part %d", p + 1);
  for (uint32_t i = 0; i < a->n_out; i++) x->output[i] = SARD_ART_NONE;
  for (uint32_t i = 0; i < m->art.n_out; i++)
    if (outputs[i].part == (uint32_t)p + 1) x->output[outputs[i].at] = i;
  for (uint32_t i = 0; i < a->n_in; i++) {
    if (!x->wires[i].part) continue;
    part_flow *from = &f->at[x->wires[i].part - 1];
    int ahead = p + 2 - (int)x->wires[i].part + 1;
    from->read_by[p] = true;
    if (ahead > from->slots) from->slots = ahead;
  }
  return NULL;
}

// ---- GPUs ----

// Which outputs of part p its readers can copy from its memory: those that no processor and no GPU out of reach reads.
static sard_status *find_stays(const struct sd_split *x, int p) {
  struct sd_flow *f = x->flow;
  sard_session *own = x->at[p].session;
  const sd_art *a = &own->model->art;
  own->stay = sd_calloc(a->n_out, sizeof *own->stay);
  if (!own->stay) return SD_ERR(NOMEM, "out of memory for part %d", p + 1);
  for (uint32_t i = 0; i < a->n_out; i++)
    own->stay[i] = own->cu && f->at[p].output[i] == SARD_ART_NONE && a->io[a->n_in + i].dtype != SARD_STRING &&
                   !a->io[a->n_in + i].kind;
  for (int q = p + 1; q < x->n; q++) {
    const sard_session *reader = x->at[q].session;
    bool reached = false;
    if (own->cu && reader->cu && f->at[p].read_by[q])
      SD_TRY(sd_cu_reach(reader->cu->device, own->cu->device, &reached));
    for (uint32_t i = 0; i < reader->model->art.n_in && !reached; i++)
      if (f->at[q].wires[i].part == (uint32_t)p + 1) own->stay[f->at[q].wires[i].at] = false;
  }
  f->at[p].ahead = own->cu != NULL;
  for (uint32_t i = 0; i < a->n_out; i++) f->at[p].ahead &= own->stay[i], f->at[p].stays |= own->stay[i];
  return NULL;
}

static sard_status *flow_devices(const struct sd_split *x) {
  struct sd_flow *f = x->flow;
  for (int p = 0; p < x->n; p++)
    if (f->at[p].slots >= f->ring) f->ring = f->at[p].slots + 1;
  for (int p = 0; p < x->n; p++) {
    part_flow *at = &f->at[p];
    at->local = sd_calloc(x->at[p].session->model->art.n_in, sizeof *at->local);
    at->made = sd_calloc((size_t)f->ring, sizeof *at->made), at->taken = sd_calloc((size_t)f->ring, sizeof *at->taken);
    if (!at->local || !at->made || !at->taken) return SD_ERR(NOMEM, "out of memory for part %d", p + 1);
    SD_TRY_MSG(find_stays(x, p), "device %s", x->at[p].name);
  }
  return NULL;
}

// The tensor of another GPU as one of the device's own, for input i; where only its shape is read, without its
// contents.
static sard_status *bring(sd_device *d, uint32_t i, int j) {
  struct sd_flow *f = d->all->flow;
  part_flow *x = &f->at[d->index];
  sard_tensor *from = d->in[i], **to = &x->local[i];
  bool fits = *to && (*to)->desc.dtype == from->desc.dtype && (*to)->desc.rank == from->desc.rank &&
              !memcmp((*to)->desc.dims, from->desc.dims, sizeof from->desc.dims);
  if (!fits) {
    sard_tensor_desc desc = from->desc;
    desc.device_id = d->session->cu->device->ordinal;
    if (*to) SD_TRY(sd_cu_wait(d->session));
    sard_tensor_free(*to), *to = NULL;
    SD_TRY(sard_tensor_new(d->session->model->ctx, &desc, to));
  }
  d->in[i] = *to;
  if (x->wires[i].sizes) return NULL;
  SD_TRY(sd_cu_after(d->session, f->at[x->wires[i].part - 1].made[j % f->ring]));
  pthread_mutex_lock(&d->all->lock);
  f->peer_bytes += from->bytes;
  pthread_mutex_unlock(&d->all->lock);
  return sd_cu_bring(d->session, from, *to);
}

static sard_status *bring_all(sd_device *d, int j) {
  const struct sd_flow *f = d->all->flow;
  bool any = false;
  for (uint32_t i = 0; i < d->session->model->art.n_in; i++) {
    if (!f->at[d->index].wires[i].part || !d->in[i]->place) continue;
    SD_TRY(bring(d, i, j));
    any = true;
  }
  return any ? sd_cu_mark(d->session, &f->at[d->index].taken[j % f->ring]) : NULL;
}

// Outputs of piece j go where those of an earlier one were, which all readers have to have copied.
static sard_status *wait_for_readers(sd_device *d, int j) {
  struct sd_flow *f = d->all->flow;
  const part_flow *x = &f->at[d->index];
  for (int q = d->index + 1; q < d->all->n && j >= x->slots; q++)
    if (x->read_by[q]) SD_TRY(sd_cu_after(d->session, f->at[q].taken[(j - x->slots) % f->ring]));
  return NULL;
}

uint64_t sd_flow_peer_bytes(const struct sd_split *s) { return s->flow ? s->flow->peer_bytes : 0; }

void sd_flow_forget(struct sd_split *s) {
  if (s->flow) s->flow->peer_bytes = 0;
}

bool sd_flow_stays(const struct sd_split *s, bool all) {
  bool any = false, every = s->flow != NULL;
  for (int p = 0; s->flow && p < s->n; p++)
    for (uint32_t i = 0; i < s->at[p].session->model->art.n_out; i++) {
      if (s->flow->at[p].output[i] != SARD_ART_NONE) continue;
      any |= s->at[p].session->stay[i], every &= s->at[p].session->stay[i];
    }
  return all ? any && every : any;
}

// ---- making ----

sard_status *sd_flow_new(sard_session *s) {
  const sard_model *m = s->model;
  struct sd_split *x = s->split;
  struct sd_flow *f = x->flow = sd_calloc(1, sizeof *f + (size_t)x->n * sizeof *f->at);
  const sard_art_wire *w = sd_art_wires(&m->art);
  if (!f) return SD_ERR(NOMEM, "out of memory for %d parts", x->n);
  for (int p = 0; p < x->n; p++) f->at[p].wires = w, w += m->parts[p]->art.n_in;
  for (int p = 0; p < x->n; p++) SD_TRY(flow_part(f, m, p, w));
  for (int p = 0; p < x->n; p++) {
    uint32_t outputs = m->parts[p]->art.n_out;
    f->at[p].kept = sd_calloc((size_t)f->at[p].slots * outputs, sizeof *f->at[p].kept);
    x->at[p].session->spare = sd_calloc(outputs, sizeof(sard_tensor *));
    if (!f->at[p].kept || !x->at[p].session->spare) return SD_ERR(NOMEM, "out of memory for %d parts", x->n);
  }
  SD_TRY(flow_devices(x));
  if (x->groups) // all parts work at the same time on the whole
    return x->micro > 1 ? SD_ERR(USAGE, "micro-batches are of split=layer") : NULL;
  sard_status *why = sd_batch_refuse(m);
  f->cuts = !why;
  if (x->micro > 1) return why;
  sard_status_free(why);
  return NULL;
}

void sd_flow_drop(struct sd_split *s) {
  for (int p = 0; s->flow && p < s->n; p++) {
    const sard_session *of = s->at[p].session;
    size_t n = of && s->flow->at[p].kept ? of->model->art.n_out : 0, slots = (size_t)s->flow->at[p].slots;
    for (size_t i = 0; i < slots * n; i++)
      sard_tensor_free(s->flow->at[p].kept[i]), s->flow->at[p].kept[i] = NULL;
    for (size_t i = 0; i < n; i++) sard_tensor_free(of->spare[i]), of->spare[i] = NULL;
    for (uint32_t i = 0; of && s->flow->at[p].local && i < of->model->art.n_in; i++)
      sard_tensor_free(s->flow->at[p].local[i]), s->flow->at[p].local[i] = NULL;
  }
}

uint64_t sd_flow_bytes(const struct sd_split *s, int p) {
  uint32_t n = s->at[p].session->model->art.n_out;
  uint64_t sum = 0;
  for (size_t i = 0; s->flow && i < (size_t)s->flow->at[p].slots * n; i++)
    if (s->flow->at[p].kept[i]) sum += s->flow->at[p].kept[i]->bytes;
  return sum;
}

void sd_flow_free(struct sd_split *s) {
  struct sd_flow *f = s->flow;
  if (!f) return;
  sd_flow_drop(s);
  for (int p = 0; p < s->n; p++) {
    part_flow *x = &f->at[p];
    for (int i = 0; x->made && x->taken && i < f->ring; i++)
      if (x->made[i] || x->taken[i])
        sd_cu_forget(s->at[p].session, &x->made[i]), sd_cu_forget(s->at[p].session, &x->taken[i]);
    sd_free(x->output), sd_free(x->kept), sd_free(x->local), sd_free(x->made), sd_free(x->taken);
  }
  for (int i = 0; i < f->room; i++) sd_share_free(&f->pieces[i]);
  sd_free(f->pieces);
  sd_free(f);
  s->flow = NULL;
}

// ---- one part ----

// Part p may work on piece j: what it reads is there, and so is room for what it makes. False: the run has
// failed.
static bool wait_turn(struct sd_split *s, int p, int j) {
  struct sd_flow *f = s->flow;
  part_flow *x = &f->at[p];
  uint32_t n_in = s->at[p].session->model->art.n_in;
  pthread_mutex_lock(&s->lock);
  for (;;) {
    bool ready = true;
    for (uint32_t i = 0; i < n_in && ready; i++)
      ready = !x->wires[i].part || f->at[x->wires[i].part - 1].done > j;
    for (int q = p + 1; q < s->n && ready; q++) ready = !x->read_by[q] || f->at[q].done + x->slots > j;
    if (ready || f->failed) break;
    pthread_cond_wait(&s->go, &s->lock);
  }
  bool go = !f->failed;
  pthread_mutex_unlock(&s->lock);
  return go;
}

static sard_tensor *brought(const struct sd_flow *f, const struct sd_split *s, const sard_art_wire *w,
                            int j) {
  if (!w->part) return f->pieces[j].in[w->at];
  const part_flow *from = &f->at[w->part - 1];
  uint32_t output = from->output[w->at], n = s->at[w->part - 1].session->model->art.n_out;
  return output != SARD_ART_NONE ? f->pieces[j].out[output]
                                 : from->kept[(uint32_t)(j % from->slots) * n + w->at];
}

// Where output i of the part for piece j is kept.
static sard_tensor **place(struct sd_flow *f, int p, uint32_t n, uint32_t i, int j) {
  part_flow *x = &f->at[p];
  return x->output[i] != SARD_ART_NONE ? &f->pieces[j].out[x->output[i]]
                                       : &x->kept[(uint32_t)(j % x->slots) * n + i];
}

// Runs the session; on a GPU between copies of what it reads and a mark behind what it writes.
static void run_between(sd_device *d, int j) {
  struct sd_flow *f = d->all->flow;
  part_flow *x = &f->at[d->index];
  if (d->session->cu) {
    d->session->cu->ahead = x->ahead && j + 1 < f->n;
    d->st = wait_for_readers(d, j);
    if (!d->st) d->st = bring_all(d, j);
    if (d->st) {
      sd_device_failed(d);
      return;
    }
  }
  sd_device_run(d, d->in, d->out);
  if (d->st || !x->stays) return;
  d->st = sd_cu_mark(d->session, &x->made[j % f->ring]);
  if (d->st) sd_device_failed(d);
}

static void work_on(sd_device *d, int j) {
  struct sd_split *s = d->all;
  struct sd_flow *f = s->flow;
  const sd_art *a = &d->session->model->art;
  part_flow *x = &f->at[d->index];
  for (uint32_t i = 0; i < a->n_in; i++) {
    d->in[i] = brought(f, s, &x->wires[i], j);
    if (d->in[i] && !x->wires[i].sizes) d->bytes_in += d->in[i]->bytes;
  }
  for (uint32_t i = 0; i < a->n_out; i++) {
    sard_tensor **to = place(f, d->index, a->n_out, i, j);
    if (x->output[i] == SARD_ART_NONE) { // of an earlier piece, which all have read: its memory serves again
      sard_tensor **spare = &d->session->spare[i];
      if (*spare && d->session->cu) sard_status_free(sd_cu_wait(d->session));
      sard_tensor_free(*spare);
      *spare = *to, *to = NULL;
    }
    d->out[i] = *to;
  }
  run_between(d, j);
  for (uint32_t i = 0; i < a->n_out; i++) {
    *place(f, d->index, a->n_out, i, j) = d->out[i]; // as before where the run failed
    if (!d->st) d->bytes_out += d->out[i]->bytes;
  }
}

static void run_part(sd_device *d) {
  struct sd_split *s = d->all;
  struct sd_flow *f = s->flow;
  for (int j = 0; j < f->n && !d->st && wait_turn(s, d->index, j); j++) {
    work_on(d, j);
    pthread_mutex_lock(&s->lock);
    f->at[d->index].done++;
    f->failed |= d->st != NULL;
    pthread_cond_broadcast(&s->go);
    pthread_mutex_unlock(&s->lock);
  }
  if (!d->session->cu || !d->session->cu->running) return;
  sard_status *st = sd_cu_settle(d->session); // the run has failed elsewhere: nothing may go on behind it
  if (d->st) sard_status_free(st);
  else
    d->st = st;
}

// ---- a run ----

static sard_status *get_pieces(struct sd_flow *f, const sd_art *a, int n) {
  if (n > f->room) {
    sd_share *more = sd_realloc(f->pieces, (size_t)n * sizeof *more);
    if (!more) return SD_ERR(NOMEM, "out of memory for %d parts of a batch", n);
    f->pieces = more;
  }
  for (; f->room < n; f->room++)
    if (!sd_share_new(a, &f->pieces[f->room])) {
      sd_share_free(&f->pieces[f->room]);
      return SD_ERR(NOMEM, "out of memory for %d parts of a batch", n);
    }
  f->n = n;
  return NULL;
}

static sard_status *run_pieces(sard_session *s) {
  struct sd_split *x = s->split;
  x->flow->failed = false;
  if (x->groups) SD_TRY(x->groups[0]->reset(x->groups));
  for (int p = 0; p < x->n; p++) x->flow->at[p].done = 0;
  sd_split_work(x, x->n, run_part);
  return sd_split_error(x, x->n);
}

// Each piece is the whole, which goes through several times: what the last one gives are the outputs, those
// that it makes in s->made.
static sard_status *run_whole(sard_session *s, sard_tensor *const *in, sard_tensor *const *out) {
  const sd_art *a = &s->model->art;
  const struct sd_flow *f = s->split->flow;
  for (int j = 0; j < f->n; j++) {
    for (uint32_t i = 0; i < a->n_in; i++) f->pieces[j].in[i] = in[i];
    for (uint32_t i = 0; i < a->n_out; i++) f->pieces[j].out[i] = j + 1 == f->n ? out[i] : NULL;
  }
  sard_status *st = run_pieces(s);
  for (int j = 0; j < f->n; j++)
    for (uint32_t i = 0; i < a->n_out; i++) {
      sard_tensor **t = &f->pieces[j].out[i];
      if (j + 1 < f->n) sard_tensor_free(*t);
      else if (!out[i])
        s->made[i] = *t;
      *t = NULL;
    }
  return st;
}

bool sd_flow_cuts(const struct sd_split *s) { return s->flow && s->flow->cuts; }

sard_status *sd_run_parts(sard_session *s, sard_tensor *const *in, int n_in, sard_tensor **out, int n_out,
                          int times) {
  const sd_art *a = &s->model->art;
  struct sd_flow *f = s->split->flow;
  int64_t batch = 1, n = s->split->micro ? s->split->micro : SD_MICRO_EACH * s->split->n;
  if (n_in < 0 || (uint32_t)n_in != a->n_in)
    return SD_ERR(USAGE, "%d inputs are given, the model has %u", n_in, a->n_in);
  if (n_out < 0 || (uint32_t)n_out != a->n_out)
    return SD_ERR(USAGE, "%d outputs are given, the model has %u", n_out, a->n_out);
  for (uint32_t i = 0; i < a->n_in; i++)
    if (!in[i]) return SD_ERR(USAGE, "input '%s' (%u) is NULL", sd_art_text(a, a->io[i].name), i);
  if (s->split->n == 1 || times || !f->cuts || !sd_batch_size(a, in, n_in, &batch)) batch = 1;
  if (batch < n) n = batch;
  if (times) n = times;
  SD_TRY(sd_session_apart(s, in, out));
  SD_TRY(get_pieces(f, a, (int)n));
  if (n == 1 || times) return run_whole(s, in, out);
  sd_batch_share(batch, NULL, f->pieces, (int)n);
  sard_status *st = sd_batch_give(s, in, out, batch, f->pieces, (int)n);
  if (!st) st = run_pieces(s);
  if (!st) st = sd_batch_join(s, out, f->pieces, (int)n);
  sd_batch_clear(s, in, out, f->pieces, (int)n);
  return st;
}
