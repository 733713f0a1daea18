// weir status: one aggregator's tiers, sources, collectors, windows and drops on one screen.

#include <fmt/core.h>

#include "cli/api.h"
#include "cli/commands.h"
#include "cli/json_fields.h"
#include "cli/render.h"
#include "cli/report.h"
#include "cli/table.h"
#include "cli/terminal.h"
#include "cli/time_text.h"
#include "common/time_text.h"

namespace weir::cli {
namespace {

using nlohmann::json;

std::string size_text(uint64_t bytes) {
  if (bytes < 10'240) return fmt::format("{} B", bytes);
  if (bytes < (10U << 20)) return fmt::format("{} KiB", bytes >> 10);
  return fmt::format("{} MiB", bytes >> 20);
}

std::string since(int64_t now_s, int64_t then_s) {
  return then_s <= 0 ? "never" : ago(std::max<int64_t>(now_s - then_s, 0)) + " ago";
}

// What sources said they sent, against what is here: of the last tier.
std::string ledger_line(const json& ledger) {
  if (!ledger.is_object()) return {};
  const uint64_t sources = natural_field(ledger, "sources");
  const uint64_t unbalanced = natural_field(ledger, "unbalanced");
  std::string gaps;
  for (const auto& one : field(ledger, "most_gaps")) {
    gaps += fmt::format("  {}: {} gaps in its account, proved up to the first\n",
                        printable(text_field(one, "id")), natural_field(one, "gaps"));
  }
  if (unbalanced == 0) return fmt::format("ledger: balanced over {} sources\n", sources) + gaps;
  std::string out = fmt::format("ledger: OFF by {} in {} of {} sources\n",
                                natural_field(ledger, "imbalance"), unbalanced, sources);
  for (const auto& one : field(ledger, "worst")) {
    out += fmt::format("  {}: off by {}\n", printable(text_field(one, "id")),
                       natural_field(one, "imbalance"));
  }
  return out + gaps;
}

std::string head_lines(const json& data, int64_t now_s) {
  std::string out =
      fmt::format("{} tier '{}', version {}, up {}\n", printable(text_field(data, "tier")),
                  printable(text_field(data, "name")), printable(text_field(data, "version")),
                  ago(now_s - integer_field(data, "started")));
  const json& upstream = field(data, "upstream");
  const json& outbox = field(data, "outbox");
  if (field(upstream, "configured") == true) {
    out += fmt::format(
        "upstream {}: sent {}, resent {}, refused {}\n  at the last tier {}; outbox {} batches, "
        "{}\n",
        field(upstream, "connected") == true ? "connected" : "NOT CONNECTED",
        natural_field(upstream, "sent"), natural_field(upstream, "resent"),
        natural_field(upstream, "nacked"), natural_field(upstream, "acked_g"),
        natural_field(outbox, "rows"), size_text(natural_field(outbox, "bytes")));
  } else {
    out += "no upstream: this is the last tier\n";
  }
  out += ledger_line(field(data, "ledger"));
  const json& inbox = field(data, "inbox");
  out += fmt::format("inbox {} batches, {} (committed, not folded yet)\n",
                     natural_field(inbox, "rows"), size_text(natural_field(inbox, "bytes")));
  return out;
}

std::string window_table(const json& data, int64_t now_s) {
  Table table({"window", "kept", "blocks", "size", "newest", "sealed up to"});
  for (const auto& width : field(data, "widths")) {
    const int64_t closed = integer_field(width, "closed_until");
    table.add({fmt::format("{} s", natural_field(width, "width_s")), text_field(width, "windows"),
               text_field(width, "blocks"), size_text(natural_field(width, "bytes")),
               since(now_s, integer_field(width, "newest_start")),
               closed > 0 ? rfc3339(closed) : "-"});
  }
  return table.text();
}

// "3 running", or what does not run: why is said below the table.
std::string collectors_text(const json& collectors) {
  size_t running = 0;
  std::string others;
  for (const auto& collector : collectors) {
    const std::string state = text_field(collector, "state");
    if (state == "running") {
      ++running;
    } else {
      others += fmt::format(", {} {}", text_field(collector, "name"), state);
    }
  }
  return running == 0 && others.empty() ? "-" : fmt::format("{} running{}", running, others);
}

std::string source_table(const json& data, int64_t now_s) {
  Table table({"source", "tier", "seen", "batches", "collectors"});
  for (const auto& source : field(data, "sources")) {
    const std::string name = text_field(source, "name");  // unknown until it says hello
    table.add({name.empty() ? text_field(source, "id").substr(0, 8) : name,
               text_field(source, "tier"), since(now_s, integer_field(source, "last_seen")),
               text_field(source, "batches"), collectors_text(field(source, "collectors"))});
  }
  return table.empty() ? "no source has reported yet\n" : table.text();
}

// What does not run, why, and what to do about it.
std::string troubles(const json& data) {
  std::string out;
  for (const auto& source : field(data, "sources")) {
    for (const auto& collector : field(source, "collectors")) {
      const std::string reason = text_field(collector, "reason");
      if (reason.empty()) continue;
      out += printable(fmt::format("{}: {} {}: {}", text_field(source, "name"),
                                   text_field(collector, "name"), text_field(collector, "state"),
                                   reason)) +
             "\n";
      if (const std::string fix = text_field(collector, "fix"); !fix.empty()) {
        out += "  fix: " + printable(fix) + "\n";
      }
    }
  }
  return out;
}

bool is_loss(std::string_view name) {
  for (const char* word : {"dropped", "rejected", "refused", "quarantin", "damaged", "_lost",
                           "overflow", "unmerged", "imbalance", "bad_", "_errors"}) {
    if (name.find(word) != std::string_view::npos) return true;
  }
  return false;
}

std::string drop_table(const json& data) {
  Table table({"where", "counter", "events"});
  const auto add = [&](const std::string& where, const json& counters) {
    if (!counters.is_object()) return;
    for (const auto& [name, value] : counters.items()) {
      if (is_loss(name) && value.is_number_unsigned() && value.get<uint64_t>() > 0) {
        table.add({where, name, value.dump()});
      }
    }
  };
  add(text_field(data, "name"), field(data, "counters"));
  for (const auto& source : field(data, "sources")) {
    add(text_field(source, "name"), field(source, "counters"));
  }
  return table.empty() ? "nothing dropped, refused or damaged\n" : table.text();
}

}  // namespace

std::string status_text(const json& data) {
  const int64_t now_s = integer_field(data, "now");
  const std::string trouble = troubles(data);
  return head_lines(data, now_s) + "\n" + window_table(data, now_s) + "\n" +
         source_table(data, now_s) + (trouble.empty() ? "" : "\n" + trouble) + "\n" +
         drop_table(data);
}

int run_status(const Common& common) {
  const auto body = call_api(HttpClient(common.server), "/api/v1/status/weir", {});
  if (!body.ok()) return fail(body.error());
  if (common.output == Output::kJson) {
    print(body->dump() + "\n");
    return kAnswered;
  }
  print(status_text(field(*body, "data")));
  return kAnswered;
}

}  // namespace weir::cli
