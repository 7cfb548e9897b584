#include "tests/csrc/cuda/fake_driver.h"

#include <cstdint>
#include <string>

namespace flaxlayer {

FakeDriver& TheFakeDriver() {
  static FakeDriver* const driver = new FakeDriver;
  return *driver;
}

namespace {

constexpr int kFailure = 999;

// Of contexts and devices, which are numbers from 1; of a library, which is
// one; and of kernels, which are their names.
char library;
int current = 0;

int Result(const char* name) {
  return TheFakeDriver().failing == name ? kFailure : 0;
}

}  // namespace
}  // namespace flaxlayer

using flaxlayer::Result;
using flaxlayer::TheFakeDriver;

extern "C" {

int cuGetErrorString(int status, const char** text) {
  *text = status == flaxlayer::kFailure ? "it was told to" : nullptr;
  return *text == nullptr ? 1 : 0;
}

int cuInit(unsigned flags) { return flags == 0 ? Result("cuInit") : 1; }

int cuDeviceGetCount(int* count) {
  *count = static_cast<int>(TheFakeDriver().devices.size());
  return Result("cuDeviceGetCount");
}

int cuDeviceGet(int* device, int ordinal) {
  *device = ordinal + 1;
  return Result("cuDeviceGet");
}

int cuDevicePrimaryCtxGetState(int device, unsigned* flags, int* active) {
  *flags = 0;
  *active = TheFakeDriver().devices[device - 1];
  return Result("cuDevicePrimaryCtxGetState");
}

int cuDevicePrimaryCtxRetain(void** context, int device) {
  ++TheFakeDriver().contexts_taken;
  *context = reinterpret_cast<void*>(static_cast<uintptr_t>(device));
  return Result("cuDevicePrimaryCtxRetain");
}

int cuDevicePrimaryCtxRelease_v2(int device) {
  (void)device;
  ++TheFakeDriver().contexts_given_back;
  return 0;
}

int cuCtxPushCurrent_v2(void* context) {
  flaxlayer::current = static_cast<int>(reinterpret_cast<uintptr_t>(context));
  return Result("cuCtxPushCurrent_v2");
}

int cuCtxPopCurrent_v2(void** context) {
  *context = nullptr;
  flaxlayer::current = 0;
  return 0;
}

int cuLibraryLoadData(void** library, const void* code, int*, void**, unsigned,
                      int*, void**, unsigned) {
  TheFakeDriver().code = static_cast<const char*>(code);
  *library = &flaxlayer::library;
  return Result("cuLibraryLoadData");
}

int cuLibraryGetKernel(void** kernel, void* library, const char* name) {
  if (library != &flaxlayer::library) return 1;
  *kernel = const_cast<char*>(name);
  return Result("cuLibraryGetKernel");
}

int cuKernelGetFunction(void** function, void* kernel) {
  if (flaxlayer::current == 0) return 1;
  TheFakeDriver().loaded[flaxlayer::current - 1].push_back(
      static_cast<const char*>(kernel));
  *function = kernel;
  return Result("cuKernelGetFunction");
}

int cuLaunchKernel(void* function, unsigned grid_x, unsigned grid_y,
                   unsigned grid_z, unsigned block_x, unsigned block_y,
                   unsigned block_z, unsigned shared_bytes, void* stream,
                   void** arguments, void** extra) {
  if (shared_bytes != 0 || extra != nullptr) return 1;
  const std::string kernel = static_cast<const char*>(function);
  flaxlayer::FakeLaunch launch = {kernel,
                                  {grid_x, grid_y, grid_z},
                                  {block_x, block_y, block_z},
                                  stream,
                                  {}};
  const int num_arguments = kernel == "flaxlayer_fold_in" ? 5 : 4;
  for (int i = 0; i < num_arguments; ++i) {
    launch.arguments.push_back(*static_cast<uint64_t*>(arguments[i]));
  }
  TheFakeDriver().launches.push_back(launch);
  return Result("cuLaunchKernel");
}

}  // extern "C"
