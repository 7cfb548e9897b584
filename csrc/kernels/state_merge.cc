#include "csrc/kernels/state_merge.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace flaxlayer {
namespace {

// Several numbers at a time. The baseline of every processor is enough, unlike
// for random words: it reads faster than what is read can be copied, which is
// what comes next.
#if defined(__GNUC__) || defined(__clang__)
typedef uint64_t Words __attribute__((vector_size(16)));
#else
typedef uint64_t Words;
#endif

// With one at a time each would have to wait for the one before.
constexpr size_t kStep = 4 * sizeof(Words);
// How far to go without a look at what has been found.
constexpr size_t kLook = 4096;
static_assert(kLook % kStep == 0, "a number of whole steps");

// A number is infinite or NaN if all bits of its exponent are set. One added to
// the exponent then carries into the sign, which was cleared, and in no other
// case; it never carries out of the sign. So a 64-bit addition tests all the
// numbers in a word.
struct Test {
  uint64_t magnitude;  // All bits but the signs.
  uint64_t one;        // The lowest bits of the exponents.
};

constexpr Test TestFor(FloatFormat format) {
  switch (format) {
    case FloatFormat::kF16:
      return {0x7fff7fff7fff7fff, 0x0400040004000400};
    case FloatFormat::kBF16:
      return {0x7fff7fff7fff7fff, 0x0080008000800080};
    case FloatFormat::kF32:
      return {0x7fffffff7fffffff, 0x0080000000800000};
    case FloatFormat::kF64:
      break;
  }
  return {0x7fffffffffffffff, 0x0010000000000000};
}

// Whether all numbers in `size` bytes, a multiple of kStep, are finite.
bool Finite(const Test& test, const unsigned char* data, size_t size) {
  // Written out, since compilers keep no array of these in registers.
  Words found0{};
  Words found1{};
  Words found2{};
  Words found3{};
  for (size_t at = 0; at < size; at += kStep) {
    Words words[4];
    std::memcpy(words, data + at, kStep);
    found0 |= (words[0] & test.magnitude) + test.one;
    found1 |= (words[1] & test.magnitude) + test.one;
    found2 |= (words[2] & test.magnitude) + test.one;
    found3 |= (words[3] & test.magnitude) + test.one;
  }
  const Words found = found0 | found1 | found2 | found3;
  uint64_t parts[sizeof(Words) / sizeof(uint64_t)];
  std::memcpy(parts, &found, sizeof(found));
  uint64_t any = 0;
  for (const uint64_t part : parts) any |= part;
  return (any & ~test.magnitude) == 0;
}

}  // namespace

bool AllFinite(FloatFormat format, const void* data, size_t size) {
  const Test test = TestFor(format);
  const unsigned char* bytes = static_cast<const unsigned char*>(data);
  const size_t whole = size / kStep * kStep;
  for (size_t at = 0; at < whole; at += kLook) {
    if (!Finite(test, bytes + at, std::min(kLook, whole - at))) return false;
  }
  if (whole == size) return true;
  unsigned char rest[kStep] = {};  // Zero is finite.
  std::memcpy(rest, bytes + whole, size - whole);
  return Finite(test, rest, kStep);
}

}  // namespace flaxlayer
