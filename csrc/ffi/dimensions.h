// What handlers check of the dimensions of their operands and results.

#ifndef FLAXLAYER_CSRC_FFI_DIMENSIONS_H_
#define FLAXLAYER_CSRC_FFI_DIMENSIONS_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "xla/ffi/api/ffi.h"

namespace flaxlayer {

using Dimensions = ::xla::ffi::Span<const int64_t>;

// "u32[3,2]"; for error messages only: nothing is allocated where the operands
// are right.
std::string ShapeString(const char* type, Dimensions dims);

// Whether these are the dimensions of threefry keys, [..., 2].
bool AreKeys(Dimensions dims);

// Whether `dims` begins with all of `first`.
bool BeginWith(Dimensions dims, Dimensions first);

// Whether `dims` begins with the dimensions of `keys` but its last.
bool BeginWithThoseOf(Dimensions dims, Dimensions keys);

// The product of dims[first] to dims[last - 1]. False where there is none: a
// dimension is negative, or the product is more than a size_t holds.
bool Product(Dimensions dims, size_t first, size_t last, size_t* product);

}  // namespace flaxlayer

#endif  // FLAXLAYER_CSRC_FFI_DIMENSIONS_H_
