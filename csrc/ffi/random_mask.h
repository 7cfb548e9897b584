// The XLA FFI handlers of random masks, as jax.random.bernoulli makes them.

#ifndef FLAXLAYER_CSRC_FFI_RANDOM_MASK_H_
#define FLAXLAYER_CSRC_FFI_RANDOM_MASK_H_

#include "xla/ffi/api/ffi.h"

// Custom call target "flaxlayer_random_mask".
//
//   operand 0: keys, u32[..., 2]
//   attribute: limit, u32; an element is true where the 32-bit word of its
//              index is less
//   result 0:  the masks, pred[..., *shape], with the leading axes of the keys
//              and any further ones
//
// Anything else returns INVALID_ARGUMENT and writes nothing. Large results are
// computed by several threads of XLA.
XLA_FFI_DECLARE_HANDLER_SYMBOL(FlaxlayerRandomMask);

// Custom call target "flaxlayer_fold_in_random_mask": the same for keys that
// data are folded into before.
//
//   operand 0: keys, u32[..., 2]
//   operand 1: data, u32[...], with the leading axes of the keys
//   attribute: limit, u32
//   result 0:  the masks, pred[..., *shape]
XLA_FFI_DECLARE_HANDLER_SYMBOL(FlaxlayerFoldInRandomMask);

#endif  // FLAXLAYER_CSRC_FFI_RANDOM_MASK_H_
