#include "common/control.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <optional>

#include <flatbuffers/flatbuffers.h>

#include "common/check.h"
#include "common/flat_numbers.h"
#include "common/series.h"
#include "common/utf8.h"
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

std::vector<uint8_t> id_bytes(const SourceId& id) {
  const auto* const first = reinterpret_cast<const uint8_t*>(id.data());
  return {first, first + id.size()};
}

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
    const std::vector<uint64_t> epochs(
        in.epochs.begin(),
        in.epochs.begin() + static_cast<ptrdiff_t>(std::min(in.epochs.size(), kMaxHelloEpochs)));
    const auto epoch_list = out.CreateVector(epochs);
    const auto hello =
        wire::CreateHello(out, in.minor_min, in.minor_max, name, tier, in.epoch, in.unix_ns,
                          in.mono_ns, in.outbox_rows, in.outbox_bytes, in.features, epoch_list);
    return wire::CreateControl(out, hello);
  }

  Offset<wire::Control> operator()(const Welcome& in) const {
    const auto here = ranges(out, in.here);
    const auto last_tier = ranges(out, in.last_tier);
    const auto tier_source = out.CreateVector(id_bytes(in.tier_source));
    const auto welcome =
        wire::CreateWelcome(out, in.minor, in.credit_bytes, here, last_tier, in.features,
                            tier_source, in.tier_epoch, in.your_epoch);
    return wire::CreateControl(out, {}, welcome);
  }

  Offset<wire::Control> operator()(const Ack& in) const {
    WEIR_CHECK(!in.spans.empty());
    const Columns columns = columns_of(in.spans);
    const auto ack = wire::CreateAckDirect(out, columns.epoch.front(), &columns.lo, &columns.hi,
                                           in.credit_bytes);
    return wire::CreateControl(out, {}, {}, ack);
  }

  Offset<wire::Control> operator()(const Nack& in) const {
    const auto reason = text(out, in.reason);
    const auto nack = wire::CreateNack(out, in.epoch, in.seq, reason, in.permanent);
    return wire::CreateControl(out, {}, {}, {}, nack);
  }

  Offset<wire::Control> operator()(const Ping& in) const {
    const auto ping =
        wire::CreatePing(out, in.unix_ns, in.mono_ns, report(out, in.report), in.clock_offset_ns);
    return wire::CreateControl(out, {}, {}, {}, {}, ping);
  }

  Offset<wire::Control> operator()(const Pong& in) const {
    const auto waiting = ranges(out, in.waiting);
    const auto pong = wire::CreatePong(out, in.echo_mono_ns, in.unix_ns, waiting);
    return wire::CreateControl(out, {}, {}, {}, {}, {}, pong);
  }

  Offset<wire::Control> operator()(const Tombstone& in) const {
    WEIR_CHECK(in.labels.size() <= kMaxLabels);
    std::vector<Offset<fb::String>> names;
    std::vector<Offset<fb::String>> values;
    for (const auto& [name, value] : in.labels) {
      names.push_back(text(out, name));
      values.push_back(text(out, value));
    }
    const auto reason = text(out, in.reason);
    const auto name_list = out.CreateVector(names);
    const auto value_list = out.CreateVector(values);
    const auto tombstone = wire::CreateTombstone(out, in.window.start_s, in.window.width_s, in.mass,
                                                 in.cum_mass, reason, name_list, value_list);
    return wire::CreateControl(out, {}, {}, {}, {}, {}, {}, tombstone);
  }

  Offset<wire::Control> operator()(const Credit& in) const {
    const auto credit = wire::CreateCredit(out, in.bytes);
    return wire::CreateControl(out, {}, {}, {}, {}, {}, {}, {}, credit);
  }

  Offset<wire::Control> operator()(const AskIncluded& in) const {
    const auto tier_source = id_bytes(in.tier_source);
    const auto source = id_bytes(in.source);
    const auto ask = wire::CreateAskIncludedDirect(out, &tier_source, in.tier_epoch, &source,
                                                   in.epoch, in.lo, in.hi);
    return wire::CreateControl(out, {}, {}, {}, {}, {}, {}, {}, {}, ask);
  }

  Offset<wire::Control> operator()(const Included& in) const {
    WEIR_CHECK(in.spans.size() <= kMaxRanges);  // cutting would tell a lie
    const auto tier_source = id_bytes(in.tier_source);
    const auto source = id_bytes(in.source);
    const Columns columns = columns_of(in.spans);
    const auto included =
        wire::CreateIncludedDirect(out, &tier_source, in.tier_epoch, &source, in.epoch, in.lo,
                                   in.complete_to, in.fenced, &columns.lo, &columns.hi);
    return wire::CreateControl(out, {}, {}, {}, {}, {}, {}, {}, {}, {}, included);
  }

  Offset<wire::Control> operator()(const Fenced& in) const {
    const auto fenced = wire::CreateFenced(out, in.epoch);
    return wire::CreateControl(out, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, fenced);
  }

  Offset<wire::Control> operator()(const Revoked& in) const {
    const auto revoked = wire::CreateRevoked(out, text(out, in.reason));
    return wire::CreateControl(out, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, revoked);
  }

  Offset<wire::Control> operator()(const Goaway& in) const {
    const auto reason = text(out, in.reason);
    const auto goaway = wire::CreateGoaway(out, in.retry_after_ms, reason);
    return wire::CreateControl(out, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, goaway);
  }
};

