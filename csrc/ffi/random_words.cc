#include "csrc/ffi/random_words.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>

#include "csrc/ffi/blocks.h"
#include "csrc/ffi/dimensions.h"
#include "csrc/kernels/random_words.h"
#include "csrc/kernels/threefry.h"
#include "xla/ffi/api/ffi.h"

namespace flaxlayer {
namespace {

namespace ffi = ::xla::ffi;

// Computes `per_key` blocks for each of `num_keys` keys, of which each takes
// `Stride` elements of `out`.
template <size_t Stride, typename Element>
void Fill(ffi::ThreadPool pool, const uint32_t* keys, size_t num_keys,
          size_t per_key,
          void (*kernel)(ThreefryKey, uint64_t, size_t, Element*),
          Element* out) {
  ForBlocks(pool, num_keys, per_key,
            [=](size_t key, size_t start, size_t count, size_t offset) {
              kernel({keys[2 * key], keys[2 * key + 1]}, start, count,
                     out + offset * Stride);
            });
}

// The numbers of operands and results are checked by the bindings below before
// these functions are called.
ffi::Error RandomBits(ffi::ThreadPool pool, ffi::Buffer<ffi::U32> keys,
                      ffi::Result<ffi::AnyBuffer> words) {
  const Dimensions keys_dims = keys.dimensions();
  size_t num_keys = 0;
  size_t per_key = 0;
  if (!BlockCounts(keys_dims, words->dimensions(), &num_keys, &per_key)) {
    return ffi::Error::InvalidArgument(
        "flaxlayer_random_bits: the keys must be u32[..., 2] and the result "
        "begin with their leading axes, got " +
        ShapeString("u32", keys_dims) + " and " +
        ShapeString("", words->dimensions()));
  }

  const RandomWordsKernels& kernels = RandomWords();
  const uint32_t* data = keys.typed_data();
  switch (words->element_type()) {
    case ffi::U8:
      Fill<1>(pool, data, num_keys, per_key, kernels.words8,
              words->typed_data<uint8_t>());
      break;
    case ffi::U16:
      Fill<1>(pool, data, num_keys, per_key, kernels.words16,
              words->typed_data<uint16_t>());
      break;
    case ffi::U32:
      Fill<1>(pool, data, num_keys, per_key, kernels.words32,
              words->typed_data<uint32_t>());
      break;
    case ffi::U64:
      Fill<1>(pool, data, num_keys, per_key, kernels.words64,
              words->typed_data<uint64_t>());
      break;
    default:
      return ffi::Error::InvalidArgument(
          "flaxlayer_random_bits: the result must be of type u8, u16, u32 or "
          "u64, got XLA_FFI_DataType " +
          std::to_string(static_cast<int>(words->element_type())));
  }
  return ffi::Error::Success();
}

ffi::Error RandomSplit(ffi::ThreadPool pool, ffi::Buffer<ffi::U32> keys,
                       ffi::ResultBuffer<ffi::U32> split) {
  const Dimensions keys_dims = keys.dimensions();
  const Dimensions split_dims = split->dimensions();
  size_t num_keys = 0;
  size_t per_key = 0;
  // Without the last axis, the two words of a key, it is like any other result.
  if (!AreKeys(split_dims) ||
      !BlockCounts(keys_dims,
                   Dimensions(split_dims.begin(), split_dims.size() - 1),
                   &num_keys, &per_key) ||
      per_key > std::numeric_limits<size_t>::max() / 2 /
                    std::max<size_t>(num_keys, 1)) {
    return ffi::Error::InvalidArgument(
        "flaxlayer_random_split: the keys must be u32[..., 2] and the result "
        "u32[..., *shape, 2] with their leading axes, got " +
        ShapeString("u32", keys_dims) + " and " +
        ShapeString("u32", split_dims));
  }
  Fill<2>(pool, keys.typed_data(), num_keys, per_key, RandomWords().blocks,
          split->typed_data());
  return ffi::Error::Success();
}

}  // namespace
}  // namespace flaxlayer

XLA_FFI_DEFINE_HANDLER_SYMBOL(FlaxlayerRandomBits, flaxlayer::RandomBits,
                              xla::ffi::Ffi::Bind()
                                  .Ctx<xla::ffi::ThreadPool>()
                                  .Arg<xla::ffi::Buffer<xla::ffi::U32>>()
                                  .Ret<xla::ffi::AnyBuffer>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(FlaxlayerRandomSplit, flaxlayer::RandomSplit,
                              xla::ffi::Ffi::Bind()
                                  .Ctx<xla::ffi::ThreadPool>()
                                  .Arg<xla::ffi::Buffer<xla::ffi::U32>>()
                                  .Ret<xla::ffi::Buffer<xla::ffi::U32>>());
