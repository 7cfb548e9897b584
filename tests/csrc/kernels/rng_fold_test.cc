#include "csrc/kernels/rng_fold.h"

#include <cstddef>
#include <cstdint>
#include <vector>

#include "csrc/kernels/threefry.h"
#include "gtest/gtest.h"

namespace flaxlayer {
namespace {

constexpr uint32_t kUntouched = 0xdeadbeef;

TEST(FoldStreamsTest, IsThreefryOfTheTagInTheSecondWord) {
  const std::vector<uint32_t> states = {7, 9, 0xffffffff, 0x80000000};
  const std::vector<uint32_t> tags = {0, 1, 0x7fffffff, 0x80000000, 0xffffffff};
  std::vector<uint32_t> keys(2 * tags.size() * 2, kUntouched);
  FoldStreams(states.data(), 2, tags.data(), tags.size(), keys.data());

  for (size_t i = 0; i < 2; ++i) {
    for (size_t j = 0; j < tags.size(); ++j) {
      const ThreefryBlock expected =
          Threefry2x32({states[2 * i], states[2 * i + 1]}, {0, tags[j]});
      const size_t at = 2 * (i * tags.size() + j);
      EXPECT_EQ(keys[at], expected.x0) << "state " << i << ", tag " << j;
      EXPECT_EQ(keys[at + 1], expected.x1) << "state " << i << ", tag " << j;
    }
  }
}

TEST(FoldStreamsTest, MatchesJax) {
  // jax.random.fold_in(jax.random.key(42, impl="threefry2x32"), t) for t in
  // 0, 1, 2**32 - 1.
  const std::vector<uint32_t> state = {0, 42};
  const std::vector<uint32_t> tags = {0, 1, 0xffffffff};
  std::vector<uint32_t> keys(6);
  FoldStreams(state.data(), 1, tags.data(), tags.size(), keys.data());
  EXPECT_EQ(keys, (std::vector<uint32_t>{0x6d3e048f, 0x1022172d, 0x3d7b32d,
                                         0xadd083f4, 0x8ef6c48d, 0xe7eb97ca}));
}

TEST(FoldStreamsTest, WritesNothingBeyondTheKeys) {
  const std::vector<uint32_t> state = {1, 2};
  const std::vector<uint32_t> tags = {3};
  std::vector<uint32_t> keys(4, kUntouched);
  FoldStreams(state.data(), 1, tags.data(), 1, keys.data());
  EXPECT_NE(keys[0], kUntouched);
  EXPECT_NE(keys[1], kUntouched);
  EXPECT_EQ(keys[2], kUntouched);
  EXPECT_EQ(keys[3], kUntouched);
}

TEST(FoldStreamsTest, EmptyCountsTouchNoPointer) {
  const std::vector<uint32_t> words = {1, 2};
  FoldStreams(nullptr, 0, words.data(), 2, nullptr);
  FoldStreams(words.data(), 1, nullptr, 0, nullptr);
  FoldStreams(nullptr, 0, nullptr, 0, nullptr);
}

}  // namespace
}  // namespace flaxlayer
