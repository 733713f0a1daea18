#include "aggregator/disk_wait.h"

#include <memory>
#include <utility>
#include <vector>

#include "aggregator/http/server.h"
#include "aggregator/status.h"
#include "aggregator/store/reader.h"
#include "common/data_dir.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/sqlite.h"
#include "common/version.h"

namespace weir::aggregator {
namespace {

constexpr std::chrono::seconds kTryEvery{3};

enum class Disk : uint8_t { kUsable, kUnusable, kInUse };

struct Found {
  Disk disk = Disk::kUsable;
  std::string why;
};

Found look(const std::string& data_dir, const std::string& path) {
  const auto lock = lock_data_dir(data_dir);
  if (!lock.ok()) {
    const bool in_use = lock.error().code == Errc::kUnavailable;
    return {in_use ? Disk::kInUse : Disk::kUnusable, lock.error().message};
  }
  const auto db = Database::open(path);
  if (db.ok() || db.error().code == Errc::kIo) return {};
  return {Disk::kUnusable, db.error().message};
}

}  // namespace

Result<bool> wait_for_disk(const Config& config, const Clock& clock, Loop& loop) {
  const std::string path = config.data_dir + "/weir.db";
  Found found = look(config.data_dir, path);
  if (found.disk == Disk::kUsable) return true;
  if (found.disk == Disk::kInUse) return Error{Errc::kUnavailable, found.why};
  log::error(
      "data_dir cannot be written ({}): nothing is accepted, queries see what can be read; "
      "make {} writable with free space, it is looked at every {} s",
      found.why, config.data_dir, kTryEvery.count());
  const int64_t started_s = unix_seconds(clock.now());
  const auto open_reader = [&] { return Reader::open(path, config.tier, clock); };
  const HttpHooks hooks{
      .status =
          [&] {
            TierStatus status;
            status.tier = config.tier.kind;
            status.name = config.tier.name;
            status.version = kVersion;
            status.now_s = unix_seconds(clock.now());
            status.started_s = started_s;
            status.has_upstream = !config.tier.last();
            status.counters["weir_store_unavailable"] = 1;
            return status;
          },
      .open_source = [&]() -> Result<std::unique_ptr<DataSource>> {
        WEIR_TRY_ASSIGN(auto reader, open_reader());
        return std::unique_ptr<DataSource>(std::move(reader));
      },
      .anomalies = [&](int64_t from_s, int64_t to_s, size_t limit) -> Result<std::vector<Anomaly>> {
        WEIR_TRY_ASSIGN(auto reader, open_reader());
        return reader->anomalies(from_s, to_s, limit);
      }};
  HttpConfig http;
  http.listen = config.http;
  WEIR_TRY_ASSIGN(const auto server, HttpServer::start(http, clock, hooks));
  const auto entry = loop.every(kTryEvery, [&] {
    found = look(config.data_dir, path);
    if (found.disk != Disk::kUnusable) loop.stop();
  });
  loop.run();
  loop.remove(entry);
  if (found.disk == Disk::kInUse) return Error{Errc::kUnavailable, found.why};
  if (found.disk == Disk::kUsable) log::info("data_dir can be written again");
  return found.disk == Disk::kUsable;
}

}  // namespace weir::aggregator
