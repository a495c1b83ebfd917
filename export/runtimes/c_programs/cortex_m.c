/* Runs a network on images under an emulator of a Cortex-M board, over semihosting.
 *
 * Reads images.bin, writes the outputs to outputs.bin, and prints for each image the ticks of
 * SysTick, then how many bytes of the stack were written, and how many of the arena, up to the last
 * one. NET_HEADER and the other names that begin with NET_ are given to the compiler. */
#include <stdint.h>
#include <string.h>

#include NET_HEADER

#define PAINT 0xA5
#ifndef NET_RELOAD
#define NET_RELOAD 0xFFFFFF /* SysTick counts down from it; 24 bits */
#endif

enum { SYS_OPEN = 1, SYS_CLOSE = 2, SYS_WRITE0 = 4, SYS_WRITE = 5, SYS_READ = 6, SYS_EXIT = 0x18 };

static volatile uint32_t *const control = (volatile uint32_t *)0xE000E010;
static volatile uint32_t *const reload = (volatile uint32_t *)0xE000E014;
static volatile uint32_t *const current = (volatile uint32_t *)0xE000E018;

extern uint8_t __data_load[], __data_start[], __data_end[], __bss_start[], __bss_end[];
extern uint8_t __stack_limit[], __stack_top[];

static union {
  double alignment;
  uint8_t bytes[NET_ARENA_BYTES];
} arena;
static int8_t output[NET_OUTPUT_BYTES];

static int32_t host(int32_t operation, const void *arguments) {
  register int32_t r0 __asm__("r0") = operation;
  register const void *r1 __asm__("r1") = arguments;
  __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
  return r0;
}

static int32_t open_file(const char *name, uint32_t mode) {
  const uint32_t arguments[3] = {(uint32_t)(uintptr_t)name, mode, (uint32_t)strlen(name)};
  return host(SYS_OPEN, arguments);
}

/* Returns the number of bytes that were not transferred. */
static int32_t transfer(int32_t operation, int32_t file, void *bytes, uint32_t count) {
  const uint32_t arguments[3] = {(uint32_t)file, (uint32_t)(uintptr_t)bytes, count};
  return host(operation, arguments);
}

static void print(uint32_t number) {
  char text[12];
  char *at = text + 10;
  at[0] = '\n';
  at[1] = 0;
  do *--at = (char)('0' + number % 10);
  while (number /= 10);
  host(SYS_WRITE0, at);
}

static void stop(uint32_t reason) { host(SYS_EXIT, (const void *)(uintptr_t)reason); }

/* How often SysTick reached zero, which is an exception of some instructions. */
static volatile uint32_t rounds;
static void count_round(void) { ++rounds; }

static void start_counting(void) {
  rounds = 0;
  *current = 0;
}
static uint32_t counted(void) {
  const uint32_t left = *current;
  return rounds * (NET_RELOAD + 1u) + (NET_RELOAD - left);
}

static int run_images(void) {
  const int32_t images = open_file("images.bin", 1), outputs = open_file("outputs.bin", 5);
  int8_t *const input = NET_INPUT(&arena);
  if (images < 0 || outputs < 0) return 1;
  *reload = NET_RELOAD;
  *control = 7; /* counts cycles of the processor, and calls count_round */
  while (transfer(SYS_READ, images, input, NET_INPUT_BYTES) == 0) {
    uint32_t ticks;
    start_counting();
    NET_RUN(input, output, &arena);
    ticks = counted();
    print(ticks);
    if (transfer(SYS_WRITE, outputs, output, NET_OUTPUT_BYTES) != 0) return 1;
  }
  host(SYS_CLOSE, &images);
  host(SYS_CLOSE, &outputs);
  return 0;
}

static void __attribute__((noinline, noreturn)) begin(void) {
  uint8_t *at = __stack_limit;
  const uint8_t *end = arena.bytes + NET_ARENA_BYTES;
  int failed;
  memcpy(__data_start, __data_load, (size_t)(__data_end - __data_start));
  memset(__bss_start, 0, (size_t)(__bss_end - __bss_start));
  /* The stack below this function's own frame, and what memset takes. */
  memset(at, PAINT, (size_t)((uint8_t *)__builtin_frame_address(0) - 256 - at));
  memset(arena.bytes, PAINT, NET_ARENA_BYTES);
  failed = run_images();
  while (at < __stack_top && *at == PAINT) ++at;
  while (end > arena.bytes && end[-1] == PAINT) --end;
  print((uint32_t)(__stack_top - at));
  print((uint32_t)(end - arena.bytes));
  stop(failed ? 0x20023 : 0x20026); /* ADP_Stopped_RunTimeError, ADP_Stopped_ApplicationExit */
  for (;;) {
  }
}

/* Allows instructions of the floating-point unit, and so vectors, before any is executed. */
void start(void);
void start(void) {
  *(volatile uint32_t *)0xE000ED88 |= 0xF00000;
  __asm__ volatile("dsb\n\tisb" ::: "memory");
  begin();
}

static void fault(void) { stop(0x20023); }

typedef struct {
  const uint8_t *stack;
  void (*handlers[15])(void);
} vector_table;

__attribute__((section(".vectors"), used)) static const vector_table vectors = {
    __stack_top, {start, fault, fault, fault, fault, fault, 0, 0, 0, 0, 0, 0, 0, 0, count_round}};
