#include "csrc/kernels/random_words.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "csrc/kernels/instruction_set.h"
#include "csrc/kernels/threefry.h"
#include "gtest/gtest.h"
#include "tests/csrc/kernels/random_words_reference.h"

namespace flaxlayer {
namespace {

constexpr ThreefryKey kKey = {0x01234567, 0x89abcdef};
constexpr uint64_t kTo32 = uint64_t{1} << 32;
// As many blocks as the widest kernel computes at a time.
constexpr uint64_t kStep = 64;

// Where the lower half of the index overflows, and where all of it does: there
// just before a step, within one and after one.
constexpr uint64_t kStarts[] = {
    0,
    1,
    12345,
    kTo32 - 2 * kStep,
    kTo32 - kStep - 1,
    kTo32 - kStep,
    kTo32 - kStep + 1,
    kTo32 - 17,
    kTo32 - 1,
    kTo32,
    kTo32 + 5,
    (uint64_t{7} << 40) + 3,
    7 * kTo32 - 31,
    uint64_t{0} - kStep - 1,
    uint64_t{0} - kStep,
    uint64_t{0} - 9,
    uint64_t{0} - 1,
};

// Every instruction set in its turn; those that the machine lacks are skipped.
class RandomWordsTest : public testing::TestWithParam<InstructionSet> {
 protected:
  void SetUp() override {
    if (!Supported(GetParam())) {
      GTEST_SKIP() << "this machine has no " << InstructionSetName(GetParam());
    }
  }

  template <typename Kind>
  static void Call(Kind kind, ThreefryKey key, uint64_t start, size_t count,
                   typename Kind::Element* out) {
    kind.Call(RandomWordsFor(GetParam()), key, start, count, out);
  }

