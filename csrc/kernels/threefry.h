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

namespace internal {

template <int kDistance>
inline uint32_t RotateLeft(uint32_t x) {
  static_assert(kDistance > 0 && kDistance < 32, "shift would be undefined");
  return (x << kDistance) | (x >> (32 - kDistance));
}

template <int kDistance>
inline void ThreefryRound(ThreefryBlock& block) {
  block.x0 += block.x1;
  block.x1 = RotateLeft<kDistance>(block.x1) ^ block.x0;
}

// Four rounds, then the key injection that follows them.
template <int kR0, int kR1, int kR2, int kR3>
inline void ThreefryRounds(ThreefryBlock& block, uint32_t inject0,
                           uint32_t inject1) {
  ThreefryRound<kR0>(block);
  ThreefryRound<kR1>(block);
  ThreefryRound<kR2>(block);
  ThreefryRound<kR3>(block);
  block.x0 += inject0;
  block.x1 += inject1;
}

}  // namespace internal

// Encrypts the counter `block` under `key`.
//
// Defined here rather than in a source file of its own, because its callers are
// loops over many blocks which the compiler can only vectorize when it sees the
// body.
inline ThreefryBlock Threefry2x32(ThreefryKey key, ThreefryBlock block) {
  // The parity constant of the key schedule (Skein's C240, low word).
  constexpr uint32_t kParity = 0x1BD11BDA;
  const uint32_t k0 = key.k0;
  const uint32_t k1 = key.k1;
  const uint32_t k2 = k0 ^ k1 ^ kParity;

  block.x0 += k0;
  block.x1 += k1;
  internal::ThreefryRounds<13, 15, 26, 6>(block, k1, k2 + 1);
  internal::ThreefryRounds<17, 29, 16, 24>(block, k2, k0 + 2);
  internal::ThreefryRounds<13, 15, 26, 6>(block, k0, k1 + 3);
  internal::ThreefryRounds<17, 29, 16, 24>(block, k1, k2 + 4);
  internal::ThreefryRounds<13, 15, 26, 6>(block, k2, k0 + 5);
  return block;
}

}  // namespace flaxlayer

#endif  // FLAXLAYER_CSRC_KERNELS_THREEFRY_H_
