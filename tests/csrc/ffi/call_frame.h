// Calls an XLA FFI handler without an XLA runtime.
//
// A handler takes one C struct, the call frame, and the XLA FFI headers define
// it and everything below it. FakeCall fills one in from vectors, so that a
// test can hand a handler what a compiled program never would.

#ifndef FLAXLAYER_TESTS_CSRC_FFI_CALL_FRAME_H_
#define FLAXLAYER_TESTS_CSRC_FFI_CALL_FRAME_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "tests/csrc/ffi/fake_api.h"
#include "xla/ffi/api/c_api.h"

namespace flaxlayer {

struct CallError {
  XLA_FFI_Error_Code code;
  std::string message;
};

class FakeCall {
 public:
  FakeCall& Operand(XLA_FFI_DataType dtype, std::vector<int64_t> dims,
                    void* data) {
    operands_.push_back(MakeBuffer(dtype, std::move(dims), data));
    return *this;
  }

  FakeCall& Result(XLA_FFI_DataType dtype, std::vector<int64_t> dims,
                   void* data) {
    results_.push_back(MakeBuffer(dtype, std::move(dims), data));
    return *this;
  }

  FakeCall& ArrayAttribute(const std::string& name, XLA_FFI_DataType dtype,
                           size_t size, void* data) {
    attributes_[name] = XLA_FFI_Array{dtype, size, data};
    return *this;
  }

  FakeCall& ScalarAttribute(const std::string& name, XLA_FFI_DataType dtype,
                            void* value) {
    attributes_[name] = XLA_FFI_Scalar{dtype, value};
    return *this;
  }

  // The threads that the handler may use; without any if null, the default.
  FakeCall& Threads(FakeThreadPool* pool) {
    context_ = pool;
    return *this;
  }

  // The stream of a device, for handlers that have one in place of threads.
  FakeCall& Stream(void* stream) {
    context_ = stream;
    return *this;
  }

  // Runs the handler; nullopt is success.
  std::optional<CallError> Run(XLA_FFI_Handler* handler) {
    const XLA_FFI_Api api = FakeApi();
    std::vector<void*> operands = Pointers(operands_);
    std::vector<XLA_FFI_ArgType> operand_types(operands.size(),
                                               XLA_FFI_ArgType_BUFFER);
    std::vector<void*> results = Pointers(results_);
    std::vector<XLA_FFI_RetType> result_types(results.size(),
                                              XLA_FFI_RetType_BUFFER);

    // std::map iterates by name, which is the order a handler relies on.
    std::deque<XLA_FFI_ByteSpan> names;
    std::vector<XLA_FFI_ByteSpan*> name_pointers;
    std::vector<void*> attributes;
    std::vector<XLA_FFI_AttrType> attribute_types;
    for (auto& [name, attribute] : attributes_) {
      names.push_back({name.data(), name.size()});
      name_pointers.push_back(&names.back());
      if (auto* array = std::get_if<XLA_FFI_Array>(&attribute)) {
        attributes.push_back(array);
        attribute_types.push_back(XLA_FFI_AttrType_ARRAY);
      } else {
        attributes.push_back(&std::get<XLA_FFI_Scalar>(attribute));
        attribute_types.push_back(XLA_FFI_AttrType_SCALAR);
      }
    }

    XLA_FFI_CallFrame frame = {};
    frame.struct_size = XLA_FFI_CallFrame_STRUCT_SIZE;
    frame.api = &api;
    frame.ctx = reinterpret_cast<decltype(frame.ctx)>(context_);
    frame.stage = XLA_FFI_ExecutionStage_EXECUTE;
    frame.args.struct_size = XLA_FFI_Args_STRUCT_SIZE;
    frame.args.size = static_cast<int64_t>(operands.size());
    frame.args.types = operand_types.data();
    frame.args.args = operands.data();
    frame.rets.struct_size = XLA_FFI_Rets_STRUCT_SIZE;
    frame.rets.size = static_cast<int64_t>(results.size());
    frame.rets.types = result_types.data();
    frame.rets.rets = results.data();
    frame.attrs.struct_size = XLA_FFI_Attrs_STRUCT_SIZE;
    frame.attrs.size = static_cast<int64_t>(attributes.size());
    frame.attrs.types = attribute_types.data();
    frame.attrs.names = name_pointers.data();
    frame.attrs.attrs = attributes.data();

    std::unique_ptr<XLA_FFI_Error> error(handler(&frame));
    if (error == nullptr) return std::nullopt;
    return CallError{error->code, error->message};
  }

 private:
  struct OwnedBuffer {
    std::vector<int64_t> dims;
    XLA_FFI_Buffer buffer;
  };

  static std::unique_ptr<OwnedBuffer> MakeBuffer(XLA_FFI_DataType dtype,
                                                 std::vector<int64_t> dims,
                                                 void* data) {
    auto owned = std::make_unique<OwnedBuffer>();
    owned->dims = std::move(dims);
    owned->buffer = {};
    owned->buffer.struct_size = XLA_FFI_Buffer_STRUCT_SIZE;
    owned->buffer.dtype = dtype;
    owned->buffer.data = data;
    owned->buffer.rank = static_cast<int64_t>(owned->dims.size());
    owned->buffer.dims = owned->dims.data();
    return owned;
  }

  static std::vector<void*> Pointers(
      const std::vector<std::unique_ptr<OwnedBuffer>>& buffers) {
    std::vector<void*> pointers;
    for (const auto& owned : buffers) pointers.push_back(&owned->buffer);
    return pointers;
  }

  std::vector<std::unique_ptr<OwnedBuffer>> operands_;
  std::vector<std::unique_ptr<OwnedBuffer>> results_;
  std::map<std::string, std::variant<XLA_FFI_Array, XLA_FFI_Scalar>>
      attributes_;
  void* context_ = nullptr;
};

}  // namespace flaxlayer

#endif  // FLAXLAYER_TESTS_CSRC_FFI_CALL_FRAME_H_
