#include "csrc/kernels/rng_fold.h"

#include <cstddef>
#include <cstdint>

#include "csrc/kernels/threefry.h"

namespace flaxlayer {

void FoldStreams(const uint32_t* states, size_t num_states,
                 const uint32_t* tags, size_t num_tags, uint32_t* keys) {
  // Without tags there is nothing to write, and `keys` may be null, which no
  // offset, not even zero, may be added to in the loop below.
  if (num_tags == 0) return;
  for (size_t i = 0; i < num_states; ++i) {
    const ThreefryKey key = {states[2 * i], states[2 * i + 1]};
    uint32_t* out = keys + 2 * i * num_tags;
    for (size_t j = 0; j < num_tags; ++j) {
      const ThreefryBlock folded = Threefry2x32(key, {0, tags[j]});
      out[2 * j] = folded.x0;
      out[2 * j + 1] = folded.x1;
    }
  }
}

}  // namespace flaxlayer
