// The iteration space of a node as letters, one for each dim of an operand or result: what partitioning needs
// to know of an operator. A letter of a result that is one of an operand, too: element i of the result along
// that dim needs that operand at i only, so that the node may be computed in parts. A letter of operands
// alone is summed over or else worked across. Dims of one letter may differ by a factor (heads of queries and of
// keys): equal shares of them belong together. The column is ir/ops/axes.def.
#pragma once
#include "ir/op.h"

typedef uint8_t sd_letter; // 1 and up; 0: the dim cannot be taken apart, or is 1 and broadcast
typedef struct sd_axes {
  sd_letter (*in)[SD_MAX_RANK], (*out)[SD_MAX_RANK];
  uint32_t sizes; // bits of operands whose contents are sizes of results, and no data
  uint32_t shape; // of these: whose contents are the dims of result 0
  sd_letter sum;  // results are sums over it of products in which each operand that has it is a factor; 0: none
  uint32_t added; // bits of operands that are added to such a sum once
  struct {
    const char *attr; // NULL: there is none
    sd_letter letter;
  } counted;     // an attribute that counts elements along a letter: a part of it has as large a part of them
  int windows;   // results are parts of operand 0 along one axis: 1 + that; 0: they are not
  int64_t *from; // then: the first element of each result
  bool dropped;  // each is of one element there, and has no such axis
  uint8_t *digit; // of a Reshape, by dims of result 0: 1 + the dim of operand 0 that this and neighbours are
                  // made of
} sd_axes;

// The letters of n, in the arena. False: it has none, and works on whole tensors only. Types are known.
bool sd_axes_of(const sd_node *n, sd_arena *a, sd_axes *out);
