#include <string>

#include "csrc/cuda/driver.h"
#include "gtest/gtest.h"

namespace flaxlayer {
namespace {

// Where there is a driver all the same, there is nothing to see.
TEST(MissingDriverTest, IsAReason) {
  const std::string& reason = LoadCudaKernels();
  if (reason.empty()) GTEST_SKIP() << "there is a driver";
  void* arguments[] = {nullptr};
  EXPECT_EQ(LaunchCudaKernel(CudaKernel::kFoldIn, nullptr, 1, 1, arguments),
            reason);
}

}  // namespace
}  // namespace flaxlayer
