#include "daemon/statsd/statsd_source.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <utility>

#include <fmt/core.h>

namespace weir::daemon {
namespace {

using statsd::PushSocket;
using statsd::Reject;

constexpr size_t kMostSpellings = size_t{8} << 20;  // bytes of remembered label sets
constexpr size_t kJournalBytes = size_t{32} << 20;
constexpr size_t kCommitBytes = size_t{8} << 20;  // taken since the last commit: ask for one
constexpr size_t kRecordOverhead = 32;            // in the journal, per datagram
// Per callback, so that other sources and the sender get their turn; and per drain, so that a
// sender faster than we are cannot keep the loop here.
constexpr size_t kBatchesPerTurn = 16;
constexpr size_t kBatchesPerDrain = 256;
constexpr size_t kBatchesAtTheEnd = 4096;

std::string boot_id() {
  std::ifstream in("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(in, id);
  return id;
}

}  // namespace

StatsdSource::StatsdSource(StatsdConfig config, std::vector<Fd> inherited)
    : config_(std::move(config)), inherited_(std::move(inherited)) {}

void StatsdSource::start(SourceContext context) {
  context_.emplace(context);
  // Spellings are part of the budget and are not what gives way: an eighth at most.
  intake_.emplace(context.recorder, std::min(kMostSpellings, context.recorder.memory_limit() / 8));
  committed_ = context.committed.value_or(0);
  open_journal();
  if (!journal_) return;
  open_sockets_of_config();
  listen();
}

void StatsdSource::open_journal() {
  const bool in_file = !config_.journal_path.empty() && context_->durable;
  if (!in_file && !config_.journal_path.empty()) {
    problems_.push_back("the outbox is in memory, so pushes would not survive kill -9");
    log::warn(
        "statsd: {} stays as it is for the next start with a disk: what it holds is recorded "
        "then",
        config_.journal_path);
  }
  auto journal = in_file ? PacketJournal::open(config_.journal_path, kJournalBytes, boot_id())
                         : PacketJournal::in_memory(kJournalBytes);
  durable_ = journal.ok() && in_file;
  if (!journal && in_file) {
    problems_.push_back("pushes since the last commit would not survive kill -9: " +
                        journal.error().message);
    journal = PacketJournal::in_memory(kJournalBytes);
  }
  if (!journal) {
    problems_.push_back(journal.error().message);
    return;
  }
  journal_ = *std::move(journal);
  if (!durable_) return;
  if (journal_->discarded_other_boot()) {
    ++journals_discarded_;
    log::warn("statsd: discarded the journal of another boot: pushes it held are lost");
  }
  // A new data_dir beside an old journal: what it holds was another outbox's.
  const uint64_t from = context_->committed.value_or(journal_->seq());
  const size_t replayed = journal_->replay(from, [this](std::string_view packet, UnixTime when) {
    taken_bytes_ += packet.size() + kRecordOverhead;
    intake_->packet(packet, when);
  });
  if (replayed > 0) log::info("statsd: replayed {} datagrams of the process before", replayed);
}

void StatsdSource::open_sockets_of_config() {
  bool has_udp = false;
  bool has_unix = false;
  for (auto& fd : std::exchange(inherited_, {})) {
    auto socket = statsd::adopt(std::move(fd));
    if (socket) (statsd::is_unix(*socket) ? has_unix : has_udp) = true;
    add(std::move(socket));
  }
  const int buffer = static_cast<int>(std::min<uint64_t>(config_.receive_buffer, INT32_MAX / 2));
  if (!has_udp && !config_.udp.empty()) add(statsd::open_udp(config_.udp, buffer));
  if (!has_unix && !config_.unix_path.empty()) add(statsd::open_unix(config_.unix_path, buffer));
}

void StatsdSource::add(Result<PushSocket> socket) {
  if (!socket) {
    problems_.push_back(socket.error().message);
    return;
  }
  // The kernel doubles what it grants, for its own bookkeeping.
  if (!statsd::is_unix(*socket) && socket->receive_buffer < config_.receive_buffer) {
    log::warn(
        "statsd: {}: receive buffer is {} KiB, wanted {} KiB: bursts are dropped sooner (raise "
        "net.core.rmem_max or grant CAP_NET_ADMIN)",
        socket->what, socket->receive_buffer >> 10, config_.receive_buffer >> 10);
  }
  log::info("statsd: listening on {}", socket->what);
  const uint32_t drops = statsd::kernel_drops(*socket);  // of the processes before us: not ours
  sockets_.push_back({.socket = *std::move(socket), .entry = 0, .drops_seen = drops});
}

void StatsdSource::listen() {
  paused_ = false;
  for (size_t i = 0; i < sockets_.size(); ++i) {
    sockets_[i].entry = context_->loop.on_readable(sockets_[i].socket.fd.get(), [this, i] {
      read(sockets_[i], context_->clock.now(), kBatchesPerTurn);
    });
  }
}

void StatsdSource::pause() {
  paused_ = true;
  for (auto& open : sockets_) context_->loop.remove(std::exchange(open.entry, 0));
  limited_.warn(context_->clock.mono(), "statsd: journal full, not reading until the next commit");
}

bool StatsdSource::read_batch(Open& open, UnixTime now) {
  if (paused_) return false;
  if (journal_->full()) {
    pause();
    return false;
  }
  const auto got =
      journal_->receive(open.socket.fd.get(), now, [this](std::string_view packet, UnixTime when) {
        taken_bytes_ += packet.size() + kRecordOverhead;
        intake_->packet(packet, when);
      });
  if (!got) {
    limited_.warn(context_->clock.mono(), "statsd: {}: {}", open.socket.what, got.error().message);
    return false;
  }
  for (size_t i = 0; i < got->truncated; ++i) intake_->reject(Reject::kTooLong);
  return got->packets == PacketJournal::kSlots;
}

void StatsdSource::read(Open& open, UnixTime now, size_t max_batches) {
  for (size_t i = 0; i < max_batches && read_batch(open, now); ++i) {
  }
}

void StatsdSource::drain(UnixTime now, Drain drain) {
  const size_t most = drain == Drain::kFinal ? kBatchesAtTheEnd : kBatchesPerDrain;
  for (auto& open : sockets_) read(open, now, most);
  count_kernel_drops();
}

void StatsdSource::count_kernel_drops() {
  for (auto& open : sockets_) {
    const uint32_t drops = statsd::kernel_drops(open.socket);
    kernel_drops_ += drops - open.drops_seen;  // modulo 2^32, like the kernel's count
    open.drops_seen = drops;
  }
}

void StatsdSource::stop() {
  for (auto& open : sockets_) {
    if (open.entry != 0) context_->loop.remove(open.entry);
    if (!open.socket.path.empty()) ::unlink(open.socket.path.c_str());
  }
  sockets_.clear();
}

SourceStatus StatsdSource::status() const {
  SourceStatus status{
      .name = "statsd", .state = SourceState::kRunning, .reason = "", .fix = "", .counters = {}};
  if (!problems_.empty()) {
    status.state = sockets_.empty() ? SourceState::kUnavailable : SourceState::kDegraded;
    for (const auto& problem : problems_) {
      status.reason += (status.reason.empty() ? "" : "; ") + problem;
    }
    status.fix = "free or change the address, path or data_dir in the configuration";
  }
  if (!intake_) return status;
  const auto& counts = intake_->counts();
  status.counters = {{"weir_statsd_packets_total", counts.packets},
                     {"weir_statsd_values_total", counts.values},
                     {R"(weir_dropped_total{where="statsd",reason="kernel"})", kernel_drops_}};
  for (size_t i = 0; i < statsd::kRejects; ++i) {
    if (counts.rejects[i] == 0) continue;
    status.counters.emplace_back(fmt::format(R"(weir_dropped_total{{where="statsd",reason="{}"}})",
                                             statsd::reject_name(static_cast<Reject>(i))),
                                 counts.rejects[i]);
  }
  if (journals_discarded_ > 0) {
    status.counters.emplace_back("weir_statsd_journals_discarded_total", journals_discarded_);
  }
  return status;
}

uint64_t StatsdSource::journal_position() const { return durable_ ? journal_->seq() : committed_; }

void StatsdSource::committed(uint64_t position) {
  committed_ = position;
  taken_bytes_ = 0;
  if (!journal_) return;
  journal_->committed(durable_ ? position : journal_->seq());
  if (paused_) listen();
}

bool StatsdSource::wants_commit() const { return taken_bytes_ > kCommitBytes; }

std::vector<std::string> StatsdSource::open_sockets() const {
  std::vector<std::string> all;
  for (const auto& open : sockets_) all.push_back(open.socket.what);
  return all;
}

}  // namespace weir::daemon
