/* Runs a network on images on this machine: reads images.bin, writes the outputs to outputs.bin, and
 * prints for each image the seconds of processor time. The names that begin with NET_ are given to
 * the compiler. */
#include <stdio.h>
#include <time.h>

#include NET_HEADER

static union {
  double alignment;
  uint8_t bytes[NET_ARENA_BYTES];
} arena;
static int8_t output[NET_OUTPUT_BYTES];

int main(void) {
  FILE *const images = fopen("images.bin", "rb");
  FILE *const outputs = fopen("outputs.bin", "wb");
  int8_t *const input = NET_INPUT(&arena);
  if (!images || !outputs) return 1;
  while (fread(input, 1, NET_INPUT_BYTES, images) == NET_INPUT_BYTES) {
    const clock_t begin = clock();
    NET_RUN(input, output, &arena);
    printf("%.9f\n", (double)(clock() - begin) / CLOCKS_PER_SEC);
    if (fwrite(output, 1, NET_OUTPUT_BYTES, outputs) != NET_OUTPUT_BYTES) return 1;
    fflush(stdout);
    fflush(outputs);
  }
  return 0;
}
