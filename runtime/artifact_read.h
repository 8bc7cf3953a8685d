// A compiled artifact in memory: where its sections are, and the check of all of it before anything is used.
#pragma once
#include "runtime/artifact.h"
#include "runtime/base/file.h"

enum { SD_ART_MAXSECTIONS = 2048 };

// Typed views into the artifact's bytes. After sd_verify_artifact every index, offset and text in them is good.
typedef struct sd_art {
  const sard_art_header *header;
  const sard_art_section *table;
  const char *text;             // TEXT: names are offsets into it
  const sard_art_dim *dims;
  const sard_art_sym *syms;
  const sard_art_io *io;        // n_in inputs, then n_out outputs
  const sard_art_buf *bufs;
  const sard_art_kernel *kernels;
  const sard_art_step *steps;
  const uint32_t *lists;
  const sard_art_check *checks;
  const uint32_t *strings;
  const uint32_t *batch;        // BATCH; NULL: nothing is known about the batch
  const sard_art_way *ways;     // WAYS
  const uint32_t *parts;        // PARTS; NULL: the model is one piece
  const uint8_t *code;
  const sard_art_cuda *cuda;    // NULL: for processors only
  const sard_art_cuda_image *cuda_images;
  const sard_art_product *products; // in order of their steps
  const uint8_t *cuda_code;
  const uint8_t *consts;        // NULL when the CONST section lies in pieces
  const char *ir, *meta;        // optional texts, not NUL-terminated
  uint32_t n_dims, n_syms, n_io, n_in, n_out, n_bufs, n_kernels, n_steps, n_lists, n_checks, n_strings, n_cuda, n_cuda_images, n_products, n_batch, n_parts_words, n_ways;
  uint64_t text_size, code_size, cuda_code_size, const_offset, const_size, ir_size, meta_size;
} sd_art;

// True when the bytes begin like an artifact (of any version).
bool sd_artifact_sniff(const void *data, uint64_t size);
// Finds the sections. `head` holds the first `head_size` bytes of the artifact, 8-byte aligned: all of it but perhaps
// the end of the CONST section. Checks magic, version, architecture, section table and hash; SARD_E_MODEL or
// SARD_E_DEVICE. Everything in *out points into head.
sard_status *sd_artifact_open(const void *head, uint64_t head_size, uint64_t whole_size, sd_art *out);
// The sections of part `part` of an opened artifact.
void sd_artifact_part(const sd_art *whole, uint32_t part, sd_art *out);
// Number of parts; 0: the model is one piece.
static inline uint32_t sd_art_parts(const sd_art *a) { return a->parts && a->n_parts_words ? a->parts[0] : 0; }
// How the inputs of part 1, 2, ... and then the outputs of the model are wired.
static inline const sard_art_wire *sd_art_wires(const sd_art *a) { return (const sard_art_wire *)(a->parts + 2); }
// header.hash: of the bytes from behind the header up to the CONST section, then of those behind it (if any) with the
// first hash as seed.
uint64_t sd_artifact_hash(const void *head, uint64_t head_size, uint64_t const_offset, uint64_t const_size);
// Checks the contents of all sections (runtime/verify.c); fills out->n_in and n_out. SARD_E_MODEL names what is wrong.
sard_status *sd_verify_artifact(sd_art *a);
// Checks how the parts fit together; all are verified.
sard_status *sd_verify_parts(const sd_art *whole, const sd_art *const *parts);
// Checks that this machine can run the code: architecture and instruction set. SARD_E_DEVICE.
sard_status *sd_artifact_runs_here(const sd_art *a);

static inline const char *sd_art_text(const sd_art *a, uint32_t offset) { return a->text + offset; }
