#include "csrc/kernels/fold_in.h"

#include <cstddef>
#include <cstdint>
#include <vector>

#include "csrc/kernels/threefry.h"
#include "gtest/gtest.h"

namespace flaxlayer {
namespace {

constexpr uint32_t kUntouched = 0xdeadbeef;

TEST(FoldInTest, IsThreefryOfTheDatumInTheSecondWord) {
  const std::vector<uint32_t> data = {0, 1, 0x7fffffff, 0x80000000, 0xffffffff};
  for (const ThreefryKey key :
       {ThreefryKey{7, 9}, ThreefryKey{0xffffffff, 0x80000000}}) {
    std::vector<uint32_t> keys(2 * data.size(), kUntouched);
    FoldIn(key, data.data(), data.size(), keys.data());
    for (size_t i = 0; i < data.size(); ++i) {
      const ThreefryBlock expected = Threefry2x32(key, {0, data[i]});
      EXPECT_EQ(keys[2 * i], expected.x0) << data[i];
      EXPECT_EQ(keys[2 * i + 1], expected.x1) << data[i];
    }
  }
}

TEST(FoldInTest, MatchesJax) {
  // jax.random.fold_in(key, datum) for the key
  // jax.random.key(42, impl="threefry2x32") and 0, 1, 2**32 - 1.
  const std::vector<uint32_t> data = {0, 1, 0xffffffff};
  std::vector<uint32_t> keys(6);
  FoldIn({0, 42}, data.data(), data.size(), keys.data());
  EXPECT_EQ(keys, (std::vector<uint32_t>{0x6d3e048f, 0x1022172d, 0x03d7b32d,
                                         0xadd083f4, 0x8ef6c48d, 0xe7eb97ca}));

  // jax.random.wrap_key_data of these two words and 0, 7, 2**32 - 1.
  const std::vector<uint32_t> other_data = {0, 7, 0xffffffff};
  FoldIn({0xdeadbeef, 0x01234567}, other_data.data(), 3, keys.data());
  EXPECT_EQ(keys, (std::vector<uint32_t>{0xf624e9c1, 0xd1226ece, 0x2a756eaa,
                                         0xb283691b, 0x00e7e493, 0xe7422c77}));
}

TEST(FoldInTest, WritesNothingBeyondTheKeys) {
  const std::vector<uint32_t> data = {3};
  std::vector<uint32_t> keys(4, kUntouched);
  FoldIn({1, 2}, data.data(), 1, keys.data());
  EXPECT_NE(keys[0], kUntouched);
  EXPECT_NE(keys[1], kUntouched);
  EXPECT_EQ(keys[2], kUntouched);
  EXPECT_EQ(keys[3], kUntouched);
}

TEST(FoldInTest, TouchesNoPointerForNone) {
  FoldIn({1, 2}, nullptr, 0, nullptr);
}

}  // namespace
}  // namespace flaxlayer
