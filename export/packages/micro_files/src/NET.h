// Runs the $kind $name on TensorFlow Lite Micro (TFLM).
#ifndef ${NET}_H_
#define ${NET}_H_

#include <cstddef>
#include <cstdint>

#include "${net}_config.h"
#include "${net}_nn_kernels.h"

namespace tflite {
class MicroAllocator;
}

namespace $net {

${declarations}// How the pixels of an image are stored: one byte of grey, three of red, green and blue, or two
// (rrrrrggg gggbbbbb as a 16-bit number, the less significant byte first).
using Format = ${net}_nn_format;
constexpr Format kGrey = ${NET}_NN_GREY, kRgb888 = ${NET}_NN_RGB888, kRgb565 = ${NET}_NN_RGB565;

// Set up the network. Call one of them once before the other functions. They return false if TFLM
// cannot set up the network; TFLM prints the reason.
//   Begin(): in an arena of kArenaBytes that the library owns.
//   Begin(arena, bytes): in the caller's memory, aligned to 16 bytes and in use from now on.
//   Begin(allocator): in the arena of tflite::MicroAllocator::Create(arena, bytes). Networks that
//     are set up with the same allocator share memory for their activations; see kPersistentBytes.
//     Each Run() overwrites the inputs of the others.
bool Begin();
bool Begin(std::uint8_t* arena, std::size_t bytes);
bool Begin(tflite::MicroAllocator* allocator);

// Bytes of the arena in use, by all networks that share it; 0 before Begin().
std::size_t ArenaUsed();

${call_comment}// Returns false if Begin() has not succeeded, if TFLM fails, or if the
// image's shorter side is longer than ${NET}_MAX_IMAGE_SIDE.
bool $call(const std::uint8_t* pixels, int width, int height, $parameter,
         Format format = $format);

// These do the same for an image that arrives line by line, so that it need not be in memory as a
// whole: BeginImage(), AddLine() for each of its lines, then Run(). The memory is needed until the
// last line; it has LineBytes(shorter side of the image) and is aligned to 4 bytes. BeginImage()
// returns false if Begin() has not succeeded, or if the memory does not suffice.
constexpr std::size_t LineBytes(int shorter) {
  return ${NET}_NN_IMAGE_BYTES(
      ${NET}_NN_IMAGE_ACROSS(shorter, kWidth, kHeight), kWidth, kChannels,
      ${NET}_NN_IMAGE_ROWS(
          static_cast<int>(kCropFraction *
                           static_cast<float>(${NET}_NN_IMAGE_DOWN(shorter, kWidth, kHeight))),
          kHeight));
}
bool BeginImage(int width, int height, Format format, void* memory, std::size_t bytes);
void AddLine(const std::uint8_t* pixels);

// Input() and Run() do the same without cropping and resizing. Write kInputElements numbers
// (pixel - 128) to Input() before each Run(): TFLM may overwrite the input during an inference.
// Input() returns nullptr before Begin(). Output() is the output of the last Run().
std::int8_t* Input();
bool Run($parameter);
const std::int8_t* Output();

}  // namespace $net

#endif  // ${NET}_H_