  // Into memory that is exactly large enough, so that AddressSanitizer sees
  // any access beyond it.
  template <typename Kind>
  static std::vector<typename Kind::Element> Words(Kind kind, ThreefryKey key,
                                                   uint64_t start,
                                                   size_t count) {
    using Element = typename Kind::Element;
    const size_t size = count * Kind::kPerBlock;
    const std::unique_ptr<Element[]> out(new Element[size]);
    Call(kind, key, start, count, out.get());
    return std::vector<Element>(out.get(), out.get() + size);
  }
};

INSTANTIATE_TEST_SUITE_P(
    InstructionSets, RandomWordsTest, testing::ValuesIn(kInstructionSets),
    [](const testing::TestParamInfo<InstructionSet>& info) {
      return std::string(InstructionSetName(info.param));
    });

TEST_P(RandomWordsTest, EqualThoseOfTheScalarFunction) {
  ForEachKind([](auto kind) {
    using Kind = decltype(kind);
    for (const uint64_t start : kStarts) {
      for (const size_t count : {1, 2, 3, 15, 16, 17, 31, 33, 63, 64, 65, 127,
                                 128, 129, 200, 1001}) {
        ASSERT_EQ(Words(kind, kKey, start, count),
                  ExpectedWords(kind, kKey, start, count))
            << Kind::kName << ", " << count << " from " << start;
      }
    }
  });
}

TEST_P(RandomWordsTest, EqualThoseOfTheScalarFunctionForEveryCount) {
  ForEachKind([](auto kind) {
    using Kind = decltype(kind);
    for (size_t count = 0; count <= 3 * kStep; ++count) {
      ASSERT_EQ(Words(kind, kKey, kTo32 - 70, count),
                ExpectedWords(kind, kKey, kTo32 - 70, count))
          << Kind::kName << ", " << count;
    }
  });
}

TEST_P(RandomWordsTest, UseBothWordsOfTheKey) {
  ForEachKind([](auto kind) {
    using Kind = decltype(kind);
    for (const ThreefryKey key :
         {ThreefryKey{0, 0}, ThreefryKey{0, 1}, ThreefryKey{0x80000000, 0},
          ThreefryKey{0xffffffff, 0xffffffff}}) {
      ASSERT_EQ(Words(kind, key, 0, 70), ExpectedWords(kind, key, 0, 70))
          << Kind::kName;
    }
  });
}

TEST_P(RandomWordsTest, WriteNothingElse) {
  ForEachKind([](auto kind) {
    using Kind = decltype(kind);
    using Element = typename Kind::Element;
    constexpr size_t kMargin = 2 * kStep;
    for (const size_t count : {0, 1, 5, 63, 64, 65, 130}) {
      const size_t size = count * Kind::kPerBlock;
      // Of two different fillings one at least differs from what was written.
      for (const Element filling : {Element{0x5a}, Element{0xa5}}) {
        std::vector<Element> out(size + 2 * kMargin, filling);
        Call(kind, kKey, 3, count, out.data() + kMargin);
        const auto untouched = [&](size_t begin, size_t end) {
          return std::all_of(out.begin() + begin, out.begin() + end,
                             [&](Element word) { return word == filling; });
        };
        EXPECT_TRUE(untouched(0, kMargin)) << Kind::kName << ", " << count;
        EXPECT_TRUE(untouched(kMargin + size, out.size()))
            << Kind::kName << ", " << count;
      }
    }
  });
}

TEST_P(RandomWordsTest, GoWhereverTheirTypeMayBe) {
  ForEachKind([](auto kind) {
    using Kind = decltype(kind);
    using Element = typename Kind::Element;
    constexpr size_t kCount = 200;
    constexpr size_t kSize = kCount * Kind::kPerBlock;
    const std::vector<Element> expected = ExpectedWords(kind, kKey, 8, kCount);
    for (size_t offset = 1; offset <= kStep; ++offset) {
      const std::unique_ptr<Element[]> out(new Element[offset + kSize]);
      Call(kind, kKey, 8, kCount, out.get() + offset);
      ASSERT_TRUE(
          std::equal(expected.begin(), expected.end(), out.get() + offset))
          << Kind::kName << ", " << offset;
    }
  });
}

TEST_P(RandomWordsTest, MakeTheSameWholeInPieces) {
  ForEachKind([](auto kind) {
    using Kind = decltype(kind);
    constexpr size_t kCount = 500;
    for (const uint64_t start : {uint64_t{0}, kTo32 - 130, uint64_t{0} - 77}) {
      const auto whole = Words(kind, kKey, start, kCount);
      for (const size_t piece : {1, 7, 63, 64, 65, 128, 499}) {
        auto pieces = whole;
        std::fill(pieces.begin(), pieces.end(), 0);
        for (size_t begin = 0; begin < kCount; begin += piece) {
          Call(kind, kKey, start + begin, std::min(piece, kCount - begin),
               pieces.data() + begin * Kind::kPerBlock);
        }
        ASSERT_EQ(pieces, whole) << Kind::kName << ", " << piece;
      }
    }
  });
}

TEST_P(RandomWordsTest, TouchNoPointerForNone) {
  ForEachKind([](auto kind) {
    Call(kind, kKey, 0, 0, nullptr);
    Call(kind, kKey, kTo32 - 1, 0, nullptr);
  });
}

// What follows came from JAX 0.12, jax_threefry_partitionable being its
// default, for the key jax.random.key(42, impl="threefry2x32").
constexpr ThreefryKey k42 = {0, 42};

TEST_P(RandomWordsTest, AreJaxsBits) {
  // jax.random.bits(key, (n,), dtype).
  EXPECT_EQ(
      Words(Words8{}, k42, 0, 8),
      (std::vector<uint8_t>{0xa2, 0xd9, 0xf9, 0xd7, 0x15, 0xd8, 0x99, 0xb0}));
  EXPECT_EQ(
      Words(Words16{}, k42, 0, 6),
      (std::vector<uint16_t>{0x13a2, 0x30d9, 0xf9f9, 0xc1d7, 0x7315, 0x4ed8}));
  EXPECT_EQ(Words(Words32{}, k42, 0, 5),
            (std::vector<uint32_t>{0x7d1c13a2, 0xae0730d9, 0x9dc3f9f9,
                                   0x8f9ec1d7, 0x735d7315}));
  EXPECT_EQ(Words(Words64{}, k42, 0, 3),
            (std::vector<uint64_t>{0x6d3e048f1022172d, 0x03d7b32dadd083f4,
                                   0x92fb20ea0f38d913}));
  // jax.random.bits(key, (1000,), "uint32")[995:].
  EXPECT_EQ(Words(Words32{}, k42, 995, 5),
            (std::vector<uint32_t>{0x019c5a73, 0x7ea6c13f, 0x51eb31df,
                                   0xf2508a94, 0x5dc2d15a}));
}

TEST_P(RandomWordsTest, AreJaxsNewKeys) {
  // jax.random.split(key, 3).
  EXPECT_EQ(Words(Blocks{}, k42, 0, 3),
            (std::vector<uint32_t>{0x6d3e048f, 0x1022172d, 0x03d7b32d,
                                   0xadd083f4, 0x92fb20ea, 0x0f38d913}));
}

TEST_P(RandomWordsTest, AreJaxsBeyond32Bits) {
  // jax.extend.random.threefry2x32_p of the counters (0, 0xffffffff), (1, 0)
  // and (1, 1); then of (0xffffffff, 0xffffffff).
  EXPECT_EQ(Words(Blocks{}, k42, kTo32 - 1, 3),
            (std::vector<uint32_t>{0x8ef6c48d, 0xe7eb97ca, 0x19a3f86f,
                                   0xcfbc07f9, 0x44ca21e3, 0x1c35f481}));
  EXPECT_EQ(Words(Blocks{}, k42, uint64_t{0} - 1, 1),
            (std::vector<uint32_t>{0x0d87197a, 0x5a4ff6a6}));
}

TEST(RandomWordsChoiceTest, IsTheBestSet) {
  EXPECT_EQ(&RandomWords(), &RandomWordsFor(BestInstructionSet()));
}

TEST(RandomWordsChoiceTest, TellsSetsApart) {
  for (const InstructionSet set : kInstructionSets) {
    if (!Supported(set) || set == InstructionSet::kBaseline) continue;
    const RandomWordsKernels& baseline =
        RandomWordsFor(InstructionSet::kBaseline);
    EXPECT_NE(RandomWordsFor(set).words32, baseline.words32)
        << InstructionSetName(set);
  }
}

}  // namespace
}  // namespace flaxlayer
