// Collects the tables of an artifact and lays them out as bytes.
#pragma once
#include "codegen/codegen.h"
#include "codegen/dimslots.h"

typedef struct sd_art_blob { const void *data; uint64_t bytes; } sd_art_blob;
typedef SD_VEC(sard_art_sym) sd_art_syms;
typedef SD_VEC(sard_art_io) sd_art_ios;
typedef SD_VEC(sard_art_buf) sd_art_bufs;
typedef SD_VEC(sard_art_kernel) sd_art_kernels;
typedef SD_VEC(sard_art_step) sd_art_steps;
typedef SD_VEC(sard_art_cuda) sd_art_cudas;
typedef SD_VEC(sard_art_cuda_image) sd_art_cuda_images;
typedef SD_VEC(uint32_t) sd_art_lists;
typedef SD_VEC(sard_art_check) sd_art_checks;
typedef SD_VEC(char) sd_art_text;
typedef SD_VEC(sd_art_blob) sd_art_consts;

// The CONST section, which the parts of a model share.
typedef struct sd_stored { uint64_t hash, bytes, at, packed; } sd_stored; // bytes: of the constant; packed: as it is stored
typedef struct sd_art_weights {
  sd_art_consts at; // in order of their offsets
  uint64_t bytes;   // size of the section
  SD_VEC(sd_stored) stored; // by contents and how they are packed
} sd_art_weights;

typedef struct sd_artifact {
  sd_arena *arena;
  sd_art_weights *weights;
  sd_dimslots slots;
  sd_art_text text;
  sd_art_syms syms;
  sd_art_ios io;
  uint32_t n_inputs;
  sd_art_bufs bufs;
  sd_art_kernels kernels;
  sd_art_steps steps;
  sd_art_lists lists;
  sd_art_checks checks;
  sd_art_lists strings;
  sd_art_lists batch;
  sd_art_lists parts;    // words of PARTS
  SD_VEC(sard_art_way) ways;
  sd_art_text code, images; // images: for CUDA devices
  sd_art_cudas cuda;
  sd_art_cuda_images cuda_images;
  SD_VEC(sard_art_product) products;
  const char *ir, *meta; // optional texts
} sd_artifact;

sd_artifact *sd_artifact_new(sd_arena *a, const sd_dimtab *dims, sd_art_weights *weights);
uint32_t sd_artifact_text(sd_artifact *x, const char *s);                      // offset in TEXT
uint32_t sd_artifact_list(sd_artifact *x, const uint32_t *v, uint32_t n);      // offset in LISTS
uint64_t sd_artifact_const(sd_artifact *x, const void *data, uint64_t bytes);  // offset in CONST; data is not copied
uint64_t sd_artifact_code(sd_artifact *x, const void *object, uint64_t bytes); // offset in CODE
uint64_t sd_artifact_image(sd_artifact *x, const void *data, uint64_t bytes);   // offset in CUDA_CODE
// Pieces: everything but the weights in one, then the weights with their padding. x: the model, then its parts, which share
// the weights of x[0].
void sd_artifact_write(sd_artifact *const *x, uint32_t n, const sd_isa *isa, sd_piece **out, size_t *out_n);
