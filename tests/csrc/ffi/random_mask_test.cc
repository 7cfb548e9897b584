#include "csrc/ffi/random_mask.h"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>
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
  bool fold_in = false;  // Which handler; without data if false.
  XLA_FFI_DataType keys_dtype = XLA_FFI_DataType_U32;
  Dims keys_dims = {2};
  XLA_FFI_DataType data_dtype = XLA_FFI_DataType_U32;
  Dims data_dims = {};
  std::string limit_name = "limit";
  XLA_FFI_DataType limit_dtype = XLA_FFI_DataType_U32;
  uint32_t limit = 0xc0000000;
  XLA_FFI_DataType masks_dtype = XLA_FFI_DataType_PRED;
  Dims masks_dims = {3};
  FakeThreadPool* pool = nullptr;
};

Case FoldInCase() {
  Case c;
  c.fold_in = true;
  return c;
}

// Both handlers, for tests of what they share.
std::vector<Case> BothCases() { return {Case{}, FoldInCase()}; }

// With `leading` axes of the keys, and of the data.
void SetLeading(const Dims& leading, Case* c) {
  c->keys_dims = leading;
  c->keys_dims.push_back(2);
  c->data_dims = leading;
}

std::vector<uint32_t> Numbers(const TestBuffer& buffer, uint32_t factor) {
  std::vector<uint32_t> numbers(buffer.size() / sizeof(uint32_t));
  for (size_t i = 0; i < numbers.size(); ++i) {
    numbers[i] = factor * static_cast<uint32_t>(i + 1);
  }
  return numbers;
}

struct Outcome {
  std::optional<CallError> error;
  std::vector<ThreefryKey> keys;  // With the data folded in.
  TestBuffer masks;
};

Outcome Call(Case c) {
  TestBuffer keys(c.keys_dtype, c.keys_dims);
  const std::vector<uint32_t> words = Numbers(keys, 0x9e3779b9);
  keys.SetElements(words);
  TestBuffer data(c.data_dtype, c.data_dims);
  const std::vector<uint32_t> numbers = Numbers(data, 0x85ebca6b);
  data.SetElements(numbers);
  TestBuffer masks(c.masks_dtype, c.masks_dims);
  FakeCall call;
  call.Operand(c.keys_dtype, c.keys_dims, keys.bytes());
  if (c.fold_in) call.Operand(c.data_dtype, c.data_dims, data.bytes());
  auto error =
      call.ScalarAttribute(c.limit_name, c.limit_dtype, &c.limit)
          .Result(c.masks_dtype, c.masks_dims, masks.bytes())
          .Threads(c.pool)
          .Run(c.fold_in ? FlaxlayerFoldInRandomMask : FlaxlayerRandomMask);

  std::vector<ThreefryKey> used;
  if (!error.has_value()) {
    for (size_t i = 0; i < words.size() / 2; ++i) {
      used.push_back({words[2 * i], words[2 * i + 1]});
      if (!c.fold_in) continue;
      const ThreefryBlock folded = Threefry2x32(used.back(), {0, numbers[i]});
      used.back() = {folded.x0, folded.x1};
    }
  }
  return {std::move(error), std::move(used), std::move(masks)};
}

// That the call succeeds, and the result has the same number of elements for
// each key.
void ExpectMasks(const Case& c) {
  const Outcome outcome = Call(c);
  ASSERT_FALSE(outcome.error.has_value()) << outcome.error->message;
  const std::vector<uint8_t> masks = outcome.masks.Elements<uint8_t>();
  std::vector<uint8_t> expected;
  for (const ThreefryKey& key : outcome.keys) {
    const std::vector<uint8_t> mask = ExpectedWords(
        Masks{c.limit}, key, 0, masks.size() / outcome.keys.size());
    expected.insert(expected.end(), mask.begin(), mask.end());
  }
  // Not EXPECT_EQ, which would print them all.
  EXPECT_TRUE(masks == expected);
}

