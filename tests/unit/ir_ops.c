// The operator table: every row is well formed and expands for every dtype that its classes allow; lookup.
#include "ir/op.h"
#include "tests/unit/check.h"

int main(void) {
  CHECK_OK(sd_ops_check());
  uint32_t n = 0;
  for (const sd_op *op; (op = sd_op_at(n)); n++) CHECK(sd_op_find(op->name) == op && op->index == n);
  printf("%u rows\n", n);
  CHECK(n > 100);
  CHECK(sd_op_find("ai.onnx.Add") == sd_op_find("Add"));
  CHECK(sd_op_find("NoSuchOp") == NULL);
  CHECK_TEXT(sd_op_nearest("Sotfmax"), "Softmax");
  const sd_op *relu = sd_op_find("LeakyRelu");
  CHECK(relu && relu->n_attr == 1 && relu->attrs[0].has_default && relu->attrs[0].def.f == 0.01f);
  CHECK(sd_op_find("Add")->commutative && !sd_op_find("Sub")->commutative);
  return check_end();
}
