#include "csrc/ffi/cuda_threefry.h"

#include <cstdint>
#include <string>
#include <utility>

#include "csrc/cuda/driver.h"
#include "csrc/ffi/threefry_shapes.h"
#include "xla/ffi/api/ffi.h"

namespace flaxlayer {
namespace {

namespace ffi = ::xla::ffi;

using Stream = void*;
using Words = ffi::Buffer<ffi::U32>;
using ResultWords = ffi::ResultBuffer<ffi::U32>;

// Starts a kernel, whose arguments are in the order of threefry_ptx.h.
ffi::Error Launch(CudaKernel kernel, Stream stream, KeyCounts counts,
                  const uint32_t* keys, void* out,
                  const uint32_t* data = nullptr) {
  uint64_t num_keys = counts.num_keys;
  uint64_t per_key = counts.per_key;
  if (num_keys == 0 || per_key == 0) return ffi::Error::Success();
  void* arguments[] = {&keys, &out, &per_key, &num_keys, &data};
  std::string failure =
      LaunchCudaKernel(kernel, stream, num_keys, per_key, arguments);
  if (failure.empty()) return ffi::Error::Success();
  return ffi::Error::Internal("flaxlayer: " + std::move(failure));
}

ffi::Error FoldIn(Stream stream, Words keys, Words data, ResultWords folded) {
  KeyCounts counts;
  ffi::Error error = CheckFoldIn(keys.dimensions(), data.dimensions(),
                                 folded->dimensions(), &counts);
  if (error.failure()) return error;
  return Launch(CudaKernel::kFoldIn, stream, counts, keys.typed_data(),
                folded->typed_data(), data.typed_data());
}

ffi::Error RandomBits(Stream stream, Words keys,
                      ffi::Result<ffi::AnyBuffer> words) {
  KeyCounts counts;
  CudaKernel kernel;
  ffi::Error error =
      CheckRandomBits(keys.dimensions(), words->dimensions(), &counts);
  if (error.failure()) return error;
  switch (words->element_type()) {
    case ffi::U8:
      kernel = CudaKernel::kRandomBits8;
      break;
    case ffi::U16:
      kernel = CudaKernel::kRandomBits16;
      break;
    case ffi::U32:
      kernel = CudaKernel::kRandomBits32;
      break;
    case ffi::U64:
      kernel = CudaKernel::kRandomBits64;
      break;
    default:
      return NoWords(words->element_type());
  }
  return Launch(kernel, stream, counts, keys.typed_data(),
                words->untyped_data());
}

ffi::Error RandomSplit(Stream stream, Words keys, ResultWords split) {
  KeyCounts counts;
  ffi::Error error =
      CheckRandomSplit(keys.dimensions(), split->dimensions(), &counts);
  if (error.failure()) return error;
  return Launch(CudaKernel::kRandomSplit, stream, counts, keys.typed_data(),
                split->typed_data());
}

}  // namespace
}  // namespace flaxlayer

XLA_FFI_DEFINE_HANDLER_SYMBOL(FlaxlayerCudaFoldIn, flaxlayer::FoldIn,
                              xla::ffi::Ffi::Bind()
                                  .Ctx<xla::ffi::PlatformStream<void*>>()
                                  .Arg<xla::ffi::Buffer<xla::ffi::U32>>()
                                  .Arg<xla::ffi::Buffer<xla::ffi::U32>>()
                                  .Ret<xla::ffi::Buffer<xla::ffi::U32>>(),
                              {xla::ffi::Traits::kCmdBufferCompatible});

XLA_FFI_DEFINE_HANDLER_SYMBOL(FlaxlayerCudaRandomBits, flaxlayer::RandomBits,
                              xla::ffi::Ffi::Bind()
                                  .Ctx<xla::ffi::PlatformStream<void*>>()
                                  .Arg<xla::ffi::Buffer<xla::ffi::U32>>()
                                  .Ret<xla::ffi::AnyBuffer>(),
                              {xla::ffi::Traits::kCmdBufferCompatible});

XLA_FFI_DEFINE_HANDLER_SYMBOL(FlaxlayerCudaRandomSplit, flaxlayer::RandomSplit,
                              xla::ffi::Ffi::Bind()
                                  .Ctx<xla::ffi::PlatformStream<void*>>()
                                  .Arg<xla::ffi::Buffer<xla::ffi::U32>>()
                                  .Ret<xla::ffi::Buffer<xla::ffi::U32>>(),
                              {xla::ffi::Traits::kCmdBufferCompatible});
