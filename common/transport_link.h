#pragma once
// The Link of common/transport.h over ZeroMQ. Beside libzmq's own reconnecting it makes a new
// socket after a failed handshake: with the server's other key when there are two, and less often
// each time.

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "common/transport_socket.h"

namespace weir::transport {

class ZmqLink final : public Link {
 public:
  ZmqLink(TransportContext& context, Loop& loop, std::string endpoint, LinkOptions options);
  ZmqLink(const ZmqLink&) = delete;
  ZmqLink& operator=(const ZmqLink&) = delete;
  ~ZmqLink() override;

  bool send(ByteView header, ByteView body) override;
  [[nodiscard]] bool writable() const override;

  void on_receive(Receiver receiver) override { receiver_ = std::move(receiver); }

  [[nodiscard]] uint64_t bad_frame_count() const override { return bad_frames_; }

  [[nodiscard]] std::string refusal() const override { return refusal_; }

  void reopen() override;

 private:
  void open();
  void on_handshake(Handshake outcome);
  void drain();

  TransportContext& context_;
  Loop& loop_;
  std::string endpoint_;
  LinkOptions options_;
  size_t server_key_ = 0;  // of options_.server_keys
  std::unique_ptr<LoopSocket> socket_;
  std::unique_ptr<HandshakeMonitor> monitor_;  // of socket_: goes first
  std::chrono::milliseconds retry_;
  Loop::EntryId reopen_ = 0;  // 0: none is due
  std::string refusal_;
  Receiver receiver_;
  uint64_t bad_frames_ = 0;
};

}  // namespace weir::transport
