// Looking for numbers that are not finite, before a state is written.

#ifndef FLAXLAYER_CSRC_KERNELS_STATE_MERGE_H_
#define FLAXLAYER_CSRC_KERNELS_STATE_MERGE_H_

#include <cstddef>

namespace flaxlayer {

// The formats of floating-point numbers; a complex one is two of them.
enum class FloatFormat { kF16, kBF16, kF32, kF64 };

// Whether none of the numbers in `size` bytes is infinite or NaN. It reads no
// further than a few kilobytes behind one that is.
//
// `data` needs no alignment; it is not used where `size` is zero, and may then
// be null.
bool AllFinite(FloatFormat format, const void* data, size_t size);

}  // namespace flaxlayer

#endif  // FLAXLAYER_CSRC_KERNELS_STATE_MERGE_H_
