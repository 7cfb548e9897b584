#include "csrc/ffi/random_words.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

#include "csrc/ffi/blocks.h"
#include "csrc/ffi/dimensions.h"
#include "csrc/ffi/threefry_shapes.h"
#include "csrc/kernels/random_words.h"
#include "csrc/kernels/threefry.h"
#include "xla/ffi/api/ffi.h"

namespace flaxlayer {
namespace {

namespace ffi = ::xla::ffi;

// Computes the blocks of all keys, of which each takes `Stride` elements of
// `out`.
template <size_t Stride, typename Element>
void Fill(ffi::ThreadPool pool, const uint32_t* keys, KeyCounts counts,
          void (*kernel)(ThreefryKey, uint64_t, size_t, Element*),
          Element* out) {
  ForBlocks(pool, counts.num_keys, counts.per_key,
            [=](size_t key, size_t start, size_t count, size_t offset) {
              kernel({keys[2 * key], keys[2 * key + 1]}, start, count,
                     out + offset * Stride);
            });
}

// A part of an array whose elements have the index that they have in the whole.
struct Block {
  // The sizes of the part and of the whole, and where the part begins: all of
  // the same number of axes.
  Dimensions sizes;
  Dimensions whole;
  ffi::Span<const uint32_t> offsets;
  // How many elements follow one another in the whole as in the part.
  size_t run;