// The same of both handlers. `shape` is that of the masks without the leading
// axes of the keys.
void ExpectMasksOfBoth(const Dims& leading, const Dims& shape,
                       FakeThreadPool* pool) {
  for (Case c : BothCases()) {
    SetLeading(leading, &c);
    c.masks_dims = leading;
    c.masks_dims.insert(c.masks_dims.end(), shape.begin(), shape.end());
    c.pool = pool;
    ExpectMasks(c);
  }
}

void ExpectInvalid(const Case& c, const std::string& text) {
  const Outcome outcome = Call(c);
  ASSERT_TRUE(outcome.error.has_value());
  EXPECT_EQ(outcome.error->code, XLA_FFI_Error_Code_INVALID_ARGUMENT);
  EXPECT_NE(outcome.error->message.find(text), std::string::npos)
      << outcome.error->message;
  EXPECT_TRUE(outcome.masks.is_untouched());
}

TEST(RandomMaskHandlersTest, FillAnyShape) {
  for (const Dims& shape :
       {Dims{}, Dims{1}, Dims{5}, Dims{129}, Dims{3, 7}, Dims{0}, Dims{3, 0}}) {
    ExpectMasksOfBoth({}, shape, nullptr);
  }
}

TEST(RandomMaskHandlersTest, StartAnewForEachKey) {
  for (const Dims& shape : {Dims{}, Dims{1}, Dims{70}, Dims{3, 7}, Dims{0}}) {
    ExpectMasksOfBoth({4}, shape, nullptr);
    ExpectMasksOfBoth({2, 3}, shape, nullptr);
  }
}

TEST(RandomMaskHandlersTest, TakeNoKeys) {
  for (Case c : BothCases()) {
    SetLeading({0}, &c);
    c.masks_dims = {0, 7};
    EXPECT_FALSE(Call(c).error.has_value());
  }
}

TEST(RandomMaskHandlersTest, CompareWithTheLimit) {
  for (Case c : BothCases()) {
    c.masks_dims = {100};
    for (const uint32_t limit : {0u, 1u, 0x80000000u, 0xffffffffu}) {
      c.limit = limit;
      ExpectMasks(c);
    }
  }
}

TEST(RandomMaskHandlersTest, DivideLargeResultsAmongThreads) {
  const struct {
    Dims leading;
    Dims shape;
  } cases[] = {
      {{}, {65537}},  {{}, {300007}},    {{}, {3, 65536, 2}}, {{7}, {40001}},
      {{2}, {65536}}, {{3, 32001}, {3}}, {{150001}, {}},
  };
  for (const Tasks tasks : {Tasks::kOnThreads, Tasks::kInline, Tasks::kLate}) {
    for (const auto& [leading, shape] : cases) {
      FakeThreadPool pool(4, tasks);
      ExpectMasksOfBoth(leading, shape, &pool);
      EXPECT_GT(pool.num_scheduled(), 0u);
    }
  }
  for (const auto& [leading, shape] : cases) {
    ExpectMasksOfBoth(leading, shape, nullptr);
  }
}

TEST(RandomMaskHandlersTest, RejectOtherKeys) {
  for (Case c : BothCases()) {
    for (const Dims& dims : {Dims{}, Dims{0}, Dims{1}, Dims{3}, Dims{4},
                             Dims{-2}, Dims{2, 1}, Dims{2, 4}, Dims{2, 0}}) {
      c.keys_dims = dims;
      ExpectInvalid(c, "the keys must be u32[..., 2]");
    }
  }
}

TEST(RandomMaskHandlersTest, RejectOtherMasks) {
  for (Case c : BothCases()) {
    SetLeading({4, 5}, &c);
    for (const Dims& dims : {Dims{}, Dims{4}, Dims{5}, Dims{5, 4}, Dims{20},
                             Dims{1, 4, 5}, Dims{0, 5}, Dims{4, 0}}) {
      c.masks_dims = dims;
      ExpectInvalid(c, "leading axes, got u32[4,5,2]");
    }
    c.masks_dims = {4, 5};
    ExpectMasks(c);
  }
}

