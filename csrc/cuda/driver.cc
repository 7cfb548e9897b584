#include "csrc/cuda/driver.h"

#if defined(__linux__)
#include <dlfcn.h>
#endif

#include <algorithm>
#include <cstdint>
#include <string>
#include <type_traits>

#include "csrc/cuda/threefry_ptx.h"

namespace flaxlayer {
namespace {

// The driver's interface, as "CUDA Driver API" of NVIDIA documents it: results
// are numbers, of which 0 is success, and all else here is passed on.
using Status = int;
using Context = void*;
using Kernel = void*;
using Library = void*;

struct Driver {
  Status (*get_error_string)(Status, const char**);
  Status (*init)(unsigned flags);
  Status (*device_count)(int* count);
  Status (*device)(int* device, int ordinal);
  Status (*context_state)(int device, unsigned* flags, int* active);
  Status (*retain_context)(Context* context, int device);
  Status (*release_context)(int device);
  Status (*push_context)(Context context);
  Status (*pop_context)(Context* context);
  Status (*load_library)(Library* library, const void* code, int* options,
                         void** option_values, unsigned num_options,
                         int* library_options, void** library_option_values,
                         unsigned num_library_options);
  Status (*library_kernel)(Kernel* kernel, Library library, const char* name);
  Status (*kernel_function)(void** function, Kernel kernel);
  Status (*launch)(void* function, unsigned grid_x, unsigned grid_y,
                   unsigned grid_z, unsigned block_x, unsigned block_y,
                   unsigned block_z, unsigned shared_bytes, void* stream,
                   void** arguments, void** extra);
};

// In the order of CudaKernel.
constexpr const char* kNames[] = {
    "flaxlayer_fold_in",       "flaxlayer_random_split",
    "flaxlayer_random_bits8",  "flaxlayer_random_bits16",
    "flaxlayer_random_bits32", "flaxlayer_random_bits64",
};
constexpr int kNumKernels = sizeof(kNames) / sizeof(kNames[0]);

constexpr unsigned kThreads = 256;
// Enough for all multiprocessors of a card, and fewer than either axis of a
// grid can have. Where there are more indices a thread takes several.
constexpr uint64_t kMaxBlocks = 132 * 32;

struct Loaded {
  std::string reason;
  Driver driver = {};
  Kernel kernels[kNumKernels] = {};
};

#if defined(__linux__)

std::string Failure(const Driver& driver, const char* what, Status status) {
  const char* text = nullptr;
  if (driver.get_error_string == nullptr ||
      driver.get_error_string(status, &text) != 0 || text == nullptr) {
    text = "unknown error";
  }
  return std::string(what) + " failed: " + text + " (" +
         std::to_string(status) + ")";
}

// Looks up what is called. Returns why not, or "".
std::string Find(Driver* driver) {
  // Not closed: the kernels are there as long as the process.
  void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return dlerror();
  const auto find = [library](const char* name, auto* function) {
    void* symbol = dlsym(library, name);
    *function =
        reinterpret_cast<std::remove_pointer_t<decltype(function)>>(symbol);
    return symbol != nullptr;
  };
  // A name with a suffix is that of the interface in today's headers.
  if (find("cuGetErrorString", &driver->get_error_string) &&
      find("cuInit", &driver->init) &&
      find("cuDeviceGetCount", &driver->device_count) &&
      find("cuDeviceGet", &driver->device) &&
      find("cuDevicePrimaryCtxGetState", &driver->context_state) &&
      find("cuDevicePrimaryCtxRetain", &driver->retain_context) &&
      find("cuDevicePrimaryCtxRelease_v2", &driver->release_context) &&
      find("cuCtxPushCurrent_v2", &driver->push_context) &&
      find("cuCtxPopCurrent_v2", &driver->pop_context) &&
      find("cuLibraryLoadData", &driver->load_library) &&
      find("cuLibraryGetKernel", &driver->library_kernel) &&
      find("cuKernelGetFunction", &driver->kernel_function) &&
      find("cuLaunchKernel", &driver->launch)) {
    return "";
  }
  return "the driver of CUDA is older than 12.0";
}

// Loads the kernels into the context that XLA has made for a device, if it has.
std::string LoadForDevice(const Loaded& loaded, int ordinal) {
  const Driver& driver = loaded.driver;
  int device = 0;
  unsigned flags = 0;
  int active = 0;
  Status status = driver.device(&device, ordinal);
  if (status == 0) status = driver.context_state(device, &flags, &active);
  if (status != 0) return Failure(driver, "asking for a device", status);
  // To make a context would take memory of a card that is not in use here.
  if (active == 0) return "";
  Context context = nullptr;
  status = driver.retain_context(&context, device);
  if (status != 0) return Failure(driver, "taking a context", status);
  status = driver.push_context(context);
  if (status == 0) {
    for (Kernel kernel : loaded.kernels) {
      void* function = nullptr;
      if (status == 0) status = driver.kernel_function(&function, kernel);
    }
    driver.pop_context(&context);
  }
  driver.release_context(device);
  return status == 0 ? "" : Failure(driver, "loading kernels", status);
}

Loaded Load() {
  Loaded loaded;
  Driver& driver = loaded.driver;
  loaded.reason = Find(&driver);
  if (!loaded.reason.empty()) return loaded;

  int num_devices = 0;
  Library library = nullptr;
  Status status = driver.init(0);
  if (status == 0) status = driver.device_count(&num_devices);
  if (status == 0) {
    status = driver.load_library(&library, kThreefryPtx, nullptr, nullptr, 0,
                                 nullptr, nullptr, 0);
  }
  for (int i = 0; i < kNumKernels && status == 0; ++i) {
    status = driver.library_kernel(&loaded.kernels[i], library, kNames[i]);
  }
  if (status != 0) {
    loaded.reason = Failure(driver, "compiling kernels", status);
    return loaded;
  }
  for (int i = 0; i < num_devices && loaded.reason.empty(); ++i) {
    loaded.reason = LoadForDevice(loaded, i);
  }
  return loaded;
}

#else

Loaded Load() {
  Loaded loaded;
  loaded.reason = "there is no CUDA on this system";
  return loaded;
}

std::string Failure(const Driver&, const char* what, Status) { return what; }

#endif

// Never destroyed: a stream may be at work while the process ends.
const Loaded& TheKernels() {
  static const Loaded* const loaded = new Loaded(Load());
  return *loaded;
}

}  // namespace

const std::string& LoadCudaKernels() { return TheKernels().reason; }

std::string LaunchCudaKernel(CudaKernel kernel, void* stream, uint64_t num_keys,
                             uint64_t per_key, void** arguments) {
  const Loaded& loaded = TheKernels();
  if (!loaded.reason.empty()) return loaded.reason;
  // Threads of a block that no index is left for take other keys.
  unsigned threads_x = 1;
  while (threads_x < kThreads && threads_x < per_key) threads_x *= 2;
  const unsigned threads_y = kThreads / threads_x;
  const uint64_t blocks_x = std::min((per_key - 1) / threads_x + 1, kMaxBlocks);
  const uint64_t blocks_y =
      std::min((num_keys - 1) / threads_y + 1, kMaxBlocks / blocks_x);
  const Status status = loaded.driver.launch(
      loaded.kernels[static_cast<int>(kernel)], static_cast<unsigned>(blocks_x),
      static_cast<unsigned>(blocks_y), 1, threads_x, threads_y, 1, 0, stream,
      arguments, nullptr);
  return status == 0 ? "" : Failure(loaded.driver, "starting a kernel", status);
}

}  // namespace flaxlayer
