// The keys of all random streams from the seed states, in one pass.

#ifndef FLAXLAYER_CSRC_KERNELS_RNG_FOLD_H_
#define FLAXLAYER_CSRC_KERNELS_RNG_FOLD_H_

#include <cstddef>
#include <cstdint>

namespace flaxlayer {

// Folds every tag into every state, as jax.random.fold_in does for a
// threefry2x32 key: Threefry2x32(key = state, block = (0, tag)).
//
//   states: num_states x 2 words.
//   tags:   num_tags words.
//   keys:   num_states x num_tags x 2 words, written; must not overlap the
//           inputs.
//
// A pointer is not read where its count is zero, and may then be null.
void FoldStreams(const uint32_t* states, size_t num_states,
                 const uint32_t* tags, size_t num_tags, uint32_t* keys);

}  // namespace flaxlayer

#endif  // FLAXLAYER_CSRC_KERNELS_RNG_FOLD_H_
