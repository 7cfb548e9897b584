#include "csrc/kernels/instruction_set.h"

#include <string>

#include "gtest/gtest.h"

namespace flaxlayer {
namespace {

TEST(InstructionSetTest, EveryMachineHasTheBaseline) {
  EXPECT_TRUE(Supported(InstructionSet::kBaseline));
}

TEST(InstructionSetTest, TheBestIsTheLastThatIsSupported) {
  InstructionSet last = InstructionSet::kBaseline;
  for (const InstructionSet set :
       {InstructionSet::kAvx2, InstructionSet::kAvx512}) {
    if (Supported(set)) last = set;
  }
  EXPECT_EQ(BestInstructionSet(), last);
}

TEST(InstructionSetTest, OnlyX86HasAvx) {
  if (FLAXLAYER_HAVE_AVX) GTEST_SKIP() << "there are kernels for AVX";
  EXPECT_FALSE(Supported(InstructionSet::kAvx2));
  EXPECT_FALSE(Supported(InstructionSet::kAvx512));
}

TEST(InstructionSetTest, HasNames) {
  const std::string baseline = InstructionSetName(InstructionSet::kBaseline);
#if defined(__x86_64__)
  EXPECT_EQ(baseline, "sse2");
#elif defined(__aarch64__)
  EXPECT_EQ(baseline, "neon");
#else
  EXPECT_EQ(baseline, "portable");
#endif
  EXPECT_EQ(InstructionSetName(InstructionSet::kAvx2), std::string("avx2"));
  EXPECT_EQ(InstructionSetName(InstructionSet::kAvx512), std::string("avx512"));
}

}  // namespace
}  // namespace flaxlayer
