// Memory for the operands and results of a FakeCall.

#ifndef FLAXLAYER_TESTS_CSRC_FFI_TEST_BUFFER_H_
#define FLAXLAYER_TESTS_CSRC_FFI_TEST_BUFFER_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "xla/ffi/api/c_api.h"
#include "xla/ffi/api/ffi.h"

namespace flaxlayer {

// The product of dimensions; nothing where one is negative or where 64 bits do
// not hold the product of those that are not zero.
inline std::optional<uint64_t> ElementCount(const std::vector<int64_t>& dims) {
  uint64_t count = 1;
  bool is_empty = false;
  for (const int64_t dim : dims) {
    if (dim < 0) return std::nullopt;
    if (dim == 0) {
      is_empty = true;
      continue;
    }
    if (count > UINT64_MAX / static_cast<uint64_t>(dim)) return std::nullopt;
    count *= static_cast<uint64_t>(dim);
  }
  return is_empty ? 0 : count;
}

// The bytes are on the heap and exactly as many as the dimensions say, so that
// AddressSanitizer sees any access beyond them. Dimensions that ask for more
// than kMaxBytes, or for nothing possible, get none: a handler must not touch
// them.
class TestBuffer {
 public:
  static constexpr uint64_t kMaxBytes = uint64_t{1} << 24;
  static constexpr unsigned char kUntouched = 0xa5;

  TestBuffer(XLA_FFI_DataType dtype, std::vector<int64_t> dims)
      : dtype_(dtype), dims_(std::move(dims)) {
    const std::optional<uint64_t> count = ElementCount(dims_);
    const size_t width =
        ::xla::ffi::ByteWidth(static_cast<::xla::ffi::DataType>(dtype));
    if (count.has_value() && *count <= kMaxBytes / std::max<size_t>(1, width)) {
      size_ = static_cast<size_t>(*count) * width;
      is_real_ = true;
    }
    bytes_.reset(new unsigned char[size_]);
    std::fill(bytes_.get(), bytes_.get() + size_, kUntouched);
  }

  XLA_FFI_DataType dtype() const { return dtype_; }
  const std::vector<int64_t>& dims() const { return dims_; }
  // Whether there is as much memory as the dimensions say.
  bool is_real() const { return is_real_; }
  size_t size() const { return size_; }
  unsigned char* bytes() const { return bytes_.get(); }

  bool is_untouched() const {
    return std::all_of(bytes_.get(), bytes_.get() + size_,
                       [](unsigned char byte) { return byte == kUntouched; });
  }

  // As numbers of the type T; what is left over at the end is left out.
  template <typename T>
  std::vector<T> Elements() const {
    std::vector<T> elements(size_ / sizeof(T));
    const size_t size = elements.size() * sizeof(T);
    if (size > 0) std::memcpy(elements.data(), bytes_.get(), size);
    return elements;
  }
  template <typename T>
  void SetElements(const std::vector<T>& elements) {
    const size_t size = std::min(size_, elements.size() * sizeof(T));
    if (size > 0) std::memcpy(bytes_.get(), elements.data(), size);
  }

 private:
  XLA_FFI_DataType dtype_;
  std::vector<int64_t> dims_;
  bool is_real_ = false;
  size_t size_ = 0;
  std::unique_ptr<unsigned char[]> bytes_;
};

}  // namespace flaxlayer

#endif  // FLAXLAYER_TESTS_CSRC_FFI_TEST_BUFFER_H_
