#include "csrc/cuda/driver.h"

#include <cstdint>
#include <string>
#include <vector>

#include "csrc/cuda/threefry_ptx.h"
#include "gtest/gtest.h"
#include "tests/csrc/cuda/fake_driver.h"

namespace flaxlayer {
namespace {

// What was found once is kept, so each test is to be run in a process of its
// own, or after those before it: that is why there is one of each kind.

TEST(DriverTest, LoadsTheKernelsForDevicesInUse) {
  ASSERT_EQ(LoadCudaKernels(), "");
  FakeDriver& driver = TheFakeDriver();
  EXPECT_EQ(driver.code, kThreefryPtx);
  EXPECT_TRUE(driver.loaded[0].empty());
  EXPECT_EQ(driver.loaded[1],
            (std::vector<std::string>{
                "flaxlayer_fold_in", "flaxlayer_random_split",
                "flaxlayer_random_bits8", "flaxlayer_random_bits16",
                "flaxlayer_random_bits32", "flaxlayer_random_bits64"}));
  EXPECT_EQ(driver.contexts_taken, 1);
  EXPECT_EQ(driver.contexts_given_back, 1);
  EXPECT_EQ(LoadCudaKernels(), "");
  EXPECT_EQ(driver.contexts_taken, 1);
  for (const std::string& name : driver.loaded[1]) {
    EXPECT_NE(driver.code.find(".entry " + name + "("), std::string::npos);
  }
}

struct Shape {
  uint64_t num_keys;
  uint64_t per_key;
};

TEST(DriverTest, LaunchesThreadsForAllIndices) {
  FakeDriver& driver = TheFakeDriver();
  int stream = 0;
  for (const Shape& shape : std::vector<Shape>{{1, 1},
                                               {1, 255},
                                               {1, 256},
                                               {1, 257},
                                               {1000, 1},
                                               {uint64_t{1} << 40, 1},
                                               {1, uint64_t{1} << 60},
                                               {70000, 300},
                                               {3, uint64_t{1} << 33}}) {
    driver.launches.clear();
    uint64_t numbers[] = {11, 12, shape.per_key, shape.num_keys};
    void* arguments[] = {numbers, numbers + 1, numbers + 2, numbers + 3};
    ASSERT_EQ(LaunchCudaKernel(CudaKernel::kRandomBits32, &stream,
                               shape.num_keys, shape.per_key, arguments),
              "");
    ASSERT_EQ(driver.launches.size(), 1u);
    const FakeLaunch& launch = driver.launches[0];
    EXPECT_EQ(launch.kernel, "flaxlayer_random_bits32");
    EXPECT_EQ(launch.stream, &stream);
    EXPECT_EQ(launch.arguments,
              (std::vector<uint64_t>{11, 12, shape.per_key, shape.num_keys}));
    EXPECT_EQ(launch.block[0] * launch.block[1], 256u);
    EXPECT_EQ(launch.block[2], 1u);
    EXPECT_EQ(launch.grid[2], 1u);
    // What every card allows.
    EXPECT_GE(launch.grid[0], 1u);
    EXPECT_LE(launch.grid[0], 0x7fffffffu);
    EXPECT_GE(launch.grid[1], 1u);
    EXPECT_LE(launch.grid[1], 65535u);
    // No block has nothing to do.
    EXPECT_LT(uint64_t{launch.grid[0] - 1} * launch.block[0], shape.per_key);
    EXPECT_LT(uint64_t{launch.grid[1] - 1} * launch.block[1], shape.num_keys);
  }
}

TEST(DriverTest, SaysWhatFailed) {
  TheFakeDriver().failing = "cuLaunchKernel";
  uint64_t number = 1;
  void* arguments[] = {&number, &number, &number, &number};
  EXPECT_EQ(
      LaunchCudaKernel(CudaKernel::kRandomSplit, nullptr, 1, 1, arguments),
      "starting a kernel failed: it was told to (999)");
  TheFakeDriver().failing = "";
}

}  // namespace
}  // namespace flaxlayer
