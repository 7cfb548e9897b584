#include "csrc/kernels/instruction_set.h"

namespace flaxlayer {

bool Supported(InstructionSet set) {
  switch (set) {
    case InstructionSet::kBaseline:
      return true;
#if FLAXLAYER_HAVE_AVX
    // These ask the operating system too, which has to save the registers.
    case InstructionSet::kAvx2:
      return __builtin_cpu_supports("avx2");
    case InstructionSet::kAvx512:
      return __builtin_cpu_supports("avx512f");
#endif
    default:
      return false;
  }
}

InstructionSet BestInstructionSet() {
  if (Supported(InstructionSet::kAvx512)) return InstructionSet::kAvx512;
  if (Supported(InstructionSet::kAvx2)) return InstructionSet::kAvx2;
  return InstructionSet::kBaseline;
}

const char* InstructionSetName(InstructionSet set) {
  switch (set) {
    case InstructionSet::kAvx512:
      return "avx512";
    case InstructionSet::kAvx2:
      return "avx2";
    case InstructionSet::kBaseline:
      break;
  }
#if defined(__x86_64__) || defined(_M_X64)
  return "sse2";
#elif defined(__aarch64__) || defined(_M_ARM64)
  return "neon";
#else
  return "portable";
#endif
}

}  // namespace flaxlayer
