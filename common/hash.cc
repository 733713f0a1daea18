#include "common/hash.h"

#include <sodium.h>

#include "common/check.h"

namespace weir {

uint64_t process_seed() {
  static const uint64_t seed = [] {
    WEIR_CHECK(sodium_init() >= 0);
    uint64_t drawn = 0;
    randombytes_buf(&drawn, sizeof drawn);
    return drawn;
  }();
  return seed;
}

}  // namespace weir
