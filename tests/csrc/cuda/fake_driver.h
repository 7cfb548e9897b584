// A driver of CUDA for machines without: it writes down what it is asked for.
//
// It is a shared library that calls itself libcuda.so.1, as that of NVIDIA
// does. A test is linked with it, and so the name is found.

#ifndef FLAXLAYER_TESTS_CSRC_CUDA_FAKE_DRIVER_H_
#define FLAXLAYER_TESTS_CSRC_CUDA_FAKE_DRIVER_H_

#include <cstdint>
#include <string>
#include <vector>

namespace flaxlayer {

struct FakeLaunch {
  std::string kernel;
  unsigned grid[3];
  unsigned block[3];
  void* stream;
  std::vector<uint64_t> arguments;
};

struct FakeDriver {
  // The devices there are, and whether each is in use.
  std::vector<bool> devices = {false, true};
  // The function that fails, by the name it is looked up by, or "".
  std::string failing;

  std::string code;
  // The kernels that were loaded, for each device.
  std::vector<std::vector<std::string>> loaded = {{}, {}};
  int contexts_taken = 0;
  int contexts_given_back = 0;
  std::vector<FakeLaunch> launches;
};

// The one of this process.
FakeDriver& TheFakeDriver();

}  // namespace flaxlayer

#endif  // FLAXLAYER_TESTS_CSRC_CUDA_FAKE_DRIVER_H_
