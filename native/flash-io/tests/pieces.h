#pragma once

#include <algorithm>
#include <random>
#include <vector>

#include "support.h"

namespace flash_io::testing {

/// A piece of the test file and where it belongs in the landing.
struct Piece {
  std::uint64_t offset;
  std::uint32_t length;
  std::size_t landing_offset;
};

/// Random aligned pieces, with gaps between them in the landing that nothing may write to.
class Pieces {
 public:
  Pieces(std::mt19937_64& random, std::uint64_t file_bytes, std::uint32_t alignment,
         std::size_t count, std::uint32_t most_bytes = 64 << 10)
      : alignment_(alignment) {
    const std::uint64_t blocks = (file_bytes + alignment - 1) / alignment;
    for (std::size_t i = 0; i < count; ++i) {
      const std::uint64_t block = random() % blocks;
      const std::uint64_t most = std::min<std::uint64_t>(blocks - block, most_bytes / alignment);
      const auto length = static_cast<std::uint32_t>((1 + random() % most) * alignment);
      pieces_.push_back({block * alignment, length, landing_bytes_});
      landing_bytes_ += length + alignment;
    }
  }

  std::size_t landing_bytes() const { return landing_bytes_; }

  std::vector<ReadRequest> requests(GuardedLanding& landing) const {
    std::vector<ReadRequest> requests;
    for (const Piece& piece : pieces_) {
      requests.push_back({piece.offset, piece.length, landing.data() + piece.landing_offset});
    }
    return requests;
  }

  ::testing::AssertionResult landed(GuardedLanding& landing,
                                    const std::vector<std::uint8_t>& file) const {
    for (const Piece& piece : pieces_) {
      const std::size_t wanted = std::min<std::size_t>(piece.length, file.size() - piece.offset);
      const std::uint8_t* got = landing.data() + piece.landing_offset;
      if (std::memcmp(got, file.data() + piece.offset, wanted) != 0) {
        return ::testing::AssertionFailure() << "wrong bytes at " << piece.offset;
      }
      if (!landing.untouched(piece.landing_offset + piece.length, alignment_)) {
        return ::testing::AssertionFailure() << "written behind the piece at " << piece.offset;
      }
    }
    if (!landing.guards_intact()) return ::testing::AssertionFailure() << "written outside";
    return ::testing::AssertionSuccess();
  }

 private:
  std::uint32_t alignment_;
  std::size_t landing_bytes_ = 0;
  std::vector<Piece> pieces_;
};

}  // namespace flash_io::testing
