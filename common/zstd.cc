#include "common/zstd.h"

#include <zstd.h>

#include <memory>
#include <string>

#include "common/check.h"

namespace weir {
namespace {

struct Free {
  void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }

  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
};

// One of each thread that packs, or unpacks: to make and clear one costs more than a small body
// does.
ZSTD_CCtx* packer() {
  static thread_local const std::unique_ptr<ZSTD_CCtx, Free> context(ZSTD_createCCtx());
  WEIR_CHECK(context != nullptr);
  return context.get();
}

ZSTD_DCtx* unpacker() {
  static thread_local const std::unique_ptr<ZSTD_DCtx, Free> context(ZSTD_createDCtx());
  WEIR_CHECK(context != nullptr);
  return context.get();
}

}  // namespace

Result<Bytes> zstd_compress(ByteView raw, int level) {
  Bytes out(ZSTD_compressBound(raw.size()));
  const size_t size =
      ZSTD_compressCCtx(packer(), out.data(), out.size(), raw.data(), raw.size(), level);
  if (ZSTD_isError(size) != 0) {
    return Error{Errc::kInternal, std::string("zstd: ") + ZSTD_getErrorName(size)};
  }
  out.resize(size);
  return out;
}

Result<Bytes> zstd_decompress(ByteView frame, size_t exact_size) {
  const unsigned long long declared = ZSTD_getFrameContentSize(frame.data(), frame.size());
  if (declared == ZSTD_CONTENTSIZE_ERROR) return invalid("zstd: not a frame");
  if (declared == ZSTD_CONTENTSIZE_UNKNOWN) return invalid("zstd: the frame hides its size");
  if (declared != exact_size) {
    return invalid("zstd: the frame holds " + std::to_string(declared) + " bytes, not " +
                   std::to_string(exact_size));
  }
  // One frame only: what follows it would be content nobody declared.
  const size_t whole = ZSTD_findFrameCompressedSize(frame.data(), frame.size());
  if (ZSTD_isError(whole) != 0 || whole != frame.size()) {
    return invalid("zstd: truncated frame, or bytes after it");
  }
  Bytes out(exact_size);
  const size_t size =
      ZSTD_decompressDCtx(unpacker(), out.data(), out.size(), frame.data(), frame.size());
  if (ZSTD_isError(size) != 0) return invalid(std::string("zstd: ") + ZSTD_getErrorName(size));
  if (size != exact_size) return invalid("zstd: the frame is shorter than declared");
  return out;
}

}  // namespace weir
