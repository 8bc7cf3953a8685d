/* Holds programs that ask the processor what it can do to AVX2, so that peers without an option for it can be
 * measured there.
 *
 *   cc -O2 -shared -fPIC -o hold_isa.so tests/bench/hold_isa.c
 *   LD_PRELOAD=./hold_isa.so python ...
 *
 * The instruction CPUID is made to fault (arch_prctl ARCH_SET_CPUID, Intel's "CPUID faulting"); the handler
 * answers with what the processor says, less AVX-512, AVX-VNNI, AVX10 and AMX. Threads inherit the setting. A
 * program that sets a handler of its own for SIGSEGV is not held. Where the machine or the kernel has no
 * CPUID faulting the program ends with exit code 3 before main. */
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

enum { CPUID_BYTES = 2, LEAF_FEATURES = 7, LEAF_AVX10 = 0x24 };

/* Bits of leaf 7, subleaf 0 (Intel SDM, volume 2, CPUID). */
static const uint32_t EBX_7_0 =
    1u << 16 | 1u << 17 | 1u << 21 | 1u << 26 | 1u << 27 | 1u << 28 | 1u << 30 | 1u << 31;
static const uint32_t ECX_7_0 = 1u << 1 | 1u << 6 | 1u << 11 | 1u << 12 | 1u << 14;
static const uint32_t EDX_7_0 = 1u << 2 | 1u << 3 | 1u << 8 | 1u << 22 | 1u << 23 | 1u << 24 | 1u << 25;
/* Subleaf 1: AVX-VNNI, AVX512_BF16, AMX-FP16, AVX-IFMA; AVX-VNNI-INT8, AVX-NE-CONVERT, AMX-COMPLEX,
 * AVX-VNNI-INT16, AVX10. */
static const uint32_t EAX_7_1 = 1u << 4 | 1u << 5 | 1u << 21 | 1u << 23;
static const uint32_t EDX_7_1 = 1u << 4 | 1u << 5 | 1u << 8 | 1u << 10 | 1u << 19;

static long fault(int on) { return syscall(SYS_arch_prctl, ARCH_SET_CPUID, !on); }

static void mask(uint32_t leaf, uint32_t subleaf, uint32_t r[4]) {
  if (leaf == LEAF_FEATURES && subleaf == 0) r[1] &= ~EBX_7_0, r[2] &= ~ECX_7_0, r[3] &= ~EDX_7_0;
  if (leaf == LEAF_FEATURES && subleaf == 1) r[0] &= ~EAX_7_1, r[3] &= ~EDX_7_1;
  if (leaf == LEAF_AVX10) r[0] = r[1] = r[2] = r[3] = 0;
}

static void on_fault(int sig, siginfo_t *info, void *context) {
  greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
  const uint8_t *at = (const uint8_t *)regs[REG_RIP];
  (void)info;
  if (at[0] != 0x0f || at[1] != 0xa2) { /* a real fault: comes again, without this handler */
    signal(sig, SIG_DFL);
    return;
  }
  uint32_t leaf = (uint32_t)regs[REG_RAX], subleaf = (uint32_t)regs[REG_RCX], r[4];
  fault(0);
  __asm__ volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"(leaf), "c"(subleaf));
  fault(1);
  mask(leaf, subleaf, r);
  regs[REG_RAX] = r[0], regs[REG_RBX] = r[1], regs[REG_RCX] = r[2], regs[REG_RDX] = r[3];
  regs[REG_RIP] += CPUID_BYTES;
}

__attribute__((constructor)) static void hold(void) {
  static const char says[] = "hold_isa: this machine has no CPUID faulting\n";
  struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};
  if (sigaction(SIGSEGV, &action, NULL) || fault(1)) {
    if (write(STDERR_FILENO, says, sizeof says - 1) < 0) _exit(4);
    _exit(3);
  }
}
