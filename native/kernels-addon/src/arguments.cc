#include "arguments.h"

#include <cmath>

namespace nchunk_addon {
namespace {

constexpr double kSizeLimit = 2147483648.0;  // products of two sizes then fit in 64 bits

[[noreturn]] void Throw(Napi::Error error) {
  error.Set("code", Napi::String::New(error.Env(), "KERNELS_INVALID_ARGUMENT"));
  throw error;
}

}  // namespace

void ThrowRange(Napi::Env env, const std::string& message) { Throw(Napi::RangeError::New(env, message)); }
void ThrowType(Napi::Env env, const std::string& message) { Throw(Napi::TypeError::New(env, message)); }

double Arguments::Number(size_t index, const char* name) const {
  double value;
  if (napi_get_value_double(Env(), info_[index], &value) != napi_ok) {
    ThrowType(Env(), std::string(name) + " must be a number");
  }
  return value;
}

size_t Arguments::Size(size_t index, const char* name) const {
  const double value = Number(index, name);
  if (!(value >= 0 && value < kSizeLimit && value == std::floor(value))) {
    ThrowRange(Env(), std::string(name) + " must be a whole number in [0, 2^31), got " + std::to_string(value));
  }
  return static_cast<size_t>(value);
}

bool Arguments::Boolean(size_t index, const char* name) const {
  bool value;
  if (napi_get_value_bool(Env(), info_[index], &value) != napi_ok) {
    ThrowType(Env(), std::string(name) + " must be a boolean");
  }
  return value;
}

nchunk::Arithmetic Arguments::Arithmetic(size_t index) const {
  const bool reduced = !IsNull(index) && Boolean(index, "reduced");
  return reduced ? nchunk::Arithmetic::kReduced : nchunk::Arithmetic::kF32;
}

nchunk::Dtype Arguments::Dtype(size_t index) const {
  const size_t code = Size(index, "dtype");
  Require(code <= static_cast<size_t>(nchunk::Dtype::kF16), "dtype must be 0 (f32), 1 (bf16) or 2 (f16), got " + std::to_string(code));
  return static_cast<nchunk::Dtype>(code);
}

nchunk::Dtype Arguments::RowDtype(size_t index) const {
  const size_t code = Size(index, "dtype");
  Require(code <= static_cast<size_t>(nchunk::Dtype::kI4),
          "dtype must be 0 (f32), 1 (bf16), 2 (f16), 3 (int8) or 4 (int4), got " + std::to_string(code));
  return static_cast<nchunk::Dtype>(code);
}

void* Arguments::Array(size_t index, const char* name, napi_typedarray_type type, const char* type_name, size_t count,
                       size_t* length) const {
  napi_typedarray_type got;
  void* data;
  if (napi_get_typedarray_info(Env(), info_[index], &got, length, &data, nullptr, nullptr) != napi_ok || got != type) {
    ThrowType(Env(), std::string(name) + " must be a " + type_name);
  }
  if (*length < count) {
    ThrowRange(Env(), std::string(name) + " has " + std::to_string(*length) + " elements, the shape needs " + std::to_string(count));
  }
  return data;
}

Span<float> Arguments::Floats(size_t index, const char* name, size_t count) const {
  size_t length;
  void* data = Array(index, name, napi_float32_array, "Float32Array", count, &length);
  return {static_cast<float*>(data), length};
}

Span<uint8_t> Arguments::Bytes(size_t index, const char* name, size_t count) const {
  size_t length;
  void* data = Array(index, name, napi_uint8_array, "Uint8Array", count, &length);
  return {static_cast<uint8_t*>(data), length};
}

Span<uint32_t> Arguments::Uint32(size_t index, const char* name, size_t count) const {
  size_t length;
  void* data = Array(index, name, napi_uint32_array, "Uint32Array", count, &length);
  return {static_cast<uint32_t*>(data), length};
}

Span<int32_t> Arguments::Int32(size_t index, const char* name, size_t count) const {
  size_t length;
  void* data = Array(index, name, napi_int32_array, "Int32Array", count, &length);
  return {static_cast<int32_t*>(data), length};
}

Span<double> Arguments::Doubles(size_t index, const char* name, size_t count) const {
  size_t length;
  void* data = Array(index, name, napi_float64_array, "Float64Array", count, &length);
  return {static_cast<double*>(data), length};
}

bool Arguments::IsFloat64(size_t index) const {
  napi_typedarray_type type;
  return napi_get_typedarray_info(Env(), info_[index], &type, nullptr, nullptr, nullptr, nullptr) == napi_ok &&
         type == napi_float64_array;
}

void Arguments::CheckIndices(const Span<uint32_t>& indices, size_t count, size_t bound, const char* name) const {
  for (size_t i = 0; i < count; ++i) {
    if (indices.data[i] >= bound) {
      ThrowRange(Env(), std::string(name) + "[" + std::to_string(i) + "] is " + std::to_string(indices.data[i]) +
                            ", must be below " + std::to_string(bound));
    }
  }
}

size_t Arguments::GroupSize(size_t index, nchunk::Dtype dtype) const {
  if (!nchunk::IsQuantised(dtype)) return 0;
  const size_t columns = Size(index, "groupSize");
  Require(columns == 32 || columns == 64, "groupSize must be 32 or 64 for int8 and int4 rows, got " + std::to_string(columns));
  return columns;
}

size_t Arguments::RowBytes(nchunk::Dtype dtype, size_t n, size_t group_size, size_t row_bytes) const {
  const size_t wanted_bytes = nchunk::RowBytes(dtype, n, group_size);
  Require(wanted_bytes <= row_bytes, "rowBytes is " + std::to_string(row_bytes) + ", less than the " +
                                         std::to_string(wanted_bytes) + " of a row of n columns of dtype");
  return wanted_bytes;
}

void Arguments::CheckChunk(size_t c, const ChunkSpan& chunk, const ChunkBounds& bounds) const {
  const size_t length = chunk.length;
  const double offset = chunk.offset_bytes;
  const bool inside = size_t{chunk.start} + length <= bounds.k;
  const bool whole = offset >= 0 && offset <= static_cast<double>(bounds.landing_bytes) &&
                     static_cast<double>(static_cast<size_t>(offset)) == offset;
  const size_t span = length == 0 ? 0 : (length - 1) * bounds.row_bytes + bounds.wanted_bytes;
  if (inside && whole && static_cast<size_t>(offset) + span <= bounds.landing_bytes) return;
  ThrowRange(Env(), "chunk " + std::to_string(c) + " (start " + std::to_string(chunk.start) + ", length " +
                        std::to_string(length) + ", offset " + std::to_string(offset) + " bytes) is outside the " +
                        std::to_string(bounds.k) + " rows or the " + std::to_string(bounds.landing_bytes) + " landed bytes");
}

}  // namespace nchunk_addon
