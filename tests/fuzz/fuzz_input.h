// What the targets in this folder share.

#ifndef FLAXLAYER_TESTS_FUZZ_FUZZ_INPUT_H_
#define FLAXLAYER_TESTS_FUZZ_FUZZ_INPUT_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

// Ends the process where something is not as it should be.
#define FUZZ_CHECK(condition)                                           \
  do {                                                                  \
    if (!(condition)) {                                                 \
      std::fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, \
                   #condition);                                         \
      std::abort();                                                     \
    }                                                                   \
  } while (false)

namespace flaxlayer {

// The bytes that a fuzzer invents, read as the numbers that a target needs.
class FuzzInput {
 public:
  FuzzInput(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  bool empty() const { return size_ == 0; }

  // The next number. What bytes are missing are zero.
  template <typename T>
  T Take() {
    T value = 0;
    const size_t size = std::min(size_, sizeof(T));
    if (size > 0) std::memcpy(&value, data_, size);
    data_ += size;
    size_ -= size;
    return value;
  }

  // From 0 to `last`; from two bytes, which is enough for where it is used.
  size_t TakeUpTo(uint16_t last) {
    return Take<uint16_t>() % (size_t{last} + 1);
  }

  bool TakeBool() { return (Take<uint8_t>() & 1) != 0; }

  template <typename T, size_t kCount>
  T TakeOneOf(const T (&choices)[kCount]) {
    return choices[Take<uint8_t>() % kCount];
  }

 private:
  const uint8_t* data_;
  size_t size_;
};

}  // namespace flaxlayer

#endif  // FLAXLAYER_TESTS_FUZZ_FUZZ_INPUT_H_
