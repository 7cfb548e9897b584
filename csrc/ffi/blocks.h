// Handing out the blocks of several keys to the threads of XLA.

#ifndef FLAXLAYER_CSRC_FFI_BLOCKS_H_
#define FLAXLAYER_CSRC_FFI_BLOCKS_H_

#include <algorithm>
#include <cstddef>

#include "csrc/ffi/parallel.h"
#include "xla/ffi/api/ffi.h"

namespace flaxlayer {

// Blocks in a part that is worth a thread of its own: some 50 us with AVX-512.
// With less, training steps were slower: their other operations want the
// threads too.
constexpr size_t kBlocksPerPart = size_t{1} << 16;

// Calls fill(key, start, count, offset) for parts that make up `per_key` blocks
// of each of `num_keys` keys: `count` blocks of the `key`-th one, from index
// `start` of its sequence and from `offset` of all that are computed.
template <typename FillPart>
void ForBlocks(::xla::ffi::ThreadPool pool, size_t num_keys, size_t per_key,
               const FillPart& fill) {
  // A part may begin in the sequence of one key and end in that of another.
  ParallelFor(pool, num_keys * per_key, kBlocksPerPart,
              [per_key, &fill](size_t begin, size_t end) {
                while (begin < end) {
                  const size_t key = begin / per_key;
                  const size_t start = begin % per_key;
                  const size_t count = std::min(end - begin, per_key - start);
                  fill(key, start, count, begin);
                  begin += count;
                }
              });
}

}  // namespace flaxlayer

#endif  // FLAXLAYER_CSRC_FFI_BLOCKS_H_