// ---- decode: an absent string or list is an empty one ----

Status read(const fb::String* in, std::string& out) {
  if (in == nullptr) return {};
  if (in->size() > kMaxControlText) return invalid("control: a text is too long");
  out.assign(in->c_str(), in->size());
  return {};
}

Status read_id(const fb::Vector<uint8_t>* in, SourceId& out) {
  if (in == nullptr || in->size() != out.size()) return invalid("control: not a source id");
  std::memcpy(out.data(), in->data(), out.size());
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
  out.features = in.features();
  WEIR_TRY(read(in.name(), out.name));
  WEIR_TRY(read(in.tier(), out.tier));
  if (size_of(in.epochs()) > kMaxHelloEpochs) return invalid("control: too many epochs");
  for (size_t i = 0; i < size_of(in.epochs()); ++i) {
    out.epochs.push_back(number_at(in.epochs(), i));
  }
  return ControlMessage(std::move(out));
}

Result<ControlMessage> read_message(const wire::Welcome& in) {
  Welcome out;
  out.minor = in.minor();
  out.credit_bytes = in.credit_bytes();
  WEIR_TRY(read_ranges(in.here(), out.here));
  WEIR_TRY(read_ranges(in.last_tier(), out.last_tier));
  out.features = in.features();
  WEIR_TRY(read_id(in.tier_source(), out.tier_source));
  out.tier_epoch = in.tier_epoch();
  out.your_epoch = in.your_epoch();
  return ControlMessage(std::move(out));
}

Result<ControlMessage> read_message(const wire::Ack& in) {
  Ack out;
  WEIR_TRY(read_spans(nullptr, in.lo(), in.hi(), in.epoch(), out.spans));
  if (out.spans.empty()) return invalid("control: an empty acknowledgement");
  out.credit_bytes = in.credit_bytes();
  return ControlMessage(std::move(out));
}

Result<ControlMessage> read_message(const wire::Nack& in) {
  Nack out{in.epoch(), in.seq(), {}, in.permanent()};
  WEIR_TRY(read(in.reason(), out.reason));
  return ControlMessage(std::move(out));
}

Result<ControlMessage> read_message(const wire::Ping& in) {
  Ping out{in.unix_ns(), in.mono_ns(), {}, in.clock_offset_ns()};
  WEIR_TRY(read_report(in.report(), out.report));
  return ControlMessage(std::move(out));
}

