// Threefry kernels for CUDA devices, as the text that the driver compiles.
//
// PTX and not CUDA C++: the driver of the machine compiles it, for whichever
// card is there, so that neither a build nor a wheel needs CUDA. There is
// little to gain by a compiler: a kernel is the rounds, of which each is three
// instructions.

#ifndef FLAXLAYER_CSRC_CUDA_THREEFRY_PTX_H_
#define FLAXLAYER_CSRC_CUDA_THREEFRY_PTX_H_

namespace flaxlayer {

// A module of kernels. Each takes, as 64-bit parameters, in this order:
//
//   keys: the address of num_keys x 2 words.
//   out: the address of the result.
//   per_key: how many blocks, or words, are computed under each key.
//   num_keys: how many keys there are.
//   data: the address of num_keys x per_key words. Of fold_in only.
//
// The kernels, and what they write for index i under a key:
//
//   flaxlayer_fold_in: Threefry2x32(key, (0, data[i])), two words.
//   flaxlayer_random_split: the two words of
//     Threefry2x32(key, (high half of i, low half of i)).
//   flaxlayer_random_bits8, 16 and 32: so many low bits of the exclusive or of
//     these two words.
//   flaxlayer_random_bits64: both, the first one above.
//
// Any grid of blocks of threads computes all of it: its first axis is for
// indices and its second for keys.
extern const char kThreefryPtx[];

}  // namespace flaxlayer

#endif  // FLAXLAYER_CSRC_CUDA_THREEFRY_PTX_H_
