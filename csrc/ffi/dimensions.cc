#include "csrc/ffi/dimensions.h"

#include <algorithm>
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

bool BeginWith(Dimensions dims, Dimensions first) {
  return dims.size() >= first.size() &&
         std::equal(first.begin(), first.end(), dims.begin());
}

bool BeginWithThoseOf(Dimensions dims, Dimensions keys) {
  return BeginWith(dims, Dimensions(keys.begin(), keys.size() - 1));
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
