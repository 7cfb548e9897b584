#include "csrc/ffi/rng_fold.h"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "csrc/kernels/fold_in.h"
#include "gtest/gtest.h"
#include "tests/csrc/ffi/call_frame.h"
#include "tests/csrc/ffi/test_buffer.h"

namespace flaxlayer {
namespace {

constexpr uint32_t kUntouched = 0xdeadbeef;

// A well-formed call, of which each test spoils one thing.
struct Case {
  XLA_FFI_DataType state_dtype = XLA_FFI_DataType_U32;
  std::vector<int64_t> state_dims = {2};
  XLA_FFI_DataType tags_dtype = XLA_FFI_DataType_U32;
  std::vector<uint32_t> tags = {5, 6, 7};
  std::string tags_name = "tags";
  XLA_FFI_DataType keys_dtype = XLA_FFI_DataType_U32;
  std::vector<int64_t> keys_dims = {3, 2};
};

struct Outcome {
  std::optional<CallError> error;
  std::vector<uint32_t> state;
  TestBuffer keys;
};

Outcome Call(const Case& c) {
  TestBuffer state(c.state_dtype, c.state_dims);
  std::vector<uint32_t> words(state.size() / sizeof(uint32_t));
  for (size_t i = 0; i < words.size(); ++i) {
    words[i] = static_cast<uint32_t>(i + 1);
  }
  state.SetElements(words);
  std::vector<uint32_t> tags = c.tags;
  TestBuffer keys(c.keys_dtype, c.keys_dims);
  auto error =
      FakeCall()
          .Operand(c.state_dtype, c.state_dims, state.bytes())
          .ArrayAttribute(c.tags_name, c.tags_dtype, tags.size(), tags.data())
          .Result(c.keys_dtype, c.keys_dims, keys.bytes())
          .Run(FlaxlayerRngFold);
  return {std::move(error), std::move(words), std::move(keys)};
}

// That the call succeeds, with each tag folded into each state.
void ExpectKeys(const Case& c) {
  const Outcome outcome = Call(c);
  ASSERT_FALSE(outcome.error.has_value()) << outcome.error->message;
  const size_t per_state = 2 * c.tags.size();
  std::vector<uint32_t> expected(outcome.state.size() / 2 * per_state);
  for (size_t i = 0; i < outcome.state.size() / 2; ++i) {
    FoldIn({outcome.state[2 * i], outcome.state[2 * i + 1]}, c.tags.data(),
           c.tags.size(), expected.data() + i * per_state);
  }
  EXPECT_EQ(outcome.keys.Elements<uint32_t>(), expected);
}

void ExpectInvalid(const Case& c, const std::string& text) {
  const Outcome outcome = Call(c);
  ASSERT_TRUE(outcome.error.has_value());
  EXPECT_EQ(outcome.error->code, XLA_FFI_Error_Code_INVALID_ARGUMENT);
  EXPECT_NE(outcome.error->message.find(text), std::string::npos)
      << outcome.error->message;
  EXPECT_TRUE(outcome.keys.is_untouched());
}

TEST(RngFoldHandlerTest, FoldsOneState) { ExpectKeys(Case{}); }

TEST(RngFoldHandlerTest, FoldsLeadingAxes) {
  Case c;
  c.state_dims = {2, 3, 2};
  c.keys_dims = {2, 3, 3, 2};
  ExpectKeys(c);
}

TEST(RngFoldHandlerTest, AcceptsEmptyAxes) {
  Case no_states;
  no_states.state_dims = {0, 2};
  no_states.keys_dims = {0, 3, 2};
  ExpectKeys(no_states);

  Case no_tags;
  no_tags.tags = {};
  no_tags.keys_dims = {0, 2};
  ExpectKeys(no_tags);
  no_tags.state_dims = {5, 2};
  no_tags.keys_dims = {5, 0, 2};
  ExpectKeys(no_tags);
}

TEST(RngFoldHandlerTest, RejectsStateDtype) {
  Case c;
  c.state_dtype = XLA_FFI_DataType_S32;
  ExpectInvalid(c, "dtype");
}

TEST(RngFoldHandlerTest, RejectsKeysDtype) {
  Case c;
  c.keys_dtype = XLA_FFI_DataType_F32;
  ExpectInvalid(c, "dtype");
}

TEST(RngFoldHandlerTest, RejectsTagsDtype) {
  Case c;
  c.tags_dtype = XLA_FFI_DataType_S32;
  ExpectInvalid(c, "data type");
}

TEST(RngFoldHandlerTest, RejectsMissingTags) {
  Case c;
  c.tags_name = "labels";
  ExpectInvalid(c, "tags");
}

TEST(RngFoldHandlerTest, RejectsStateOfWrongShape) {
  Case scalar;
  scalar.state_dims = {};
  scalar.keys_dims = {3, 2};
  ExpectInvalid(scalar, "the state must be u32[..., 2], got u32[]");

  Case wide;
  wide.state_dims = {4};
  ExpectInvalid(wide, "got u32[4]");

  Case empty;
  empty.state_dims = {0};
  ExpectInvalid(empty, "got u32[0]");
}

TEST(RngFoldHandlerTest, RejectsKeysOfWrongShape) {
  const std::vector<std::vector<int64_t>> wrong = {
      {}, {2}, {6}, {2, 2}, {4, 2}, {3, 1}, {3, 3}, {1, 3, 2}, {3, 2, 1}};
  for (const std::vector<int64_t>& dims : wrong) {
    Case c;
    c.keys_dims = dims;
    ExpectInvalid(c, "the keys must be u32[..., 3, 2]");
  }
}

TEST(RngFoldHandlerTest, RejectsOtherLeadingAxes) {
  const std::vector<std::vector<int64_t>> wrong = {
      {3, 2}, {5, 3, 2}, {3, 3, 2}, {4, 1, 3, 2}};
  for (const std::vector<int64_t>& dims : wrong) {
    Case c;
    c.state_dims = {4, 2};
    c.keys_dims = dims;
    ExpectInvalid(c, "with the state's leading axes");
  }
}

TEST(RngFoldHandlerTest, RejectsImpossibleDimensions) {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  constexpr int64_t kTo32 = int64_t{1} << 32;
  const std::vector<std::vector<int64_t>> wrong = {
      {-1}, {-3, -3}, {0, -1}, {kTo32, kTo32}, {kMax, 3}, {kMax}, {kTo32 << 30},
  };
  for (const std::vector<int64_t>& leading : wrong) {
    Case c;
    c.state_dims = leading;
    c.state_dims.push_back(2);
    c.keys_dims = leading;
    c.keys_dims.insert(c.keys_dims.end(), {3, 2});
    ExpectInvalid(c, "with the state's leading axes");
  }
  Case negative;
  negative.keys_dims = {-3, 2};
  ExpectInvalid(negative, "got u32[-3,2]");
}

TEST(RngFoldHandlerTest, RejectsWrongNumbers) {
  std::vector<uint32_t> state = {1, 2};
  std::vector<uint32_t> tags = {3};
  std::vector<uint32_t> keys = {kUntouched, kUntouched};
  const auto operand = [&](FakeCall& call) {
    call.Operand(XLA_FFI_DataType_U32, {2}, state.data());
  };
  const auto attribute = [&](FakeCall& call) {
    call.ArrayAttribute("tags", XLA_FFI_DataType_U32, 1, tags.data());
  };
  const auto result = [&](FakeCall& call) {
    call.Result(XLA_FFI_DataType_U32, {1, 2}, keys.data());
  };

  FakeCall no_operand;
  attribute(no_operand);
  result(no_operand);
  FakeCall two_operands;
  operand(two_operands);
  operand(two_operands);
  attribute(two_operands);
  result(two_operands);
  FakeCall no_result;
  operand(no_result);
  attribute(no_result);
  FakeCall no_attribute;
  operand(no_attribute);
  result(no_attribute);

  for (FakeCall* call :
       {&no_operand, &two_operands, &no_result, &no_attribute}) {
    const std::optional<CallError> error = call->Run(FlaxlayerRngFold);
    ASSERT_TRUE(error.has_value());
    EXPECT_EQ(error->code, XLA_FFI_Error_Code_INVALID_ARGUMENT);
    EXPECT_NE(error->message.find("Wrong number of"), std::string::npos)
        << error->message;
  }
  EXPECT_EQ(keys[0], kUntouched);
  EXPECT_EQ(keys[1], kUntouched);
}

}  // namespace
}  // namespace flaxlayer
