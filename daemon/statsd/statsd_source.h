#pragma once
// StatsdSource: StatsD and DogStatsD over UDP and a unix datagram socket.
//
// Owner: the edge. Thread: the loop. Promise: every datagram taken is recorded or counted; what the
// kernel dropped is counted (statsd/sockets.h says where loss is possible); with a journal nothing
// that was taken is lost to kill -9, and with socket activation nothing that was sent
// (statsd/packet_journal.h, listen_fds.h). drain() reads what waits in the sockets. One socket that
// cannot be opened leaves the other running (degraded). Gauge changes ("+5") start from 0 after a
// restart. Cost: one recvmmsg per up to 64 datagrams. Bounded: the journal; when it is full
// datagrams wait in their sockets until the next commit.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/fd.h"
#include "common/log.h"
#include "daemon/source.h"
#include "daemon/statsd/intake.h"
#include "daemon/statsd/packet_journal.h"
#include "daemon/statsd/sockets.h"

namespace weir::daemon {

struct StatsdConfig {
  bool enabled = true;
  std::string udp = "127.0.0.1:8125";               // "": off
  std::string unix_path = "/run/weir/statsd.sock";  // "": off
  uint64_t receive_buffer = uint64_t{4} << 20;      // per socket
  std::string journal_path;                         // "": in memory only

  friend bool operator==(const StatsdConfig&, const StatsdConfig&) = default;
};

class StatsdSource final : public Source {
 public:
  // `inherited`: sockets of the service manager; a kind that is among them is not opened here.
  explicit StatsdSource(StatsdConfig config, std::vector<Fd> inherited = {});

  void start(SourceContext context) override;
  void drain(UnixTime now, Drain drain) override;
  void stop() override;
  [[nodiscard]] SourceStatus status() const override;
  [[nodiscard]] uint64_t journal_position() const override;
  void committed(uint64_t position) override;
  [[nodiscard]] bool wants_commit() const override;

  // "udp 127.0.0.1:43210": what is open, ports resolved.
  [[nodiscard]] std::vector<std::string> open_sockets() const;

 private:
  struct Open {
    statsd::PushSocket socket;
    Loop::EntryId entry = 0;
    uint32_t drops_seen = 0;
  };

  void open_journal();
  void open_sockets_of_config();
  void add(Result<statsd::PushSocket> socket);
  void listen();
  void pause();  // until the next commit
  bool read_batch(Open& open, UnixTime now);
  void read(Open& open, UnixTime now, size_t max_batches);
  void count_kernel_drops();

  StatsdConfig config_;
  std::vector<Fd> inherited_;
  std::optional<SourceContext> context_;
  std::optional<statsd::Intake> intake_;
  std::optional<PacketJournal> journal_;
  bool durable_ = false;
  uint64_t committed_ = 0;    // what journal_position() says without a durable journal
  uint64_t taken_bytes_ = 0;  // since the last commit
  bool paused_ = false;
  std::vector<Open> sockets_;
  std::vector<std::string> problems_;
  uint64_t kernel_drops_ = 0;
  uint64_t journals_discarded_ = 0;
  log::Limited limited_;
};

}  // namespace weir::daemon
