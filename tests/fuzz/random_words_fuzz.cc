// The kernels of random words for every instruction set of this machine, each
// compared with the scalar function.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "csrc/kernels/instruction_set.h"
#include "csrc/kernels/random_words.h"
#include "csrc/kernels/threefry.h"
#include "tests/csrc/kernels/random_words_reference.h"
#include "tests/fuzz/fuzz_input.h"

namespace flaxlayer {
namespace {

// Anywhere, and often near to where half of the index or all of it overflows.
uint64_t TakeStart(FuzzInput& input) {
  const uint64_t start = input.Take<uint64_t>();
  switch (input.Take<uint8_t>() % 4) {
    case 0:
      return start;
    case 1:
      return start % 1024;
    case 2:
      return (start << 32) - start % 1024;
    default:
      return uint64_t{0} - start % 1024;
  }
}

template <typename Kind>
void Compare(Kind kind, FuzzInput& input) {
  using Element = typename Kind::Element;
  const ThreefryKey key = {input.Take<uint32_t>(), input.Take<uint32_t>()};
  const uint64_t start = TakeStart(input);
  const size_t count = input.TakeUpTo(700);  // Ten of the largest steps.
  const size_t offset = input.TakeUpTo(64);
  const size_t size = count * Kind::kPerBlock;
  const std::vector<Element> expected = ExpectedWords(kind, key, start, count);
  const Element filling = static_cast<Element>(input.Take<uint64_t>());
  for (const InstructionSet set : kInstructionSets) {
    if (!Supported(set)) continue;
    // On the heap and no larger than it has to be: AddressSanitizer sees what
    // is written behind it. An `offset` from where vectors would be aligned.
    const std::unique_ptr<Element[]> out(new Element[offset + size]);
    std::fill(out.get(), out.get() + offset + size, filling);
    kind.Call(RandomWordsFor(set), key, start, count, out.get() + offset);
    FUZZ_CHECK(std::count(out.get(), out.get() + offset, filling) ==
               static_cast<std::ptrdiff_t>(offset));
    FUZZ_CHECK(
        std::equal(expected.begin(), expected.end(), out.get() + offset));
  }
}

}  // namespace
}  // namespace flaxlayer

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  flaxlayer::FuzzInput input(data, size);
  switch (input.Take<uint8_t>() % 5) {
    case 0:
      flaxlayer::Compare(flaxlayer::Words8{}, input);
      break;
    case 1:
      flaxlayer::Compare(flaxlayer::Words16{}, input);
      break;
    case 2:
      flaxlayer::Compare(flaxlayer::Words32{}, input);
      break;
    case 3:
      flaxlayer::Compare(flaxlayer::Words64{}, input);
      break;
    default:
      flaxlayer::Compare(flaxlayer::Blocks{}, input);
  }
  return 0;
}
