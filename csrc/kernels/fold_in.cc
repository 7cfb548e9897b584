#include "csrc/kernels/fold_in.h"

#include <cstddef>
#include <cstdint>

#include "csrc/kernels/threefry.h"

namespace flaxlayer {

void FoldIn(ThreefryKey key, const uint32_t* data, size_t count,
            uint32_t* keys) {
  for (size_t i = 0; i < count; ++i) {
    const ThreefryBlock folded = Threefry2x32(key, {0, data[i]});
    keys[2 * i] = folded.x0;
    keys[2 * i + 1] = folded.x1;
  }
}

}  // namespace flaxlayer
