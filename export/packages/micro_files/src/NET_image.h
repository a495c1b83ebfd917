// From the output of $name to a result. Needs no TensorFlow.
#ifndef ${NET}_IMAGE_H_
#define ${NET}_IMAGE_H_

#include <cmath>
#include <cstdint>

#include "${net}_config.h"

namespace $net {

// Converts an element of the output to the logit or probability that it stands for.
inline float Logit(std::int8_t element) {
  return static_cast<float>(element - kOutputZeroPoint) * kOutputScale;
}

// Returns the class with the greatest of kClasses elements; of equal ones the first.
inline int Best(const std::int8_t* output) {
  int best = 0;
  for (int i = 1; i < kClasses; ++i) {
    if (output[i] > output[best]) best = i;
  }
  return best;
}

$postprocessing

}  // namespace $net

#endif  // ${NET}_IMAGE_H_
