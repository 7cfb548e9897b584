// The driver of CUDA, found when a process has CUDA devices.
//
// Nothing of CUDA is needed to build this: what is called is looked up by name
// in the library that comes with the driver. XLA has loaded it before.

#ifndef FLAXLAYER_CSRC_CUDA_DRIVER_H_
#define FLAXLAYER_CSRC_CUDA_DRIVER_H_

#include <cstdint>
#include <string>

namespace flaxlayer {

// The kernels of threefry_ptx.h.
enum class CudaKernel {
  kFoldIn,
  kRandomSplit,
  kRandomBits8,
  kRandomBits16,
  kRandomBits32,
  kRandomBits64,
};

// Compiles the kernels, and loads them for every device that is in use. It is
// to be called where that may wait for the device, and so before any program
// with a kernel is run: while XLA records a graph it may not. The first call
// does it, later ones return what it found.
//
// Returns why there are no kernels, or "".
const std::string& LoadCudaKernels();

// Computes `per_key` indices under each of `num_keys` keys, neither of which is
// zero, on a stream of the device that is in use in this thread.
//
//   arguments: those of the kernel, in the order of threefry_ptx.h. Only read
//     before the function returns.
//
// Returns why it could not be started, or "".
std::string LaunchCudaKernel(CudaKernel kernel, void* stream, uint64_t num_keys,
                             uint64_t per_key, void** arguments);

}  // namespace flaxlayer

#endif  // FLAXLAYER_CSRC_CUDA_DRIVER_H_
