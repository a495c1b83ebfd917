// Checks how TensorFlow Lite Micro (TFLM) is compiled. Included before TFLM's headers.
#ifndef ${NET}_TFLM_H_
#define ${NET}_TFLM_H_

// TFLM's libraries for the Arduino IDE have headers of their own, which need neither.
#ifndef ARDUINO
#if __cplusplus < 201703L
#error "TensorFlow Lite Micro needs C++17: compile with -std=c++17 or -std=gnu++17"
#endif
#ifndef TF_LITE_STATIC_MEMORY
#error "compile with -DTF_LITE_STATIC_MEMORY, as TensorFlow Lite Micro itself: without it, structures have other members, and the program crashes"
#endif
#endif

#endif  // ${NET}_TFLM_H_
