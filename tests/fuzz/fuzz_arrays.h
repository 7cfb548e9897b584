// Types and shapes of what handlers are called with.

#ifndef FLAXLAYER_TESTS_FUZZ_FUZZ_ARRAYS_H_
#define FLAXLAYER_TESTS_FUZZ_FUZZ_ARRAYS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tests/fuzz/fuzz_input.h"
#include "xla/ffi/api/c_api.h"

namespace flaxlayer {

using Dims = std::vector<int64_t>;

constexpr XLA_FFI_DataType kTypes[] = {
    XLA_FFI_DataType_PRED, XLA_FFI_DataType_S8,     XLA_FFI_DataType_S16,
    XLA_FFI_DataType_S32,  XLA_FFI_DataType_S64,    XLA_FFI_DataType_U8,
    XLA_FFI_DataType_U16,  XLA_FFI_DataType_U32,    XLA_FFI_DataType_U64,
    XLA_FFI_DataType_F16,  XLA_FFI_DataType_BF16,   XLA_FFI_DataType_F32,
    XLA_FFI_DataType_F64,  XLA_FFI_DataType_C64,    XLA_FFI_DataType_C128,
    XLA_FFI_DataType_U4,   XLA_FFI_DataType_F8E5M2, XLA_FFI_DataType_TOKEN,
};

struct Array {
  XLA_FFI_DataType dtype;
  Dims dims;
  // What it begins with, where that is not any numbers.
  std::vector<uint32_t> values = {};
};

inline bool operator==(const Array& a, const Array& b) {
  return a.dtype == b.dtype && a.dims == b.dims;
}

inline Dims TakeDims(FuzzInput& input) {
  Dims dims(input.TakeUpTo(2));
  for (int64_t& dim : dims) dim = static_cast<int64_t>(input.TakeUpTo(4));
  return dims;
}

// Changes an array, leaves it out or adds another.
inline void Spoil(FuzzInput& input, std::vector<Array>& arrays) {
  const int what = input.Take<uint8_t>() % 7;
  if (arrays.empty() || what == 0) {
    arrays.push_back({input.TakeOneOf(kTypes), TakeDims(input)});
    return;
  }
  const size_t which = input.TakeUpTo(15) % arrays.size();
  Dims& dims = arrays[which].dims;
  const size_t axis = dims.empty() ? 0 : input.TakeUpTo(8) % dims.size();
  switch (what) {
    case 1:
      arrays.erase(arrays.begin() + static_cast<std::ptrdiff_t>(which));
      break;
    case 2:
      arrays[which].dtype = input.TakeOneOf(kTypes);
      break;
    case 3:
      dims.insert(dims.begin() + static_cast<std::ptrdiff_t>(axis),
                  static_cast<int64_t>(input.TakeUpTo(3)));
      break;
    case 4:
      if (!dims.empty()) {
        dims.erase(dims.begin() + static_cast<std::ptrdiff_t>(axis));
      }
      break;
    case 5:
      if (!dims.empty()) dims[axis] = input.Take<int8_t>() % 8;
      break;
    default:
      // Any number, often with a product that overflows.
      if (!dims.empty()) dims[axis] = input.Take<int64_t>();
  }
}

}  // namespace flaxlayer

#endif  // FLAXLAYER_TESTS_FUZZ_FUZZ_ARRAYS_H_
