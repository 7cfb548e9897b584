#include "csrc/ffi/rng_fold.h"

#include <cstddef>
#include <cstdint>
#include <string>

#include "csrc/ffi/dimensions.h"
#include "csrc/kernels/fold_in.h"
#include "xla/ffi/api/ffi.h"

namespace flaxlayer {
namespace {

namespace ffi = ::xla::ffi;

// The numbers of operands, results and attributes and their element types are
// checked by the binding below before this function is called.
ffi::Error RngFold(ffi::Buffer<ffi::U32> state, ffi::Span<const uint32_t> tags,
                   ffi::ResultBuffer<ffi::U32> keys) {
  const Dimensions state_dims = state.dimensions();
  const Dimensions keys_dims = keys->dimensions();
  if (!AreKeys(state_dims)) {
    return ffi::Error::InvalidArgument(
        "flaxlayer_rng_fold: the state must be u32[..., 2], got " +
        ShapeString("u32", state_dims));
  }
  // The kernel writes as many words as the state and the tags ask for, so the
  // result has to have exactly the dimensions that follow from them.
  const size_t leading = state_dims.size() - 1;
  size_t num_states = 0;
  size_t num_words = 0;  // Only computed to see that it can be.
  if (keys_dims.size() != leading + 2 ||
      !BeginWithThoseOf(keys_dims, state_dims) || keys_dims[leading] < 0 ||
      static_cast<size_t>(keys_dims[leading]) != tags.size() ||
      keys_dims[leading + 1] != 2 ||
      !Product(state_dims, 0, leading, &num_states) ||
      !Product(keys_dims, 0, keys_dims.size(), &num_words)) {
    return ffi::Error::InvalidArgument(
        "flaxlayer_rng_fold: for a state of " + ShapeString("u32", state_dims) +
        " and " + std::to_string(tags.size()) +
        " tags the keys must be u32[..., " + std::to_string(tags.size()) +
        ", 2] with the state's leading axes, got " +
        ShapeString("u32", keys_dims));
  }

  const uint32_t* words = state.typed_data();
  uint32_t* out = keys->typed_data();
  for (size_t i = 0; i < num_states; ++i) {
    FoldIn({words[2 * i], words[2 * i + 1]}, tags.begin(), tags.size(),
           out + 2 * i * tags.size());
  }
  return ffi::Error::Success();
}

}  // namespace
}  // namespace flaxlayer

XLA_FFI_DEFINE_HANDLER_SYMBOL(FlaxlayerRngFold, flaxlayer::RngFold,
                              xla::ffi::Ffi::Bind()
                                  .Arg<xla::ffi::Buffer<xla::ffi::U32>>()
                                  .Attr<xla::ffi::Span<const uint32_t>>("tags")
                                  .Ret<xla::ffi::Buffer<xla::ffi::U32>>());
