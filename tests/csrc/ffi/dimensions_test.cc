#include "csrc/ffi/dimensions.h"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "gtest/gtest.h"

namespace flaxlayer {
namespace {

using Vector = std::vector<int64_t>;

constexpr int64_t kMax = std::numeric_limits<int64_t>::max();

TEST(ShapeStringTest, IsWrittenAsXlaDoes) {
  EXPECT_EQ(ShapeString("u32", Vector{}), "u32[]");
  EXPECT_EQ(ShapeString("u8", Vector{7}), "u8[7]");
  EXPECT_EQ(ShapeString("", Vector{3, 0, -1}), "[3,0,-1]");
}

TEST(AreKeysTest, IfTheLastAxisHasTwo) {
  EXPECT_TRUE(AreKeys(Vector{2}));
  EXPECT_TRUE(AreKeys(Vector{0, 2}));
  EXPECT_TRUE(AreKeys(Vector{5, 7, 2}));
  EXPECT_FALSE(AreKeys(Vector{}));
  EXPECT_FALSE(AreKeys(Vector{0}));
  EXPECT_FALSE(AreKeys(Vector{-2}));
  EXPECT_FALSE(AreKeys(Vector{4}));
  EXPECT_FALSE(AreKeys(Vector{2, 3}));
}

TEST(BeginWithThoseOfTest, ComparesAllButTheLastOfTheKeys) {
  EXPECT_TRUE(BeginWithThoseOf(Vector{}, Vector{2}));
  EXPECT_TRUE(BeginWithThoseOf(Vector{9, 9}, Vector{2}));
  EXPECT_TRUE(BeginWithThoseOf(Vector{3, 4}, Vector{3, 4, 2}));
  EXPECT_TRUE(BeginWithThoseOf(Vector{3, 4, 9}, Vector{3, 4, 2}));
  EXPECT_FALSE(BeginWithThoseOf(Vector{}, Vector{3, 2}));
  EXPECT_FALSE(BeginWithThoseOf(Vector{3}, Vector{3, 4, 2}));
  EXPECT_FALSE(BeginWithThoseOf(Vector{4, 3}, Vector{3, 4, 2}));
  EXPECT_FALSE(BeginWithThoseOf(Vector{3, 5, 2}, Vector{3, 4, 2}));
}

TEST(ProductTest, IsThatOfTheGivenRange) {
  const Vector dims = {3, 5, 7};
  size_t product = 99;
  EXPECT_TRUE(Product(dims, 0, 3, &product));
  EXPECT_EQ(product, 105u);
  EXPECT_TRUE(Product(dims, 1, 2, &product));
  EXPECT_EQ(product, 5u);
  EXPECT_TRUE(Product(dims, 2, 2, &product));
  EXPECT_EQ(product, 1u);
  EXPECT_TRUE(Product(Vector{}, 0, 0, &product));
  EXPECT_EQ(product, 1u);
}

TEST(ProductTest, MayBeZero) {
  size_t product = 99;
  EXPECT_TRUE(Product(Vector{0}, 0, 1, &product));
  EXPECT_EQ(product, 0u);
  EXPECT_TRUE(Product(Vector{4, 0, kMax, kMax}, 0, 4, &product));
  EXPECT_EQ(product, 0u);
}

TEST(ProductTest, IsNoneOfNegativeNumbers) {
  size_t product = 99;
  EXPECT_FALSE(Product(Vector{-1}, 0, 1, &product));
  EXPECT_FALSE(Product(Vector{-3, -3}, 0, 2, &product));
  EXPECT_FALSE(Product(Vector{0, -1}, 0, 2, &product));
  EXPECT_FALSE(
      Product(Vector{std::numeric_limits<int64_t>::min()}, 0, 1, &product));
  EXPECT_EQ(product, 99u);
  // What is outside of the range does not matter.
  EXPECT_TRUE(Product(Vector{-1, 6, -1}, 1, 2, &product));
  EXPECT_EQ(product, 6u);
}

TEST(ProductTest, IsNoneWhereItOverflows) {
  const int64_t k32 = int64_t{1} << 32;
  size_t product = 99;
  EXPECT_FALSE(Product(Vector{k32, k32}, 0, 2, &product));
  EXPECT_FALSE(Product(Vector{kMax, 3}, 0, 2, &product));
  EXPECT_FALSE(Product(Vector{2, kMax, 2}, 0, 3, &product));
  EXPECT_FALSE(Product(Vector{k32, k32 / 2, 2}, 0, 3, &product));
  EXPECT_EQ(product, 99u);
}

TEST(ProductTest, MayBeAsLargeAsASizeIs) {
  if (sizeof(size_t) != 8) GTEST_SKIP() << "the numbers are for 64 bits";
  const int64_t k32 = int64_t{1} << 32;
  size_t product = 0;
  EXPECT_TRUE(Product(Vector{kMax, 2}, 0, 2, &product));
  EXPECT_EQ(product, std::numeric_limits<size_t>::max() - 1);
  // 2^64 - 1.
  EXPECT_TRUE(Product(Vector{k32 - 1, k32 + 1}, 0, 2, &product));
  EXPECT_EQ(product, std::numeric_limits<size_t>::max());
}

}  // namespace
}  // namespace flaxlayer
