// Nodes that need to know what only the run knows: built once for each answer, behind branches.
#pragma once
#include "frontend/onnx/internal.h"

#define SD_ASK_MOST 6 // the largest rank or length that nodes are built for

// A number that only the run knows, from `least` to `most`.
typedef struct sd_question {
  enum {
    SD_ASK_RANK,
    SD_ASK_LARGEST,
    SD_ASK_LENGTH
  } what; // of an operand; among operands of any rank; of a list (its last dim)
  uint32_t operand;
  const sd_op *row; // LARGEST: the node's
  int least, most;
} sd_question;

// ---- import_question.c ----
// The operands of n whose rank has to be asked for, up to `cap` of them; the number of all of them.
uint32_t sd_import_ask_ranks(const sd_onnx_node *n, const sd_op *op, sd_question *out, uint32_t cap);
// One question for all of them, where the row allows it.
bool sd_import_ask_largest(const sd_onnx_node *n, const sd_op *op, sd_question *out);
// The lists (sd_operand.list) whose length only the run knows.
uint32_t sd_import_ask_lengths(const sd_onnx_node *n, const sd_op *op, sd_question *out, uint32_t cap);
// The condition that the answer is this one (of LARGEST: or a smaller one), in scope.
sard_status *sd_import_ask(sd_import *im, const sd_onnx_node *n, const sd_question *q, int answer,
                           sd_scope *scope, sd_value **out);
// Gives n the operands that it has with this answer.
sard_status *sd_import_answer(sd_import *im, sd_onnx_node *n, const sd_question *q, int answer);
