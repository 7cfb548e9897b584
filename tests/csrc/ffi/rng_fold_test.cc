#include "csrc/ffi/rng_fold.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "csrc/kernels/rng_fold.h"
#include "gtest/gtest.h"
#include "tests/csrc/ffi/call_frame.h"

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

size_t ElementCount(const std::vector<int64_t>& dims) {
  size_t count = 1;
  for (int64_t dim : dims) count *= static_cast<size_t>(dim);
  return count;
}

// The buffers are on the heap and exactly as large as their dimensions say, so
// that AddressSanitizer sees any access beyond them.
std::optional<CallError> CallWith(const Case& c, std::vector<uint32_t>* keys) {
  std::vector<uint32_t> state(ElementCount(c.state_dims));
  for (size_t i = 0; i < state.size(); ++i) {
    state[i] = static_cast<uint32_t>(i + 1);
  }
  std::vector<uint32_t> tags = c.tags;
  keys->assign(ElementCount(c.keys_dims), kUntouched);
  return FakeCall()
      .Operand(c.state_dtype, c.state_dims, state.data())
      .ArrayAttribute(c.tags_name, c.tags_dtype, tags.size(), tags.data())
      .Result(c.keys_dtype, c.keys_dims, keys->data())
      .Run(FlaxlayerRngFold);
}

void ExpectInvalid(const Case& c, const std::string& text) {
  std::vector<uint32_t> keys;
  const std::optional<CallError> error = CallWith(c, &keys);
  ASSERT_TRUE(error.has_value());
  EXPECT_EQ(error->code, XLA_FFI_Error_Code_INVALID_ARGUMENT);
  EXPECT_NE(error->message.find(text), std::string::npos) << error->message;
  for (uint32_t word : keys) EXPECT_EQ(word, kUntouched);
}

TEST(RngFoldHandlerTest, FoldsOneState) {
  std::vector<uint32_t> keys;
  EXPECT_FALSE(CallWith(Case{}, &keys).has_value());

  const std::vector<uint32_t> state = {1, 2};
  const std::vector<uint32_t> tags = Case{}.tags;
  std::vector<uint32_t> expected(6);
  FoldStreams(state.data(), 1, tags.data(), tags.size(), expected.data());
  EXPECT_EQ(keys, expected);
}

TEST(RngFoldHandlerTest, FoldsLeadingAxes) {
  Case c;
  c.state_dims = {2, 3, 2};
  c.keys_dims = {2, 3, 3, 2};
  std::vector<uint32_t> keys;
  EXPECT_FALSE(CallWith(c, &keys).has_value());

  std::vector<uint32_t> states(12);
  for (size_t i = 0; i < states.size(); ++i) {
    states[i] = static_cast<uint32_t>(i + 1);
  }
  std::vector<uint32_t> expected(36);
  FoldStreams(states.data(), 6, c.tags.data(), c.tags.size(), expected.data());
  EXPECT_EQ(keys, expected);
}

TEST(RngFoldHandlerTest, AcceptsEmptyAxes) {
  Case no_states;
  no_states.state_dims = {0, 2};
  no_states.keys_dims = {0, 3, 2};
  std::vector<uint32_t> keys;
  EXPECT_FALSE(CallWith(no_states, &keys).has_value());

  Case no_tags;
  no_tags.tags = {};
  no_tags.keys_dims = {0, 2};
  EXPECT_FALSE(CallWith(no_tags, &keys).has_value());
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
