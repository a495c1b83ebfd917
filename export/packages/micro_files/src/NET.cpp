#include "$net.h"

#include <new>

#include "${net}_image.h"
#include "${net}_model.h"
#include "${net}_operators.h"
#include "tensorflow/lite/micro/micro_allocator.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/schema/schema_generated.h"

namespace $net {
namespace {

constexpr std::size_t kBytes = kArenaBytes + ${NET}_EXTRA_ARENA_BYTES;
alignas(16) ${NET}_ARENA_ATTRIBUTE std::uint8_t arena[kBytes];
// Objects that are never destroyed, so that a program needs no list of what to do at its end.
alignas(OpResolver) std::uint8_t resolver_storage[sizeof(OpResolver)];
alignas(tflite::MicroInterpreter) std::uint8_t storage[sizeof(tflite::MicroInterpreter)];
tflite::MicroInterpreter* interpreter = nullptr;
${net}_nn_image image;

}  // namespace

bool Begin() { return interpreter != nullptr || Begin(arena, kBytes); }

bool Begin(std::uint8_t* memory, std::size_t bytes) {
  return interpreter != nullptr || Begin(tflite::MicroAllocator::Create(memory, bytes));
}

bool Begin(tflite::MicroAllocator* allocator) {
  if (interpreter != nullptr) return true;
  auto* const resolver = ::new (resolver_storage) OpResolver;
  if (!resolver->Register() || allocator == nullptr) return false;
  auto* const created =
      ::new (storage) tflite::MicroInterpreter(tflite::GetModel(kModel), *resolver, allocator);
  if (created->AllocateTensors() != kTfLiteOk) return false;
  interpreter = created;
  return true;
}

std::size_t ArenaUsed() { return interpreter == nullptr ? 0 : interpreter->arena_used_bytes(); }

std::int8_t* Input() {
  return interpreter == nullptr ? nullptr : interpreter->input(0)->data.int8;
}

const std::int8_t* Output() {
  return interpreter == nullptr ? nullptr : interpreter->output(0)->data.int8;
}

bool Run($parameter) {
  if (interpreter == nullptr || interpreter->Invoke() != kTfLiteOk) return false;
  const std::int8_t* output = Output();
${read_result}  return true;
}

bool $call(const std::uint8_t* pixels, int width, int height, $parameter, Format format) {
  constexpr int kAcross = ${NET}_NN_IMAGE_ACROSS(${NET}_MAX_IMAGE_SIDE, kWidth, kHeight);
  static std::int32_t memory[${NET}_NN_IMAGE_BYTES(kAcross, kWidth, kChannels, 1) / 4];
  if (interpreter == nullptr ||
      !${net}_nn_image_begin(&image, width, height, format, kCropFraction, kWidth, kHeight,
                       kChannels, 0, memory, sizeof memory, Input())) {
    return false;
  }
  ${net}_nn_image_whole(&image, pixels);
  return Run($argument);
}

bool BeginImage(int width, int height, Format format, void* memory, std::size_t bytes) {
  return interpreter != nullptr &&
         ${net}_nn_image_begin(&image, width, height, format, kCropFraction, kWidth, kHeight,
                       kChannels, 1, memory, bytes, Input());
}

void AddLine(const std::uint8_t* pixels) { ${net}_nn_image_line(&image, pixels); }

}  // namespace $net
