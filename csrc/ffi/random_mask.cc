#include "csrc/ffi/random_mask.h"

#include <cstddef>
#include <cstdint>
#include <string>

#include "csrc/ffi/blocks.h"
#include "csrc/ffi/dimensions.h"
#include "csrc/kernels/random_words.h"
#include "csrc/kernels/threefry.h"
#include "xla/ffi/api/ffi.h"

namespace flaxlayer {
namespace {

namespace ffi = ::xla::ffi;

// XLA has one byte for each element of a pred array, 0 or 1; in C++ it is a
// bool, which the kernel cannot write as such.
static_assert(sizeof(bool) == 1, "a mask would have another size");

// The numbers of operands, results and attributes and their element types are
// checked by the bindings below before these functions are called.
ffi::Error RandomMask(ffi::ThreadPool pool, ffi::Buffer<ffi::U32> keys,
                      uint32_t limit, ffi::ResultBuffer<ffi::PRED> masks) {
  size_t num_keys = 0;
  size_t per_key = 0;
  if (!BlockCounts(keys.dimensions(), masks->dimensions(), &num_keys,
                   &per_key)) {
    return ffi::Error::InvalidArgument(
        "flaxlayer_random_mask: the keys must be u32[..., 2] and the masks "
        "begin with their leading axes, got " +
        ShapeString("u32", keys.dimensions()) + " and " +
        ShapeString("pred", masks->dimensions()));
  }
  const uint32_t* words = keys.typed_data();
  uint8_t* out = static_cast<uint8_t*>(masks->untyped_data());
  const auto kernel = RandomWords().masks;
  ForBlocks(pool, num_keys, per_key,
            [=](size_t key, size_t start, size_t count, size_t offset) {
              kernel({words[2 * key], words[2 * key + 1]}, start, count, limit,
                     out + offset);
            });
  return ffi::Error::Success();
}

ffi::Error FoldInRandomMask(ffi::ThreadPool pool, ffi::Buffer<ffi::U32> keys,
                            ffi::Buffer<ffi::U32> data, uint32_t limit,
                            ffi::ResultBuffer<ffi::PRED> masks) {
  const Dimensions keys_dims = keys.dimensions();
  const Dimensions data_dims = data.dimensions();
  size_t num_keys = 0;
  size_t per_key = 0;
  if (!BlockCounts(keys_dims, masks->dimensions(), &num_keys, &per_key) ||
      data_dims.size() != keys_dims.size() - 1 ||
      !BeginWithThoseOf(data_dims, keys_dims)) {
    return ffi::Error::InvalidArgument(
        "flaxlayer_fold_in_random_mask: the keys must be u32[..., 2], the data "
        "u32[...] and the masks begin with the same leading axes, got " +
        ShapeString("u32", keys_dims) + ", " + ShapeString("u32", data_dims) +
        " and " + ShapeString("pred", masks->dimensions()));
  }
  const uint32_t* words = keys.typed_data();
  const uint32_t* folded = data.typed_data();
  uint8_t* out = static_cast<uint8_t*>(masks->untyped_data());
  const auto kernel = RandomWords().masks;
  ForBlocks(pool, num_keys, per_key,
            [=](size_t key, size_t start, size_t count, size_t offset) {
              // As FoldIn does; a few nanoseconds for each part.
              const ThreefryBlock block = Threefry2x32(
                  {words[2 * key], words[2 * key + 1]}, {0, folded[key]});
              kernel({block.x0, block.x1}, start, count, limit, out + offset);
            });
  return ffi::Error::Success();
}

}  // namespace
}  // namespace flaxlayer

XLA_FFI_DEFINE_HANDLER_SYMBOL(FlaxlayerRandomMask, flaxlayer::RandomMask,
                              xla::ffi::Ffi::Bind()
                                  .Ctx<xla::ffi::ThreadPool>()
                                  .Arg<xla::ffi::Buffer<xla::ffi::U32>>()
                                  .Attr<uint32_t>("limit")
                                  .Ret<xla::ffi::Buffer<xla::ffi::PRED>>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(FlaxlayerFoldInRandomMask,
                              flaxlayer::FoldInRandomMask,
                              xla::ffi::Ffi::Bind()
                                  .Ctx<xla::ffi::ThreadPool>()
                                  .Arg<xla::ffi::Buffer<xla::ffi::U32>>()
                                  .Arg<xla::ffi::Buffer<xla::ffi::U32>>()
                                  .Attr<uint32_t>("limit")
                                  .Ret<xla::ffi::Buffer<xla::ffi::PRED>>());
