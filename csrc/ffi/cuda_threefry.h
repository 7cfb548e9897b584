// The XLA FFI handlers of operations on keys, for CUDA devices.

#ifndef FLAXLAYER_CSRC_FFI_CUDA_THREEFRY_H_
#define FLAXLAYER_CSRC_FFI_CUDA_THREEFRY_H_

#include "xla/ffi/api/ffi.h"

// Each takes what the handler of the same target takes on a CPU, see fold_in.h
// and random_words.h. It only starts a kernel, and can be recorded in a graph
// of CUDA.
XLA_FFI_DECLARE_HANDLER_SYMBOL(FlaxlayerCudaFoldIn);
XLA_FFI_DECLARE_HANDLER_SYMBOL(FlaxlayerCudaRandomBits);
XLA_FFI_DECLARE_HANDLER_SYMBOL(FlaxlayerCudaRandomSplit);

#endif  // FLAXLAYER_CSRC_FFI_CUDA_THREEFRY_H_
