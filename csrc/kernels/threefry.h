// The Threefry-2x32 block function with 20 rounds.
//
// Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3",
// SC 2011, section 4; the rotation distances are those of the Random123
// library (R_32x2_*), which JAX's threefry2x32 uses too.

#ifndef FLAXLAYER_CSRC_KERNELS_THREEFRY_H_
#define FLAXLAYER_CSRC_KERNELS_THREEFRY_H_

#include <cstdint>

namespace flaxlayer {

struct ThreefryKey {
  uint32_t k0;
  uint32_t k1;
};

struct ThreefryBlock {
  uint32_t x0;
  uint32_t x1;
};

// The key schedule: twenty rounds, with a part of the key added before them and
// after every fourth.
//
// ROUND(distance) and INJECT(to_x0, to_x1, count) say how these are done, to
// one block, to vectors of them, or in the text of a kernel for GPUs; `count`
// goes to x1. A macro and not a template, since code for one instruction set
// must not call a function that is compiled for another: it would be inlined
// after its vectors have been taken apart, or not at all.
// clang-format off
#define FLAXLAYER_THREEFRY2X32(ROUND, INJECT, k0, k1, k2)       \
  INJECT(k0, k1, 0)                                             \
  ROUND(13) ROUND(15) ROUND(26) ROUND(6)  INJECT(k1, k2, 1)     \
  ROUND(17) ROUND(29) ROUND(16) ROUND(24) INJECT(k2, k0, 2)     \
  ROUND(13) ROUND(15) ROUND(26) ROUND(6)  INJECT(k0, k1, 3)     \
  ROUND(17) ROUND(29) ROUND(16) ROUND(24) INJECT(k1, k2, 4)     \
  ROUND(13) ROUND(15) ROUND(26) ROUND(6)  INJECT(k2, k0, 5)
// clang-format on

// The third word of the key schedule; the constant is Skein's C240, low word.
#define FLAXLAYER_THREEFRY_PARITY(k0, k1) ((k0) ^ (k1) ^ 0x1BD11BDAu)

// Encrypts the counter `block` under `key`.
inline ThreefryBlock Threefry2x32(ThreefryKey key, ThreefryBlock block) {
  const uint32_t k0 = key.k0;
  const uint32_t k1 = key.k1;
  const uint32_t k2 = FLAXLAYER_THREEFRY_PARITY(k0, k1);
  uint32_t x0 = block.x0;
  uint32_t x1 = block.x1;
#define FLAXLAYER_ROUND(distance)                    \
  x0 += x1;                                          \
  x1 = (x1 << distance) | (x1 >> (32 - (distance))); \
  x1 ^= x0;
#define FLAXLAYER_INJECT(to_x0, to_x1, count) \
  x0 += to_x0;                                \
  x1 += to_x1 + count;
  FLAXLAYER_THREEFRY2X32(FLAXLAYER_ROUND, FLAXLAYER_INJECT, k0, k1, k2)
#undef FLAXLAYER_ROUND
#undef FLAXLAYER_INJECT
  return {x0, x1};
}

}  // namespace flaxlayer

#endif  // FLAXLAYER_CSRC_KERNELS_THREEFRY_H_
