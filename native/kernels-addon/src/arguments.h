// Reads arguments, checking what would otherwise be a memory error. Policy and defaults live in TypeScript.
#ifndef NCHUNK_KERNELS_ADDON_ARGUMENTS_H_
#define NCHUNK_KERNELS_ADDON_ARGUMENTS_H_

#include <napi.h>

#include <cstdint>
#include <string>

#include "nchunk/kernels.h"

namespace nchunk_addon {

template <class T>
struct Span {
  T* data;
  size_t length;
};

// Throws a RangeError with code KERNELS_INVALID_ARGUMENT.
[[noreturn]] void ThrowRange(Napi::Env env, const std::string& message);
[[noreturn]] void ThrowType(Napi::Env env, const std::string& message);

// A chunk of rows as the products take them: rows start .. start + length, the first at `offset_bytes`.
struct ChunkSpan {
  uint32_t start;
  uint32_t length;
  double offset_bytes;
};
// What bounds it.
struct ChunkBounds {
  size_t k;
  size_t row_bytes;
  size_t wanted_bytes;  // of a row
  size_t landing_bytes;
};

class Arguments {
 public:
  explicit Arguments(const Napi::CallbackInfo& info) : info_(info) {}

  Napi::Env Env() const { return info_.Env(); }
  const Napi::CallbackInfo& info() const { return info_; }

  // A whole number in [0, 2^31).
  size_t Size(size_t index, const char* name) const;
  double Number(size_t index, const char* name) const;
  bool Boolean(size_t index, const char* name) const;
  // An optional boolean `reduced`.
  nchunk::Arithmetic Arithmetic(size_t index) const;
  // Of plain weights; of chunked rows, which may be quantised.
  nchunk::Dtype Dtype(size_t index) const;
  nchunk::Dtype RowDtype(size_t index) const;
  bool IsNull(size_t index) const { return info_[index].IsNull() || info_[index].IsUndefined(); }

  // Arrays with room for `count` elements at least.
  Span<float> Floats(size_t index, const char* name, size_t count) const;
  Span<uint8_t> Bytes(size_t index, const char* name, size_t count) const;
  Span<uint32_t> Uint32(size_t index, const char* name, size_t count) const;
  Span<int32_t> Int32(size_t index, const char* name, size_t count) const;
  Span<double> Doubles(size_t index, const char* name, size_t count) const;
  // A Float64Array, else false.
  bool IsFloat64(size_t index) const;

  // [0, bound) holds every element.
  void CheckIndices(const Span<uint32_t>& indices, size_t count, size_t bound, const char* name) const;

  // Of int8 and int4 rows; 0 of others.
  size_t GroupSize(size_t index, nchunk::Dtype dtype) const;
  // Bytes of a row of n weights, at most `row_bytes`.
  size_t RowBytes(nchunk::Dtype dtype, size_t n, size_t group_size, size_t row_bytes) const;
  // Chunk `c` lies within the channels and within the landing bytes.
  void CheckChunk(size_t c, const ChunkSpan& chunk, const ChunkBounds& bounds) const;

  void Require(bool condition, const std::string& message) const {
    if (!condition) ThrowRange(Env(), message);
  }

 private:
  void* Array(size_t index, const char* name, napi_typedarray_type type, const char* type_name, size_t count,
              size_t* length) const;

  const Napi::CallbackInfo& info_;
};

}  // namespace nchunk_addon

#endif  // NCHUNK_KERNELS_ADDON_ARGUMENTS_H_
