#include "csrc/kernels/threefry.h"

#include <cstdint>

#include "gtest/gtest.h"

namespace flaxlayer {
namespace {

struct KnownAnswer {
  ThreefryKey key;
  ThreefryBlock counter;
  ThreefryBlock expected;
};

class ThreefryKnownAnswerTest : public testing::TestWithParam<KnownAnswer> {};

TEST_P(ThreefryKnownAnswerTest, Encrypts) {
  const KnownAnswer& vector = GetParam();
  const ThreefryBlock result = Threefry2x32(vector.key, vector.counter);
  EXPECT_EQ(result.x0, vector.expected.x0);
  EXPECT_EQ(result.x1, vector.expected.x1);
}

// "threefry2x32 20" of the known-answer file of the Random123 library.
INSTANTIATE_TEST_SUITE_P(
    Random123, ThreefryKnownAnswerTest,
    testing::Values(KnownAnswer{{0, 0}, {0, 0}, {0x6b200159, 0x99ba4efe}},
                    KnownAnswer{{0xffffffff, 0xffffffff},
                                {0xffffffff, 0xffffffff},
                                {0x1cb996fc, 0xbb002be7}},
                    // The digits of pi.
                    KnownAnswer{{0x13198a2e, 0x03707344},
                                {0x243f6a88, 0x85a308d3},
                                {0xc4923a9c, 0x483df7a0}}));

// threefry2x32_p of JAX 0.12.
INSTANTIATE_TEST_SUITE_P(
    Jax, ThreefryKnownAnswerTest,
    testing::Values(KnownAnswer{{0, 42}, {0, 0}, {0x6d3e048f, 0x1022172d}},
                    KnownAnswer{
                        {0, 42}, {0, 0xffffffff}, {0x8ef6c48d, 0xe7eb97ca}},
                    KnownAnswer{{0, 42}, {1, 0}, {0x19a3f86f, 0xcfbc07f9}}));

}  // namespace
}  // namespace flaxlayer
