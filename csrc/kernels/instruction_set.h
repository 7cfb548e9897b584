// Which instructions the vectorized kernels use on this machine.

#ifndef FLAXLAYER_CSRC_KERNELS_INSTRUCTION_SET_H_
#define FLAXLAYER_CSRC_KERNELS_INSTRUCTION_SET_H_

// Whether there are kernels for AVX2 and AVX-512 to choose from.
#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)
#define FLAXLAYER_HAVE_AVX 1
#else
#define FLAXLAYER_HAVE_AVX 0
#endif

namespace flaxlayer {

// In order of preference, the last first. The baseline is what every processor
// of the architecture has: SSE2 on x86-64, NEON on 64-bit ARM.
enum class InstructionSet { kBaseline, kAvx2, kAvx512 };

// Whether this machine can run kernels made for it.
bool Supported(InstructionSet set);

// The best one that is supported.
InstructionSet BestInstructionSet();

// "avx512", "avx2", "sse2", "neon" or "portable".
const char* InstructionSetName(InstructionSet set);

}  // namespace flaxlayer

#endif  // FLAXLAYER_CSRC_KERNELS_INSTRUCTION_SET_H_
