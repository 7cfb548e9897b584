// Calls as a program might make that XLA did not compile: with any number of
// operands, results and attributes of any types and shapes.

#ifndef FLAXLAYER_TESTS_FUZZ_FUZZ_CALL_H_
#define FLAXLAYER_TESTS_FUZZ_FUZZ_CALL_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "tests/csrc/ffi/call_frame.h"
#include "tests/csrc/ffi/fake_api.h"
#include "tests/csrc/ffi/test_buffer.h"
#include "tests/fuzz/fuzz_arrays.h"
#include "tests/fuzz/fuzz_input.h"
#include "xla/ffi/api/c_api.h"

namespace flaxlayer {

struct Attribute {
  std::string name;
  bool is_array;
  XLA_FFI_DataType dtype;
  size_t size;                // Of an array.
  std::vector<uint8_t> data;  // Of as many values as it has or more.

  // As many as there are in an array.
  template <typename T>
  std::vector<T> Values() const {
    std::vector<T> values(size);
    const size_t bytes = std::min(data.size(), size * sizeof(T));
    if (bytes > 0) std::memcpy(values.data(), data.data(), bytes);
    return values;
  }
};

template <typename T>
Attribute ArrayAttribute(const std::string& name, XLA_FFI_DataType dtype,
                         const std::vector<T>& values) {
  Attribute attribute = {name, true, dtype, values.size(), {}};
  attribute.data.resize(values.size() * sizeof(T));
  if (!values.empty()) {
    std::memcpy(attribute.data.data(), values.data(), attribute.data.size());
  }
  return attribute;
}

struct HandlerCall {
  std::vector<Array> operands;
  std::vector<Array> results;
  std::vector<Attribute> attributes;
};

inline Dims Concatenated(Dims dims, const Dims& more) {
  dims.insert(dims.end(), more.begin(), more.end());
  return dims;
}

inline bool BeginWith(const Dims& dims, const Dims& first) {
  return dims.size() >= first.size() &&
         std::equal(first.begin(), first.end(), dims.begin());
}

// Not for a handler without attributes: whether it ignores those that it is
// given depends on the version of XLA's headers.
inline void Spoil(FuzzInput& input, std::vector<Attribute>& attributes) {
  if (attributes.empty()) return;
  switch (input.Take<uint8_t>() % 4) {
    case 0:
      attributes.clear();
      break;
    case 1:
      attributes[0].name = "other";
      break;
    case 2:
      attributes[0].dtype = input.TakeOneOf(kTypes);
      break;
    default:
      attributes[0].is_array = !attributes[0].is_array;
      attributes[0].size = 2;
  }
}

inline void Spoil(FuzzInput& input, HandlerCall& call) {
  switch (input.Take<uint8_t>() % 4) {
    case 0:
      Spoil(input, call.attributes);
      break;
    case 1:
      Spoil(input, call.results);
      break;
    default:
      Spoil(input, call.operands);
  }
}

// Calls a handler, which has to return an error and write nothing unless the
// call is right. What XLA does guarantee holds: a buffer has as many bytes as
// its type and dimensions say. For dimensions that no buffer can have there is
// none.
//
// is_right(operands) says whether it is; of a right one expect(operands,
// result) looks at what is returned.
template <typename IsRight, typename Expect>
void CheckCall(FuzzInput& input, XLA_FFI_Handler* handler, HandlerCall call,
               const IsRight& is_right, const Expect& expect) {
  std::vector<TestBuffer> operands;
  for (const Array& array : call.operands) {
    operands.emplace_back(array.dtype, array.dims);
    uint32_t number = input.Take<uint32_t>();
    std::vector<uint32_t> numbers(operands.back().size() / sizeof(number));
    for (uint32_t& element : numbers) element = number *= 0x9e3779b1;
    operands.back().SetElements(numbers);
    operands.back().SetElements(array.values);
  }
  std::vector<TestBuffer> results;
  for (const Array& array : call.results) {
    results.emplace_back(array.dtype, array.dims);
  }
  // Impossible dimensions are welcome, but not possible ones that are too large
  // to have memory for.
  bool are_possible = true;
  for (const std::vector<TestBuffer>* buffers : {&operands, &results}) {
    for (const TestBuffer& buffer : *buffers) {
      if (buffer.is_real()) continue;
      if (ElementCount(buffer.dims()).has_value()) return;
      are_possible = false;
    }
  }

  FakeThreadPool pool(
      static_cast<int64_t>(input.TakeUpTo(6)),
      input.TakeOneOf({Tasks::kInline, Tasks::kLate, Tasks::kOnThreads}));
  FakeCall fake;
  if (input.TakeBool()) fake.Threads(&pool);
  // What is empty may be nowhere.
  const bool empty_is_null = input.TakeBool();
  const auto memory = [&](const TestBuffer& buffer) {
    return buffer.size() == 0 && empty_is_null ? nullptr : buffer.bytes();
  };
  std::vector<std::vector<uint8_t>> before;
  for (const TestBuffer& buffer : operands) {
    fake.Operand(buffer.dtype(), buffer.dims(), memory(buffer));
    before.push_back(buffer.Elements<uint8_t>());
  }
  for (const TestBuffer& buffer : results) {
    fake.Result(buffer.dtype(), buffer.dims(), memory(buffer));
  }
  for (Attribute& attribute : call.attributes) {
    // As much memory as the largest of the types asks for.
    attribute.data.resize(16 * attribute.size + 16);
    if (attribute.is_array) {
      fake.ArrayAttribute(attribute.name, attribute.dtype, attribute.size,
                          attribute.data.data());
    } else {
      fake.ScalarAttribute(attribute.name, attribute.dtype,
                           attribute.data.data());
    }
  }

  const std::optional<CallError> error = fake.Run(handler);
  pool.Finish();
  for (size_t i = 0; i < operands.size(); ++i) {
    FUZZ_CHECK(operands[i].Elements<uint8_t>() == before[i]);
  }
  if (error.has_value()) {
    FUZZ_CHECK(!is_right(operands) || !are_possible);
    FUZZ_CHECK(error->code == XLA_FFI_Error_Code_INVALID_ARGUMENT);
    FUZZ_CHECK(!error->message.empty());
    for (const TestBuffer& buffer : results) FUZZ_CHECK(buffer.is_untouched());
  } else {
    FUZZ_CHECK(is_right(operands));
    // It may be right with impossible operands as long as it makes nothing of
    // them.
    if (!are_possible) {
      FUZZ_CHECK(results[0].size() == 0);
    } else {
      expect(operands, results[0]);
    }
  }
}

}  // namespace flaxlayer

#endif  // FLAXLAYER_TESTS_FUZZ_FUZZ_CALL_H_