Result<ControlMessage> read_message(const wire::Pong& in) {
  Pong out{in.echo_mono_ns(), in.unix_ns(), {}};
  WEIR_TRY(read_ranges(in.waiting(), out.waiting));
  return ControlMessage(std::move(out));
}

Result<ControlMessage> read_message(const wire::Tombstone& in) {
  Tombstone out;
  out.window = {in.window_start_s(), in.window_width_s()};
  if (out.window.width_s == 0) return invalid("control: a window without width");
  out.mass = in.mass();
  out.cum_mass = in.cum_mass();
  WEIR_TRY(read(in.reason(), out.reason));
  const auto* names = in.label_name();
  const auto* values = in.label_value();
  const size_t count = names == nullptr ? 0 : names->size();
  if (count > kMaxLabels || count != (values == nullptr ? 0 : values->size())) {
    return invalid("control: labels of a tombstone");
  }
  for (unsigned i = 0; i < count; ++i) {
    Label& label = out.labels.emplace_back();
    WEIR_TRY(read(names->Get(i), label.first));
    WEIR_TRY(read(values->Get(i), label.second));
    if (label.first.empty() || !is_utf8(label.first) || !is_utf8(label.second)) {
      return invalid("control: a label is not one");
    }
    if (i > 0 && !(out.labels[i - 1].first < label.first)) {
      return invalid("control: labels out of order");
    }
  }
  return ControlMessage(std::move(out));
}

Result<ControlMessage> read_message(const wire::Credit& in) {
  return ControlMessage(Credit{in.bytes()});
}

Result<ControlMessage> read_message(const wire::AskIncluded& in) {
  AskIncluded out;
  WEIR_TRY(read_id(in.tier_source(), out.tier_source));
  WEIR_TRY(read_id(in.source(), out.source));
  out.tier_epoch = in.tier_epoch();
  out.epoch = in.epoch();
  out.lo = in.lo();
  out.hi = in.hi();
  if (out.lo == 0 || out.lo > out.hi) return invalid("control: a range is not one");
  return ControlMessage(out);
}

Result<ControlMessage> read_message(const wire::Included& in) {
  Included out;
  WEIR_TRY(read_id(in.tier_source(), out.tier_source));
  WEIR_TRY(read_id(in.source(), out.source));
  out.tier_epoch = in.tier_epoch();
  out.epoch = in.epoch();
  out.lo = in.lo();
  out.complete_to = in.complete_to();
  out.fenced = in.fenced();
  if (out.lo == 0 || out.complete_to < out.lo - 1) return invalid("control: a range is not one");
  WEIR_TRY(read_spans(nullptr, in.range_lo(), in.range_hi(), out.epoch, out.spans));
  for (const SeqSpan& span : out.spans) {
    if (span.lo < out.lo || span.hi > out.complete_to) {
      return invalid("control: a range beyond the answer's");
    }
  }
  return ControlMessage(std::move(out));
}

Result<ControlMessage> read_message(const wire::Fenced& in) {
  return ControlMessage(Fenced{in.epoch()});
}

Result<ControlMessage> read_message(const wire::Revoked& in) {
  Revoked out;
  WEIR_TRY(read(in.reason(), out.reason));
  return ControlMessage(std::move(out));
}

Result<ControlMessage> read_message(const wire::Goaway& in) {
  Goaway out{in.retry_after_ms(), {}};
  WEIR_TRY(read(in.reason(), out.reason));
  return ControlMessage(std::move(out));
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
  std::optional<Result<ControlMessage>> message;
  int set = 0;
  const auto take = [&](const auto* table) {
    if (table == nullptr || ++set > 1) return;
    message = read_message(*table);
  };
  take(control->hello());
  take(control->welcome());
  take(control->ack());
  take(control->nack());
  take(control->ping());
  take(control->pong());
  take(control->tombstone());
  take(control->credit());
  take(control->ask_included());
  take(control->included());
  take(control->fenced());
  take(control->revoked());
  take(control->goaway());
  if (set != 1) return invalid("control: not exactly one message");
  return *std::move(message);
}

}  // namespace weir
