#include "flash_io/failure.h"

namespace flash_io {

const char* failure_code_name(FailureCode code) {
  switch (code) {
    case FailureCode::kTruncated:
      return "TRUNCATED";
    case FailureCode::kIoError:
      return "IO_ERROR";
    case FailureCode::kFileChanged:
      return "FILE_CHANGED";
    case FailureCode::kDirectIoUnsupported:
      return "DIRECT_IO_UNSUPPORTED";
    case FailureCode::kOpenFailed:
      return "OPEN_FAILED";
    case FailureCode::kNotAFile:
      return "NOT_A_FILE";
    case FailureCode::kNoResources:
      return "NO_RESOURCES";
    case FailureCode::kBackendUnsupported:
      return "BACKEND_UNSUPPORTED";
  }
  return "IO_ERROR";
}

}  // namespace flash_io
