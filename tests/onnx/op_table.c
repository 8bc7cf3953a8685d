// Prints what docs/operators.md needs of the tables: a line for each operator row and one for each row of upgrade.def.
//   row      name, kind, classes of operands, attributes
//   upgrade  operator, opset below which it applies, action, text
//   opsets   lowest and highest
#include <stdio.h>

#include "frontend/onnx/import.h"
#include "ir/op.h"

typedef struct upgrade {
  const char *op;
  int below;
  const char *action, *text;
} upgrade;
#define SD_UPGRADE(op, below, action, text, number) {op, below, #action, text},
static const upgrade upgrades[] = {
#include "frontend/onnx/upgrade.def"
};
#undef SD_UPGRADE

static const char *const kinds[] = {"MAP",   "REDUCE",  "CONTRACT", "MOVE", "COMPOSITE",
                                    "NESTS", "CONTROL", "HOST",     "COMM", "REWRITE"};

static void print_row(const sd_op *op) {
  printf("row\t%s\t%s\t", op->name, kinds[op->kind]);
  for (int i = 0; i < op->n_in; i++) printf("%s%s:%c%s%s", i ? "," : "", op->ins[i].name, op->ins[i].cls, op->ins[i].variadic ? "+" : "", op->ins[i].optional ? "?" : "");
  printf("\t");
  for (int i = 0; i < op->n_attr; i++) printf("%s%s", i ? "," : "", op->attrs[i].name);
  printf("\n");
}

int main(void) {
  const sd_op *op;
  for (uint32_t i = 0; (op = sd_op_at(i)); i++) print_row(op);
  for (size_t i = 0; i < sizeof upgrades / sizeof *upgrades; i++)
    printf("upgrade\t%s\t%d\t%s\t%s\n", upgrades[i].op, upgrades[i].below, upgrades[i].action, upgrades[i].text);
  printf("opsets\t%d\t%d\n", SD_ONNX_OPSET_MIN, SD_ONNX_OPSET_MAX);
  return 0;
}
