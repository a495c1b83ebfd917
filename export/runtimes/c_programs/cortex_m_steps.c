/* As cortex_m.c, but prints the ticks of SysTick that each call of a kernel took, in order, before
 * the numbers of an image that cortex_m.c prints, of which the ticks mean nothing here.
 *
 * The linker puts these functions in the place of the kernels (--wrap). All kernels take at most
 * four pointers, which lie in registers. */
#include "cortex_m.c"

#define NN_COUNTED(KERNEL)                                                                      \
  void __real_##KERNEL(const void *, const void *, const void *, const void *);                 \
  void __wrap_##KERNEL(const void *, const void *, const void *, const void *);                 \
  void __wrap_##KERNEL(const void *r0, const void *r1, const void *r2, const void *r3) {        \
    start_counting();                                                                           \
    __real_##KERNEL(r0, r1, r2, r3);                                                            \
    print(counted());                                                                           \
  }

NN_KERNELS
