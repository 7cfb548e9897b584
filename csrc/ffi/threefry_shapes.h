// What the handlers of operations on keys take, on every platform.

#ifndef FLAXLAYER_CSRC_FFI_THREEFRY_SHAPES_H_
#define FLAXLAYER_CSRC_FFI_THREEFRY_SHAPES_H_

#include <cstddef>

#include "csrc/ffi/dimensions.h"
#include "xla/ffi/api/ffi.h"

namespace flaxlayer {

// How much there is to compute: so many indices under each of so many keys,
// which a kernel may multiply, and the words of the results count, in a size_t.
struct KeyCounts {
  size_t num_keys = 0;
  size_t per_key = 0;
};

// Each function takes the dimensions of the operands and of the result, writes
// the counts, and returns an error where these are not as the headers of the
// handlers say.
::xla::ffi::Error CheckFoldIn(Dimensions keys, Dimensions data,
                              Dimensions folded, KeyCounts* counts);
::xla::ffi::Error CheckRandomBits(Dimensions keys, Dimensions words,
                                  KeyCounts* counts);
::xla::ffi::Error CheckRandomSplit(Dimensions keys, Dimensions split,
                                   KeyCounts* counts);

// The error of random_bits where the words are of another type.
::xla::ffi::Error NoWords(::xla::ffi::DataType type);

// The number of keys and how many blocks a result has room for under each, of
// dimensions [..., *shape] where those of the keys are [..., 2]. False where
// these do not fit, or there are no such numbers.
bool BlockCounts(Dimensions keys, Dimensions result, KeyCounts* counts);

}  // namespace flaxlayer

#endif  // FLAXLAYER_CSRC_FFI_THREEFRY_SHAPES_H_