TEST(FoldInRandomMaskHandlerTest, RejectsOtherData) {
  Case c = FoldInCase();
  SetLeading({4, 5}, &c);
  c.masks_dims = {4, 5, 6};
  for (const Dims& dims :
       {Dims{}, Dims{4}, Dims{5, 4}, Dims{20}, Dims{4, 5, 1}, Dims{4, 5, 2},
        Dims{4, 6}, Dims{4, 0}, Dims{4, -5}}) {
    c.data_dims = dims;
    ExpectInvalid(c, "with the same leading axes, got u32[4,5,2], u32[");
  }
}

TEST(RandomMaskHandlersTest, RejectImpossibleDimensions) {
  const struct {
    Dims leading;
    Dims masks;
  } cases[] = {
      {{}, {-1}},
      {{}, {-3, -3}},
      {{}, {0, -1}},
      {{-1}, {-1}},
      {{-1}, {-1, 5}},
      {{-2, -2}, {-2, -2, 5}},
      {{}, {kTo32, kTo32}},
      {{}, {kMax, 3}},
      {{kTo32, kTo32}, {kTo32, kTo32}},
      {{kTo32}, {kTo32, kTo32}},
      {{kMax}, {kMax, 7}},
  };
  for (Case c : BothCases()) {
    for (const auto& [leading, masks] : cases) {
      SetLeading(leading, &c);
      c.masks_dims = masks;
      ExpectInvalid(c, "leading axes, got u32[");
    }
  }
}

TEST(RandomMaskHandlersTest, RejectOtherDtypes) {
  for (const XLA_FFI_DataType dtype :
       {XLA_FFI_DataType_S32, XLA_FFI_DataType_F32, XLA_FFI_DataType_U64,
        XLA_FFI_DataType_U8, XLA_FFI_DataType_TOKEN}) {
    for (const Case& c : BothCases()) {
      Case keys = c;
      keys.keys_dtype = dtype;
      ExpectInvalid(keys, "dtype");
      Case masks = c;
      masks.masks_dtype = dtype;
      ExpectInvalid(masks, "dtype");
    }
    Case data = FoldInCase();
    data.data_dtype = dtype;
    ExpectInvalid(data, "dtype");
  }
}

TEST(RandomMaskHandlersTest, RejectOtherLimits) {
  for (const Case& c : BothCases()) {
    Case name = c;
    name.limit_name = "threshold";
    ExpectInvalid(name, "limit");
    Case dtype = c;
    dtype.limit_dtype = XLA_FFI_DataType_S32;
    ExpectInvalid(dtype, "data type");
  }
}

TEST(RandomMaskHandlersTest, RejectWrongNumbers) {
  TestBuffer keys(XLA_FFI_DataType_U32, {2});
  TestBuffer data(XLA_FFI_DataType_U32, {});
  TestBuffer masks(XLA_FFI_DataType_PRED, {3});
  uint32_t limit = 1;
  for (const bool fold_in : {false, true}) {
    const int right_operands = fold_in ? 2 : 1;
    for (int num_operands = 0; num_operands < 4; ++num_operands) {
      for (int num_results = 0; num_results < 3; ++num_results) {
        for (int num_attributes = 0; num_attributes < 2; ++num_attributes) {
          if (num_operands == right_operands && num_results == 1 &&
              num_attributes == 1) {
            continue;
          }
          FakeCall call;
          for (int i = 0; i < num_operands; ++i) {
            TestBuffer& operand = i == 0 ? keys : data;
            call.Operand(operand.dtype(), operand.dims(), operand.bytes());
          }
          for (int i = 0; i < num_results; ++i) {
            call.Result(masks.dtype(), masks.dims(), masks.bytes());
          }
          if (num_attributes > 0) {
            call.ScalarAttribute("limit", XLA_FFI_DataType_U32, &limit);
          }
          const std::optional<CallError> error = call.Run(
              fold_in ? FlaxlayerFoldInRandomMask : FlaxlayerRandomMask);
          ASSERT_TRUE(error.has_value());
          EXPECT_EQ(error->code, XLA_FFI_Error_Code_INVALID_ARGUMENT);
          EXPECT_NE(error->message.find("Wrong number of"), std::string::npos)
              << error->message;
          EXPECT_TRUE(masks.is_untouched());
        }
      }
    }
  }
}

}  // namespace
}  // namespace flaxlayer
