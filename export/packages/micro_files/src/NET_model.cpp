// SHA-256 of the .tflite file: $sha256
#include "${net}_model.h"

namespace $net {

alignas(16) const unsigned char kModel[kModelBytes] = {
$array
};

}  // namespace $net
