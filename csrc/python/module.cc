// The Python extension flaxlayer._native: handler addresses and build facts.
//
// It registers nothing itself and does not link XLA; python/flaxlayer/ops
// hands the capsules to JAX.

#include <pybind11/pybind11.h>

#include <string>

#include "csrc/cuda/driver.h"
#include "csrc/cuda/threefry_ptx.h"
#include "csrc/ffi/cuda_threefry.h"
#include "csrc/ffi/fold_in.h"
#include "csrc/ffi/random_words.h"
#include "csrc/ffi/rng_fold.h"
#include "csrc/ffi/state_merge.h"
#include "csrc/kernels/instruction_set.h"
#include "xla/ffi/api/c_api.h"

namespace flaxlayer {
namespace {

namespace py = ::pybind11;

// The capsule has no name: that is the form jax.ffi.register_ffi_target takes.
py::capsule HandlerCapsule(XLA_FFI_Handler* handler) {
  return py::capsule(reinterpret_cast<void*>(handler));
}

// A version is raised when a handler takes other operands or attributes, or
// computes anything else: exported programs name the one they were made for.
py::dict Versions() {
  py::dict versions;
  versions["flaxlayer_fold_in"] = 1;
  versions["flaxlayer_random_bits"] = 1;
  versions["flaxlayer_random_block"] = 1;
  versions["flaxlayer_random_split"] = 1;
  versions["flaxlayer_rng_fold"] = 1;
  versions["flaxlayer_state_merge"] = 1;
  return versions;
}

py::dict Registrations() {
  py::dict targets;
  targets["flaxlayer_fold_in"] = HandlerCapsule(FlaxlayerFoldIn);
  targets["flaxlayer_random_bits"] = HandlerCapsule(FlaxlayerRandomBits);
  targets["flaxlayer_random_block"] = HandlerCapsule(FlaxlayerRandomBlock);
  targets["flaxlayer_random_split"] = HandlerCapsule(FlaxlayerRandomSplit);
  targets["flaxlayer_rng_fold"] = HandlerCapsule(FlaxlayerRngFold);
  targets["flaxlayer_state_merge"] = HandlerCapsule(FlaxlayerStateMerge);
  return targets;
}

py::dict CudaRegistrations() {
  py::dict targets;
  targets["flaxlayer_fold_in"] = HandlerCapsule(FlaxlayerCudaFoldIn);
  targets["flaxlayer_random_bits"] = HandlerCapsule(FlaxlayerCudaRandomBits);
  targets["flaxlayer_random_split"] = HandlerCapsule(FlaxlayerCudaRandomSplit);
  return targets;
}

std::string CompilerName() {
#if defined(__clang__)
  return __VERSION__;  // Says "Clang" itself.
#elif defined(__GNUC__)
  return std::string("GCC ") + __VERSION__;
#elif defined(_MSC_VER)
  return "MSVC " + std::to_string(_MSC_VER);
#else
  return "unknown";
#endif
}

py::dict BuildInfo() {
#if defined(_MSVC_LANG)
  constexpr long kStandard = _MSVC_LANG;  // NOLINT(runtime/int)
#else
  constexpr long kStandard = __cplusplus;  // NOLINT(runtime/int)
#endif
  py::dict info;
  info["compiler"] = CompilerName();
  info["cpp_standard"] = kStandard;
  info["xla_ffi_api"] = py::make_tuple(XLA_FFI_API_MAJOR, XLA_FFI_API_MINOR);
  info["instruction_set"] = InstructionSetName(BestInstructionSet());
  return info;
}

}  // namespace
}  // namespace flaxlayer

PYBIND11_MODULE(_native, m) {
  m.doc() = "XLA FFI handlers of flaxlayer; see flaxlayer.ops.native.";
  m.def("registrations", &flaxlayer::Registrations,
        "Custom call target name -> capsule of its CPU handler.");
  m.def("cuda_registrations", &flaxlayer::CudaRegistrations,
        "Custom call target name -> capsule of its handler for CUDA.");
  m.def("load_cuda_kernels", &flaxlayer::LoadCudaKernels,
        "Loads the kernels for the CUDA devices in use; returns why there are "
        "none, or ''. Before any program that has them is run.");
  m.def(
      "cuda_kernels", [] { return std::string(flaxlayer::kThreefryPtx); },
      "The text of the kernels for CUDA, PTX.");
  m.def("versions", &flaxlayer::Versions,
        "Custom call target name -> version of its handler.");
  m.def("build_info", &flaxlayer::BuildInfo,
        "compiler (str), cpp_standard (int, the value of __cplusplus), "
        "xla_ffi_api ((major, minor) of the headers built with), "
        "instruction_set (str, what the kernels use on this machine).");
}
