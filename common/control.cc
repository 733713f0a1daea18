#include "common/control.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include <flatbuffers/flatbuffers.h>

#include "common/check.h"
#include "common/flat_numbers.h"
#include "schemas/control_generated.h"

namespace weir {
namespace {

namespace fb = flatbuffers;
using fb::FlatBufferBuilder;
using fb::Offset;

constexpr unsigned kMaxDepth = 8;
constexpr unsigned kMaxTables = 4 + kMaxCollectors;
constexpr size_t kInitialBytes = 1024;

// ---- encode ----

Offset<fb::String> text(FlatBufferBuilder& out, const std::string& value) {
  return out.CreateString(value.data(), std::min(value.size(), kMaxControlText));
}

struct Columns {
  std::vector<uint64_t> epoch, lo, hi;
};

Columns columns_of(const std::vector<SeqSpan>& spans) {
  Columns columns;
  for (size_t i = 0; i < std::min(spans.size(), kMaxRanges); ++i) {
    columns.epoch.push_back(spans[i].epoch);
    columns.lo.push_back(spans[i].lo);
    columns.hi.push_back(spans[i].hi);
  }
  return columns;
}

Offset<wire::Ranges> ranges(FlatBufferBuilder& out, const std::vector<SeqSpan>& spans) {
  const Columns columns = columns_of(spans);
  return wire::CreateRangesDirect(out, &columns.epoch, &columns.lo, &columns.hi);
}

Offset<wire::Report> report(FlatBufferBuilder& out, const SourceReport& in) {
  std::vector<Offset<wire::Collector>> collectors;
  for (size_t i = 0; i < std::min(in.collectors.size(), kMaxCollectors); ++i) {
    const CollectorReport& collector = in.collectors[i];
    const auto name = text(out, collector.name);
    const auto reason = text(out, collector.reason);
    const auto fix = text(out, collector.fix);
    collectors.push_back(wire::CreateCollector(out, name, collector.state, reason, fix));
  }
  std::vector<Offset<fb::String>> names;
  std::vector<uint64_t> values;
  for (size_t i = 0; i < std::min(in.counters.size(), kMaxReportCounters); ++i) {
    names.push_back(text(out, in.counters[i].first));
    values.push_back(in.counters[i].second);
  }
  const auto name = text(out, in.name);
  const auto tier = text(out, in.tier);
  const auto collector_list = out.CreateVector(collectors);
  const auto name_list = out.CreateVector(names);
  const auto value_list = out.CreateVector(values);
  return wire::CreateReport(out, name, tier, collector_list, name_list, value_list,
                            in.complete_until_s, in.complete_seq);
}

struct Encoder {
  FlatBufferBuilder& out;

  Offset<wire::Control> operator()(const Hello& in) const {
    const auto name = text(out, in.name);
    const auto tier = text(out, in.tier);
    const auto hello = wire::CreateHello(out, in.minor_min, in.minor_max, name, tier, in.epoch,
                                         in.unix_ns, in.mono_ns, in.outbox_rows, in.outbox_bytes);
    return wire::CreateControl(out, hello);
  }

  Offset<wire::Control> operator()(const Welcome& in) const {
    const auto here = ranges(out, in.here);
    const auto last_tier = ranges(out, in.last_tier);
    const auto welcome = wire::CreateWelcome(out, in.minor, in.credit_bytes, here, last_tier);
    return wire::CreateControl(out, {}, welcome);
  }

  Offset<wire::Control> operator()(const Ack& in) const {
    WEIR_CHECK(!in.spans.empty());
    const Columns columns = columns_of(in.spans);
    const auto ack = wire::CreateAckDirect(out, columns.epoch.front(), &columns.lo, &columns.hi);
    return wire::CreateControl(out, {}, {}, ack);
  }

  Offset<wire::Control> operator()(const Nack& in) const {
    const auto reason = text(out, in.reason);
    const auto nack = wire::CreateNack(out, in.epoch, in.seq, reason, in.permanent);
    return wire::CreateControl(out, {}, {}, {}, nack);
  }

  Offset<wire::Control> operator()(const Ping& in) const {
    const auto ping = wire::CreatePing(out, in.unix_ns, in.mono_ns, report(out, in.report));
    return wire::CreateControl(out, {}, {}, {}, {}, ping);
  }

