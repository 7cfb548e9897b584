#include "csrc/ffi/fold_in.h"

#include <cstddef>
#include <cstdint>

#include "csrc/ffi/threefry_shapes.h"
#include "csrc/kernels/fold_in.h"
#include "xla/ffi/api/ffi.h"

namespace flaxlayer {
namespace {

namespace ffi = ::xla::ffi;

// The numbers of operands and results and their element types are checked by
// the binding below before this function is called.
ffi::Error FoldInEach(ffi::Buffer<ffi::U32> keys, ffi::Buffer<ffi::U32> data,
                      ffi::ResultBuffer<ffi::U32> folded) {
  KeyCounts counts;
  ffi::Error error = CheckFoldIn(keys.dimensions(), data.dimensions(),
                                 folded->dimensions(), &counts);
  if (error.failure()) return error;

  const uint32_t* words = keys.typed_data();
  uint32_t* out = folded->typed_data();
  for (size_t i = 0; i < counts.num_keys; ++i) {
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
