#include "csrc/kernels/random_words.h"

#include <string.h>

#include <cstddef>
#include <cstdint>

#include "csrc/kernels/instruction_set.h"
#include "csrc/kernels/threefry.h"

namespace flaxlayer {
namespace {

namespace baseline {
#define FLAXLAYER_LANES 4
#include "csrc/kernels/random_words.inc"
#undef FLAXLAYER_LANES
}  // namespace baseline

#if FLAXLAYER_HAVE_AVX

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2")
#endif
namespace avx2 {
#define FLAXLAYER_LANES 8
#include "csrc/kernels/random_words.inc"
#undef FLAXLAYER_LANES
}  // namespace avx2
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f")
#endif
namespace avx512 {
#define FLAXLAYER_LANES 16
#include "csrc/kernels/random_words.inc"
#undef FLAXLAYER_LANES
}  // namespace avx512
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif  // FLAXLAYER_HAVE_AVX

}  // namespace

const RandomWordsKernels& RandomWordsFor(InstructionSet set) {
  switch (set) {
#if FLAXLAYER_HAVE_AVX
    case InstructionSet::kAvx512:
      return avx512::kKernels;
    case InstructionSet::kAvx2:
      return avx2::kKernels;
#endif
    default:
      return baseline::kKernels;
  }
}

const RandomWordsKernels& RandomWords() {
  static const RandomWordsKernels& kernels =
      RandomWordsFor(BestInstructionSet());
  return kernels;
}

}  // namespace flaxlayer
