// The kernel that folds data into a key, compared with the block function.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "csrc/kernels/fold_in.h"
#include "csrc/kernels/threefry.h"
#include "tests/fuzz/fuzz_input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  flaxlayer::FuzzInput input(bytes, size);
  const flaxlayer::ThreefryKey key = {input.Take<uint32_t>(),
                                      input.Take<uint32_t>()};
  std::vector<uint32_t> numbers;
  while (!input.empty()) numbers.push_back(input.Take<uint32_t>());

  // On the heap and no larger than they have to be, for AddressSanitizer.
  const size_t count = numbers.size();
  const std::unique_ptr<uint32_t[]> data(new uint32_t[count]);
  std::copy(numbers.begin(), numbers.end(), data.get());
  const std::unique_ptr<uint32_t[]> keys(new uint32_t[2 * count]);
  flaxlayer::FoldIn(key, data.get(), count, keys.get());
  for (size_t i = 0; i < count; ++i) {
    const flaxlayer::ThreefryBlock expected =
        flaxlayer::Threefry2x32(key, {0, numbers[i]});
    FUZZ_CHECK(data[i] == numbers[i]);
    FUZZ_CHECK(keys[2 * i] == expected.x0);
    FUZZ_CHECK(keys[2 * i + 1] == expected.x1);
  }
  return 0;
}
