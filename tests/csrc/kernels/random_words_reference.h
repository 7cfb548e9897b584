// What the kernels of random_words.h have to compute, one block at a time.

#ifndef FLAXLAYER_TESTS_CSRC_KERNELS_RANDOM_WORDS_REFERENCE_H_
#define FLAXLAYER_TESTS_CSRC_KERNELS_RANDOM_WORDS_REFERENCE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "csrc/kernels/instruction_set.h"
#include "csrc/kernels/random_words.h"
#include "csrc/kernels/threefry.h"

namespace flaxlayer {

constexpr InstructionSet kInstructionSets[] = {
    InstructionSet::kBaseline,
    InstructionSet::kAvx2,
    InstructionSet::kAvx512,
};

// The kinds of output. Each has the type and the number of elements for a
// block, how they follow from it, and the kernel that writes those of many.
struct Words8 {
  using Element = uint8_t;
  static constexpr const char* kName = "words8";
  static constexpr size_t kPerBlock = 1;
  void Write(ThreefryBlock block, Element* out) const {
    out[0] = static_cast<uint8_t>(block.x0 ^ block.x1);
  }
  void Call(const RandomWordsKernels& kernels, ThreefryKey key, uint64_t start,
            size_t count, Element* out) const {
    kernels.words8(key, start, count, out);
  }
};

struct Words16 {
  using Element = uint16_t;
  static constexpr const char* kName = "words16";
  static constexpr size_t kPerBlock = 1;
  void Write(ThreefryBlock block, Element* out) const {
    out[0] = static_cast<uint16_t>(block.x0 ^ block.x1);
  }
  void Call(const RandomWordsKernels& kernels, ThreefryKey key, uint64_t start,
            size_t count, Element* out) const {
    kernels.words16(key, start, count, out);
  }
};

struct Words32 {
  using Element = uint32_t;
  static constexpr const char* kName = "words32";
  static constexpr size_t kPerBlock = 1;
  void Write(ThreefryBlock block, Element* out) const {
    out[0] = block.x0 ^ block.x1;
  }
  void Call(const RandomWordsKernels& kernels, ThreefryKey key, uint64_t start,
            size_t count, Element* out) const {
    kernels.words32(key, start, count, out);
  }
};

struct Words64 {
  using Element = uint64_t;
  static constexpr const char* kName = "words64";
  static constexpr size_t kPerBlock = 1;
  void Write(ThreefryBlock block, Element* out) const {
    out[0] = uint64_t{block.x0} << 32 | block.x1;
  }
  void Call(const RandomWordsKernels& kernels, ThreefryKey key, uint64_t start,
            size_t count, Element* out) const {
    kernels.words64(key, start, count, out);
  }
};

struct Blocks {
  using Element = uint32_t;
  static constexpr const char* kName = "blocks";
  static constexpr size_t kPerBlock = 2;
  void Write(ThreefryBlock block, Element* out) const {
    out[0] = block.x0;
    out[1] = block.x1;
  }
  void Call(const RandomWordsKernels& kernels, ThreefryKey key, uint64_t start,
            size_t count, Element* out) const {
    kernels.blocks(key, start, count, out);
  }
};

// Calls `function` with an object of each kind.
template <typename Function>
void ForEachKind(Function function) {
  function(Words8{});
  function(Words16{});
  function(Words32{});
  function(Words64{});
  function(Blocks{});
}

// The elements for the `count` indices from `start`.
template <typename Kind>
std::vector<typename Kind::Element> ExpectedWords(Kind kind, ThreefryKey key,
                                                  uint64_t start,
                                                  size_t count) {
  std::vector<typename Kind::Element> words(count * Kind::kPerBlock);
  for (size_t i = 0; i < count; ++i) {
    const uint64_t index = start + i;
    kind.Write(Threefry2x32(key, {static_cast<uint32_t>(index >> 32),
                                  static_cast<uint32_t>(index)}),
               words.data() + i * Kind::kPerBlock);
  }
  return words;
}

}  // namespace flaxlayer

#endif  // FLAXLAYER_TESTS_CSRC_KERNELS_RANDOM_WORDS_REFERENCE_H_
