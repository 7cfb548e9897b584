// The XLA FFI handler that folds data into keys, one datum into each.

#ifndef FLAXLAYER_CSRC_FFI_FOLD_IN_H_
#define FLAXLAYER_CSRC_FFI_FOLD_IN_H_

#include "xla/ffi/api/ffi.h"

// Custom call target "flaxlayer_fold_in".
//
//   operand 0: keys, u32[..., 2]
//   operand 1: data, u32[...], with the leading axes of the keys
//   result 0:  the new keys, u32[..., 2]
//
// Anything else returns INVALID_ARGUMENT and writes nothing.
XLA_FFI_DECLARE_HANDLER_SYMBOL(FlaxlayerFoldIn);

#endif  // FLAXLAYER_CSRC_FFI_FOLD_IN_H_
