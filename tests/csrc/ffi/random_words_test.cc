#include "csrc/ffi/random_words.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "csrc/kernels/threefry.h"
#include "gtest/gtest.h"
#include "tests/csrc/ffi/call_frame.h"
#include "tests/csrc/ffi/fake_api.h"
#include "tests/csrc/ffi/test_buffer.h"
#include "tests/csrc/kernels/random_words_reference.h"

namespace flaxlayer {
namespace {

using Dims = std::vector<int64_t>;

constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
constexpr int64_t kTo32 = int64_t{1} << 32;

// A call of either handler, by default a well-formed one of which each test
// spoils one thing.
struct Case {
  XLA_FFI_Handler* handler = FlaxlayerRandomBits;
  XLA_FFI_DataType keys_dtype = XLA_FFI_DataType_U32;
  Dims keys_dims = {2};
  XLA_FFI_DataType result_dtype = XLA_FFI_DataType_U32;
  Dims result_dims = {3};
  FakeThreadPool* pool = nullptr;
};

Case SplitCase() {
  Case c;
  c.handler = FlaxlayerRandomSplit;
  c.result_dims = {3, 2};
  return c;
}

struct Outcome {
  std::optional<CallError> error;
  std::vector<uint32_t> keys;
  TestBuffer result;
};

Outcome Call(const Case& c) {
  TestBuffer keys(c.keys_dtype, c.keys_dims);
  std::vector<uint32_t> words(keys.size() / sizeof(uint32_t));
  for (size_t i = 0; i < words.size(); ++i) {
    words[i] = static_cast<uint32_t>(0x9e3779b9u * (i + 1));
  }
  keys.SetElements(words);
  TestBuffer result(c.result_dtype, c.result_dims);
  auto error = FakeCall()
                   .Operand(c.keys_dtype, c.keys_dims, keys.bytes())
                   .Result(c.result_dtype, c.result_dims, result.bytes())
                   .Threads(c.pool)
                   .Run(c.handler);
  EXPECT_EQ(keys.Elements<uint32_t>(), words);
  return {std::move(error), std::move(words), std::move(result)};
}

// That the call succeeds, and the result has the same number of blocks of this
// kind for each key.
template <typename Kind>
void ExpectWords(Kind kind, const Case& c) {
  using Element = typename Kind::Element;
  SCOPED_TRACE(Kind::kName);
  const Outcome outcome = Call(c);
  ASSERT_FALSE(outcome.error.has_value()) << outcome.error->message;
  const std::vector<Element> result = outcome.result.Elements<Element>();
  const size_t num_keys = outcome.keys.size() / 2;
  std::vector<Element> expected;
  for (size_t i = 0; i < num_keys; ++i) {
    const std::vector<Element> words =
        ExpectedWords(kind, {outcome.keys[2 * i], outcome.keys[2 * i + 1]}, 0,
                      result.size() / Kind::kPerBlock / num_keys);
    expected.insert(expected.end(), words.begin(), words.end());
  }
  // Not EXPECT_EQ, which would print them all.
  EXPECT_TRUE(result == expected);
}

// The same for words of all widths and for new keys. `shape` is that of the
// words without the leading axes of the keys.
void ExpectWordsOfAllKinds(const Dims& leading, const Dims& shape,
                           FakeThreadPool* pool) {
  Case bits;
  bits.keys_dims = leading;
  bits.keys_dims.push_back(2);
  bits.result_dims = leading;
  bits.result_dims.insert(bits.result_dims.end(), shape.begin(), shape.end());
  bits.pool = pool;
  bits.result_dtype = XLA_FFI_DataType_U8;
  ExpectWords(Words8{}, bits);
  bits.result_dtype = XLA_FFI_DataType_U16;
  ExpectWords(Words16{}, bits);
  bits.result_dtype = XLA_FFI_DataType_U32;
  ExpectWords(Words32{}, bits);
  bits.result_dtype = XLA_FFI_DataType_U64;
  ExpectWords(Words64{}, bits);

  Case split = bits;
  split.handler = FlaxlayerRandomSplit;
  split.result_dtype = XLA_FFI_DataType_U32;
  split.result_dims.push_back(2);
  ExpectWords(Blocks{}, split);
}

void ExpectInvalid(const Case& c, const std::string& text) {
  const Outcome outcome = Call(c);
  ASSERT_TRUE(outcome.error.has_value());
  EXPECT_EQ(outcome.error->code, XLA_FFI_Error_Code_INVALID_ARGUMENT);
  EXPECT_NE(outcome.error->message.find(text), std::string::npos)
      << outcome.error->message;
  EXPECT_TRUE(outcome.result.is_untouched());
}

TEST(RandomWordsHandlersTest, FillAnyShape) {
  for (const Dims& shape : {Dims{}, Dims{1}, Dims{5}, Dims{129}, Dims{3, 7},
                            Dims{2, 1, 33}, Dims{0}, Dims{3, 0}}) {
    ExpectWordsOfAllKinds({}, shape, nullptr);
  }
}

TEST(RandomWordsHandlersTest, StartAnewForEachKey) {
  for (const Dims& shape : {Dims{}, Dims{1}, Dims{70}, Dims{3, 7}, Dims{0}}) {
    ExpectWordsOfAllKinds({4}, shape, nullptr);
    ExpectWordsOfAllKinds({2, 3}, shape, nullptr);
    ExpectWordsOfAllKinds({1, 1, 1}, shape, nullptr);
  }
}

TEST(RandomWordsHandlersTest, TakeNoKeys) {
  Case c;
  c.keys_dims = {0, 2};
  c.result_dims = {0, 7};
  EXPECT_FALSE(Call(c).error.has_value());
  c.keys_dims = {3, 0, 2};
  c.result_dims = {3, 0};
  EXPECT_FALSE(Call(c).error.has_value());
  c = SplitCase();
  c.keys_dims = {0, 2};
  c.result_dims = {0, 3, 2};
  EXPECT_FALSE(Call(c).error.has_value());
}

// Shapes that several threads share: parts end within the words of a key, or
// have those of many keys.
const struct {
  Dims leading;
  Dims shape;
} kLarge[] = {
    {{}, {65537}},  {{}, {300007}},    {{}, {3, 65536, 2}}, {{7}, {40001}},
    {{2}, {65536}}, {{3, 32001}, {3}}, {{150001}, {}},
};

TEST(RandomWordsHandlersTest, DivideLargeResultsAmongThreads) {
  for (const Tasks tasks : {Tasks::kOnThreads, Tasks::kInline, Tasks::kLate}) {
    for (const auto& [leading, shape] : kLarge) {
      FakeThreadPool pool(4, tasks);
      ExpectWordsOfAllKinds(leading, shape, &pool);
      EXPECT_GT(pool.num_scheduled(), 0u);
    }
  }
}

TEST(RandomWordsHandlersTest, NeedNoThreadsForLargeResults) {
  FakeThreadPool one(1, Tasks::kLate);
  FakeThreadPool none(0, Tasks::kLate);
  for (const auto& [leading, shape] : kLarge) {
    ExpectWordsOfAllKinds(leading, shape, nullptr);
    ExpectWordsOfAllKinds(leading, shape, &one);
    ExpectWordsOfAllKinds(leading, shape, &none);
  }
  EXPECT_EQ(one.num_scheduled(), 0u);
  EXPECT_EQ(none.num_scheduled(), 0u);
}

TEST(RandomWordsHandlersTest, KeepSmallResultsToTheirThread) {
  FakeThreadPool pool(4, Tasks::kLate);
  ExpectWordsOfAllKinds({}, {1000}, &pool);
  ExpectWordsOfAllKinds({10}, {100}, &pool);
  EXPECT_EQ(pool.num_scheduled(), 0u);
}

TEST(RandomWordsHandlersTest, MayBeCalledAtTheSameTime) {
  FakeThreadPool pool(3, Tasks::kOnThreads);
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([&] { ExpectWordsOfAllKinds({3}, {7001}, &pool); });
  }
  for (std::thread& caller : callers) caller.join();
}

TEST(RandomBitsHandlerTest, RejectsOtherKeys) {
  for (const Dims& dims : {Dims{}, Dims{0}, Dims{1}, Dims{3}, Dims{4}, Dims{-2},
                           Dims{2, 1}, Dims{2, 4}, Dims{2, 0}}) {
    Case c;
    c.keys_dims = dims;
    ExpectInvalid(c, "the keys must be u32[..., 2]");
  }
  Case c;
  c.keys_dims = {5, 4};
  c.result_dims = {5, 7};
  ExpectInvalid(c, "got u32[5,4] and [5,7]");
}

TEST(RandomBitsHandlerTest, RejectsOtherLeadingAxes) {
  for (const Dims& dims : {Dims{}, Dims{4}, Dims{5}, Dims{4, 5}, Dims{5, 4},
                           Dims{20}, Dims{1, 4, 5}, Dims{0, 5}, Dims{4, 0}}) {
    Case c;
    c.keys_dims = {4, 5, 2};
    c.result_dims = dims;
    if (dims == Dims{4, 5}) {
      EXPECT_FALSE(Call(c).error.has_value());
    } else {
      ExpectInvalid(c, "the result begin with their leading axes");
    }
  }
}

TEST(RandomBitsHandlerTest, RejectsImpossibleDimensions) {
  const struct {
    Dims keys;
    Dims result;
  } cases[] = {
      // Negative.
      {{2}, {-1}},
      {{2}, {-3, -3}},
      {{2}, {0, -1}},
      {{2}, {-1, 0}},
      {{-1, 2}, {-1}},
      {{-1, 2}, {-1, 5}},
      {{-2, -2, 2}, {-2, -2, 5}},
      {{2}, {std::numeric_limits<int64_t>::min()}},
      // With products that 64 bits do not hold: of the words of a key, of the
      // keys, of both.
      {{2}, {kTo32, kTo32}},
      {{2}, {kMax, 3}},
      {{kTo32, kTo32, 2}, {kTo32, kTo32}},
      {{kTo32, kTo32, 2}, {kTo32, kTo32, 0}},
      {{kTo32, 2}, {kTo32, kTo32}},
      {{kTo32, 2}, {kTo32, kTo32, 2}},
      {{kMax, 2}, {kMax, 7}},
  };
  for (const auto& [keys, result] : cases) {
    Case c;
    c.keys_dims = keys;
    c.result_dims = result;
    ExpectInvalid(c, "flaxlayer_random_bits: ");
  }
}

TEST(RandomBitsHandlerTest, RejectsOtherDtypes) {
  for (const XLA_FFI_DataType dtype :
       {XLA_FFI_DataType_S32, XLA_FFI_DataType_F32, XLA_FFI_DataType_U64,
        XLA_FFI_DataType_U16, XLA_FFI_DataType_U8, XLA_FFI_DataType_PRED,
        XLA_FFI_DataType_INVALID, XLA_FFI_DataType_TOKEN}) {
    Case c;
    c.keys_dtype = dtype;
    ExpectInvalid(c, "dtype");
  }
  for (const XLA_FFI_DataType dtype :
       {XLA_FFI_DataType_S8, XLA_FFI_DataType_S16, XLA_FFI_DataType_S32,
        XLA_FFI_DataType_S64, XLA_FFI_DataType_U4, XLA_FFI_DataType_F16,
        XLA_FFI_DataType_F32, XLA_FFI_DataType_F64, XLA_FFI_DataType_C64,
        XLA_FFI_DataType_C128, XLA_FFI_DataType_PRED, XLA_FFI_DataType_INVALID,
        XLA_FFI_DataType_TOKEN}) {
    Case c;
    c.result_dtype = dtype;
    ExpectInvalid(
        c, "got XLA_FFI_DataType " + std::to_string(static_cast<int>(dtype)));
    // The type is looked at even where there is nothing to write.
    c.result_dims = {0};
    ExpectInvalid(c, "got XLA_FFI_DataType");
  }
}

TEST(RandomSplitHandlerTest, RejectsOtherKeys) {
  for (const Dims& dims : {Dims{}, Dims{0}, Dims{1}, Dims{3}, Dims{4}, Dims{-2},
                           Dims{2, 1}, Dims{2, 4}, Dims{2, 0}}) {
    Case c = SplitCase();
    c.keys_dims = dims;
    ExpectInvalid(c, "the keys must be u32[..., 2]");
  }
}

TEST(RandomSplitHandlerTest, RejectsOtherResults) {
  for (const Dims& dims :
       {Dims{}, Dims{3}, Dims{0}, Dims{3, 1}, Dims{3, 4}, Dims{2, 3}}) {
    Case c = SplitCase();
    c.result_dims = dims;
    ExpectInvalid(c, "the result u32[..., *shape, 2]");
  }
  // The last axis of the result is not one of the keys' leading axes.
  for (const Dims& dims : {Dims{}, Dims{2}, Dims{2, 3}, Dims{3, 2, 2},
                           Dims{1, 2, 2}, Dims{4}, Dims{3, 2}}) {
    Case c = SplitCase();
    c.keys_dims = {2, 2};
    c.result_dims = dims;
    ExpectInvalid(c, "flaxlayer_random_split: ");
  }
  Case c = SplitCase();
  c.keys_dims = {5, 2};
  c.result_dims = {6, 3, 2};
  ExpectInvalid(c, "got u32[5,2] and u32[6,3,2]");
}

TEST(RandomSplitHandlerTest, RejectsImpossibleDimensions) {
  const struct {
    Dims keys;
    Dims result;
  } cases[] = {
      {{2}, {-1, 2}},
      {{2}, {-3, -3, 2}},
      {{2}, {0, -1, 2}},
      {{-1, 2}, {-1, 2}},
      {{-1, 2}, {-1, 5, 2}},
      {{2}, {kTo32, kTo32, 2}},
      {{2}, {kTo32, kTo32 / 2, 2}},
      {{2}, {kMax, 2, 2}},
      {{kTo32, kTo32 / 2, 2}, {kTo32, kTo32 / 2, 2}},
      {{kTo32, 2}, {kTo32, kTo32, 2}},
  };
  for (const auto& [keys, result] : cases) {
    Case c = SplitCase();
    c.keys_dims = keys;
    c.result_dims = result;
    ExpectInvalid(c, "flaxlayer_random_split: ");
  }
}

TEST(RandomSplitHandlerTest, RejectsOtherDtypes) {
  for (const XLA_FFI_DataType dtype :
       {XLA_FFI_DataType_S32, XLA_FFI_DataType_F32, XLA_FFI_DataType_U64,
        XLA_FFI_DataType_U8, XLA_FFI_DataType_PRED, XLA_FFI_DataType_TOKEN}) {
    Case keys = SplitCase();
    keys.keys_dtype = dtype;
    ExpectInvalid(keys, "dtype");
    Case result = SplitCase();
    result.result_dtype = dtype;
    ExpectInvalid(result, "dtype");
  }
}

TEST(RandomWordsHandlersTest, RejectWrongNumbers) {
  TestBuffer keys(XLA_FFI_DataType_U32, {2});
  TestBuffer result(XLA_FFI_DataType_U32, {3, 2});
  for (XLA_FFI_Handler* handler : {FlaxlayerRandomBits, FlaxlayerRandomSplit}) {
    for (int num_operands = 0; num_operands < 3; ++num_operands) {
      for (int num_results = 0; num_results < 3; ++num_results) {
        if (num_operands == 1 && num_results == 1) continue;
        FakeCall call;
        for (int i = 0; i < num_operands; ++i) {
          call.Operand(keys.dtype(), keys.dims(), keys.bytes());
        }
        for (int i = 0; i < num_results; ++i) {
          call.Result(result.dtype(), result.dims(), result.bytes());
        }
        const std::optional<CallError> error = call.Run(handler);
        ASSERT_TRUE(error.has_value());
        EXPECT_EQ(error->code, XLA_FFI_Error_Code_INVALID_ARGUMENT);
        EXPECT_NE(error->message.find("Wrong number of"), std::string::npos)
            << error->message;
        EXPECT_TRUE(result.is_untouched());
      }
    }
  }
}

// A call of the handler of blocks, by default a well-formed one.
struct BlockCase {
  Dims leading = {};
  Dims whole = {6, 5, 4};
  std::vector<uint32_t> offsets = {2, 0, 1};
  Dims part = {3, 5, 2};
  XLA_FFI_DataType dtype = XLA_FFI_DataType_U32;
  Dims offsets_dims = {3};
  FakeThreadPool* pool = nullptr;
};

Outcome Call(const BlockCase& c) {
  Dims keys_dims = c.leading;
  keys_dims.push_back(2);
  Dims result_dims = c.leading;
  result_dims.insert(result_dims.end(), c.part.begin(), c.part.end());
  TestBuffer keys(XLA_FFI_DataType_U32, keys_dims);
  std::vector<uint32_t> words(keys.size() / sizeof(uint32_t));
  for (size_t i = 0; i < words.size(); ++i) {
    words[i] = static_cast<uint32_t>(0x9e3779b9u * (i + 1));
  }
  keys.SetElements(words);
  TestBuffer offsets(XLA_FFI_DataType_U32, c.offsets_dims);
  std::vector<uint32_t> starts = c.offsets;
  starts.resize(offsets.size() / sizeof(uint32_t));
  offsets.SetElements(starts);
  Dims whole = c.whole;
  TestBuffer result(c.dtype, result_dims);
  auto error =
      FakeCall()
          .Operand(XLA_FFI_DataType_U32, keys_dims, keys.bytes())
          .Operand(XLA_FFI_DataType_U32, c.offsets_dims, offsets.bytes())
          .ArrayAttribute("whole", XLA_FFI_DataType_S64, whole.size(),
                          whole.data())
          .Result(c.dtype, result_dims, result.bytes())
          .Threads(c.pool)
          .Run(FlaxlayerRandomBlock);
  return {std::move(error), std::move(words), std::move(result)};
}

// That each element of the part is the one of the whole that it is a part of.
template <typename Kind>
void ExpectBlock(Kind kind, BlockCase c) {
  using Element = typename Kind::Element;
  SCOPED_TRACE(Kind::kName);
  c.offsets_dims = {static_cast<int64_t>(c.whole.size())};
  const Outcome outcome = Call(c);
  ASSERT_FALSE(outcome.error.has_value()) << outcome.error->message;
  const std::vector<Element> result = outcome.result.Elements<Element>();
  std::vector<Element> expected;
  for (size_t key = 0; key < outcome.keys.size() / 2; ++key) {
    Dims at(c.part.size(), 0);
    const size_t per_key = result.size() / (outcome.keys.size() / 2);
    for (size_t i = 0; i < per_key; ++i) {
      uint64_t index = 0;
      for (size_t axis = 0; axis < at.size(); ++axis) {
        index = index * static_cast<uint64_t>(c.whole[axis]) +
                static_cast<uint64_t>(at[axis]) + c.offsets[axis];
      }
      expected.push_back(ExpectedWords(
          kind, {outcome.keys[2 * key], outcome.keys[2 * key + 1]}, index,
          1)[0]);
      for (size_t axis = at.size(); axis-- > 0;) {
        if (++at[axis] < c.part[axis]) break;
        at[axis] = 0;
      }
    }
  }
  EXPECT_TRUE(result == expected);
}

void ExpectBlockOfAllKinds(BlockCase c) {
  c.dtype = XLA_FFI_DataType_U8;
  ExpectBlock(Words8{}, c);
  c.dtype = XLA_FFI_DataType_U16;
  ExpectBlock(Words16{}, c);
  c.dtype = XLA_FFI_DataType_U32;
  ExpectBlock(Words32{}, c);
  c.dtype = XLA_FFI_DataType_U64;
  ExpectBlock(Words64{}, c);
}

TEST(RandomBlockHandlerTest, HasTheWordsOfItsIndices) {
  const struct {
    Dims whole;
    std::vector<uint32_t> offsets;
    Dims part;
  } cases[] = {
      {{6, 5, 4}, {2, 0, 1}, {3, 5, 2}},
      {{6, 5, 4}, {0, 0, 0}, {6, 5, 4}},
      {{6, 5, 4}, {3, 0, 0}, {3, 5, 4}},
      {{6, 5, 4}, {5, 4, 3}, {1, 1, 1}},
      {{6, 5, 4}, {6, 2, 1}, {0, 2, 3}},
      {{300}, {100}, {200}},
      {{2, 300}, {1, 130}, {1, 170}},
      {{}, {}, {}},
      // Indices of more than 32 bits.
      {{kTo32, 3, 7}, {0xfffffff0u, 1, 2}, {16, 2, 5}},
      {{3, kTo32 - 1}, {1, 0xffffff00u}, {2, 255}},
  };
  for (const auto& [whole, offsets, part] : cases) {
    BlockCase c;
    c.whole = whole;
    c.offsets = offsets;
    c.part = part;
    ExpectBlockOfAllKinds(c);
    c.leading = {2, 1};
    ExpectBlockOfAllKinds(c);
  }
}

TEST(RandomBlockHandlerTest, DividesLargeResultsAmongThreads) {
  for (const Tasks tasks : {Tasks::kOnThreads, Tasks::kInline, Tasks::kLate}) {
    FakeThreadPool pool(4, tasks);
    BlockCase c;
    c.leading = {3};
    c.whole = {400, 7, 101};
    c.offsets = {100, 2, 50};
    c.part = {300, 4, 51};
    c.pool = &pool;
    ExpectBlockOfAllKinds(c);
    EXPECT_GT(pool.num_scheduled(), 0u);
  }
}

void ExpectInvalid(const BlockCase& c) {
  const Outcome outcome = Call(c);
  ASSERT_TRUE(outcome.error.has_value());
  EXPECT_EQ(outcome.error->code, XLA_FFI_Error_Code_INVALID_ARGUMENT);
  EXPECT_NE(outcome.error->message.find("flaxlayer_random_block: "),
            std::string::npos)
      << outcome.error->message;
  EXPECT_TRUE(outcome.result.is_untouched());
}

TEST(RandomBlockHandlerTest, RejectsWhatIsNotWithinTheWhole) {
  for (const std::vector<uint32_t>& offsets :
       std::vector<std::vector<uint32_t>>{
           {4, 0, 1}, {2, 1, 1}, {2, 0, 3}, {0xffffffffu, 0, 0}}) {
    BlockCase c;
    c.offsets = offsets;
    ExpectInvalid(c);
  }
  for (const Dims& whole : {Dims{2, 5, 4}, Dims{6, 4, 4}, Dims{6, 5, -4},
                            Dims{6, 5, 0}, Dims{5, 4}, Dims{1, 6, 5, 4}}) {
    BlockCase c;
    c.whole = whole;
    ExpectInvalid(c);
  }
}

TEST(RandomBlockHandlerTest, RejectsOtherShapes) {
  for (const Dims& part : {Dims{}, Dims{3, 5}, Dims{1, 3, 5, 2}, Dims{3, -5, 2},
                           Dims{-1, 5, 2}, Dims{kMax, kMax, kMax}}) {
    BlockCase c;
    c.part = part;
    ExpectInvalid(c);
  }
  for (const Dims& dims : {Dims{2}, Dims{4}, Dims{0}}) {
    BlockCase c;
    c.offsets_dims = dims;
    ExpectInvalid(c);
  }
  // Not a row of offsets at all, which the binding says.
  for (const Dims& dims : {Dims{}, Dims{3, 1}}) {
    BlockCase c;
    c.offsets_dims = dims;
    EXPECT_TRUE(Call(c).error.has_value());
  }
}

TEST(RandomBlockHandlerTest, RejectsOtherDtypes) {
  for (const XLA_FFI_DataType dtype :
       {XLA_FFI_DataType_S32, XLA_FFI_DataType_F32, XLA_FFI_DataType_PRED,
        XLA_FFI_DataType_INVALID}) {
    BlockCase c;
    c.dtype = dtype;
    ExpectInvalid(c);
  }
}

}  // namespace
}  // namespace flaxlayer
