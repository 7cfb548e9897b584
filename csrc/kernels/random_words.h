// Random words from a threefry key, as JAX lays them out with
// jax_threefry_partitionable, its default.
//
// The i-th word comes from the i-th block alone, Threefry2x32(key, (high, low))
// of the 64-bit index i. So any part of a sequence can be computed by itself:
// every function here starts at a given index.

#ifndef FLAXLAYER_CSRC_KERNELS_RANDOM_WORDS_H_
#define FLAXLAYER_CSRC_KERNELS_RANDOM_WORDS_H_

#include <cstddef>
#include <cstdint>

#include "csrc/kernels/instruction_set.h"
#include "csrc/kernels/threefry.h"

namespace flaxlayer {

// The functions for one instruction set. Each writes `count` elements for the
// indices from `start`, which wrap around at 2^64. `out` is not touched where
// `count` is zero, and may then be null; it is as aligned as its type.
struct RandomWordsKernels {
  // x0 ^ x1, of which 16 and 8 bits are the lowest.
  void (*words8)(ThreefryKey key, uint64_t start, size_t count, uint8_t* out);
  void (*words16)(ThreefryKey key, uint64_t start, size_t count, uint16_t* out);
  void (*words32)(ThreefryKey key, uint64_t start, size_t count, uint32_t* out);
  // x0 in the upper half, x1 in the lower.
  void (*words64)(ThreefryKey key, uint64_t start, size_t count, uint64_t* out);
  // Both words of each block, x0 first: 2 * count words, the keys that
  // jax.random.split makes.
  void (*blocks)(ThreefryKey key, uint64_t start, size_t count, uint32_t* out);
};

// Those for `set`, which has to be supported.
const RandomWordsKernels& RandomWordsFor(InstructionSet set);

// Those for the best instruction set of this machine, chosen by the first call.
const RandomWordsKernels& RandomWords();

}  // namespace flaxlayer

#endif  // FLAXLAYER_CSRC_KERNELS_RANDOM_WORDS_H_