  // The index in the whole of the element `start` of the part. It wraps around
  // at 2^64, as that of the words does.
  uint64_t IndexOf(size_t start) const {
    uint64_t index = 0;
    uint64_t stride = 1;
    for (size_t i = sizes.size(); i > 0; --i) {
      const size_t size = static_cast<size_t>(sizes[i - 1]);
      index += stride * (offsets[i - 1] + start % size);
      start /= size;
      stride *= static_cast<uint64_t>(whole[i - 1]);
    }
    return index;
  }
};

// False where the sizes, which are of an array that is there, are not those of
// a part of the whole.
bool MakeBlock(Dimensions sizes, Dimensions whole,
               ffi::Span<const uint32_t> offsets, Block* block) {
  size_t run = 1;
  bool contiguous = true;
  for (size_t i = sizes.size(); i > 0; --i) {
    const int64_t size = sizes[i - 1];
    if (whole[i - 1] < size || offsets[i - 1] > whole[i - 1] - size) {
      return false;
    }
    // Of the first axis that is not there as a whole one part still follows
    // the other.
    if (contiguous) run *= static_cast<size_t>(size);
    contiguous = contiguous && size == whole[i - 1];
  }
  *block = {sizes, whole, offsets, run};
  return true;
}

template <typename Element>
void FillBlock(ffi::ThreadPool pool, const uint32_t* keys, KeyCounts counts,
               const Block& block,
               void (*kernel)(ThreefryKey, uint64_t, size_t, Element*),
               Element* out) {
  ForBlocks(pool, counts.num_keys, counts.per_key,
            [=](size_t key, size_t start, size_t count, size_t offset) {
              while (count > 0) {
                const size_t part =
                    std::min(count, block.run - start % block.run);
                kernel({keys[2 * key], keys[2 * key + 1]}, block.IndexOf(start),
                       part, out + offset);
                start += part;
                offset += part;
                count -= part;
              }
            });
}

// The numbers of operands and results are checked by the bindings below before
// these functions are called.
ffi::Error RandomBits(ffi::ThreadPool pool, ffi::Buffer<ffi::U32> keys,
                      ffi::Result<ffi::AnyBuffer> words) {
  KeyCounts counts;
  ffi::Error error =
      CheckRandomBits(keys.dimensions(), words->dimensions(), &counts);
  if (error.failure()) return error;

  const RandomWordsKernels& kernels = RandomWords();
  const uint32_t* data = keys.typed_data();
  switch (words->element_type()) {
    case ffi::U8:
      Fill<1>(pool, data, counts, kernels.words8, words->typed_data<uint8_t>());
      break;
    case ffi::U16:
      Fill<1>(pool, data, counts, kernels.words16,
              words->typed_data<uint16_t>());
      break;
    case ffi::U32:
      Fill<1>(pool, data, counts, kernels.words32,
              words->typed_data<uint32_t>());
      break;
    case ffi::U64:
      Fill<1>(pool, data, counts, kernels.words64,
              words->typed_data<uint64_t>());
      break;
    default:
      return NoWords(words->element_type());
  }
  return ffi::Error::Success();
}

ffi::Error RandomBlock(ffi::ThreadPool pool, ffi::Buffer<ffi::U32> keys,
                       ffi::BufferR1<ffi::U32> offsets,
                       ffi::Span<const int64_t> whole,
                       ffi::Result<ffi::AnyBuffer> words) {
  const Dimensions keys_dims = keys.dimensions();
  const Dimensions words_dims = words->dimensions();
  KeyCounts counts;
  Block block;
  if (!BlockCounts(keys_dims, words_dims, &counts) ||
      words_dims.size() - (keys_dims.size() - 1) != whole.size() ||
      offsets.element_count() != whole.size() ||
      !MakeBlock(
          Dimensions(words_dims.begin() + (keys_dims.size() - 1), whole.size()),
          Dimensions(whole.begin(), whole.size()),
          {offsets.typed_data(), whole.size()}, &block)) {
    return ffi::Error::InvalidArgument(
        "flaxlayer_random_block: the keys must be u32[..., 2] and the result "
        "begin with their leading axes, followed by a part of the whole that "
        "begins at the offsets, got " +
        ShapeString("u32", keys_dims) + ", " +
        ShapeString("u32", offsets.dimensions()) + " and " +
        ShapeString("", words_dims) + " of " +
        ShapeString("", Dimensions(whole.begin(), whole.size())));
  }

  const RandomWordsKernels& kernels = RandomWords();
  const uint32_t* data = keys.typed_data();
  switch (words->element_type()) {
    case ffi::U8:
      FillBlock(pool, data, counts, block, kernels.words8,
                words->typed_data<uint8_t>());
      break;
    case ffi::U16:
      FillBlock(pool, data, counts, block, kernels.words16,
                words->typed_data<uint16_t>());
      break;
    case ffi::U32:
      FillBlock(pool, data, counts, block, kernels.words32,
                words->typed_data<uint32_t>());
      break;
    case ffi::U64:
      FillBlock(pool, data, counts, block, kernels.words64,
                words->typed_data<uint64_t>());
      break;
    default:
      return ffi::Error::InvalidArgument(
          "flaxlayer_random_block: the result must be of type u8, u16, u32 or "
          "u64, got XLA_FFI_DataType " +
          std::to_string(static_cast<int>(words->element_type())));
  }
  return ffi::Error::Success();
}

ffi::Error RandomSplit(ffi::ThreadPool pool, ffi::Buffer<ffi::U32> keys,
                       ffi::ResultBuffer<ffi::U32> split) {
  KeyCounts counts;
  ffi::Error error =
      CheckRandomSplit(keys.dimensions(), split->dimensions(), &counts);
  if (error.failure()) return error;

  Fill<2>(pool, keys.typed_data(), counts, RandomWords().blocks,
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

XLA_FFI_DEFINE_HANDLER_SYMBOL(FlaxlayerRandomBlock, flaxlayer::RandomBlock,
                              xla::ffi::Ffi::Bind()
                                  .Ctx<xla::ffi::ThreadPool>()
                                  .Arg<xla::ffi::Buffer<xla::ffi::U32>>()
                                  .Arg<xla::ffi::BufferR1<xla::ffi::U32>>()
                                  .Attr<xla::ffi::Span<const int64_t>>("whole")
                                  .Ret<xla::ffi::AnyBuffer>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(FlaxlayerRandomSplit, flaxlayer::RandomSplit,
                              xla::ffi::Ffi::Bind()
                                  .Ctx<xla::ffi::ThreadPool>()
                                  .Arg<xla::ffi::Buffer<xla::ffi::U32>>()
                                  .Ret<xla::ffi::Buffer<xla::ffi::U32>>());
