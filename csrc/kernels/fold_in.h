// Folding data into keys.

#ifndef FLAXLAYER_CSRC_KERNELS_FOLD_IN_H_
#define FLAXLAYER_CSRC_KERNELS_FOLD_IN_H_

#include <cstddef>
#include <cstdint>

#include "csrc/kernels/threefry.h"

namespace flaxlayer {

// Folds each number into the key, as jax.random.fold_in does for a threefry2x32
// key: keys[i] = Threefry2x32(key, (0, data[i])).
//
//   data: count words.
//   keys: count x 2 words, written; must not overlap the data.
//
// The pointers are not used where the count is zero, and may then be null.
void FoldIn(ThreefryKey key, const uint32_t* data, size_t count,
            uint32_t* keys);

}  // namespace flaxlayer

#endif  // FLAXLAYER_CSRC_KERNELS_FOLD_IN_H_
