#include "csrc/ffi/fold_in.h"

#include <cstddef>
#include <cstdint>

#include "csrc/ffi/dimensions.h"
#include "csrc/kernels/fold_in.h"
#include "xla/ffi/api/ffi.h"

namespace flaxlayer {
namespace {

namespace ffi = ::xla::ffi;

// The numbers of operands and results and their element types are checked by
// the binding below before this function is called.
ffi::Error FoldInEach(ffi::Buffer<ffi::U32> keys, ffi::Buffer<ffi::U32> data,
                      ffi::ResultBuffer<ffi::U32> folded) {
  const Dimensions keys_dims = keys.dimensions();
  const Dimensions data_dims = data.dimensions();
  const Dimensions folded_dims = folded->dimensions();
  size_t num_words = 0;  // Of the keys, and of the result.
  if (!AreKeys(keys_dims) || data_dims.size() != keys_dims.size() - 1 ||
      !BeginWithThoseOf(data_dims, keys_dims) ||
      folded_dims.size() != keys_dims.size() || !AreKeys(folded_dims) ||
      !BeginWithThoseOf(folded_dims, keys_dims) ||
      !Product(keys_dims, 0, keys_dims.size(), &num_words)) {
    return ffi::Error::InvalidArgument(
        "flaxlayer_fold_in: the keys must be u32[..., 2], the data u32[...] "
        "and the result u32[..., 2] with the same leading axes, got " +
        ShapeString("u32", keys_dims) + ", " + ShapeString("u32", data_dims) +
        " and " + ShapeString("u32", folded_dims));
  }

  const uint32_t* words = keys.typed_data();
  uint32_t* out = folded->typed_data();
  for (size_t i = 0; i < num_words / 2; ++i) {
    FoldIn({words[2 * i], words[2 * i + 1]}, data.typed_data() + i, 1,
           out + 2 * i);
  }
  return ffi::Error::Success();
}

}  // namespace
}  // namespace flaxlayer

XLA_FFI_DEFINE_HANDLER_SYMBOL(FlaxlayerFoldIn, flaxlayer::FoldInEach,
                              xla::ffi::Ffi::Bind()
                                  .Arg<xla::ffi::Buffer<xla::ffi::U32>>()
                                  .Arg<xla::ffi::Buffer<xla::ffi::U32>>()
                                  .Ret<xla::ffi::Buffer<xla::ffi::U32>>());
