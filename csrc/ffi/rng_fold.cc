#include "csrc/ffi/rng_fold.h"

#include <cstddef>
#include <cstdint>
#include <string>

#include "csrc/kernels/rng_fold.h"
#include "xla/ffi/api/ffi.h"

namespace flaxlayer {
namespace {

namespace ffi = ::xla::ffi;

// For error messages only: nothing is allocated where the operands are right.
std::string ShapeString(ffi::Span<const int64_t> dims) {
  std::string text = "u32[";
  for (size_t i = 0; i < dims.size(); ++i) {
    if (i > 0) text += ",";
    text += std::to_string(dims[i]);
  }
  return text + "]";
}

// The numbers of operands, results and attributes and their element types are
// checked by the binding below before this function is called.
ffi::Error RngFold(ffi::Buffer<ffi::U32> state, ffi::Span<const uint32_t> tags,
                   ffi::ResultBuffer<ffi::U32> keys) {
  const ffi::Span<const int64_t> state_dims = state.dimensions();
  const ffi::Span<const int64_t> keys_dims = keys->dimensions();

  if (state_dims.size() == 0 || state_dims[state_dims.size() - 1] != 2) {
    return ffi::Error::InvalidArgument(
        "flaxlayer_rng_fold: the state must be u32[..., 2], got " +
        ShapeString(state_dims));
  }
  const size_t num_leading = state_dims.size() - 1;

  // The kernel writes as many words as the state and the tags ask for, so the
  // result has to have exactly the dimensions that follow from them.
  bool keys_match =
      keys_dims.size() == num_leading + 2 && keys_dims[num_leading] >= 0 &&
      static_cast<size_t>(keys_dims[num_leading]) == tags.size() &&
      keys_dims[num_leading + 1] == 2;
  size_t num_states = 1;
  for (size_t i = 0; keys_match && i < num_leading; ++i) {
    keys_match = state_dims[i] >= 0 && keys_dims[i] == state_dims[i];
    num_states *= static_cast<size_t>(state_dims[i]);
  }
  if (!keys_match) {
    return ffi::Error::InvalidArgument(
        "flaxlayer_rng_fold: for a state of " + ShapeString(state_dims) +
        " and " + std::to_string(tags.size()) +
        " tags the keys must be u32[..., " + std::to_string(tags.size()) +
        ", 2] with the state's leading axes, got " + ShapeString(keys_dims));
  }

  FoldStreams(state.typed_data(), num_states, tags.begin(), tags.size(),
              keys->typed_data());
  return ffi::Error::Success();
}

}  // namespace
}  // namespace flaxlayer

XLA_FFI_DEFINE_HANDLER_SYMBOL(FlaxlayerRngFold, flaxlayer::RngFold,
                              xla::ffi::Ffi::Bind()
                                  .Arg<xla::ffi::Buffer<xla::ffi::U32>>()
                                  .Attr<xla::ffi::Span<const uint32_t>>("tags")
                                  .Ret<xla::ffi::Buffer<xla::ffi::U32>>());
