// The words that handlers of random numbers have to return.

#ifndef FLAXLAYER_TESTS_FUZZ_FUZZ_WORDS_H_
#define FLAXLAYER_TESTS_FUZZ_FUZZ_WORDS_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "csrc/kernels/threefry.h"
#include "tests/csrc/ffi/test_buffer.h"
#include "tests/csrc/kernels/random_words_reference.h"
#include "tests/fuzz/fuzz_input.h"
#include "xla/ffi/api/c_api.h"

namespace flaxlayer {

constexpr XLA_FFI_DataType kWordTypes[] = {
    XLA_FFI_DataType_U8, XLA_FFI_DataType_U16, XLA_FFI_DataType_U32,
    XLA_FFI_DataType_U64};

inline std::vector<ThreefryKey> KeysOf(const TestBuffer& operand) {
  const std::vector<uint32_t> words = operand.Elements<uint32_t>();
  std::vector<ThreefryKey> keys;
  for (size_t i = 0; i < words.size(); i += 2) {
    keys.push_back({words[i], words[i + 1]});
  }
  return keys;
}

// Under each key the result has as many blocks; index(i) is the one of the
// i-th.
template <typename Kind, typename Index>
void ExpectWords(Kind kind, const std::vector<ThreefryKey>& keys,
                 const TestBuffer& result, const Index& index) {
  using Element = typename Kind::Element;
  if (result.size() == 0) return;
  Element block[Kind::kPerBlock];
  const size_t per_key = result.size() / sizeof(block) / keys.size();
  const unsigned char* at = result.bytes();
  for (const ThreefryKey& key : keys) {
    for (size_t i = 0; i < per_key; ++i) {
      const uint64_t counter = index(i);
      kind.Write(Threefry2x32(key, {static_cast<uint32_t>(counter >> 32),
                                    static_cast<uint32_t>(counter)}),
                 block);
      FUZZ_CHECK(std::memcmp(at, block, sizeof(block)) == 0);
      at += sizeof(block);
    }
  }
  FUZZ_CHECK(at == result.bytes() + result.size());
}

// Of the kind that the type of the result says.
template <typename Index>
void ExpectBits(const std::vector<ThreefryKey>& keys, const TestBuffer& result,
                const Index& index) {
  switch (result.dtype()) {
    case XLA_FFI_DataType_U8:
      return ExpectWords(Words8{}, keys, result, index);
    case XLA_FFI_DataType_U16:
      return ExpectWords(Words16{}, keys, result, index);
    case XLA_FFI_DataType_U32:
      return ExpectWords(Words32{}, keys, result, index);
    default:
      return ExpectWords(Words64{}, keys, result, index);
  }
}

}  // namespace flaxlayer

#endif  // FLAXLAYER_TESTS_FUZZ_FUZZ_WORDS_H_