  Offset<wire::Control> operator()(const Pong& in) const {
    const auto pong = wire::CreatePong(out, in.echo_mono_ns, in.unix_ns);
    return wire::CreateControl(out, {}, {}, {}, {}, {}, pong);
  }
};

// ---- decode: an absent string or list is an empty one ----

Status read(const fb::String* in, std::string& out) {
  if (in == nullptr) return {};
  if (in->size() > kMaxControlText) return invalid("control: a text is too long");
  out.assign(in->c_str(), in->size());
  return {};
}

Status read_spans(const FlatNumbers* epoch, const FlatNumbers* lo, const FlatNumbers* hi,
                  uint64_t same_epoch, std::vector<SeqSpan>& out) {
  const size_t count = size_of(lo);
  if (count > kMaxRanges) return invalid("control: too many ranges");
  if (size_of(hi) != count || (epoch != nullptr && epoch->size() != count)) {
    return invalid("control: range columns differ in length");
  }
  for (size_t i = 0; i < count; ++i) {
    const SeqSpan span{epoch == nullptr ? same_epoch : number_at(epoch, i), number_at(lo, i),
                       number_at(hi, i)};
    if (span.lo == 0 || span.lo > span.hi) return invalid("control: a range is not one");
    out.push_back(span);
  }
  return {};
}

Status read_ranges(const wire::Ranges* in, std::vector<SeqSpan>& out) {
  if (in == nullptr) return {};
  if (in->epoch() == nullptr && size_of(in->lo()) != 0)
    return invalid("control: ranges of no epoch");
  return read_spans(in->epoch(), in->lo(), in->hi(), 0, out);
}

Status read_report(const wire::Report* in, SourceReport& out) {
  if (in == nullptr) return {};
  WEIR_TRY(read(in->name(), out.name));
  WEIR_TRY(read(in->tier(), out.tier));
  if (const auto* list = in->collectors(); list != nullptr) {
    if (list->size() > kMaxCollectors) return invalid("control: too many collectors");
    for (const wire::Collector* collector : *list) {
      CollectorReport& to = out.collectors.emplace_back();
      to.state = collector->state();
      WEIR_TRY(read(collector->name(), to.name));
      WEIR_TRY(read(collector->reason(), to.reason));
      WEIR_TRY(read(collector->fix(), to.fix));
    }
  }
  const auto* names = in->counter_name();
  const size_t counters = names == nullptr ? 0 : names->size();
  if (counters > kMaxReportCounters) return invalid("control: too many counters");
  if (size_of(in->counter_value()) != counters) {
    return invalid("control: counter columns differ in length");
  }
  for (unsigned i = 0; i < counters; ++i) {
    auto& [name, value] = out.counters.emplace_back();
    WEIR_TRY(read(names->Get(i), name));
    value = number_at(in->counter_value(), i);
  }
  out.complete_until_s = in->complete_until_s();
  out.complete_seq = in->complete_seq();
  return {};
}

Result<ControlMessage> read_message(const wire::Hello& in) {
  Hello out;
  out.minor_min = in.minor_min();
  out.minor_max = in.minor_max();
  out.epoch = in.epoch();
  out.unix_ns = in.unix_ns();
  out.mono_ns = in.mono_ns();
  out.outbox_rows = in.outbox_rows();
  out.outbox_bytes = in.outbox_bytes();
  WEIR_TRY(read(in.name(), out.name));
  WEIR_TRY(read(in.tier(), out.tier));
  return ControlMessage(std::move(out));
}

Result<ControlMessage> read_message(const wire::Welcome& in) {
  Welcome out;
  out.minor = in.minor();
  out.credit_bytes = in.credit_bytes();
  WEIR_TRY(read_ranges(in.here(), out.here));
  WEIR_TRY(read_ranges(in.last_tier(), out.last_tier));
  return ControlMessage(std::move(out));
}

Result<ControlMessage> read_message(const wire::Ack& in) {
  Ack out;
  WEIR_TRY(read_spans(nullptr, in.lo(), in.hi(), in.epoch(), out.spans));
  if (out.spans.empty()) return invalid("control: an empty acknowledgement");
  return ControlMessage(std::move(out));
}

Result<ControlMessage> read_message(const wire::Nack& in) {
  Nack out{in.epoch(), in.seq(), {}, in.permanent()};
  WEIR_TRY(read(in.reason(), out.reason));
  return ControlMessage(std::move(out));
}

Result<ControlMessage> read_message(const wire::Ping& in) {
  Ping out{in.unix_ns(), in.mono_ns(), {}};
  WEIR_TRY(read_report(in.report(), out.report));
  return ControlMessage(std::move(out));
}

Result<ControlMessage> read_message(const wire::Pong& in) {
  return ControlMessage(Pong{in.echo_mono_ns(), in.unix_ns()});
}

}  // namespace

Bytes encode_control(const ControlMessage& message) {
  FlatBufferBuilder out(kInitialBytes);
  wire::FinishControlBuffer(out, std::visit(Encoder{out}, message));
  const auto* bytes = reinterpret_cast<const std::byte*>(out.GetBufferPointer());
  return {bytes, bytes + out.GetSize()};
}

Result<ControlMessage> decode_control(ByteView body) {
  if (body.size() > kMaxControlBytes) return invalid("control: too large");
  // The Verifier checks alignment inside the buffer, so the buffer itself must start aligned.
  const Bytes aligned(body.begin(), body.end());
  fb::Verifier verifier(reinterpret_cast<const uint8_t*>(aligned.data()), aligned.size(), kMaxDepth,
                        kMaxTables);
  if (!wire::VerifyControlBuffer(verifier)) return invalid("control: not a control message");
  const wire::Control* control = wire::GetControl(reinterpret_cast<const uint8_t*>(aligned.data()));
  const int set = (control->hello() != nullptr) + (control->welcome() != nullptr) +
                  (control->ack() != nullptr) + (control->nack() != nullptr) +
                  (control->ping() != nullptr) + (control->pong() != nullptr);
  if (set != 1) return invalid("control: not exactly one message");
  if (control->hello() != nullptr) return read_message(*control->hello());
  if (control->welcome() != nullptr) return read_message(*control->welcome());
  if (control->ack() != nullptr) return read_message(*control->ack());
  if (control->nack() != nullptr) return read_message(*control->nack());
  if (control->ping() != nullptr) return read_message(*control->ping());
  return read_message(*control->pong());
}

}  // namespace weir
