#include "csrc/ffi/threefry_shapes.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <string>

#include "csrc/ffi/dimensions.h"
#include "xla/ffi/api/ffi.h"

namespace flaxlayer {

namespace ffi = ::xla::ffi;

bool BlockCounts(Dimensions keys, Dimensions result, KeyCounts* counts) {
  size_t total = 0;  // Only computed to see that it can be.
  return AreKeys(keys) && BeginWithThoseOf(result, keys) &&
         Product(keys, 0, keys.size() - 1, &counts->num_keys) &&
         Product(result, keys.size() - 1, result.size(), &counts->per_key) &&
         Product(result, 0, result.size(), &total);
}

ffi::Error CheckFoldIn(Dimensions keys, Dimensions data, Dimensions folded,
                       KeyCounts* counts) {
  size_t num_words = 0;  // Of the keys, and of the result.
  if (!AreKeys(keys) || data.size() != keys.size() - 1 ||
      !BeginWithThoseOf(data, keys) || folded.size() != keys.size() ||
      !AreKeys(folded) || !BeginWithThoseOf(folded, keys) ||
      !Product(keys, 0, keys.size(), &num_words)) {
    return ffi::Error::InvalidArgument(
        "flaxlayer_fold_in: the keys must be u32[..., 2], the data u32[...] "
        "and the result u32[..., 2] with the same leading axes, got " +
        ShapeString("u32", keys) + ", " + ShapeString("u32", data) + " and " +
        ShapeString("u32", folded));
  }
  *counts = {num_words / 2, 1};
  return ffi::Error::Success();
}

ffi::Error CheckRandomBits(Dimensions keys, Dimensions words,
                           KeyCounts* counts) {
  if (!BlockCounts(keys, words, counts)) {
    return ffi::Error::InvalidArgument(
        "flaxlayer_random_bits: the keys must be u32[..., 2] and the result "
        "begin with their leading axes, got " +
        ShapeString("u32", keys) + " and " + ShapeString("", words));
  }
  return ffi::Error::Success();
}

ffi::Error NoWords(ffi::DataType type) {
  return ffi::Error::InvalidArgument(
      "flaxlayer_random_bits: the result must be of type u8, u16, u32 or u64, "
      "got XLA_FFI_DataType " +
      std::to_string(static_cast<int>(type)));
}

ffi::Error CheckRandomSplit(Dimensions keys, Dimensions split,
                            KeyCounts* counts) {
  // Without the last axis, the two words of a key, it is like any other result.
  if (!AreKeys(split) ||
      !BlockCounts(keys, Dimensions(split.begin(), split.size() - 1), counts) ||
      counts->per_key > std::numeric_limits<size_t>::max() / 2 /
                            std::max<size_t>(counts->num_keys, 1)) {
    return ffi::Error::InvalidArgument(
        "flaxlayer_random_split: the keys must be u32[..., 2] and the result "
        "u32[..., *shape, 2] with their leading axes, got " +
        ShapeString("u32", keys) + " and " + ShapeString("u32", split));
  }
  return ffi::Error::Success();
}

}  // namespace flaxlayer
