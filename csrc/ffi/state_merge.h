// The XLA FFI handler that takes over new state, or keeps the old.

#ifndef FLAXLAYER_CSRC_FFI_STATE_MERGE_H_
#define FLAXLAYER_CSRC_FFI_STATE_MERGE_H_

#include "xla/ffi/api/ffi.h"

// Custom call target "flaxlayer_state_merge", for any number n of leaves.
//
//   operand 0:           update, pred[...]
//   operands 1 to n:     the old leaves
//   operands n+1 to 2n:  the new leaves
//   result 0:            taken, pred[...], with the dimensions of update
//   results 1 to n:      the merged leaves
//
// The three of a leaf have the same dimensions, which begin with those of
// update, and the same type: pred, f16, bf16, f32, f64, c64, c128, or integers
// of 8 to 64 bits. For each element of update, its part of all merged leaves is
// that of the new ones, and the element of `taken` true, or that of the old
// ones, and false: the old ones where update is false, or where a number in its
// part of any new leaf is infinite or NaN.
//
// A merged leaf is in the buffer of the old one, which saves copying what is
// kept, or in one that shares no memory with any other operand or result.
//
// Anything else returns INVALID_ARGUMENT and writes nothing. Large leaves are
// read and written by several threads of XLA.
XLA_FFI_DECLARE_HANDLER_SYMBOL(FlaxlayerStateMerge);

#endif  // FLAXLAYER_CSRC_FFI_STATE_MERGE_H_
