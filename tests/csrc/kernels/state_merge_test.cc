#include "csrc/kernels/state_merge.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "gtest/gtest.h"

namespace flaxlayer {
namespace {

// Whether the numbers with these bits are finite. They are in memory that is
// exactly large enough, so that AddressSanitizer sees an access beyond it.
template <typename Bits>
bool Finite(FloatFormat format, const std::vector<Bits>& numbers) {
  const size_t size = numbers.size() * sizeof(Bits);
  std::unique_ptr<unsigned char[]> data(new unsigned char[size]);
  if (size > 0) std::memcpy(data.get(), numbers.data(), size);
  return AllFinite(format, data.get(), size);
}

// Every number of 16 bits, with `exponent` the bits of the exponent.
void ExpectEvery16(FloatFormat format, uint16_t exponent) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const bool finite = (bits & exponent) != exponent;
    ASSERT_EQ(Finite<uint16_t>(format, {static_cast<uint16_t>(bits)}), finite)
        << bits;
  }
}

TEST(AllFiniteTest, KnowsEveryF16) { ExpectEvery16(FloatFormat::kF16, 0x7c00); }

TEST(AllFiniteTest, KnowsEveryBF16) {
  ExpectEvery16(FloatFormat::kBF16, 0x7f80);
}

template <typename Float, typename Bits>
void ExpectEdges(FloatFormat format) {
  using Limits = std::numeric_limits<Float>;
  const auto bits = [](Float number) {
    Bits result;
    std::memcpy(&result, &number, sizeof(result));
    return result;
  };
  const Bits infinity = bits(Limits::infinity());
  const Bits sign = Bits{1} << (8 * sizeof(Bits) - 1);
  for (const Bits magnitude :
       {Bits{0}, bits(Limits::denorm_min()),
        static_cast<Bits>(bits(Limits::min()) - 1), bits(Limits::min()),
        bits(Float{1}), bits(Limits::max()), static_cast<Bits>(infinity - 1)}) {
    EXPECT_TRUE(Finite<Bits>(format, {magnitude})) << magnitude;
    EXPECT_TRUE(Finite<Bits>(format, {magnitude | sign})) << magnitude;
  }
  for (const Bits magnitude :
       {infinity, static_cast<Bits>(infinity + 1), bits(Limits::quiet_NaN()),
        bits(Limits::signaling_NaN()), static_cast<Bits>(sign - 1)}) {
    EXPECT_FALSE(Finite<Bits>(format, {magnitude})) << magnitude;
    EXPECT_FALSE(Finite<Bits>(format, {magnitude | sign})) << magnitude;
  }
}

TEST(AllFiniteTest, KnowsTheEdgesOfF32) {
  ExpectEdges<float, uint32_t>(FloatFormat::kF32);
}

TEST(AllFiniteTest, KnowsTheEdgesOfF64) {
  ExpectEdges<double, uint64_t>(FloatFormat::kF64);
}

// One number that is not finite among those with the largest bits that are: at
// every place of any number of them, up to where all that the kernel does at a
// time is done twice and there is a rest.
template <typename Bits>
void ExpectFoundEverywhere(FloatFormat format, Bits infinity) {
  const Bits sign = Bits{1} << (8 * sizeof(Bits) - 1);
  const Bits largest = (infinity - 1) | sign;
  for (size_t size = 0; size <= 160 / sizeof(Bits); ++size) {
    std::vector<Bits> numbers(size, largest);
    EXPECT_TRUE(Finite(format, numbers));
    for (Bits& number : numbers) {
      for (const Bits bad : {infinity, static_cast<Bits>(~Bits{0})}) {
        number = bad;
        EXPECT_FALSE(Finite(format, numbers)) << (&number - numbers.data());
      }
      number = largest;
    }
  }
}

TEST(AllFiniteTest, FindsOneAtAnyPlace) {
  ExpectFoundEverywhere<uint16_t>(FloatFormat::kF16, 0x7c00);
  ExpectFoundEverywhere<uint16_t>(FloatFormat::kBF16, 0x7f80);
  ExpectFoundEverywhere<uint32_t>(FloatFormat::kF32, 0x7f800000);
  ExpectFoundEverywhere<uint64_t>(FloatFormat::kF64, 0x7ff0000000000000);
}

TEST(AllFiniteTest, FindsOneAmongMany) {
  for (const size_t size : {1023, 1024, 1025, 4096, 5000}) {
    std::vector<float> numbers(size, 1.0f);
    EXPECT_TRUE(Finite(FloatFormat::kF32, numbers));
    for (size_t at = 0; at < size; at += 31) {
      numbers[at] = std::numeric_limits<float>::quiet_NaN();
      EXPECT_FALSE(Finite(FloatFormat::kF32, numbers)) << at << " of " << size;
      numbers[at] = 1.0f;
    }
    numbers.back() = std::numeric_limits<float>::infinity();
    EXPECT_FALSE(Finite(FloatFormat::kF32, numbers)) << size;
  }
}

TEST(AllFiniteTest, NeedsNoAlignment) {
  std::vector<unsigned char> bytes(3 + 100 * sizeof(double));
  std::vector<double> numbers(100, -1.5);
  for (size_t offset = 0; offset <= 3; ++offset) {
    std::memcpy(bytes.data() + offset, numbers.data(), 100 * sizeof(double));
    EXPECT_TRUE(AllFinite(FloatFormat::kF64, bytes.data() + offset, 800));
  }
  numbers[99] = -std::numeric_limits<double>::infinity();
  std::memcpy(bytes.data() + 1, numbers.data(), 100 * sizeof(double));
  EXPECT_FALSE(AllFinite(FloatFormat::kF64, bytes.data() + 1, 800));
  EXPECT_TRUE(AllFinite(FloatFormat::kF64, bytes.data() + 1, 792));
}

TEST(AllFiniteTest, TouchesNoEmptyMemory) {
  for (const FloatFormat format : {FloatFormat::kF16, FloatFormat::kBF16,
                                   FloatFormat::kF32, FloatFormat::kF64}) {
    EXPECT_TRUE(AllFinite(format, nullptr, 0));
  }
}

}  // namespace
}  // namespace flaxlayer
