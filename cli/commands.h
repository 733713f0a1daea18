#pragma once
// The commands of `weir`, one function each. Data goes to standard output, talk to standard error.
//
// Exit codes: 0 answered, 1 a negative answer (query error, findings), 2 usage or configuration,
// 3 unreachable.

#include <cstdint>
#include <string>
#include <vector>

namespace weir::cli {

enum class Output : uint8_t { kTable, kJson, kCsv };

struct Common {
  std::string server;
  Output output = Output::kTable;
};

struct QueryOptions {
  std::string expression;
  std::string at = "now";
  std::string start;  // with start: a range query
  std::string end = "now";
  std::string step = "1m";
};

struct ProfileOptions {
  std::string since = "1h";
  std::string from;  // with from: instead of since
  std::string to = "now";
  std::string service;
  std::string host;
  std::string region;
  std::string format = "html";  // html, folded, json
  std::string file;             // empty or "-": standard output
};

struct AnomalyOptions {
  std::string since = "1d";
  std::string service;
};

struct CardinalityOptions {
  std::string since = "1h";
  std::string metric;  // empty: all that are reported
  size_t top = 20;
};

struct KeyOptions {
  std::string dir;
  std::string role;
  std::string source;       // empty: a new one
  unsigned valid_days = 0;  // 0: for ever
  std::string allow;
};

int run_query(const Common& common, const QueryOptions& options);
int run_flamegraph(const Common& common, const ProfileOptions& options);
int run_status(const Common& common);
int run_anomalies(const Common& common, const AnomalyOptions& options);
int run_cardinality(const Common& common, const CardinalityOptions& options);
// Starts `weir-daemon --check` or `weir-aggregator --check` for each file: the project's only exec.
int run_check_config(const std::vector<std::string>& files);
// Files only. 1: findings; 2: the pair could not be made or read.
int run_keys_new(const KeyOptions& options, int64_t now_s);
int run_keys_show(const KeyOptions& options, int64_t now_s);
int run_keys_check(const KeyOptions& options, int64_t now_s);

}  // namespace weir::cli
