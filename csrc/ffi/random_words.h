// The XLA FFI handlers of random words: bits for samplers, and keys for split.

#ifndef FLAXLAYER_CSRC_FFI_RANDOM_WORDS_H_
#define FLAXLAYER_CSRC_FFI_RANDOM_WORDS_H_

#include "xla/ffi/api/ffi.h"

// Custom call target "flaxlayer_random_bits".
//
//   operand 0: keys, u32[..., 2]
//   result 0:  the words, u8, u16, u32 or u64[..., *shape], with the leading
//              axes of the keys and any further ones; every key's words start
//              at index 0
//
// Anything else returns INVALID_ARGUMENT and writes nothing. Large results are
// computed by several threads of XLA.
XLA_FFI_DECLARE_HANDLER_SYMBOL(FlaxlayerRandomBits);

// Custom call target "flaxlayer_random_split".
//
//   operand 0: keys, u32[..., 2]
//   result 0:  the new keys, u32[..., *shape, 2], with the leading axes of the
//              keys and any further ones
//
// Anything else returns INVALID_ARGUMENT and writes nothing.
XLA_FFI_DECLARE_HANDLER_SYMBOL(FlaxlayerRandomSplit);

#endif  // FLAXLAYER_CSRC_FFI_RANDOM_WORDS_H_
