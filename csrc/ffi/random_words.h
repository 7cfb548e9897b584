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

// Custom call target "flaxlayer_random_block": a part of what random_bits
// returns, such as the one that a device of several has.
//
//   operand 0: keys, u32[..., 2]
//   operand 1: for each axis of the whole, where the part begins, u32[rank]
//   attribute "whole": the sizes of the whole, rank numbers of 64 bits
//   result 0:  the words, u8, u16, u32 or u64[..., *part], with the leading
//              axes of the keys, and `rank` more: every word is that of its
//              index in the whole
//
// Anything else, such as a part that is not within the whole, returns
// INVALID_ARGUMENT and writes nothing. Large results are computed by several
// threads of XLA.
XLA_FFI_DECLARE_HANDLER_SYMBOL(FlaxlayerRandomBlock);

// Custom call target "flaxlayer_random_split".
//
//   operand 0: keys, u32[..., 2]
//   result 0:  the new keys, u32[..., *shape, 2], with the leading axes of the
//              keys and any further ones
//
// Anything else returns INVALID_ARGUMENT and writes nothing.
XLA_FFI_DECLARE_HANDLER_SYMBOL(FlaxlayerRandomSplit);

#endif  // FLAXLAYER_CSRC_FFI_RANDOM_WORDS_H_
