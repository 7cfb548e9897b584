#include "csrc/ffi/fold_in.h"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "csrc/kernels/threefry.h"
#include "gtest/gtest.h"
#include "tests/csrc/ffi/call_frame.h"
#include "tests/csrc/ffi/test_buffer.h"

namespace flaxlayer {
namespace {

using Dims = std::vector<int64_t>;

constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
constexpr int64_t kTo32 = int64_t{1} << 32;

// A well-formed call, of which each test spoils one thing.
struct Case {
  XLA_FFI_DataType keys_dtype = XLA_FFI_DataType_U32;
  Dims keys_dims = {3, 2};
  XLA_FFI_DataType data_dtype = XLA_FFI_DataType_U32;
  Dims data_dims = {3};
  XLA_FFI_DataType result_dtype = XLA_FFI_DataType_U32;
  Dims result_dims = {3, 2};
};

// Numbers for an operand.
std::vector<uint32_t> Numbers(const TestBuffer& buffer, uint32_t factor) {
  std::vector<uint32_t> numbers(buffer.size() / sizeof(uint32_t));
  for (size_t i = 0; i < numbers.size(); ++i) {
    numbers[i] = factor * static_cast<uint32_t>(i + 1);
  }
  return numbers;
}

struct Outcome {
  std::optional<CallError> error;
  std::vector<uint32_t> keys;
  std::vector<uint32_t> data;
  TestBuffer result;
};

Outcome Call(const Case& c) {
  TestBuffer keys(c.keys_dtype, c.keys_dims);
  keys.SetElements(Numbers(keys, 0x9e3779b9));
  TestBuffer data(c.data_dtype, c.data_dims);
  data.SetElements(Numbers(data, 0x85ebca6b));
  TestBuffer result(c.result_dtype, c.result_dims);
  auto error = FakeCall()
                   .Operand(c.keys_dtype, c.keys_dims, keys.bytes())
                   .Operand(c.data_dtype, c.data_dims, data.bytes())
                   .Result(c.result_dtype, c.result_dims, result.bytes())
                   .Run(FlaxlayerFoldIn);
  return {std::move(error), keys.Elements<uint32_t>(),
          data.Elements<uint32_t>(), std::move(result)};
}

void ExpectInvalid(const Case& c, const std::string& text) {
  const Outcome outcome = Call(c);
  ASSERT_TRUE(outcome.error.has_value());
  EXPECT_EQ(outcome.error->code, XLA_FFI_Error_Code_INVALID_ARGUMENT);
  EXPECT_NE(outcome.error->message.find(text), std::string::npos)
      << outcome.error->message;
  EXPECT_TRUE(outcome.result.is_untouched());
}

TEST(FoldInHandlerTest, FoldsOneDatumIntoEachKey) {
  for (const Dims& leading : {Dims{}, Dims{1}, Dims{3}, Dims{2, 5}, Dims{0},
                              Dims{4, 0}, Dims{3, 1, 7}}) {
    Case c;
    c.data_dims = leading;
    c.keys_dims = leading;
    c.keys_dims.push_back(2);
    c.result_dims = c.keys_dims;
    const Outcome outcome = Call(c);
    ASSERT_FALSE(outcome.error.has_value()) << outcome.error->message;
    std::vector<uint32_t> expected;
    for (size_t i = 0; i < outcome.data.size(); ++i) {
      const ThreefryBlock folded = Threefry2x32(
          {outcome.keys[2 * i], outcome.keys[2 * i + 1]}, {0, outcome.data[i]});
      expected.push_back(folded.x0);
      expected.push_back(folded.x1);
    }
    EXPECT_EQ(outcome.result.Elements<uint32_t>(), expected);
  }
}

TEST(FoldInHandlerTest, RejectsOtherKeys) {
  for (const Dims& dims : {Dims{}, Dims{2}, Dims{3}, Dims{3, 1}, Dims{3, 3},
                           Dims{3, 4}, Dims{2, 2}, Dims{4, 2}, Dims{1, 3, 2}}) {
    Case c;
    c.keys_dims = dims;
    ExpectInvalid(c, "the keys must be u32[..., 2]");
  }
  Case scalar;
  scalar.keys_dims = {};
  scalar.data_dims = {};
  scalar.result_dims = {};
  ExpectInvalid(scalar, "got u32[], u32[] and u32[]");
}

TEST(FoldInHandlerTest, RejectsOtherData) {
  for (const Dims& dims : {Dims{}, Dims{2}, Dims{4}, Dims{0}, Dims{3, 1},
                           Dims{3, 2}, Dims{1, 3}}) {
    Case c;
    c.data_dims = dims;
    ExpectInvalid(c, "with the same leading axes");
  }
}

TEST(FoldInHandlerTest, RejectsOtherResults) {
  for (const Dims& dims :
       {Dims{}, Dims{2}, Dims{3}, Dims{6}, Dims{3, 1}, Dims{3, 3}, Dims{3, 4},
        Dims{2, 2}, Dims{4, 2}, Dims{0, 2}, Dims{3, 1, 2}, Dims{1, 3, 2}}) {
    Case c;
    c.result_dims = dims;
    ExpectInvalid(c, "with the same leading axes");
  }
}

TEST(FoldInHandlerTest, RejectsImpossibleDimensions) {
  for (const Dims& leading :
       {Dims{-1}, Dims{-3, -3}, Dims{0, -1},
        Dims{std::numeric_limits<int64_t>::min()}, Dims{kTo32, kTo32},
        Dims{kMax, 3}, Dims{kTo32, kTo32 / 2}}) {
    Case c;
    c.data_dims = leading;
    c.keys_dims = leading;
    c.keys_dims.push_back(2);
    c.result_dims = c.keys_dims;
    ExpectInvalid(c, "flaxlayer_fold_in: ");
  }
}

TEST(FoldInHandlerTest, RejectsOtherDtypes) {
  for (const XLA_FFI_DataType dtype :
       {XLA_FFI_DataType_S32, XLA_FFI_DataType_F32, XLA_FFI_DataType_U64,
        XLA_FFI_DataType_U8, XLA_FFI_DataType_PRED, XLA_FFI_DataType_TOKEN}) {
    Case keys;
    keys.keys_dtype = dtype;
    ExpectInvalid(keys, "dtype");
    Case data;
    data.data_dtype = dtype;
    ExpectInvalid(data, "dtype");
    Case result;
    result.result_dtype = dtype;
    ExpectInvalid(result, "dtype");
  }
}

TEST(FoldInHandlerTest, RejectsWrongNumbers) {
  TestBuffer keys(XLA_FFI_DataType_U32, {2});
  TestBuffer data(XLA_FFI_DataType_U32, {});
  TestBuffer result(XLA_FFI_DataType_U32, {2});
  for (int num_operands = 0; num_operands < 4; ++num_operands) {
    for (int num_results = 0; num_results < 3; ++num_results) {
      if (num_operands == 2 && num_results == 1) continue;
      FakeCall call;
      for (int i = 0; i < num_operands; ++i) {
        TestBuffer& operand = i == 0 ? keys : data;
        call.Operand(operand.dtype(), operand.dims(), operand.bytes());
      }
      for (int i = 0; i < num_results; ++i) {
        call.Result(result.dtype(), result.dims(), result.bytes());
      }
      const std::optional<CallError> error = call.Run(FlaxlayerFoldIn);
      ASSERT_TRUE(error.has_value());
      EXPECT_EQ(error->code, XLA_FFI_Error_Code_INVALID_ARGUMENT);
      EXPECT_NE(error->message.find("Wrong number of"), std::string::npos)
          << error->message;
      EXPECT_TRUE(result.is_untouched());
    }
  }
}

}  // namespace
}  // namespace flaxlayer
