#include <cstdint>
#include <cstdlib>
#include <string>

#include "csrc/cuda/driver.h"
#include "gtest/gtest.h"
#include "tests/csrc/cuda/fake_driver.h"

namespace flaxlayer {
namespace {

// What was found once is kept: every driver needs a process of its own.
void Load(const std::string& failing) {
  FakeDriver& driver = TheFakeDriver();
  driver.failing = failing;
  const std::string& reason = LoadCudaKernels();
  const std::string expected = ": it was told to (999)";
  uint64_t number = 1;
  void* arguments[] = {&number, &number, &number, &number};
  const bool is_right =
      reason.size() > expected.size() &&
      reason.compare(reason.size() - expected.size(), expected.size(),
                     expected) == 0 &&
      driver.contexts_taken >= driver.contexts_given_back &&
      // What failed once is said again, and nothing is started.
      LaunchCudaKernel(CudaKernel::kRandomSplit, nullptr, 1, 1, arguments) ==
          reason &&
      driver.launches.empty();
  std::exit(is_right ? 0 : 1);
}

TEST(FailingDriverDeathTest, IsNoFailureOfTheProcess) {
  for (const char* name :
       {"cuInit", "cuDeviceGetCount", "cuDeviceGet",
        "cuDevicePrimaryCtxGetState", "cuDevicePrimaryCtxRetain",
        "cuCtxPushCurrent_v2", "cuLibraryLoadData", "cuLibraryGetKernel",
        "cuKernelGetFunction"}) {
    EXPECT_EXIT(Load(name), ::testing::ExitedWithCode(0), "") << name;
  }
}

}  // namespace
}  // namespace flaxlayer
