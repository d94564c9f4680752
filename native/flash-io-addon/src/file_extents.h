#pragma once

#include <napi.h>

namespace flash_io_addon {

/// `fileExtents(fd)`: a promise of what lies behind an open file: `{ errno, extents, mappedBytes,
/// unwrittenBytes, encodedBytes, cachedBytes }`. `errno` is the answer of FIEMAP, 0 when the four
/// counts after it hold; `cachedBytes` is what the page cache holds of the file, -1 when the system
/// does not say.
Napi::Value file_extents(const Napi::CallbackInfo& info);

}  // namespace flash_io_addon
