// weir keys: makes a host's key pair, shows it, and checks what the wire's security rests on. Talks
// to files only, so it runs where nothing else does yet.

#include "common/keys.h"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

#include <fmt/core.h>

#include "cli/commands.h"
#include "cli/report.h"
#include "cli/terminal.h"
#include "common/allow_list.h"
#include "common/time_text.h"

namespace weir::cli {
namespace {

constexpr int64_t kDay = 86'400;
constexpr int64_t kSoon = 30 * kDay;

void talk(const std::string& text) { fmt::print(stderr, "{}\n", text); }

void check_group(std::vector<std::string>& findings, const std::string& path, const char* what) {
  struct stat info {};

  if (::stat(path.c_str(), &info) == 0 && (info.st_mode & (S_IWOTH | S_IWGRP)) != 0) {
    findings.push_back(fmt::format("{}: {}: chmod go-w {}", path, what, path));
  }
}

std::string where_to_put(const PublicLine& line, const std::string& dir) {
  const std::string key = z85_text(line.key);
  switch (line.owner.role) {
    case Role::kEdge:
      return fmt::format(
          "Put {}/host.pub into allow.d of every region this host sends to, as HOST.pub.", dir);
    case Role::kRegion:
      return fmt::format(
          "Put {}/host.pub into allow.d of the global tier, as REGION.pub. Edges name this key:\n"
          "  upstream: [{{endpoint: 'tcp://THIS-HOST:7401', server_keys: ['{}']}}]",
          dir, key);
    case Role::kGlobal:
      return fmt::format(
          "Regions name this key:\n"
          "  upstream: {{endpoint: 'tcp://THIS-HOST:7501', server_keys: ['{}']}}",
          key);
  }
  return {};
}

std::string until(int64_t not_after_s, int64_t now_s) {
  if (not_after_s == PublicLine::kNever) return "never ends";
  if (not_after_s <= now_s) return "ended " + rfc3339(not_after_s);
  return fmt::format("ends {}, in {} days", rfc3339(not_after_s), (not_after_s - now_s) / kDay);
}

// What an operator should act on before it hurts.
void check_end(std::vector<std::string>& findings, const std::string& who, const PublicLine& line,
               int64_t now_s) {
  if (line.not_after_s == PublicLine::kNever || line.not_after_s - now_s > kSoon) return;
  findings.push_back(fmt::format(
      "{}: {}; make the next pair with: weir keys new --role {} --source {} --dir NEW-FOLDER", who,
      until(line.not_after_s, now_s), role_name(line.owner.role), uuid_text(line.owner.source)));
}

void check_own(std::vector<std::string>& findings, const std::string& dir, int64_t now_s) {
  const auto pair = KeyPair::load(dir);
  if (!pair) {
    findings.push_back(pair.error().message);
    return;
  }
  check_group(findings, dir, "others may swap the files in it");
  check_group(findings, dir + "/host.pub", "others may write it");
  check_end(findings, dir + "/host.pub", pair->line(), now_s);
  talk(fmt::format("{}: {} {}, {}", printable(dir), role_name(pair->line().owner.role),
                   uuid_text(pair->line().owner.source), until(pair->line().not_after_s, now_s)));
}

void check_allow(std::vector<std::string>& findings, const std::string& dir, int64_t now_s) {
  AllowedKeys allowed;
  allowed.read(dir, now_s);
  findings.insert(findings.end(), allowed.problems().begin(), allowed.problems().end());
  check_group(findings, dir, "others may let anybody in");
  std::error_code error;
  std::vector<std::string> files;
  for (auto it = std::filesystem::directory_iterator(dir, error);
       !error && it != std::filesystem::directory_iterator(); it.increment(error)) {
    if (it->path().extension() == ".pub") files.push_back(it->path().string());
  }
  std::ranges::sort(files);
  for (const std::string& file : files) check_group(findings, file, "others may write it");
  std::vector<PublicLine> lines = allowed.lines();
  std::ranges::sort(lines, {}, &PublicLine::key);
  for (const PublicLine& line : lines) {
    check_end(findings, fmt::format("{}: key {}", dir, z85_text(line.key)), line, now_s);
  }
  talk(fmt::format("{}: {} keys in {} files", printable(dir), allowed.size(), allowed.files()));
}

}  // namespace

int run_keys_new(const KeyOptions& options, int64_t now_s) {
  Identity owner;
  const auto role = parse_role(options.role);
  if (!role) return usage(invalid("--role: expected edge, region or global"));
  owner.role = *role;
  if (options.source.empty()) {
    owner.source = random_uuid();
  } else if (const auto source = parse_uuid(options.source)) {
    owner.source = *source;
  } else {
    return usage(invalid("--source: expected a UUID, the second word of the old host.pub"));
  }
  const int64_t end =
      options.valid_days == 0 ? PublicLine::kNever : now_s + int64_t{options.valid_days} * kDay;
  const KeyPair pair = KeyPair::generate(owner, end);
  if (const auto saved = pair.save(options.dir); !saved) return usage(saved.error());
  print(public_line_text(pair.line()) + "\n");
  const std::string dir = printable(options.dir);
  talk(fmt::format("{}/host.key is the secret: it stays on this host.\n{}", dir,
                   where_to_put(pair.line(), dir)));
  return kAnswered;
}

int run_keys_show(const KeyOptions& options, int64_t now_s) {
  const auto pair = KeyPair::load(options.dir);
  if (!pair) return usage(pair.error());
  print(public_line_text(pair->line()) + "\n");
  talk(fmt::format("It {}. {}", until(pair->line().not_after_s, now_s),
                   where_to_put(pair->line(), printable(options.dir))));
  return kAnswered;
}

int run_keys_check(const KeyOptions& options, int64_t now_s) {
  if (options.dir.empty() && options.allow.empty()) {
    return usage(invalid("name what to check: --dir FOLDER of this host's keys, --allow FOLDER"));
  }
  std::vector<std::string> findings;
  if (!options.dir.empty()) check_own(findings, options.dir, now_s);
  if (!options.allow.empty()) check_allow(findings, options.allow, now_s);
  for (const std::string& finding : findings) print(printable(finding) + "\n");
  if (findings.empty()) talk("good");
  return findings.empty() ? kAnswered : kNegative;
}

}  // namespace weir::cli
