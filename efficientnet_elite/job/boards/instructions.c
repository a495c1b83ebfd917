/* Counts the instructions that a program in QEMU's user mode executes; a plugin of QEMU.

   The declarations are those of QEMU's plugin interface (qemu-plugin.h), of which distributions
   carry no copy. PLUGIN_VERSION is the version of that interface. */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_info_t;
enum flags { NO_REGISTERS };

void qemu_plugin_register_vcpu_tb_trans_cb(
    qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(
    struct qemu_plugin_tb *, void (*)(unsigned int, void *), enum flags, void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
void qemu_plugin_register_atexit_cb(
    qemu_plugin_id_t, void (*)(qemu_plugin_id_t, void *), void *);

int qemu_plugin_version = PLUGIN_VERSION;

static uint64_t executed;

static void count(unsigned int cpu, void *instructions) {
  (void)cpu;
  executed += (uintptr_t)instructions;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block) {
  (void)id;
  qemu_plugin_register_vcpu_tb_exec_cb(
      block, count, NO_REGISTERS, (void *)(uintptr_t)qemu_plugin_tb_n_insns(block));
}

static void ended(qemu_plugin_id_t id, void *nothing) {
  (void)id;
  (void)nothing;
  fprintf(stderr, "instructions=%" PRIu64 "\n", executed);
}

int qemu_plugin_install(
    qemu_plugin_id_t id, const struct qemu_info_t *info, int count_, char **arguments) {
  (void)info;
  (void)count_;
  (void)arguments;
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_atexit_cb(id, ended, NULL);
  return 0;
}
