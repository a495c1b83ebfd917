// The operators of $name and no others, because each registered operator takes flash.
#ifndef ${NET}_OPERATORS_H_
#define ${NET}_OPERATORS_H_

#include <type_traits>
#include <utility>

#include "${net}_tflm.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"

namespace $net {

// Finds the kernels of the operators: TFLM's own, apart from $exact_kinds,
// whose kernels in ${net}_operators.cpp give the same bytes in less time.
class OpResolver : public tflite::MicroMutableOpResolver<$operator_count> {
 public:
  using Base = tflite::MicroMutableOpResolver<$operator_count>;
  // TFLM's record of an operator, whose name differs between versions.
  using Registration = typename std::decay<decltype(
      *std::declval<const Base&>().FindOp(tflite::BuiltinOperator_ADD))>::type;

  // Returns false if an operator could not be registered.
  bool Register();

  using Base::FindOp;
  const Registration* FindOp(tflite::BuiltinOperator op) const override;

 private:
  static constexpr int kExact = $exact_count;  // number of kernels of this package
  Registration exact_[kExact + 1] = {};  // an array has at least one element
  int found_ = 0;  // number of those that are set
};

}  // namespace $net

#endif  // ${NET}_OPERATORS_H_
