#pragma once
// RecordingLink keeps what is sent; the test is the peer.

#include <deque>

#include "common/check.h"
#include "common/control.h"
#include "common/frame.h"
#include "common/transport.h"

namespace weir {

struct SentFrame {
  FrameHeader header;
  Bytes body;

  [[nodiscard]] ControlMessage control() const {
    auto decoded = decode_control(body);
    WEIR_CHECK(decoded.ok());
    return *std::move(decoded);
  }
};

class RecordingLink final : public Link {
 public:
  bool send(ByteView header, ByteView body) override {
    if (room == 0) return false;
    --room;
    sent.push_back({*decode_header(header), {body.begin(), body.end()}});
    return true;
  }

  [[nodiscard]] bool writable() const override { return room > 0; }

  void on_receive(Receiver) override {}

  [[nodiscard]] uint64_t bad_frame_count() const override { return 0; }

  void reopen() override { ++reopened; }

  // How many of this type have been sent since the last clear().
  [[nodiscard]] size_t count(FrameType type) const {
    size_t n = 0;
    for (const SentFrame& frame : sent) n += frame.header.type == type ? 1 : 0;
    return n;
  }

  std::deque<SentFrame> sent;
  size_t room = SIZE_MAX;
  size_t reopened = 0;
};

// A message downwards.
struct DownFrame {
  DownFrame(FrameType type, const SourceId& to, const ControlMessage& message)
      : body(encode_control(message)) {
    FrameHeader plain;
    plain.type = type;
    plain.source = to;
    header = encode_header_for(plain, body);
  }

  HeaderBytes header;
  Bytes body;
};

}  // namespace weir
