#include "csrc/ffi/dimensions.h"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>

namespace flaxlayer {

std::string ShapeString(const char* type, Dimensions dims) {
  std::string text = type;
  text += "[";
  for (size_t i = 0; i < dims.size(); ++i) {
    if (i > 0) text += ",";
    text += std::to_string(dims[i]);
  }
  return text + "]";
}

bool AreKeys(Dimensions dims) {
  return dims.size() > 0 && dims[dims.size() - 1] == 2;
}

bool BeginWithThoseOf(Dimensions dims, Dimensions keys) {
  const size_t leading = keys.size() - 1;
  if (dims.size() < leading) return false;
  for (size_t i = 0; i < leading; ++i) {
    if (dims[i] != keys[i]) return false;
  }
  return true;
}

bool Product(Dimensions dims, size_t first, size_t last, size_t* product) {
  size_t result = 1;
  for (size_t i = first; i < last; ++i) {
    if (dims[i] < 0) return false;
    const uint64_t dim = static_cast<uint64_t>(dims[i]);
    if (dim != 0 && result > std::numeric_limits<size_t>::max() / dim) {
      return false;
    }
    result *= static_cast<size_t>(dim);
  }
  *product = result;
  return true;
}

}  // namespace flaxlayer
