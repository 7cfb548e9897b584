#include "csrc/ffi/cuda_threefry.h"

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/csrc/cuda/fake_driver.h"
#include "tests/csrc/ffi/call_frame.h"
#include "tests/csrc/ffi/test_buffer.h"

namespace flaxlayer {
namespace {

using Dims = std::vector<int64_t>;

constexpr int64_t kMax = std::numeric_limits<int64_t>::max();

struct Operand {
  XLA_FFI_DataType dtype;
  Dims dims;
};

// Calls a handler, of which the last operand is the result. The memory is that
// of no device, and is not to be touched by anything but a kernel.
struct Called {
  std::optional<CallError> error;
  std::vector<FakeLaunch> launches;
  std::vector<uint64_t> addresses;
};

int the_stream = 0;

Called Call(XLA_FFI_Handler* handler, const std::vector<Operand>& operands) {
  FakeCall call;
  call.Stream(&the_stream);
  Called called;
  for (size_t i = 0; i < operands.size(); ++i) {
    // An address that can only be passed on.
    const uint64_t address = 4096 * (i + 1);
    void* data = reinterpret_cast<void*>(address);
    called.addresses.push_back(address);
    const Operand& operand = operands[i];
    if (i + 1 < operands.size()) {
      call.Operand(operand.dtype, operand.dims, data);
    } else {
      call.Result(operand.dtype, operand.dims, data);
    }
  }
  TheFakeDriver().launches.clear();
  called.error = call.Run(handler);
  called.launches = TheFakeDriver().launches;
  return called;
}

void ExpectLaunch(const Called& called, const std::string& kernel,
                  const std::vector<uint64_t>& arguments) {
  ASSERT_FALSE(called.error.has_value()) << called.error->message;
  ASSERT_EQ(called.launches.size(), 1u);
  EXPECT_EQ(called.launches[0].kernel, kernel);
  EXPECT_EQ(called.launches[0].stream, &the_stream);
  EXPECT_EQ(called.launches[0].arguments, arguments);
}

void ExpectInvalid(const Called& called, const std::string& text) {
  ASSERT_TRUE(called.error.has_value());
  EXPECT_EQ(called.error->code, XLA_FFI_Error_Code_INVALID_ARGUMENT);
  EXPECT_NE(called.error->message.find(text), std::string::npos)
      << called.error->message;
  EXPECT_TRUE(called.launches.empty());
}

TEST(CudaThreefryTest, FoldsOneDatumIntoEachKey) {
  const Called called =
      Call(FlaxlayerCudaFoldIn, {{XLA_FFI_DataType_U32, {3, 5, 2}},
                                 {XLA_FFI_DataType_U32, {3, 5}},
                                 {XLA_FFI_DataType_U32, {3, 5, 2}}});
  ExpectLaunch(
      called, "flaxlayer_fold_in",
      {called.addresses[0], called.addresses[2], 1, 15, called.addresses[1]});
}

TEST(CudaThreefryTest, DrawsWordsOfEveryWidth) {
  for (const auto& [dtype, width] :
       std::vector<std::pair<XLA_FFI_DataType, std::string>>{
           {XLA_FFI_DataType_U8, "8"},
           {XLA_FFI_DataType_U16, "16"},
           {XLA_FFI_DataType_U32, "32"},
           {XLA_FFI_DataType_U64, "64"}}) {
    const Called called =
        Call(FlaxlayerCudaRandomBits,
             {{XLA_FFI_DataType_U32, {4, 2}}, {dtype, {4, 7, 9}}});
    ExpectLaunch(called, "flaxlayer_random_bits" + width,
                 {called.addresses[0], called.addresses[1], 63, 4});
  }
}

TEST(CudaThreefryTest, SplitsKeys) {
  const Called called =
      Call(FlaxlayerCudaRandomSplit,
           {{XLA_FFI_DataType_U32, {2}}, {XLA_FFI_DataType_U32, {3, 4, 2}}});
  ExpectLaunch(called, "flaxlayer_random_split",
               {called.addresses[0], called.addresses[1], 12, 1});
}

TEST(CudaThreefryTest, StartsNothingForNothing) {
  for (const Called& called :
       {Call(FlaxlayerCudaFoldIn, {{XLA_FFI_DataType_U32, {0, 2}},
                                   {XLA_FFI_DataType_U32, {0}},
                                   {XLA_FFI_DataType_U32, {0, 2}}}),
        Call(FlaxlayerCudaRandomBits,
             {{XLA_FFI_DataType_U32, {3, 2}}, {XLA_FFI_DataType_U32, {3, 0}}}),
        Call(FlaxlayerCudaRandomSplit, {{XLA_FFI_DataType_U32, {0, 2}},
                                        {XLA_FFI_DataType_U32, {0, 4, 2}}})}) {
    EXPECT_FALSE(called.error.has_value());
    EXPECT_TRUE(called.launches.empty());
  }
}

TEST(CudaThreefryTest, RefusesWhatHasNoRoomForTheResult) {
  for (const auto& [data, folded] : std::vector<std::pair<Dims, Dims>>{
           {{4}, {3, 2}}, {{3}, {2, 2}}, {{3}, {3, 1}}, {{}, {3, 2}}}) {
    ExpectInvalid(Call(FlaxlayerCudaFoldIn, {{XLA_FFI_DataType_U32, {3, 2}},
                                             {XLA_FFI_DataType_U32, data},
                                             {XLA_FFI_DataType_U32, folded}}),
                  "flaxlayer_fold_in: the keys must be u32[..., 2]");
  }
  for (const auto& [keys, words] :
       std::vector<std::pair<Dims, Dims>>{{{3, 2}, {2, 5}},
                                          {{3}, {5}},
                                          {{}, {5}},
                                          {{3, 2}, {}},
                                          {{-1, 2}, {-1, 5}},
                                          {{2}, {kMax, kMax}}}) {
    ExpectInvalid(
        Call(FlaxlayerCudaRandomBits,
             {{XLA_FFI_DataType_U32, keys}, {XLA_FFI_DataType_U32, words}}),
        "flaxlayer_random_bits: the keys must be u32[..., 2]");
    Dims split = words;
    split.push_back(2);
    ExpectInvalid(
        Call(FlaxlayerCudaRandomSplit,
             {{XLA_FFI_DataType_U32, keys}, {XLA_FFI_DataType_U32, split}}),
        "flaxlayer_random_split: the keys must be u32[..., 2]");
  }
  ExpectInvalid(
      Call(FlaxlayerCudaRandomSplit,
           {{XLA_FFI_DataType_U32, {2}}, {XLA_FFI_DataType_U32, {5, 3}}}),
      "flaxlayer_random_split");
}

TEST(CudaThreefryTest, RefusesOtherTypes) {
  ExpectInvalid(Call(FlaxlayerCudaRandomBits, {{XLA_FFI_DataType_U32, {2}},
                                               {XLA_FFI_DataType_F32, {5}}}),
                "must be of type u8, u16, u32 or u64");
  const Called called =
      Call(FlaxlayerCudaFoldIn, {{XLA_FFI_DataType_F32, {2}},
                                 {XLA_FFI_DataType_U32, {}},
                                 {XLA_FFI_DataType_U32, {2}}});
  EXPECT_TRUE(called.error.has_value());
  EXPECT_TRUE(called.launches.empty());
}

TEST(CudaThreefryTest, SaysWhatTheDriverSays) {
  TheFakeDriver().failing = "cuLaunchKernel";
  const Called called =
      Call(FlaxlayerCudaRandomBits,
           {{XLA_FFI_DataType_U32, {2}}, {XLA_FFI_DataType_U32, {5}}});
  TheFakeDriver().failing = "";
  ASSERT_TRUE(called.error.has_value());
  EXPECT_EQ(called.error->code, XLA_FFI_Error_Code_INTERNAL);
  EXPECT_EQ(called.error->message,
            "flaxlayer: starting a kernel failed: it was told to (999)");
}

}  // namespace
}  // namespace flaxlayer
