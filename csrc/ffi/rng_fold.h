// The XLA FFI handler of the RNG fold.

#ifndef FLAXLAYER_CSRC_FFI_RNG_FOLD_H_
#define FLAXLAYER_CSRC_FFI_RNG_FOLD_H_

#include "xla/ffi/api/ffi.h"

// Custom call target "flaxlayer_rng_fold".
//
//   operand 0: state, u32[..., 2]
//   attribute: tags, a dense array of n ui32
//   result 0:  keys, u32[..., n, 2], with the leading axes of the state
//
// Anything else returns INVALID_ARGUMENT and writes nothing.
XLA_FFI_DECLARE_HANDLER_SYMBOL(FlaxlayerRngFold);

#endif  // FLAXLAYER_CSRC_FFI_RNG_FOLD_H_
